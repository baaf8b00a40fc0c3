"""Second pass of the softmax: stored exponents to weights and probabilities of the finished row."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.softmax import (
    EXPONENT_BITS,
    MANTISSA_BITS,
    PROBABILITY_BITS,
    QUOTIENT_BITS,
    RECIPROCAL_BITS,
    WEIGHT_BITS,
    SoftmaxUnit,
)
from rtl.softmax.adders import compress, products
from rtl.softmax.exponent import exponent_line
from rtl.softmax.inlet import Inlet
from rtl.softmax.power import FURTHEST
from rtl.softmax.reciprocal import row_reciprocal
from rtl.softmax.stages import Stages
from rtl.stream import Queue

__all__ = ["Normalise", "weight_line"]

#: A row's sum has this many bits or more: its largest score was within one of the maximum when it came.
_SHORTEST_TOTAL = EXPONENT_BITS
_LEAST_SHIFT = _SHORTEST_TOTAL - MANTISSA_BITS
_PRODUCT_BITS = EXPONENT_BITS + QUOTIENT_BITS
#: Product bits below the one that rounds, at the least shift; the rest of the shift is variable.
_DROPPED = RECIPROCAL_BITS - PROBABILITY_BITS + _LEAST_SHIFT - 1
_REACH = _PRODUCT_BITS - _DROPPED  # shifted by this or more, nothing is left to round


def weight_line(unit: SoftmaxUnit) -> data.StructLayout:
    """Unnormalised weights for the PV array, probabilities for importance and local-value top-k."""
    return data.StructLayout(
        {
            "weights": data.ArrayLayout(WEIGHT_BITS, unit.lanes),
            "probabilities": data.ArrayLayout(PROBABILITY_BITS + 1, unit.lanes),
            "count": range(unit.lanes + 1),
            "last": 1,
        }
    )


class Normalise(wiring.Component):
    """Weights and probabilities of stored lines, one line per cycle.

    A line passes: multiply by the reciprocal, carries left open; resolve them; shift and round. The weight needs no
    product and is shifted beside the second stage.

    Parameters
    ----------
    unit : SoftmaxUnit.

    Members
    -------
    stored : In(stream of exponent_line), in the order in which they were made; as read from the score buffer.
    rows : In(stream of row_reciprocal). One for each row; ``unit.row_queue_depth`` of them wait, and one makes room
        when the row's last line has entered the first stage. Its sum was 2^19 or more, as that of every softmax, or
        probabilities carry no meaning.
    weights : Out(stream of weight_line). One for each line; lanes from count on carry no meaning.

    Latency: ``unit.normalise_cycles`` from a line's read in the buffer, so one less from stored; a row accepted in the
    cycle of its first line's read delays nothing. Initiation interval 1, also from row to row.

    Back-pressure: while an offer is refused all stages hold, and one line more is taken; likewise while a line waits
    for its row, but what is in front of it moves on. stored.ready, rows.ready and everything of weights are
    registers or decoded from registers. Golden: ``accel.numerics.softmax.softmax_row``.
    """

    def __init__(self, unit: SoftmaxUnit):
        self.unit = unit
        super().__init__(
            {
                "stored": In(stream.Signature(exponent_line(unit))),
                "rows": In(stream.Signature(row_reciprocal(unit))),
                "weights": Out(stream.Signature(weight_line(unit))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, out = self.unit, self.weights
        m.submodules.inlet = inlet = Inlet(exponent_line(unit))
        m.submodules.queue = queue = Queue(row_reciprocal(unit), unit.row_queue_depth)
        wiring.connect(m, wiring.flipped(self.stored), inlet.i)
        wiring.connect(m, wiring.flipped(self.rows), queue.i)
        line, row = inlet.o.payload, queue.o.payload
        advance, enter = Signal(), Signal()
        m.d.comb += [
            advance.eq(~out.valid | out.ready),
            enter.eq(inlet.o.valid & queue.o.valid),
            inlet.o.ready.eq(advance & queue.o.valid),
            queue.o.ready.eq(advance & enter & line.last),
        ]

        stages = Stages(m, advance)
        valid_2 = stages.flag(stages.flag(enter, "valid_1"), "valid_2")
        count_2, last_2 = stages.delayed(line.count, "count", 2), stages.delayed(line.last, "last", 2)

        # Both shifts are the same for all lanes. Each stops where nothing is left.
        behind = Signal(range(1 << len(row.maximum)))
        m.d.comb += behind.eq(row.maximum - line.maximum)
        late = stages.after(Mux(behind < FURTHEST, behind, FURTHEST)[: FURTHEST.bit_length()], "late")
        shift_1 = stages.after((row.shift - _LEAST_SHIFT)[: unit.shift_bits], "shift_1")
        further = late + shift_1
        further_2 = stages.after(Mux(further < _REACH, further, _REACH)[: _REACH.bit_length()], "further_2")

        for lane in range(unit.lanes):
            stored = line.exponents[lane]
            product = compress(m, products(m, stored, row.reciprocal, _PRODUCT_BITS), _PRODUCT_BITS)
            bits, carries = (stages.after(part, f"product_{lane}_{i}") for i, part in enumerate(product))
            stored_1 = stages.after(stored, f"stored_{lane}")
            weight = ((stored_1[EXPONENT_BITS - WEIGHT_BITS - 1 :] >> late) + 1) >> 1
            weight_2 = stages.after(Mux(weight[WEIGHT_BITS], -1, weight)[:WEIGHT_BITS], f"weight_{lane}")
            product_2 = stages.after((bits + carries)[_DROPPED:_PRODUCT_BITS], f"product_{lane}")
            with m.If(advance):
                m.d.sync += [
                    out.payload.weights[lane].eq(weight_2),
                    out.payload.probabilities[lane].eq(((product_2 >> further_2) + 1) >> 1),
                ]
        with m.If(advance):
            m.d.sync += [out.valid.eq(valid_2), out.payload.count.eq(count_2), out.payload.last.eq(last_2)]
        return m
