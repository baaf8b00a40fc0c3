"""Sums between tiles: records as the writer leaves them, and as they come back to softmax and PV array."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.lower.partials import Partial, pack_partial, unpack_partial
from accel.units.engine import OUTPUT_ROWS, SETTLING_ROWS, EngineUnit
from accel.units.pv import PARTIAL_PLANES
from rtl.job import KIND_K, KIND_Q
from rtl.partial_sums import PartialSums
from rtl.writer import Writer
from tests.rtl.test_writer import GEOMETRIES

MACHINES = list(GEOMETRIES.values())


def partials(rng: np.random.Generator, rows: int, dim: int) -> list[Partial]:
    """Any sums, the extremes among them."""
    values = rng.integers(-(1 << 39), 1 << 39, (rows, dim))
    values[0, :2] = [-(1 << 39), (1 << 39) - 1]
    return [Partial(int(rng.integers(-1024, 1024)), int(rng.integers(1 << 40)), row) for row in values]


def run(dut: Any, testbench: Any) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize(("changes", "slots", "dim"), [*((one, 8, 24) for one in MACHINES), ({}, 2, 8), ({}, 2, 32)])
def test_sums_of_records(changes: dict, slots: int, dim: int) -> None:
    """Accesses of all lanes in any order; then rows in order, items as fast as they can be taken, and once slowly."""
    unit = EngineUnit.of(load_arch("tiny", changes | {"fetcher.query_slots": slots}))
    dut, atom = PartialSums(unit), unit.arch.memory_spec.access_bytes
    rng, lanes = np.random.default_rng(dim), unit.arch.pv.output_lanes
    rows = partials(rng, slots, dim)
    items = -(-dim // lanes)
    rises = rng.integers(0, 64, slots).tolist()
    accesses: list[list[tuple[int, int, bytes]]] = [[] for _ in range(unit.query_lanes)]
    for slot, row in enumerate(rows):
        record = pack_partial(row, atom)
        parts = [(slot, n, record[n * atom : (n + 1) * atom]) for n in range(len(record) // atom)]
        accesses[slot % unit.query_lanes] += parts
    for lane in accesses:
        rng.shuffle(lane)  # type: ignore[arg-type]

    async def testbench(ctx: Any) -> None:
        ctx.set(dut.format, {"head_dim": dim, "output_atoms": -(-2 * dim // atom)})
        while any(accesses):
            for port, lane in zip(dut.arrived, accesses, strict=True):
                ctx.set(port.valid, rng.random() < 0.8)
                kind, side = KIND_Q, int(bool(lane) and rng.random() < 0.7)
                if not side:
                    kind = [KIND_Q, KIND_K][rng.integers(2)]
                slot, atom_number, data = lane[-1] if lane else (0, 0, b"")
                tag = {
                    "kind": kind,
                    "side": side if kind == KIND_Q else 1,
                    "index": int(slot),
                    "atom": int(atom_number),
                }
                ctx.set(port.payload, {"tag": tag, "data": int.from_bytes(data, "little") if side else 0})
                if ctx.get(port.valid) and side:
                    lane.pop()
            await ctx.tick()
        for port in dut.arrived:
            ctx.set(port.valid, 0)
        for slot, row in enumerate(rows):
            ctx.set(dut.start_slot, slot)
            assert (ctx.get(dut.start.maximum), ctx.get(dut.start.total)) == (row.maximum, row.total)

        for slow in (False, True):
            given = {}  # cycle of each row's carry: as soon as the array could ask for it
            expected = [(s, i) for s in range(slots) for i in range(items)]
            t = sent = 0
            while expected:
                assert t < 50 * len(rows) * items
                # A row is asked for when the one before has begun to leave.
                asks = sent < slots and (sent == 0 or expected[0][0] >= sent - 1)
                ctx.set(dut.carry.valid, asks)
                if asks:
                    ctx.set(dut.carry.payload, {"slot": sent, "rise": rises[sent]})
                    given[sent] = t
                    sent += 1
                slot, item = expected[0]
                due = slot in given and t >= given[slot] + 3
                ready = due and (not slow or rng.random() < 0.3)
                ctx.set(dut.carried.ready, ready)
                assert ctx.get(dut.carried.valid) or not due, (slot, item, t)
                if ready:
                    wanted = (rows[slot].values >> rises[slot])[item * lanes : (item + 1) * lanes].tolist()
                    assert [ctx.get(number) for number in list(dut.carried.payload)[: len(wanted)]] == wanted
                    expected.pop(0)
                await ctx.tick()
                t += 1
            ctx.set(dut.carried.ready, 0)

    run(dut, testbench)


@pytest.mark.parametrize(("changes", "dim"), [*((one, 24) for one in MACHINES), ({}, 8), ({}, 32)])
def test_records_of_the_writer(changes: dict, dim: int) -> None:
    """Rows that leave their sums: records at partial_address, an access per cycle, all bytes of dimensions written. A
    row is settled in the cycle of its last answer, and with too many that are not, the writer waits.
    """
    unit = EngineUnit.of(load_arch("tiny", changes))
    writer, atom, lanes = Writer(unit), unit.arch.memory_spec.access_bytes, unit.arch.pv.output_lanes
    rng, count = np.random.default_rng(dim), SETTLING_ROWS + 4
    rows, base = partials(rng, count, dim), 0x7650 * atom
    per_row = PARTIAL_PLANES * -(-2 * dim // atom)
    image = bytearray(count * per_row * atom)

    async def testbench(ctx: Any) -> None:
        ctx.set(writer.format, {"head_dim": dim, "output_atoms": per_row // PARTIAL_PLANES})
        ctx.set(
            writer.dispatch.payload,
            {"rows": count, "group": 1, "sums_out": 1, "partial_address": base, "output_stride": atom},
        )
        ctx.set(writer.dispatch.valid, 1)
        await ctx.tick()
        ctx.set(writer.dispatch.valid, 0)
        ctx.set(writer.write.awready, 1)
        ctx.set(writer.write.wready, 1)
        items = [(r, at) for r in range(count) for at in range(0, dim, lanes)]
        taken: list[int] = []
        written = settled = answers = heads = 0
        for t in range(4000):
            r, at = items[0] if items else (count, 0)
            send = r < heads and r < written + OUTPUT_ROWS
            tells = heads < min(count, written + OUTPUT_ROWS)
            ctx.set(writer.weights.valid, tells)
            if tells:
                ctx.set(writer.weights.payload.maximum, rows[heads].maximum)
                ctx.set(writer.weights.payload.total, rows[heads].total)
                heads += 1
            ctx.set(writer.outputs.valid, send)
            if send:
                part = rows[r].values[at : at + lanes].tolist()
                numbers = sum((n & 0xFFFF) << 16 * i for i, n in enumerate(part))
                upper = sum((n >> 16 & 0xFFFFFF) << 24 * i for i, n in enumerate(part))
                ctx.set(writer.outputs.payload.numbers.as_value(), numbers)
                ctx.set(writer.outputs.payload.upper.as_value(), upper)
                ctx.set(writer.outputs.payload.last, at + lanes >= dim)
                items.pop(0)
            if ctx.get(writer.write.awvalid):
                n = len(taken)
                assert ctx.get(writer.write.awaddr) == base + n * atom
                data = ctx.get(writer.write.wdata).to_bytes(atom, "little")
                strobes = ctx.get(writer.write.wstrb)
                dims = min(atom // 2, dim - n % (per_row // PARTIAL_PLANES) * (atom // 2))
                assert strobes == (1 << 2 * dims) - 1
                image[n * atom : (n + 1) * atom] = bytes(b if strobes >> i & 1 else 0 for i, b in enumerate(data))
                taken.append(t)
            full = len(taken) >= per_row * (SETTLING_ROWS - 1)
            answer = (full or len(taken) == per_row * count) and answers < len(taken) and rng.random() < 0.5
            ctx.set(writer.write.bvalid, answer)
            answers += answer
            settles = bool(answer) and answers % per_row == 0
            assert ctx.get(writer.row_settled) == settles, t
            settled += settles
            assert len(taken) <= (settled + SETTLING_ROWS) * per_row
            written += ctx.get(writer.row_written)
            await ctx.tick()
            if settled == count:
                break
        assert settled == count
        size = per_row * atom
        for r, row in enumerate(rows):
            record = bytes(image[r * size : (r + 1) * size])
            assert record == pack_partial(row, atom)
            found = unpack_partial(record, dim)
            assert (found.maximum, found.total, found.values.tolist()) == (row.maximum, row.total, row.values.tolist())

    run(writer, testbench)
