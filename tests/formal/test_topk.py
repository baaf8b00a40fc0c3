"""Top-k engine: every short row, with every k, against the definition; whatever pivots come."""

from pathlib import Path

import pytest

pytest.importorskip("pyosys", reason="proofs: pip install 'accel-codesign[synth]'")

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from accel.units import implementation
from accel.units.topk import LFSR_BITS, TopKUnit
from tests.formal.proof import DEEP, always, assert_bounded, broken, counterexample, never_reset

LANES = 2
#: Where the generator's state is used; ``pivots`` is free instead: any pivot in any round.
ANY_PIVOTS = ("selector", "(lfsr * size)", "(pivots * size)")
pivots = Signal(LFSR_BITS, name="pivots")


PARTS = {
    "selector": ("Selector", "selector"),
    "row_filter": ("RowFilter", "row_filter"),
    "histogram": ("HistogramSelector", "selector"),
    "sorter": ("SortingSelector", "selector"),
}


def engine(
    max_n: int, value_bits: int, module: str = "", right: str = "", wrong: str = "", name: str = "quickselect"
) -> wiring.Component:
    """A top-k engine, one place of its selector or of the filter changed."""
    unit = TopKUnit(LANES, value_bits, max_n, engine=name)
    kind = implementation("rtl.topk", name).TopK
    if module:
        part, where = PARTS[module]
        changed = getattr(broken(f"rtl.topk.{module}", right, wrong, pivots=pivots), part)
        kind = type("TopK", (kind,), {where: changed})
    return kind(unit)


class Selected(wiring.Component):
    """A row of n values, offered from the first cycle on; its output words have to be those of the definition, in time.

    The row stands still in registers of its own, so every row is one start; ``output.ready`` is free unless ``within``
    says by which cycle the row has to be out.
    """

    def __init__(self, dut: wiring.Component, within: int | None):
        self.dut, self.within = dut, within
        unit = dut.unit
        self.words = -(-unit.max_n // LANES)
        super().__init__(
            {
                "n": In(unit.size_bits),
                "k": In(unit.size_bits),
                "values": In(unit.max_n * unit.value_bits),
                "ready": In(1),
                "pivots": In(LFSR_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        never_reset(m)
        m.submodules.dut = dut = self.dut
        m.d.comb += pivots.eq(self.pivots)
        unit = dut.unit
        known, commanded, fed, out = Signal(), Signal(), Signal(range(self.words + 1)), Signal(range(self.words + 2))
        n, k, values = Signal.like(self.n), Signal.like(self.k), Signal.like(self.values)
        m.d.sync += known.eq(1)
        with m.If(~known):
            m.d.sync += [n.eq(Mux(self.n > unit.max_n, unit.max_n, self.n)), k.eq(self.k), values.eq(self.values)]
        value = [values.word_select(i, unit.value_bits) for i in range(unit.max_n)]
        m.d.comb += [
            dut.command.valid.eq(known & ~commanded),
            dut.command.payload.n.eq(n),
            dut.command.payload.k.eq(k),
            dut.input.valid.eq(commanded & (fed * LANES < n)),
            dut.output.ready.eq(1 if self.within else self.ready),
        ]
        for lane in range(LANES):
            m.d.comb += dut.input.payload[lane].eq(Array(value[lane::LANES])[fed])
        with m.If(dut.command.valid & dut.command.ready):
            m.d.sync += commanded.eq(1)
        with m.If(dut.input.valid & dut.input.ready):
            m.d.sync += fed.eq(fed + 1)

        # The definition: kept are those with fewer than k before them, of larger ones and equal ones at lower places.
        kept, place = [], []
        before: Value | int = 0
        for i in range(unit.max_n):
            rank: Value | int = 0
            for j in range(unit.max_n):
                if j != i:
                    rank = rank + ((j < n) & ((value[j] >= value[i]) if j < i else (value[j] > value[i])))
            kept_i = Signal(name=f"kept_{i}")
            m.d.comb += kept_i.eq((i < n) & (rank < k))
            kept.append(kept_i)
            place_i = Signal(range(unit.max_n + 1), name=f"place_{i}")
            m.d.comb += place_i.eq(before)
            place.append(place_i)
            before = before + kept_i
        total = Signal(range(unit.max_n + 1))
        m.d.comb += total.eq(before)

        word, ended = dut.output.payload, Signal()
        with m.If(dut.output.valid):
            left = total - out * LANES
            always(m, ~ended)
            always(m, word.last == (left <= LANES))
            always(m, word.count == Mux(left <= LANES, left, LANES))
            for i in range(unit.max_n):
                with m.If(kept[i] & (place[i] // LANES == out)):
                    always(m, Array(word.positions)[place[i] % LANES] == i)
                    always(m, Array(word.values)[place[i] % LANES] == value[i])
        with m.If(dut.output.valid & dut.output.ready):
            m.d.sync += [out.eq(out + 1), ended.eq(word.last)]
        if self.within:
            cycle = Signal(range(self.within + 2))
            m.d.sync += cycle.eq(Mux(cycle <= self.within, cycle + 1, cycle))
            always(m, ended | (cycle <= self.within))
        return m


def test_rows_of_four(tmp_path: Path) -> None:
    """All rows of up to four values of two bits, all k: right, and out within 30 cycles of reset."""
    assert_bounded(Selected(engine(4, 2), 30), 33, tmp_path)


def test_rows_of_four_with_any_pivots(tmp_path: Path) -> None:
    """Whatever the generator would say: rounds of one value less each, in the worst case."""
    assert_bounded(Selected(engine(4, 2 if DEEP else 1, *ANY_PIVOTS), 44 if DEEP else 34), 47 if DEEP else 37, tmp_path)


def test_rows_of_four_with_a_stalling_output(tmp_path: Path) -> None:
    assert_bounded(Selected(engine(4, 2), None), 36 if DEEP else 22, tmp_path)


@pytest.mark.parametrize(("name", "within"), [("histogram", 18), ("sorter", 24)])
def test_rows_of_four_without_pivots(name: str, within: int, tmp_path: Path) -> None:
    """As for quick-select; the histogram's values have one digit."""
    assert_bounded(Selected(engine(4, 2, name=name), within), within + 3, tmp_path)


@pytest.mark.skipif(not DEEP, reason="takes minutes: FORMAL=deep")
def test_two_digits(tmp_path: Path) -> None:
    """Values of which the lower digit has one bit of six."""
    assert_bounded(Selected(engine(4, 7, name="histogram"), 26), 29, tmp_path)


@pytest.mark.skipif(not DEEP, reason="takes minutes: FORMAL=deep")
def test_rows_of_six(tmp_path: Path) -> None:
    assert_bounded(Selected(engine(6, 2), 60), 62, tmp_path)


@pytest.mark.parametrize(
    ("module", "right", "wrong"),
    [
        ("selector", "width) > pivot", "width) >= pivot"),
        ("selector", "n_larger > target", "n_larger >= target"),
        ("selector", "Mux(pivot_in_packer, held, word)", "word"),
        ("row_filter", "rank_2[lane] < equal_left", "rank_2[lane] <= equal_left"),
        ("row_filter", "complete & (pack.o_total <= lanes)", "complete"),
    ],
)
def test_broken_engines_are_found(module: str, right: str, wrong: str, tmp_path: Path) -> None:
    assert counterexample(Selected(engine(4, 2, module, right, wrong), 30), 33, tmp_path) is not None


@pytest.mark.parametrize(
    ("module", "right", "wrong"),
    [
        ("histogram", "through[at + 1] if at + 1", "through[at] if at + 1"),
        ("sorter", "even.heads[lane] > odd.heads", "even.heads[lane] < odd.heads"),
        ("sorter", "(larger == 0) & (value == value_before)", "larger == 0"),
        ("sorter", "inside[lane], self", "1, self"),
    ],
)
def test_other_broken_engines_are_found(module: str, right: str, wrong: str, tmp_path: Path) -> None:
    assert counterexample(Selected(engine(4, 2, module, right, wrong, name=module), 30), 33, tmp_path) is not None
