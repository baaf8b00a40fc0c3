"""Second pass of the softmax: final rows leave the score buffer line by line, in row order."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from accel.units.engine import TOKEN_BITS, EngineUnit
from accel.units.softmax import MAXIMUM_BITS, NORMALISE_READ_CYCLES, SoftmaxUnit
from rtl.job import (
    format_layout,
    log2_keys_per_line,
    log2_values_per_line,
    pass_layout,
    release_layout,
    weight_line_layout,
    weights_layout,
)
from rtl.requant import final_layout
from rtl.softmax.exponent import exponent_line
from rtl.softmax.normalise import weight_line
from rtl.softmax.reciprocal import row_reciprocal
from rtl.sram import Sram
from rtl.stream import Queue

__all__ = [
    "SecondPass",
    "place_layout",
    "select_layout",
    "token_read_signature",
]

#: Selecting rows between the start of their second pass and their last word out of the top-k: its source banks.
SELECTING_ROWS = 2
_FURTHEST_RISE = 63  # shifts any sum out


def place_layout(unit: EngineUnit) -> data.StructLayout:
    """What local values need of a weight line beside the line. word: of the ring, for a row that is not selecting."""
    return data.StructLayout({"selecting": 1, "v_selected": 1, "word": range(unit.ring_words)})


def select_layout(unit: EngineUnit) -> data.StructLayout:
    """A selecting row whose second pass starts; fields as in ``weights_layout`` and ``pass_layout``."""
    weights = weights_layout(unit)
    fields = {name: weights[name].shape for name in ("keys", "kept", "granule")}
    return data.StructLayout({**fields, "v_selected": 1})


def token_read_signature(unit: EngineUnit) -> wiring.Signature:
    """A reader of the keep list: in the cycle after ``enable``, the tokens of entries position, position + 1, ..."""
    tokens = data.ArrayLayout(TOKEN_BITS, unit.arch.softmax.lanes)
    return wiring.Signature({"enable": Out(1), "version": Out(1), "position": Out(TOKEN_BITS), "tokens": In(tokens)})


class SecondPass(wiring.Component):
    """Score buffer and what is known of each row, from its exponents to its weight lines. Gives out the weight ring.

    Row r, in row order, starts at t when, all by registers: its reciprocal is stored; the row before has been read
    out; the ring has its granules (``EngineUnit.kept_granules``). A selecting row: also fewer than ``SELECTING_ROWS``
    selecting rows are before their last word out of the top-k, and the last line of the previous one was read at t - 2
    or before. A row that is not: no selecting row is before its last word out, so that the ring needs a single write
    port.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    format : In(format_layout).
    passes, exponents : In(streams, always taken). A pass's exponents go to the words of the buffer from ``score`` on.
    final : In(stream of final_layout, always ready). reciprocals: In(stream of row_reciprocal, always taken), in the
        same order, later.
    rows, stored : Out(streams), never refused: the normaliser's inputs, at t and t + i + 1 (line i).
    normalised : In(stream of weight_line, always taken): at t + i + normalise_cycles.
    score_release : Out(stream of release_layout, always ready). At t: the row's words.
    weights : Out(stream of weights_layout, always ready). At t.
    select : Out(stream of select_layout, always ready). At t, of a selecting row.
    token_read : Out(token_read_signature). At t + i + normalise_cycles - 2, of a row whose keys are list entries.
    line : Out(stream of weight_line_layout, always ready), position counting the row's keys, and place : Out
        (place_layout), both in the cycle of normalised.
    selected : In(1). A selecting row's last word leaves the top-k.
    ring_release : In(stream of release_layout, always ready): granules, counted from the next cycle on.
    busy : Out(1). A line of the buffer is read.

    rows, weights, select and score_release are decoded from registers (of which the row tables, read asynchronously,
    so that one-line rows may follow each other in every cycle).
    """

    def __init__(self, unit: EngineUnit):
        self.unit, self.softmax = unit, SoftmaxUnit.of(unit.arch)
        softmax = self.softmax
        super().__init__(
            {
                "format": In(format_layout()),
                "passes": In(stream.Signature(pass_layout(unit), always_ready=True)),
                "exponents": In(stream.Signature(exponent_line(softmax))),
                "final": In(stream.Signature(final_layout(unit), always_ready=True)),
                "reciprocals": In(stream.Signature(row_reciprocal(softmax))),
                "rows": Out(stream.Signature(row_reciprocal(softmax))),
                "stored": Out(stream.Signature(exponent_line(softmax))),
                "normalised": In(stream.Signature(weight_line(softmax))),
                "score_release": Out(
                    stream.Signature(release_layout(unit.score_words.bit_length()), always_ready=True)
                ),
                "weights": Out(stream.Signature(weights_layout(unit), always_ready=True)),
                "select": Out(stream.Signature(select_layout(unit), always_ready=True)),
                "token_read": Out(token_read_signature(unit)),
                "line": Out(stream.Signature(weight_line_layout(unit), always_ready=True)),
                "place": Out(place_layout(unit)),
                "selected": In(1),
                "ring_release": In(stream.Signature(release_layout(unit.granules.bit_length()), always_ready=True)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.buffer = self._buffer = Sram(exponent_line(self.softmax).size, self.unit.score_words)
        self._store(m)
        self._start_rows(m)
        self._read_lines(m)
        return m

    def _store(self, m: Module) -> None:
        """Exponents into the words of their pass."""
        unit, buffer, exponents = self.unit, self._buffer, self.exponents
        m.submodules.storing = queue = Queue(range(unit.score_words), unit.arch.rows_in_flight)
        first, following = Signal(init=1), Signal(range(unit.score_words))
        m.d.comb += [
            queue.i.valid.eq(self.passes.valid),
            queue.i.payload.eq(self.passes.payload.score),
            queue.o.ready.eq(exponents.valid & first),
            exponents.ready.eq(1),
            buffer.write_enable.eq(exponents.valid),
            buffer.write_address.eq(Mux(first, queue.o.payload, following)),
            buffer.write_data.eq(exponents.payload),
        ]
        with m.If(exponents.valid):
            m.d.sync += [
                first.eq(exponents.payload.last),
                following.eq(_wrapped(buffer.write_address + 1, unit.score_words)),
            ]

    def _start_rows(self, m: Module) -> None:
        """Row tables, and the decision that the next row starts."""
        unit, final = self.unit, self.final
        rows = unit.arch.rows_in_flight
        next_row, stored = Signal(range(rows)), Signal(rows)

        of_row = final_layout(unit).members
        layout = data.StructLayout({**of_row, "granules": range(unit.granules + 1)})
        m.submodules.row_table = row_table = Memory(shape=layout, depth=rows, init=[])
        row_write, row_read = row_table.write_port(), row_table.read_port(domain="comb")
        m.submodules.dividing = dividing = Queue(range(rows), rows)
        inverse_layout = row_reciprocal(self.softmax)
        m.submodules.inverse_table = inverse_table = Memory(shape=inverse_layout, depth=rows, init=[])
        inverse_write, inverse_read = inverse_table.write_port(), inverse_table.read_port(domain="comb")
        m.d.comb += [
            row_write.en.eq(final.valid),
            row_write.addr.eq(final.payload.row),
            *(row_write.data[name].eq(final.payload[name]) for name in of_row),
            row_write.data.granules.eq(self._granules()),
            row_read.addr.eq(next_row),
            dividing.i.valid.eq(final.valid),
            dividing.i.payload.eq(final.payload.row),
            dividing.o.ready.eq(self.reciprocals.valid),
            self.reciprocals.ready.eq(1),
            inverse_write.en.eq(self.reciprocals.valid),
            inverse_write.addr.eq(dividing.o.payload),
            inverse_write.data.eq(self.reciprocals.payload),
            inverse_read.addr.eq(next_row),
        ]
        self._row, self._start, self._left = row_read.data, Signal(), Signal.like(final.payload.lines)
        row, start, inverse = self._row, self._start, inverse_read.data

        granule, used = Signal(range(unit.granules)), Signal(range(unit.granules + 1))
        wanted, selecting_rows = row.granules, Signal(range(SELECTING_ROWS + 1))
        self._selecting_ended = Signal()  # a selecting row's last line was read in the cycle before
        m.d.comb += [
            start.eq(
                stored.bit_select(next_row, 1)
                & (self._left == 0)
                & (used + wanted <= unit.granules)
                & Mux(
                    row.selecting,
                    (selecting_rows != SELECTING_ROWS) & ~self._selecting_ended,
                    selecting_rows == 0,
                )
            ),
        ]
        with m.If(self.reciprocals.valid):
            m.d.sync += stored.bit_select(dividing.o.payload, 1).eq(1)
        maximum_before = Signal(signed(MAXIMUM_BITS), reset_less=True)
        with m.If(start):
            m.d.sync += [
                stored.bit_select(next_row, 1).eq(0),
                next_row.eq(next_row + 1),
                granule.eq(_wrapped(granule + wanted, unit.granules)),
                maximum_before.eq(inverse.maximum),
            ]
        freed = Mux(self.ring_release.valid, self.ring_release.payload.count, 0)
        m.d.sync += [
            used.eq(used + Mux(start, wanted, 0) - freed),
            selecting_rows.eq(selecting_rows + (start & row.selecting) - self.selected),
        ]

        rise = Signal(MAXIMUM_BITS)
        weights, select = self.weights.payload, self.select.payload
        m.d.comb += [
            rise.eq(inverse.maximum - Mux(row.sums_in, row.start_maximum, maximum_before)),
            self.rows.valid.eq(start),
            self.rows.payload.eq(inverse),
            self.score_release.valid.eq(start),
            self.score_release.payload.count.eq(row.lines),
            self.weights.valid.eq(start),
            weights.granule.eq(granule),
            weights.reciprocal.eq(inverse.reciprocal),
            weights.shift.eq(inverse.shift),
            weights.maximum.eq(inverse.maximum),
            weights.total.eq(row.total),
            weights.rise.eq(Mux(row.first_tile, 0, Mux(rise < _FURTHEST_RISE, rise, _FURTHEST_RISE))),
            *(weights[name].eq(row[name]) for name in ("keys", "kept", "selecting")),
            self.select.valid.eq(start & row.selecting),
            select.granule.eq(granule),
            *(select[name].eq(row[name]) for name in ("keys", "kept", "v_selected")),
        ]
        self._granule = granule

    def _granules(self) -> Value:
        """Granules of the ring that the final row takes."""
        unit, row = self.unit, self.final.payload
        log2_values = log2_values_per_line(unit, self.format.log2_dim)
        lines = (row["keys"] + (1 << log2_values) - 1) >> log2_values
        by_column = row.selecting & ~row.v_selected & (log2_values != 0)
        items = Mux(by_column, Mux(lines < row.kept, lines, row.kept) << log2_values, row.kept)
        return (items + unit.granule - 1) >> (unit.granule.bit_length() - 1)

    def _read_lines(self, m: Module) -> None:
        """A row's lines out of the buffer, one per cycle; what goes along with a line until it is normalised."""
        unit, buffer, start, left = self.unit, self._buffer, self._start, self._left
        words, log2_lanes = unit.ring_words, unit.arch.topk.lanes.bit_length() - 1
        along = data.StructLayout(
            {
                "first": 1,
                "position": TOKEN_BITS,
                "token": TOKEN_BITS,
                "word": range(words),
                **dict.fromkeys(("list", "version", "selecting", "v_selected", "accumulate"), 1),
            }
        )
        flags = ("list", "version", "selecting", "v_selected", "accumulate")
        depth = self.softmax.normalise_cycles
        # Read, in the cycle of the line's read: position and token of its first key, the row's first word of the ring.
        reading = Signal()
        stages = [Signal(along, name=f"along_{stage}", reset_less=stage > 0) for stage in range(depth + 1)]
        valid = [reading, *(Signal(name=f"valid_{stage}") for stage in range(1, depth + 1))]
        now, following = stages[0], Signal(along, reset_less=True)
        address = Signal(range(unit.score_words), reset_less=True)
        keys = Signal(range(unit.arch.softmax.lanes + 1))
        last = Signal()
        m.d.comb += [
            keys.eq(1 << log2_keys_per_line(unit, self.format.log2_dim)),
            reading.eq(start | (left != 0)),
            last.eq(Mux(start, self._row.lines == 1, left == 1)),
            now.eq(following),
            buffer.read_enable.eq(reading),
            buffer.read_address.eq(address),
            self.busy.eq(reading),
        ]
        with m.If(start):
            m.d.comb += [
                now.first.eq(1),
                now.position.eq(0),
                now.token.eq(self._row.first_key),
                now.word.eq(self._granule << ((unit.granule.bit_length() - 1) - log2_lanes)),
                *(now[name].eq(self._row[name]) for name in flags),
                buffer.read_address.eq(self._row.score),
            ]
            m.d.sync += left.eq(self._row.lines - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        m.d.sync += [
            following.eq(now),
            following.first.eq(0),
            following.position.eq(now.position + keys),
            following.token.eq(now.token + keys),
            address.eq(_wrapped(buffer.read_address + 1, unit.score_words)),
            self._selecting_ended.eq(reading & last & now.selecting),
        ]
        for stage in range(depth):
            m.d.sync += [valid[stage + 1].eq(valid[stage]), stages[stage + 1].eq(stages[stage])]
        m.d.sync += stages[2].word.eq(_wrapped(stages[1].word + (stages[1].position >> log2_lanes), words))

        # Keep list: asked two cycles before the line leaves, so that its tokens leave from registers.
        asking, answered, out = stages[depth - 2], stages[depth - 1], stages[depth]
        tokens, line = self.line.payload.tokens, self.line.payload
        held = Signal(tokens.shape(), reset_less=True)
        m.d.comb += [
            self.token_read.enable.eq(valid[depth - 2] & asking.list),
            self.token_read.version.eq(asking.version),
            self.token_read.position.eq(asking.token),
        ]
        for lane in range(unit.arch.softmax.lanes):
            m.d.sync += held[lane].eq(Mux(answered.list, self.token_read.tokens[lane], answered.token + lane))

        assert NORMALISE_READ_CYCLES == 1  # of Sram
        m.d.comb += [
            self.stored.valid.eq(valid[1]),
            self.stored.payload.eq(buffer.read_data),
            self.normalised.ready.eq(1),
            self.line.valid.eq(self.normalised.valid),
            *(line[name].eq(self.normalised.payload[name]) for name in ("weights", "probabilities", "count", "last")),
            tokens.eq(held),
            line.position.eq(out.position),
            line.first.eq(out.first),
            line.accumulate.eq(out.accumulate),
            *(self.place[name].eq(out[name]) for name in ("selecting", "v_selected", "word")),
        ]


def _wrapped(number: Value, size: int) -> Value:
    """number modulo size, for a number below 2 * size."""
    return Mux(number >= size, number - size, number)
