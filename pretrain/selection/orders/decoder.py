"""The small decoder that learns many orders at once, and its training over the ranks.

See :mod:`pretrain.selection.orders.learned`, also for the letters of shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.selection.estimators.probe import ProbeSettings, hold_out, own_rows, survey
from pretrain.selection.table.collectives import world

WEIGHT_DECAY = 0.1
CLIP_NORM = 1.0
WARM_UP = 100
AT_ONCE = 1024  # sequences scored in one forward pass over all ranks

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class LearnedSettings:
    """The decoder and its budget.

    Attributes:
        hidden_size: width of the decoder, a multiple of `heads`.
        layers: blocks of attention and MLP.
        heads: attention heads.
        steps: updates on mixtures, shared evenly by the rounds in which orders are dropped.
        finalists: orders that are left for training alone, or fewer.
        alone: updates of a round of training alone, shared evenly by its orders.
        batch: examples per update over all ranks, drawn with replacement.
        learning_rate: of AdamW, after 100 steps of linear warm-up.
        scored: sequences that a round scores for each block whose orders it compares, over all
            ranks, shared evenly by the orders.
        held_out: share of the examples that is scored and never trained on, at most a half.
        seed: of the initial weights, the held-out share, the batches and their orders.
    """

    hidden_size: int = 64
    layers: int = 2
    heads: int = 4
    steps: int = 400
    finalists: int = 8
    alone: int = 800
    batch: int = 128
    learning_rate: float = 2e-3
    scored: int = 8192
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "hidden_size", "layers", "heads", "steps", "finalists", "alone", "batch",
            "learning_rate", "scored",
        ):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; use a number above 0")
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by heads {self.heads}; "
                "choose a multiple"
            )
        if not 0.0 < self.held_out <= 0.5:
            raise ValueError(f"held_out is {self.held_out}; use a share above 0, at most 0.5")


def forward_flops(columns: int, units: int, vocabulary: int, settings: LearnedSettings) -> int:
    """FLOPs of one sequence forward: layers x P (24 H H + 4 H P) + 2 U H V.

    A multiply-add is 2 FLOPs; attention is counted without the causal half.
    """
    H, P = settings.hidden_size, columns + units
    return settings.layers * P * (24 * H * H + 4 * H * P) + 2 * units * H * vocabulary


class Decoder(nn.Module):
    """A causal transformer that predicts units in any order.

    Positions are the source columns, then one per unit to be predicted, which holds the unit before
    it in the order (with its value) and the name of the one that is asked for. Normalised before
    each part, GELU, no dropout.
    """

    def __init__(
        self, columns: int, units: int, vocabulary: int, settings: LearnedSettings
    ) -> None:
        super().__init__()
        H = settings.hidden_size
        self.columns, self.values = columns, vocabulary
        self.source = nn.Embedding(columns * vocabulary, H)
        # The last row stands before the first unit.
        self.before = nn.Embedding(units * vocabulary + 1, H)
        self.asked = nn.Embedding(units, H)
        self.blocks = nn.ModuleList(_Block(H, settings.heads) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(H)
        self.head = nn.Linear(H, vocabulary)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:  # arXiv 1910.05895, as the project's GPT has it
                deep = math.sqrt(2.0 * settings.layers) if name.endswith("out.weight") else 1.0
                nn.init.normal_(weight, std=math.sqrt(2.0 / (5.0 * H)) / deep)

    def forward(self, source: Tensor, target: Tensor, orders: Tensor) -> Tensor:
        """Cross-entropy in nats of units in their order, [b, U].

        Args:
            source: [b, J]. target: [b, U] natural order. orders: [b, U] units.
        """
        value_bu = target.gather(1, orders)
        before_bu = F.pad((orders * self.values + value_bu)[:, :-1], (1, 0), value=-1)
        before_bu = before_bu % self.before.num_embeddings
        columns = self.values * torch.arange(self.columns)
        x_bph = torch.cat(
            [self.source(source + columns), self.before(before_bu) + self.asked(orders)], dim=1
        )
        for block in self.blocks:
            x_bph = block(x_bph)
        logits = self.head(self.norm(x_bph[:, self.columns :]))
        nats = F.cross_entropy(logits.flatten(0, 1), value_bu.flatten(), reduction="none")
        return nats.view(value_bu.shape)


class _Block(nn.Module):
    """Causal attention, then an MLP of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x_bph: Tensor) -> Tensor:
        b, p, h = x_bph.shape
        qkv = self.attention_in(self.first_norm(x_bph)).view(b, p, 3, self.heads, h // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x_bph = x_bph + self.attention_out(mixed.transpose(1, 2).reshape(b, p, h))
        return x_bph + self.mlp_out(F.gelu(self.mlp_in(self.second_norm(x_bph))))


def seeded(
    columns: int, units: int, vocabulary: int, settings: LearnedSettings
) -> tuple[Decoder, torch.optim.AdamW]:
    """A new decoder, with initial weights by the seed, and what updates it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        decoder = Decoder(columns, units, vocabulary, settings)
    weights = decoder.parameters()
    return decoder, torch.optim.AdamW(
        weights, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True
    )


def update(optimizer: torch.optim.AdamW, settings: LearnedSettings, number: int) -> None:
    """Update by the gradients that are there, clipped; `number` is 1 for the first update."""
    (group,) = optimizer.param_groups
    nn.utils.clip_grad_norm_(group["params"], CLIP_NORM)
    group["lr"] = settings.learning_rate * min(1.0, number / WARM_UP)
    optimizer.step()


class Learner:
    """A decoder in training on the examples of all ranks.

    Args and errors: see :func:`pretrain.selection.orders.learned.learn_order`.

    Attributes:
        examples: over all ranks.
        held_out: global indices of the examples that are never trained on, in an order by chance.
        steps: updates that the present weights have had.
        updates: made in all, those of weights that were given up too.
        trained, scored: sequences, over all ranks.
    """

    def __init__(
        self,
        source: np.ndarray,
        target: np.ndarray,
        vocabulary: int,
        group: dist.ProcessGroup | None,
        settings: LearnedSettings,
    ) -> None:
        self.settings, self.group = settings, group
        examples = survey(source, target, vocabulary, group)
        share = ProbeSettings(held_out=settings.held_out, seed=settings.seed)
        self.held_out, self.fitted = hold_out(examples, share)
        self.examples = len(examples)
        self.source = torch.from_numpy(source.astype(np.int64))
        self.target = torch.from_numpy(target.astype(np.int64))
        self.steps = self.updates = self.trained = self.scored = 0
        shape = source.shape[1], target.shape[1], vocabulary, settings
        self.decoder, self.optimizer = seeded(*shape)
        self.forward_flops = forward_flops(*shape)

    @property
    def flops(self) -> int:
        """Model FLOPs so far, over all ranks."""
        return self.forward_flops * (3 * self.trained + self.scored)

    def random(self, purpose: Literal["batch", "orders", "ask"]) -> np.random.Generator:
        """Numbers by chance for one purpose at this step; the same on all ranks."""
        stream = ("batch", "orders", "ask").index(purpose)
        return np.random.default_rng((self.settings.seed, self.steps + 1, stream + 1))

    def nats(self, examples: np.ndarray, orders: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Of the global examples those that this rank holds: nats [b, U], and which they are [b].

        Args:
            examples: global indices.
            orders: [examples, U] the order of each.
        """
        rank, ranks = world(self.group)
        own = np.flatnonzero(examples % ranks == rank)
        rows = own_rows(examples, self.group)
        nats = self.decoder(self.source[rows], self.target[rows], torch.from_numpy(orders[own]))
        return nats, own

    def step(self, orders: np.ndarray) -> None:
        """One update on a batch by chance, each example in an order of its own.

        Args:
            orders: [b, U] for the global batch, the same on all ranks.
        """
        settings = self.settings
        batch = self.random("batch").choice(self.fitted, settings.batch)
        self.optimizer.zero_grad()
        nats, _ = self.nats(batch, orders)
        (nats.sum() / orders.size).backward()
        self._add_up_gradients()
        self.steps += 1
        update(self.optimizer, settings, self.steps)
        self.updates += 1
        self.trained += len(batch)

    def snapshot(self) -> Any:
        """The present weights and the optimizer's state, to come back to."""
        return self.steps, *map(deepcopy, (self.decoder.state_dict(), self.optimizer.state_dict()))

    def restore(self, snapshot: Any) -> None:
        """Go on from a snapshot."""
        self.steps, weights, state = snapshot
        self.decoder.load_state_dict(weights)
        self.optimizer.load_state_dict(deepcopy(state))

    @torch.no_grad()
    def ask(self, examples: np.ndarray, orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`nats`, without training: float64 bits [b, U], and which they are [b]."""
        nats, own = self.nats(examples, orders)
        self.scored += len(examples)
        return nats.double().numpy() / math.log(2.0), own

    def bits(self, examples: np.ndarray, orders: np.ndarray) -> float:
        """Mean loss of whole targets of global examples, each in an order of its own, in bits."""
        total = torch.zeros(1, dtype=torch.float64)
        for start in range(0, len(examples), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            total += self.ask(examples[some], orders[some])[0].sum()
        return float(self.add_up(total)) / len(examples)

    def add_up(self, sums: Tensor) -> Tensor:
        """Sum over the ranks, in place."""
        if world(self.group)[1] > 1:
            dist.all_reduce(sums, group=self.group)
        return sums

    def _add_up_gradients(self) -> None:
        if world(self.group)[1] == 1:
            return
        gradients = [weight.grad for weight in self.decoder.parameters() if weight.grad is not None]
        flat = self.add_up(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
