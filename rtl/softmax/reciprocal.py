"""Reciprocal of a row's sum: a restoring divider with one bit of the quotient per stage."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.softmax import MANTISSA_BITS, MAXIMUM_BITS, QUOTIENT_BITS, RECIPROCAL_BITS, SoftmaxUnit
from rtl.softmax.inlet import Inlet

__all__ = ["Reciprocal", "final_row", "row_reciprocal"]


def final_row(unit: SoftmaxUnit) -> data.StructLayout:
    """A row's sum that will not change any more: 2^(MANTISSA_BITS - 1) or more, as that of every row."""
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

        # Normalise: bits below the mantissa are dropped, so only its place is looked for.
        total = inlet.o.payload.total
        places = unit.total_bits - MANTISSA_BITS + 1
        mantissa: Value = total[:MANTISSA_BITS]
        shift: Value = Const(0, unit.shift_bits)
        for place in range(1, places):
            found = total[place + MANTISSA_BITS - 1]
            mantissa = Mux(found, total[place : place + MANTISSA_BITS], mantissa)
            shift = Mux(found, place, shift)

        # Every stage: valid, maximum, shift, mantissa, remainder (below the mantissa), quotient so far.
        valid: Value = inlet.o.valid
        maximum: Value = inlet.o.payload.maximum
        remainder: Value = Const(1 << (RECIPROCAL_BITS - QUOTIENT_BITS), MANTISSA_BITS)
        quotient: list[Value] = []
        for stage in range(unit.reciprocal_cycles):
            if stage:
                doubled = Cat(0, remainder)
                fits = Signal(name=f"fits_{stage}")
                m.d.comb += fits.eq(doubled >= mantissa)
                remainder = Mux(fits, doubled - mantissa, doubled)[:MANTISSA_BITS]
                quotient = [fits, *quotient]
            results = {"maximum": maximum, "shift": shift, "mantissa": mantissa, "remainder": remainder}
            results["quotient"] = Cat(quotient)
            if stage == unit.reciprocal_cycles - 1:
                break
            valid_now = Signal(name=f"valid_{stage + 1}")
            registers = {
                name: Signal(value.shape(), name=f"{name}_{stage + 1}", reset_less=True)
                for name, value in results.items()
                if len(value) and not (stage == 0 and name == "remainder")
            }
            with m.If(advance):
                m.d.sync += valid_now.eq(valid)
                m.d.sync += [register.eq(results[name]) for name, register in registers.items()]
            valid, maximum, shift, mantissa = (
                valid_now, registers["maximum"], registers["shift"], registers["mantissa"],
            )  # fmt: skip
            remainder = registers.get("remainder", remainder)
            quotient = list(registers.get("quotient", Const(0, 0)))
        with m.If(advance):
            m.d.sync += [
                out.valid.eq(valid),
                out.payload.maximum.eq(maximum),
                out.payload.shift.eq(shift),
                out.payload.reciprocal.eq(Cat(quotient)),
            ]
        return m
