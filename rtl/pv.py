"""The PV array in hardware: weighted V rows summed into output rows, then normalised.

``Parameters`` and ``component`` are what ``rtl.verilog`` builds the unit from.
"""

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.pv import ACCUMULATOR_BITS, PvArray
from rtl.pv_scaler import OutputScaler, carried_layout, output_layout, row_sums_layout
from rtl.pv_tree import ProductTree, line_layout, sums_layout

__all__ = ["PV", "Parameters", "component"]

Parameters = PvArray


def component(parameters: PvArray) -> wiring.Component:
    """The array."""
    return PV(parameters)


class Accumulators(wiring.Component):
    """Adds the sums of a row's lines up. The second set of accumulators is the row that the output scaler holds.

    Parameters
    ----------
    unit : PvArray.

    Members
    -------
    i : In(stream of sums_layout). Lines, or parts of folded lines; a row's first line starts from 0 or, with ``keep``,
        from the row before, shifted right.
    o : Out(stream of row_sums_layout). Offered in the cycle in which the last line is added, sums included; a row that
        is refused waits in the accumulators.

    Latency 0, one line per cycle. i is refused while a finished row waits and o is not ready: i.ready follows o.ready
    and no other input.
    """

    def __init__(self, unit: PvArray):
        self.unit = unit
        super().__init__(
            {"i": In(stream.Signature(sums_layout(unit))), "o": Out(stream.Signature(row_sums_layout(unit)))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, i, o = self.unit, self.i, self.o
        row, words = i.payload.row, i.payload.words
        sums = [Signal(signed(ACCUMULATOR_BITS), name=f"sum_{d}", reset_less=True) for d in range(unit.max_head_dim)]
        waiting, waiting_row = Signal(), Signal(row.shape(), reset_less=True)
        first_line = Signal(init=1)
        part, last_part = Signal(range(max(2, unit.max_fold))), Signal()
        step, complete = Signal(), Signal()
        m.d.comb += [
            i.ready.eq(~waiting | o.ready),
            step.eq(i.valid & i.ready),
            last_part.eq(1),
            complete.eq(i.valid & row.last & last_part),
            o.valid.eq(waiting | complete),
        ]
        with m.Switch(row.log2_dim):
            for dim in unit.padded_dims:
                if unit.fold(dim) > 1:
                    with m.Case(dim.bit_length() - 1):
                        m.d.comb += last_part.eq(part == unit.fold(dim) - 1)
        with m.If(step):
            m.d.sync += part.eq(Mux(last_part, 0, part + 1))
            with m.If(last_part):
                m.d.sync += first_line.eq(row.last)
        with m.If(i.ready):
            # Either no row waits, or the one that waits leaves now.
            m.d.sync += waiting.eq(complete & (waiting | ~o.ready))
        with m.If(step & complete):
            m.d.sync += waiting_row.eq(row)

        leaving = data.View(row.shape(), Mux(waiting, waiting_row.as_value(), row.as_value()))
        m.d.comb += [
            o.payload.reciprocal.eq(leaving.reciprocal),
            o.payload.shift.eq(leaving.shift),
            o.payload.head_dim.eq(leaving.head_dim),
            o.payload.carry.eq(leaving.carry),
            o.payload.raw.eq(leaving.raw),
        ]
        # The words of a part share an adder and a shifter with those of the other parts.
        groups = [sums[g : g + unit.multipliers] for g in range(0, len(sums), unit.multipliers)]
        for w, word in enumerate(words):
            here = [part == g for g in range(len(groups))] if len(groups) > 1 else [Const(1, 1)]
            total: Value = groups[0][w]
            for g in range(1, len(groups)):
                total = Mux(here[g], groups[g][w], total)
            before, added = Signal(sums[w].shape(), name=f"before_{w}"), Signal(sums[w].shape(), name=f"added_{w}")
            m.d.comb += before.eq(total)
            start = Mux(row.keep, before >> row.keep_shift, 0)
            m.d.comb += added.eq(Mux(first_line, start, before) + word)
            for g, group in enumerate(groups):
                m.d.comb += o.payload.sums[g * unit.multipliers + w].eq(Mux(waiting | ~here[g], group[w], added))
                with m.If(step & here[g]):
                    m.d.sync += group[w].eq(added)
        return m


class PV(wiring.Component):
    """Output rows of attention: sums of V rows, each times its weight, times the row's reciprocal.

    A row is one line or more. With padded head dimension D a line holds P = ``unit.rows_per_line(D)`` V rows; for D
    above M it is D / M parts of M words, of one V row, on consecutive transfers.

    Parameters
    ----------
    unit : PvArray.

    Members
    -------
    line : In(stream). One line, or one part.
        values : M signed words; row p in words p * D to p * D + D - 1.
        weights, count : the weights of the rows, of which the first count are valid, 0..P. A weight of 0 does as well
            for a row in between.
        row.log2_dim : log2 D, 3 or more; the same on every line of the row; likewise row.signed: weights are signed.
        row.keep, row.keep_shift : read on the row's first line, every part of it. keep: the row goes on from the sums
            of the row before, which had the same D, shifted right arithmetically by keep_shift (saturated at 63) -
            the rise of the maximum from tile to tile.
        row.last : this is the row's last line; read on its last part, and with it
        row.reciprocal, row.shift, row.head_dim : the row's scale and how many dimensions are output, 1 to D.
        row.carry : what ``carried`` offers next is added to the row's sums, item for item. A row of that kind has no
            ``keep``. row.raw : the sums are output as they are.
        Everything else carries no meaning: words of rows from count on, words from P * D on, dimensions from head_dim
        on, and the fields of the row on lines on which they are not read.
    carried : In(stream of ``output_lanes`` sums). ceil(head_dim / output_lanes) items for each row with row.carry.
    outputs : Out(stream of numbers, last, magnitude, upper). ceil(head_dim / output_lanes) items per row, ``last`` on
        the final one. Numbers from head_dim on are 0. magnitude is the sum of the magnitudes of the row's numbers up to
        and including this item. Of a raw row numbers are the lower 16 bits of the sums, upper all others.

    Latency: ``PvUnit.latency_cycles`` less ``SRAM_READ_CYCLES``, which stands before this port, plus
    ``NORMALISE_CYCLES`` from the last line accepted to the first item offered; one line, and one item, per cycle.
    The first line after a change of D waits until the tree is empty. Exact rules: ``sim.pv_schedule``.

    Back-pressure: with outputs stalled three items, the row that is read out and a finished row behind it are held;
    then lines fill the tree up to the product registers and line.ready falls. line.ready is decoded from registers, and
    so is outputs: no input reaches an output within the cycle.

    Golden: ``accel.numerics.attention``, the weighted sums of ``attend_row`` and ``normalise_output``.
    """

    def __init__(self, unit: PvArray):
        self.unit = unit
        super().__init__(
            {
                "line": In(stream.Signature(line_layout(unit))),
                "carried": In(stream.Signature(carried_layout(unit))),
                "outputs": Out(stream.Signature(output_layout(unit))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.tree = tree = ProductTree(self.unit)
        m.submodules.accumulate = accumulate = Accumulators(self.unit)
        m.submodules.scale = scale = OutputScaler(self.unit)
        wiring.connect(m, wiring.flipped(self.line), tree.line)
        wiring.connect(m, tree.o, accumulate.i)
        wiring.connect(m, accumulate.o, scale.i)
        wiring.connect(m, wiring.flipped(self.carried), scale.carried)
        wiring.connect(m, scale.outputs, wiring.flipped(self.outputs))
        return m
