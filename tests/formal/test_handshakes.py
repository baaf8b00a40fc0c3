"""What is offered and refused stays: valid and every bit of the payload, on all ports that somebody can refuse."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyosys", reason="proofs: pip install 'accel-codesign[synth]'")

from amaranth.hdl import Cat, Const, Module, Signal, Value
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
from rtl.pv import Pv
from rtl.qk import QkArray
from rtl.qk_rows import QkRows
from rtl.softmax.exponent import Exponent
from rtl.softmax.normalise import Normalise
from rtl.softmax.reciprocal import Reciprocal
from rtl.topk.quickselect import TopK
from rtl.writer import Writer
from tests.formal.proof import always, assert_proved, broken, counterexample

ARCH = load_arch("tiny", {"qk.multipliers": 16, "pv.multipliers": 16})
UNIT = EngineUnit.of(ARCH)
AXI_CHANNELS = {"ar": ("id", "addr", "len", "size", "burst"), "aw": ("id", "addr", "len", "size", "burst"),
                "w": ("data", "strb", "last")}  # fmt: skip


def offers(signature: wiring.Signature, interface: Any) -> Iterator[tuple[Value, Value, Value]]:
    """Valid, ready and payload of all that a component can be refused."""
    for name, member in signature.members.items():
        if not member.is_signature or member.flow is not Out:
            continue
        port = getattr(interface, name)
        for each in port if member.dimensions else [port]:
            if isinstance(member.signature, stream.Signature):
                if not member.signature.always_ready:
                    yield each.valid, each.ready, Value.cast(each.payload)
                continue
            for channel, fields in AXI_CHANNELS.items():
                if hasattr(each, f"{channel}valid"):
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
        watched = list(offers(dut.signature, dut))
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
    "PV array": lambda: Pv(PvArray.of(ARCH)),
    "QK rows": lambda: QkRows(UNIT),
    "program reader, AR": lambda: ProgramReader(UNIT),
    "writer, AW and W": lambda: Writer(UNIT),
    "crossbar, AR": lambda: Crossbar(UNIT),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_offers_stay(name: str, tmp_path: Path) -> None:
    assert_proved(Refused(COMPONENTS[name]()), tmp_path)
