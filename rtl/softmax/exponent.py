"""First pass of the softmax: scores to base-2 exponents under a running integer maximum, and their running sum."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.softmax import NO_MAXIMUM
from accel.units.softmax import (
    EXPONENT_BITS,
    MAXIMUM_BITS,
    SCORE_BITS,
    SCORE_FRACTION_BITS,
    THRESHOLD_BITS,
    WEIGHT_BITS,
    SoftmaxUnit,
)
from rtl.softmax.adders import add, compress, products
from rtl.softmax.decay import GONE, decayed
from rtl.softmax.inlet import Inlet
from rtl.softmax.power import power_of_two
from rtl.softmax.stages import Stages

__all__ = ["Exponent", "exponent_line", "row_sum", "score_line"]


def score_line(unit: SoftmaxUnit) -> data.StructLayout:
    """``count`` (1 to lanes) scores at the front; on a row's first line the sum it starts from (``NO_MAXIMUM`` and 0:
    fresh) and the threshold of the maximum test. With ``weighing`` each score is to be multiplied by 2^-(shift +
    fraction) of its lane instead.
    """
    return data.StructLayout(
        {
            "scores": data.ArrayLayout(signed(SCORE_BITS), unit.lanes),
            "count": range(unit.lanes + 1),
            "last": 1,
            "start_maximum": signed(MAXIMUM_BITS),
            "start_total": unit.total_bits,
            "threshold": THRESHOLD_BITS,
            "weighing": 1,
            "decay_fractions": data.ArrayLayout(SCORE_FRACTION_BITS, unit.lanes),
            "decay_shifts": data.ArrayLayout(range(GONE + 1), unit.lanes),
        }
    )


def exponent_line(unit: SoftmaxUnit) -> data.StructLayout:
    """What the score buffer keeps of a line: exponents and the running maximum that all of them refer to. Or signed
    weights in the upper bits of the exponents, and maximum 0: with a row of maximum 0 ``Normalise`` leaves them as they
    are.
    """
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

    A line passes: maximum (``unit.maximum_cycles`` stages, on ceilings; in the last of them also the running maximum
    and, beside it, the table), two stages of interpolation, shift, sum of the line, running sum. A row's last line goes
    on through the multiply and the compare of the test. Two loops close within a cycle: the running maximum; and the
    sum, shifted right by the rise of the maximum and then added to, the longest path together with the line's sum.

    The row's largest exponent needs no search for its largest score: the line that holds it has the row's final
    maximum, and the exponent never falls as the score rises. So it is the largest since the maximum last rose.

    A ``weighing`` line takes the same time: the table gives the decay's mantissa, and the three stages behind it, in
    which exponents are shifted and summed, multiply the score with it, carries left open; resolve; shift, round and
    saturate. Its row has maximum 0, adds nothing to the sum that it starts from, and ``flat`` carries no meaning.

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
        stages = Stages(m, advance)
        line = inlet.o.payload

        # A list that goes along with a line is indexed by the register it lies in: 0 is the inlet, the maximum leaves
        # its loop in register ``met``, the exponents are summed from ``made`` on and offered in ``out``.
        met, made, out = unit.maximum_cycles, unit.maximum_cycles + 3, unit.exponent_cycles
        valid = [inlet.o.valid]
        for register in range(1, out + 1):
            valid.append(stages.flag(valid[-1], f"valid_{register}"))
        starts = Signal(init=1)
        with m.If(advance & inlet.o.valid):
            m.d.sync += starts.eq(line.last)
        first = stages.along(starts, "first", out)
        last = stages.along(line.last, "last", out)
        count = stages.along(line.count, "count", out - 1)
        weighing = stages.along(line.weighing, "weighing", out - 1)

        # A score is its ceiling less a fraction. Only the ceilings take part in the maximum.
        greatest, ceilings, below = [], [], []
        for lane in range(lanes):
            score = line.scores[lane]
            ceiling = Signal(signed(MAXIMUM_BITS), name=f"ceiling_{lane}")
            m.d.comb += ceiling.eq(score[SCORE_FRACTION_BITS:].as_signed() + score[:SCORE_FRACTION_BITS].any())
            ceilings.append(stages.delayed(ceiling, f"ceiling_{lane}", met))
            fraction = Mux(
                line.weighing, line.decay_fractions[lane], (-score[:SCORE_FRACTION_BITS])[:SCORE_FRACTION_BITS]
            )
            below.append(stages.delayed(fraction, f"below_{lane}", met - 1))
            greatest.append(Mux(lane < line.count, ceiling, NO_MAXIMUM))
        for stage in range(met):
            greatest = _greatest(greatest)
            if stage < met - 1:
                greatest = [stages.after(value, f"greatest_{stage + 1}_{i}") for i, value in enumerate(greatest)]
        running = Signal(signed(MAXIMUM_BITS), reset_less=True)
        start_maximum = stages.delayed(line.start_maximum, "start_maximum", met - 1)
        before = Mux(first[met - 1], start_maximum, running)
        rises = Signal()
        m.d.comb += rises.eq(greatest[0] > before)
        rise_met = stages.after(Mux(rises, greatest[0] - before, 0)[:MAXIMUM_BITS], "rise")
        with m.If(advance & valid[met - 1]):
            m.d.sync += running.eq(Mux(weighing[met - 1], 0, Mux(rises, greatest[0], before)))
        maximum = stages.along(running, "maximum", out + 1 - met)

        exponents, weights = [], []
        for lane in range(lanes):
            whole = Signal(MAXIMUM_BITS, name=f"whole_{lane}")
            m.d.comb += whole.eq(running - ceilings[lane])
            exponent, mantissa = power_of_two(m, stages, below[lane], whole, lane)
            counts = (lane < count[made - 1]) & ~weighing[made - 1]
            exponents.append(stages.along(Mux(counts, exponent, 0), f"exponent_{lane}", 2))
            # 0 while there are exponents: then nothing moves in the multiplier.
            score = stages.delayed(Mux(line.weighing, line.scores[lane], 0), f"score_{lane}", made - 1)
            shift = stages.delayed(line.decay_shifts[lane], f"decay_shift_{lane}", made - 1)
            weights.append(decayed(m, stages, score, mantissa, shift, lane))
        summands = [exponent[1] for exponent in exponents]

        # The sum. A row's start has made its shift ahead of the loop and takes the place of the sum so far.
        far = (1 << 6) - 1  # shifts everything out
        rise = Signal(6)
        m.d.comb += rise.eq(Mux(rise_met < far, rise_met, far))
        start_total = stages.delayed(line.start_total, "start_total", met) >> rise
        carried_in = stages.delayed(Mux(first[met], start_total, 0), "carried_in", out - 1 - met)
        rise_now = stages.delayed(Mux(first[met], far, rise), "rise_now", out - 1 - met)
        line_bits = EXPONENT_BITS + lanes.bit_length() - 1
        line_total = stages.after(sum(compress(m, summands, line_bits))[:line_bits], "line_total")
        total, so_far = Signal(unit.total_bits, reset_less=True), Signal(unit.total_bits)
        m.d.comb += so_far.eq(total >> rise_now | carried_in)
        with m.If(advance & valid[out - 1]):
            m.d.sync += total.eq(add(m, so_far, line_total, "total_next"))

        # The largest exponent since the maximum last rose: up a tree beside the two sums, then its own loop.
        levels = lanes.bit_length() - 1
        for _ in range(levels // 2):
            summands = _greatest(summands)
        summands = [stages.after(value, f"greater_{i}") for i, value in enumerate(summands)]
        for _ in range(levels // 2, levels):
            summands = _greatest(summands)
        largest_here = stages.after(summands[0], "largest_here")
        anew = stages.delayed(first[met] | rise.any(), "anew", out - met)
        largest = Signal(EXPONENT_BITS, reset_less=True)
        with m.If(advance & valid[out]):
            m.d.sync += largest.eq(Mux(anew | (largest_here > largest), largest_here, largest))

        # flat: largest << THRESHOLD_BITS < threshold * total. The product's carries stay open for a stage; then the
        # bit above both sides is the sign of product - largest' - 1.
        threshold = Signal(THRESHOLD_BITS, reset_less=True)
        arrived = stages.delayed(line.threshold, "threshold", out - 1)
        with m.If(advance & valid[out - 1] & first[out - 1]):
            m.d.sync += threshold.eq(arrived)
        width = unit.total_bits + THRESHOLD_BITS + 1
        product = [
            stages.after(part, f"product_{i}")
            for i, part in enumerate(compress(m, products(m, total, threshold, width), width))
        ]
        against = Signal(width)
        m.d.comb += against.eq(Cat(Const(0, THRESHOLD_BITS), largest))
        difference = sum(compress(m, [*product, ~against], width))
        row_ends = stages.flag(valid[out] & last[out], "row_ends")
        total_then = stages.after(total, "total_then")

        with m.If(advance):
            m.d.sync += [
                self.exponents.valid.eq(valid[out - 1]),
                *(
                    self.exponents.payload.exponents[lane].eq(
                        Mux(weighing[out - 1], weights[lane] << EXPONENT_BITS - WEIGHT_BITS, exponents[lane][2])
                    )
                    for lane in range(lanes)
                ),
                self.exponents.payload.maximum.eq(maximum[out - 1 - met]),
                self.exponents.payload.count.eq(count[out - 1]),
                self.exponents.payload.last.eq(last[out - 1]),
                self.sums.valid.eq(row_ends),
                self.sums.payload.maximum.eq(maximum[out + 1 - met]),
                self.sums.payload.total.eq(total_then),
                self.sums.payload.largest.eq(largest),
                self.sums.payload.flat.eq(~difference[width - 1]),
            ]
        with m.Else():  # one output is refused; what the other one offers may leave
            with m.If(self.exponents.ready):
                m.d.sync += self.exponents.valid.eq(0)
            with m.If(self.sums.ready):
                m.d.sync += self.sums.valid.eq(0)
        return m
