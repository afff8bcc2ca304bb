"""A model's `config.json` of Hugging Face and the `model` section of ours, each from the other."""

from __future__ import annotations

from typing import Any

from pretrain.config import ModelConfig
from pretrain.config.block_style import GPT2
from pretrain.errors import UserError

EPSILON = 1e-5
GELUS = {"gelu": "exact", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def config_json(
    model: ModelConfig, rows: int, dtype: str, pad_id: int, end_id: int | None
) -> dict[str, Any]:
    """What Hugging Face's `config.json` says of a model.

    Args:
        rows: of the embedding.
        dtype: of the weights in the folder.
        end_id: token after which a text ends; None where none does.
    """
    common = {
        "vocab_size": rows,
        "initializer_range": model.initial_std,
        "tie_word_embeddings": model.tied,
        "use_cache": True,
        "bos_token_id": end_id,
        "eos_token_id": end_id,
        "pad_token_id": pad_id,
        "dtype": dtype,
        "torch_dtype": dtype,  # what versions before 5 read
    }
    if model.style == GPT2:
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_positions": model.sequence_length,
            "n_embd": model.hidden_size,
            "n_layer": model.layers,
            "n_head": model.attention_heads,
            "n_inner": model.ffn_width,
            "activation_function": "gelu" if model.gelu == "exact" else "gelu_new",
            "embd_pdrop": model.dropout,
            "attn_pdrop": model.dropout,
            "resid_pdrop": model.dropout,
            "layer_norm_epsilon": EPSILON,
            **common,
        }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "max_position_embeddings": model.sequence_length,
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.attention_heads,
        "num_key_value_heads": model.query_groups,
        "head_dim": model.hidden_size // model.attention_heads,
        "intermediate_size": model.ffn_width,
        "hidden_act": "silu",
        "rms_norm_eps": EPSILON,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": model.dropout,
        "rope_theta": float(model.rope_base),  # what versions before 5 read
        "rope_parameters": {"rope_type": "default", "rope_theta": float(model.rope_base)},
        **common,
    }


class Theirs:
    """A `config.json` of Hugging Face that is being read.

    Args:
        values: what it holds.
        source: the file, for messages.
    """

    def __init__(self, values: dict[str, Any], source: str) -> None:
        self.values = values
        self.source = source

    def number(self, name: str, default: int | None = None) -> int:
        """A positive whole number.

        Raises:
            UserError: it is missing or something else.
        """
        value = self.values.get(name)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{self.source}: {name} is {value!r}, expected a whole number above 0")
        return value

    def expect(self, name: str, *expected: Any, default: Any = None) -> None:
        """Refuse what a model of ours cannot be.

        Raises:
            UserError: the value is none of those that are expected.
        """
        value = self.values.get(name, default)
        if value not in expected:
            wanted = " or ".join(repr(each) for each in expected)
            raise UserError(
                f"{self.source}: {name} is {value!r}, models here have {wanted}; there is no way "
                "to keep its numerics, choose another model"
            )

    @property
    def rows(self) -> int:
        """Rows of the embedding."""
        return self.number("vocab_size")

    @property
    def positions(self) -> int:
        """Longest sequence."""
        gpt2 = self.values["model_type"] == "gpt2"
        return self.number("n_positions" if gpt2 else "max_position_embeddings")

    def model(self) -> dict[str, Any]:
        """The fields of our `model` section that decide what the model computes.

        Raises:
            UserError: it is of a kind that is not known here; the message names the field.
        """
        kind = self.values.get("model_type")
        if kind not in ("gpt2", "llama"):
            raise UserError(
                f"{self.source}: model_type is {kind!r}, only gpt2 and llama can be imported"
            )
        if self.values.get("quantization_config") is not None:
            raise UserError(
                f"{self.source}: quantization_config says that its weights are quantised; save it "
                "in float32, bfloat16 or float16"
            )
        return self._gpt2() if kind == "gpt2" else self._llama()

    def _gpt2(self) -> dict[str, Any]:
        self.expect("layer_norm_epsilon", EPSILON, default=EPSILON)
        self.expect("activation_function", *GELUS, default="gelu_new")
        self.expect("scale_attn_weights", True, default=True)
        self.expect("scale_attn_by_inverse_layer_idx", False, default=False)
        self.expect("add_cross_attention", False, default=False)
        hidden = self.number("n_embd")
        return {
            "preset": "gpt2",
            "layers": self.number("n_layer"),
            "hidden_size": hidden,
            "attention_heads": self.number("n_head"),
            "kv_heads": None,
            "ffn_size": self.number("n_inner", 4 * hidden),
            "sequence_length": self.positions,
            "tie_embeddings": self._tied(True),
            "gelu": GELUS[self.values.get("activation_function", "gelu_new")],
        }

    def _llama(self) -> dict[str, Any]:
        self.expect("rms_norm_eps", EPSILON, default=1e-6)
        self.expect("hidden_act", "silu", default="silu")
        self.expect("attention_bias", False, default=False)
        self.expect("mlp_bias", False, default=False)
        self.expect("rope_scaling", None, {"rope_type": "default"})
        hidden, heads = self.number("hidden_size"), self.number("num_attention_heads")
        self.expect("head_dim", None, hidden // heads)
        return {
            "preset": "llama",
            "layers": self.number("num_hidden_layers"),
            "hidden_size": hidden,
            "attention_heads": heads,
            "kv_heads": self.number("num_key_value_heads", heads),
            "ffn_size": self.number("intermediate_size"),
            "tie_embeddings": self._tied(False),
            "rope_base": self._rope_base(),
        }

    def _tied(self, default: bool) -> bool:
        self.expect("tie_word_embeddings", True, False, default=default)
        return bool(self.values.get("tie_word_embeddings", default))

    def _rope_base(self) -> int:
        rope = self.values.get("rope_parameters")
        if rope is None:
            rope = {}
        if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
            raise UserError(
                f"{self.source}: rope_parameters is {rope!r}, models here have rope_type 'default'"
            )
        base = rope.get("rope_theta", self.values.get("rope_theta", 10_000.0))
        if not isinstance(base, int | float) or base != int(base) or base < 1:
            raise UserError(f"{self.source}: rope_theta is {base!r}, expected a whole number")
        return int(base)
