"""Multipliers and adder trees of the PV array."""

from collections.abc import Iterable

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.pv import MIN_HEAD_DIM, PRODUCT_BITS, RECIPROCAL_WORD_BITS, SHIFT_BITS, VALUE_BITS, PvArray
from accel.units.softmax import WEIGHT_BITS

__all__ = ["ProductTree", "line_layout", "sums_layout"]


def row_layout(unit: PvArray) -> data.StructLayout:
    """What a line says about its row; see :class:`rtl.pv.PV`."""
    return data.StructLayout(
        {
            "last": 1,
            "log2_dim": range(unit.max_head_dim.bit_length()),
            "keep": 1,
            "keep_shift": SHIFT_BITS,
            "reciprocal": RECIPROCAL_WORD_BITS,
            "shift": SHIFT_BITS,
            "head_dim": range(unit.max_head_dim + 1),
            "carry": 1,
            "raw": 1,
            "signed": 1,
        }
    )


def line_layout(unit: PvArray) -> data.StructLayout:
    """One line, or one part of a folded line. Row p of a line lies in words p * D to p * D + D - 1."""
    return data.StructLayout(
        {
            "values": data.ArrayLayout(signed(VALUE_BITS), unit.multipliers),
            "weights": data.ArrayLayout(WEIGHT_BITS, unit.weights_per_line),
            "count": range(unit.weights_per_line + 1),
            "row": row_layout(unit),
        }
    )


def sums_layout(unit: PvArray) -> data.StructLayout:
    """Weighted words of a line, summed over its rows: word i belongs to dimension i of the part; from D on they
    are 0.
    """
    bits = PRODUCT_BITS + unit.weights_per_line.bit_length() - 1
    words = min(unit.multipliers, unit.max_head_dim)
    return data.StructLayout({"words": data.ArrayLayout(signed(bits), words), "row": row_layout(unit)})


def _any(conditions: Iterable[Value]) -> Value:
    return Cat(conditions).any()


class ProductTree(wiring.Component):
    """Multiplies a line by its weights and adds its rows up.

    One tree serves every head dimension. Each level adds the upper half of 2w words to the lower half, into a register
    of w words. A line of P rows enters at the width P * D (below M only where fewer weights than M / D arrive) and
    leaves at the width D, after log2 P levels.

    Parameters
    ----------
    unit : PvArray.

    Members
    -------
    line : In(stream of line_layout). Weights and rows from ``count`` on carry no meaning. Weights are signed words if
        ``row.signed``, else unsigned.
    o : Out(stream of sums_layout), in the same order.

    Latency ``MULTIPLY_CYCLES`` + ``PvUnit.tree_levels``, one line per cycle. A line of another D than the one before
    waits in the product registers until the tree is empty, because D decides where lines enter and leave.

    Under back-pressure the registers fill, gaps first; then line.ready falls. line.ready follows o.ready in the same
    cycle and depends on no other input; o is a selection of registers.
    """

    def __init__(self, unit: PvArray):
        self.unit = unit
        super().__init__(
            {"line": In(stream.Signature(line_layout(unit))), "o": Out(stream.Signature(sums_layout(unit)))}
        )

    def _spread_weights(self, m: Module) -> list[Value]:
        """The weight of each group of MIN_HEAD_DIM words: words of one group are always of one row."""
        unit, payload = self.unit, self.line.payload
        groups = max(1, unit.multipliers // MIN_HEAD_DIM)
        valid = [Signal(WEIGHT_BITS, name=f"weight_{p}") for p in range(unit.weights_per_line)]
        for p, weight in enumerate(valid):
            m.d.comb += weight.eq(Mux(p < payload.count, payload.weights[p], 0))
        spread = Signal(groups * WEIGHT_BITS)
        with m.Switch(payload.row.log2_dim):
            for dim in unit.padded_dims:
                rows = [group * MIN_HEAD_DIM // dim for group in range(groups)]
                n_rows = unit.rows_per_line(dim)
                with m.Case(dim.bit_length() - 1):
                    m.d.comb += spread.eq(Cat(valid[p] if p < n_rows else Const(0, WEIGHT_BITS) for p in rows))
        return [spread.word_select(group, WEIGHT_BITS) for group in range(groups)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, line, o = self.unit, self.line, self.o
        words = min(unit.multipliers, unit.max_head_dim)
        # Per padded head dimension: width at which lines enter the tree, and width at which they leave it.
        leave = {dim: min(dim, unit.multipliers) for dim in unit.padded_dims}
        enter = {dim: leave[dim] * unit.rows_per_line(dim) for dim in unit.padded_dims}
        widths = [
            w
            for w in (unit.multipliers >> k for k in range(15))
            if any(leave[d] <= w < enter[d] for d in unit.padded_dims)
        ]

        def active_is(dims: Iterable[int]) -> Value:
            return _any(active == dim.bit_length() - 1 for dim in dims)

        product_valid = Signal()
        product_row = Signal(row_layout(unit), reset_less=True)
        products = [Signal(signed(PRODUCT_BITS), name=f"product_{i}", reset_less=True) for i in range(unit.multipliers)]
        valid = {w: Signal(name=f"valid_{w}") for w in widths}
        row = {w: Signal(row_layout(unit), name=f"row_{w}", reset_less=True) for w in widths}
        advance = {w: Signal(name=f"advance_{w}") for w in widths}
        sums: dict[int, list[Signal]] = {}
        for w in widths:
            rows_added = max(enter[d] // w for d in unit.padded_dims if leave[d] <= w)
            bits = PRODUCT_BITS + rows_added.bit_length() - 1
            sums[w] = [Signal(signed(bits), name=f"sum_{w}_{i}", reset_less=True) for i in range(w)]

        # All lines in the tree have one D, ``active``; a product of another D is held back.
        active, tree_dim = Signal.like(line.payload.row.log2_dim), Signal.like(line.payload.row.log2_dim)
        hold, product_go = Signal(), Signal()
        m.d.comb += [
            hold.eq(_any(valid.values()) & (product_row.log2_dim != tree_dim)),
            active.eq(Mux(hold, tree_dim, product_row.log2_dim)),
            line.ready.eq(~product_valid | product_go),
        ]
        m.d.sync += tree_dim.eq(active)

        weights = [Cat(w, w[-1] & line.payload.row.signed).as_signed() for w in self._spread_weights(m)]
        with m.If(line.ready):
            m.d.sync += product_valid.eq(line.valid)
        with m.If(line.ready & line.valid):
            m.d.sync += product_row.eq(line.payload.row)
            for i, product in enumerate(products):
                weight = weights[i // MIN_HEAD_DIM]
                m.d.sync += product.eq(line.payload.values[i] * weight)

        from_product = (product_valid & ~hold, product_row.as_value(), products)
        for w in widths:
            leaving = active_is(d for d in unit.padded_dims if leave[d] == w < enter[d])
            m.d.comb += advance[w].eq(~valid[w] | Mux(leaving, o.ready, advance.get(w // 2, o.ready)))
            entering = [d for d in unit.padded_dims if leave[d] <= w and enter[d] == 2 * w]
            passing = [d for d in unit.padded_dims if leave[d] <= w and enter[d] > 2 * w]
            arriving, arriving_row, above = from_product
            if passing:
                wider = (valid[2 * w] & active_is(passing), row[2 * w].as_value(), sums[2 * w])
                arriving, arriving_row, above = wider
                if entering:
                    enters = active_is(entering)
                    arriving, arriving_row = (
                        Mux(enters, *pair) for pair in zip(from_product[:2], wider[:2], strict=True)
                    )
                    above = [Mux(enters, *pair) for pair in zip(products, sums[2 * w], strict=False)]
            else:
                arriving &= active_is(entering)
            with m.If(advance[w]):
                m.d.sync += valid[w].eq(arriving)
            with m.If(advance[w] & arriving):
                m.d.sync += row[w].as_value().eq(arriving_row)
                m.d.sync += [total.eq(above[i] + above[i + w]) for i, total in enumerate(sums[w])]

        out = [Signal(o.payload.words[i].shape(), name=f"word_{i}") for i in range(words)]
        m.d.comb += [o.payload.words[i].eq(word) for i, word in enumerate(out)]
        with m.Switch(active):
            for dim in unit.padded_dims:
                with m.Case(dim.bit_length() - 1):
                    at = leave[dim]
                    if enter[dim] == at:
                        m.d.comb += [product_go.eq(o.ready), o.valid.eq(product_valid), o.payload.row.eq(product_row)]
                        leaves = products[:at]
                    else:
                        m.d.comb += [
                            product_go.eq(~hold & advance[enter[dim] // 2]),
                            o.valid.eq(valid[at]),
                            o.payload.row.eq(row[at]),
                        ]
                        leaves = sums[at]
                    m.d.comb += [word.eq(total) for word, total in zip(out, leaves, strict=False)]
        return m
