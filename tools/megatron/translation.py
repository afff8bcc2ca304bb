"""From the flags of Megatron-LM to sections of our configuration.

What a flag means, and what holds where it is not given, is taken from `megatron/training` of
Megatron-LM (`arguments.py`, `config/training_config.py`) and the defaults of Megatron-Core's
`TransformerConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pretrain.config import load_config
from pretrain.config.block_style import BLOCK_STYLES
from pretrain.data.tokenizers import SPECIALS
from pretrain.errors import ConfigError, UserError
from pretrain.registry import OPTIMIZERS
from tools.megatron.reasons import LAUNCHER, REASONS, is_of_launcher

GPT2_IDS = 50257
"""Of the tokenizer that Megatron-LM takes if none is named."""
PREFIX, TOKENIZER = "corpora/CORPUS", "TOKENIZER.json"
"""Stand where the command line does not say them."""


@dataclass
class Translation:
    """A configuration in the making.

    Attributes:
        given: the flags and their values.
        sections: of our configuration.
        left: flags that are left out, and why.
        differs: what is not the same in the configuration, and how.
    """

    given: Mapping[str, list[str]]
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    differs: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def has(self, flag: str) -> bool:
        """Whether a switch is on."""
        self._seen.add(flag)
        return flag in self.given

    def value(self, flag: str, kind: Callable[[str], Any] = str, default: Any = None) -> Any:
        """The value of a flag; `default` where it is not given, or only running a script tells it.

        Raises:
            UserError: it is no such value.
        """
        self._seen.add(flag)
        values = self.given.get(flag)
        if not values:
            return default
        text = values[0]
        if "$" in text:
            self.left[flag] = f"{text} is known only to the script"
            return default
        try:
            return kind(text)
        except ValueError:
            raise UserError(
                f"{flag} {text}: expected a {kind.__name__}; mend the command line"
            ) from None

    def put(self, name: str, value: Any) -> None:
        """Set a field such as model.layers, unless the value is None."""
        section, _, own = name.partition(".")
        if value is not None:
            self.sections.setdefault(section, {})[own] = value

    def finish(self) -> None:
        """Name what no part has asked for."""
        for flag in self.given:
            if flag not in self._seen:
                known = LAUNCHER if is_of_launcher(flag) else "not known here"
                self.left[flag] = REASONS.get(flag, known)


def number(text: str) -> int:
    """A whole number; also 1e6, as people write it."""
    value = float(text)
    if value != int(value):
        raise ValueError(text)
    return int(value)


number.__name__ = "whole number"


def translate(given: Mapping[str, list[str]]) -> Translation:
    """The configuration that a command line stands for.

    Raises:
        UserError: a value is none, or the model's size is not given.
    """
    made = Translation(given)
    for flag in ("--num-layers", "--hidden-size", "--num-attention-heads", "--seq-length"):
        if flag not in given:
            raise UserError(
                f"{flag} is not on the command line; give the arguments of pretrain_gpt.py, or the "
                "script that calls it"
            )
    for part in (_model, _blocks, _parallel, _training, _optimizer, _data, _run):
        part(made)
    made.finish()
    return made


def _model(made: Translation) -> None:
    value, put = made.value, made.put
    hidden, heads = value("--hidden-size", number), value("--num-attention-heads", number)
    put("model.layers", value("--num-layers", number))
    put("model.hidden_size", hidden)
    put("model.attention_heads", heads)
    groups = value("--num-query-groups", number, 1)
    put("model.kv_heads", groups if made.has("--group-query-attention") else None)
    width = value("--ffn-hidden-size", number)
    if width is None and made.has("--swiglu"):
        width = int(4 * hidden * 2 / 3 / 64) * 64
    put("model.ffn_size", width)
    length = value("--seq-length", number)
    put("model.sequence_length", length)
    longest = value("--max-position-embeddings", number, length)
    if longest != length:
        made.left["--max-position-embeddings"] = (
            f"positions here are those of --seq-length {length}"
        )
    channels = value("--kv-channels", number, hidden // heads)
    if channels != hidden // heads:
        made.differs.append(f"--kv-channels {channels}: a head has hidden_size / heads here")
    kept, attended = (
        value(f"--{place}-dropout", float, 0.1) for place in ("hidden", "attention")
    )  # fmt: skip
    put("model.dropout", kept)
    if kept != attended:
        made.differs.append(f"--attention-dropout {attended}: one rate here, {kept}, for both")
    put("model.init_std", value("--init-method-std", float, 0.02))
    _vocabulary(made)


def _vocabulary(made: Translation) -> None:
    """Rows of the embedding, padded as Megatron-LM does, with room for the special tokens here."""
    kind = made.value("--tokenizer-type", str, "GPT2BPETokenizer")
    size = made.value("--vocab-size", number, GPT2_IDS if kind == "GPT2BPETokenizer" else None)
    each = made.value("--make-vocab-size-divisible-by", number, 128)
    each *= made.value("--tensor-model-parallel-size", number, 1)
    padded = made.value("--padded-vocab-size", number)
    if padded is None and size is not None:
        padded = -(-(size + len(SPECIALS)) // each) * each
    made.put("model.vocabulary_size", padded)
    made.has("--vocab-file"), made.has("--merge-file")


def _blocks(made: Translation) -> None:
    """The preset whose blocks are most like the command's."""
    gated = made.has("--swiglu")
    rotary = made.value("--position-embedding-type", str, "learned_absolute") == "rope"
    rotary |= made.has("--use-rotary-position-embeddings")
    wanted = {
        "norm": "rms_norm" if made.value("--normalization") == "RMSNorm" else "layer_norm",
        "positions": "rotary" if rotary else "learned",
        "activation": "silu" if gated else "gelu",
        "gated": gated,
        "biases": not made.has("--disable-bias-linear"),
    }

    def unlike(name: str) -> list[str]:
        style = BLOCK_STYLES[name]
        return [part for part, value in wanted.items() if getattr(style, part) != value]

    preset = min(BLOCK_STYLES, key=lambda name: len(unlike(name)))
    style = BLOCK_STYLES[preset]
    made.put("model.preset", preset)
    for part in unlike(preset):
        made.differs.append(
            f"{part} is {wanted[part]} on the command line, and {getattr(style, part)} in "
            f"model.preset {preset}"
        )
    tied = not made.has("--untie-embeddings-and-output-weights")
    made.put("model.tie_embeddings", tied if tied != style.tied else None)
    base = made.value("--rotary-base", number, 10_000)
    made.put("model.rope_base", base if style.rotary else None)
    if made.value("--rotary-percent", float, 1.0) != 1.0:
        made.differs.append(
            f"--rotary-percent {made.given['--rotary-percent'][0]}: all of a head is turned here"
        )
    # Megatron fuses the bias with GELU by its approximation by tanh unless told otherwise.
    exact = made.has("--no-bias-gelu-fusion") or not wanted["biases"]
    if not style.gated and not exact:
        made.put("model.gelu", "tanh")
    epsilon = made.value("--norm-epsilon", float, made.value("--layernorm-epsilon", float, 1e-5))
    if epsilon != 1e-5:
        made.differs.append(f"--norm-epsilon {epsilon:g}: 1e-05 here")


def _parallel(made: Translation) -> None:
    value, put = made.value, made.put
    tensor = value("--tensor-model-parallel-size", number, 1)
    pipeline = value("--pipeline-model-parallel-size", number, 1)
    put("parallel.tensor", tensor)
    put("parallel.pipeline", pipeline)
    layers = value("--num-layers", number)
    each = value("--num-layers-per-virtual-pipeline-stage", number)
    chunks = value("--num-virtual-stages-per-pipeline-rank", number)
    if each is not None:
        chunks = layers // pipeline // each
    put("parallel.virtual_pipeline", chunks)
    if made.has("--sequence-parallel"):
        put("parallel.sequence_parallel", True if tensor > 1 else None)
        if tensor == 1:
            made.left["--sequence-parallel"] = "of no effect without tensor parallelism"
    put("parallel.zero_stage", _zero(made))
    if made.has("--optimizer-cpu-offload"):
        put("parallel.offload", "optimizer" if _zero(made) else None)
        if not _zero(made):
            made.left["--optimizer-cpu-offload"] = (
                "ZeRO offloads, and --use-distributed-optimizer is off"
            )
    context = value("--context-parallel-size", number, 1)
    if context > 1:
        try:
            load_config(None, {"parallel": {"context": context}})
            put("parallel.context", context)
        except ConfigError:
            made.left["--context-parallel-size"] = "a sequence is not split over processes here"


def _zero(made: Translation) -> int:
    """ZeRO's stage that shards as much."""
    stages = {"no_shard": 0, "optim": 1, "optim_grads": 2, "optim_grads_params": 3}
    strategy = made.value("--data-parallel-sharding-strategy", str, "no_shard")
    fully = made.has("--use-megatron-fsdp") or made.has("--use-custom-fsdp")
    return max(
        stages.get(strategy, 0) if fully else 0,
        3 if made.has("--use-torch-fsdp2") else 0,
        1 if made.has("--use-distributed-optimizer") else 0,
    )


def _training(made: Translation) -> None:
    value, put = made.value, made.put
    batch, micro = value("--global-batch-size", number), value("--micro-batch-size", number)
    put("training.global_batch", batch)
    put("training.micro_batch", micro)
    put("training.steps", _steps(made, "--train-iters", "--train-samples"))
    precision = [name for name in ("bf16", "fp16") if made.has(f"--{name}")]
    put("training.precision", precision[0] if precision else "fp32")
    granularity = value("--recompute-granularity")
    if made.has("--recompute-activations"):
        granularity = "selective"
    put("training.recompute", granularity)
    if granularity == "selective":
        made.differs.append(
            "recompute selective: the MLP is computed again here, not the core attention; memory "
            "differs, the loss does not"
        )
    for flag in ("--recompute-method", "--recompute-num-layers", "--recompute-modules"):
        if made.has(flag):
            made.left[flag] = "every layer is recomputed alike here"
    put("training.seed", value("--seed", number, 1234))
    put("training.evaluate_every", value("--eval-interval", number))
    minutes = value("--exit-duration-in-mins", number)
    put("training.max_minutes", minutes)
    if batch is None:
        raise UserError("--global-batch-size is not on the command line; add it")


def _steps(made: Translation, of_steps: str, of_samples: str) -> int | None:
    """A number of steps, given as such or as one of sequences."""
    steps, samples = made.value(of_steps, number), made.value(of_samples, number)
    if steps is None and samples is not None:
        steps = samples // made.value("--global-batch-size", number, 1)
    return None if steps is None else int(steps)


def _optimizer(made: Translation) -> None:
    value, put = made.value, made.put
    name = value("--optimizer", str, "adam")
    ours = {"adam": "adamw"}.get(name, name)
    if ours not in OPTIMIZERS:
        made.differs.append(f"--optimizer {name}: adamw here")
        ours = "adamw"
    put("optimizer.name", ours)
    betas = ("--lion-beta", 0.95, 0.98) if ours == "lion" else ("--adam-beta", 0.9, 0.999)
    put("optimizer.beta1", value(f"{betas[0]}1", float, betas[1]))
    put("optimizer.beta2", value(f"{betas[0]}2", float, betas[2]))
    put("optimizer.epsilon", value("--adam-eps", float))
    put("optimizer.weight_decay", value("--weight-decay", float, 0.01))
    put("optimizer.clip_norm", value("--clip-grad", float, 1.0))
    rate, least = value("--lr", float), value("--min-lr", float, 0.0)
    put("optimizer.learning_rate", rate)
    put("optimizer.minimum_fraction", least / rate if rate else None)
    _schedule(made)


def _schedule(made: Translation) -> None:
    steps = _steps(made, "--train-iters", "--train-samples")
    end = _steps(made, "--lr-decay-iters", "--lr-decay-samples") or steps
    warmup = _steps(made, "--lr-warmup-iters", "--lr-warmup-samples") or 0
    share = made.value("--lr-warmup-fraction", float)
    if share is not None and end is not None:
        warmup = round(share * end)
    made.put("optimizer.warmup_steps", warmup)
    style = made.value("--lr-decay-style", str, "linear")
    if style in ("cosine", "constant"):
        made.put("optimizer.schedule", style)
    elif style == "linear":
        made.put("optimizer.schedule", "wsd")
        made.put("optimizer.decay_steps", steps - warmup if steps else None)
    elif style == "WSD":
        made.put("optimizer.schedule", "wsd")
        decay = _steps(made, "--lr-wsd-decay-iters", "--lr-wsd-decay-samples")
        made.put("optimizer.decay_steps", decay)
        shape = made.value("--lr-wsd-decay-style", str, "exponential")
        if shape != "linear":
            made.differs.append(f"--lr-wsd-decay-style {shape}: falls linearly here")
    else:
        made.differs.append(f"--lr-decay-style {style}: cosine here")
    if end != steps:
        made.differs.append(f"the rate falls until step {end:,} there, and until the last here")


def _data(made: Translation) -> None:
    made.put("data.task", "corpus")
    made.put("data.blend", _blend(made))
    made.put("data.split", made.value("--split", lambda text: text.strip("'\""), "969,30,1"))
    tokenizer = made.value("--tokenizer-model")
    if tokenizer is None or made.has("--mock-data"):
        tokenizer = TOKENIZER
        made.differs.append(f"data.tokenizer {TOKENIZER}: put the tokenizer's file there")
    made.put("data.tokenizer", tokenizer)
    apart = [made.has("--reset-attention-mask"), made.has("--reset-position-ids")]
    made.put("data.document_mask", all(apart))
    if any(apart) and not all(apart):
        made.differs.append(
            "data.document_mask parts documents in attention and positions alike, and one of "
            "--reset-attention-mask and --reset-position-ids is missing"
        )
    made.put("selection.strategy", "ntp")


def _blend(made: Translation) -> list[str]:
    """Prefixes and weights of `--data-path`, which alternate unless there are prefixes alone."""
    given = made.given.get("--data-path", made.given.get("--train-data-path", []))
    made.has("--data-path"), made.has("--train-data-path")
    if not given or any("$" in word for word in given) or made.has("--mock-data"):
        made.differs.append(f"data.blend {PREFIX}: put the corpora's prefixes there")
        return [PREFIX]
    try:
        weights = [float(word) for word in given[::2]]
    except ValueError:
        return list(given)
    return [f"{prefix}:{weight:g}" for weight, prefix in zip(weights, given[1::2], strict=True)]


def _run(made: Translation) -> None:
    made.put("run.directory", made.value("--save"))
    every = made.value("--save-interval", number)
    made.put("checkpoint.save_every", every)
    made.put("run.log_every", made.value("--log-interval", number, 100))
    minutes = made.value("--distributed-timeout-minutes", number)
    made.put("run.timeout_seconds", None if minutes is None else 60 * minutes)
