"""Address and data crossbar between the fetch lanes and the memory channels.

A lane takes one access and gives one address per cycle, a channel the other way round. Both sides look at the oldest
``window`` entries, not only at the oldest: first all first choices are arbitrated, then the second choices of those
who got nothing for what is still free, and so on. With a window of one, 32 lanes before 16 channels block each other
at their queues' heads down to three quarters of the bandwidth on the way out, and again on the way back.

Arbiters rotate: in cycle t lane (channel) ``t mod n`` comes first, so no one waits for ever. A channel gives accesses
back in the order in which it took them, one per cycle, as an AXI port with one ID does; the window is behind that port.
"""

from typing import NamedTuple

import numpy as np

from sim.dram import can_accept, done_tick, enqueue, next_event
from sim.dram_state import READ, DramState
from sim.timing import timing_kernel

SLICE = 2  # accesses in the register slice before a port


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
    sent_bank: np.ndarray
    sent_row: np.ndarray
    sent_lane: np.ndarray
    sent_pending: np.ndarray
    sent_head: np.ndarray
    sent_count: np.ndarray
    wake: np.ndarray  # int64 per channel: memory tick at which it next has something to do
    busy: np.ndarray  # int64: [addresses waiting, accesses under way, cycles with a grant, taken, given of the record]
    received: np.ndarray  # int32 per channel: accesses in the window behind the port
    offered: np.ndarray  # int32 per channel: accesses in the slice before the port, not yet taken
    claimed: np.ndarray  # int64 per lane, then per channel: last cycle in which it was given to somebody
    served: np.ndarray  # int64 per lane, then per channel: last cycle in which it got what it asked for
    pushed: np.ndarray  # int64 per lane: last cycle in which an address entered its FIFO


def new_crossbar(lanes: int, depth: int, channels: int, outstanding: int) -> Crossbar:
    """Empty FIFOs."""

    def table(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int32)

    def never(count: int) -> np.ndarray:
        return np.full(count, -1, np.int64)

    queued = [table(lanes, depth) for _ in range(4)] + [table(lanes), table(lanes)]
    sent = [np.zeros((channels, outstanding), np.int64)] + [table(channels, outstanding) for _ in range(4)]
    under_way = [table(channels), table(channels), np.zeros(channels, np.int64), np.zeros(5, np.int64)]
    ports = [table(channels), table(channels)]
    last = [never(lanes + channels), never(lanes + channels), never(lanes)]
    return Crossbar._make(queued + sent + under_way + ports + last)


@timing_kernel
def _wrapped(place: int, size: int) -> int:
    """A place in a ring, of one that is at most a turn further; a division takes longer than all else here."""
    return place - size if place >= size else place


@timing_kernel
def send_addresses(x: Crossbar, dram: DramState, t: int, tick: int, window: int, log: np.ndarray) -> None:
    """One cycle of the lanes-to-channels crossbar: each lane asks for the channels of its oldest addresses.

    A channel's port has a slice of two accesses before it, which decides by what it held at the start of the cycle.
    ``log``: dtype READ, of what the channels take; empty if nobody wants it.
    """
    lanes, depth = x.channel.shape
    channels, outstanding = x.sent_ticket.shape
    granted, free = False, channels
    for channel in range(channels):
        if x.offered[channel] == SLICE or x.sent_count[channel] == outstanding:
            x.claimed[lanes + channel] = t
            free -= 1
        if x.offered[channel] > 0 and can_accept(dram, channel):
            slot = _wrapped(x.sent_head[channel] + x.sent_count[channel] - x.offered[channel], outstanding)
            x.sent_ticket[channel, slot] = enqueue(
                dram, channel, x.sent_bank[channel, slot], x.sent_row[channel, slot], READ, tick
            )
            x.offered[channel] -= 1
            if x.busy[3] < log.shape[0]:
                entry = log[x.busy[3]]
                entry.cycle, entry.channel = t, channel
                entry.bank, entry.row = x.sent_bank[channel, slot], x.sent_row[channel, slot]
                x.busy[3] += 1
            x.wake[channel] = min(x.wake[channel], next_event(dram, channel, tick))
    if x.busy[0] == 0:
        free = 0
    for place in range(window):
        for i in range(lanes):
            if free == 0:
                break
            lane = (i + t) & (lanes - 1)
            if place >= x.waiting[lane] - (x.pushed[lane] == t) or x.served[lane] == t:
                continue
            at = _wrapped(x.head[lane] + place, depth)
            channel = x.channel[lane, at]
            if x.claimed[lanes + channel] == t:
                continue
            x.claimed[lanes + channel] = x.served[lane] = t
            granted = True
            free -= 1
            slot = _wrapped(x.sent_head[channel] + x.sent_count[channel], outstanding)
            x.sent_bank[channel, slot], x.sent_row[channel, slot] = x.bank[lane, at], x.row[lane, at]
            x.sent_lane[channel, slot] = lane
            x.sent_pending[channel, slot] = x.pending[lane, at]
            x.sent_count[channel] += 1
            x.offered[channel] += 1
            for back in range(place, 0, -1):  # older addresses close up
                to, source = _wrapped(x.head[lane] + back, depth), _wrapped(x.head[lane] + back - 1, depth)
                x.channel[lane, to], x.bank[lane, to] = x.channel[lane, source], x.bank[lane, source]
                x.row[lane, to], x.pending[lane, to] = x.row[lane, source], x.pending[lane, source]
            x.head[lane] = _wrapped(x.head[lane] + 1, depth)
            x.waiting[lane] -= 1
            x.busy[0] -= 1
            x.busy[1] += 1
    if granted:
        x.busy[2] += 1


@timing_kernel
def return_data(
    x: Crossbar, dram: DramState, pending: np.ndarray, ready: np.ndarray, t: int, tick: int, window: int, behind: int,
    log: np.ndarray,
) -> None:  # fmt: skip
    """One cycle of the channels-to-lanes crossbar; a line is ready ``behind`` cycles after its last access got through.

    An access that a channel's port receives in this cycle can ask for its lane in the next. ``log``: of these.
    """
    channels, outstanding = x.sent_ticket.shape
    lanes = x.waiting.shape[0]
    for place in range(window):
        for i in range(channels):
            channel = (i + t) & (channels - 1)
            if place >= x.received[channel] or x.served[lanes + channel] == t:
                continue
            at = _wrapped(x.sent_head[channel] + place, outstanding)
            lane = x.sent_lane[channel, at]
            if x.claimed[lane] == t:
                continue
            x.claimed[lane] = x.served[lanes + channel] = t
            line = x.sent_pending[channel, at]
            for back in range(place, 0, -1):
                to = _wrapped(x.sent_head[channel] + back, outstanding)
                source = _wrapped(x.sent_head[channel] + back - 1, outstanding)
                x.sent_lane[channel, to] = x.sent_lane[channel, source]
                x.sent_pending[channel, to] = x.sent_pending[channel, source]
            x.sent_head[channel] = _wrapped(x.sent_head[channel] + 1, outstanding)
            x.sent_count[channel] -= 1
            x.received[channel] -= 1
            x.busy[1] -= 1
            pending[line] -= 1
            if pending[line] == 0:
                ready[line] = t + behind
    for channel in range(channels):
        here = x.received[channel]
        if here < window and here < x.sent_count[channel] - x.offered[channel]:
            done = done_tick(dram, channel, x.sent_ticket[channel, _wrapped(x.sent_head[channel] + here, outstanding)])
            if 0 <= done <= tick:
                x.received[channel] = here + 1
                if x.busy[4] < log.shape[0]:
                    log[x.busy[4]].cycle, log[x.busy[4]].channel = t, channel
                    x.busy[4] += 1
