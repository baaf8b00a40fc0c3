"""Space on chip that is given out and given back: lines of K and V, words of the score buffer, granules of weights.

What is in use always is a single stretch around the ring, no longer than the ring, and what is given out begins behind
it: so nothing is overwritten while somebody may still read it. Promised is only that no more comes back than was taken.
"""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyosys", reason="proofs: pip install 'accel-codesign[synth]'")

from amaranth.hdl import Assume, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from rtl import fetch_jobs
from rtl.job import format_layout, line_bits, release_layout
from rtl.qk_issue import QkIssue
from rtl.qk_rows import QkRows
from rtl.second_pass import SecondPass
from tests.formal.proof import always, assert_proved, broken, counterexample, promise

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")  # built for their ports

#: The smallest: 2 to 8 lines of K, eight words of scores, four granules of weights.
SIZES = {"softmax.buffer_keys": 16, "rows_in_flight": 2, "fetcher.lanes": 2, "topk.lanes": 4, "sram.k_bytes": 192,
         "sram.v_bytes": 192}  # fmt: skip
UNIT = EngineUnit.of(load_arch("tiny", SIZES))
LOG2_PAIR_DIM = 3  # of a padded head dimension of which two V rows lie in a line


def stretch(m: Module, size: Value | int, taken: Value, begins: Value, released: Value, bits: int) -> Signal:
    """The model: ``taken`` pieces (0: none) from ``begins`` on, and ``released`` pieces from the other end."""
    first, used = Signal(bits, name="first_used"), Signal(bits + 1, name="used")
    end, back = Signal(bits + 2, name="end_of_used"), Signal(bits + 2, name="first_left")
    m.d.comb += [end.eq(first + used), back.eq(first + released)]
    m.d.sync += [used.eq(used + taken - released), first.eq(Mux(back >= size, back - size, back))]
    with m.If(taken != 0):
        always(m, used + taken <= size)
        always(m, begins == Mux(end >= size, end - size, end))
    return used


class Lines(wiring.Component):
    """The line allocator of a fetcher in the format that stands."""

    def __init__(self, module: Any):
        self.module = module
        bits = line_bits(UNIT) + 1
        super().__init__({"log2_dim": In(4), "wide": In(1), "keys": In(bits), "ask": In(1), "gives": In(bits)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        row_format, stands, bits = Signal(format_layout()), Signal(), line_bits(UNIT)
        m.d.sync += stands.eq(1)
        with m.If(~stands):
            m.d.sync += [row_format.log2_dim.eq(self.log2_dim), row_format.k_wide.eq(self.wide)]
        ring = self.module._Ring(m, UNIT, "k", UNIT.k_entries, UNIT.arch.keys_per_line, row_format, row_format.k_wide)
        release = stream.Signature(release_layout(bits + 1), always_ready=True).create()
        lines, taken, released = Signal(bits + 1), Signal(bits + 1), Signal(bits + 1)
        into = ring.fetch(self.keys)
        m.d.comb += lines.eq(into["lines"])
        m.d.comb += taken.eq(Mux(stands & self.ask & ring.has_room(lines), lines, 0))
        used = stretch(m, ring.size, taken, into["line"], released, bits)
        m.d.comb += [
            released.eq(Mux(self.gives <= used, self.gives, 0)),
            release.valid.eq(released != 0),
            release.payload.count.eq(released),
        ]
        ring.update(taken, release, Value.cast(0))
        return m


def test_lines(tmp_path: Path) -> None:
    assert_proved(Lines(fetch_jobs), tmp_path)


class Words(wiring.Component):
    """The allocator of the score buffer in QK's issue, with any rows: what prepares them is replaced."""

    def __init__(self, right: str = "", wrong: str = ""):
        bits = UNIT.score_words.bit_length()
        self.right, self.wrong = right, wrong
        members = dict(QkIssue(UNIT).signature.members.items())
        free = {name: members[name] for name in ("query_passed", "k_passed", "lsb_passed", "query_release")}
        super().__init__(
            {**free, "row": In(1), "lines": In(bits), "gives": In(bits), "finished": In(1), "first_tile": In(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        outer, words = self, UNIT.score_words

        class AnyRows(wiring.Component):
            """A row of any length whenever the harness says so."""

            def __init__(self, unit: EngineUnit):
                super().__init__(dict(QkRows(unit).signature.members.items()))

            def elaborate(self, platform: object) -> Module:
                m = Module()
                m.d.comb += [
                    self.row.valid.eq(outer.row),
                    self.row.payload.lines.eq(outer.lines),
                    self.row.payload.first_tile.eq(outer.first_tile),
                ]
                return m

        m.submodules.dut = dut = broken("rtl.qk_issue", self.right, self.wrong, QkRows=AnyRows).QkIssue(UNIT)
        bits = words.bit_length()
        taken, released = Signal(bits), Signal(bits)
        promise(m, (self.lines != 0) & (self.lines <= words))
        m.d.comb += [
            dut.query_passed.eq(self.query_passed),
            dut.k_passed.eq(self.k_passed),
            dut.lsb_passed.eq(self.lsb_passed),
            dut.query_release.eq(self.query_release),
            dut.row_finished.eq(self.finished),
            taken.eq(Mux(dut.passes.valid & ~dut.passes.payload.second, dut.passes.payload.lines, 0)),
            dut.score_release.valid.eq(released != 0),
            dut.score_release.payload.count.eq(released),
        ]
        used = stretch(m, words, taken, dut.passes.payload.score, released, bits)
        m.d.comb += released.eq(Mux(self.gives <= used, self.gives, 0))
        return m


def test_score_words(tmp_path: Path) -> None:
    assert_proved(Words(), tmp_path)


class Granules(wiring.Component):
    """The allocator of the weight ring in the second pass, with any final rows."""

    def __init__(self, second_pass: wiring.Component):
        self.second_pass = second_pass
        bits = UNIT.granules.bit_length()
        super().__init__(
            {
                "final": In(1),
                "row": In(range(UNIT.arch.rows_in_flight)),
                "keys": In(5),
                "kept": In(5),
                "selecting": In(1),
                "v_selected": In(1),
                "divided": In(1),
                "gives": In(bits),
                "selected": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.second_pass
        bits = UNIT.granules.bit_length()
        taken, released = Signal(bits), Signal(bits)
        items, lines, weights = Signal(6), Signal(5), dut.weights.payload
        # Also while reset is on, as the tables of rows keep what is written then.
        m.d.comb += Assume((self.kept != 0) & (self.kept <= self.keys) & (self.keys <= UNIT.arch.softmax.buffer_keys))
        m.d.comb += [
            dut.format.log2_dim.eq(LOG2_PAIR_DIM),
            lines.eq((weights["keys"] + 1) >> 1),
            items.eq(weights.kept),
            dut.final.valid.eq(self.final),
            dut.final.payload.row.eq(self.row),
            dut.final.payload["keys"].eq(self.keys),
            dut.final.payload.kept.eq(self.kept),
            dut.final.payload.v_selected.eq(self.v_selected),
            dut.final.payload.lines.eq(1),
            dut.final.payload.selecting.eq(self.selecting),
            dut.reciprocals.valid.eq(self.divided),
            dut.selected.eq(self.selected),
            taken.eq(Mux(dut.weights.valid, (items + UNIT.granule - 1) // UNIT.granule, 0)),
            dut.ring_release.valid.eq(released != 0),
            dut.ring_release.payload.count.eq(released),
        ]
        with m.If(dut.select.valid & ~dut.select.payload.v_selected & (lines < weights.kept)):
            m.d.comb += items.eq(lines << 1)  # as long as the longer of two columns can be
        with m.Elif(dut.select.valid & ~dut.select.payload.v_selected):
            m.d.comb += items.eq(weights.kept << 1)
        used = stretch(m, UNIT.granules, taken, dut.weights.payload.granule, released, bits)
        m.d.comb += released.eq(Mux(self.gives <= used, self.gives, 0))
        return m


def test_granules(tmp_path: Path) -> None:
    assert_proved(Granules(SecondPass(UNIT)), tmp_path)


BROKEN = {
    "lines: one too many": lambda: Lines(broken("rtl.fetch_jobs", "<= self.size", "<= self.size + 1")),
    "lines: no end": lambda: Lines(broken("rtl.fetch_jobs", "Mux(end >= self.size, end - self.size, end)", "end")),
    "lines: a release gets lost": lambda: Lines(
        broken("rtl.fetch_jobs", "self.used + taken - Mux(", "self.used - Mux(")
    ),
    "words: one too many": lambda: Words("row.lines <= free_words", "row.lines <= free_words + 1"),
    "words: takes one of several": lambda: Words("Mux(first, row.lines, 0)", "first"),
    "granules: one too many": lambda: Granules(
        broken("rtl.second_pass", "used + wanted <= unit.granules", "used + wanted <= unit.granules + 1").SecondPass(
            UNIT
        )
    ),
    "granules: rounded down": lambda: Granules(
        broken("rtl.second_pass", "(items + unit.granule - 1)", "items").SecondPass(UNIT)
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rings_are_found(name: str, tmp_path: Path) -> None:
    assert counterexample(BROKEN[name](), 14, tmp_path) is not None
