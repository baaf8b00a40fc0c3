"""Arrivals: an entry is passed in the very cycle in which the counts are complete, never before all has come."""

from pathlib import Path

import pytest

pytest.importorskip("pyosys", reason="proofs: pip install 'accel-codesign[synth]'")

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from tests.formal.proof import DEEP, always, assert_bounded, assert_proved, broken, counterexample

SEQUENCE_BITS = 2  # of running numbers, instead of the engine's
UNIT = EngineUnit.of(load_arch("tiny"))


class Counted(wiring.Component):
    """Entries are generated in ring order, by all lanes as they like, and their accesses come back in any order, the
    first in the cycle after its generation. An entry is complete for the generator some time after its last access;
    its place is used again when it has been passed.

    The model knows of each lane and entry how many accesses are under way.
    """

    def __init__(self, arrivals: wiring.Component, most: int):
        self.arrivals, self.most = arrivals, most
        lanes, entries = arrivals.lanes, arrivals.entries
        super().__init__(
            {
                "generates": In(1).array(lanes),
                "arrives": In(1).array(lanes),
                "which": In(range(entries)).array(lanes),
                "ends": In(1),  # the entry being generated is complete
                "shows": In(1),  # limit takes over what is complete
                "restart": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.arrivals
        lanes, entries = range(dut.lanes), dut.entries
        at, complete, limit = Signal(range(entries)), Signal(SEQUENCE_BITS), Signal(SEQUENCE_BITS)
        passed, position = Signal(SEQUENCE_BITS), Signal(range(entries))
        under_way = [
            Array(Signal(range(self.most + 1), name=f"under_way_{lane}_{entry}") for entry in range(entries))
            for lane in lanes
        ]

        def after(index: Signal) -> Mux:
            return Mux(index == entries - 1, 0, index + 1)

        room, quiet = Signal(), Signal()
        m.d.comb += [
            room.eq(((complete - passed)[:SEQUENCE_BITS] < entries) & dut.ready),
            quiet.eq((limit == passed) & ~Cat(count.any() for lane in under_way for count in lane).any()),
            dut.restart.eq(self.restart & quiet & (complete == passed)),
            dut.limit.eq(limit),
            dut.ring.eq(entries),
        ]
        for lane in lanes:
            generates, arrives = Signal(name=f"generates_{lane}"), Signal(name=f"arrives_{lane}")
            m.d.comb += [
                generates.eq(self.generates[lane] & room & (under_way[lane][at] != self.most) & ~dut.restart),
                arrives.eq(self.arrives[lane] & (self.which[lane] < entries) & under_way[lane][self.which[lane]].any()),
                dut.generated[lane].valid.eq(generates),
                dut.generated[lane].payload.index.eq(at),
                dut.arrived[lane].valid.eq(arrives),
                dut.arrived[lane].payload.index.eq(self.which[lane]),
            ]
            for entry in range(entries):
                count = under_way[lane][entry]
                m.d.sync += count.eq(count + (generates & (at == entry)) - (arrives & (self.which[lane] == entry)))
        with m.If(self.ends & room & ~dut.restart):
            m.d.sync += [complete.eq(complete + 1), at.eq(after(at))]
        with m.If(self.shows):
            m.d.sync += limit.eq(complete)
        with m.If((limit != passed) & Cat(~under_way[lane][position].any() for lane in lanes).all()):
            m.d.sync += [passed.eq(passed + 1), position.eq(after(position))]
        with m.If(dut.restart):
            m.d.sync += [at.eq(0), position.eq(0)]
        always(m, dut.passed == passed)
        return m


def arrivals(right: str = "", wrong: str = "", entries: int = 2, lanes: int = 2, most: int = 2) -> wiring.Component:
    """With short running numbers, and one place broken."""
    source = broken("rtl.arrivals", right, wrong, sequence_bits=lambda unit: SEQUENCE_BITS)
    return source.Arrivals(UNIT, entries, lanes, most)


@pytest.mark.parametrize(
    ("entries", "lanes", "most"), [(2, 1, 1), (2, 2, 1), *([(2, 1, 2), (3, 2, 1)] if DEEP else [])]
)
def test_passes_when_all_has_arrived(entries: int, lanes: int, most: int, tmp_path: Path) -> None:
    assert_proved(Counted(arrivals(entries=entries, lanes=lanes, most=most), most), tmp_path)


@pytest.mark.parametrize(("entries", "lanes", "most"), [(2, 2, 2), (3, 2, 1), (3, 1, 3)])
def test_passes_when_all_has_arrived_for_a_while(entries: int, lanes: int, most: int, tmp_path: Path) -> None:
    """What takes minutes to prove for ever."""
    assert_bounded(Counted(arrivals(entries=entries, lanes=lanes, most=most), most), 20 if DEEP else 12, tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("level.all()", "level.any()"),
        ("(self.limit != self.passed) & level", "level"),
        ("counting & (entry == index)", "0"),  # a count written in the cycle of its next read
        ("counting & (entry == self.next_position)", "0"),
        ("counting & (entry == self.position)", "0"),
        ("m.d.comb += next_position.eq(0)", "pass"),
    ],
)
def test_broken_arrivals_are_found(right: str, wrong: str, tmp_path: Path) -> None:
    assert counterexample(Counted(arrivals(right, wrong), 2), 16, tmp_path) is not None


def test_counts_of_too_few_bits_are_found(tmp_path: Path) -> None:
    assert counterexample(Counted(arrivals(most=1), 2), 16, tmp_path) is not None
