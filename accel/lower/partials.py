"""The sums that rows leave in memory for their next tile: which jobs do, and what the bytes mean."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.lower.layout import partial_stride_bytes
from accel.program import Flag, Jobs
from accel.units.pv import ACCUMULATOR_BITS, PARTIAL_PLANES
from accel.units.softmax import OUTPUT_BITS

HEADER_BYTES = 8
_BOTH = Flag.FIRST_TILE | Flag.LAST_TILE


class Transit(NamedTuple):
    """Of each attend job: whether its rows take sums from memory, whether they leave them there (bool), and the rows
    of the unfinished tile before it (int64).
    """

    takes: NDArray[np.bool_]
    leaves: NDArray[np.bool_]
    rows_before: NDArray[np.int64]


def transit(jobs: Jobs) -> Transit:
    """Sums through memory between attend jobs, those of pruned heads left out.

    A single row keeps its sums on chip from tile to tile; not so if they have been in memory before.
    """
    out = Transit(np.zeros(len(jobs), bool), np.zeros(len(jobs), bool), np.zeros(len(jobs), np.int64))
    rows, through = 0, False
    for j in np.flatnonzero((jobs["flags"] & _BOTH) != _BOTH).tolist():
        flags = int(jobs["flags"][j])
        out.takes[j] = through and not flags & Flag.FIRST_TILE
        out.rows_before[j] = rows
        if not flags & Flag.LAST_TILE:
            rows = int(jobs["queries"][j]) * int(jobs["group"][j])
            out.leaves[j] = through = bool(out.takes[j] or rows > 1)
    return out


class Partial(NamedTuple):
    """``maximum``, ``total`` of a row, and its weighted V sums, int64 (dim,)."""

    maximum: int
    total: int
    values: NDArray[np.int64]


def pack_partial(partial: Partial, atom_bytes: int) -> bytes:
    """The record of a row's sums, in whole accesses."""
    dim = len(partial.values)
    planes = np.zeros((PARTIAL_PLANES, partial_stride_bytes(dim, atom_bytes) // PARTIAL_PLANES // 2), "<u2")
    values = np.asarray(partial.values, np.int64) & (1 << ACCUMULATOR_BITS) - 1
    for p in range(PARTIAL_PLANES):
        planes[p, :dim] = values >> p * OUTPUT_BITS & (1 << OUTPUT_BITS) - 1
    header = partial.maximum.to_bytes(2, "little", signed=True) + partial.total.to_bytes(HEADER_BYTES - 2, "little")
    planes[-1, :HEADER_BYTES] |= np.frombuffer(header, np.uint8).astype("<u2") << 8
    return planes.tobytes()


def unpack_partial(record: bytes, dim: int) -> Partial:
    """The sums in a record of ``partial_stride_bytes``."""
    planes = np.frombuffer(record, "<u2").reshape(PARTIAL_PLANES, -1)[:, :dim].astype(np.int64)
    low = (planes << OUTPUT_BITS * np.arange(PARTIAL_PLANES)[:, None]).sum(0) & (1 << ACCUMULATOR_BITS) - 1
    header = (planes[-1, :HEADER_BYTES] >> 8).astype(np.uint8).tobytes()
    sign = 1 << ACCUMULATOR_BITS - 1
    return Partial(
        int.from_bytes(header[:2], "little", signed=True), int.from_bytes(header[2:], "little"), (low ^ sign) - sign
    )
