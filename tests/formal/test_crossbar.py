"""Both crossbars with an ideal memory: every access comes back, once, to its lane, with its tag and its data."""

from pathlib import Path

import pytest

pytest.importorskip("pyosys", reason="proofs: pip install 'accel-codesign[synth]'")

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from rtl.crossbar import Crossbar
from rtl.stream import Queue
from tests.formal.proof import DEEP, always, assert_bounded, assert_proved, broken, counterexample


def small(lanes: int, channels: int, window: int, depth: int, outstanding: int) -> EngineUnit:
    """An engine with these crossbars."""
    return EngineUnit.of(
        load_arch(
            "tiny",
            {
                "fetcher.lanes": lanes,
                "fetcher.window": window,
                "fetcher.address_fifo_depth": depth,
                "fetcher.outstanding_per_channel": outstanding,
                "memory.channels": channels,
            },
        )
    )


class Served(wiring.Component):
    """Any pushes that the lanes' levels allow; per channel a memory that takes addresses and answers them in order
    whenever it likes.

    Of an address bit 0 is the mark and bit 1 the channel's low bit, of a tag ``side`` is the mark and of the data bit 0
    repeats the address' mark. Marks show whether address and tag stay together. At most one marked access is under way,
    so a marked one that arrives is that one: in its lane, once.
    """

    def __init__(self, crossbar: wiring.Component, within: int | None = None, quiet: bool = True):
        self.crossbar, self.within, self.quiet = crossbar, within, quiet
        lanes, channels = len(crossbar.push), len(crossbar.read)
        super().__init__(
            {
                "push": In(1).array(lanes),
                "channel": In(1).array(lanes),
                "mark": In(1).array(lanes),
                "arready": In(1).array(channels),
                "answer": In(1).array(channels),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.crossbar
        lanes, channels = range(len(dut.push)), range(len(dut.read))
        fetcher = dut.unit.arch.fetcher
        cycle = Signal.like(dut.cycle)
        m.d.sync += cycle.eq(cycle + 1)
        m.d.comb += dut.cycle.eq(cycle)

        marked, marked_lane = Signal(), Signal(range(max(2, len(lanes))))
        earlier_mark = marked
        for lane in lanes:
            push, arrived, mark = dut.push[lane], dut.arrived[lane], Signal(name=f"mark_{lane}")
            m.d.comb += [
                push.valid.eq(self.push[lane] & (dut.level[lane] < fetcher.address_fifo_depth)),
                mark.eq(self.mark[lane] & push.valid & ~earlier_mark),
                push.payload.channel.eq(self.channel[lane] if len(channels) > 1 else 0),
                push.payload.address.eq(mark | (self.channel[lane] << 1)),
                push.payload.tag.side.eq(mark),
            ]
            with m.If(mark):
                m.d.sync += [marked.eq(1), marked_lane.eq(lane)]
            earlier_mark = earlier_mark | mark
            with m.If(arrived.valid):
                always(m, arrived.payload.data[0] == arrived.payload.tag.side)
                with m.If(arrived.payload.tag.side):
                    always(m, marked & (marked_lane == lane))
                    m.d.sync += marked.eq(0)
        with m.If(dut.idle & marked):  # idle only when all have come back, or come in this cycle
            comes = (dut.arrived[lane].valid & dut.arrived[lane].payload.tag.side for lane in lanes)
            always(m, Cat(comes).any())

        for c in channels:
            port = dut.read[c]
            m.submodules[f"memory_{c}"] = memory = Queue(1, fetcher.outstanding_per_channel)
            refused, address = Signal(name=f"refused_{c}"), Signal(2, name=f"address_{c}")
            m.d.comb += [
                port.arready.eq(self.arready[c]),
                memory.i.valid.eq(port.arvalid & port.arready),
                memory.i.payload.eq(port.araddr[0]),
                port.rvalid.eq(memory.o.valid & self.answer[c]),
                port.rdata.eq(memory.o.payload),
                memory.o.ready.eq(port.rready & self.answer[c]),
            ]
            with m.If(port.arvalid):
                always(m, memory.i.ready)  # never more under way than outstanding_per_channel
                if len(channels) > 1:
                    always(m, port.araddr[1] == c)
            m.d.sync += [refused.eq(port.arvalid & ~port.arready), address.eq(port.araddr)]
            with m.If(refused):
                always(m, port.arvalid & (port.araddr[:2] == address))
        if self.within is not None:
            # A memory that takes and answers at once, and with ``quiet`` nothing new: then it is back in time.
            waited = Signal(range(self.within + 2))
            quick = marked & Cat(self.arready[c] & self.answer[c] for c in channels).all()
            if self.quiet:
                quick = quick & ~Cat(dut.push[lane].valid for lane in lanes).any()
            m.d.sync += waited.eq(0)
            with m.If(quick):
                m.d.sync += waited.eq(waited + 1)
            always(m, waited <= self.within)
        return m


# Lanes, channels, window, address FIFO, outstanding per channel; then cycles until the last of what is inside is back.
PROVED = [(2, 1, 1, 2, 1, 20), (2, 1, 2, 2, 2, 20), (2, 2, 1, 2, 1, None)]


@pytest.mark.parametrize("sizes", PROVED)
def test_every_access_comes_back_once(sizes: tuple[int, ...], tmp_path: Path) -> None:
    """To its lane, with its tag and its data, for any pushes and any memory; without new pushes within a bound."""
    *size, within = sizes
    assert_proved(Served(Crossbar(small(*size)), within or (24 if DEEP else None)), tmp_path)


def test_two_channels_with_a_window(tmp_path: Path) -> None:
    """Everything at once is too much for a proof without bound."""
    assert_bounded(Served(Crossbar(small(2, 2, 2, 2, 2))), 14 if DEEP else 9, tmp_path)


def test_no_bound_while_others_push(tmp_path: Path) -> None:
    """What the priority does not promise: it turns with time, so a memory whose answers come every ``lanes`` cycles, or
    a multiple of that, gives the same lane each turn, as long as that lane pushes. A fetch gives each lane its part and
    the next begins when all have generated theirs, so in the engine nobody waits longer than for the rest of a fetch.
    """
    assert counterexample(Served(Crossbar(small(2, 1, 1, 2, 1)), 40, quiet=False), None, tmp_path) is not None


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("under_way[c] != limit", "under_way[c] <= limit"),  # more than the queue of tags holds
        ("payload.tag.eq(address.tag)", "payload.tag.eq(leaving[0].tag)"),  # another lane's tag
        ("[c] + granted - given", "[c] + granted - accepted"),  # idle too early
        ("fifo.level > p for p", "fifo.level >= p for p"),  # asks with what is not there
    ],
)
def test_broken_crossbars_are_found(right: str, wrong: str, tmp_path: Path) -> None:
    crossbar = broken("rtl.crossbar", right, wrong).Crossbar(small(2, 2, 2, 2, 2))
    assert counterexample(Served(crossbar), 16, tmp_path) is not None
