"""DRAM traffic of a rival: which accesses its streams make, and what our command-level memory takes for them."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.memory import MemorySpec
from sim.dram_replay import replay

REMEMBERED = 256
_DONE: dict[tuple[str, str], tuple[int, int, int]] = {}
"""Replays of this process by memory and trace: the settings of a comparison often share them."""


class Stream(NamedTuple):
    """One tensor's accesses.

    ``places``: int64 numbers of the accesses inside the tensor, ascending, each once; ``size``: accesses that the whole
    tensor takes up in memory; ``useful_bytes``: bytes of them that the machine wanted.
    """

    name: str
    places: NDArray[np.int64]
    size: int
    useful_bytes: int
    write: bool = False


class MemoryUse(NamedTuple):
    """``ticks`` of the memory clock until the last beat; commands; bytes that crossed the bus in whole accesses."""

    ticks: int
    activations: int
    refreshes: int
    read_bytes: int
    write_bytes: int


def whole(name: str, size_bytes: float, access_bytes: int, write: bool = False) -> Stream:
    """A tensor that moves once, from its first byte to its last."""
    atoms = int(-(-size_bytes // access_bytes))
    return Stream(name, np.arange(atoms, dtype=np.int64), atoms, int(size_bytes), write)


def chosen_rows(name: str, rows: NDArray[np.int64], of_rows: int, row_bytes: float, access_bytes: int) -> Stream:
    """Rows of a packed matrix (row after row, no padding): each access that holds a byte of a wanted row, once."""
    size = int(-(-of_rows * row_bytes // access_bytes))
    if not len(rows):
        return Stream(name, np.zeros(0, np.int64), size, 0)
    first = np.floor(rows * row_bytes / access_bytes).astype(np.int64)
    last = np.ceil((rows + 1) * row_bytes / access_bytes).astype(np.int64) - 1
    reach = int((last - first).max()) + 1
    places = np.minimum(first[:, None] + np.arange(reach), last[:, None])
    return Stream(name, np.unique(places), size, int(len(rows) * row_bytes))


def memory_use(spec: MemorySpec, streams: Iterable[Stream]) -> MemoryUse:
    """All streams one after the other, every request there from the start (ideal prefetch)."""
    base = read = write = 0
    addresses: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    kinds: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for stream in streams:
        addresses.append((base + stream.places) * spec.access_bytes)
        kinds.append(np.full(len(stream.places), int(stream.write)))
        base += stream.size
        moved = len(stream.places) * spec.access_bytes
        read, write = (read, write + moved) if stream.write else (read + moved, write)
    order = np.concatenate(addresses)
    if not len(order):
        return MemoryUse(0, 0, 0, 0, 0)
    key = (spec.model_dump_json(), hashlib.sha256(order.tobytes() + np.concatenate(kinds).tobytes()).hexdigest())
    if key not in _DONE:
        if len(_DONE) >= REMEMBERED:
            _DONE.clear()
        done = replay(spec, order, is_write=np.concatenate(kinds))
        _DONE[key] = (done.cycles, done.act, done.ref)
    return MemoryUse(*_DONE[key], read, write)
