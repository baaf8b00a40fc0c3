"""Line memories: every key that was written through its lane is read in its place of its line, and only then."""

import random
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Const, Value
from amaranth.lib import data
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from rtl.job import KIND_K, KIND_LSB, KIND_Q, KIND_V
from rtl.line_bank import cells_of, words_of
from rtl.line_memory import LineMemory

UNITS = {
    "tiny": EngineUnit.of(load_arch("tiny")),
    # Four keys of 8 per line and one of 32 whole: all numbers of keys per line from 1 to 4, no parts; 6 entries.
    "wide": EngineUnit.of(
        load_arch(
            "tiny", {"qk.multipliers": 32, "pv.multipliers": 32, "softmax.lanes": 4, "sram.k_bytes": 576 * 2,
                     "sram.v_bytes": 576 * 2}
        )
    ),
}  # fmt: skip


def run(memory: LineMemory, bench: Callable[[Any], Any]) -> None:
    simulator = Simulator(memory)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def signed(word: int) -> int:
    return word - 4096 if word >= 2048 else word


def write(unit: EngineUnit, kind: int, index: int, words: dict[int, int], mask: int, side: int = 0) -> dict[str, Any]:
    """One access: some words of the entry, the mask bits ``mask`` of the blocks in which they lie."""
    blocks = unit.entry_words // unit.block_words
    masks = [0] * blocks
    for at in words:
        masks[at // unit.block_words] = mask
    return {
        "tag": {"kind": kind, "index": index, "row": 0, "atom": 0, "side": side},
        "words": [words.get(i, 0xAAA) for i in range(unit.entry_words)],
        "mask": masks,
    }


def cases() -> list[Any]:
    return [
        pytest.param(name, which, dim, fused, id=f"{name}-{which}-{dim}{'-fused' * fused}")
        for name in UNITS
        for which in ("k", "v")
        for dim in (8, 16, 32)
        for fused in ((False, True) if which == "k" and dim < 32 else (False,))
    ]


@pytest.mark.parametrize(("name", "which", "dim", "fused"), cases())
def test_keys_come_out_in_their_places(name: str, which: Any, dim: int, fused: bool) -> None:
    """Words in the accesses of two plane groups (mask bits 2 to 5, then 0 and 1), lanes independent of each other, two
    rounds over the same lines; then every line is read.
    """
    unit = UNITS[name]
    rng = random.Random(f"{name}{which}{dim}{fused}")
    arch, is_k = unit.arch, which == "k"
    per_line = arch.keys_per_line(dim) if is_k else arch.values_per_line(dim)
    multipliers = arch.qk.multipliers if is_k else arch.pv.multipliers
    ring = unit.k_ring_lines(dim, fused) if is_k else unit.v_ring_lines(dim)
    group = arch.fetcher.lanes // per_line
    columns = per_line if not is_k else 1
    memory = LineMemory(unit, which)
    # Some lines of both halves of the ring and at their border; the same again with other words.
    chosen = sorted({0, 1, ring // 2 - 1, ring // 2, ring - 1, *rng.sample(range(ring), min(ring, 12))})
    sides = 2 if fused else 1
    truth: dict[tuple[int, int], list[list[int]]] = {}
    accesses: list[list[dict[str, Any]]] = [[] for _ in range(arch.fetcher.lanes)]
    for line in [*rng.sample(chosen, len(chosen)), *rng.sample(chosen, len(chosen))]:
        for side in range(sides):
            keys = [[rng.randrange(4096) for _ in range(dim)] for _ in range(per_line)]
            truth[line, side] = keys
            for p, key in enumerate(keys):
                lane = line % group * per_line + p
                at = side * unit.entry_words // 2
                upper = {at + i: word & 0xFF0 for i, word in enumerate(key)}
                lower = {at + i: word & 0x00F for i, word in enumerate(key)}
                accesses[lane].append(write(unit, KIND_K if is_k else KIND_V, line, upper, 0b111100, side))
                accesses[lane].append(write(unit, KIND_LSB if is_k else KIND_V, line, lower, 0b000011, side))
    for lane_accesses in accesses:  # and what is meant for other memories
        noise = write(unit, KIND_Q, rng.randrange(ring), dict.fromkeys(range(unit.entry_words), 0), 0b111111)
        other = write(unit, KIND_V if is_k else KIND_K, chosen[0], dict.fromkeys(range(unit.entry_words), 0), 0b111111)
        lane_accesses.extend([noise, other])
    parts = max(1, dim // multipliers)

    async def bench(ctx: Any) -> None:
        format_fields = {"log2_dim": dim.bit_length() - 1, "fused": fused, "lsb_atoms": 1, "lsb_first_crumb": 4}
        format_fields |= {"k_wide" if is_k else "v_wide": unit.wide(dim, fused)}
        ctx.set(memory.format, format_fields)

        async def read(lines: list[int], side: int, part: int, mask_lsb: int) -> list[int]:
            ctx.set(memory.read_enable, 1)
            ctx.set(memory.read_part, part)
            if is_k:
                ctx.set(memory.read_line, lines[0])
                ctx.set(memory.read_side, side if unit.wide(dim, fused) else rng.randrange(2))
                ctx.set(memory.read_mask_lsb, mask_lsb)
            else:
                for c, line in enumerate(lines):
                    ctx.set(memory.read_line[c], line)
            await ctx.tick()
            ctx.set(memory.read_enable, 0)
            for c in range(0 if is_k else len(lines)):
                ctx.set(memory.read_line[c], rng.randrange(ring))
            if rng.random() < 0.3:  # it stays
                await ctx.tick()
            return [
                signed(word) if word >= 2048 else word for word in (ctx.get(memory.data[w]) for w in range(multipliers))
            ]

        pending = [list(lane) for lane in accesses]
        while any(pending):
            for lane, waiting in enumerate(pending):
                busy = bool(waiting) and rng.random() < 0.7
                ctx.set(memory.write[lane].valid, busy)
                if busy:
                    ctx.set(memory.write[lane].payload, waiting.pop(0))
            await ctx.tick()
        for lane in range(arch.fetcher.lanes):
            ctx.set(memory.write[lane].valid, 0)
        for (line, side), keys in truth.items():
            part, mask_lsb = rng.randrange(parts), rng.randrange(2) if is_k else 0
            # Of V each place reads a line of its own.
            lines = [line, *(rng.choice(chosen) for _ in range(columns - 1))]
            rng.shuffle(lines)
            got = await read(lines, side, part, mask_lsb)
            keep = 0xFF0 if mask_lsb else 0xFFF
            for p in range(per_line):
                key = keys[p] if is_k else truth[lines[p], 0][p]
                want = [signed(word & keep) for word in key[part * multipliers : (part + 1) * multipliers]]
                assert got[p * dim : p * dim + len(want)] == want, (line, side, part, p)
            assert not any(got[per_line * dim :])

    run(memory, bench)


def test_written_at_t_is_read_at_t_plus_1() -> None:
    unit = UNITS["tiny"]
    memory = LineMemory(unit, "k")

    async def bench(ctx: Any) -> None:
        ctx.set(memory.format, {"log2_dim": 4})
        for cycle in range(3):
            ctx.set(memory.write[2].valid, cycle == 0)
            ctx.set(memory.write[2].payload, write(unit, KIND_K, 6, {i: 100 + i for i in range(16)}, 0b111111))
            ctx.set(memory.read_enable, cycle == 1)
            ctx.set(memory.read_line, 6)
            await ctx.tick()
            if cycle >= 1:
                assert [ctx.get(memory.data[w]) for w in range(16)] == [100 + i for i in range(16)]

    run(memory, bench)


@pytest.mark.parametrize("first_crumb", [2, 3, 4, 5])
def test_the_lsb_plane_is_masked_only_where_there_is_one(first_crumb: int) -> None:
    unit = UNITS["tiny"]
    memory = LineMemory(unit, "k")

    async def bench(ctx: Any) -> None:
        ctx.set(memory.write[0].valid, 1)
        ctx.set(memory.write[0].payload, write(unit, KIND_K, 0, dict.fromkeys(range(16), 0xFFF), 0b111111))
        await ctx.tick()
        ctx.set(memory.write[0].valid, 0)
        ctx.set(memory.read_enable, 1)
        for atoms in (0, 1, 5):
            for mask in (0, 1):
                ctx.set(memory.read_mask_lsb, mask)
                ctx.set(memory.format, {"log2_dim": 4, "lsb_atoms": atoms, "lsb_first_crumb": first_crumb})
                await ctx.tick()
                kept = 2 * first_crumb if mask and atoms else 12
                assert ctx.get(memory.data[3]) == -(1 << (12 - kept))

    run(memory, bench)


def test_cells_are_grouped_by_mask_bit() -> None:
    """A mask bit covers one contiguous piece, and what goes in comes out."""
    unit = UNITS["tiny"]
    words = [(i * 977 + 13) % 4096 for i in range(unit.entry_words)]
    layout = data.ArrayLayout(12, unit.entry_words)
    packed = Const(sum(w << 12 * i for i, w in enumerate(words)), 12 * unit.entry_words)
    there = cells_of(unit, data.View(layout, packed))
    assert len(there) == 12 * unit.entry_words
    values: list[int] = []

    async def bench(ctx: Any) -> None:
        cells = ctx.get(there)
        values.append(cells)
        values.append(ctx.get(words_of(unit, Const(cells, len(there)))))

    run(LineMemory(unit, "k"), bench)
    assert values[1] == sum(w << 12 * i for i, w in enumerate(words))
    size = unit.block_words
    for k in range(unit.entry_words // size):
        for step in range(6):
            piece = values[0] >> (k * 6 + step) * size * 2 & (1 << 2 * size) - 1
            assert piece == sum((words[k * size + i] >> 2 * step & 3) << 2 * i for i in range(size))


@pytest.mark.parametrize("which", ["k", "v"])
def test_verilog(which: Any) -> None:
    memory = LineMemory(UNITS["tiny"], which)
    ports = [Value.cast(value) for _, _, value in memory.signature.flatten(memory)]
    text = verilog.convert(memory, ports=[port for port in ports if not isinstance(port, Const)])
    assert text.count("module ") >= 1 + UNITS["tiny"].arch.fetcher.lanes
