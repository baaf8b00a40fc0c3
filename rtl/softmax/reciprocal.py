"""Reciprocal of a row's sum: a restoring divider with one bit of the quotient per stage."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.softmax import MANTISSA_BITS, MAXIMUM_BITS, QUOTIENT_BITS, RECIPROCAL_BITS, SoftmaxUnit
from rtl.softmax.inlet import Inlet
from rtl.softmax.stages import Stages

__all__ = ["Reciprocal", "final_row", "row_reciprocal"]


def final_row(unit: SoftmaxUnit) -> data.StructLayout:
    """A row's sum that will not change any more: 2^(MANTISSA_BITS - 1) or more, as that of every softmax. For less the
    reciprocal carries no meaning.
    """
    return data.StructLayout({"maximum": signed(MAXIMUM_BITS), "total": unit.total_bits})


def row_reciprocal(unit: SoftmaxUnit) -> data.StructLayout:
    """What the second pass needs of a row: ``reciprocal`` of the sum's upper 16 bits, ``shift`` bits further down."""
    return data.StructLayout(
        {"maximum": signed(MAXIMUM_BITS), "reciprocal": QUOTIENT_BITS, "shift": range(1 << unit.shift_bits)}
    )


class Reciprocal(wiring.Component):
    """floor(2^31 / mantissa) of the 16 bits from the sum's highest one down.

    The first stage brings the highest one to the top; each of the 17 that follow doubles the remainder, subtracts the
    mantissa where it fits, and that is one bit of the quotient. The row's maximum goes along.

    Parameters
    ----------
    unit : SoftmaxUnit.

    Members
    -------
    finals : In(stream of final_row).
    reciprocals : Out(stream of row_reciprocal). One for each row, in order.

    Latency ``unit.reciprocal_cycles``, initiation interval 1. Back-pressure: while an offer is refused all stages
    hold, and one row more is taken. finals.ready and everything of reciprocals are registers.
    Golden: ``accel.numerics.softmax.reciprocal``.
    """

    def __init__(self, unit: SoftmaxUnit):
        self.unit = unit
        super().__init__(
            {
                "finals": In(stream.Signature(final_row(unit))),
                "reciprocals": Out(stream.Signature(row_reciprocal(unit))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, out = self.unit, self.reciprocals
        m.submodules.inlet = inlet = Inlet(final_row(unit))
        wiring.connect(m, wiring.flipped(self.finals), inlet.i)
        advance = Signal()
        m.d.comb += [advance.eq(~out.valid | out.ready), inlet.o.ready.eq(advance)]

        stages = Stages(m, advance)

        # Normalise: bits below the mantissa are dropped, so only the places it can be at are looked for.
        total = inlet.o.payload.total
        highest: Value = total[:MANTISSA_BITS]
        place: Value = Const(0, unit.shift_bits)
        for low in range(1, unit.total_bits - MANTISSA_BITS + 1):
            found = total[low + MANTISSA_BITS - 1]
            highest = Mux(found, total[low : low + MANTISSA_BITS], highest)
            place = Mux(found, low, place)

        valid: Value = stages.flag(inlet.o.valid, "valid")
        mantissa: Value = stages.after(highest, "mantissa")
        # Below the mantissa in every stage. It begins as the upper bits of 2^31, of which none can be a multiple of it.
        remainder: Value = Const(1 << (RECIPROCAL_BITS - QUOTIENT_BITS), MANTISSA_BITS)
        quotient: Value = Const(0, 0)
        for bit in range(QUOTIENT_BITS):
            doubled = Cat(0, remainder)
            difference = Signal(signed(MANTISSA_BITS + 2), name=f"difference_{bit}")
            m.d.comb += difference.eq(doubled - mantissa)
            fits = ~difference[-1]
            quotient = Cat(fits, quotient)
            if bit < QUOTIENT_BITS - 1:
                valid = stages.flag(valid, f"valid_{bit}")
                remainder = stages.after(Mux(fits, difference, doubled)[:MANTISSA_BITS], f"remainder_{bit}")
                mantissa = stages.after(mantissa, f"mantissa_{bit}")
                quotient = stages.after(quotient, f"quotient_{bit}")
        maximum = stages.delayed(inlet.o.payload.maximum, "maximum", QUOTIENT_BITS)
        shift = stages.delayed(place, "shift", QUOTIENT_BITS)
        with m.If(advance):
            m.d.sync += [
                out.valid.eq(valid),
                out.payload.maximum.eq(maximum),
                out.payload.shift.eq(shift),
                out.payload.reciprocal.eq(quotient),
            ]
        return m
