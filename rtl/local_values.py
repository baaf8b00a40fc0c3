"""Local values: weight lines to words of kept weights in the ring before the PV array, through the top-k or not."""

from dataclasses import replace

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import TOKEN_BITS, EngineUnit
from accel.units.pv import MIN_HEAD_DIM
from accel.units.softmax import WEIGHT_BITS
from accel.units.topk import TopKUnit
from rtl.columns import PLACE_CYCLES, ColumnPlacer, item_layout
from rtl.job import format_layout, sequence_bits, v_row_layout, weight_line_layout
from rtl.lane_list import LaneList
from rtl.pv_ports import columns_layout, ring_items_layout, ring_read_layout
from rtl.second_pass import (
    SELECTING_ROWS,
    log2_keys_per_line,
    log2_values_per_line,
    place_layout,
    select_layout,
)
from rtl.sram import Sram
from rtl.stream import Queue
from rtl.topk import component as top_k

__all__ = ["LocalValues", "kept_read_signature"]


def kept_read_signature(unit: EngineUnit) -> wiring.Signature:
    """The fetcher's lanes as readers of kept tokens: ``read_*`` and ``data`` of :class:`rtl.lane_list.LaneList`."""
    lanes = unit.arch.fetcher.lanes
    return wiring.Signature(
        {
            "enable": Out(1),
            "rotate": Out((lanes - 1).bit_length()),
            "index": Out(range(unit.granules * unit.granule)).array(lanes),
            "data": In(TOKEN_BITS).array(lanes),
        }
    )


class LocalValues(wiring.Component):
    """Packs weight lines into words of ``topk.lanes``; the ring that holds what is kept of them.

    A line at c of a row that does not select is written at the end of c, key j of the row at place j. Of a selecting
    row the top-k has its command at c of the first line, and a word at c + 1 when it became complete, or the row's
    last, at c; what the top-k offers at o is written at the end of o. Each value brings its token number
    (``v_selected``) or its key's position in the row. Where V is resident and a V line holds several rows, kept items
    go to the places of their columns instead (:class:`rtl.columns.ColumnPlacer`), also by the end of o.

    Parameters
    ----------
    unit : EngineUnit. No line of a row that does not select comes while a selecting row is in the top-k.
    lfsr_seed : of the top-k's pivot generator, 1 to 65535; the simulator's default.

    Members
    -------
    format : In(format_layout).
    select : In(stream of select_layout, always ready). A selecting row, before its first line; ``SELECTING_ROWS`` at
        most are here.
    line, place : In. A weight line, and where its row goes; never refused.
    selected : Out(1). At o of a selecting row's last word.
    v_row : Out(stream of v_row_layout, always ready). Then, if its V is fetched by row.
    columns : Out(stream of columns_layout, always ready). Then, if its V is resident and a V line holds several rows.
    emitted, dense_lines : Out(sequence_bits). Running counts of selecting rows, and of lines of the others, in the
        ring; registers.
    select_busy : Out(1). The top-k's selector holds a row, from its take to its handoff, both included.
    ring_read : In(stream of ring_read_layout, always ready). ring_items : Out(ring_items_layout), one cycle later,
        until the next read. Items behind a row's last one carry no meaning, nor do those that a column does not have,
        nor payloads of a row that does not select.
    kept_read : In(kept_read_signature). The token numbers again, for the lanes of the fetcher.

    Latency of the top-k: ``sim.topk_schedule``. selected, v_row, columns and select_busy are decoded from registers.
    """

    def __init__(self, unit: EngineUnit, lfsr_seed: int = 1):
        self.unit = unit
        self.topk = replace(TopKUnit.of(unit.arch, WEIGHT_BITS), payload_bits=TOKEN_BITS, lfsr_seed=lfsr_seed)
        super().__init__(
            {
                "format": In(format_layout()),
                "select": In(stream.Signature(select_layout(unit), always_ready=True)),
                "line": In(stream.Signature(weight_line_layout(unit), always_ready=True)),
                "place": In(place_layout(unit)),
                "selected": Out(1),
                "v_row": Out(stream.Signature(v_row_layout(unit), always_ready=True)),
                "columns": Out(stream.Signature(columns_layout(unit), always_ready=True)),
                "emitted": Out(sequence_bits(unit)),
                "dense_lines": Out(sequence_bits(unit)),
                "select_busy": Out(1),
                "ring_read": In(stream.Signature(ring_read_layout(unit), always_ready=True)),
                "ring_items": Out(ring_items_layout(unit)),
                "kept_read": In(kept_read_signature(unit)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, lanes, words = self.unit, self.unit.arch.topk.lanes, self.unit.ring_words
        line, place = self.line.payload, self.place
        word, complete = self._pack(m)

        m.submodules.topk = topk = top_k(self.topk)
        m.submodules.commands = commands = Queue(topk.command.payload.shape(), SELECTING_ROWS)
        m.submodules.rows = rows = Queue(select_layout(unit), SELECTING_ROWS)
        selecting = Signal()
        m.d.comb += [
            selecting.eq(self.line.valid & place.selecting),
            commands.i.valid.eq(self.select.valid),
            commands.i.payload.n.eq(self.select.payload.keys),
            commands.i.payload.k.eq(self.select.payload.kept),
            commands.o.ready.eq(selecting & line.first),
            topk.command.valid.eq(selecting & line.first),
            topk.command.payload.eq(commands.o.payload),
            topk.input.payload.values.eq(word.weights),
            topk.input.payload.payloads.eq(word.payloads),
            topk.output.ready.eq(1),
            self.select_busy.eq(topk.selecting),
        ]
        m.d.sync += topk.input.valid.eq(selecting & (complete | line.last))

        out, row = topk.output.payload, rows.o.payload
        m.d.comb += [
            rows.i.valid.eq(self.select.valid),
            rows.i.payload.eq(self.select.payload),
            rows.o.ready.eq(self.selected),
            self.selected.eq(topk.output.valid & out.last),
            self.v_row.valid.eq(self.selected & row.v_selected),
            self.v_row.payload.kept.eq(row.kept),
            self.v_row.payload.granule.eq(row.granule),
        ]
        first, following = Signal(init=1), Signal(range(words), reset_less=True)
        address, dense = Signal(range(words)), Signal()
        granule_words = unit.granule // lanes
        m.d.comb += [
            dense.eq(self.line.valid & ~place.selecting),
            address.eq(Mux(first, row.granule * granule_words, following)),
        ]
        with m.If(topk.output.valid):
            m.d.sync += [first.eq(out.last), following.eq(Mux(address == words - 1, 0, address + 1))]
        m.d.sync += [self.emitted.eq(self.emitted + self.selected), self.dense_lines.eq(self.dense_lines + dense)]
        placer = self._place_by_column(m, topk, row) if unit.arch.values_per_line(MIN_HEAD_DIM) > 1 else None
        for lane in range(lanes):
            self._bank(m, lane, dense, topk.output, address, placer)

        kept_read, fetch_lanes = self.kept_read, unit.arch.fetcher.lanes
        m.submodules.kept = kept = LaneList(words * lanes, TOKEN_BITS, fetch_lanes, lanes)
        m.d.comb += [
            kept.write_enable.eq(topk.output.valid & row.v_selected),
            kept.write_word.eq(address),
            kept.write_mask.eq(-1),
            *(kept.write_items[lane].eq(out.payloads[lane]) for lane in range(lanes)),
            kept.read_enable.eq(kept_read.enable),
            kept.read_rotate.eq(kept_read.rotate),
            *(kept.read_index[lane].eq(kept_read.index[lane]) for lane in range(fetch_lanes)),
            *(kept_read.data[lane].eq(kept.data[lane]) for lane in range(fetch_lanes)),
        ]
        return m

    def _place_by_column(self, m: Module, topk: wiring.Component, row: data.View) -> ColumnPlacer:
        """Columns of the row in front; sets ``_by_column``: it is such a row. Of others what it says is not heeded."""
        assert self.topk.marked_cycles >= PLACE_CYCLES
        m.submodules.placer = placer = ColumnPlacer(self.unit, self.topk)
        self._by_column = Signal()
        m.d.comb += [
            self._by_column.eq(~row.v_selected & (log2_values_per_line(self.unit, self.format.log2_dim) != 0)),
            placer.format.eq(self.format),
            placer.marked.valid.eq(topk.marked.valid),
            placer.marked.payload.eq(topk.marked.payload),
            placer.word.eq(row.granule * (self.unit.granule // self.topk.lanes)),
            placer.clear.eq(self.selected),
            self.columns.valid.eq(self.selected & self._by_column),
            self.columns.payload.eq(placer.counts),
        ]
        return placer

    def _bank(
        self, m: Module, lane: int, dense: Value, output: wiring.PureInterface, address: Value,
        placer: ColumnPlacer | None,
    ) -> None:  # fmt: skip
        """The ring's items of one lane. A line, the top-k and the placer each write in cycles of their own."""
        m.submodules[f"ring_{lane}"] = ring = Sram(item_layout().size, self.unit.ring_words)
        written = Signal(item_layout(), name=f"written_{lane}")
        out = output.payload
        m.d.comb += [
            ring.write_enable.eq(dense | output.valid),
            ring.write_address.eq(Mux(dense, self.place.word, address)),
            ring.write_data.eq(written),
            written.weight.eq(Mux(dense, self._joined.weights[lane], out.values[lane])),
            written.payload.eq(out.payloads[lane]),
            ring.read_enable.eq(self.ring_read.valid),
            ring.read_address.eq(self.ring_read.payload.word),
            Cat(self.ring_items.weights[lane], self.ring_items.payloads[lane]).eq(ring.read_data),
        ]
        if placer is not None:
            write = placer.write[lane]
            with m.If(~dense & self._by_column):
                m.d.comb += [
                    ring.write_enable.eq(write.valid),
                    ring.write_address.eq(write.payload.word),
                    written.eq(write.payload.item),
                ]

    def _pack(self, m: Module) -> tuple[data.View, Value]:
        """The word as of the last line, and whether the present line completes its word.

        ``_joined`` is the word with the present line in its places: lines follow each other in order, so each writes
        behind what is there.
        """
        unit, lanes, line = self.unit, self.unit.arch.topk.lanes, self.line.payload
        softmax_lanes = unit.arch.softmax.lanes
        held = Signal(ring_items_layout(unit), reset_less=True)
        self._joined = joined = Signal.like(held)
        log2_keys = Signal(range(max(2, softmax_lanes.bit_length())))
        offset = line.position[: lanes.bit_length() - 1]
        complete = Signal()
        m.d.comb += [joined.eq(held), log2_keys.eq(log2_keys_per_line(unit, self.format.log2_dim))]
        with m.Switch(log2_keys):
            for bits in range(softmax_lanes.bit_length()):
                with m.Case(bits):
                    m.d.comb += complete.eq(offset[bits:].all())
                    for lane in range(lanes):
                        source = lane & ((1 << bits) - 1)
                        payload = Mux(self.place.v_selected, line.tokens[source], line.position + source)
                        with m.If(offset[bits:] == lane >> bits):
                            m.d.comb += [
                                joined.weights[lane].eq(line.weights[source]),
                                joined.payloads[lane].eq(payload),
                            ]
        with m.If(self.line.valid):
            m.d.sync += held.eq(joined)
        return held, complete
