"""Proofs by Yosys' own SAT solver: the zero eliminator for every word, skid buffer and queue for every traffic."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("amaranth", reason="pip install 'accel-codesign[synth]'")
pytest.importorskip("pyosys", reason="pip install 'accel-codesign[synth]'")

from amaranth.back import rtlil
from amaranth.hdl import Assert, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rtl.stream import Queue, SkidBuffer
from rtl.zero_eliminator import ZeroEliminator

_PASSES = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.stdin.read().splitlines():
    libyosys.run_pass(command, design)
"""


def counterexample(harness: wiring.Component, steps: int, folder: Path) -> str | None:
    """None if no assertion can fail within ``steps`` cycles of reset, whatever the harness' input ports do; else Yosys'
    table of the cycles that break one."""
    (folder / "harness.il").write_text(rtlil.convert(harness, name="harness", emit_src=False))
    commands = [
        "read_rtlil harness.il",
        "prep -flatten -top harness",
        "memory_map",
        "async2sync",
        "chformal -lower",
        "opt_clean",
        f"sat -prove-asserts -set-assumes -set rst 0 -seq {steps} -show-ports",
    ]
    done = subprocess.run(
        [sys.executable, "-c", _PASSES], input="\n".join(commands), cwd=folder, capture_output=True, text=True
    )
    if "SAT proof finished - no model found: SUCCESS!" in done.stdout:
        return None
    assert "SAT proof finished - model found: FAIL!" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout[done.stdout.index("SAT proof finished") :]


class Eliminated(wiring.Component):
    """Two steps after a word, each kept lane sits behind exactly the kept lanes below it."""

    def __init__(self, lanes: int, width: int):
        self.lanes, self.width = lanes, width
        super().__init__({"valid": In(1), "enable": In(1), "keep": In(lanes), "items": In(lanes * width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = ZeroEliminator(self.width, self.lanes)
        valid, keep, items = ([Signal.like(s) for _ in range(2)] for s in (self.valid, self.keep, self.items))
        m.d.comb += [
            dut.enable.eq(self.enable),
            dut.i_valid.eq(self.valid),
            dut.i_keep.eq(self.keep),
            dut.i_items.eq(self.items),
            Assert(dut.o_valid == valid[1]),
        ]
        with m.If(self.enable):
            for delayed, now in ((valid, self.valid), (keep, self.keep), (items, self.items)):
                m.d.sync += [delayed[0].eq(now), delayed[1].eq(delayed[0])]
        below: Value | int = 0
        with m.If(dut.o_valid):
            for lane in range(self.lanes):
                with m.If(keep[1][lane]):
                    packed = dut.o_items.as_value().word_select(below, self.width) if lane else dut.o_items[0]
                    m.d.comb += Assert(packed == items[1].word_select(lane, self.width))
                below = below + keep[1][lane]
            m.d.comb += Assert(dut.o_count == below)
        return m


def test_zero_eliminator(tmp_path: Path) -> None:
    """All words, keep masks and freezes of the published 16 lanes. One bit per item: the bits of an item never meet."""
    assert counterexample(Eliminated(16, 1), 4, tmp_path) is None


class Followed(wiring.Component):
    """A stream component under any traffic; the item that enters as number ``chosen`` must leave as that number."""

    def __init__(self, component: wiring.Component, chosen: int, capacity: int):
        self.component, self.chosen, self.capacity = component, chosen, capacity
        super().__init__({"valid": In(1), "payload": In(2), "ready": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.component
        entered, left, item = Signal(8), Signal(8), Signal(2)
        refused, offered = Signal(), Signal(2)
        m.d.comb += [
            dut.i.valid.eq(self.valid),
            dut.i.payload.eq(self.payload),
            dut.o.ready.eq(self.ready),
            Assert(entered - left <= self.capacity),
            Assert(~dut.o.valid | (left < entered)),  # nothing leaves that has not entered
            Assert(dut.o.valid | (left == entered)),  # what is inside is offered
            Assert(dut.i.ready | (entered - left == self.capacity)),  # refuses only when full
        ]
        m.d.sync += [refused.eq(dut.o.valid & ~self.ready), offered.eq(dut.o.payload)]
        with m.If(refused):
            m.d.comb += Assert(dut.o.valid & (dut.o.payload == offered))
        with m.If(self.valid & dut.i.ready):
            m.d.sync += entered.eq(entered + 1)
            with m.If(entered == self.chosen):
                m.d.sync += item.eq(self.payload)
        with m.If(dut.o.valid & self.ready):
            m.d.sync += left.eq(left + 1)
            with m.If(left == self.chosen):
                m.d.comb += Assert(dut.o.payload == item)
        return m


@pytest.mark.parametrize(
    ("component", "capacity"),
    [(lambda: SkidBuffer(2), 2), (lambda: Queue(2, 1), 1), (lambda: Queue(2, 2), 2), (lambda: Queue(2, 3), 3)],
    ids=["skid buffer", "queue of 1", "queue of 2", "queue of 3"],
)
def test_streams(component: Callable[[], wiring.Component], capacity: int, tmp_path: Path) -> None:
    """Ten cycles: every buffer here fills, empties and wraps around more than once."""
    assert counterexample(Followed(component(), 3, capacity), 10, tmp_path) is None


def test_a_broken_buffer_is_found(tmp_path: Path) -> None:
    """The harness itself: a queue of 2 that is said to hold 3 must come out as a failure."""
    assert "Signal Name" in (counterexample(Followed(Queue(2, 2), 3, 3), 10, tmp_path) or "")
