"""Usable information: what a small trained network can tell about each unit from the source.

Predictive V-information (Xu et al., A Theory of Usable Information under Computational
Constraints, 2020, arXiv 2002.10689), in bits, of a family V that may ignore the source:

    V(S -> u) = H_V(u) - H_V(u | S)

H_V(u | S) is the held-out cross-entropy of a probe that sees the source, H_V(u) that of the best
one that sees nothing: the unigram distribution of the fitted examples with add-one smoothing.

Letters: n examples, J source columns, U units, V values, H hidden size, b examples of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pretrain.selection.estimators.order_estimator import FEWEST_EXAMPLES
from pretrain.selection.table.collectives import add_up, world

CHECKPOINTS = 20
WEIGHT_DECAY = 0.3


@dataclass(frozen=True)
class ProbeSettings:
    """The probe and its training. What counts as usable depends on all of these.

    Attributes:
        hidden_size: width of both hidden layers.
        steps: updates; the rate falls from `learning_rate` to 0 along a cosine.
        batch: examples per update over all ranks, drawn with replacement.
        learning_rate: of AdamW, at the first step.
        held_out: share of the examples that is scored and never fitted, at most a half.
        seed: of the initial weights, the held-out share and the batches.
    """

    hidden_size: int = 128
    steps: int = 2000
    batch: int = 256
    learning_rate: float = 0.01
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "steps", "batch", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; use a number above 0")
        if not 0.0 < self.held_out <= 0.5:
            raise ValueError(f"held_out is {self.held_out}; use a share above 0, at most 0.5")


def v_information(
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    group: dist.ProcessGroup | None = None,
    settings: ProbeSettings = ProbeSettings(),
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """V(S -> u) of every unit in bits, [U] float64.

    Rank r of R holds the global examples r, r + R, r + 2R and so on. Held-out examples and batches
    are drawn by global index from the seed; the gradients of all ranks are summed.

    The probe starts as the unigram distribution and is scored at 20 checkpoints. Each half of the
    held-out examples judges, unit by unit, the checkpoint (or the start) that the other half
    chooses, by gain less two standard errors: the choice makes no result look better than it is,
    and what the held-out examples cannot tell from 0 is mostly 0. Nothing is clipped: a value
    below 0 is returned as it is. Results are estimates from `held_out` of the examples, and lower
    bounds, up to that noise, as the best member of the family may not be found.

    What repeats: all ranks return the same bits, since all that decides is summed over the ranks;
    so do calls with the same arguments, ranks and threads. Other numbers of ranks or threads change
    only the rounding of float64 sums (below 1e-12 bits where measured), unless two checkpoints tie
    to the last digits and the other one is chosen.

    Args:
        source: [n, J] whole numbers in [0, vocabulary), this rank's examples; n may be 0.
        target: [n, U] likewise.
        vocabulary: V. Each rank holds, and each step sums, (J V + H + U V) H float64 weights.
        group: gloo group of the ranks that hold examples; None for one process.
        settings: the probe and its training.
        progress: called with (steps done, all steps).

    Raises:
        ValueError: a value is out of range, sources and targets differ in number, or all ranks
            together hold fewer than 100 examples. Every rank raises it, whichever is at fault.
    """
    held_out, fitted = hold_out(survey(source, target, vocabulary, group), settings)
    unigram_uv = _unigram(target[own_rows(fitted, group)], vocabulary, group)
    probe = _Probe(source, target, unigram_uv, settings, group)
    optimizer = torch.optim.AdamW([probe.weights], betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    halves = (held_out[0::2], held_out[1::2])
    moments = [np.zeros((2, 2, target.shape[1]))]  # the unigram's gain on itself
    for step in range(settings.steps):
        cosine = 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
        optimizer.param_groups[0]["lr"] = settings.learning_rate * cosine
        # The split has the stream of the seed alone, which is also that of (seed, 0).
        draw = np.random.default_rng((settings.seed, step + 1)).integers
        probe.set_gradient(fitted[draw(len(fitted), size=settings.batch)])
        optimizer.step()
        if (step + 1) * CHECKPOINTS % settings.steps < CHECKPOINTS:
            moments.append(np.stack([probe.score(half) for half in halves], axis=1))
        if progress:
            progress(step + 1, settings.steps)
    nats = gain(np.stack(moments), [len(half) for half in halves]) / len(held_out)
    return nats / math.log(2.0)


def gain(moments: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """What checkpoints gain on the unigram, each half judged by the choice of the other half.

    Args:
        moments: [checkpoints, 2 moments, 2 halves, U] sums, over the held-out examples of a half,
            of what a checkpoint gains on one example, and of its square.
        sizes: examples of the two halves.

    Returns:
        [U] sums over both halves.
    """
    sums, squares = moments[:, 0], moments[:, 1]
    n = np.array(sizes)[:, None]
    errors = np.sqrt(np.maximum(squares / n - (sums / n) ** 2, 0.0) / n)
    chosen = (sums / n - 2.0 * errors).argmax(axis=0)
    return np.asarray(np.take_along_axis(sums, chosen[None, ::-1], axis=0)[0].sum(axis=0))


def survey(
    source: np.ndarray, target: np.ndarray, vocabulary: int, group: dist.ProcessGroup | None
) -> np.ndarray:
    """Sorted global indices of all examples; every rank refuses what is wrong on any rank."""
    own, ranks = world(group)
    everyone = np.zeros((ranks, 6), np.int64)
    extremes = [f(initial=0) for x in (source, target) for f in (x.min, x.max)]
    everyone[own] = [len(source), len(target), *extremes]
    everyone = add_up(everyone, group)
    for rank, (sources, targets, *extremes) in enumerate(everyone.tolist()):
        if sources != targets:
            raise ValueError(
                f"rank {rank} holds {sources} sources and {targets} targets, expected as many; "
                "pass source and target of the same examples"
            )
        for name, value in zip(("source", "source", "target", "target"), extremes, strict=True):
            if not 0 <= value < vocabulary:
                raise ValueError(
                    f"{name} of rank {rank} holds {value}, expected 0 to {vocabulary - 1}; "
                    "set vocabulary above the largest value"
                )
    lengths = everyone[:, 0].tolist()
    if sum(lengths) < FEWEST_EXAMPLES:
        raise ValueError(
            f"a probe needs at least {FEWEST_EXAMPLES} examples over all ranks, found "
            f"{sum(lengths)}; use more examples, or an estimator that counts"
        )
    return np.sort(np.concatenate([r + ranks * np.arange(n) for r, n in enumerate(lengths)]))


def hold_out(examples: np.ndarray, settings: ProbeSettings) -> tuple[np.ndarray, np.ndarray]:
    """(held out, fitted) by chance: every tenth of sorted examples would all end in one digit."""
    shuffled = np.random.default_rng(settings.seed).permutation(examples)
    held_out = max(2, round(settings.held_out * len(examples)))
    return shuffled[:held_out], shuffled[held_out:]


def own_rows(examples: np.ndarray, group: dist.ProcessGroup | None) -> np.ndarray:
    """Rows of those global examples that this rank holds."""
    rank, ranks = world(group)
    return examples[examples % ranks == rank] // ranks


def _unigram(target: np.ndarray, vocabulary: int, group: dist.ProcessGroup | None) -> np.ndarray:
    """Add-one smoothed frequencies of each unit's values over all ranks, [U, V]."""
    counts = np.array([np.bincount(unit, minlength=vocabulary) for unit in target.T])
    counts = add_up(counts, group) + 1
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


class _Probe:
    """One-hot source, two hidden layers, a softmax per unit; the unigram before it is trained."""

    def __init__(
        self,
        source: np.ndarray,
        target: np.ndarray,
        unigram_uv: np.ndarray,
        settings: ProbeSettings,
        group: dist.ProcessGroup | None,
    ) -> None:
        self.group, self.batch = group, settings.batch
        (self.units, self.values), H = unigram_uv.shape, settings.hidden_size
        self.log_unigram_uv = torch.from_numpy(np.log(unigram_uv))
        columns = source.shape[1]
        self.hot_nj = torch.from_numpy(source.astype(np.int64) + self.values * np.arange(columns))
        self.target_nu = torch.from_numpy(target.astype(np.int64))
        generator = torch.Generator().manual_seed(settings.seed)
        rows = columns * self.values
        normal = torch.randn(rows + H, H, generator=generator, dtype=torch.float64)
        parts = [normal[:rows] / columns**0.5, torch.zeros(H)]
        parts += [normal[rows:] * (2.0 / H) ** 0.5, torch.zeros(H)]
        parts += [torch.zeros(unigram_uv.size, H), self.log_unigram_uv.flatten()]
        self.shapes = [part.shape for part in parts]
        self.weights = torch.cat([part.flatten() for part in parts]).requires_grad_()

    def nats(self, rows: np.ndarray) -> Tensor:
        """Cross-entropy of some of this rank's rows, [b, U]."""
        flat = self.weights.split([shape.numel() for shape in self.shapes])
        first, bias, second, second_bias, heads, heads_bias = map(Tensor.view, flat, self.shapes)
        x_bh = F.gelu(F.embedding(self.hot_nj[rows], first).sum(1) + bias)
        x_bh = F.gelu(F.linear(x_bh, second, second_bias))
        logits = F.linear(x_bh, heads, heads_bias).view(-1, self.values)
        labels = self.target_nu[rows].flatten()
        return F.cross_entropy(logits, labels, reduction="none").view(-1, self.units)

    def set_gradient(self, examples: np.ndarray) -> None:
        """Gradient of the mean over a global batch, from what each rank holds of it."""
        self.weights.grad = None
        self.nats(own_rows(examples, self.group)).sum().backward()
        assert self.weights.grad is not None
        self._add_up(self.weights.grad).div_(len(examples))

    @torch.no_grad()
    def score(self, examples: np.ndarray) -> np.ndarray:
        """Gain on the unigram in nats and its square, summed over global examples, [2, U]."""
        sums = torch.zeros(2, self.units, dtype=torch.float64)
        rows = own_rows(examples, self.group)
        for start in range(0, len(rows), self.batch):
            some = rows[start : start + self.batch]
            gain_bu = -self.log_unigram_uv[range(self.units), self.target_nu[some]]
            gain_bu -= self.nats(some)
            sums += torch.stack([gain_bu.sum(0), gain_bu.square().sum(0)])
        return self._add_up(sums).numpy()

    def _add_up(self, sums: Tensor) -> Tensor:
        if world(self.group)[1] > 1:
            dist.all_reduce(sums, group=self.group)
        return sums
