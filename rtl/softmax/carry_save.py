"""Products whose carries stay open, so that a multiplication and the carry chain behind it fill one stage each."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

__all__ = ["compress", "multiply"]


def _full_adders(m: Module, a: Value, b: Value, c: Value, width: int) -> list[Value]:
    """Three numbers become two of the same sum, modulo 2^width: one full adder per bit."""
    bits, carries = Signal(width), Signal(width)
    m.d.comb += [bits.eq(a ^ b ^ c), carries.eq(((a & b) | (a & c) | (b & c)) << 1)]
    return [bits, carries]


def compress(m: Module, numbers: list[Value], width: int) -> tuple[Value, Value]:
    """Two numbers whose sum is that of the unsigned ``numbers`` (at least two), modulo 2^width.

    A tree in which every level turns threes into twos (Wallace), so its depth is that of log 3/2 of the numbers.
    """
    while len(numbers) > 2:
        whole = len(numbers) - len(numbers) % 3
        taken: list[Value] = []
        for first in range(0, whole, 3):
            taken += _full_adders(m, *numbers[first : first + 3], width=width)
        numbers = taken + numbers[whole:]
    return numbers[0], numbers[1]


def multiply(m: Module, a: Value, b: Value, width: int) -> tuple[Value, Value]:
    """Two numbers whose sum is the product of the unsigned ``a`` and ``b``, modulo 2^width. b chooses the rows: give
    the shorter one, of at least two bits.
    """
    rows: list[Value] = []
    for i in range(len(b)):
        row = Signal(width)
        m.d.comb += row.eq(Cat(Const(0, i), Mux(b[i], a, 0)))
        rows.append(row)
    return compress(m, rows, width)
