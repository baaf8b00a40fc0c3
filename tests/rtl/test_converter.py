"""Converter: a row's accesses in any order, written under their masks, give the golden words and touch nothing else."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import rtlil
from amaranth.hdl import Const, Value
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.lower.records import pack_lsb, pack_pair, pack_rows
from accel.numerics.quantise import PLANES, split_planes, words
from accel.units.engine import EngineUnit
from accel.units.fetcher import side_mask
from rtl.converter import Converter
from rtl.job import KIND_K, KIND_LSB, KIND_Q, KIND_V

STEPS = 6
WIDTHS = [(bits, 0) for bits in (4, 6, 8, 10, 12)] + list(PLANES)
Access = tuple[dict[str, int], bytes]  # tag, data


def unit_of(entry_words: int, memory: str) -> EngineUnit:
    return EngineUnit.of(load_arch("tiny", {"max_head_dim": entry_words, "memory.unit": memory}))


class Bench:
    """A converter, and the entry that it writes."""

    def __init__(self, unit: EngineUnit, seed: str):
        self.unit, self.dut = unit, Converter(unit)
        self.atom = unit.arch.memory_spec.access_bytes
        self.rng, self.np_rng = random.Random(seed), np.random.default_rng(len(seed) + unit.entry_words)
        self.entry = [0] * unit.entry_words

    def scramble(self) -> list[int]:
        self.entry = [self.rng.getrandbits(12) for _ in self.entry]
        return list(self.entry)

    def values(self, bits: int, dim: int) -> np.ndarray:
        values = self.np_rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (1, dim), dtype=np.int16)
        values[0, : min(2, dim)] = [-(1 << (bits - 1)), (1 << (bits - 1)) - 1][:dim]
        return values

    def accesses(self, record: np.ndarray, kind: int, side: int = 0, mask: int = -1) -> list[Access]:
        """Of a row's record, in random order; what pads the record to whole accesses is random."""
        content = record[0].tobytes()
        content += self.rng.randbytes(-len(content) % self.atom)
        atoms = [n for n in range(len(content) // self.atom) if mask >> n & 1]
        self.rng.shuffle(atoms)
        return [
            (
                {"kind": kind, "index": self.rng.randrange(4), "row": self.rng.randrange(4), "atom": n, "side": side},
                content[n * self.atom : (n + 1) * self.atom],
            )
            for n in atoms
        ]

    async def write(self, ctx: Any, accesses: list[Access]) -> None:
        """One access per cycle, sometimes a gap; each comes out in the next cycle."""
        dut, block = self.dut, self.unit.block_words
        for tag, content in accesses:
            while self.rng.random() < 0.2:
                ctx.set(dut.arrived.valid, 0)
                await ctx.tick()
                assert not ctx.get(dut.write.valid)
            ctx.set(dut.arrived.valid, 1)
            ctx.set(dut.arrived.payload.tag, tag)
            ctx.set(dut.arrived.payload.data, int.from_bytes(content, "little"))
            await ctx.tick()
            assert ctx.get(dut.write.valid)
            for name, value in tag.items():
                assert ctx.get(dut.write.payload.tag[name]) == value, name
            new, mask = ctx.get(Value.cast(dut.write.payload.words)), ctx.get(Value.cast(dut.write.payload.mask))
            for w, old in enumerate(self.entry):
                steps = mask >> (w // block * STEPS) & 63
                enable = sum(3 << 2 * s for s in range(STEPS) if steps >> s & 1)
                self.entry[w] = old & ~enable | (new >> 12 * w) & enable
        ctx.set(dut.arrived.valid, 0)

    def expect(self, wanted: list[int], what: object) -> None:
        """Words of ``wanted`` that are -1 carry no meaning."""
        assert [-1 if want < 0 else got for got, want in zip(self.entry, wanted, strict=True)] == wanted, what


def golden(values: np.ndarray, bits: int, lsb_bits: int = 0, msb_only: bool = False) -> list[int]:
    return [int(word) % (1 << 12) for word in words(values[0], bits, lsb_bits, msb_only=msb_only)]


def format_of(dim: int, **fields: int) -> dict[str, int]:
    padded = 1 << max(3, (dim - 1).bit_length())
    return {"head_dim": dim, "log2_dim": padded.bit_length() - 1, "plane_units": -(-dim // 32), **fields}


def key_format(bits: int, lsb: int, dim: int, pair: bool = False, fused: bool = False) -> dict[str, int]:
    planes = {"key_planes": bits // 4, "key_crumbs": int(bits % 4 != 0), "lsb_atoms": int(lsb > 0)}
    # The value format is another, so that a mix-up shows.
    others = {"value_planes": 3 - bits // 4, "value_crumbs": int(bits % 4 == 0)}
    return format_of(dim, **planes, **others, lsb_first_crumb=bits // 2, pair=int(pair), fused=int(fused))


def laid(start: list[int], dim: int, sides: dict[int, list[int]], unit: EngineUnit) -> list[int]:
    """The entry with rows in it from the given words on; what pads them up to D and a block has no meaning, the rest
    is kept.
    """
    padded, entry = max(1 << max(3, (dim - 1).bit_length()), unit.block_words), list(start)
    for first, row in sides.items():
        entry[first : first + padded] = row + [-1] * (padded - dim)
    return entry


def head_dims(unit: EngineUnit, rng: random.Random) -> Iterator[int]:
    """Those that fill their D and those that do not; two in the middle by chance."""
    most = unit.entry_words
    yield from sorted({8, most // 2, most, *(dim for dim in (24, 40, 80, 96) if dim <= most), rng.randint(1, most)})


MACHINES = [(8, "hbm2"), (16, "hbm2"), (32, "ddr4"), (64, "hbm2"), (64, "ddr4"), (128, "hbm2"), (256, "hbm2")]


@pytest.mark.parametrize(("entry_words", "memory"), MACHINES)
def test_rows_become_golden_words(entry_words: int, memory: str) -> None:
    unit = unit_of(entry_words, memory)
    bench = Bench(unit, f"{entry_words} {memory}")
    dut, half = bench.dut, entry_words // 2

    async def keys(ctx: Any, bits: int, lsb: int, dim: int) -> None:
        ctx.set(dut.format, key_format(bits, lsb, dim))
        values, before = bench.values(bits + lsb, dim), bench.scramble()
        msb, low = split_planes(values, lsb)
        await bench.write(ctx, bench.accesses(pack_rows(msb, bits), KIND_K))
        after = laid(before, dim, {0: golden(values, bits + lsb, lsb, msb_only=True)}, unit)
        bench.expect(after, ("K", bits, lsb, dim))
        if lsb:
            await bench.write(ctx, bench.accesses(pack_lsb(low, lsb), KIND_LSB))
            bench.expect(laid(before, dim, {0: golden(values, bits + lsb, lsb)}, unit), ("LSB", bits, lsb, dim))

    async def pairs(ctx: Any, bits: int, lsb: int, dim: int, fused: bool) -> None:
        ctx.set(dut.format, key_format(bits, lsb, dim, True, fused))
        heads, before = [bench.values(bits + lsb, dim) for _ in (0, 1)], bench.scramble()
        record = pack_pair(split_planes(heads[0], lsb)[0], split_planes(heads[1], lsb)[0], bits)
        firsts = [golden(values, bits + lsb, lsb, msb_only=True) for values in heads]
        fulls = [golden(values, bits + lsb, lsb) for values in heads]
        lows = [pack_lsb(split_planes(values, lsb)[1], 4) for values in heads] if lsb else []
        if fused:
            await bench.write(ctx, bench.accesses(record, KIND_K))
            bench.expect(laid(before, dim, {0: firsts[0], half: firsts[1]}, unit), ("fused", bits, lsb, dim))
            for side, low in enumerate(lows):
                await bench.write(ctx, bench.accesses(low, KIND_LSB, side))
            full = fulls if lsb else firsts
            bench.expect(laid(before, dim, {0: full[0], half: full[1]}, unit), ("fused LSB", bits, lsb, dim))
            return
        for side in (0, 1):
            before, mask = bench.scramble(), side_mask(dim, bits, bench.atom, side)
            await bench.write(ctx, bench.accesses(record, KIND_K, side, mask))
            bench.expect(laid(before, dim, {0: firsts[side]}, unit), ("side", side, bits, lsb, dim))
            for low in lows[side : side + 1]:
                await bench.write(ctx, bench.accesses(low, KIND_LSB, side))
                bench.expect(laid(before, dim, {0: fulls[side]}, unit), ("side LSB", side, bits, lsb, dim))

    async def queries_and_values(ctx: Any, bits: int, dim: int, fused: bool) -> None:
        planes = {"value_planes": bits // 4, "value_crumbs": int(bits % 4 != 0)}
        others = {"key_planes": 3 - bits // 4, "key_crumbs": int(bits % 4 == 0), "pair": 1, "fused": int(fused)}
        ctx.set(dut.format, format_of(dim, **planes, **others, lsb_first_crumb=3))
        for kind, width in ((KIND_V, bits), (KIND_Q, 12)):
            values, before = bench.values(width, dim), bench.scramble()
            record = pack_rows(values, width)
            await bench.write(ctx, bench.accesses(record, kind))
            bench.expect(laid(before, dim, {0: golden(values, width)}, unit), (kind, width, dim))

    async def testbench(ctx: Any) -> None:
        for dim in head_dims(unit, bench.rng):
            narrow = not unit.wide(dim)
            for bits, lsb in WIDTHS:
                await keys(ctx, bits, lsb, dim)
                await pairs(ctx, bits, lsb, dim, fused=False)
                if narrow:
                    await pairs(ctx, bits, lsb, dim, fused=True)
                if not lsb:
                    await queries_and_values(ctx, bits, dim, fused=narrow)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def test_converts() -> None:
    dut = Converter(EngineUnit.of(load_arch("tiny")))
    paths = (("__".join(map(str, path)), Value.cast(value)) for path, _, value in dut.signature.flatten(dut))
    # Amaranth 0.5.10 by itself stumbles over the constant ready of such a stream.
    ports = {name: (value, None) for name, value in paths if not isinstance(value, Const)}
    assert "write__payload" in rtlil.convert(dut, ports=ports)
