"""Building the GPT model of a configuration, as the chunks that this process holds."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.transformer_layer import (
    TransformerLayer,
    TransformerLayerSubmodules,
)
from torch import Tensor
from torch.nn.functional import silu

from pretrain.config import Config
from pretrain.distributed import cpu
from pretrain.distributed.topology import Topology
from pretrain.model.attention import Norm, SdpaCoreAttention, document_mask
from pretrain.model.initialise import initialise, mark_split
from pretrain.model.linear import ColumnLinear, RowLinear
from pretrain.model.order_embedding import OrderEmbedding
from pretrain.objectives.base import Objective, objective_of
from pretrain.objectives.head import Targets
from pretrain.objectives.plain import CrossEntropy

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

GELUS = {
    "exact": torch.nn.functional.gelu,
    "tanh": partial(torch.nn.functional.gelu, approximate="tanh"),
}

RECOMPUTE: dict[str, dict[str, Any]] = {
    "none": {},
    # Attention keeps no s x s matrix, so that there is nothing to gain by computing it again.
    "selective": {"recompute_granularity": "selective", "recompute_modules": ["mlp"]},
    "full": {
        "recompute_granularity": "full",
        "recompute_method": "uniform",
        "recompute_num_layers": 1,
    },
}


class Stages(torch.nn.ModuleList):
    """The model chunks of a process. Called, it is the only one of a process without pipeline."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the chunk returns."""
        (chunk,) = self
        return chunk(*args, **kwargs)


class GPT(GPTModel):
    """Megatron-Core's GPTModel whose loss never holds all logits.

    What `forward` returns on the last stage:

    - with :class:`Targets` as `labels`, the objective's summed loss;
    - with `labels` and `loss_mask` (both [b, s]), the sum over tokens of mask x nats, whatever the
      objective;
    - with `labels` alone, the nats of each token [b, s], for which it holds all logits;
    - without `labels`, this rank's logits [b, s, v / tensor].
    """

    def __init__(self, *args: Any, objective: Objective, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.post_process:
            place = self.pg_collection.tp, self.config.sequence_parallel
            self.loss_head = objective.head(*place, self.output_weight)
            self.nats_head = CrossEntropy().head(*place, self.output_weight)

    @property
    def output_weight(self) -> Tensor:
        """Weight of the output projection [v / tensor, h], tied or not."""
        if self.share_embeddings_and_output_weights:
            return self.shared_embedding_or_output_weight()
        weight: Tensor = self.output_layer.weight
        return weight

    def _postprocess(
        self,
        hidden_states: Tensor,
        *args: Any,
        labels: Tensor | Targets | None = None,
        loss_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        if self.post_process and labels is not None:
            if isinstance(labels, Targets):
                loss: Tensor = self.loss_head(hidden_states, self.output_weight, targets=labels)
                return loss
            if loss_mask is not None:
                targets = Targets(labels, loss_mask)
                nats: Tensor = self.nats_head(hidden_states, self.output_weight, targets=targets)
                return nats
        output: Tensor = super()._postprocess(
            hidden_states, *args, labels=labels, loss_mask=None, **kwargs
        )
        return output


class AnyOrderGPT(GPT):
    """A GPT that is told which unit it is asked for: `forward` takes `asked` [b, s] too, the place
    that each label has in natural order (:data:`pretrain.data.batch.ASKED`); natural order if not
    given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.pre_process:
            # Megatron-Core adds embeddings of token types before it splits the sequence over
            # tensor ranks and drops out.
            embedding = self.embedding
            embedding.tokentype_embeddings = OrderEmbedding(
                self.max_sequence_length, self.config.hidden_size
            )
            embedding.reduce_scatter_embeddings = False
            embedding.word_embeddings.reduce_scatter_embeddings = False

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        *args: Any,
        asked: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """See :class:`GPT`."""
        if self.pre_process:
            if asked is None:
                places = torch.arange(1, input_ids.size(1) + 1, device=input_ids.device)
                asked = places.expand_as(input_ids)
            kwargs["decoder_input"] = self.embedding(input_ids, position_ids, asked)
        return super().forward(input_ids, position_ids, *args, **kwargs)


def document_inputs(tokens: Tensor, positions: Tensor | None) -> dict[str, Tensor | None]:
    """What `forward` takes beside tokens, so that packed documents do not see each other.

    Args:
        tokens: [b, s] inputs.
        positions: [b, s] place of each in its document; None where each sequence is one document,
            whose causal attention needs no mask.
    """
    if positions is not None:
        return {"position_ids": positions, "attention_mask": document_mask(positions)}
    places = torch.arange(tokens.size(1), device=tokens.device)
    return {"position_ids": places.expand_as(tokens), "attention_mask": None}


def transformer_config(config: Config, virtual_pipeline: int = 1) -> TransformerConfig:
    """Megatron-Core's view of the configuration."""
    model, parallel = config.model, config.parallel
    style = model.style
    dtype = DTYPES[config.training.precision]
    interleaved = virtual_pipeline > 1
    return TransformerConfig(
        num_layers=model.layers,
        hidden_size=model.hidden_size,
        num_attention_heads=model.attention_heads,
        num_query_groups=model.query_groups,
        ffn_hidden_size=model.ffn_width,
        hidden_dropout=model.dropout,
        attention_dropout=model.dropout,
        normalization="RMSNorm" if style.rms_norm else "LayerNorm",
        layernorm_epsilon=1e-5,
        add_bias_linear=style.biases,
        gated_linear_unit=style.gated,
        activation_func=GELUS[model.gelu] if style.activation == "gelu" else silu,
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        persist_layer_norm=False,
        apply_rope_fusion=False,
        cuda_graph_scope=[],
        use_cpu_initialization=True,
        perform_initialization=False,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        tensor_model_parallel_size=parallel.tensor,
        pipeline_model_parallel_size=parallel.pipeline,
        virtual_pipeline_model_parallel_size=virtual_pipeline if interleaved else None,
        sequence_parallel=parallel.sequence_parallel,
        # Batched point-to-point gives wrong results with two stages and virtual stages.
        overlap_p2p_comm=interleaved,
        batch_p2p_comm=not interleaved,
        batch_p2p_sync=False,
        **RECOMPUTE[config.training.recompute],
        # The batch says how many target tokens there are in all; the loss is already divided.
        calculate_per_token_loss=True,
    )


def layer_spec() -> ModuleSpec:
    """A transformer block of Megatron-Core's local modules with SDPA and our norm."""
    return ModuleSpec(
        module=TransformerLayer,
        submodules=TransformerLayerSubmodules(
            input_layernorm=Norm,
            self_attention=ModuleSpec(
                module=SelfAttention,
                params={"attn_mask_type": AttnMaskType.causal},
                submodules=SelfAttentionSubmodules(
                    linear_qkv=ColumnLinear,
                    core_attention=SdpaCoreAttention,
                    linear_proj=RowLinear,
                    q_layernorm=IdentityOp,
                    k_layernorm=IdentityOp,
                ),
            ),
            self_attn_bda=get_bias_dropout_add,
            pre_mlp_layernorm=Norm,
            mlp=ModuleSpec(
                module=MLP,
                submodules=MLPSubmodules(linear_fc1=ColumnLinear, linear_fc2=RowLinear),
            ),
            mlp_bda=get_bias_dropout_add,
        ),
    )


def seed_dropout(seed: int, step: int, topology: Topology) -> None:
    """Seed the streams that dropout draws from in a step.

    A function of the step alone, so that a run that goes on needs no random state: one stream per
    data and pipeline coordinate, and where tensors are split one per tensor coordinate.
    """
    name = f"{seed}:{step}:{topology.pipeline.rank}:{topology.data.rank}"
    digest = hashlib.sha256(name.encode()).digest()
    # Megatron-Core adds up to some thousands for the tensor rank.
    model_parallel_cuda_manual_seed(int.from_bytes(digest[:4], "little") >> 1)


def build(
    config: Config, topology: Topology, vocabulary_size: int, objective: Objective | None = None
) -> Stages:
    """The model chunks of this process (one, or one per virtual stage), on its device.

    Initial weights depend on `training.seed` alone, not on the layout.

    Args:
        objective: of training; that of the configuration if not given.
    """
    model = config.model
    objective = objective or objective_of(config)
    virtual = topology.virtual_pipeline
    megatron = transformer_config(config, virtual)
    seed_dropout(config.training.seed, 0, topology)
    layers = model.layers // (topology.pipeline.size * virtual)
    submodules = TransformerBlockSubmodules(layer_specs=[layer_spec()] * layers, layer_norm=Norm)
    kind = AnyOrderGPT if config.asks_units else GPT
    chunks = Stages()
    for stage in range(virtual):
        vp_stage = stage if virtual > 1 else None
        with cpu.tensors_stay():
            chunk = kind(
                objective=objective,
                config=megatron,
                transformer_layer_spec=submodules,
                vocab_size=vocabulary_size,
                max_sequence_length=model.sequence_length,
                pre_process=parallel_state.is_pipeline_first_stage(
                    ignore_virtual=False, vp_stage=vp_stage
                ),
                post_process=parallel_state.is_pipeline_last_stage(
                    ignore_virtual=False, vp_stage=vp_stage
                ),
                parallel_output=True,
                share_embeddings_and_output_weights=model.tied,
                position_embedding_type="rope" if model.style.rotary else "learned_absolute",
                rotary_base=model.rope_base,
                vp_stage=vp_stage,
            )
        mark_split(chunk, gated=model.style.gated)
        if config.training.compile:
            for layer in chunk.decoder.layers:
                layer.compile()
        initialise(chunk, model, config.training.seed, topology.tensor.rank, topology.tensor.size)
        chunks.append(chunk)
    return chunks.to(topology.device)
