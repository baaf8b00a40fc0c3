"""What is offered and refused stays: valid and every bit of the payload, on all ports that somebody can refuse."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyosys", reason="proofs: pip install 'accel-codesign[synth]'")

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from accel.units.pv import PvArray
from accel.units.qk import QkUnit
from accel.units.softmax import SoftmaxUnit
from accel.units.topk import TopKUnit
from rtl.crossbar import Crossbar
from rtl.program_reader import ProgramReader
from rtl.pv import PV
from rtl.qk import QkArray
from rtl.qk_rows import QkRows
from rtl.registers import Registers
from rtl.softmax.exponent import Exponent
from rtl.softmax.normalise import Normalise
from rtl.softmax.reciprocal import Reciprocal
from rtl.topk.quickselect import TopK
from rtl.writer import Writer
from tests.formal.proof import always, assert_proved, broken, counterexample, promise

ARCH = load_arch("tiny", {"qk.multipliers": 16, "pv.multipliers": 16})
UNIT = EngineUnit.of(ARCH)
#: Of an AXI channel, by its prefix: what goes with valid. Masters offer the first three, slaves the others.
AXI_CHANNELS = {"ar": ("id", "addr", "len", "size", "burst"), "aw": ("id", "addr", "len", "size", "burst"),
                "w": ("data", "strb", "last"), "b": ("resp",), "r": ("data", "resp")}  # fmt: skip
MASTER = ("ar", "aw", "w")


def offers(component: Any) -> Iterator[tuple[Value, Value, Value]]:
    """Valid, ready and payload of all in which a component can be refused.

    Without ``magnitude``, a sum of registers that stay, over which a proof would have to redo the sum.
    """
    for name, member in component.signature.members.items():
        if not member.is_signature:
            continue
        port = getattr(component, name)
        for each in port if member.dimensions else [port]:
            if isinstance(member.signature, stream.Signature):
                if member.flow is Out and not member.signature.always_ready:
                    shape = each.payload.shape()
                    members = [f for f in shape.members if f != "magnitude"] if hasattr(shape, "members") else []
                    parts = [Value.cast(each.payload[field]) for field in members]
                    yield each.valid, each.ready, Cat(*parts) if parts else Value.cast(each.payload)
                continue
            for channel, fields in AXI_CHANNELS.items():
                if hasattr(each, f"{channel}valid") and (channel in MASTER) == (member.flow is Out):
                    payload = Cat(getattr(each, channel + field) for field in fields if hasattr(each, channel + field))
                    yield getattr(each, f"{channel}valid"), getattr(each, f"{channel}ready"), payload


class Refused(wiring.Component):
    """A component with everything free that goes into it."""

    def __init__(self, component: wiring.Component):
        self.component = component
        self.inputs: dict[str, Value] = {}
        for path, member, value in component.signature.flatten(component):
            if member.flow is In and not isinstance(value, Const):
                self.inputs["__".join(map(str, path))] = Value.cast(value)
        super().__init__({name: In(len(value)) for name, value in self.inputs.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.component
        m.d.comb += [value.eq(getattr(self, name)) for name, value in self.inputs.items()]
        watched = list(offers(dut))
        assert watched
        for i, (valid, ready, payload) in enumerate(watched):
            refused, offered = Signal(name=f"refused_{i}"), Signal(len(payload), name=f"offered_{i}")
            m.d.sync += [refused.eq(valid & ~ready), offered.eq(payload)]
            with m.If(refused):
                always(m, valid & (payload == offered))
        return m


COMPONENTS: dict[str, Callable[[], wiring.Component]] = {
    "QK array": lambda: QkArray(QkUnit.of(ARCH)),
    "exponents": lambda: Exponent(SoftmaxUnit.of(ARCH)),
    "reciprocal": lambda: Reciprocal(SoftmaxUnit.of(ARCH)),
    "normaliser": lambda: Normalise(SoftmaxUnit.of(ARCH)),
    "top-k": lambda: TopK(TopKUnit(2, 3, 8)),
    "PV array": lambda: PV(PvArray.of(ARCH)),
    "QK rows": lambda: QkRows(UNIT),
    "crossbar, AR": lambda: Crossbar(UNIT),
    "registers, B and R": lambda: Registers(UNIT),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_offers_stay(name: str, tmp_path: Path) -> None:
    assert_proved(Refused(COMPONENTS[name]()), tmp_path, free_products=True)


class Written(Refused):
    """The writer; besides, no access gives its address or its data twice: they are never more than one apart."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        write = self.component.write
        address_ahead, data_ahead = Signal(), Signal()
        address, word = write.awvalid & write.awready, write.wvalid & write.wready
        m.d.sync += [
            address_ahead.eq((address_ahead | address) & ~(word | data_ahead)),
            data_ahead.eq((data_ahead | word) & ~(address | address_ahead)),
        ]
        always(m, ~(address & address_ahead) & ~(word & data_ahead))
        return m


def test_writer(tmp_path: Path) -> None:
    assert_proved(Written(Writer(UNIT)), tmp_path, free_products=True)


class Read(Refused):
    """The program reader, started and finished as its contract says, on a bus that answers what was asked."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        dut = self.component
        running, beats = Signal(), Signal(5)  # beats of what was asked: at most of a header and RAW_JOBS jobs
        bus = dut.bus
        asked = Mux(bus.arvalid & bus.arready, bus.arlen + 1, 0)
        m.d.sync += beats.eq(beats + asked - bus.rvalid)
        with m.If(dut.start | dut.finish):
            m.d.sync += running.eq(dut.start)
        promise(m, ~bus.rvalid | (beats != 0))
        promise(m, ~dut.start | ~running)
        promise(m, ~dut.finish | (running & dut.quiet & (dut.held == 0)))
        promise(m, ~dut.pop | (dut.held != 0))
        return m


def test_program_reader(tmp_path: Path) -> None:
    assert_proved(Read(ProgramReader(UNIT)), tmp_path)


BROKEN = {
    "weights go on": lambda: Refused(
        broken("rtl.softmax.normalise", "~out.valid | out.ready", "1").Normalise(SoftmaxUnit.of(ARCH))
    ),
    "stop withdraws an AR": lambda: Read(
        broken("rtl.program_reader", "(offered | second_half", "(second_half").ProgramReader(UNIT)
    ),
    "writer offers W again": lambda: Written(
        broken("rtl.writer", "offered & ~taken & (data_taken | write.wready)", "data_taken").Writer(UNIT)
    ),
    "top-k goes on": lambda: Refused(
        broken("rtl.topk.row_filter", "~out.valid | out.ready", "1").RowFilter(TopKUnit(2, 3, 8))
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_offers_are_found(name: str, tmp_path: Path) -> None:
    assert counterexample(BROKEN[name](), 12, tmp_path) is not None
