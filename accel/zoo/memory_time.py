"""What the memory takes for a phase's streams: the command-level DRAM simulator on its access stream.

Streams are read and written in order, each from a region of its own, in turns in proportion to their sizes. A phase of
more than `STRETCH_REFRESHES` refresh intervals is represented by stretches of that length and of half of it; the
difference gives the rate at which the rest goes on.
"""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.lower.zoo import Stream
from accel.memory import MemorySpec
from sim.dram_replay import ReplayResult, replay

STRETCH_REFRESHES = 4
TURN_ATOMS = 32
"""Accesses of a stream in one turn: a kilobyte of HBM2."""
REGION_BYTES = 1 << 32
SHARES = 64
"""Shares of the streams in a stretch are rounded to this many parts."""


class MemoryTime(NamedTuple):
    """``cycles`` of the engine; commands and whole accesses; ``stretch``: whether a stretch stands for the whole."""

    cycles: float
    activations: float
    refreshes: float
    read_bytes: int
    write_bytes: int
    stretch: bool


def memory_time(arch: Arch, streams: Iterable[Stream]) -> MemoryTime:
    """Time and commands of one repeat of a phase that moves these streams."""
    spec = arch.memory_spec
    sizes = [(stream.read + stream.read_again, False) for stream in streams]
    sizes += [(stream.write + stream.write_again, True) for stream in streams]
    atoms = [(-(-size // spec.access_bytes), write) for size, write in sizes if size]
    total = sum(count for count, _ in atoms)
    if not total:
        return MemoryTime(0.0, 0.0, 0.0, 0, 0, False)
    read = sum(count for count, write in atoms if not write) * spec.access_bytes
    write = sum(count for count, write in atoms if write) * spec.access_bytes
    longest = _stretch_atoms(spec)
    if total <= longest:
        once = _whole(arch, tuple(atoms))
        return MemoryTime(_engine_cycles(arch, once.cycles), once.act, once.ref, read, write, False)
    shares = tuple((max(1, round(SHARES * count / total)), write) for count, write in atoms)
    full, half = (_stretch(arch, tuple(sorted(shares)), part) for part in (longest, longest // 2))
    rest = (total - full[0]) / (full[0] - half[0])

    def on(a: float, b: float) -> float:
        return a + rest * (a - b)

    ticks = on(full[1].cycles, half[1].cycles)
    refreshes = ticks / spec.REFI * spec.channels * spec.pseudo_channels
    return MemoryTime(_engine_cycles(arch, ticks), on(full[1].act, half[1].act), refreshes, read, write, True)


def _engine_cycles(arch: Arch, ticks: float) -> float:
    return ticks * arch.memory_spec.tCK_ps * arch.clock_MHz / 1e6


def _stretch_atoms(spec: MemorySpec) -> int:
    per_tick = spec.channels * spec.pseudo_channels / spec.burst_cycles
    return math.ceil(STRETCH_REFRESHES * spec.REFI * per_tick)


@functools.lru_cache(4096)
def _whole(arch: Arch, atoms: tuple[tuple[int, bool], ...]) -> ReplayResult:
    addresses, writes = _interleaved(arch.memory_spec, atoms)
    return replay(arch.memory_spec, addresses, is_write=writes)


@functools.lru_cache(4096)
def _stretch(arch: Arch, shares: tuple[tuple[int, bool], ...], atoms: int) -> tuple[int, ReplayResult]:
    whole = sum(share for share, _ in shares)
    cut = tuple((max(1, atoms * share // whole), write) for share, write in shares)
    return sum(count for count, _ in cut), _whole(arch, cut)


def _interleaved(spec: MemorySpec, atoms: tuple[tuple[int, bool], ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Addresses in the order of the access stream, and which are writes."""
    place, address, kind = [], [], []
    for region, (count, write) in enumerate(atoms):
        index = np.arange(count)
        turns = -(-count // TURN_ATOMS)
        place.append((index // TURN_ATOMS + 0.5) / turns)
        address.append(region * REGION_BYTES + index * spec.access_bytes)
        kind.append(np.full(count, int(write)))
    order = np.argsort(np.concatenate(place), kind="stable")
    return np.concatenate(address)[order], np.concatenate(kind)[order]
