"""Everything behind the weight ring: issue of lines, PV array, writer."""

from amaranth.hdl import Module, Mux, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.program import Mode
from accel.units.engine import ADDRESS_BITS, EngineUnit
from accel.units.pv import VALUE_BITS, PvArray
from rtl.axi import write_master
from rtl.job import format_layout, job_layout, line_bits, release_layout, sequence_bits, weights_layout
from rtl.pv import PV
from rtl.pv_issue import PvIssue
from rtl.pv_ports import (
    carry_layout,
    columns_layout,
    line_control_layout,
    ring_items_layout,
    ring_read_layout,
    v_read_layout,
)
from rtl.pv_scaler import carried_layout
from rtl.writer import Writer, head_magnitude_layout

__all__ = ["PvPath"]


class PvPath(wiring.Component):
    """From weights in the ring and V rows on chip to outputs in memory: ``PvIssue``, ``PV`` and ``Writer``, which say
    what each member means.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    dispatch, format, format_change, weights, emitted, dense_lines, columns, v_passed, ring_read, ring_items, v_read,
    carry, row_finished, ring_release, v_release, issue, unsupported : of ``PvIssue``. carried : of ``PV``.
    v_words : In. Words of the V memory, one cycle after v_read.
    record_taken, row_started, room : of ``PvIssue``. state_line : In(stream of line_control_layout), never refused, and
        state_words : In, with it: lines of mode STATE, that come instead of those of ``PvIssue``.
    head_magnitude, write, row_written, rows_written, row_settled, retired, write_idle, write_error : of ``Writer``.

    A line issued at t is added up at t + ``ISSUE_CYCLES`` + ``PvUnit.latency_cycles`` - 1 (each part of it, from its
    own cycle); the row's last output item enters the buffer at the end of ``drained`` + ``NORMALISE_CYCLES`` - 1 and
    its first access is offered ``WRITER_CYCLES`` + 1 later or, after the row before, in the cycle after its last
    access was taken. A row begins only if accumulators and output buffer have room for it, so no unit refuses
    anything.

    Raises
    ------
    UserError : sizes that the writer cannot have.
    """

    def __init__(self, unit: EngineUnit):
        self.unit, self.lines, self.array = unit, PvIssue(unit), PV(PvArray.of(unit.arch))
        self.line = stream.Signature(line_control_layout(unit), always_ready=True).create(path=("line",))
        arch, sequence = unit.arch, sequence_bits(unit)

        def pulse(layout: data.StructLayout) -> stream.Signature:
            return stream.Signature(layout, always_ready=True)

        super().__init__(
            {
                "dispatch": In(pulse(job_layout())),
                "format": In(format_layout()),
                "format_change": In(1),
                "weights": In(pulse(weights_layout(unit))),
                "emitted": In(sequence),
                "dense_lines": In(sequence),
                "columns": In(pulse(columns_layout(unit))),
                "v_passed": In(sequence),
                "ring_read": Out(pulse(ring_read_layout(unit))),
                "ring_items": In(ring_items_layout(unit)),
                "v_read": Out(pulse(v_read_layout(unit))),
                "v_words": In(data.ArrayLayout(signed(VALUE_BITS), arch.pv.multipliers)),
                "record_taken": In(1),
                "row_started": In(1),
                "room": Out(1),
                "state_line": In(pulse(line_control_layout(unit))),
                "state_words": In(data.ArrayLayout(signed(VALUE_BITS), arch.pv.multipliers)),
                "carry": Out(pulse(carry_layout(unit))),
                "carried": In(stream.Signature(carried_layout(PvArray.of(arch)))),
                "row_settled": Out(1),
                "row_finished": Out(1),
                "ring_release": Out(pulse(release_layout(unit.granules.bit_length()))),
                "v_release": Out(pulse(release_layout(line_bits(unit) + 1))),
                "issue": Out(1),
                "unsupported": Out(1),
                "head_magnitude": Out(pulse(head_magnitude_layout(unit))),
                "write": Out(write_master(ADDRESS_BITS, 8 * arch.memory_spec.access_bytes)),
                "row_written": Out(1),
                "rows_written": Out(sequence),
                "retired": Out(1),
                "write_idle": Out(1),
                "write_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.writer = writer = Writer(self.unit)
        m.submodules.issue = issue = self.lines
        m.submodules.pv = pv = self.array
        for part in (writer, issue):
            m.d.comb += [
                part.dispatch.valid.eq(self.dispatch.valid),
                part.dispatch.payload.eq(self.dispatch.payload),
                part.format.eq(self.format),
            ]
        m.d.comb += [
            issue.format_change.eq(self.format_change),
            issue.emitted.eq(self.emitted),
            issue.dense_lines.eq(self.dense_lines),
            issue.v_passed.eq(self.v_passed),
            issue.rows_written.eq(writer.rows_written),
            issue.record_taken.eq(self.record_taken),
            issue.row_started.eq(self.row_started),
            self.room.eq(issue.room),
            issue.ring_items.eq(self.ring_items),
            self.row_finished.eq(issue.row_finished),
            self.issue.eq(issue.issue),
            self.unsupported.eq(issue.unsupported),
            *(
                getattr(self, name).eq(getattr(writer, name))
                for name in ("row_written", "rows_written", "row_settled", "retired", "write_idle", "write_error")
            ),
        ]
        for name in ("weights", "columns"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(issue, name))
        for name in ("carry", "ring_read", "v_read", "ring_release", "v_release"):
            wiring.connect(m, getattr(issue, name), wiring.flipped(getattr(self, name)))
        for name in ("head_magnitude", "write"):
            wiring.connect(m, getattr(writer, name), wiring.flipped(getattr(self, name)))

        line = self.line  # as it enters the array
        recurrent = self.format.mode == Mode.STATE
        m.d.comb += [
            line.valid.eq(Mux(recurrent, self.state_line.valid, issue.line.valid)),
            line.payload.eq(Mux(recurrent, self.state_line.payload.as_value(), issue.line.payload.as_value())),
            pv.line.valid.eq(line.valid),
            pv.line.payload["values"].eq(Mux(recurrent, self.state_words.as_value(), self.v_words.as_value())),
            pv.line.payload.weights.eq(line.payload.weights),
            pv.line.payload["count"].eq(line.payload["count"]),
            pv.line.payload.row.eq(line.payload.row),
        ]
        m.d.comb += [writer.weights.valid.eq(self.weights.valid), writer.weights.payload.eq(self.weights.payload)]
        wiring.connect(m, wiring.flipped(self.carried), pv.carried)
        wiring.connect(m, pv.outputs, writer.outputs)
        return m
