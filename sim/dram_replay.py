"""Replay of an address trace against a whole memory, for tests, benchmarks and quick questions.

All requests are there at tick 0. Each channel has an unlimited FIFO in trace order and offers up to `offers_per_tick`
requests per tick while the controller takes them; channels do not wait for each other.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from accel.errors import UserError
from accel.memory import MemorySpec
from sim.dram import can_accept, can_accept_write, enqueue, next_event, tick
from sim.dram_state import COUNTERS, FAR, NONE, RD, READ, WRITE, DramState, flat_bank, map_address, new_dram


class ReplayResult(NamedTuple):
    """What a replay took; counts are sums over the channels. `cycles` is the tick in which the last data beat ends."""

    cycles: int
    act: int
    pre: int
    rd: int
    wr: int
    ref: int
    row_hit: int
    row_miss: int
    row_conflict: int
    data_busy_ticks: int
    channel_cycles: np.ndarray  # [channels], 0 for a channel without requests
    commands: np.ndarray  # [commands, 5] tick, channel, command, bank, row; empty unless asked for


def replay(
    spec: MemorySpec,
    addresses: np.ndarray,
    offers_per_tick: int = 2,
    is_write: np.ndarray | None = None,
    refresh: bool = True,
    skip_idle: bool = True,
    log_capacity: int = 0,
) -> ReplayResult:
    """Run byte addresses (int64 array, in program order) through the memory.

    `is_write` marks writes (default: reads only); `refresh=False` never refreshes; `skip_idle=False` ticks every clock,
    with the same result; `log_capacity` keeps the first so many commands. Raises UserError.
    """
    addresses = np.ascontiguousarray(addresses, dtype=np.int64)
    if addresses.ndim != 1 or (addresses.size and addresses.min() < 0):
        raise UserError("DRAM replay: addresses have to be a 1-D array of non-negative byte addresses")
    if offers_per_tick < 1:
        raise UserError(f"DRAM replay: offers_per_tick is {offers_per_tick}, has to be at least 1")
    kinds = np.zeros(addresses.size, dtype=np.int64) if is_write is None else np.asarray(is_write, dtype=np.int64)
    if kinds.shape != addresses.shape:
        raise UserError(f"DRAM replay: is_write has shape {kinds.shape}, addresses {addresses.shape}")
    state = new_dram(spec)
    if not refresh:
        state.channel["next_refresh"] = FAR
    log = np.zeros((log_capacity, 5), dtype=np.int64)
    channel_cycles, logged = _replay(state, addresses, kinds, offers_per_tick, skip_idle, log)
    counts = {name: int(state.channel[name].sum()) for name in COUNTERS}
    cycles = int(channel_cycles.max(initial=0))
    return ReplayResult(cycles=cycles, channel_cycles=channel_cycles, commands=log[:logged], **counts)


@njit(cache=True)
def _replay(
    state: DramState, addresses: np.ndarray, kinds: np.ndarray, offers_per_tick: int, skip_idle: bool, log: np.ndarray
) -> tuple[np.ndarray, int]:
    """(last data tick per channel, commands logged). Channels are independent: one runs to its end after the other."""
    channels = state.channel.size
    size = addresses.size
    start = np.zeros(channels + 1, np.int64)
    where = np.empty((size, 3), np.int64)
    for i in range(size):
        channel, pseudo, group, bank, row, _ = map_address(state, addresses[i])
        where[i, 0], where[i, 1], where[i, 2] = channel, flat_bank(state, pseudo, group, bank), row
        start[channel + 1] += 1
    start[:] = np.cumsum(start)
    place = start.copy()
    order = np.empty(size, np.int64)
    for i in range(size):
        order[place[where[i, 0]]] = i
        place[where[i, 0]] += 1

    last = np.zeros(channels, np.int64)
    logged = 0
    for channel in range(channels):
        mine = order[start[channel] : start[channel + 1]]
        last[channel], logged = _replay_channel(
            state, channel, where, kinds, mine, offers_per_tick, skip_idle, log, logged
        )
    return last, logged


@njit(cache=True)
def _replay_channel(
    state: DramState,
    channel: int,
    where: np.ndarray,
    kinds: np.ndarray,
    order: np.ndarray,
    offers_per_tick: int,
    skip_idle: bool,
    log: np.ndarray,
    logged: int,
) -> tuple[int, int]:
    """Run one channel until the data of all its requests has moved; returns (that tick, commands logged)."""
    c = state.channel[channel]
    total = order.size
    offered = 0
    now = last = c.last_tick + 1
    while c.rd + c.wr < total:
        offers = 0
        while offers < offers_per_tick and offered < total and _has_room(state, channel, kinds[order[offered]]):
            i = order[offered]
            enqueue(state, channel, where[i, 1], where[i, 2], kinds[i], now)
            offered += 1
            offers += 1
        tick(state, channel, now)
        if c.column_command != NONE:
            last = max(last, now + c.column_to_data_end[READ if c.column_command == RD else WRITE])
            if logged < log.shape[0]:
                log[logged] = now, channel, c.column_command, c.column_bank, c.column_row
                logged += 1
        if c.row_command != NONE and logged < log.shape[0]:
            log[logged] = now, channel, c.row_command, c.row_bank, c.row_row
            logged += 1
        now += 1
        if skip_idle and (offered == total or not _has_room(state, channel, kinds[order[offered]])):
            now = next_event(state, channel, now)
    return last, logged


@njit(cache=True)
def _has_room(state: DramState, channel: int, kind: int) -> bool:
    return can_accept(state, channel) if kind == READ else can_accept_write(state, channel)
