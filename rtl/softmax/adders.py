"""Adders for stages that a plain one would not fit into: carries left open for the next stage, or chosen in blocks."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

__all__ = ["add", "compress", "products"]


def _full_adders(m: Module, a: Value, b: Value, c: Value, width: int) -> list[Value]:
    """Three numbers become two of the same sum, modulo 2^width: one full adder per bit."""
    bits, carries = Signal(width), Signal(width)
    m.d.comb += [bits.eq(a ^ b ^ c), carries.eq(Cat(Const(0, 1), (a & b) | (a & c) | (b & c)))]
    return [bits, carries]


def compress(m: Module, numbers: list[Value], width: int) -> tuple[Value, Value]:
    """Two numbers whose sum is that of the unsigned ``numbers`` (one or more), modulo 2^width.

    A tree in which every level turns threes into twos (Wallace), so its depth is that of log 3/2 of the numbers.
    """
    while len(numbers) > 2:
        whole = len(numbers) - len(numbers) % 3
        taken: list[Value] = []
        for a, b, c in zip(numbers[:whole:3], numbers[1:whole:3], numbers[2:whole:3], strict=True):
            taken += _full_adders(m, a, b, c, width)
        numbers = taken + numbers[whole:]
    return numbers[0], numbers[1] if len(numbers) == 2 else Const(0, width)


def products(m: Module, a: Value, b: Value, width: int) -> list[Value]:
    """Numbers whose sum is the product of ``a`` and the unsigned ``b``, modulo 2^width: one for each bit of b."""
    rows: list[Value] = []
    for i in range(len(b)):
        row = Signal(width)
        m.d.comb += row.eq(Cat(Const(0, i), Mux(b[i], a, 0)))
        rows.append(row)
    return rows


def add(m: Module, a: Value, b: Value, name: str, block_bits: int = 10) -> Signal:
    """a + b, unsigned, modulo 2^len(a), by carry select: each block is added without and with a carry, and the carry
    from below chooses. For the end of a long path, where Yosys' own adder comes out as a chain.
    """
    total = Signal(len(a), name=name)
    other = Signal(len(a), name=f"{name}_other")
    m.d.comb += other.eq(b)
    carry: Value = Const(0, 1)
    for low in range(0, len(a), block_bits):
        part = slice(low, low + block_bits)
        without = Signal(len(a[part]) + 1, name=f"{name}_{low}_without")
        with_carry = Signal(len(a[part]) + 1, name=f"{name}_{low}_with")
        chosen = Signal(len(a[part]) + 1, name=f"{name}_{low}")
        m.d.comb += [
            without.eq(a[part] + other[part]),
            with_carry.eq(a[part] + other[part] + 1),
            chosen.eq(Mux(carry, with_carry, without)),
            total[part].eq(chosen),
        ]
        carry = chosen[-1]
    return total
