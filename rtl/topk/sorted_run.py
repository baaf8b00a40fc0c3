"""One of the two runs in front of the sorter's merger: its next values, one per lane."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel.units.topk import TopKUnit
from accel.units.topk.sorter import run_depth

__all__ = ["SortedRun"]


class SortedRun(wiring.Component):
    """Sorted runs that lie one behind the other in a memory, offered value by value in each lane.

    A run is consumed in order: lanes take turns, so their places differ by a word at most. The head of a lane comes
    from the word that is being consumed or, if the lane has given that one away, from the word behind. ``following``
    is the word behind that, the memory's output the next one: in one cycle some lanes may end a word and others begin
    the one after the next.

    Parameters
    ----------
    unit : TopKUnit.

    Members
    -------
    restart : In(1). Reading begins at the memory's first word, in the next cycle.
    prime : In(1). Moves words forward; after three such cycles the heads are those of the first word.
    take : In(lanes). Lanes whose head is consumed. Not while prime.
    length : In(size). Words of the run that begins; load : In(1). It begins in the next cycle.
    heads : Out(array of value_bits), has : Out(lanes). Registers; has is decoded from them: the head is of this run.
    read_enable, read_address : Out; read_data : In. The memory, one cycle of latency.

    What is behind a run is the next one, so nothing is lost between two.
    """

    def __init__(self, unit: TopKUnit):
        self.unit = unit
        super().__init__(
            {
                "restart": In(1),
                "prime": In(1),
                "take": In(unit.lanes),
                "load": In(1),
                "length": In(range(unit.max_words + 1)),
                "heads": Out(data.ArrayLayout(unit.value_bits, unit.lanes)),
                "has": Out(unit.lanes),
                "read_enable": Out(1),
                "read_address": Out(range(run_depth(unit))),
                "read_data": In(data.ArrayLayout(unit.value_bits, unit.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, last = self.unit.lanes, self.take[self.unit.lanes - 1]
        following = Signal.like(self.read_data)
        ahead = Signal(lanes)  # lanes whose head is of the word behind the one that is being consumed
        left = Signal.like(self.length)  # words of the run from the one that is being consumed
        step = Signal()
        m.d.comb += [step.eq(self.prime | last), self.read_enable.eq(step)]
        with m.If(step):
            m.d.sync += [following.eq(self.read_data), self.read_address.eq(self.read_address + 1)]
        with m.If(self.restart):
            m.d.sync += self.read_address.eq(0)
        for lane in range(lanes):
            m.d.comb += self.has[lane].eq(Mux(ahead[lane], left > 1, left != 0))
            with m.If(self.prime | self.take[lane]):
                m.d.sync += self.heads[lane].eq(
                    Mux(ahead[lane] & ~self.prime, self.read_data[lane], following[lane]),
                )
        # The last lane ends the word.
        with m.If(last):
            m.d.sync += [ahead.eq(ahead & self.take), left.eq(left - 1)]
        with m.Else():
            m.d.sync += ahead.eq(ahead | self.take)
        with m.If(self.prime):
            m.d.sync += ahead.eq(0)
        with m.If(self.load):
            m.d.sync += left.eq(self.length)
        return m
