"""Full sorter as a top-k engine: words are sorted, runs merged pass by pass, and the k-th value read off."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.topk import TopKUnit
from accel.units.topk.sorter import PRIME_CYCLES, RANK_CYCLES, merge_cycles, run_depth, sort_cycles
from rtl.sram import Sram
from rtl.topk.banked import BankedTopK
from rtl.topk.row_filter import result_layout
from rtl.topk.selector import lanes_below
from rtl.topk.sorted_run import SortedRun
from rtl.topk.sorting_network import half_cleaners, network, odd_even_merge_sort
from rtl.zero_eliminator import count_ones

__all__ = ["SortingSelector", "TopK"]

assert PRIME_CYCLES == RANK_CYCLES == 3


class SortingSelector(wiring.Component):
    """Finds the k-th value of the row in its source bank by sorting the row, largest value first.

    Words of the row pass Batcher's odd-even merge sort and become runs of one word, those of even number in one memory,
    of odd number in another. A pass merges the runs pair by pair into a second pair of memories, one word per cycle;
    pairs follow each other without a gap, and the next pass goes back. Lane by lane the head of one run meets
    that of the other, lanes of the other in reverse order: what is larger goes on and makes room in its run. The word
    of these is a rotated bitonic sequence and the largest that are left; half cleaners sort it.

    The pass that leaves one run is not written. Each word is looked at for where the run of values equal to its last
    one began; in the word with the k-th value, which ends the pass, to that.

    Parameters
    ----------
    unit : TopKUnit.

    Members
    -------
    i, o, source_enable, source_address, source_data : see :class:`rtl.topk.banked.BankedTopK`.

    Lanes behind the end of the row count as zeros: behind all values, or equal to the smallest of them, so they change
    neither the k-th value nor what is larger.

    Latency: ``accel.units.topk.sorter.select_cycles``; one row at a time. Under back-pressure on o it waits with the
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
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, lanes, row, result = self.unit, self.unit.lanes, self.i.payload, self.o.payload
        count = range(unit.max_words + 1)
        words, to_kth = Signal(count), Signal(count)  # of the row; up to the k-th value
        run = Signal(count)  # words of a run; of two of them there may be more than words
        address, remaining, sorting = Signal(range(unit.max_words)), Signal(unit.size_bits), Signal()
        merging, final = Signal(), Signal()
        todo = Signal(count)  # words that the pass has still to read or to merge

        # What comes out of the sort or the merger, and goes to the memories that are not read.
        m.d.comb += [self.source_enable.eq(sorting), self.source_address.eq(address)]
        inside = Signal(lanes)
        m.d.sync += inside.eq(Cat(lanes_below(remaining, lanes)))
        values = [Mux(inside[lane], self.source_data.word_select(lane, unit.value_bits), 0) for lane in range(lanes)]
        sorted_word = network(m, "sort", values, odd_even_merge_sort(lanes))
        sort_write = _later(m, "sort", Cat(sorting, todo == 1, address[0]), sort_cycles(unit))

        runs, pair_left, pair = [SortedRun(unit), SortedRun(unit)], Signal(count), Signal()
        m.submodules.even_run, m.submodules.odd_run = even, odd = runs
        prime, restart, load = Signal(), Signal(), Signal()
        merged_word = self._merge(m, even, odd, merging)
        merge_write = _later(m, "merge", Cat(merging, todo == 1, pair), merge_cycles(unit))

        written, last_written, to_odd = Signal(), Signal(), Signal()
        word = [Signal(unit.value_bits, name=f"written_{lane}") for lane in range(lanes)]
        from_sort = Signal()
        m.d.comb += Cat(written, last_written, to_odd).eq(Mux(from_sort, sort_write, merge_write))
        m.d.comb += [w.eq(Mux(from_sort, s, t)) for w, s, t in zip(word, sorted_word, merged_word, strict=True)]
        to_second = Signal()  # which of the pairs of memories is written
        self._memories(m, runs, word, written & ~final, to_odd, to_second, restart)

        # Pairs of runs: both full, or the last ones, of which one may be shorter or missing.
        rest, even_length, odd_length = Signal(count), Signal(count), Signal(count)
        m.d.comb += [
            rest.eq(Mux(prime, todo, todo - 1)),
            even_length.eq(Mux(rest > run, run, rest)),
            odd_length.eq(Mux(rest > even_length + run, run, rest - even_length)),
            load.eq(prime | (merging & (pair_left == 1))),
        ]
        for of, length in zip(runs, (even_length, odd_length), strict=True):
            m.d.comb += [of.prime.eq(prime), of.restart.eq(restart), of.load.eq(load), of.length.eq(length)]
        with m.If(load):
            m.d.sync += [pair_left.eq(even_length + odd_length), pair.eq(~pair & ~prime)]
        with m.Elif(merging):
            m.d.sync += pair_left.eq(pair_left - 1)

        ranked = self._rank(m, merged_word, merge_write[0] & final, merge_write[1])
        primed = Signal(range(PRIME_CYCLES))
        with m.FSM(name="select"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    result.n.eq(row.n),
                    result.kept.eq(row.k),
                    words.eq(_words(row.n, lanes)),
                    todo.eq(_words(row.n, lanes)),
                    to_kth.eq(_words(row.k, lanes)),
                    run.eq(1),
                    remaining.eq(row.n),
                    address.eq(0),
                    from_sort.eq(1),
                    final.eq(0),
                ]
                with m.If(self.i.valid):
                    m.d.comb += restart.eq(1)
                    with m.If(row.k >= row.n):
                        m.d.sync += [result.threshold.eq(0), result.n_equal.eq(row.n), result.kept.eq(row.n)]
                        m.next = "HANDOFF"
                    with m.Elif(row.k == 0):
                        m.d.sync += [result.threshold.eq(unit.max_value), result.n_equal.eq(0)]
                        m.next = "HANDOFF"
                    with m.Else():
                        m.next = "SORT"
            with m.State("SORT"):
                m.d.comb += sorting.eq(1)
                m.d.sync += [address.eq(address + 1), remaining.eq(remaining - lanes), todo.eq(todo - 1)]
                with m.If(todo == 1):
                    m.next = "WRITE"
            with m.State("WRITE"), m.If(written & last_written):
                m.d.comb += restart.eq(1)
                m.d.sync += [
                    from_sort.eq(0),
                    to_second.eq(~to_second),
                    todo.eq(words),
                    final.eq(run + run >= words),
                    primed.eq(0),
                ]
                m.next = "PRIME"
            with m.State("PRIME"):
                m.d.comb += prime.eq(1)
                m.d.sync += primed.eq(primed + 1)
                with m.If(primed == PRIME_CYCLES - 1):
                    m.next = "MERGE"
                    with m.If(final):
                        m.d.sync += todo.eq(to_kth)
            with m.State("MERGE"):
                m.d.comb += merging.eq(1)
                m.d.sync += todo.eq(todo - 1)
                with m.If(todo == 1):
                    m.d.sync += run.eq(run + run)
                    m.next = "WRITE"
                    with m.If(final):
                        m.next = "RANK"
            with m.State("RANK"), m.If(ranked):
                m.next = "HANDOFF"
            with m.State("HANDOFF"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m

    def _merge(self, m: Module, even: SortedRun, odd: SortedRun, merging: Value) -> list[Value]:
        """Takes from the two runs; the sorted words, ``merge_cycles`` later."""
        unit, lanes = self.unit, self.unit.lanes
        chosen = []
        for lane in range(lanes):
            mirrored = lanes - 1 - lane
            from_even = Signal(name=f"from_even_{lane}")
            larger = Signal(unit.value_bits, name=f"larger_{lane}")
            m.d.comb += [
                from_even.eq(even.has[lane] & (~odd.has[mirrored] | (even.heads[lane] > odd.heads[mirrored]))),
                even.take[lane].eq(merging & from_even),
                odd.take[mirrored].eq(merging & ~from_even),
            ]
            m.d.sync += larger.eq(Mux(from_even, even.heads[lane], odd.heads[mirrored]))
            chosen.append(larger)
        return network(m, "merge", chosen, half_cleaners(lanes))

    def _memories(
        self, m: Module, runs: list[SortedRun], word: list[Value], written: Value, to_odd: Value, to_second: Value,
        restart: Value,
    ) -> None:  # fmt: skip
        """Two pairs, one for runs of even and one of odd number each: a pair is read while the other is written."""
        unit, depth = self.unit, run_depth(self.unit)
        for side, of in enumerate(runs):
            tail, write = Signal(range(depth), name=f"tail_{side}"), Signal(name=f"write_{side}")
            m.d.comb += write.eq(written & (to_odd == side))
            with m.If(write):
                m.d.sync += tail.eq(tail + 1)
            with m.If(restart):
                m.d.sync += tail.eq(0)
            read = []
            for pair in range(2):
                m.submodules[f"runs_{side}_{pair}"] = memory = Sram(unit.lanes * unit.value_bits, depth)
                m.d.comb += [
                    memory.write_enable.eq(write & (to_second == pair)),
                    memory.write_address.eq(tail),
                    memory.write_data.eq(Cat(word)),
                    memory.read_enable.eq(of.read_enable & (to_second != pair)),
                    memory.read_address.eq(of.read_address),
                ]
                read.append(memory.read_data)
            m.d.comb += of.read_data.eq(Mux(to_second, read[0], read[1]))

    def _rank(self, m: Module, word: list[Value], valid: Value, last: Value) -> Value:
        """Of the last pass's words, the k-th value and how many of its equals are kept, into the result; 1 in the cycle
        before it is there.

        The values larger than some value are those before its run. It begins in its word, or where the run of the last
        value of the word before began.
        """
        unit, lanes, result = self.unit, self.unit.lanes, self.o.payload
        widths = {"valid": 1, "last": 1, "values": data.ArrayLayout(unit.value_bits, lanes)}
        arrived, picked = Signal(data.StructLayout(widths)), Signal(data.StructLayout(widths))
        value, value_before = Signal(unit.value_bits), Signal(unit.value_bits)
        place = Signal(max(1, unit.lane_bits))  # of the k-th value in its word
        before, larger, start = (Signal(unit.size_bits, name=name) for name in ("before", "larger", "start"))
        start_before = Signal(unit.size_bits)
        m.d.comb += [
            place.eq((result.kept - 1)[: unit.lane_bits] if lanes > 1 else 0),
            larger.eq(count_ones([picked.values[lane] > value for lane in range(lanes)])),
            start.eq(
                Mux((larger == 0) & (value == value_before), start_before, before + larger),
            ),
        ]
        m.d.sync += [
            arrived.valid.eq(valid),
            arrived.last.eq(last),
            arrived.values.eq(Cat(word)),
            picked.eq(arrived),
            value.eq(arrived.values[Mux(arrived.last, place, lanes - 1)]),
        ]
        with m.If(self.i.ready):
            m.d.sync += [before.eq(0), start_before.eq(0)]
        with m.If(picked.valid):
            m.d.sync += [value_before.eq(value), start_before.eq(start), before.eq(before + lanes)]
            with m.If(picked.last):
                m.d.sync += [result.threshold.eq(value), result.n_equal.eq(result.kept - start)]
        return picked.valid & picked.last


def _words(values: Value, lanes: int) -> Value:
    """Words of so many values."""
    return (values + (lanes - 1)) >> (lanes - 1).bit_length()


def _later(m: Module, name: str, flags: Value, cycles: int) -> Value:
    """The flags so many cycles later."""
    for cycle in range(cycles):
        register = Signal(len(flags), name=f"{name}_flags_{cycle}")
        m.d.sync += register.eq(flags)
        flags = register
    return flags


class TopK(BankedTopK):
    """Sorts the row: :class:`SortingSelector`. Simulator: ``sim.topk.sorter``."""

    selector = SortingSelector
