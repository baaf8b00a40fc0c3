"""The selecting half of the quick-select engine: partitions a row by random pivots until it knows the threshold."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.topk import LFSR_BITS, LFSR_SHIFTS, TopKUnit
from rtl.sram import Sram
from rtl.topk.packer import Packer
from rtl.zero_eliminator import ZeroEliminator, count_ones

__all__ = ["Selector", "lanes_below"]


def lanes_below(remaining: Signal, lanes: int) -> list:
    """Which lanes of a word are inside a row that still has ``remaining`` values, as one bit per lane."""
    return [remaining > lane for lane in range(lanes)]


class Selector(wiring.Component):
    """Finds the threshold of the row in its source bank.

    A round reads the current part one word per cycle (cycle 0 ..), compares it with the pivot (1), packs the smaller
    and the larger values (2, 3) and writes them to the front of two memories (3). The part being read may be one of
    those two: a packed write never passes the read. After the words come four cycles: the last compare, the decision,
    the pivot's index, the pivot's read. The packers' remainders are written in the last of these, so a pivot among
    them is taken from the packer instead.

    Parameters
    ----------
    unit : TopKUnit.

    Members
    -------
    i : In(stream of n, k). A row that lies in the source bank.
    o : Out(stream of threshold, n_equal, n, kept). Keep what is above the threshold and the first n_equal equal values,
        kept in all.
    source_enable, source_address : Out; source_data : In. Read port of the source bank, one cycle of latency.

    Latency: see ``sim.topk.quickselect``; one row at a time. Under back-pressure on o it waits with the result.
    """

    def __init__(self, unit: TopKUnit):
        self.unit = unit
        size = unit.size_bits
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"n": size, "k": size}))),
                "o": Out(
                    stream.Signature(
                        data.StructLayout({"threshold": unit.value_bits, "n_equal": size, "n": size, "kept": size})
                    )
                ),
                "source_enable": Out(1),
                "source_address": Out(range(unit.max_words)),
                "source_data": In(unit.lanes * unit.value_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, lanes, width = self.unit, self.unit.lanes, self.unit.value_bits

        size, target = Signal(unit.size_bits), Signal(unit.size_bits)
        from_source, from_larger = Signal(), Signal()
        pivot = Signal(width)
        pivot_index = Signal(unit.index_bits)
        pivot_lane, pivot_word = pivot_index[: unit.lane_bits], pivot_index[unit.lane_bits :]
        pivot_in_packer, first = Signal(), Signal()
        address, remaining = Signal(range(unit.max_words + 1)), Signal(unit.size_bits)
        reading, aiming, result = Signal(), Signal(), self.o.payload

        # Pivot generator, see LFSR_SHIFTS.
        lfsr = Signal(LFSR_BITS, init=unit.lfsr_seed)
        left, right, back = LFSR_SHIFTS
        step_1 = lfsr ^ (lfsr << left)[:LFSR_BITS]
        step_2 = step_1 ^ (step_1 >> right)
        next_lfsr = (step_2 ^ (step_2 << back)[:LFSR_BITS])[:LFSR_BITS]

        # One packed half of the partition each: eliminator, packer, memory.
        keep_smaller, keep_larger = Signal(lanes), Signal(lanes)
        compared = Signal()
        word = Signal(lanes * width)
        halves = []
        for name, keep in (("smaller", keep_smaller), ("larger", keep_larger)):
            eliminator, packer = ZeroEliminator(width, lanes), Packer(width, lanes)
            memory = Sram(lanes * width, unit.max_words)
            m.submodules[f"eliminate_{name}"], m.submodules[f"pack_{name}"] = eliminator, packer
            m.submodules[f"memory_{name}"] = memory
            tail = Signal(range(unit.max_words + 1), name=f"tail_{name}")
            full = Signal(name=f"full_{name}")
            m.d.comb += [
                eliminator.i_valid.eq(compared),
                eliminator.i_keep.eq(keep),
                eliminator.i_items.eq(word),
                packer.i_valid.eq(eliminator.o_valid),
                packer.i_count.eq(eliminator.o_count),
                packer.i_items.eq(eliminator.o_items),
                packer.clear.eq(aiming),
                full.eq(packer.i_valid & (packer.o_total >= lanes)),
                memory.write_address.eq(tail),
                memory.write_data.eq(packer.o_word),
                memory.write_enable.eq(full | (aiming & (packer.fill != 0))),
                memory.read_address.eq(Mux(aiming, pivot_word, address)),
                memory.read_enable.eq(reading | aiming),
            ]
            with m.If(full):
                m.d.sync += tail.eq(tail + 1)
            with m.If(aiming):
                m.d.sync += tail.eq(0)
            halves.append((packer, memory.read_data, tail))
        (smaller, smaller_word, smaller_tail), (larger, larger_word, larger_tail) = halves
        m.d.comb += [
            self.source_address.eq(Mux(aiming, pivot_word, address)),
            self.source_enable.eq(reading | aiming),
            word.eq(Mux(from_source, self.source_data, Mux(from_larger, larger_word, smaller_word))),
        ]

        # Compare the word read in the cycle before.
        inside = Signal(lanes)
        m.d.sync += [compared.eq(reading), inside.eq(Cat(lanes_below(remaining, lanes)))]
        m.d.comb += [
            keep_smaller.eq(Cat(inside[lane] & (word.word_select(lane, width) < pivot) for lane in range(lanes))),
            keep_larger.eq(Cat(inside[lane] & (word.word_select(lane, width) > pivot) for lane in range(lanes))),
        ]
        # Counts of larger, and of larger or equal: of the last word, registered, and of the words before it.
        counted = Signal()
        counts = []
        for name, bits in (("larger", keep_larger), ("through", inside & ~keep_smaller)):
            in_word = Signal(range(lanes + 1), name=f"{name}_in_word")
            before = Signal(unit.size_bits, name=f"{name}_before")
            now = Signal(unit.size_bits, name=f"{name}_now")
            m.d.sync += in_word.eq(count_ones(list(bits[:lanes])))
            m.d.comb += now.eq(before + in_word)
            with m.If(counted):
                m.d.sync += before.eq(now)
            with m.If(aiming):
                m.d.sync += before.eq(0)
            counts.append(now)
        n_larger, n_through = counts
        m.d.sync += counted.eq(compared)

        with m.FSM(name="select"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    size.eq(self.i.payload.n),
                    target.eq(self.i.payload.k),
                    from_source.eq(1),
                    result.n.eq(self.i.payload.n),
                    result.kept.eq(self.i.payload.k),
                ]
                with m.If(self.i.valid):
                    with m.If(self.i.payload.k >= self.i.payload.n):
                        m.d.sync += [
                            result.threshold.eq(0),
                            result.n_equal.eq(self.i.payload.n),
                            result.kept.eq(self.i.payload.n),
                        ]
                        m.next = "HANDOFF"
                    with m.Elif(self.i.payload.k == 0):
                        m.d.sync += [result.threshold.eq(unit.max_value), result.n_equal.eq(0)]
                        m.next = "HANDOFF"
                    with m.Else():
                        m.next = "AIM"
            with m.State("AIM"):
                m.d.sync += [pivot_index.eq((lfsr * size) >> LFSR_BITS), lfsr.eq(next_lfsr)]
                m.next = "PIVOT"
            with m.State("PIVOT"):
                m.d.comb += aiming.eq(1)
                m.d.sync += [
                    pivot_in_packer.eq(~from_source & (pivot_word == Mux(from_larger, larger_tail, smaller_tail))),
                    remaining.eq(size),
                    address.eq(0),
                    first.eq(1),
                ]
                m.next = "STREAM"
            with m.State("STREAM"):
                m.d.comb += reading.eq(1)
                m.d.sync += [first.eq(0), address.eq(address + 1), remaining.eq(remaining - lanes)]
                with m.If(first):
                    held = Mux(from_larger, larger.held.as_value(), smaller.held.as_value())
                    m.d.sync += pivot.eq(Mux(pivot_in_packer, held, word).word_select(pivot_lane, width))
                with m.If(remaining <= lanes):
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.next = "AIM"
                m.d.sync += from_source.eq(0)
                with m.If(n_larger > target):
                    m.d.sync += [from_larger.eq(1), size.eq(n_larger)]
                with m.Elif(n_through < target):
                    m.d.sync += [from_larger.eq(0), size.eq(size - n_through), target.eq(target - n_through)]
                with m.Else():
                    m.d.sync += [result.threshold.eq(pivot), result.n_equal.eq(target - n_larger)]
                    m.next = "HANDOFF"
            with m.State("HANDOFF"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m
