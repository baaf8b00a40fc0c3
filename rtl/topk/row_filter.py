"""The filtering half of a top-k engine: streams a row past its threshold, in original order."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.topk import TopKUnit
from rtl.topk.packer import Packer
from rtl.topk.selector import lanes_below
from rtl.zero_eliminator import ZeroEliminator, count_ones

__all__ = ["RowFilter", "marked_layout", "output_layout", "result_layout", "source_layout"]


def source_layout(unit: TopKUnit) -> data.Layout:
    """One input word, as it lies in a source bank: the values, which the selector reads, below any payloads."""
    values = data.ArrayLayout(unit.value_bits, unit.lanes)
    if not unit.payload_bits:
        return values
    return data.StructLayout({"values": values, "payloads": data.ArrayLayout(unit.payload_bits, unit.lanes)})


def output_layout(unit: TopKUnit) -> data.StructLayout:
    """One output word: the first ``count`` lanes hold kept values, their positions and any payloads; ``last`` ends the
    row.
    """
    payloads = {"payloads": data.ArrayLayout(unit.payload_bits, unit.lanes)} if unit.payload_bits else {}
    return data.StructLayout(
        {
            "values": data.ArrayLayout(unit.value_bits, unit.lanes),
            "positions": data.ArrayLayout(unit.index_bits, unit.lanes),
            **payloads,
            "count": range(unit.lanes + 1),
            "last": 1,
        }
    )


def marked_layout(unit: TopKUnit) -> data.StructLayout:
    """One source word before it is packed, lanes being consecutive positions of the row; ``keep``: the kept lanes."""
    return data.StructLayout(
        {
            "keep": unit.lanes,
            "values": data.ArrayLayout(unit.value_bits, unit.lanes),
            "payloads": data.ArrayLayout(unit.payload_bits, unit.lanes),
        }
    )


def result_layout(unit: TopKUnit) -> data.StructLayout:
    """A selector's answer: keep what is above ``threshold`` and the first ``n_equal`` equal values, ``kept`` in all of
    the row's n.
    """
    size = unit.size_bits
    return data.StructLayout({"threshold": unit.value_bits, "n_equal": size, "n": size, "kept": size})


class RowFilter(wiring.Component):
    """Emits the kept values of the row in its source bank with their positions, packed.

    Source words pass, one per cycle: memory read, compare and rank of the equal lanes, zero eliminator (2), packer,
    output register. All of these step together and freeze while an offered word is refused. Reading ends with the
    word that holds the last kept value.

    Parameters
    ----------
    unit : TopKUnit.

    Members
    -------
    i : In(stream of result_layout), from the selector.
    output : Out(stream of output_layout). valid and payload are registers; lanes from count on carry no meaning.
    marked : Out(stream of marked_layout, always ready), only with payloads. A source word in front of the zero
        eliminator, once; decoded from registers. Words behind the row's last kept value keep no lane.
    done : Out(1). The last word of a row is accepted in this cycle.
    active : Out(1). The read port is in use.
    source_enable, source_address : Out; source_data : In. Read port of the source bank, one cycle of latency.

    Latency: ``unit.filter_cycles`` from i to the word that source word 0 completes, of which ``unit.marked_cycles``
    from marked on; one row at a time.
    """

    def __init__(self, unit: TopKUnit):
        self.unit = unit
        marked = {"marked": Out(stream.Signature(marked_layout(unit), always_ready=True))} if unit.payload_bits else {}
        super().__init__(
            {
                "i": In(stream.Signature(result_layout(unit))),
                "output": Out(stream.Signature(output_layout(unit))),
                **marked,
                "done": Out(1),
                "active": Out(1),
                "source_enable": Out(1),
                "source_address": Out(range(unit.max_words)),
                "source_data": In(unit.lanes * (unit.value_bits + unit.payload_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, lanes, width, payload_bits = self.unit, self.unit.lanes, self.unit.value_bits, self.unit.payload_bits
        word_bits = unit.index_bits - unit.lane_bits
        out = self.output

        advance, clear = Signal(), Signal()
        reading = Signal()
        row = Signal.like(self.i.payload)
        remaining = Signal(unit.size_bits)
        word_number = [Signal(word_bits, name=f"word_number_{stage}") for stage in range(5)]
        m.d.comb += [
            advance.eq(~out.valid | out.ready),
            self.source_enable.eq(advance),
            self.source_address.eq(word_number[0]),
            self.done.eq(out.valid & out.ready & out.payload.last),
        ]

        # Compare, and rank each equal lane among the equal ones of its word.
        valid_1, valid_2 = Signal(), Signal()
        inside = Signal(lanes)
        values = [self.source_data.word_select(lane, width) for lane in range(lanes)]
        equal = Signal(lanes)
        items_2, larger_2, equal_2 = Signal(lanes * (width + payload_bits)), Signal(lanes), Signal(lanes)
        payloads_2 = items_2[lanes * width :]
        rank_2 = [Const(0, 1), *(Signal(lane.bit_length(), name=f"rank_{lane}") for lane in range(1, lanes))]
        n_equal_2 = Signal(range(lanes + 1))
        m.d.comb += equal.eq(Cat(inside[lane] & (values[lane] == row.threshold) for lane in range(lanes)))
        with m.If(advance):
            m.d.sync += [
                valid_1.eq(reading),
                inside.eq(Cat(lanes_below(remaining, lanes))),
                valid_2.eq(valid_1),
                items_2.eq(self.source_data),
                larger_2.eq(Cat(inside[lane] & (values[lane] > row.threshold) for lane in range(lanes))),
                equal_2.eq(equal),
                n_equal_2.eq(count_ones(list(equal))),
                *(rank_2[lane].eq(count_ones(list(equal[:lane]))) for lane in range(1, lanes)),
                *(after.eq(before) for before, after in pairwise(word_number)),
            ]

        # Keep the larger ones and the first equal ones of the row.
        equal_left, keep_2 = Signal(unit.size_bits), Signal(lanes)
        payload = {"payload": payload_bits} if payload_bits else {}
        placed = data.StructLayout({"value": width, **payload, "position": unit.index_bits})
        # Value, payload, lane: the lower part of ``placed``.
        m.submodules.eliminate = eliminate = ZeroEliminator(width + payload_bits + unit.lane_bits, lanes)
        m.d.comb += [
            eliminate.enable.eq(advance),
            eliminate.clear.eq(clear),
            keep_2.eq(Cat(larger_2[lane] | (equal_2[lane] & (rank_2[lane] < equal_left)) for lane in range(lanes))),
            eliminate.i_valid.eq(valid_2),
            eliminate.i_keep.eq(keep_2),
            *(
                eliminate.i_items[lane].eq(
                    Cat(
                        items_2.word_select(lane, width),
                        payloads_2[lane * payload_bits : (lane + 1) * payload_bits],
                        Const(lane, unit.lane_bits),
                    )
                )
                for lane in range(lanes)
            ),
        ]
        if payload_bits:
            m.d.comb += [
                self.marked.valid.eq(valid_2 & advance),
                self.marked.payload.eq(Cat(keep_2, items_2)),
            ]
        with m.If(advance & valid_2):
            m.d.sync += equal_left.eq(Mux(equal_left > n_equal_2, equal_left - n_equal_2, 0))

        # Pack; a word leaves when it is full or the row complete.
        m.submodules.pack = pack = Packer(placed, lanes)
        kept_before, kept_now = Signal(unit.size_bits), Signal(unit.size_bits)
        packing, complete, flushing = Signal(), Signal(), Signal()
        m.d.comb += [
            kept_now.eq(kept_before + eliminate.o_count),
            complete.eq(kept_now == row.kept),
            pack.i_valid.eq(packing),
            pack.i_count.eq(eliminate.o_count),
            *(pack.i_items[lane].eq(Cat(eliminate.o_items[lane], word_number[4])) for lane in range(lanes)),
        ]
        with m.If(packing):
            m.d.sync += kept_before.eq(kept_now)
        with m.If(advance):
            m.d.sync += [
                out.valid.eq((packing & ((pack.o_total >= lanes) | complete)) | flushing),
                out.payload.count.eq(Mux(pack.o_total >= lanes, lanes, pack.o_total)),
                out.payload.last.eq(flushing | (complete & (pack.o_total <= lanes))),
                *(out.payload.values[lane].eq(pack.o_word[lane].value) for lane in range(lanes)),
                *(out.payload.positions[lane].eq(pack.o_word[lane].position) for lane in range(lanes)),
            ]
            if payload_bits:
                m.d.sync += [out.payload.payloads[lane].eq(pack.o_word[lane].payload) for lane in range(lanes)]

        with m.FSM(name="filter"):
            with m.State("IDLE"):
                m.d.comb += [self.i.ready.eq(1), clear.eq(1)]
                m.d.sync += [
                    row.eq(self.i.payload),
                    remaining.eq(self.i.payload.n),
                    equal_left.eq(self.i.payload.n_equal),
                    word_number[0].eq(0),
                    kept_before.eq(0),
                ]
                with m.If(self.i.valid):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [self.active.eq(1), reading.eq(1), packing.eq(eliminate.o_valid & advance)]
                with m.If(advance):
                    m.d.sync += [
                        word_number[0].eq(word_number[0] + 1),
                        remaining.eq(Mux(remaining > lanes, remaining - lanes, 0)),
                    ]
                with m.If(packing & complete):
                    m.next = "LAST"
                    with m.If(pack.o_total > lanes):
                        m.next = "FLUSH"
            with m.State("FLUSH"):
                m.d.comb += flushing.eq(advance)
                with m.If(advance):
                    m.next = "LAST"
            with m.State("LAST"), m.If(self.done):
                m.next = "IDLE"
        # Words read beyond the last kept value are still in the pipe when a row ends: the eliminator drops those it
        # holds, and the one on its way to it, in the cycle or more that the filter is idle.
        m.d.comb += pack.clear.eq(clear)
        return m
