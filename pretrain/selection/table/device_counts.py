"""Counting on a GPU, in torch: the same counts as the compiled loops, in one dense block.

Whole numbers are added, so the order in which a GPU adds them does not matter.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pretrain.ragged import Documents, Examples
from pretrain.selection.table.rows import Table
from pretrain.selection.table.sharding import BudgetError

PAIRS_AT_ONCE = 1 << 24


class DeviceBlock:
    """Counts of some rows on a device.

    Args:
        local: [features] row of each feature; `rows` where it has none here.
        rows, columns: shape of the block.
        device: where it lies.

    Raises:
        BudgetError: the block takes more than the device's free memory.
    """

    def __init__(self, local: np.ndarray, rows: int, columns: int, device: torch.device) -> None:
        needed = 8 * (rows + 1) * columns
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if needed > free // 2:
                raise BudgetError(
                    f"a block of {rows:,} rows x {columns:,} columns takes {needed:,} bytes, half "
                    f"of the device's free memory is {free // 2:,}; count on the CPU, or use more "
                    "ranks"
                )
        self.rows = rows
        self.local = torch.from_numpy(local.astype(np.int64)).to(device)
        # The last line takes the pairs of other ranks' rows.
        self.block = torch.zeros(rows + 1, columns, dtype=torch.int64, device=device)

    def add(self, examples: Examples, before: int, after: int) -> None:
        """Add the pairs of this block's rows.

        Args:
            examples: what is counted.
            before, after: see :class:`pretrain.selection.table.counts.Pairs`.
        """
        rows = self.local[self._moved(examples.source.tokens)]
        if examples.target is None:
            self._add_window(rows, examples.source, before, after)
        else:
            self._add_together(rows, examples.source, examples.target)

    def _moved(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self.block.device)

    def _add(self, rows: Tensor, units: Tensor) -> None:
        places = rows * self.block.size(1) + units
        self.block.view(-1).scatter_add_(0, places, torch.ones_like(places))

    def _add_window(self, rows: Tensor, source: Documents, before: int, after: int) -> None:
        tokens, lengths = self._moved(source.tokens), self._moved(source.lengths)
        numbers = torch.arange(len(source), device=tokens.device)
        document = torch.repeat_interleave(numbers, lengths)
        longest = int(source.lengths.max(initial=0))
        for distance in range(1, min(max(before, after) + 1, longest)):
            near = document[distance:] == document[:-distance]
            if distance <= before:
                self._add(rows[:-distance][near], tokens[distance:][near])
            if distance <= after:
                self._add(rows[distance:][near], tokens[:-distance][near])

    def _add_together(self, rows: Tensor, source: Documents, target: Documents) -> None:
        units = self._moved(target.tokens)
        widths = np.repeat(target.lengths, source.lengths)  # units of each feature
        begins = np.repeat(target.offsets[:-1], source.lengths)
        pairs = np.cumsum(widths)
        first = 0
        while first < len(widths):
            done = pairs[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(pairs, done + PAIRS_AT_ONCE, "right")))
            width = self._moved(widths[first:last])
            owner = torch.repeat_interleave(torch.arange(len(width), device=width.device), width)
            within = torch.arange(len(owner), device=width.device)
            within = within - (width.cumsum(0) - width)[owner]
            unit = self._moved(begins[first:last])[owner] + within
            self._add(rows[first:last][owner], units[unit])
            first = last

    def move_to(self, table: Table) -> None:
        """Add everything that was counted to a table of the same rows, and forget it."""
        block = self.block[: self.rows]
        rows, cols = block.nonzero(as_tuple=True)
        counts = block[rows, cols].cpu().numpy()
        start = np.searchsorted(rows.cpu().numpy(), np.arange(self.rows + 1))
        table.add_cells(start.astype(np.int64), cols.cpu().numpy().astype(np.int32), counts)
        self.block.zero_()
