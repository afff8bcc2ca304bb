"""Orders that are learned: the one whose loss falls first while a small decoder learns them all.

After Sato, Kawamoto and Kera, Chain of Thought in Order: Discovering Learning-Friendly Orders for
Arithmetic, 2025, arXiv 2506.23875. Networks learn what is easy first, so a decoder is trained
briefly on a mixture of orders, and the orders with the lowest held-out loss are kept:

    loss(order) = sum over its units u of -log2 P(u | S, units before u)

Three things differ from the paper. The decoder is told which unit it is asked for next (as in
Pannatier et al., sigma-GPTs, 2024, arXiv 2404.09562), so that a mixture is no guessing game. Orders
are dropped by halves while it trains on (successive halving, Jamieson and Talwalkar, 2016,
arXiv 1502.07943). And a mixture tells orders apart badly, since what one order teaches helps the
others: once few are left, each is trained alone, all from the mixture's weights, and halved again
by the mean of its losses so far, which is the lowest for the one whose loss falls first.

Coarse to fine: up to 5 units, all orders are tried. More units are first cut into 5 blocks, whose
120 orders are tried with the units inside in random order; then the inside of every block likewise,
all blocks at once. No more than 120 orders per block are ever listed. Trained alone are whole
orders: the best of every block together, then the second best of every block, and so on.

Letters: n examples, J source columns, U units, V values, H hidden size, b examples of a batch, P =
J + U positions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.selection.estimators.probe import ProbeSettings, hold_out, own_rows, survey
from pretrain.selection.orders.strategies import Order
from pretrain.selection.table.collectives import world

BLOCKS = 5
WEIGHT_DECAY = 0.1
CLIP_NORM = 1.0
WARM_UP = 100
AT_ONCE = 1024  # sequences scored in one forward pass over all ranks

Progress = Callable[[int, int], object]
Block = tuple[int, ...]


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


@dataclass(frozen=True)
class Round:
    """What one round compared.

    Attributes:
        steps: updates done when it scored.
        alone: whether each order was trained by itself.
        orders: of the units of each block that it compared, best first; whole orders where they
            were trained alone.
        bits: held-out loss of the whole target for each of them, per example; the mean over its
            rounds so far where they were trained alone.
    """

    steps: int
    alone: bool
    orders: tuple[tuple[Order, ...], ...]
    bits: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Learned:
    """An order and what it cost to find.

    Attributes:
        order: units in the order in which they are to be predicted.
        rounds: what was compared on the way.
        steps: updates.
        sequences: trained and scored, over all ranks.
        flops: model FLOPs over all ranks (:func:`forward_flops`; a training step is 3 forward
            passes).
        seconds: wall time on this rank.
    """

    order: Order
    rounds: tuple[Round, ...]
    steps: int
    sequences: int
    flops: int
    seconds: float


def learn_order(
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    group: dist.ProcessGroup | None = None,
    settings: LearnedSettings = LearnedSettings(),
    progress: Progress | None = None,
) -> Learned:
    """The order that a small decoder learns first.

    Rank r of R holds the global examples r, r + R, r + 2R and so on. Held-out examples, batches and
    orders are drawn by global index from the seed; gradients and scores are summed over the ranks,
    so that all ranks return the same order and rounds. Other numbers of ranks or threads change the
    rounding of float32 sums, which matters where two orders are as good as tied.

    Args:
        source: [n, J] whole numbers in [0, vocabulary), this rank's examples; n may be 0.
        target: [n, U] likewise, natural order.
        vocabulary: V.
        group: gloo group of the ranks that hold examples; None for one process.
        settings: the decoder and its budget.
        progress: called with (steps done, all steps).

    Raises:
        ValueError: a value is out of range, sources and targets differ in number, all ranks
            together hold fewer than 100 examples, or there are fewer steps than rounds.
    """
    started = time.perf_counter()
    units = target.shape[1]
    rounds = count_rounds(units, settings.finalists)
    if settings.steps < rounds:
        raise ValueError(
            f"steps is {settings.steps}, and {units} units take {rounds} rounds of mixtures; use "
            f"{rounds} steps at least, some hundreds to tell orders apart"
        )
    learner = Learner(source, target, vocabulary, group, settings)
    planned = count_updates(units, settings)

    def train(left: list[list[tuple[Block, ...]]], updates: int) -> None:
        for _ in range(updates):
            learner.step(_draw(left, settings.batch, learner.random("orders")))
            if progress:
                progress(learner.updates, planned)

    blocks: list[Block] = [tuple(range(units))]
    trail: list[Round] = []
    mixed = 0
    while len(blocks) < units:
        # Of each block, the orders of its pieces that are left, the best first.
        left = [list(permutations(split(block))) for block in blocks]
        while True:
            mixed += 1
            train(left, settings.steps * mixed // rounds - settings.steps * (mixed - 1) // rounds)
            trail.append(_compare(learner, left))
            left = [_better_half(orders, settings.finalists) for orders in left]
            if max(len(orders) for orders in left) <= settings.finalists:
                break
        trail += (final := _Final(learner, left)).run(train)
        blocks = [piece for order in final.best for piece in order]
    order = tuple(unit for block in blocks for unit in block)
    return Learned(
        order=order,
        rounds=tuple(trail),
        steps=learner.updates,
        sequences=learner.trained + learner.scored,
        flops=learner.flops,
        seconds=time.perf_counter() - started,
    )


def split(block: Sequence[int]) -> list[Block]:
    """A block's pieces: as many as it has units, at most 5, of nearly the same length."""
    return [tuple(part.tolist()) for part in np.array_split(block, min(BLOCKS, len(block)))]


def _better_half(orders: list[Any], at_least: int) -> list[Any]:
    return orders[: max(-(-len(orders) // 2), at_least)]


def _levels(units: int) -> list[int]:
    """Orders of the block with most pieces, at each level from coarse to fine."""
    listed, longest = [], units
    while longest > 1:
        pieces = min(BLOCKS, longest)
        listed.append(math.factorial(pieces))
        longest = -(-longest // pieces)
    return listed


def count_rounds(units: int, finalists: int) -> int:
    """Rounds of mixtures that :func:`learn_order` takes: one per level at least."""
    rounds = 0
    for left in _levels(units):
        rounds += 1
        while (left := max(-(-left // 2), min(left, finalists))) > finalists:
            rounds += 1
    return rounds


def count_updates(units: int, settings: LearnedSettings) -> int:
    """Updates that :func:`learn_order` makes in all."""
    updates = 0
    for listed in _levels(units):
        updates += settings.steps if not updates else 0
        left = min(listed, settings.finalists)
        while left > 1:
            updates += left * max(1, settings.alone // left)
            left = -(-left // 2)
    return updates


def _draw(
    left: list[list[tuple[Block, ...]]], examples: int, random: np.random.Generator
) -> np.ndarray:
    """Orders by chance among those left, the units of a piece in any order, [examples, U]."""
    parts = []
    for orders in left:
        shuffled = {
            piece: random.permuted(np.tile(piece, (examples, 1)), axis=1)
            for piece in sorted(orders[0])  # the same numbers whatever the order
        }
        every = np.stack(
            [np.concatenate([shuffled[piece] for piece in order], axis=1) for order in orders]
        )
        parts.append(every[random.integers(len(orders), size=examples), np.arange(examples)])
    return np.concatenate(parts, axis=1)


def _compare(learner: Learner, left: list[list[tuple[Block, ...]]]) -> Round:
    """Sorts the orders left of each block by held-out loss, all else the same for all of them."""
    orders, bits = [], []
    for position, block in enumerate(left):
        if len(block) == 1:
            continue
        scores = []
        examples = learner.held_out[: max(1, learner.settings.scored // len(block))]
        for candidate in block:
            whole = [[other[0]] for other in left]
            whole[position] = [candidate]
            drawn = _draw(whole, len(examples), np.random.default_rng(learner.settings.seed))
            scores.append(learner.bits(examples, drawn))
        best = np.argsort(scores, kind="stable")
        block[:] = [block[i] for i in best]
        orders.append(tuple(tuple(unit for piece in order for unit in piece) for order in block))
        bits.append(tuple(scores[i] for i in best))
    return Round(learner.updates, False, tuple(orders), tuple(bits))


class _Final:
    """The orders that are left, each trained alone from the same weights, and halved."""

    def __init__(self, learner: Learner, left: list[list[tuple[Block, ...]]]) -> None:
        self.learner = learner
        places = range(max(len(orders) for orders in left))
        # The i-th best of every block; the last where a block has fewer.
        self.left = [[orders[min(i, len(orders) - 1)] for orders in left] for i in places]
        self.best = self.left[0]

    def run(self, train: Callable[[list[list[tuple[Block, ...]]], int], None]) -> list[Round]:
        """What each round compared; leaves the best order's weights in the learner."""
        learner, settings = self.learner, self.learner.settings
        examples = learner.held_out[: settings.scored]
        trail: list[Round] = []
        runs = [(0.0, order, learner.snapshot()) for order in self.left]
        while len(runs) > 1:
            scored = []
            for total, order, weights in runs:
                learner.restore(weights)
                alone = [[part] for part in order]
                train(alone, max(1, settings.alone // len(runs)))
                drawn = _draw(alone, len(examples), np.random.default_rng(settings.seed))
                bits = total + learner.bits(examples, drawn)
                scored.append((bits, order, learner.snapshot()))
            runs = sorted(scored, key=lambda run: run[0])
            orders = tuple(
                tuple(unit for part in order for piece in part for unit in piece)
                for _, order, _ in runs
            )
            means = tuple(total / (len(trail) + 1) for total, _, _ in runs)
            trail.append(Round(learner.updates, True, (orders,), (means,)))
            runs = runs[: -(-len(runs) // 2)]
        _, self.best, weights = runs[0]
        learner.restore(weights)
        return trail


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


class Learner:
    """A decoder in training on the examples of all ranks.

    Args and errors: see :func:`learn_order`.

    Attributes:
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
        self.source = torch.from_numpy(source.astype(np.int64))
        self.target = torch.from_numpy(target.astype(np.int64))
        self.steps = self.updates = self.trained = self.scored = 0
        shape = source.shape[1], target.shape[1], vocabulary, settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.decoder = Decoder(*shape)
        self.weights = list(self.decoder.parameters())
        self.optimizer = torch.optim.AdamW(
            self.weights, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True
        )
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
        nn.utils.clip_grad_norm_(self.weights, CLIP_NORM)
        warm = min(1.0, (self.steps + 1) / WARM_UP)
        self.optimizer.param_groups[0]["lr"] = settings.learning_rate * warm
        self.optimizer.step()
        self.steps += 1
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
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        flat = self.add_up(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
