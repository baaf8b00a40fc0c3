"""Which lines, queries and LSB fetches have arrived completely, in order."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import EngineUnit
from rtl.job import sequence_bits
from rtl.shared import shared
from rtl.sram import Sram

__all__ = ["Arrivals", "entry_layout"]


def entry_layout(entries: int) -> data.StructLayout:
    """An access of entry ``index``: ring line, query slot or number of the LSB fetch."""
    return data.StructLayout({"index": range(max(2, entries))})


@shared
class _Counts(wiring.Component):
    """A running number of events for each entry, modulo 2^bits.

    Members
    -------
    event : In(stream of entry_layout, always ready). Counted from the next cycle on.
    position : In. The entry whose count is shown; ``next_position``: the one of the next cycle.
    count : Out, of the entry at position: all events before this cycle.
    clear, clear_index : In. Sets a count to 0, while no events come.

    Two copies of the counts, each with one read port: one is read by the events, a cycle before they are written back,
    the other by the walker, a cycle ahead of it. What was or is being written in that cycle is taken from registers.
    """

    def __init__(self, entries: int, bits: int):
        self.entries, self.bits = max(2, entries), bits
        super().__init__(
            {
                "event": In(stream.Signature(entry_layout(entries), always_ready=True)),
                "position": In(range(self.entries)),
                "next_position": In(range(self.entries)),
                "count": Out(bits),
                "clear": In(1),
                "clear_index": In(range(self.entries)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.own = own = Sram(self.bits, self.entries)
        m.submodules.shown = shown = Sram(self.bits, self.entries)
        counting, entry = Signal(), Signal(range(self.entries), reset_less=True)
        counted, written = Signal(self.bits), Signal(self.bits, reset_less=True)
        own_is_written, shown_is_written = Signal(), Signal()
        index = self.event.payload.index
        m.d.sync += [
            counting.eq(self.event.valid),
            entry.eq(index),
            written.eq(counted),
            own_is_written.eq(counting & (entry == index)),
            shown_is_written.eq(counting & (entry == self.next_position)),
        ]
        m.d.comb += [
            own.read_enable.eq(self.event.valid),
            own.read_address.eq(index),
            shown.read_enable.eq(1),
            shown.read_address.eq(self.next_position),
            counted.eq(Mux(own_is_written, written, own.read_data) + 1),
            self.count.eq(
                Mux(
                    counting & (entry == self.position),
                    counted,
                    Mux(shown_is_written, written, shown.read_data),
                )
            ),
        ]
        for copy in (own, shown):
            m.d.comb += [
                copy.write_enable.eq(counting | self.clear),
                copy.write_address.eq(Mux(self.clear, self.clear_index, entry)),
                copy.write_data.eq(Mux(self.clear, 0, counted)),
            ]
        return m


class Arrivals(wiring.Component):
    """Passes the entries of a ring, one per cycle and in order, once all their accesses have arrived.

    Parameters
    ----------
    unit : EngineUnit.
    entries : of the ring at its longest.
    lanes : that fetch into it.
    most : accesses of one lane and one entry that can be under way at a time (a key's, for lines). Counts have just the
        bits to hold it, so that equal always means that none is under way.

    Members
    -------
    generated : In(stream of entry_layout, always ready), one per lane: an address was generated. Counted from the next
        cycle on.
    arrived : In(stream of entry_layout, always ready), one per lane: its data are written into the memory in this
        cycle. Counted, and readable, from the next cycle on.
    limit : In. Running number of entries whose generation is complete; it may lag, and must not lead what is counted.
    ring : In, a level. Entries of the ring in use.
    restart : In, a pulse while nothing is under way: the next entry is at index 0. The running number goes on.
    passed : Out, a register. Running number of entries passed: at t entry number ``passed`` is complete, at t + 1 it is
        beyond it.
    ready : Out, a register. The counts have been cleared, ``entries`` cycles after reset; before, nothing may happen.

    Only memories with one write and one synchronous read port, so that they can be macros: four of ``entries`` counts
    per lane. Back-pressure: none. restart, limit and ring reach addresses of the memories within the cycle, no outputs.
    """

    def __init__(self, unit: EngineUnit, entries: int, lanes: int, most: int):
        self.entries, self.lanes, self.count_bits = max(2, entries), lanes, most.bit_length()
        accesses = In(stream.Signature(entry_layout(entries), always_ready=True))
        super().__init__(
            {
                "generated": accesses.array(lanes),
                "arrived": accesses.array(lanes),
                "limit": In(sequence_bits(unit)),
                "ring": In(range(self.entries + 1)),
                "restart": In(1),
                "passed": Out(sequence_bits(unit)),
                "ready": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        position, next_position = Signal(range(self.entries)), Signal(range(self.entries))
        cleared = Signal(range(self.entries))
        level, complete = Signal(self.lanes), Signal()
        with m.If(~self.ready):
            m.d.sync += [cleared.eq(cleared + 1), self.ready.eq(cleared == self.entries - 1)]

        for lane in range(self.lanes):
            counts = []
            for name, accesses in (("generated", self.generated), ("arrived", self.arrived)):
                m.submodules[f"{name}_{lane}"] = count = _Counts(self.entries, self.count_bits)
                m.d.comb += [
                    count.event.valid.eq(accesses[lane].valid),
                    count.event.payload.eq(accesses[lane].payload),
                    count.position.eq(position),
                    count.next_position.eq(next_position),
                    count.clear.eq(~self.ready),
                    count.clear_index.eq(cleared),
                ]
                counts.append(count.count)
            m.d.comb += level[lane].eq(counts[0] == counts[1])

        following = position + 1
        m.d.comb += [
            complete.eq(self.ready & (self.limit != self.passed) & level.all()),
            next_position.eq(Mux(complete, Mux(following == self.ring, 0, following), position)),
        ]
        with m.If(self.restart):
            m.d.comb += next_position.eq(0)
        m.d.sync += [position.eq(next_position), self.passed.eq(self.passed + complete)]
        return m
