"""Fetcher: against a model of the rules, every address in its cycle, with random jobs, FIFO levels and releases; what
counts as generated never leads; atoms of a pair's side and memory channels against their definitions.
"""

import random
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.memory import load_memory
from accel.units.engine import EngineUnit
from accel.units.fetcher import row_stride_bytes, side_mask
from rtl.fetch_layout import atoms_layout, side_atoms
from rtl.fetcher import Fetcher, channel_of
from rtl.job import address_layout, format_layout, sequence_bits
from rtl.lane_list import LaneList
from sim.dram_state import map_address, new_dram
from tests.rtl.fetcher_model import LSB, K, Model, Q, V
from tests.rtl.fetcher_traffic import Traffic


class Bench(wiring.Component):
    """The fetcher with its two lists, and the arrays of ports as one signal each."""

    def __init__(self, unit: EngineUnit):
        super().__init__({})
        arch = unit.arch
        self.unit, self.fetcher = unit, Fetcher(unit)
        self.keep = LaneList(2 * arch.max_context, 16, arch.fetcher.lanes, arch.topk.lanes)
        self.kept = LaneList(arch.softmax.buffer_keys, 16, arch.fetcher.lanes, arch.topk.lanes)
        self.levels = Signal(sum(len(level) for level in self.fetcher.level))
        pushes = [Cat(push.valid, push.payload) for push in self.fetcher.push]
        self.push_bits, self.pushes = len(pushes[0]), Signal(len(Cat(*pushes)))
        self.limits = Signal(4 * sequence_bits(unit))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fetcher, m.submodules.keep, m.submodules.kept = self.fetcher, self.keep, self.kept
        f = self.fetcher
        m.d.comb += [
            Cat(*f.level).eq(self.levels),
            self.pushes.eq(Cat(Cat(push.valid, push.payload) for push in f.push)),
            self.limits.eq(Cat(f.query_limit, f.k_limit, f.lsb_limit, f.v_limit)),
        ]
        for port, cells, context in (
            (f.list_read, self.keep, self.unit.arch.max_context),
            (f.kept_read, self.kept, None),
        ):
            m.d.comb += [cells.read_enable.eq(port.enable), cells.read_rotate.eq(port.rotate)]
            for lane, index in enumerate(port.index):
                m.d.comb += [
                    cells.read_index[lane].eq(index + context * port.version if context else index),
                    port.data[lane].eq(cells.data[lane]),
                ]
        return m


def drive(unit: EngineUnit, seed: str, cycles: int, max_keys: int, jobs_per_format: int = 12) -> Model:
    """Runs bench and model side by side and compares every cycle."""
    pick = random.Random(seed)
    arch, bench = unit.arch, Bench(unit)
    f, dram = bench.fetcher, new_dram(unit.arch.memory_spec)
    tokens = [[pick.randrange(1 << 16) for _ in range(arch.max_context)] for _ in range(2)]
    model = Model(unit, tokens, [pick.randrange(1 << 16) for _ in range(arch.softmax.buffer_keys)])
    traffic = Traffic(model, pick, max_keys, jobs_per_format)
    layout, level_bits = address_layout(unit), len(f.level[0])

    async def testbench(ctx):  # type: ignore[no-untyped-def]
        lanes_word = arch.topk.lanes
        for cells, items in ((bench.keep, tokens[0] + tokens[1]), (bench.kept, model.ring)):
            ctx.set(cells.write_enable, 1)
            ctx.set(cells.write_mask, (1 << lanes_word) - 1)
            for word in range(len(items) // lanes_word):
                ctx.set(cells.write_word, word)
                for i in range(lanes_word):
                    ctx.set(cells.write_items[i], items[word * lanes_word + i])
                await ctx.tick()
            ctx.set(cells.write_enable, 0)
        at_least = dict.fromkeys(range(4), 0)
        late_format = None
        for cycle in range(cycles):
            if late_format is not None:
                ctx.set(f.format, late_format)
                late_format = None
            model.count_complete()
            traffic.begin_cycle()
            levels = traffic.levels()
            pushes, active, busy = model.step(levels)
            job, changed = traffic.dispatch()
            request = traffic.lsb_request(changed is None and 0 < traffic.sent < jobs_per_format)
            v_row = traffic.v_row()
            k_release, v_release = traffic.release(model.k_used), traffic.release(model.v_used)
            q_release = bool(model.q_used) and pick.random() < 0.15

            ctx.set(bench.levels, sum(level << level_bits * lane for lane, level in enumerate(levels)))
            ctx.set(f.format_change, changed is not None)
            if changed is not None:  # from the next cycle on at the latest
                late_format = changed.fields()
                if pick.random() < 0.5:
                    ctx.set(f.format, late_format)
            for port, payload in ((f.dispatch, job), (f.lsb_request, request), (f.v_row, v_row)):
                ctx.set(port.valid, payload is not None)
                if payload is not None:
                    members = {name for name, _ in port.payload.shape()}
                    ctx.set(port.payload, {name: int(v) for name, v in payload.items() if name in members})
            for port, count in ((f.k_release, k_release), (f.v_release, v_release)):
                ctx.set(port.valid, count > 0)
                ctx.set(port.payload.count, count or pick.randrange(4))
            ctx.set(f.query_release, q_release)

            seen = ctx.get(bench.pushes)
            for lane, expected in enumerate(pushes):
                bits = seen >> bench.push_bits * lane & (1 << bench.push_bits) - 1
                push = None
                if bits & 1:
                    access = layout.from_bits(bits >> 1)
                    tag = access.tag
                    push = (tag.kind, access.address, tag.index, tag.row, tag.atom, tag.side)
                    channel = map_address(dram, access.address)[0]
                    assert access.channel == channel, (cycle, lane)
                assert push == expected, (cycle, lane, model.chosen[-3:])
            assert (ctx.get(f.active), ctx.get(f.busy)) == (active, busy), cycle
            limits, bits = ctx.get(bench.limits), sequence_bits(unit)
            for kind in (Q, K, LSB, V):
                limit = limits >> bits * kind & (1 << bits) - 1
                lead = (model.complete[kind] - limit) % (1 << bits)
                assert lead <= model.complete[kind] - at_least[kind], (cycle, kind, limit, model.complete[kind])
                # One entry per cycle, and all as soon as a fetch has ended.
                at_least[kind] += at_least[kind] < model.complete[kind]
                if not model.active:
                    at_least[kind] = len(model.left[kind])

            if changed is not None:
                model.k_line = model.v_line = 0
            if job is not None:
                model.dispatch(job)
            if request is not None:
                model.requests.append(request)
            if v_row is not None:
                model.v_rows.append(v_row)
            model.k_used -= k_release
            model.v_used -= v_release
            model.q_used -= q_release
            await ctx.tick()

    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return model


MACHINES: dict[str, tuple[dict[str, Any], int, int]] = {
    "tiny": ({}, 4000, 24),
    "more slots than lanes, deep FIFOs, channels": (
        {"fetcher.query_slots": 8, "fetcher.address_fifo_depth": 16, "memory.channels": 4}, 1500, 24,
    ),
    "wide accesses, odd rings, a key per line": (
        {"memory.unit": "ddr4", "sram.k_bytes": 2304, "sram.v_bytes": 576, "softmax.buffer_keys": 36,
         "softmax.lanes": 1, "memory.channels": 2}, 1500, 40,
    ),
    "eight lanes, a line each": (
        {"fetcher.lanes": 8, "softmax.lanes": 8, "topk.lanes": 8, "qk.multipliers": 64, "pv.multipliers": 32,
         "fetcher.query_slots": 4}, 1500, 64,
    ),
    "one lane": ({"fetcher.lanes": 1, "softmax.lanes": 1, "fetcher.query_slots": 1}, 1500, 12),
}  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_every_address_in_its_cycle(machine: str) -> None:
    changes, cycles, max_keys = MACHINES[machine]
    model = drive(EngineUnit.of(load_arch("tiny", changes)), machine, cycles, max_keys)
    assert set(model.chosen) == set("QKLVv")
    assert len(model.formats) > 2


def evaluate(build: Any, inputs: dict[str, Signal], output: Value, cases: list[dict[str, Any]]) -> list[int]:
    """Values of combinational logic."""
    results = []

    async def testbench(ctx):  # type: ignore[no-untyped-def]
        for case in cases:
            for name, value in case.items():
                ctx.set(inputs[name], value)
            results.append(ctx.get(output))

    simulator = Simulator(build)
    simulator.add_testbench(testbench)
    simulator.run()
    return results


@pytest.mark.parametrize("atom_bytes", [16, 32, 64, 128])
def test_atoms_of_a_side(atom_bytes: int) -> None:
    m = Module()
    row_format, side, atoms = Signal(format_layout()), Signal(), Signal(atoms_layout())
    side_atoms(m, atoms, row_format, side, atom_bytes // 16)
    cases, masks = [], []
    for head_dim in range(8, 257, 8):
        for bits in (4, 6, 8, 10, 12):
            for which in range(2):
                fields = {"plane_units": -(-head_dim // 32), "key_planes": bits // 4, "key_crumbs": bits % 4 // 2}
                cases.append({"format": fields, "side": which})
                masks.append(side_mask(head_dim, bits, atom_bytes, which))
                assert row_stride_bytes(head_dim, bits, atom_bytes, 2) // atom_bytes < 64
    for mask, bits in zip(
        masks, evaluate(m, {"format": row_format, "side": side}, atoms.as_value(), cases), strict=True
    ):
        run = atoms_layout().from_bits(bits)
        atom, made = run.first, [run.first]
        while atom != run.last and len(made) < 64:
            atom = run.resume if atom == run.pause else atom + 1
            made.append(atom)
        assert made == [atom for atom in range(64) if mask >> atom & 1]


@pytest.mark.parametrize("channels", [1, 2, 16])
@pytest.mark.parametrize("memory", ["hbm2", "ddr4", "lpddr5"])
def test_channel(memory: str, channels: int) -> None:
    spec = load_memory(memory).with_channels(channels)
    pick, dram = random.Random(f"{memory} {channels}"), new_dram(spec)
    m = Module()
    address, channel = Signal(48), Signal(8)
    m.d.comb += channel.eq(channel_of(address, spec))
    cases = [pick.randrange(1 << pick.randint(1, 48)) for _ in range(300)]
    found = evaluate(m, {"address": address}, channel, [{"address": case} for case in cases])
    assert found == [map_address(dram, case)[0] for case in cases]
    assert len(set(found)) == channels


def test_becomes_verilog() -> None:
    component = Fetcher(EngineUnit.of(load_arch("tiny")))
    # Amaranth 0.5.10 cannot make ports of the constant ready of helper streams.
    values = {"__".join(map(str, path)): Value.cast(value) for path, _, value in component.signature.flatten(component)}
    ports = {name: (value, None) for name, value in values.items() if not isinstance(value, Const)}
    assert "push__0__payload" in verilog.convert(component, name="fetcher", ports=ports)
