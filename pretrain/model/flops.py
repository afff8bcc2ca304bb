"""Parameters and model FLOPs of a configuration, by formulas that tests hold to the real model."""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.config import ModelConfig
from pretrain.objectives.base import Objective

FORMULA = (
    "3 x [layers x (2 h (h + 2 g d) + 2 h h + 2 m h f + 4 h s) + 2 h v]  "
    "(h hidden, g key/value heads of width d, f ffn, m = 2 matrices, 3 when gated, s sequence, "
    "v vocabulary, a second head adds another 2 h v; a multiply-add is 2 FLOPs, attention counted "
    "without the causal half, the backward pass twice the forward pass)"
)

# Dense peak in FLOP/s, from the vendors' data sheets. Longest matching name wins.
PEAKS: dict[str, dict[str, float]] = {
    "NVIDIA H100 PCIe": {"bf16": 756e12, "fp32": 51e12},
    "NVIDIA H100 80GB HBM3": {"bf16": 989e12, "fp32": 67e12},
    "NVIDIA H100 NVL": {"bf16": 835e12, "fp32": 60e12},
    "NVIDIA H200": {"bf16": 989e12, "fp32": 67e12},
    "NVIDIA A100": {"bf16": 312e12, "fp32": 19.5e12},
}


@dataclass(frozen=True)
class ModelCost:
    """What a model costs.

    Attributes:
        parameters: of the undivided model, tied weights counted once.
        flops_per_token: model FLOPs of one training step (forward and backward) per position.
    """

    parameters: int
    flops_per_token: int


def model_cost(
    model: ModelConfig,
    vocabulary_size: int,
    objective: Objective | None = None,
    asks_units: bool = False,
) -> ModelCost:
    """Count parameters and FLOPs (:data:`FORMULA`) without building the model.

    Args:
        objective: whose parameters and FLOPs are added; none if not given.
        asks_units: whether the model is told which unit it is asked for.
    """
    style = model.style
    h, f, s, v = model.hidden_size, model.ffn_width, model.sequence_length, vocabulary_size
    kv = 2 * model.query_groups * (h // model.attention_heads)
    layer = h * (h + kv) + h * h + style.mlp_matrices * h * f
    norm = style.norm_vectors * h
    biases = (h + kv) + h + style.mlp_inputs * f + h if style.biases else 0
    parameters = model.layers * (layer + biases + 2 * norm) + norm + v * h
    if not model.tied:
        parameters += v * h
    if not style.rotary:
        parameters += s * h
    if asks_units:
        parameters += 2 * (s + 1) * h
    forward = model.layers * (2 * layer + 4 * h * s) + 2 * h * v
    if objective is not None:
        forward += objective.flops_per_token(h, v)
        parameters += sum(objective.matrices(h, v))
    return ModelCost(parameters, 3 * forward)


def peak_flops(device_name: str, precision: str) -> float | None:
    """Dense peak of a device in FLOP/s; None where it is not known, never another device's.

    These devices multiply fp16 as fast as bf16.
    """
    names = [name for name in PEAKS if device_name.startswith(name)]
    kind = "bf16" if precision == "fp16" else precision
    return PEAKS[max(names, key=len)].get(kind) if names else None
