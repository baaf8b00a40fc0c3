"""Issue of lines into the PV array: in row order, each when its V and its weights are on chip."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.program import Mode
from accel.units.engine import OUTPUT_ROWS, TOKEN_BITS, EngineUnit
from accel.units.pv import ISSUE_CYCLES, MIN_HEAD_DIM, PvArray
from accel.units.softmax import WEIGHT_BITS
from rtl.job import (
    COUNT_BITS,
    format_layout,
    job_layout,
    line_bits,
    release_layout,
    sequence_bits,
    weights_layout,
)
from rtl.pv_ports import (
    carry_layout,
    columns_layout,
    line_control_layout,
    ring_items_layout,
    ring_read_layout,
    v_read_layout,
)
from rtl.stream import Queue

__all__ = ["PvIssue", "ring_items_layout", "ring_read_layout"]


def _wrapped(place: Value, size: Value | int) -> Value:
    """``place`` modulo ``size``, for a place below twice the size."""
    return Mux(place >= size, place - size, place)


def _beyond(count: Value, number: Value, bits: int) -> Value:
    """Whether ``count`` running things include number ``number``, both modulo 2^bits."""
    return ~(count - number - 1)[bits - 1]


class PvIssue(wiring.Component):
    """Decides in which cycle each line of V rows enters the PV array.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    dispatch : In(stream of job_layout), never refused; a job is seen from the next cycle on. At most ``job_slots`` jobs
        wait.
    format, format_change : In. Level, and the pulse at which the V ring begins at place 0 again.
    weights : In(stream of weights_layout), never refused: final rows in row order, seen from the next cycle on. At
        most ``rows_in_flight`` wait.
    emitted, dense_lines : In. Running counts of selecting rows in the weight ring, and of weight lines there of rows
        that do not select.
    columns : In(stream of columns_layout), never refused: one for each selecting row whose V is resident, if a line has
        more than one V row (P); at the latest in the cycle before ``emitted`` counts the row. Of such a row item
        n * P + c is the n-th kept key of column c, and the ring holds min(kept, ceil(keys / P)) * P items.
    v_passed : In. Running count of V ring lines that have arrived.
    rows_written : In. Running count of rows whose outputs have left the output buffer.
    record_taken, row_started : In. Of mode STATE: a query record was read, a row of outputs begins. room : Out. There
        is room for one in the output buffer.
    ring_read : Out(stream), at the line's issue. ring_items : In, the word, one cycle later.
    v_read : Out(stream), a read per part, ``ISSUE_CYCLES`` after its issue; the words enter PV one cycle later, with
    line : Out(stream of line_control_layout), never refused.
    carry : Out(stream of carry_layout), at the issue of the first line of a row that takes sums from memory.
    row_finished, ring_release, v_release : Out. Pulse and counts, in the cycle in which a row's last line issues.
    issue : Out. High for each part issued.
    unsupported : Out. High while ``columns`` of the row in front is missing, though the row is emitted. Such a row is
        not issued, nor is any behind it.

    A line is issued at the earliest one cycle after ``weights`` of its row; one line of F parts per F cycles, also from
    row to row. ``issue``, ``ring_read``, ``row_finished`` and the releases follow the counts and the format within the
    cycle; ``v_read.lines`` follow ring_items. Nothing depends on a ready: the conditions of issue are such that PV
    never refuses.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        sequence = sequence_bits(unit)
        super().__init__(
            {
                "dispatch": In(stream.Signature(job_layout(), always_ready=True)),
                "format": In(format_layout()),
                "format_change": In(1),
                "weights": In(stream.Signature(weights_layout(unit), always_ready=True)),
                "emitted": In(sequence),
                "dense_lines": In(sequence),
                "columns": In(stream.Signature(columns_layout(unit), always_ready=True)),
                "v_passed": In(sequence),
                "rows_written": In(sequence),
                "record_taken": In(1),
                "row_started": In(1),
                "room": Out(1),
                "ring_read": Out(stream.Signature(ring_read_layout(unit), always_ready=True)),
                "ring_items": In(ring_items_layout(unit)),
                "v_read": Out(stream.Signature(v_read_layout(unit), always_ready=True)),
                "line": Out(stream.Signature(line_control_layout(unit), always_ready=True)),
                "carry": Out(stream.Signature(carry_layout(unit), always_ready=True)),
                "row_finished": Out(1),
                "ring_release": Out(stream.Signature(release_layout(unit.granules.bit_length()), always_ready=True)),
                "v_release": Out(stream.Signature(release_layout(line_bits(unit) + 1), always_ready=True)),
                "issue": Out(1),
                "unsupported": Out(1),
            }
        )

    def _geometry(self, m: Module) -> data.View:
        """What follows from the head dimension. values, keys: log2 of how many a V line and a weight line have. parts:
        of a V line, less one. ring: lines of the V ring. latency: from a line's last part to its sums.
        """
        arch, array = self.unit.arch, PvArray.of(self.unit.arch)
        per_dim = {
            dim: {
                "values": arch.values_per_line(dim).bit_length() - 1,
                "keys": arch.keys_per_line(dim).bit_length() - 1,
                "parts": arch.pv_fold(dim) - 1,
                "ring": self.unit.v_ring_lines(dim),
                "latency": ISSUE_CYCLES + array.at(dim).latency_cycles,
            }
            for dim in array.padded_dims
        }
        fields = {name: range(max(2, 1 + max(of[name] for of in per_dim.values()))) for name in per_dim[MIN_HEAD_DIM]}
        geometry = Signal(data.StructLayout(fields))
        with m.Switch(self.format.log2_dim):
            for dim, of in per_dim.items():
                with m.Case(dim.bit_length() - 1):
                    m.d.comb += [geometry[name].eq(number) for name, number in of.items()]
        return geometry

    def _accumulators_free(self, m: Module, geometry: data.View, row_ends: Value) -> Value:
        """Whether the sums of a row that begins now find accumulators: cycles until the last two rows have drained."""
        array = PvArray.of(self.unit.arch)
        lanes = array.output_lanes
        drain_most = -(-array.max_head_dim // lanes)
        latency_most = ISSUE_CYCLES + max(array.at(dim).latency_cycles for dim in array.padded_dims)
        most = array.max_fold + latency_most + 2 * drain_most
        before, two_before = Signal(range(most + 1)), Signal(range(most + 1))
        sums, drained, drain = Signal(range(most + 1)), Signal(range(most + 1)), Signal(range(drain_most + 1))
        m.d.comb += [
            drain.eq((self.format.head_dim + lanes - 1) >> (lanes.bit_length() - 1)),
            sums.eq(geometry.parts + geometry.latency),
            drained.eq(Mux(before > sums, before, sums) + drain),
        ]
        less_one = Mux(before == 0, 0, before - 1)
        m.d.sync += [before.eq(less_one), two_before.eq(Mux(two_before == 0, 0, two_before - 1))]
        with m.If(row_ends):
            m.d.sync += [before.eq(drained - 1), two_before.eq(less_one)]
        return two_before <= geometry.latency

    def _columns(self, m: Module) -> Queue:
        """What is known of rows whose columns differ, and of each the fullest."""
        unit = self.unit
        layout = data.StructLayout({"counts": columns_layout(unit)["counts"].shape, "most": COUNT_BITS})
        m.submodules.columns = columns = Queue(layout, unit.arch.rows_in_flight)
        counts = list(self.columns.payload.counts)
        while len(counts) > 1:
            counts = [Mux(a > b, a, b) for a, b in zip(counts[::2], counts[1::2], strict=True)]
        m.d.comb += [
            columns.i.valid.eq(self.columns.valid),
            columns.i.payload.counts.eq(self.columns.payload.counts),
            columns.i.payload.most.eq(counts[0]),
        ]
        return columns

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, bits, lanes = self.unit, sequence_bits(self.unit), self.unit.arch.topk.lanes
        array = PvArray.of(unit.arch)
        geometry = self._geometry(m)
        weighted = self.format.mode != Mode.SOFTMAX  # signed weights, and the job's output scale

        job_fields = (
            "rows", "keys", "v_selected", "first_tile", "sums_in", "sums_out", "output_mantissa", "output_shift",
        )  # fmt: skip
        of_job = data.StructLayout({name: job_layout()[name].shape for name in job_fields})
        m.submodules.jobs = jobs = Queue(of_job, unit.job_slots)
        m.submodules.rows = rows = Queue(weights_layout(unit), unit.arch.rows_in_flight)
        job, row = jobs.o.payload, rows.o.payload
        m.d.comb += [
            jobs.i.valid.eq(self.dispatch.valid & ~self.dispatch.payload.state),
            *(jobs.i.payload[name].eq(self.dispatch.payload[name]) for name in job_fields),
            rows.i.valid.eq(self.weights.valid),
            rows.i.payload.eq(self.weights.payload),
        ]

        # The line in front: V rows item to end - 1 of the row.
        item, end, total = Signal(COUNT_BITS), Signal(COUNT_BITS + 1), Signal(COUNT_BITS)
        step = Signal(range(array.weights_per_line + 1))
        count = Signal.like(step)
        number = Signal(COUNT_BITS)
        last, by_payload, by_column = Signal(), Signal(), Signal()
        columns = self._columns(m)
        m.d.comb += [
            step.eq(1 << geometry["values"]),
            by_payload.eq(row.selecting & ~job.v_selected),
            by_column.eq(by_payload & (geometry["values"] != 0)),
            total.eq(
                Mux(
                    by_column,
                    columns.o.payload.most << geometry["values"],
                    Mux(row.selecting | job.v_selected, row.kept, row["keys"]),
                )
            ),
            end.eq(item + step),
            last.eq(end >= total),
            count.eq(Mux(last, total - item, step)),
            number.eq(item >> geometry["values"]),
        ]

        def v_lines(keys: Value) -> Value:
            return (keys + step - 1) >> geometry["values"]

        # Is everything there?
        v_first, v_place = Signal(bits), Signal(line_bits(unit))
        selecting_before, dense_before = Signal(bits), Signal(bits)
        v_needed, dense_needed = Signal(bits), Signal(bits)
        last_key = Mux(end < row["keys"], end, row["keys"]) - 1
        started = Signal(range(2 * OUTPUT_ROWS))
        go, goes_last, last_row = Signal(), Signal(), Signal()
        part = Signal(range(max(2, array.max_fold)))
        waits, emitted = Signal(), Signal()
        m.d.comb += [
            v_needed.eq(v_first + Mux(by_payload, v_lines(row["keys"]) - 1, number)),
            dense_needed.eq(dense_before + (last_key >> geometry["keys"])),
            self.room.eq((started - self.rows_written)[: len(started)] < OUTPUT_ROWS),
            waits.eq(rows.o.valid & jobs.o.valid),
            emitted.eq(_beyond(self.emitted, selecting_before, bits)),
            self.unsupported.eq(waits & by_column & emitted & ~columns.o.valid),
            goes_last.eq(go & last),
            go.eq(
                waits
                & (part == 0)
                & ~self.unsupported
                & _beyond(self.v_passed, v_needed, bits)
                & Mux(
                    row.selecting,
                    emitted,
                    _beyond(self.dense_lines, dense_needed, bits),
                )
                & ((item != 0) | (self.room & self._accumulators_free(m, geometry, goes_last)))
            ),
            self.issue.eq(go | (part != 0)),
        ]
        with m.If(go):
            m.d.sync += [item.eq(Mux(last, 0, end)), part.eq(geometry.parts != 0)]
        with m.Elif(part != 0):
            m.d.sync += part.eq(Mux(part == geometry.parts, 0, part + 1))

        with m.If((go & (item == 0)) | self.row_started):
            m.d.sync += started.eq(started + 1)

        # The row ends.
        row_number = Signal(job.rows.shape())
        released = Signal(line_bits(unit) + 1)
        fewest, in_ring = Signal(COUNT_BITS), Signal(COUNT_BITS)
        m.d.comb += [
            last_row.eq(row_number + 1 == job.rows),
            rows.o.ready.eq(goes_last),
            columns.o.ready.eq(goes_last & by_column),
            jobs.o.ready.eq(goes_last & last_row),
            self.row_finished.eq(goes_last),
            self.ring_release.valid.eq(goes_last),
            fewest.eq(Mux(v_lines(row["keys"]) < row.kept, v_lines(row["keys"]), row.kept)),
            in_ring.eq(Mux(by_column, fewest << geometry["values"], row.kept)),
            self.ring_release.payload.count.eq((in_ring + unit.granule - 1) >> (unit.granule.bit_length() - 1)),
            released.eq(v_lines(Mux(job.v_selected, row.kept, job["keys"]))),
            self.v_release.valid.eq(goes_last & (job.v_selected | last_row)),
            self.v_release.payload.count.eq(released),
        ]
        slot = Signal(range(unit.arch.fetcher.query_slots))
        m.d.comb += [
            self.carry.valid.eq(go & (item == 0) & job.sums_in),
            self.carry.payload.slot.eq(slot),
            self.carry.payload.rise.eq(row.rise),
        ]
        with m.If(goes_last | self.record_taken):
            m.d.sync += slot.eq(slot + 1)
        with m.If(goes_last):
            m.d.sync += row_number.eq(Mux(last_row, 0, row_number + 1))
            with m.If(row.selecting):
                m.d.sync += selecting_before.eq(selecting_before + 1)
            with m.Else():
                m.d.sync += dense_before.eq(dense_before + ((row["keys"] - 1) >> geometry["keys"]) + 1)
        with m.If(self.v_release.valid):
            m.d.sync += [v_first.eq(v_first + released), v_place.eq(_wrapped(v_place + released, geometry.ring))]
        with m.If(self.format_change):
            m.d.sync += v_place.eq(0)

        # At t: the ring. A line's V rows never straddle two words.
        first_word = row.granule * (unit.granule // lanes)
        word = first_word + (item >> (lanes.bit_length() - 1))
        m.d.comb += [
            self.ring_read.valid.eq(go),
            self.ring_read.payload.word.eq(_wrapped(word, unit.ring_words)),
        ]

        # At t + 1: the V memory. A place is taken over from the payload once, for all parts.
        read, read_part = Signal(), Signal.like(part)
        place, place_by_payload = Signal.like(v_place, reset_less=True), Signal(reset_less=True)
        offset = Signal(range(lanes), reset_less=True)
        line = Signal(self.line.payload.shape(), reset_less=True)
        read_line = Signal.like(line, reset_less=True)
        holds = Signal(len(line.weights), reset_less=True)  # columns that have an item in this line
        payloads = self.ring_items.payloads.as_value()
        chosen = [Signal.like(v_place, name=f"chosen_{c}") for c in range(len(line.weights))]
        for c, column in enumerate(chosen):
            position = Mux(holds[c], payloads.word_select((offset | c)[: len(offset)], TOKEN_BITS), 0)
            by_position = _wrapped(place + (position >> geometry["values"]), geometry.ring)
            m.d.comb += column.eq(Mux(place_by_payload, by_position, place))
        m.d.sync += [read.eq(self.issue), read_part.eq(part), place.eq(chosen[0]), place_by_payload.eq(0)]
        with m.If(go):
            m.d.sync += [
                place.eq(Mux(by_payload, v_place, _wrapped(v_place + number, geometry.ring))),
                place_by_payload.eq(by_payload),
                offset.eq(item),
                *(hold.eq(~by_column | (number < n)) for hold, n in zip(holds, columns.o.payload.counts, strict=True)),
                read_line.count.eq(count),
                read_line.row.last.eq(last),
                read_line.row.keep.eq(~job.first_tile & ~job.sums_in),
                read_line.row.carry.eq(job.sums_in),
                read_line.row.raw.eq(job.sums_out),
                read_line.row.keep_shift.eq(row.rise),
                read_line.row.reciprocal.eq(Mux(weighted, job.output_mantissa, row.reciprocal)),
                read_line.row.shift.eq(Mux(weighted, job.output_shift, row["shift"])),
            ]
        m.d.comb += [
            self.v_read.valid.eq(read),
            self.v_read.payload.part.eq(read_part),
            *(asked.eq(column) for asked, column in zip(self.v_read.payload.lines, chosen, strict=True)),
        ]

        # At t + 2: PV. Row p of a line takes item offset + p of the word; offset is a multiple of the line's V rows.
        valid = Signal()
        weights = self.ring_items.weights.as_value()
        m.d.sync += valid.eq(read)
        with m.If(read & (read_part == 0)):
            m.d.sync += line.eq(read_line)
            m.d.sync += [
                weight.eq(Mux(holds[p], weights.word_select((offset | p)[: len(offset)], WEIGHT_BITS), 0))
                for p, weight in enumerate(line.weights)
            ]
        m.d.comb += [
            self.line.valid.eq(valid),
            self.line.payload.eq(line),
            self.line.payload.row.log2_dim.eq(self.format.log2_dim),
            self.line.payload.row.signed.eq(weighted),
            self.line.payload.row.head_dim.eq(self.format.head_dim),
        ]
        return m
