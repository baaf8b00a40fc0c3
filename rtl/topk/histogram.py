"""Histogram top-k engine: digits are counted, from the top, and the bin of the k-th value is found."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.topk import TopKUnit
from accel.units.topk.histogram import DIGIT_BITS, GROUP_BITS, PASS_OVERHEAD_CYCLES, WALK_CYCLES, digits
from rtl.topk.banked import BankedTopK, taken_layout
from rtl.topk.digit_counter import BINS, DigitCounter
from rtl.topk.row_filter import result_layout
from rtl.topk.selector import lanes_below
from rtl.zero_eliminator import count_ones

__all__ = ["HistogramSelector", "TopK"]

GROUPS = BINS >> GROUP_BITS
assert (WALK_CYCLES, PASS_OVERHEAD_CYCLES) == (3, 1)


class HistogramSelector(wiring.Component):
    """Finds the k-th value of the row in its source bank, digit by digit.

    The first digit of each value is counted while the row is taken in. When the row is selected from, a walk finds the
    bin in which the k-th value lies: sums of groups of bins (cycle 0), the group (1), the bin (2). A pass for each
    further digit then reads the row, the first word in the walk's last cycle, and counts the values that have all
    digits found so far. The counts of the row behind begin, at the earliest, in the cycle after the first walk has read
    this row's: that row's command needs the source bank of the row before this one.

    Parameters
    ----------
    unit : TopKUnit.

    Members
    -------
    i, o, source_enable, source_address, source_data, taken : see :class:`rtl.topk.banked.BankedTopK`.

    Latency: ``accel.units.topk.histogram.select_cycles``; one row at a time. Under back-pressure on o it waits with the
    result.
    """

    def __init__(self, unit: TopKUnit):
        self.unit = unit
        size = unit.size_bits
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"n": size, "k": size}))),
                "o": Out(stream.Signature(result_layout(unit))),
                "source_enable": Out(1),
                "source_address": Out(range(unit.max_words)),
                "source_data": In(unit.lanes * unit.value_bits),
                "taken": In(stream.Signature(taken_layout(unit), always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, lanes, row, result = self.unit, self.unit.lanes, self.i.payload, self.o.payload
        passes = digits(unit) - 1
        # Values to whole digits: the lowest one is filled up with zeros.
        below = digits(unit) * DIGIT_BITS - unit.value_bits
        prefix = data.ArrayLayout(DIGIT_BITS, digits(unit))  # the lowest digit first

        m.submodules.arriving = arriving = DigitCounter(unit)
        taken, first_digits = self.taken.payload, arriving.i.payload
        m.d.comb += [
            arriving.i.valid.eq(self.taken.valid),
            first_digits.member.eq(taken.inside),
            first_digits.first.eq(taken.first),
            *(
                first_digits.digits[lane].eq(Cat(Const(0, below), taken.values[lane])[passes * DIGIT_BITS :])
                for lane in range(lanes)
            ),
        ]

        # Digits of the k-th value: ``digit`` is the one that is looked for, those above it have been found.
        found, digit = Signal(prefix), Signal(range(passes + 1))
        counts: list[Value] = list(arriving.counts)
        reading, address, remaining = Signal(), Signal(range(unit.max_words)), Signal(unit.size_bits)
        if passes:
            passing = self._count_members(m, reading, address, remaining, found, digit, below)
            counts = [Mux(digit == passes, a, b) for a, b in zip(arriving.counts, passing.counts, strict=True)]
        m.d.comb += [self.source_enable.eq(reading), self.source_address.eq(address)]

        # The walk. ``target``: values still to be kept, of those with all digits found so far.
        target = Signal(unit.size_bits)
        sums = [Signal(unit.size_bits, name=f"group_{g}") for g in range(GROUPS)]
        bins = [Signal(unit.size_bits, name=f"bin_{b}") for b in range(1 << GROUP_BITS)]
        group = Signal(range(GROUPS))
        groups = [counts[g << GROUP_BITS : (g + 1) << GROUP_BITS] for g in range(GROUPS)]
        in_group, group_target = _walk(m, "group", sums, target)
        in_bins, bin_target = _walk(m, "bin", bins, target)
        of_group = [Array(of[b] for of in groups)[in_group] for b in range(1 << GROUP_BITS)]

        with m.FSM(name="select"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    target.eq(row.k),
                    digit.eq(passes),
                    result.n.eq(row.n),
                    result.kept.eq(row.k),
                    result.threshold.eq(0),
                ]
                with m.If(self.i.valid):
                    with m.If(row.k >= row.n):
                        m.d.sync += [result.n_equal.eq(row.n), result.kept.eq(row.n)]
                        m.next = "HANDOFF"
                    with m.Elif(row.k == 0):
                        m.d.sync += [result.threshold.eq(unit.max_value), result.n_equal.eq(0)]
                        m.next = "HANDOFF"
                    with m.Else():
                        m.next = "SUM"
            with m.State("SUM"):
                # A balanced tree of adders, whatever is added.
                m.d.sync += [total.eq(count_ones(of)) for total, of in zip(sums, groups, strict=True)]
                m.next = "GROUP"
            with m.State("GROUP"):
                m.d.sync += [
                    group.eq(in_group),
                    target.eq(group_target),
                    *(count.eq(of) for count, of in zip(bins, of_group, strict=True)),
                    remaining.eq(result.n),
                    address.eq(0),
                ]
                m.next = "BIN"
            with m.State("BIN"):
                m.d.sync += [target.eq(bin_target), found[digit].eq(Cat(in_bins, group)), digit.eq(digit - 1)]
                with m.If(digit == 0):
                    m.d.sync += [
                        result.threshold.eq(Cat(in_bins, group, found.as_value()[DIGIT_BITS:])[below:]),
                        result.n_equal.eq(bin_target),
                    ]
                    m.next = "HANDOFF"
                if passes:
                    with m.Else():
                        m.d.comb += reading.eq(1)
                        m.next = "DRAIN"
                        with m.If(result.n > lanes):
                            m.next = "PASS"
            if passes:
                with m.State("PASS"):
                    m.d.comb += reading.eq(1)
                    with m.If(remaining <= lanes):
                        m.next = "DRAIN"
                with m.State("DRAIN"):
                    m.next = "COUNTED"
                with m.State("COUNTED"):
                    m.next = "SUM"
            with m.State("HANDOFF"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        if passes:
            with m.If(reading):
                m.d.sync += [address.eq(address + 1), remaining.eq(remaining - lanes)]
        return m

    def _count_members(
        self, m: Module, reading: Value, address: Value, remaining: Value, found: data.View, digit: Value, below: int
    ) -> DigitCounter:
        """Counts, of the words read from the source bank, the values that have all digits found so far."""
        unit, lanes = self.unit, self.unit.lanes
        m.submodules.passing = passing = DigitCounter(unit)
        word = passing.i.payload
        inside = Signal(lanes)
        m.d.sync += [
            passing.i.valid.eq(reading),
            inside.eq(Cat(lanes_below(remaining, lanes))),
            word.first.eq(address == 0),
        ]
        for lane in range(lanes):
            value = Signal.like(found, name=f"value_{lane}")
            same = Cat((value[place] == found[place]) | (digit >= place) for place in range(1, digits(unit)))
            m.d.comb += [
                value.eq(Cat(Const(0, below), self.source_data.word_select(lane, unit.value_bits))),
                word.digits[lane].eq(value[digit]),
                word.member[lane].eq(inside[lane] & same.all()),
            ]
        return passing


def _walk(m: Module, name: str, counts: list[Signal], target: Value) -> tuple[Value, Value]:
    """The highest place that has, with all places above, ``target`` or more; and the target less those above."""
    through: list[Value] = list(counts)  # at each place: it and all places above, by doubling the reach
    reach = 1
    while reach < len(counts):
        sums: list[Value] = []
        for at, count in enumerate(through):
            total = Signal(len(counts[0]), name=f"{name}_through_{reach}_{at}")
            m.d.comb += total.eq(count + through[at + reach] if at + reach < len(counts) else count)
            sums.append(total)
        through, reach = sums, 2 * reach
    place, above = Signal(range(len(counts)), name=f"{name}_place"), Signal.like(target, name=f"{name}_above")
    m.d.comb += above.eq(through[1])
    for at in range(1, len(counts)):  # upwards: the highest place has the last word
        with m.If(through[at] >= target):
            m.d.comb += [place.eq(at), above.eq(through[at + 1] if at + 1 < len(counts) else 0)]
    return place, target - above


class TopK(BankedTopK):
    """Counts digits: :class:`HistogramSelector`. Simulator: ``sim.topk.histogram``."""

    selector = HistogramSelector
