"""Writer on its own: widths of items and accesses, address and data taken apart, answers."""

import gc
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.errors import UserError
from accel.units.engine import OUTPUT_ROWS, EngineUnit
from accel.units.pv import WRITER_CYCLES
from rtl.writer import Writer

GEOMETRIES = {
    "item of 8 bytes, access of 32": {},
    "item of 2 bytes, access of 64": {"pv.output_lanes": 1, "memory.unit": "ddr4"},
    "item as wide as an access": {"pv.output_lanes": 16},
    "item of two accesses, row of one item": {"pv.output_lanes": 32},
    "item of two accesses, row of two items": {"pv.output_lanes": 32, "max_head_dim": 64, "sram.k_bytes": 6144,
                                               "sram.v_bytes": 6144},
    "item of eight accesses, wider than a row": {"pv.output_lanes": 128},
}  # fmt: skip


@dataclass
class Writes:
    offered: list[int]
    taken: list[int]
    addresses: list[int]
    image: dict[int, int]


async def send_rows(ctx, writer: Writer, outputs: np.ndarray, aw, w) -> tuple[list[int], Writes]:  # type: ignore[no-untyped-def]
    """Rows of outputs, an item per cycle as the output buffer has room; ``aw`` and ``w`` say when the port is ready.
    Returns the cycles of the rows' last items, and what was written.
    """
    lanes, write = writer.unit.arch.pv.output_lanes, writer.write
    items = [(r, at) for r, row in enumerate(outputs) for at in range(0, len(row), lanes)]
    ends: list[int] = []
    writes = Writes([], [], [], {})
    taken: dict[str, bool] = {}
    written = t = 0
    while written < len(outputs):
        assert t < 2000
        send = bool(items) and items[0][0] < written + OUTPUT_ROWS
        if send:
            r, at = items.pop(0)
            last = at + lanes >= outputs.shape[1]
            numbers = np.zeros(lanes, np.int64)
            part = outputs[r, at : at + lanes]
            numbers[: len(part)] = part
            vector = sum((int(n) & 0xFFFF) << 16 * i for i, n in enumerate(numbers))
            ctx.set(writer.outputs.payload.numbers.as_value(), vector)
            ctx.set(writer.outputs.payload.last, last)
            if last:
                ends.append(t)
        ctx.set(writer.outputs.valid, send)
        ctx.set(write.awready, aw(t))
        ctx.set(write.wready, w(t))
        if len(writes.offered) == len(writes.taken) and ctx.get(write.awvalid) and ctx.get(write.wvalid):
            writes.offered.append(t)
        if ctx.get(write.awvalid) and aw(t):
            taken["aw"] = True
            address = ctx.get(write.awaddr)
            assert address % len(write.wstrb) == 0
            writes.addresses.append(address)
        if ctx.get(write.wvalid) and w(t):
            taken["w"] = True
            data, strobes = ctx.get(write.wdata), ctx.get(write.wstrb)
        if len(taken) == 2:
            for byte in range(len(write.wstrb)):
                if strobes >> byte & 1:
                    writes.image[writes.addresses[-1] + byte] = data >> 8 * byte & 0xFF
            taken = {}
            writes.taken.append(t)
        written += ctx.get(writer.row_written)
        await ctx.tick()
        t += 1
    return ends, writes


def run(writer: Writer, testbench) -> None:  # type: ignore[no-untyped-def]
    simulator = Simulator(writer)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


async def dispatch(ctx, writer: Writer, head_dim: int, rows: int, **fields: int) -> None:  # type: ignore[no-untyped-def]
    ctx.set(writer.format, {"head_dim": head_dim})
    ctx.set(writer.dispatch.payload, {"rows": rows, "group": 1, "last_tile": 1, **fields})
    ctx.set(writer.dispatch.valid, 1)
    await ctx.tick()
    ctx.set(writer.dispatch.valid, 0)


@pytest.mark.parametrize("head_dim", [5, 16, 31, 32])
@pytest.mark.parametrize("changes", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_bytes_in_memory(changes: dict, head_dim: int) -> None:
    """Only the row's bytes, each row at its stride; rows chase each other through all slots."""
    unit = EngineUnit.of(load_arch("tiny", changes))
    head_dim += (head_dim > 16) * (unit.arch.max_head_dim - 32)
    writer, rows, stride = Writer(unit), OUTPUT_ROWS + 3, 192
    outputs = np.random.default_rng(head_dim).integers(-(1 << 15), 1 << 15, (rows, head_dim))

    async def testbench(ctx) -> None:  # type: ignore[no-untyped-def]
        await dispatch(ctx, writer, head_dim, rows, output_address=0x123456780040, output_stride=stride)
        ends, writes = await send_rows(ctx, writer, outputs, lambda t: True, lambda t: True)
        expected = {
            0x123456780040 + r * stride + i: byte
            for r, row in enumerate(outputs)
            for i, byte in enumerate(row.astype("<i2").tobytes())
        }
        assert writes.image == expected
        accesses = -(-2 * head_dim // unit.arch.memory_spec.access_bytes)
        free = 0
        for r, end in enumerate(ends):
            start = max(free, end + 1 + WRITER_CYCLES)
            free = start + accesses
            assert writes.taken[r * accesses : (r + 1) * accesses] == list(range(start, free))

    run(writer, testbench)


@pytest.mark.parametrize(("aw_late", "w_late"), [(0, 3), (3, 0), (2, 5)])
def test_address_and_data_taken_apart(aw_late: int, w_late: int) -> None:
    """Each is taken once; the next access is offered in the cycle after the later of the two."""
    writer, outputs = Writer(EngineUnit.of(load_arch("tiny"))), np.arange(64).reshape(2, 32)
    period = 7

    async def testbench(ctx) -> None:  # type: ignore[no-untyped-def]
        await dispatch(ctx, writer, 32, 2, output_stride=64)
        _, writes = await send_rows(
            ctx, writer, outputs, lambda t: t % period == aw_late, lambda t: t % period == w_late
        )
        assert writes.addresses == [0, 32, 64, 96]
        assert bytes(writes.image[i] for i in range(128)) == outputs.astype("<i2").tobytes()
        assert writes.offered[1:] == [t + 1 for t in writes.taken[:-1]]

    run(writer, testbench)


def test_dropped_rows_take_a_cycle_each() -> None:
    """Sums that stay on chip: no write, no magnitude; row and job end all the same."""
    writer = Writer(EngineUnit.of(load_arch("tiny")))

    async def testbench(ctx) -> None:  # type: ignore[no-untyped-def]
        await dispatch(ctx, writer, 4, 2, last_tile=0)
        written, retired, idle = [], [], []
        for t in range(8):
            ctx.set(writer.outputs.valid, t < 2)
            ctx.set(writer.outputs.payload.last, 1)
            assert not ctx.get(writer.head_magnitude.valid)
            assert not ctx.get(writer.write.awvalid)
            assert not ctx.get(writer.write.wvalid)
            written.append(ctx.get(writer.row_written))
            retired.append(ctx.get(writer.retired))
            idle.append(ctx.get(writer.write_idle))
            await ctx.tick()
        first = 1 + WRITER_CYCLES
        assert [t for t in range(8) if written[t]] == [first + 1, first + 2]
        assert [t for t in range(8) if retired[t]] == [first + 2]
        assert [t for t in range(8) if not idle[t]] == [1, 2, 3]

    run(writer, testbench)


def test_heads_of_a_group() -> None:
    """Rows of a query belong to the heads of the group in turn; the next job begins at its own head."""
    writer = Writer(EngineUnit.of(load_arch("tiny")))

    async def testbench(ctx) -> None:  # type: ignore[no-untyped-def]
        ctx.set(writer.write.awready, 1)
        ctx.set(writer.write.wready, 1)
        await dispatch(ctx, writer, 4, 6, head=5, group=3)
        await dispatch(ctx, writer, 4, 2, head=2, group=4)
        seen = []
        for magnitude in range(8):
            ctx.set(writer.outputs.valid, 1)
            ctx.set(writer.outputs.payload.last, 1)
            ctx.set(writer.outputs.payload.magnitude, magnitude)
            assert ctx.get(writer.head_magnitude.valid)
            seen.append((ctx.get(writer.head_magnitude.payload.head), ctx.get(writer.head_magnitude.payload.magnitude)))
            await ctx.tick()
        assert seen == list(zip([15, 16, 17, 15, 16, 17, 8, 9], range(8), strict=True))

    run(writer, testbench)


@pytest.mark.parametrize("response", range(4))
def test_answers(response: int) -> None:
    """Idle only when all is answered; SLVERR and DECERR stick."""
    writer = Writer(EngineUnit.of(load_arch("tiny")))

    async def testbench(ctx) -> None:  # type: ignore[no-untyped-def]
        assert ctx.get(writer.write_idle)
        await dispatch(ctx, writer, 32, 2)
        await send_rows(ctx, writer, np.ones((2, 32), np.int64), lambda t: True, lambda t: True)
        ctx.set(writer.outputs.valid, 0)
        for answer in range(4):
            assert not ctx.get(writer.write_idle)
            assert ctx.get(writer.write_error) == (answer > 1 and response >= 2)
            ctx.set(writer.write.bvalid, 1)
            ctx.set(writer.write.bresp, response if answer == 1 else 0)
            assert ctx.get(writer.write.bready)
            await ctx.tick()
        ctx.set(writer.write.bvalid, 0)
        assert ctx.get(writer.write_idle)
        assert ctx.get(writer.write_error) == (response >= 2)

    run(writer, testbench)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_refuses_odd_output_lanes() -> None:
    with pytest.raises(UserError, match=r"pv.output_lanes = 12: must be a power of two") as caught:
        Writer(EngineUnit.of(load_arch("tiny", {"pv.output_lanes": 12})))
    del caught
    gc.collect()  # the writer that was never finished, within the filter
