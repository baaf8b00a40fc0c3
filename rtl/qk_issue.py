"""Control of the QK array: which row, which line, when."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.program import Mode
from accel.units.engine import EngineUnit
from accel.units.modes import IDENTITY_WORD
from accel.units.qk import SHIFT_BITS, SMALLEST_DIM, QkUnit
from accel.units.softmax import SCALE_BITS
from rtl.job import (
    decay_layout,
    format_layout,
    job_layout,
    line_bits,
    lsb_request_layout,
    pass_layout,
    release_layout,
    sequence_bits,
)
from rtl.qk import line_layout, query_layout
from rtl.qk_rows import QkRows, format_value, k_ring
from rtl.sram import Sram
from rtl.stream import Queue

__all__ = ["QkIssue"]

#: Heads are multiples of this, so what is beyond head_dim is decided for so many words together.
HEAD_STEP = SMALLEST_DIM


def _ahead(a: Value, b: Value) -> Value:
    """Is the running number a ahead of b?"""
    difference = (a - b)[: len(b)]
    return (difference != 0) & ~difference[-1]


class QkIssue(wiring.Component):
    """Starts rows and issues their lines.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    dispatch : In(stream of job_layout, always ready); unit.job_slots jobs at most. Its rows can start
        ``QkRows.PREPARE_CYCLES`` later.
    format : In(format_layout), a level. format_change : In, a pulse in the cycle of a dispatch, or before it, while no
        job is held: the K ring begins at line 0.
    query_passed, k_passed, lsb_passed : In, registers of Arrivals.
    lsb_request : In(stream of lsb_request_layout, always ready), of which ``row`` is used. Rows in the order of their
        second passes; request number n waits for LSB fetch number n, at least REQUEST_CYCLES.
    record_taken : In. A query record was read by others. query_number : Out, a register. Running number of the next.
    query_release : In. A row, in row order, became final. row_finished : In. A row, in row order, left PV.
    score_release : In(stream of release_layout, always ready). So many words of the score buffer are free again.
    passes : Out(stream of pass_layout, always ready), at t: the cycle in which a row starts and its first line issues.
    decay : Out(decay_layout), at t of a first pass: of its row.
    query_read_enable, query_read_slot : Out, at t, to QueryBuffer; query_words : In, at t + 1, from it.
    query : Out(stream of rtl.qk.query_layout, always ready), at t + 1. Words from head_dim on are 0.
    k_read_enable, k_read_line, k_read_part, k_read_side, k_read_mask_lsb : Out, to LineMemory "k": part p of a line
        issued at t, at t + 2 + p, but in mode LINEAR. k_words : In, in the cycle after, from it.
    line : Out(stream of rtl.qk.line_layout, always ready): part p at t + 3 + p. count and last come with all parts.
        In mode LINEAR key j is IDENTITY_WORD in word j and 0 in all others.
    issue_msb, issue_lsb : Out. A line of a first (second) pass issued at t: in t ... t + fold - 1, one for each part.
    busy : Out. Either.

    The streams out are never refused: ``QkArray`` in front of a free pipeline takes rows as they come here.

    From inputs to outputs within the cycle: query_passed, k_passed and lsb_passed decide whether a row starts or a line
    issues (passes, query_read_*, issue_*, busy); query_words and k_words pass through to query and line.
    """

    #: From a request to the earliest second pass: into the queue, the row's table read. No fetch is as quick.
    REQUEST_CYCLES = 2

    def __init__(self, unit: EngineUnit):
        self.unit, self.qk = unit, QkUnit.of(unit.arch)
        self.rows = unit.arch.rows_in_flight
        sequence = sequence_bits(unit)
        words = signed(WORD_BITS)

        def free(layout: data.StructLayout) -> stream.Signature:
            return stream.Signature(layout, always_ready=True)

        super().__init__(
            {
                "dispatch": In(free(job_layout())),
                "format": In(format_layout()),
                "format_change": In(1),
                "query_passed": In(sequence),
                "k_passed": In(sequence),
                "lsb_passed": In(sequence),
                "lsb_request": In(free(lsb_request_layout(unit))),
                "record_taken": In(1),
                "query_number": Out(sequence),
                "query_release": In(1),
                "row_finished": In(1),
                "score_release": In(free(release_layout(unit.score_words.bit_length()))),
                "passes": Out(free(pass_layout(unit))),
                "decay": Out(decay_layout()),
                "query_read_enable": Out(1),
                "query_read_slot": Out(range(max(2, unit.arch.fetcher.query_slots))),
                "query_words": In(data.ArrayLayout(words, unit.entry_words)),
                "query": Out(free(query_layout(self.qk))),
                "k_read_enable": Out(1),
                "k_read_line": Out(line_bits(unit)),
                "k_read_part": Out(range(max(2, self.qk.fold(unit.entry_words)))),
                "k_read_side": Out(1),
                "k_read_mask_lsb": Out(1),
                "k_words": In(data.ArrayLayout(words, self.qk.multipliers)),
                "line": Out(free(line_layout(self.qk))),
                "issue_msb": Out(1),
                "issue_lsb": Out(1),
                "busy": Out(1),
            }
        )
        #: All that a row's second pass needs again.
        self.record = data.StructLayout(
            {
                "row": pass_layout(unit),
                "slot": self.query_read_slot.shape(),
                "side": 1,
                "mantissa": SCALE_BITS,
                "shift": SHIFT_BITS,
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = self.unit
        rest = Signal(range(max(2, self.qk.fold(unit.entry_words))))  # further cycles of the line that issues
        running = Signal()
        self._keyless = self.format.mode == Mode.LINEAR  # lines need not come from memory
        may_start, first, second, start = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [may_start.eq((rest == 0) & ~running), start.eq(first | second)]

        fresh = self._first_pass(m, may_start & ~second, first)
        again = self._second_pass(m, may_start, second, fresh, first)
        chosen = Signal(self.record)
        m.d.comb += [
            chosen.eq(Mux(second, again.as_value(), fresh.as_value())),
            self.passes.valid.eq(start),
            self.passes.payload.eq(chosen.row),
            self.passes.payload.second.eq(second),
            self.query_read_enable.eq(start),
            self.query_read_slot.eq(chosen.slot),
        ]
        self._send_query(m, start, chosen)

        # The running row: its next line, and what is left.
        layout = data.StructLayout(
            {
                "line": line_bits(unit),
                "number": sequence_bits(unit),
                "place": range(unit.entry_words),  # in the row, of lines that a LINEAR row may have
                "left": line_bits(unit) + 1,
                "keys": self.passes.payload.keys.shape(),
                "side": 1,
                "second": 1,
            }
        )
        state, now = Signal(layout, reset_less=True), Signal(layout)
        issue, last = Signal(), Signal()
        m.d.comb += [
            now.eq(state),
            issue.eq(
                start | (running & (rest == 0) & (state.second | self._keyless | _ahead(self.k_passed, state.number)))
            ),
            last.eq(now.left == 1),
        ]
        with m.If(start):
            m.d.comb += [
                now.line.eq(chosen.row.line),
                now.number.eq(self._number),
                now.place.eq(0),
                now.left.eq(chosen.row.lines),
                now.keys.eq(chosen.row.keys),
                now.side.eq(chosen.side),
                now.second.eq(second),
            ]
        wraps = now.line + 1 == k_ring(unit, self.format)
        folds = format_value(self.format, {dim: self.qk.fold(dim) - 1 for dim in self.qk.dims})
        with m.If(issue):
            m.d.sync += [
                running.eq(~last),
                state.eq(now),
                state.line.eq(Mux(wraps, 0, now.line + 1)),
                state.number.eq(now.number + 1),
                state.place.eq(now.place + 1),
                state.left.eq(now.left - 1),
                rest.eq(folds),
            ]
        with m.Elif(rest != 0):
            m.d.sync += rest.eq(rest - 1)
        m.d.comb += [
            self.busy.eq(issue | (rest != 0)),
            self.issue_msb.eq(self.busy & ~now.second),
            self.issue_lsb.eq(self.busy & now.second),
        ]
        self._read_lines(m, issue, now, last, folds)
        return m

    # ---- what can start -------------------------------------------------------------------------------------------
    def _first_pass(self, m: Module, may_start: Value, first: Signal) -> data.View:
        """The next row in order, with the resources that it will take."""
        unit = self.unit
        m.submodules.rows = rows = QkRows(unit)
        m.d.comb += [
            rows.dispatch.valid.eq(self.dispatch.valid & ~self.dispatch.payload.state),
            rows.dispatch.payload.eq(self.dispatch.payload),
            rows.format.eq(self.format),
            rows.restart.eq(self.format_change),
            rows.row.ready.eq(first),
        ]
        row = rows.row.payload
        self._number = row.number
        number = Signal(range(self.rows))  # of the row
        unfinished, not_final = Signal(range(self.rows + 1)), Signal(range(self.rows + 1))
        score, free_words = Signal(range(unit.score_words)), Signal(range(unit.score_words + 1), init=unit.score_words)
        freed, beyond = Signal(range(unit.score_words + 1)), Signal(range(2 * unit.score_words))
        m.d.comb += [
            first.eq(
                may_start
                & rows.row.valid
                & (unfinished != self.rows)
                & (row.first_tile | row.sums_in | (not_final == 0))
                & (row.lines <= free_words)
                & _ahead(self.query_passed, self.query_number)
                & (self._keyless | _ahead(self.k_passed, row.number))
            ),
            freed.eq(Mux(self.score_release.valid, self.score_release.payload.count, 0)),
            beyond.eq(score + row.lines),
        ]
        m.d.sync += [
            unfinished.eq(unfinished + first - self.row_finished),
            not_final.eq(not_final + first - self.query_release),
            self.query_number.eq(self.query_number + (first | self.record_taken)),
            free_words.eq(free_words + freed - Mux(first, row.lines, 0)),
        ]
        with m.If(first):
            m.d.sync += [
                number.eq(number + 1),
                score.eq(Mux(beyond >= unit.score_words, beyond - unit.score_words, beyond)),
            ]
        record = Signal(self.record, name="fresh")
        m.d.comb += [
            *(record.row[name].eq(row[name]) for name, _ in row.shape() if name in dict(record.row.shape())),
            record.row.row.eq(number),
            record.row.score.eq(score),
            record.slot.eq(self.query_number[: unit.arch.fetcher.query_slots.bit_length() - 1]),
            record.side.eq(row.side),
            record.mantissa.eq(row.mantissa),
            record.shift.eq(row.shift),
            self.decay.eq(row.decay),
        ]
        return record

    def _second_pass(self, m: Module, may_start: Value, second: Signal, fresh: data.View, first: Value) -> data.View:
        """The oldest request's row, from the table of rows in flight; it is read ahead."""
        m.submodules.requests = requests = Queue(range(self.rows), self.rows)
        m.submodules.table = table = Sram(self.record.size, self.rows)
        have, fetch = Signal(), Signal()
        number = Signal(sequence_bits(self.unit))  # running number of the request
        m.d.comb += [
            requests.i.valid.eq(self.lsb_request.valid),
            requests.i.payload.eq(self.lsb_request.payload.row),
            requests.o.ready.eq(~have | second),
            fetch.eq(requests.o.valid & requests.o.ready),
            table.read_enable.eq(fetch),
            table.read_address.eq(requests.o.payload),
            table.write_enable.eq(first),
            table.write_address.eq(fresh.row.row),
            table.write_data.eq(fresh),
            second.eq(may_start & have & _ahead(self.lsb_passed, number)),
        ]
        m.d.sync += [have.eq(fetch | have & ~second), number.eq(number + second)]
        return data.View(self.record, table.read_data)

    # ---- what goes out --------------------------------------------------------------------------------------------
    def _send_query(self, m: Module, start: Value, chosen: data.View) -> None:
        query, scale = self.query.payload, Signal(self.record, name="scale", reset_less=True)
        m.d.sync += self.query.valid.eq(start)
        with m.If(start):
            m.d.sync += [scale.mantissa.eq(chosen.mantissa), scale.shift.eq(chosen.shift)]
        m.d.comb += [
            query.mantissa.eq(scale.mantissa),
            query.shift.eq(scale.shift),
            query.log2_dim.eq(self.format.log2_dim),
        ]
        for at in range(0, self.unit.entry_words, HEAD_STEP):
            with m.If(self.format.head_dim > at):
                m.d.comb += [query.words[i].eq(self.query_words[i]) for i in range(at, at + HEAD_STEP)]

    def _read_lines(self, m: Module, issue: Value, now: data.View, last: Value, folds: Value) -> None:
        """ISSUE_CYCLES behind the issue the memory is read, part by part; one more, and the line is there."""
        per_line = format_value(self.format, {dim: self.qk.keys_per_line(dim) for dim in self.qk.dims})
        count_fields = {"count": range(self.qk.lanes + 1), "last": 1}
        layout = data.StructLayout(
            {"line": line_bits(self.unit), "place": now.place.shape(), "side": 1, "mask_lsb": 1, **count_fields}
        )
        issued_valid, reading, valid = Signal(), Signal(), Signal()
        issued, read = Signal(layout, reset_less=True), Signal(layout, reset_less=True)
        part = Signal(self.k_read_part.shape(), reset_less=True)
        given = Signal(data.StructLayout(count_fields), reset_less=True)
        # Keys beyond the last whole line; per_line is a power of two.
        over = (now.keys & (per_line - 1))[: len(per_line)]
        m.d.sync += issued_valid.eq(issue)
        with m.If(issue):
            m.d.sync += [
                issued.line.eq(now.line),
                issued.place.eq(now.place),
                issued.side.eq(now.side),
                issued.mask_lsb.eq(~now.second),
                issued.count.eq(Mux(last & (over != 0), over, per_line)),
                issued.last.eq(last),
            ]
        m.d.sync += [reading.eq(issued_valid | (reading & (part != folds))), part.eq(part + 1)]
        with m.If(issued_valid):
            m.d.sync += [read.eq(issued), part.eq(0)]
        m.d.comb += [
            self.k_read_enable.eq(reading & ~self._keyless),
            self.k_read_line.eq(read.line),
            self.k_read_part.eq(part),
            self.k_read_side.eq(read.side),
            self.k_read_mask_lsb.eq(read.mask_lsb),
        ]
        ones = Signal(self.qk.multipliers, reset_less=True)
        with m.If(self._keyless):
            m.d.sync += ones.eq(self._identity(m, read.place, part))
        m.d.sync += [valid.eq(reading), given.count.eq(read.count), given.last.eq(read.last)]
        m.d.comb += [
            self.line.valid.eq(valid),
            *(
                word.eq(Mux(self._keyless, Mux(one, IDENTITY_WORD, 0), stored))
                for word, one, stored in zip(self.line.payload.words, ones, self.k_words, strict=True)
            ),
            self.line.payload.count.eq(given.count),
            self.line.payload.last.eq(given.last),
        ]

    def _identity(self, m: Module, place: Value, part: Value) -> Value:
        """Which words of a part of the row's line number ``place`` are those of their keys' own dimensions."""
        qk = self.qk
        is_place, is_part = Signal(self.unit.entry_words), Signal(1 << len(part))
        m.d.comb += [is_place.eq(1 << place), is_part.eq(1 << part)]
        ones: list[Value] = [Const(0, 1)] * qk.multipliers
        for dim in qk.dims:
            is_dim = Signal(name=f"identity_{dim}")
            m.d.comb += is_dim.eq(self.format.log2_dim == dim.bit_length() - 1)
            keys = qk.keys_per_line(dim)
            for d in range(dim):  # word of key d in dimension d
                line, key = divmod(d, keys)
                of_part, word = divmod(key * dim + d, qk.multipliers)
                one = is_dim & is_place[line]
                ones[word] |= one & is_part[of_part] if qk.fold(dim) > 1 else one
        return Cat(ones)
