"""Register slice, queue and window FIFO: whatever goes in comes out, once, unchanged and in its turn."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("pyosys", reason="proofs: pip install 'accel-codesign[synth]'")

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rtl.stream import Queue, SkidBuffer
from rtl.window_fifo import WindowFifo
from tests.formal.proof import always, assert_proved, broken, counterexample

ITEM_BITS = 2


class Followed(wiring.Component):
    """A stream component under any traffic. One item, whichever ``mark`` points out as it enters, is followed by its
    place: it must be offered when those before it have left, unchanged, until it is taken.
    """

    def __init__(self, component: wiring.Component, capacity: int):
        self.component, self.capacity = component, capacity
        super().__init__({"valid": In(1), "payload": In(ITEM_BITS), "ready": In(1), "mark": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.component
        held, place = Signal(range(self.capacity + 2)), Signal(range(self.capacity + 2))
        enters, leaves, following, item = Signal(), Signal(), Signal(), Signal(ITEM_BITS)
        m.d.comb += [
            dut.i.valid.eq(self.valid),
            dut.i.payload.eq(self.payload),
            dut.o.ready.eq(self.ready),
            enters.eq(self.valid & dut.i.ready),
            leaves.eq(dut.o.valid & self.ready),
        ]
        m.d.sync += held.eq(held + enters - leaves)
        with m.If(following & leaves):
            m.d.sync += [place.eq(place - 1), following.eq(place != 0)]
        with m.Elif(~following & enters & self.mark):
            m.d.sync += [following.eq(1), place.eq(held - leaves), item.eq(self.payload)]
        always(m, held <= self.capacity)
        always(m, dut.i.ready == (held != self.capacity))  # refuses when full, and only then
        always(m, dut.o.valid == (held != 0))  # offers what it has, and nothing else
        with m.If(following & (place == 0)):
            always(m, dut.o.valid & (dut.o.payload == item))
        return m


@pytest.mark.parametrize(
    ("component", "capacity"),
    [(lambda: SkidBuffer(ITEM_BITS), 2), *((lambda n=n: Queue(ITEM_BITS, n), n) for n in (1, 2, 3, 4, 5))],
    ids=["skid buffer", *(f"queue of {n}" for n in (1, 2, 3, 4, 5))],
)
def test_streams(component: Callable[[], wiring.Component], capacity: int, tmp_path: Path) -> None:
    assert_proved(Followed(component(), capacity), tmp_path)


BROKEN_STREAMS = {
    "says that it holds one more": lambda: (Queue(ITEM_BITS, 2), 3),
    "takes while the skid is full": lambda: (
        broken("rtl.stream", "self.i.ready.eq(~skid_valid)", "self.i.ready.eq(1)").SkidBuffer(ITEM_BITS),
        2,
    ),
    "forgets the skid": lambda: (
        broken("rtl.stream", "front_valid.eq(1), skid_valid", "front_valid.eq(0), skid_valid").SkidBuffer(ITEM_BITS),
        2,
    ),
    "changes what it offers": lambda: (
        broken("rtl.stream", "sync += [skid.eq(self.i", "sync += [front.eq(self.i").SkidBuffer(ITEM_BITS),
        2,
    ),
}


@pytest.mark.parametrize("name", BROKEN_STREAMS)
def test_broken_streams_are_found(name: str, tmp_path: Path) -> None:
    assert counterexample(Followed(*BROKEN_STREAMS[name]()), 10, tmp_path) is not None


class FollowedInWindow(wiring.Component):
    """A window FIFO under all traffic that its contract allows. One entry is followed by its place: as long as it is in
    the window it must be seen there; entries move up only by those taken before them.
    """

    def __init__(self, fifo: wiring.Component):
        self.fifo = fifo
        window = range(fifo.window)
        super().__init__({"push": In(1), "payload": In(ITEM_BITS), "take": In(1), "which": In(window), "mark": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.fifo
        held, place = Signal(range(dut.depth + 1)), Signal(range(dut.depth + 1))
        enters, leaves, following, item = Signal(), Signal(), Signal(), Signal(ITEM_BITS)
        m.d.comb += [
            leaves.eq(self.take & (self.which < dut.window) & (self.which < held)),
            enters.eq(self.push & ((held != dut.depth) | leaves)),
            dut.push.valid.eq(enters),
            dut.push.payload.eq(self.payload),
            dut.take.eq(Mux(leaves, 1 << self.which, 0)),
        ]
        m.d.sync += held.eq(held + enters - leaves)
        with m.If(following):
            with m.If(leaves & (place == self.which)):
                m.d.sync += following.eq(0)
            with m.Elif(leaves & (self.which < place)):
                m.d.sync += place.eq(place - 1)
        with m.Elif(enters & self.mark):
            m.d.sync += [following.eq(1), place.eq(held - leaves), item.eq(self.payload)]
        always(m, dut.level == held)
        for p, head in enumerate(dut.heads):
            with m.If(following & (place == p)):
                always(m, head == item)
        return m


@pytest.mark.parametrize(("depth", "window"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (4, 2), (6, 2), (4, 3), (8, 1)])
def test_window_fifo(depth: int, window: int, tmp_path: Path) -> None:
    assert_proved(FollowedInWindow(WindowFifo(ITEM_BITS, depth, window)), tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("self.take[: p + 1].any()", "self.take[p]"),  # those behind a taken one stay
        ("push.valid & (left == p)", "push.valid & (self.level == p)"),  # no heed of a take in the same cycle
        ("taken & (self.level > window)", "taken & (self.level >= window)"),  # reads what is not there
        ("Mux(read_at == size - 1, 0, read_at + 1)", "read_at + 1"),  # the read runs past the end
        ("m.d.sync += from_memory.eq(0)", "pass"),  # a late one is not seen
    ],
)
def test_broken_window_fifo_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    fifo = broken("rtl.window_fifo", right, wrong).WindowFifo(ITEM_BITS, 5, 2)
    assert counterexample(FollowedInWindow(fifo), 20, tmp_path) is not None
