"""Address and data crossbar between the fetch lanes and the memory channels.

Both arbiters rotate: in cycle t lane (channel) ``t mod n`` comes first, so none waits longer than n grants. A channel
takes one address per cycle and gives one access back per cycle, in the order in which it took them; a lane gives one
address and takes one access per cycle.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from sim.dram import can_accept, done_tick, enqueue, next_event
from sim.dram_state import READ, DramState


class Crossbar(NamedTuple):
    """Address FIFOs of the lanes (lanes, depth), and per channel the accesses under way in order (channels,
    outstanding).
    """

    channel: np.ndarray  # int32, where the address goes
    bank: np.ndarray
    row: np.ndarray
    pending: np.ndarray  # int32, index of the line that waits for it
    head: np.ndarray  # int32 per lane
    waiting: np.ndarray  # addresses in the FIFO
    sent_ticket: np.ndarray  # int64 per channel and slot
    sent_lane: np.ndarray
    sent_pending: np.ndarray
    sent_head: np.ndarray
    sent_count: np.ndarray
    wake: np.ndarray  # int64 per channel: memory tick at which it next has something to do
    busy: np.ndarray  # int64: [addresses waiting, accesses under way, cycles with a grant]
    claimed: np.ndarray  # int64 per lane or channel: last cycle in which it was granted
    pushed: np.ndarray  # int64 per lane: last cycle in which an address entered its FIFO


def new_crossbar(lanes: int, depth: int, channels: int, outstanding: int) -> Crossbar:
    """Empty FIFOs."""

    def table(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int32)

    return Crossbar(
        table(lanes, depth), table(lanes, depth), table(lanes, depth), table(lanes, depth), table(lanes), table(lanes),
        np.zeros((channels, outstanding), np.int64), table(channels, outstanding), table(channels, outstanding),
        table(channels), table(channels), np.zeros(channels, np.int64), np.zeros(3, np.int64),
        np.full(lanes + channels, -1, np.int64), np.full(lanes, -1, np.int64),
    )  # fmt: skip


@njit(cache=True)
def send_addresses(x: Crossbar, dram: DramState, t: int, tick: int) -> None:
    """One cycle of the lanes-to-channels crossbar: the oldest address of each lane asks for its channel."""
    lanes, depth = x.channel.shape
    outstanding = x.sent_ticket.shape[1]
    granted = False
    for i in range(lanes):
        lane = (i + t) & (lanes - 1)
        if x.waiting[lane] == 0 or (x.waiting[lane] == 1 and x.pushed[lane] == t):
            continue
        at = x.head[lane]
        channel = x.channel[lane, at]
        if x.claimed[lanes + channel] == t or x.sent_count[channel] == outstanding or not can_accept(dram, channel):
            continue
        x.claimed[lanes + channel] = t
        granted = True
        ticket = enqueue(dram, channel, x.bank[lane, at], x.row[lane, at], READ, tick)
        slot = x.sent_head[channel] + x.sent_count[channel]
        if slot >= outstanding:
            slot -= outstanding
        x.sent_ticket[channel, slot] = ticket
        x.sent_lane[channel, slot] = lane
        x.sent_pending[channel, slot] = x.pending[lane, at]
        x.sent_count[channel] += 1
        x.head[lane] = at + 1 if at + 1 < depth else 0
        x.waiting[lane] -= 1
        x.busy[0] -= 1
        x.busy[1] += 1
        x.wake[channel] = min(x.wake[channel], next_event(dram, channel, tick))
    if granted:
        x.busy[2] += 1


@njit(cache=True)
def return_data(
    x: Crossbar, dram: DramState, pending: np.ndarray, ready: np.ndarray, t: int, tick: int, return_cycles: int
) -> None:
    """One cycle of the channels-to-lanes crossbar: the oldest access of each channel, once its data is there."""
    channels, outstanding = x.sent_ticket.shape
    for i in range(channels):
        channel = (i + t) & (channels - 1)
        if x.sent_count[channel] == 0:
            continue
        at = x.sent_head[channel]
        done = done_tick(dram, channel, x.sent_ticket[channel, at])
        if done < 0 or done > tick:
            continue
        lane = x.sent_lane[channel, at]
        if x.claimed[lane] == t:
            continue
        x.claimed[lane] = t
        x.sent_head[channel] = at + 1 if at + 1 < outstanding else 0
        x.sent_count[channel] -= 1
        x.busy[1] -= 1
        line = x.sent_pending[channel, at]
        pending[line] -= 1
        if pending[line] == 0:
            ready[line] = t + return_cycles
