"""First pass of the softmax: scores to base-2 exponents under a running integer maximum, and their running sum."""

from itertools import pairwise

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.softmax import NO_MAXIMUM, exponent_table
from accel.units.softmax import (
    EXPONENT_BITS,
    MAXIMUM_BITS,
    SCORE_BITS,
    SCORE_FRACTION_BITS,
    SEGMENTS,
    TABLE_BITS,
    THRESHOLD_BITS,
    SoftmaxUnit,
)
from rtl.softmax.carry_save import compress, multiply
from rtl.softmax.inlet import Inlet

__all__ = ["Exponent", "exponent_line", "row_sum", "score_line"]

_FURTHEST = EXPONENT_BITS + 1  # shifted by this or more, an exponent rounds to nothing


def score_line(unit: SoftmaxUnit) -> data.StructLayout:
    """``count`` (1 to lanes) scores at the front; on a row's first line the sum it starts from (``NO_MAXIMUM`` and 0:
    fresh) and the threshold of the maximum test.
    """
    return data.StructLayout(
        {
            "scores": data.ArrayLayout(signed(SCORE_BITS), unit.lanes),
            "count": range(unit.lanes + 1),
            "last": 1,
            "start_maximum": signed(MAXIMUM_BITS),
            "start_total": unit.total_bits,
            "threshold": THRESHOLD_BITS,
        }
    )


def exponent_line(unit: SoftmaxUnit) -> data.StructLayout:
    """What the score buffer keeps of a line: exponents and the running maximum that all of them refer to."""
    return data.StructLayout(
        {
            "exponents": data.ArrayLayout(EXPONENT_BITS, unit.lanes),
            "maximum": signed(MAXIMUM_BITS),
            "count": range(unit.lanes + 1),
            "last": 1,
        }
    )


def row_sum(unit: SoftmaxUnit) -> data.StructLayout:
    """A row's end: its sum, its largest exponent, and whether that is below the threshold of the sum."""
    return data.StructLayout(
        {"maximum": signed(MAXIMUM_BITS), "total": unit.total_bits, "largest": EXPONENT_BITS, "flat": 1}
    )


def _greatest(values: list[Value]) -> list[Value]:
    """One level of a tree of maxima."""
    return [Mux(a > b, a, b) for a, b in zip(values[::2], values[1::2], strict=True)] if len(values) > 1 else values


class Exponent(wiring.Component):
    """Exponents of score lines, one line per cycle, and per row its sum and the maximum test.

    A line passes: maximum (``unit.maximum_cycles`` stages, on ceilings; the running maximum joins in the last), table,
    interpolate, shift, sum of the line, running sum; its last line goes on through multiply and compare of the test.
    Two loops close within a cycle: the running maximum, and the sum, shifted right by the rise of the maximum.

    The row's largest exponent needs no search for its largest score: the line that holds it has the row's final
    maximum, and the exponent never falls as the score rises. So it is the largest since the maximum last rose.

    Parameters
    ----------
    unit : SoftmaxUnit.

    Members
    -------
    scores : In(stream of score_line). The start and the threshold carry no meaning but on a row's first line; scores
        from count on carry none.
    exponents : Out(stream of exponent_line). One for each line; lanes from count on carry no meaning.
    sums : Out(stream of row_sum). One for each row.

    Latency ``unit.exponent_cycles`` from scores to exponents and, for a row's last line, ``unit.test_cycles`` more to
    sums; initiation interval 1.

    Back-pressure: while an offer on either output is refused all stages hold, and one line more is taken. scores.ready
    and everything of the outputs are registers. Golden: ``accel.numerics.softmax.softmax_row``, ``is_flat``.
    """

    def __init__(self, unit: SoftmaxUnit):
        self.unit = unit
        super().__init__(
            {
                "scores": In(stream.Signature(score_line(unit))),
                "exponents": Out(stream.Signature(exponent_line(unit))),
                "sums": Out(stream.Signature(row_sum(unit))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, lanes = self.unit, self.unit.lanes
        m.submodules.inlet = inlet = Inlet(score_line(unit))
        wiring.connect(m, wiring.flipped(self.scores), inlet.i)
        advance = Signal()
        m.d.comb += [
            advance.eq((~self.exponents.valid | self.exponents.ready) & (~self.sums.valid | self.sums.ready)),
            inlet.o.ready.eq(advance),
        ]

        def staged(value: Value, name: str) -> Signal:
            """The value one stage later."""
            register = Signal(Value.cast(value).shape(), name=name, reset_less=True)
            with m.If(advance):
                m.d.sync += register.eq(value)
            return register

        def carried(value: Value, name: str, stages: int) -> list[Value]:
            """The value and its copies in the stages that follow."""
            copies = [value]
            for stage in range(stages):
                copies.append(staged(copies[-1], f"{name}_{stage + 1}"))
            return copies

        # What goes along with a line. Index: the stage register it lies in; 0 is the inlet.
        line = inlet.o.payload
        maximum_at = unit.maximum_cycles
        table, interpolate, shift, add = range(maximum_at, maximum_at + 4)  # the register that each of them reads
        out = unit.exponent_cycles
        first_line = Signal(init=1)
        valid = [inlet.o.valid, *(Signal(name=f"valid_{stage + 1}") for stage in range(out + 1))]
        first = carried(first_line, "first", out)
        last = carried(line.last, "last", out)
        count = carried(line.count, "count", out)
        threshold = carried(line.threshold, "threshold", out - 1)
        start_maximum = carried(line.start_maximum, "start_maximum", maximum_at - 1)
        start_total = carried(line.start_total, "start_total", table)
        with m.If(advance):
            m.d.sync += [after.eq(before) for before, after in pairwise(valid[:-1])]
            m.d.sync += valid[out + 1].eq(valid[out] & last[out])
            with m.If(valid[0]):
                m.d.sync += first_line.eq(line.last)

        # A score is the ceiling less a fraction; only the ceilings take part in the maximum.
        ceilings: list[Value] = []
        greatest: list[Value] = []
        distances = []
        for lane in range(lanes):
            score = line.scores[lane]
            fraction, whole = score[:SCORE_FRACTION_BITS], score[SCORE_FRACTION_BITS:].as_signed()
            ceiling = Signal(signed(MAXIMUM_BITS), name=f"ceiling_{lane}")
            m.d.comb += ceiling.eq(whole + fraction.any())
            ceilings.append(carried(ceiling, f"ceiling_{lane}", table)[table])
            below = carried((-fraction)[:SCORE_FRACTION_BITS], f"below_{lane}", table + 1)
            distances.append(below)
            greatest.append(Mux(lane < line.count, ceiling, NO_MAXIMUM))
        for stage in range(maximum_at):
            greatest = _greatest(greatest)
            if stage < maximum_at - 1:
                greatest = [staged(value, f"greatest_{stage + 1}_{i}") for i, value in enumerate(greatest)]
        running = Signal(signed(MAXIMUM_BITS), reset_less=True)
        before = Mux(first[maximum_at - 1], start_maximum[maximum_at - 1], running)
        maximum_now = Mux(greatest[0] > before, greatest[0], before)
        rises = staged(greatest[0] > before, "rises")
        rise_now = staged(greatest[0] - before, "rise")
        with m.If(advance & valid[maximum_at - 1]):
            m.d.sync += running.eq(maximum_now)
        maximum = carried(running, "maximum", out + 1 - table)

        # Distance from the maximum: its fraction picks a piece of 2^-f, its whole part will shift.
        start, slope = exponent_table()
        low_bits = SCORE_FRACTION_BITS - (SEGMENTS.bit_length() - 1)
        starts = Array(Const(int(value), TABLE_BITS) for value in start)
        slopes = Array(Const(int(value), int(slope.max()).bit_length()) for value in slope)
        exponents = []
        for lane in range(lanes):
            below = distances[lane]
            segment = below[table][low_bits:]
            whole = Signal(range(1 << MAXIMUM_BITS), name=f"whole_{lane}")
            m.d.comb += whole.eq(running - ceilings[lane])
            by = carried(Mux(whole < _FURTHEST, whole, _FURTHEST)[:5], f"by_{lane}", 2)
            start_ = staged(starts[segment], f"start_{lane}")
            slope_ = staged(slopes[segment], f"slope_{lane}")
            # start - (slope * low >> bits) with the one subtraction in front of the shift
            fine = Signal(signed(TABLE_BITS + low_bits + 1), name=f"fine_{lane}")
            m.d.comb += fine.eq((start_ << low_bits) + ((1 << low_bits) - 1) - slope_ * below[table + 1][:low_bits])
            mantissa = staged(fine[low_bits : low_bits + TABLE_BITS], f"mantissa_{lane}")
            halves = Cat(Const(0, EXPONENT_BITS - TABLE_BITS + 1), mantissa) >> by[2]
            rounded = ((halves + 1) >> 1)[:EXPONENT_BITS]
            live = lane < count[shift]
            exponents.append(carried(Mux(live, rounded, 0), f"exponent_{lane}", 2))

        # The sum. A row's start is shifted ahead of the loop and added as if it were one more lane.
        far = (1 << 6) - 1  # shifts everything out
        rise = Mux(first[table], far, Mux(rises, Mux(rise_now < far, rise_now, far), 0))[:6]
        rise_start = Mux(rises, Mux(rise_now < far, rise_now, far), 0)[:6]
        rise_at_sum = carried(rise, "rise_clipped", out - 1 - table)[-1]
        carried_in = carried(Mux(first[table], start_total[table] >> rise_start, 0), "carried_in", add - table)[-1]
        line_total = staged((sum(exponent[1] for exponent in exponents) + carried_in)[: unit.total_bits], "line_total")
        total = Signal(unit.total_bits, reset_less=True)
        with m.If(advance & valid[out - 1]):
            m.d.sync += total.eq((total >> rise_at_sum) + line_total)

        # The largest exponent since the maximum last rose: up the tree beside the two sums, then the loop.
        tops = [exponent[1] for exponent in exponents]
        levels = unit.lanes.bit_length() - 1
        for level in range(levels // 2):
            tops = _greatest(tops)
        tops = [staged(value, f"top_{i}") for i, value in enumerate(tops)]
        for level in range(levels - levels // 2):
            tops = _greatest(tops)
        top = staged(tops[0], "top")
        anew = carried(first[table] | rises, "anew", out - table)[-1]
        largest = Signal(EXPONENT_BITS, reset_less=True)
        with m.If(advance & valid[out]):
            m.d.sync += largest.eq(Mux(anew | (top > largest), top, largest))

        # flat: largest << THRESHOLD_BITS < threshold * total. The product's carries stay open for a stage; then the
        # bit above both sides is the sign of product - largest' - 1.
        threshold_now = Signal(THRESHOLD_BITS, reset_less=True)
        with m.If(advance & valid[out - 1] & first[out - 1]):
            m.d.sync += threshold_now.eq(threshold[out - 1])
        width = unit.total_bits + THRESHOLD_BITS + 1
        product = [staged(part, f"product_{i}") for i, part in enumerate(multiply(m, total, threshold_now, width))]
        subtrahend = Signal(width)
        m.d.comb += subtrahend.eq(~(largest << THRESHOLD_BITS))
        bits, carries = compress(m, [*product, subtrahend], width)
        total_then = staged(total, "total_then")

        with m.If(advance):
            m.d.sync += [
                self.exponents.valid.eq(valid[out - 1]),
                *(self.exponents.payload.exponents[lane].eq(exponents[lane][2]) for lane in range(lanes)),
                self.exponents.payload.maximum.eq(maximum[out - 1 - table]),
                self.exponents.payload.count.eq(count[out - 1]),
                self.exponents.payload.last.eq(last[out - 1]),
                self.sums.valid.eq(valid[out + 1]),
                self.sums.payload.maximum.eq(maximum[out + 1 - table]),
                self.sums.payload.total.eq(total_then),
                self.sums.payload.largest.eq(largest),
                self.sums.payload.flat.eq(~(bits + carries)[width - 1]),
            ]
        with m.Else():  # one output is refused; what the other one offers may leave
            with m.If(self.exponents.ready):
                m.d.sync += self.exponents.valid.eq(0)
            with m.If(self.sums.ready):
                m.d.sync += self.sums.valid.eq(0)
        return m
