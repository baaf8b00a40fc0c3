"""What answers the engine's memory ports, cycle by cycle: the simulator's DRAM, or anything at random.

A model is asked once per cycle t, with all that the ports took at t, and says what they offer at t + 1. It knows
times only; the bytes are in :class:`accel.lower.image.Memory`.

The order within a cycle is the simulator's (``sim/engine.py``): what the channels can accept is decided by the state
after cycle t - 1; the addresses taken at t are queued at tick(t), then the memory's clocks up to tick(t) pass, then the
writer's access of t is taken if its channel still has room, and queued.
"""

from collections import deque
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.arch import Arch
from accel.units.engine import PROGRAM_LATENCY_CYCLES
from sim.dram import can_accept, can_accept_write, done_tick, map_address, new_dram, next_event, push
from sim.dram import tick as dram_tick
from sim.dram_state import TICKET_RING, DramState
from sim.unroll import machine

NONE = -1


class MemoryModel(Protocol):
    """Attributes are valid from one call of :meth:`cycle` to the next.

    ready, done: one bit per channel: takes an address in the coming cycle; offers the data of the oldest read.
    """

    ready: int
    done: int

    def cycle(self, t: int, reads: dict[int, int], given: int, write_address: int) -> bool:
        """What happened in cycle ``t``: channel -> address of the reads taken, one bit per channel that gave its data,
        and the address that the writer offers, or -1. Returns whether the write is taken, still at t.
        """
        ...


@njit(cache=True)
def _cycle(
    dram: DramState, wake: np.ndarray, tickets: np.ndarray, first: np.ndarray, count: np.ndarray, reads: np.ndarray,
    given: int, write_address: int, t: int, ticks: int, ticks_per: int,
) -> tuple[int, int, bool]:  # fmt: skip
    """(ready, done, write taken) of :class:`DramModel`; ``reads`` is left empty."""
    channels = wake.shape[0]
    tick, next_tick = t * ticks // ticks_per, (t + 1) * ticks // ticks_per
    for channel in range(channels):
        if given >> channel & 1:
            first[channel] = (first[channel] + 1) % TICKET_RING
            count[channel] -= 1
        if reads[channel] != NONE:
            slot = (first[channel] + count[channel]) % TICKET_RING
            tickets[channel, slot] = push(dram, channel, reads[channel], False, tick)
            count[channel] += 1
            reads[channel] = NONE
            wake[channel] = min(wake[channel], next_event(dram, channel, tick))
    for channel in range(channels):
        while wake[channel] <= tick:
            at = wake[channel]
            dram_tick(dram, channel, at)
            wake[channel] = next_event(dram, channel, at + 1)
    taken = False
    if write_address != NONE:
        channel = map_address(dram, write_address)[0]
        if can_accept_write(dram, channel):
            taken = True
            push(dram, channel, write_address, True, tick)
            wake[channel] = min(wake[channel], next_event(dram, channel, tick))
    ready = done = 0
    for channel in range(channels):
        if can_accept(dram, channel):
            ready |= 1 << channel
        if count[channel]:
            end = done_tick(dram, channel, tickets[channel, first[channel]])
            if 0 <= end <= next_tick:
                done |= 1 << channel
    return ready, done, taken


class DramModel:
    """The DRAM of the simulator. A read is offered in the first cycle t with its ``done_tick`` <= tick(t)."""

    def __init__(self, arch: Arch) -> None:
        m = machine(arch)[0]
        self._ticks, self._ticks_per = int(m["ticks"]), int(m["ticks_per"])
        channels = arch.memory_spec.channels
        self.dram = new_dram(arch.memory_spec, channels)
        # ``done`` at t + 1 is decided before the clocks of t + 1: no command may bring its data within a cycle.
        assert int(self.dram.channel["column_to_data_end"].min()) >= -(-self._ticks // self._ticks_per)
        self._wake = np.zeros(channels, np.int64)
        self._tickets = np.zeros((channels, TICKET_RING), np.int64)
        self._first, self._count = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
        self._reads = np.full(channels, NONE, np.int64)
        self.ready, self.done = (1 << channels) - 1, 0

    def cycle(self, t: int, reads: dict[int, int], given: int, write_address: int) -> bool:
        for channel, address in reads.items():
            self._reads[channel] = address
        self.ready, self.done, taken = _cycle(
            self.dram, self._wake, self._tickets, self._first, self._count, self._reads, given, write_address, t,
            self._ticks, self._ticks_per,
        )  # fmt: skip
        return taken


class RandomModel:
    """Latencies that no memory has, to see that values do not depend on time: each port takes and gives with a
    probability of its own, which changes now and then, so that it is quick, slow or blocked for a while.
    """

    STRETCH_CYCLES = 64  # with the same probability, on average
    LEAST_LATENCY_CYCLES = 1  # from an address to its data: the least that AXI allows

    def __init__(self, arch: Arch, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._channels = arch.memory_spec.channels
        self._waiting: list[deque[int]] = [deque() for _ in range(self._channels)]  # earliest cycle of the data
        self._chance = self._chances()
        self.ready = self.done = 0
        self._offer(0)

    def _chances(self) -> NDArray[np.float64]:
        """Of each channel's taking, each channel's giving, and of a write."""
        return self._random.choice([0.03, 0.3, 0.8, 1.0], 2 * self._channels + 1)

    def _offer(self, t: int) -> None:
        """Decide for cycle ``t``. Data once offered stay until they are given, as AXI demands."""
        fresh = self._random.random(self._chance.size) < 1 / self.STRETCH_CYCLES
        self._chance = np.where(fresh, self._chances(), self._chance)
        yes = (self._random.random(self._chance.size) < self._chance).tolist()
        self._write = yes.pop()
        self.ready = 0
        for channel, waiting in enumerate(self._waiting):
            if yes[channel] and len(waiting) < TICKET_RING:
                self.ready |= 1 << channel
            if yes[self._channels + channel] and waiting and waiting[0] <= t:
                self.done |= 1 << channel

    def cycle(self, t: int, reads: dict[int, int], given: int, write_address: int) -> bool:
        for channel in reads:
            self._waiting[channel].append(t + self.LEAST_LATENCY_CYCLES)
        for channel, waiting in enumerate(self._waiting):
            if given >> channel & 1:
                waiting.popleft()
        self.done &= ~given
        taken = write_address != NONE and self._write
        self._offer(t + 1)
        return taken


class ProgramModel:
    """Answers the program port: always takes an address; beats of all bursts in order, at most one per cycle, the first
    one ``PROGRAM_LATENCY_CYCLES`` after its address was taken, or (``random``) after anything up to twice that.
    """

    def __init__(self, beat_bytes: int, random: np.random.Generator | None = None) -> None:
        self._beat_bytes, self._random = beat_bytes, random
        self._beats: deque[tuple[int, int, bool]] = deque()  # (earliest cycle, address, last of its burst)

    def take(self, t: int, address: int, beats: int) -> None:
        """A burst whose address was taken in cycle ``t``."""
        latency = PROGRAM_LATENCY_CYCLES
        if self._random is not None:
            latency = int(self._random.integers(1, 2 * PROGRAM_LATENCY_CYCLES))
        self._beats.extend((t + latency + i, address + i * self._beat_bytes, i == beats - 1) for i in range(beats))

    def offer(self, t: int) -> tuple[int, bool] | None:
        """(address, last) of the beat offered in cycle ``t``, if there is one; it stays until :meth:`give`."""
        if self._beats and self._beats[0][0] <= t:
            return self._beats[0][1:]
        return None

    def give(self) -> None:
        """The beat offered was taken."""
        self._beats.popleft()
