"""One lane of the exponent: two to the power of a score's distance from the maximum."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from accel.numerics.softmax import Int, exponent_table
from accel.units.softmax import EXPONENT_BITS, SCORE_FRACTION_BITS, SEGMENTS, TABLE_BITS
from rtl.softmax.adders import compress, products
from rtl.softmax.stages import Stages

__all__ = ["FURTHEST", "power_of_two"]

FURTHEST = EXPONENT_BITS + 1  # shifted by this or more, an exponent rounds to nothing
_LOW_BITS = SCORE_FRACTION_BITS - (SEGMENTS - 1).bit_length()


def _lookup(index: Value, table: Int, bits: int) -> Value:
    """table[index], modulo 2^bits, as a tree of multiplexers between constants, which synthesis folds into gates.

    (Given as an array, Yosys would make it a memory.)
    """
    row: list[Value] = [Const(int(value) % (1 << bits), bits) for value in table]
    for bit in index:
        row = [Mux(bit, high, low) for low, high in zip(row[::2], row[1::2], strict=True)]
    return row[0]


def power_of_two(m: Module, stages: Stages, below: Value, whole: Value, lane: int) -> tuple[Value, Value]:
    """2^-(below + whole); ``EXPONENT_BITS`` fraction bits. And 2^-below, ``TABLE_BITS`` fraction bits.

    Bits as of ``accel.numerics.softmax.exponent``. A lane passes four stages: the fraction picks a straight piece;
    multiply, carries left open; resolve them; shift and round.

    below: ``SCORE_FRACTION_BITS``, all of them fraction. whole: unsigned, *one register later*. Both results are three
    registers later than below; the first is that of the last stage, before its register, the second a register.
    """
    start, slope = exponent_table()
    width = TABLE_BITS + _LOW_BITS
    shift = stages.delayed(Mux(whole < FURTHEST, whole, FURTHEST)[: FURTHEST.bit_length()], f"shift_{lane}", 2)
    from_start = stages.after(_lookup(below[_LOW_BITS:], start, TABLE_BITS), f"start_{lane}")
    slope_bits = int(slope.max()).bit_length()
    downwards = stages.after(_lookup(below[_LOW_BITS:], -slope, slope_bits + 1), f"slope_{lane}").as_signed()
    low = stages.after(below[:_LOW_BITS], f"low_{lane}")
    steps = Signal(signed(width), name=f"steps_{lane}")
    m.d.comb += steps.eq(downwards)
    # start - (slope * low >> low bits) is (start and ones below it, - slope * low) >> low bits
    rows = [Cat(Const(-1, _LOW_BITS), from_start), *products(m, steps, low, width)]
    bits, carries = (stages.after(part, f"fine_{lane}_{i}") for i, part in enumerate(compress(m, rows, width)))
    mantissa = stages.after((bits + carries)[_LOW_BITS:width], f"mantissa_{lane}")
    halves = Cat(Const(0, EXPONENT_BITS - TABLE_BITS + 1), mantissa) >> shift
    return ((halves + 1) >> 1)[:EXPONENT_BITS], mantissa
