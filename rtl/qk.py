"""QK array: a line of keys times the query per cycle, summed by a tree that is tapped at the head dimension."""

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.units.qk import PRODUCT_BITS, SHIFT_BITS, SMALLEST_DIM, QkUnit
from accel.units.softmax import SCALE_BITS, SCORE_BITS
from rtl.stream import SkidBuffer

__all__ = ["Parameters", "QkArray", "component", "query_layout", "line_layout", "scores_layout"]

Parameters = QkUnit
FIRST_TAP = SMALLEST_DIM.bit_length() - 1
#: Bits of a dot product that meet the mantissa in one multiplier, so that it is no slower than a 12 x 12 bit one.
LIMB_BITS = 11


def component(parameters: QkUnit) -> wiring.Component:
    """The array, as ``rtl.verilog`` and ``rtl.area`` look for it."""
    return QkArray(parameters)


def _scale_fields(unit: QkUnit) -> dict[str, ShapeLike]:
    return {"mantissa": SCALE_BITS, "shift": SHIFT_BITS, "log2_dim": range(unit.max_head_dim.bit_length())}


def _line_fields(unit: QkUnit) -> dict[str, ShapeLike]:
    return {"count": range(unit.lanes + 1), "last": 1}


def query_layout(unit: QkUnit) -> data.StructLayout:
    """One row's query: words, score scale ``mantissa * 2^-shift``, log2 of the padded head dimension D (3 or more).

    Words that pad the head to D are zero; words from D on carry no meaning.
    """
    return data.StructLayout({"words": data.ArrayLayout(signed(WORD_BITS), unit.max_head_dim), **_scale_fields(unit)})


def line_layout(unit: QkUnit) -> data.StructLayout:
    """One line: key k in words k*D ... k*D + D-1, the first ``count`` keys valid; ``last`` ends the row.

    Words of other keys, and those that pad a key, carry no meaning. Of a key in parts, ``count`` and ``last`` are those
    of its last part.
    """
    return data.StructLayout({"words": data.ArrayLayout(signed(WORD_BITS), unit.multipliers), **_line_fields(unit)})


def scores_layout(unit: QkUnit) -> data.StructLayout:
    """Scores of one line in log2 units; lanes from ``count`` on carry no meaning; ``last`` ends the row."""
    return data.StructLayout({"scores": data.ArrayLayout(signed(SCORE_BITS), unit.lanes), **_line_fields(unit)})


def _register(shape: ShapeLike, name: str) -> Signal:
    """A register of the datapath: what it holds matters only while its stage is valid, so it needs no reset."""
    return Signal(shape, name=name, reset_less=True)


class _DimTest:
    """Is the head dimension one of these? Each such test is built once, however many words ask for it."""

    def __init__(self, m: Module, log2_dim: Value, name: str):
        self.m, self.log2_dim, self.name = m, log2_dim, name
        self.built: dict[tuple[int, ...], Signal] = {}

    def __call__(self, dims: list[int]) -> Value:
        key = tuple(dims)
        if key not in self.built:
            self.built[key] = Signal(name="_".join([self.name, *map(str, dims)]))
            self.m.d.comb += self.built[key].eq(Cat(self.log2_dim == dim.bit_length() - 1 for dim in dims).any())
        return self.built[key]


class _Pipeline:
    """What travels beside the data. ``valid`` and ``travelling`` are those of the last stage so far. A stage takes over
    what is before it in a cycle with ``step``; ``moves`` tells that there is something to take.
    """

    def __init__(self, m: Module, step: Value, valid: Value, travelling: Signal):
        self.m, self.step, self.valid, self.travelling = m, step, valid, travelling
        self.moves: Value = valid

    def extend(self, name: str, goes_on: Value | int = 1) -> None:
        """One more stage, for those that go on."""
        valid, travelling = Signal(name=f"{name}_valid"), _register(self.travelling.shape(), f"{name}_travelling")
        with self.m.If(self.step):
            self.m.d.sync += [valid.eq(self.valid & goes_on), travelling.eq(self.travelling)]
        self.valid, self.travelling, self.moves = valid, travelling, Signal(name=f"{name}_moves")
        self.m.d.comb += self.moves.eq(self.step & valid)


class QkArray(wiring.Component):
    """Dot products of one query with line after line of keys, scaled to log2 units.

    Parameters
    ----------
    unit : QkUnit.
    products : with the two ports of that kind below.

    Members
    -------
    query : In(stream of query_layout). One per row; the row's lines wait for it. QUERIES_WAITING queries can wait while
        a row runs.
    line : In(stream of line_layout). The row's keys in order: ceil(keys / P) lines of P = unit.keys_per_line(D), or
        unit.fold(D) parts per key.
    scores : Out(stream of scores_layout). One transfer per line, or per key in parts.
    only_products : In, a level. Lines end at the multipliers. products : Out, what they hold, the cycle after a line.

    Latency: ``unit.pipeline_cycles`` from a line (or last part) to its scores, the same for every D;
    ``unit.query_cycles`` from a query to its row's first line. Initiation interval: one line, also from row to row.

    Back-pressure: the second refused transfer freezes the whole pipeline, bubbles included. Its enable is a register of
    the output's skid buffer. line.ready is that register and "a query is loaded"; query.ready is a register. No input
    reaches an output within the cycle.

    Registers load only what is valid, and a multiplier before which no key of this D lies has a query word of zero.

    Golden: ``accel.numerics.softmax.scale_scores`` of ``accel.numerics.attention.dot``.
    """

    def __init__(self, unit: QkUnit, products: bool = False):
        self.unit, self._gives_products = unit, products
        product = data.ArrayLayout(signed(PRODUCT_BITS), unit.multipliers_reached)
        super().__init__(
            {
                "query": In(stream.Signature(query_layout(unit))),
                "line": In(stream.Signature(line_layout(unit))),
                "scores": Out(stream.Signature(scores_layout(unit))),
                **({"only_products": In(1), "products": Out(product)} if products else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.outgoing = outgoing = SkidBuffer(scores_layout(self.unit))
        wiring.connect(m, outgoing.o, wiring.flipped(self.scores))

        query, pipeline = self._row_query(m, outgoing.i.ready)
        sums = self._multiply(m, pipeline, query)
        for level in range(min(self.unit.multipliers, self.unit.max_head_dim).bit_length() - 1):
            sums = self._add_pairs(m, pipeline, level, sums)
        if self.unit.max_head_dim > self.unit.multipliers:
            sums = self._add_parts(m, pipeline, sums)
        scores = self._scale(m, pipeline, sums)
        m.d.comb += [
            outgoing.i.valid.eq(pipeline.valid),
            outgoing.i.payload.count.eq(pipeline.travelling.count),
            outgoing.i.payload.last.eq(pipeline.travelling.last),
            *(outgoing.i.payload.scores[k].eq(score) for k, score in enumerate(scores)),
        ]
        return m

    def _row_query(self, m: Module, step: Value) -> tuple[list[Signal], _Pipeline]:
        """The running row's query, a word for each multiplier, and the pipeline's entrance."""
        unit, line = self.unit, self.line
        m.submodules.waiting = waiting = SkidBuffer(query_layout(unit))
        wiring.connect(m, wiring.flipped(self.query), waiting.i)
        new = waiting.o.payload
        words = [_register(signed(WORD_BITS), f"query_{i}") for i in range(unit.query_registers)]
        scale = _register(data.StructLayout(_scale_fields(unit)), "scale")
        loaded, load, accepted, row_ends = Signal(), Signal(), Signal(), Signal()
        entering = Signal(
            data.StructLayout({**_line_fields(unit), **_scale_fields(unit), "first_part": 1, "last_part": 1})
        )
        m.d.comb += [
            line.ready.eq(step & loaded),
            accepted.eq(line.valid & line.ready),
            row_ends.eq(accepted & line.payload.last & entering.last_part),
            waiting.o.ready.eq(~loaded | row_ends),
            load.eq(waiting.o.valid & waiting.o.ready),
            *(entering[name].eq(line.payload[name]) for name in _line_fields(unit)),
            *(entering[name].eq(scale[name]) for name in _scale_fields(unit)),
        ]
        with m.If(waiting.o.ready):
            m.d.sync += loaded.eq(waiting.o.valid)

        spread = self._spread(new.words, _DimTest(m, new.log2_dim, "new_dim"))
        with m.If(load):
            m.d.sync += [scale[name].eq(new[name]) for name in _scale_fields(unit)]
            m.d.sync += [word.eq(value) for word, value in zip(words, spread, strict=True)]

        # A key in parts meets the parts of the query in turn: they move up to the multipliers, and around.
        most_parts = unit.fold(unit.max_head_dim)
        part = Signal(range(max(2, most_parts)))
        is_one_of = _DimTest(m, scale.log2_dim, "row_dim")
        in_parts = {n: is_one_of([dim for dim in unit.dims if unit.fold(dim) == n]) for n in map(unit.fold, unit.dims)}
        m.d.comb += [
            entering.first_part.eq(part == 0),
            entering.last_part.eq(Cat(is_fold & (part == n - 1) for n, is_fold in in_parts.items()).any()),
        ]
        if most_parts > 1:
            with m.If(accepted):
                m.d.sync += part.eq(Mux(entering.last_part, 0, part + 1))
            with m.If(accepted & ~load):
                for i, word in enumerate(words):
                    block, place = divmod(i, unit.multipliers)
                    following = words[i + unit.multipliers] if block + 1 < most_parts else words[place]
                    m.d.sync += word.eq(Mux(in_parts.get(block + 1, 0), words[place], following))
        return words, _Pipeline(m, step, accepted, entering)

    def _spread(self, query: data.View, is_one_of: _DimTest) -> list[Value]:
        """What each multiplier multiplies with: the query once for every key of a line, zero beyond."""
        spread = []
        for i in range(self.unit.query_registers):
            dims_by_source: dict[int, list[int]] = {}
            for dim in self.unit.dims:
                if i < dim * self.unit.keys_per_line(dim):
                    dims_by_source.setdefault(i % dim, []).append(dim)
            word: Value = Const(0, WORD_BITS)
            for source, dims in dims_by_source.items():
                word |= Mux(is_one_of(dims), query[source].as_unsigned(), 0)
            spread.append(word)
        return spread

    def _multiply(self, m: Module, pipeline: _Pipeline, query: list[Signal]) -> list[Signal]:
        products = [_register(signed(PRODUCT_BITS), f"product_{i}") for i in range(self.unit.multipliers_reached)]
        with m.If(pipeline.moves):
            for i, product in enumerate(products):
                m.d.sync += product.eq(self.line.payload.words[i] * query[i])
        if self._gives_products:
            m.d.comb += [out.eq(product) for out, product in zip(self.products, products, strict=True)]
        pipeline.extend("product", goes_on=~self.only_products if self._gives_products else 1)
        return products

    def _add_pairs(self, m: Module, pipeline: _Pipeline, level: int, sums: list[Signal]) -> list[Signal]:
        """From sums of 2^level products to sums of twice as many; finished ones keep their place, the key's number."""
        pairs = self.unit.multipliers_reached >> level + 1
        keys = self.unit.max_keys if level >= FIRST_TAP else 0  # that may be finished
        finished = Signal(name=f"finished_by_{level}")
        m.d.comb += finished.eq(pipeline.travelling.log2_dim <= level)
        totals = []
        for k in range(max(pairs, keys)):
            total = _register(signed(PRODUCT_BITS + level + 1), f"sum_{level + 1}_{k}")
            value = sums[2 * k] + sums[2 * k + 1] if k < pairs else sums[k]
            with m.If(pipeline.moves):
                m.d.sync += total.eq(Mux(finished, sums[k], value) if k < min(pairs, keys) else value)
            totals.append(total)
        pipeline.extend(f"sum_{level + 1}")
        return totals

    def _add_parts(self, m: Module, pipeline: _Pipeline, sums: list[Signal]) -> list[Signal]:
        """Sum over the parts of a key, which lies in place 0; whole keys pass."""
        totals = [_register(signed(self.unit.sum_bits), f"total_{k}") for k in range(len(sums))]
        before = Mux(pipeline.travelling.first_part, 0, totals[0])
        with m.If(pipeline.moves):
            m.d.sync += totals[0].eq(sums[0] + before)
            m.d.sync += [total.eq(part) for total, part in zip(totals[1:], sums[1:], strict=True)]
        pipeline.extend("total", goes_on=pipeline.travelling.last_part)
        return totals

    def _scale(self, m: Module, pipeline: _Pipeline, sums: list[Signal]) -> list[Value]:
        """Multiply by the mantissa limb by limb; add up; round and saturate into the output's skid buffer."""
        keys, width = range(self.unit.max_keys), self.unit.sum_bits
        limbs: list[list[Signal]] = []
        with m.If(pipeline.moves):
            for k in keys:
                pieces = [sums[k][at : at + LIMB_BITS] for at in range(0, width, LIMB_BITS)]
                products = [piece * pipeline.travelling.mantissa for piece in (*pieces[:-1], pieces[-1].as_signed())]
                limbs.append([_register(value.shape(), f"limb_{i}_{k}") for i, value in enumerate(products)])
                m.d.sync += [limb.eq(value) for limb, value in zip(limbs[k], products, strict=True)]
        pipeline.extend("limbs")

        scaled = [_register(signed(width + SCALE_BITS), f"scaled_{k}") for k in keys]
        with m.If(pipeline.moves):
            for k in keys:
                m.d.sync += scaled[k].eq(sum(limb << LIMB_BITS * i for i, limb in enumerate(limbs[k])))
        pipeline.extend("scaled")

        top, scores = (1 << (SCORE_BITS - 1)) - 1, []
        for k, wide in enumerate(scaled):
            # Bit 0 is the one below the score: rounding adds it, and no carry has to run through the bits shifted out.
            shifted = Signal(signed(len(wide) + 1), name=f"shifted_{k}")
            m.d.comb += shifted.eq(Cat(Const(0, 1), wide).as_signed() >> pipeline.travelling.shift)
            kept, above = shifted[1 : SCORE_BITS + 1], shifted[SCORE_BITS:]
            score = Signal(SCORE_BITS, name=f"score_{k}")
            with m.If(above.all() | ~above.any()):
                m.d.comb += score.eq(kept + (shifted[0] & (kept != top)))
            with m.Else():
                m.d.comb += score.eq(Mux(shifted[-1], -top - 1, top))
            scores.append(score)
        return scores
