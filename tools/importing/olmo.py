"""OLMo-core's and dolma's `.npy`: raw ids from `numpy.memmap`, in spite of the name. A real `.npy`
has a head of its own, and is read too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pretrain.errors import UserError
from tools.importing.source import INTEGERS, Asked, Shard, raw, size_of

MAGIC = b"\x93NUMPY"


def read(path: Path, asked: Asked) -> list[Shard]:
    """A file; the type of raw ids must be given.

    Raises:
        UserError: a real `.npy` is no list of ids.
    """
    size_of(path)
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return [raw(path, asked.dtype)]
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = header(file)
        except ValueError as error:
            raise UserError(f"{path}: damaged ({error}); copy it again") from None
        begin = file.tell()
    if len(shape) != 1 or dtype.name not in INTEGERS:
        raise UserError(
            f"{path}: {dtype.name} of shape {shape}, expected one dimension of whole numbers; save "
            "the ids so"
        )
    if asked.dtype not in (None, dtype):
        raise UserError(f"--dtype {asked.dtype}: {path} says {dtype.name}; leave --dtype out")
    return [raw(path, dtype, begin)]
