"""Output scaler of the PV array: the finished row leaves, normalised, a few dimensions per cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.pv import ACCUMULATOR_BITS, OUTPUT_SHIFT, RECIPROCAL_WORD_BITS, SHIFT_BITS, PvArray
from accel.units.softmax import OUTPUT_BITS
from rtl.stream import SkidBuffer

__all__ = ["OutputScaler", "carried_layout", "output_layout", "row_sums_layout"]


def row_sums_layout(unit: PvArray) -> data.StructLayout:
    """A finished row: its sums, its scale and how many of the sums are output."""
    return data.StructLayout(
        {
            "sums": data.ArrayLayout(signed(ACCUMULATOR_BITS), unit.max_head_dim),
            "reciprocal": RECIPROCAL_WORD_BITS,
            "shift": SHIFT_BITS,
            "head_dim": range(unit.max_head_dim + 1),
            "carry": 1,
            "raw": 1,
        }
    )


def carried_layout(unit: PvArray) -> data.ArrayLayout:
    """Sums of as many dimensions as leave per cycle."""
    return data.ArrayLayout(signed(ACCUMULATOR_BITS), unit.output_lanes)


def output_layout(unit: PvArray) -> data.StructLayout:
    """``output_lanes`` dimensions of a row; ``magnitude`` is the sum of the magnitudes of the row up to here. Of a raw
    row ``numbers`` are the sums' lower bits, ``upper`` the rest.
    """
    numbers = _numbers(unit)
    return data.StructLayout(
        {"numbers": numbers["numbers"], "last": 1, "magnitude": unit.magnitude_bits, "upper": numbers["upper"]}
    )


def _numbers(unit: PvArray) -> dict:
    return {
        "numbers": data.ArrayLayout(signed(OUTPUT_BITS), unit.output_lanes),
        "last": 1,
        "upper": data.ArrayLayout(ACCUMULATOR_BITS - OUTPUT_BITS, unit.output_lanes),
    }


class OutputScaler(wiring.Component):
    """Multiplies sums by the row's reciprocal, rounds half up, shifts and saturates.

    Holds one row, shifts it down by ``output_lanes`` sums per cycle and so needs no selection in front of the
    multipliers.

    Parameters
    ----------
    unit : PvArray.

    Members
    -------
    i : In(stream of row_sums_layout). Ready when no row is held, and in the cycle in which the last sums leave.
    carried : In(stream of carried_layout). Added to the sums of a row with ``carry``, taken when they come to the
        front: the first with the row, the others one cycle later each. It must not be late.
    outputs : Out(stream of output_layout). ceil(head_dim / output_lanes) items per row; numbers from head_dim on are 0.
        numbers and last are registers, magnitude is a sum of registers.

    Latency 1 + ``NORMALISE_CYCLES`` from i to the first item, then one item per cycle, without a gap between rows.

    Under back-pressure it holds three items beside the row. i.ready is decoded from registers; it does not depend on
    outputs.ready in the same cycle.

    Golden: ``accel.numerics.attention.normalise_output``.
    """

    def __init__(self, unit: PvArray):
        self.unit = unit
        super().__init__(
            {
                "i": In(stream.Signature(row_sums_layout(unit))),
                "carried": In(stream.Signature(carried_layout(unit))),
                "outputs": Out(stream.Signature(output_layout(unit))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, lanes = self.unit, self.unit.output_lanes
        i, outputs = self.i, self.outputs
        m.submodules.buffer = buffer = SkidBuffer(data.StructLayout(_numbers(unit)))

        # The row held.
        held = [Signal(signed(ACCUMULATOR_BITS), name=f"held_{d}", reset_less=True) for d in range(unit.max_head_dim)]
        holds = Signal()
        reciprocal, shift = Signal(RECIPROCAL_WORD_BITS, reset_less=True), Signal(SHIFT_BITS, reset_less=True)
        remaining = Signal(range(unit.max_head_dim + 1), reset_less=True)
        take, ends = Signal(), Signal()
        m.d.comb += [ends.eq(remaining <= lanes), i.ready.eq(~holds | (take & ends))]
        with m.If(i.ready):
            m.d.sync += holds.eq(i.valid)
        load, carries, raw = Signal(), Signal(), Signal(reset_less=True)
        carry = [Mux(self.carried.ready, carried, 0) for carried in self.carried.payload]
        m.d.comb += [
            load.eq(i.ready & i.valid),
            self.carried.ready.eq(Mux(load, i.payload.carry, take & ~ends & carries)),
        ]
        with m.If(load):
            m.d.sync += [
                # As they are: times 1.
                reciprocal.eq(Mux(i.payload.raw, 1, i.payload.reciprocal)),
                shift.eq(i.payload.shift),
                remaining.eq(i.payload.head_dim),
                carries.eq(i.payload.carry),
                raw.eq(i.payload.raw),
            ]
        with m.Elif(take):
            m.d.sync += remaining.eq(remaining - lanes)
        for d, sums in enumerate(held):
            behind = held[d + lanes : d + lanes + 1]  # the last ones have none, and are not looked at again
            following = Mux(load, i.payload.sums[d], behind[0]) if behind else i.payload.sums[d]
            with m.If(load | take if behind else load):
                m.d.sync += sums.eq(following + carry[d] if d < lanes else following)

        # Multiply.
        multiplied, multiplied_shift, multiplied_last = Signal(), Signal.like(shift), Signal(reset_less=True)
        multiplied_raw = Signal(reset_less=True)
        inside = Signal(lanes, reset_less=True)
        wide_bits = ACCUMULATOR_BITS + RECIPROCAL_WORD_BITS
        wide = [Signal(signed(wide_bits), name=f"wide_{lane}", reset_less=True) for lane in range(lanes)]
        factor = Cat(reciprocal, Const(0, 1)).as_signed()
        m.d.comb += take.eq(holds & (~multiplied | buffer.i.ready))
        with m.If(take):
            m.d.sync += [
                multiplied.eq(1),
                multiplied_shift.eq(shift),
                multiplied_last.eq(ends),
                multiplied_raw.eq(raw),
                inside.eq(Cat(remaining > lane for lane in range(lanes))),
                *(w.eq(h * factor) for w, h in zip(wide, held, strict=False)),
            ]
        with m.Elif(buffer.i.ready):
            m.d.sync += multiplied.eq(0)

        # Shift to one bit below the output's last, round half up by it, saturate.
        top = (1 << (OUTPUT_BITS - 1)) - 1
        m.d.comb += [buffer.i.valid.eq(multiplied), buffer.i.payload.last.eq(multiplied_last)]
        for lane, product in enumerate(wide):
            finer = Signal(signed(wide_bits - OUTPUT_SHIFT + 1), name=f"finer_{lane}")
            rounded = Signal(signed(wide_bits - OUTPUT_SHIFT + 1), name=f"rounded_{lane}")
            number = Mux(rounded > top, top, Mux(rounded < -top - 1, -top - 1, rounded))
            m.d.comb += [
                finer.eq((product >> (OUTPUT_SHIFT - 1)) >> multiplied_shift),
                rounded.eq((finer + 1) >> 1),
                buffer.i.payload.numbers[lane].eq(Mux(inside[lane], Mux(multiplied_raw, product, number), 0)),
                buffer.i.payload.upper[lane].eq(product[OUTPUT_BITS:ACCUMULATOR_BITS]),
            ]

        before = Signal(unit.magnitude_bits)
        item = buffer.o.payload
        magnitudes = [Mux(item.numbers[lane] < 0, -item.numbers[lane], item.numbers[lane]) for lane in range(lanes)]
        m.d.comb += [
            outputs.valid.eq(buffer.o.valid),
            buffer.o.ready.eq(outputs.ready),
            outputs.payload.last.eq(item.last),
            outputs.payload.magnitude.eq(sum(magnitudes, start=before)),
            *(outputs.payload.numbers[lane].eq(item.numbers[lane]) for lane in range(lanes)),
            outputs.payload.upper.eq(item.upper),
        ]
        with m.If(outputs.valid & outputs.ready):
            m.d.sync += before.eq(Mux(item.last, 0, outputs.payload.magnitude))
        return m
