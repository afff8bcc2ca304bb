"""What the blocks of a model are made of: the one description that the model, its FLOPs, the
planner and the exports read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BlockStyle:
    """A style of transformer blocks.

    Attributes:
        norm: layer_norm (a weight and a bias each) or rms_norm (a weight).
        positions: learned (an embedding) or rotary (queries and keys are turned).
        activation: of the MLP.
        gated: the MLP multiplies the activated half of its first layer by the other half.
        biases: linear layers have them.
        tied: the input embedding is the output layer, unless the configuration says otherwise.
    """

    norm: Literal["layer_norm", "rms_norm"]
    positions: Literal["learned", "rotary"]
    activation: Literal["gelu", "silu"]
    gated: bool
    biases: bool
    tied: bool

    @property
    def rotary(self) -> bool:
        """Whether queries and keys are turned by their positions."""
        return self.positions == "rotary"

    @property
    def rms_norm(self) -> bool:
        """Whether norms do without mean and bias."""
        return self.norm == "rms_norm"

    @property
    def norm_vectors(self) -> int:
        """Vectors of a norm, and numbers per token that it keeps for the backward pass."""
        return 1 if self.rms_norm else 2

    @property
    def mlp_matrices(self) -> int:
        """Matrices of hidden x inner width in the MLP, the halves of a fused one counted apart."""
        return self.mlp_inputs + 1

    @property
    def mlp_inputs(self) -> int:
        """Inner widths that the first layer of the MLP makes."""
        return 2 if self.gated else 1

    def ffn_width(self, hidden_size: int) -> int:
        """Inner width of the MLP where none is given: 4 h, or where it is gated 8/3 h, which has as
        many parameters, rounded up to a multiple of 64."""
        return -(-8 * hidden_size // 3 // 64) * 64 if self.gated else 4 * hidden_size


GPT2 = BlockStyle("layer_norm", "learned", "gelu", gated=False, biases=True, tied=True)
LLAMA = BlockStyle("rms_norm", "rotary", "silu", gated=True, biases=False, tied=False)
BLOCK_STYLES = {"gpt2": GPT2, "llama": LLAMA}
"""By the name that `model.preset` gives."""
