"""What the ranks that share a table say to each other.

Works over gloo and NCCL groups. Everything is whole numbers or bytes, so no result depends on the
order of ranks. With R ranks and n bytes of payload each, an all-gather sends (R - 1) n bytes per
rank; a reduce-scatter of c numbers per rank, done as an all-to-all, sends (R - 1) 8 c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pretrain.errors import UserError
from pretrain.ragged import Documents, Examples, concatenate

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

HEADER = 5
"""Whole numbers that go ahead of a chunk: the rank's state, source tokens, source documents, target
tokens, and whether there are targets."""
MORE, LAST, FAILED = range(3)
"""States: more chunks follow, this is the last one (or none is left), the rank gives up."""


def world(group: dist.ProcessGroup | None) -> tuple[int, int]:
    """(rank, size) in `group`; (0, 1) without one."""
    return (group.rank(), group.size()) if group is not None else (0, 1)


@contextmanager
def speaking(group: dist.ProcessGroup | None) -> Iterator[None]:
    """Turns a broken connection into an error that says what was going on.

    Raises:
        UserError: another rank died, or was silent for longer than the group's time-out.
    """
    try:
        yield
    except RuntimeError as error:  # torch's errors of connections are some
        rank, size = world(group)
        raise UserError(
            f"rank {rank} of the {size} ranks that share the selector's table lost another one, "
            "which died or was silent for too long; the first error among the ranks' logs is the "
            f"cause. Nothing was written. ({str(error).splitlines()[0]})"
        ) from error


def _device(group: dist.ProcessGroup | None) -> torch.device:
    import torch
    import torch.distributed as dist

    on_gpu = "nccl" in dist.get_backend(group)
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def _start_gather(values: np.ndarray, group: dist.ProcessGroup | None) -> Callable[[], np.ndarray]:
    """[n] of every rank, all of one length; the returned function waits for [ranks, n]."""
    import torch
    import torch.distributed as dist

    size = world(group)[1]
    mine = torch.from_numpy(np.ascontiguousarray(values)).to(_device(group))
    everyone = torch.empty(size, len(values), dtype=mine.dtype, device=mine.device)
    with speaking(group):
        on_its_way = dist.all_gather(list(everyone), mine, group=group, async_op=True)

    def wait() -> np.ndarray:
        with speaking(group):
            on_its_way.wait()
            return everyone.cpu().numpy()

    return wait


def _gather(values: np.ndarray, group: dist.ProcessGroup | None) -> np.ndarray:
    """[n] of every rank, all of one length -> [ranks, n]."""
    return _start_gather(values, group)()


@contextmanager
def together(group: dist.ProcessGroup | None, doing: str) -> Iterator[None]:
    """Every rank does its part; if one fails, none goes on.

    Args:
        doing: what is done, as it follows "gave up while".

    Raises:
        UserError: another rank failed or died.
    """
    alone = world(group)[1] == 1
    try:
        yield
    except Exception:
        if not alone:
            with suppress(UserError):
                _gather(np.array([FAILED]), group)
        raise
    if alone:
        return
    _nobody_failed(_gather(np.array([LAST]), group)[:, 0].tolist(), doing)


def _nobody_failed(states: Sequence[int], doing: str) -> None:
    failed = [rank for rank, state in enumerate(states) if state == FAILED]
    if failed:
        raise UserError(
            f"rank {failed[0]} of the {len(states)} ranks that share the selector's table gave up "
            f"while {doing}; its own error says why. Nothing was written."
        )


def _start_gather_bytes(
    payload: np.ndarray, sizes: Sequence[int], group: dist.ProcessGroup | None
) -> Callable[[], list[np.ndarray]]:
    """[n] uint8 of every rank, in the order of ranks, once they are waited for; `sizes` are the n
    of all ranks."""
    longest = max(sizes)
    if longest == 0:
        return lambda: [np.zeros(0, np.uint8)] * len(sizes)
    padded = np.zeros(longest, dtype=np.uint8)
    padded[: len(payload)] = payload
    wait = _start_gather(padded, group)
    return lambda: [part[:size] for part, size in zip(wait(), sizes, strict=True)]


def gather_numbers(values: np.ndarray, group: dist.ProcessGroup | None) -> list[np.ndarray]:
    """[n] int64 of every rank, n may differ, in the order of ranks."""
    if world(group)[1] == 1:
        return [values]
    counts = _gather(np.array([len(values)]), group)[:, 0]
    payload = np.ascontiguousarray(values, dtype=np.int64).view(np.uint8)
    parts = _start_gather_bytes(payload, [8 * int(n) for n in counts], group)()
    return [np.frombuffer(part.tobytes(), dtype=np.int64) for part in parts]


def token_width(vocabulary: int) -> int:
    """Bytes of a token on the wire: 2 up to 65,536 different ones, else 4."""
    return 2 if vocabulary <= 1 << 16 else 4


def packed_size(tokens: int, documents: int, vocabulary: int) -> int:
    """Bytes of documents on the wire: tokens, and a 4-byte length per document."""
    return token_width(vocabulary) * tokens + 4 * documents


def _pack(documents: Documents, vocabulary: int) -> np.ndarray:
    kind = np.uint16 if token_width(vocabulary) == 2 else np.int32
    parts = (documents.tokens.astype(kind), documents.lengths.astype(np.int32))
    return np.concatenate([part.view(np.uint8) for part in parts])


def _unpack(payload: np.ndarray, tokens: int, documents: int, vocabulary: int) -> Documents:
    kind = np.uint16 if token_width(vocabulary) == 2 else np.int32
    cut = token_width(vocabulary) * tokens
    lengths = np.frombuffer(payload[cut : cut + 4 * documents].tobytes(), dtype=np.int32)
    return Documents(
        np.frombuffer(payload[:cut].tobytes(), dtype=kind),
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
    )


@dataclass(frozen=True)
class Gathered:
    """A chunk of every rank.

    Attributes:
        parts: in the order of ranks; empty for a rank that has none left.
        more: whether any rank has more.
    """

    parts: list[Examples]
    more: bool


def start_exchange(
    examples: Examples | None,
    rows: int,
    columns: int,
    group: dist.ProcessGroup | None,
    state: int = LAST,
) -> Callable[[], Gathered]:
    """Sends this rank's examples to all others; the returned function waits for theirs.

    Args:
        examples: this rank's; None where it has none left.
        rows, columns: sources' tokens are below `rows`, targets' below `columns`.
        state: FAILED tells the others that this rank gives up.

    Raises:
        UserError: another rank gave up or died.
    """
    empty = Documents(np.zeros(0, np.int32), np.zeros(1, np.int64))
    mine = Examples(empty) if examples is None else examples
    source, target = mine.source, mine.target
    header = np.array(
        [
            state,
            len(source.tokens),
            len(source),
            0 if target is None else len(target.tokens),
            target is not None,
        ],
        dtype=np.int64,
    )
    headers = _gather(header, group).tolist()
    _nobody_failed([other[0] for other in headers], "reading its examples")
    payload = [_pack(source, rows)] + ([] if target is None else [_pack(target, columns)])
    cuts = [packed_size(tokens, documents, rows) for _, tokens, documents, _, _ in headers]
    sizes = [
        cut + (packed_size(units, documents, columns) if has_target else 0)
        for cut, (_, _, documents, units, has_target) in zip(cuts, headers, strict=True)
    ]
    wait = _start_gather_bytes(np.concatenate(payload), sizes, group)

    def receive() -> Gathered:
        result = []
        for part, cut, (_, tokens, documents, units, has_target) in zip(
            wait(), cuts, headers, strict=True
        ):
            found = _unpack(part[:cut], tokens, documents, rows)
            if has_target:
                result.append(Examples(found, _unpack(part[cut:], units, documents, columns)))
            else:
                result.append(Examples(found))
        return Gathered(result, any(other[0] == MORE for other in headers))

    return receive


def join(parts: Sequence[Examples]) -> Examples:
    """All examples of `parts`, in order."""
    if len(parts) == 1:
        return parts[0]
    targets = [part.target for part in parts if part.target is not None]
    return Examples(
        concatenate([part.source for part in parts]), concatenate(targets) if targets else None
    )


class Arriving:
    """Chunk after chunk of all ranks together, as often as the rank with the most has one.

    A chunk is on its way while the one before it is worked on; the first sets out when this is
    made. All ranks make it, and go through it, at the same point among their other exchanges.

    Iterating yields (tokens of this rank, examples of all ranks).

    Args:
        chunks: of this rank.
        rows, columns: sources' tokens are below `rows`, targets' below `columns`.
        group: the ranks; None for one process.

    Raises:
        UserError: another rank gave up or died.
    """

    def __init__(
        self,
        chunks: Iterable[Examples],
        rows: int,
        columns: int,
        group: dist.ProcessGroup | None,
    ) -> None:
        self.alone = world(group)[1] == 1
        self.chunks = iter(chunks)
        self.limits = rows, columns
        self.group = group
        self.following = None if self.alone else self._read()
        self.under_way = None if self.alone else self._send()

    def _read(self) -> Examples | None:
        try:
            return next(self.chunks, None)
        except Exception:
            with suppress(UserError):  # which says what this rank knows already
                start_exchange(None, *self.limits, self.group, FAILED)
            raise

    def _send(self) -> tuple[int, Callable[[], Gathered]]:
        chunk = self.following
        self.following = None if chunk is None else self._read()
        state = LAST if self.following is None else MORE
        return 0 if chunk is None else chunk.tokens, start_exchange(
            chunk, *self.limits, self.group, state
        )

    def __iter__(self) -> Iterator[tuple[int, Examples]]:
        if self.alone:
            yield from ((chunk.tokens, chunk) for chunk in self.chunks)
        while self.under_way is not None:
            own, receive = self.under_way
            gathered = receive()
            self.under_way = self._send() if gathered.more else None
            yield own, join(gathered.parts)


def add_up(values: np.ndarray, group: dist.ProcessGroup | None) -> np.ndarray:
    """Element-wise sum of an int64 array over the ranks of `group`; exact in any order."""
    if world(group)[1] == 1:
        return values
    import torch
    import torch.distributed as dist

    total = torch.tensor(values, device=_device(group))
    with speaking(group):
        dist.all_reduce(total, group=group)
        return total.cpu().numpy()


def add_up_together(
    count: Callable[[], np.ndarray], length: int, group: dist.ProcessGroup | None, doing: str
) -> np.ndarray:
    """Sum over the ranks of `group` of what `count` returns on each; if one fails, none goes on.

    Args:
        count: returns [length] int64.
        doing: what is done, as it follows "gave up while".

    Raises:
        UserError: another rank failed or died.
    """
    rank, size = world(group)
    if size == 1:
        return count()
    states = np.zeros(size, dtype=np.int64)
    try:
        mine = count()
    except Exception:
        states[rank] = FAILED
        with suppress(UserError):
            add_up(np.concatenate([np.zeros(length, dtype=np.int64), states]), group)
        raise
    total = add_up(np.concatenate([mine, states]), group)
    _nobody_failed(total[length:].tolist(), doing)
    return total[:length]


def scatter_sums(
    values: np.ndarray, sizes: Sequence[int], group: dist.ProcessGroup | None
) -> np.ndarray:
    """Reduce-scatter of int64 sums, exact in any order.

    Args:
        values: [sum of sizes] what this rank knows about the numbers of every rank.
        sizes: how many of them belong to each rank.

    Returns:
        [sizes[rank]] sums over all ranks of this rank's own numbers.
    """
    rank, size = world(group)
    if size == 1:
        return values
    import torch
    import torch.distributed as dist

    sent = torch.from_numpy(np.ascontiguousarray(values)).to(_device(group))
    received = torch.empty(size * sizes[rank], dtype=torch.int64, device=sent.device)
    with speaking(group):
        dist.all_to_all_single(received, sent, [sizes[rank]] * size, list(sizes), group=group)
        return received.cpu().numpy().reshape(size, sizes[rank]).sum(axis=0)
