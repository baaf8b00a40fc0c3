"""Decoder: fields of legal jobs, codes of illegal ones, two cycles after the raw job."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.sim import Simulator

from accel.arch import Arch, load_arch
from accel.errors import UserError
from accel.program import Flag, Fused, Mode, Opcode, Program, jobs_of
from accel.registers import ErrorCode
from accel.units.engine import EngineUnit
from rtl.job_decoder import STATIC_CODES, JobDecoder
from tests.rtl.job_model import Item, expected, random_attend, static_errors

BOTH = Flag.FIRST_TILE | Flag.LAST_TILE
ARCHS = {
    "tiny": load_arch("tiny"),
    "edge, 64-byte accesses": load_arch("edge"),
    "spatten": load_arch("spatten"),
    "small K ring": load_arch("tiny", {"sram.k_bytes": 1536, "softmax.buffer_keys": 16}),
}


def decode(arch: Arch, items: list[Item], last: int = 0, error: int = 0) -> list[Any]:
    """Jobs one per cycle; the decoded ones, checked to come two cycles later."""
    dut = JobDecoder(EngineUnit.of(arch))
    out: list[Any] = []

    async def testbench(ctx):  # type: ignore[no-untyped-def]
        for t in range(len(items) + 2):
            ctx.set(dut.raw.valid, t < len(items))
            if t < len(items):
                raw = int.from_bytes(jobs_of([items[t]]).tobytes(), "little")
                ctx.set(dut.raw.payload, {"bytes": raw, "last": last, "error": error})
            assert ctx.get(dut.decoded.valid) == (t >= 2)
            if t >= 2:
                out.append(ctx.get(dut.decoded.payload))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(testbench)
    simulator.run()
    return out


@pytest.mark.parametrize("name", ARCHS)
def test_legal_jobs(name: str) -> None:
    arch = ARCHS[name]
    rng = np.random.default_rng(1)
    items = [random_attend(rng, arch, mode=int(rng.choice([0, 0, *Mode]))) for _ in range(150)]
    items = [item for item in items if not static_errors(arch, item)]
    assert len(items) > 100
    assert len({item["mode"] for item in items}) == len(Mode)
    for item, got in zip(items, decode(arch, items), strict=True):
        assert got.error == 0, ErrorCode(got.error)
        job, form = expected(arch, item)
        assert {field: got.job[field] for field in job} == job, item
        assert {field: got.format[field] for field in form} == form, item
        alone = item["group"] == 1 and item["mode"] not in (Mode.LINEAR, Mode.STATE)
        assert (got.opcode, got.fused, got.alone) == (item["opcode"], item["fused"], alone)
        assert (got.halve, got.end) == (bool(item["flags"] & Flag.HALVE), item["first_key"] + item["keys"])
        Program(jobs_of([item])).check(arch)


def test_selecting_at_its_edges() -> None:
    """A count around the most keys that a row sees, which is all keys or less."""
    arch, rng = ARCHS["tiny"], np.random.default_rng(5)
    base: Item = {"keys": 5, "value_fetch": 0, "keep_ratio": 0, "group": 1, "queries": 3, "head": 0}
    items = [
        random_attend(rng, arch, **base, flags=BOTH | causal, first_visible=first, keep_values=keep)
        for causal in (0, Flag.CAUSAL)
        for first in range(1, 7)
        for keep in range(1, 8)
    ]
    got = [g.job.selecting for g in decode(arch, items)]
    assert got == [expected(arch, item)[0]["selecting"] for item in items]
    assert 20 < sum(got) < 60


def test_jobs_of_the_state() -> None:
    arch = ARCHS["tiny"]
    items: list[Item] = [
        {"opcode": Opcode.TOKENS, "keys": 64, "flags": Flag.RESTART},
        {"opcode": Opcode.TOKENS, "keys": 65},
        {"opcode": Opcode.PRUNE_TOKENS, "keep_values": (1 << 32) - 1},
        {"opcode": Opcode.PRUNE_TOKENS},
        {"opcode": Opcode.PRUNE_HEADS, "keep_values": 3},
        {"opcode": Opcode.PRUNE_HEADS},
        {"opcode": Opcode.END},
        {"opcode": 5},
        {"opcode": 255},
    ]
    got = decode(arch, items)
    none, opcode, keep = ErrorCode.NONE, ErrorCode.OPCODE, ErrorCode.KEEP_VALUES
    assert [g.error for g in got] == [none, ErrorCode.TOKENS, none, keep, none, keep, none, opcode, opcode]
    assert (got[0].job["keys"], got[0].restart) == (64, 1)
    assert (got[2].keep, got[2].restart, got[4].keep) == ((1 << 17) - 1, 0, 3)


def test_what_the_reader_says() -> None:
    good = random_attend(np.random.default_rng(0), ARCHS["tiny"])
    end: Item = {"opcode": int(Opcode.END)}
    assert [g.error for g in decode(ARCHS["tiny"], [good, end], last=1)] == [ErrorCode.NO_END, ErrorCode.NONE]
    assert [g.error for g in decode(ARCHS["tiny"], [good, end], error=1)] == [ErrorCode.BUS, ErrorCode.BUS]


FAULTS: list[tuple[ErrorCode, Item]] = [
    (ErrorCode.CHOICE, {"lsb": 3}),
    (ErrorCode.CHOICE, {"value_fetch": 2}),
    (ErrorCode.CHOICE, {"fused": 3}),
    (ErrorCode.CHOICE, {"side": 3}),
    (ErrorCode.HEAD_DIM, {"head_dim": 0}),
    (ErrorCode.HEAD_DIM, {"head_dim": 12}),
    (ErrorCode.HEAD_DIM, {"head_dim": 40}),
    (ErrorCode.HEAD_DIM, {"head_dim": 520}),
    (ErrorCode.KEYS, {"keys": 0}),
    (ErrorCode.KEYS, {"keys": 65}),
    (ErrorCode.KEYS, {"keys": 1 << 31}),
    (ErrorCode.KEYS, {"first_key": 65535, "keys": 2}),
    (ErrorCode.KEYS, {"first_key": (1 << 32) - 1, "keys": 1}),
    (ErrorCode.ROWS, {"queries": 0}),
    (ErrorCode.ROWS, {"group": 0}),
    (ErrorCode.ROWS, {"queries": 1 << 24}),
    (ErrorCode.ROWS, {"queries": 1 << 23, "group": 2, "head": 0}),
    (ErrorCode.HEADS, {"head": 4, "group": 1}),
    (ErrorCode.HEADS, {"head": 1, "group": 3}),
    (ErrorCode.HEADS, {"head": 65535, "group": 1}),
    (ErrorCode.HEADS, {"head": 0, "group": 513}),
    (ErrorCode.PLANES, {"msb_bits": 12, "lsb_bits": 4}),
    (ErrorCode.PLANES, {"msb_bits": 5, "lsb_bits": 0, "lsb": 0}),
    (ErrorCode.PLANES, {"msb_bits": 8, "lsb_bits": 2}),
    (ErrorCode.LSB, {"msb_bits": 8, "lsb_bits": 0, "lsb": 1}),
    (ErrorCode.VALUE_BITS, {"value_bits": 16}),
    (ErrorCode.VALUE_BITS, {"value_bits": 0}),
    (ErrorCode.THRESHOLD, {"threshold": 65536}),
    (ErrorCode.SCALE, {"score_shift": 63}),
    (ErrorCode.SCALE, {"score_shift": 0, "score_mantissa": 1}),
    (ErrorCode.SCALE, {"score_shift": 1 << 15}),
    (ErrorCode.VISIBLE, {"flags": Flag.CAUSAL | Flag.FIRST_TILE | Flag.LAST_TILE, "first_visible": 0}),
    (ErrorCode.ADDRESS, {"q_address": 16}),
    (ErrorCode.ADDRESS, {"v_address": 1 << 48}),
    (ErrorCode.ADDRESS, {"k_msb_address": 1}),
    (ErrorCode.ADDRESS, {"output_address": 1 << 63}),
    (ErrorCode.ADDRESS, {"k_lsb_address": 8, "lsb": 1, "msb_bits": 8, "lsb_bits": 4}),
    (ErrorCode.ADDRESS, {"q_stride": 1 << 16}),
    (ErrorCode.ADDRESS, {"output_stride": 24}),
    (ErrorCode.MODE, {"mode": 4}),
    (ErrorCode.MODE, {"mode": 255}),
    *(
        (ErrorCode.MODE, {"mode": mode} | change)
        for mode in (Mode.DECAY, Mode.LINEAR, Mode.STATE)
        for change in (
            {"lsb": 1, "msb_bits": 8, "lsb_bits": 4},
            {"flags": BOTH | Flag.ACCUMULATE | (Flag.CAUSAL if mode is Mode.DECAY else 0)},
            {"value_fetch": 1},
            {"keep_values": 2, "keys": 8, "first_visible": 3},
            {"keep_ratio": 65535, "keys": 8, "first_visible": 3},
            {"output_mantissa": 1 << 17},
            {"output_shift": 44},
        )
    ),
    (ErrorCode.MODE, {"mode": Mode.DECAY, "flags": BOTH}),
    (ErrorCode.MODE, {"mode": Mode.DECAY, "decay": 1 << 24}),
    (ErrorCode.MODE, {"mode": Mode.DECAY, "first_visible": 65535, "queries": 3}),
    (ErrorCode.MODE, {"mode": Mode.DECAY, "first_visible": (1 << 32) - 1, "queries": 3}),
    (ErrorCode.MODE, {"mode": Mode.LINEAR, "flags": BOTH | Flag.CAUSAL}),
    (ErrorCode.MODE, {"mode": Mode.LINEAR, "flags": BOTH | Flag.KEEP_LIST}),
    (ErrorCode.MODE, {"mode": Mode.LINEAR, "fused": Fused.SECOND}),
    (ErrorCode.MODE, {"mode": Mode.LINEAR, "head_dim": 8, "keys": 9}),
    *(
        (ErrorCode.MODE, {"mode": Mode.STATE, "head_dim": 16, "keys": 8} | change)
        for change in (
            {"keys": 24},
            {"keys": 12},
            {"first_key": 4},
            {"flags": Flag.FIRST_TILE},
            {"flags": BOTH | Flag.CAUSAL, "first_visible": 1},
            {"flags": BOTH | Flag.KEEP_LIST},
            {"group": 2},
            {"side": 1},
            {"fused": 1},
            {"queries": 1 << 22},
            {"score_shift": 16},
            {"decay": 1 << 24},
        )
    ),
    (ErrorCode.KEYS, {"mode": Mode.STATE, "head_dim": 32, "keys": 32, "first_key": 40}),
]
FINE: list[Item] = [
    {"k_lsb_address": 8, "lsb": 0},
    {"flags": Flag.LAST_TILE, "queries": 1, "group": 1},
    {"score_shift": 0, "score_mantissa": 0},
    {"first_key": 65535, "keys": 1},
    {"first_visible": 0, "flags": Flag.FIRST_TILE | Flag.LAST_TILE},
    {"mode": Mode.DECAY, "decay": (1 << 24) - 1, "keep_values": 3},
    {"mode": Mode.DECAY, "first_visible": 65534, "queries": 3},
    {"mode": Mode.LINEAR, "head_dim": 8, "keys": 8, "first_visible": 0},
    {"mode": Mode.STATE, "head_dim": 32, "keys": 32, "first_key": 32, "first_visible": 0, "queries": (1 << 22) - 1},
    {"decay": 1 << 31, "output_mantissa": 1 << 31, "output_shift": 255},
]


def test_each_fault_has_its_code() -> None:
    arch, rng = ARCHS["tiny"], np.random.default_rng(2)
    base: Item = {"group": 1, "head": 0, "keys": 3, "queries": 3, "fused": 0}
    items = [random_attend(rng, arch, **(base | change)) for _, change in FAULTS]
    codes = [ErrorCode(got.error) for got in decode(arch, items)]
    assert codes == [code for code, _ in FAULTS]
    assert {c for c, _ in FAULTS} | {ErrorCode.BUS, ErrorCode.NO_END, ErrorCode.OPCODE, ErrorCode.KEEP_VALUES} | {
        ErrorCode.TOKENS
    } == set(STATIC_CODES)
    fine = [random_attend(rng, arch, **(base | change)) for change in FINE]
    assert [got.error for got in decode(arch, fine)] == [0] * len(FINE)


@pytest.mark.parametrize("name", ["tiny", "small K ring"])
def test_random_faults(name: str) -> None:
    """One field of a legal job changed at random: refused with a code that holds, or legal for the check too."""
    arch, rng = ARCHS[name], np.random.default_rng(3)
    items = []
    for _ in range(250):
        item = random_attend(rng, arch, mode=int(rng.choice([0, 0, *Mode])))
        field = list(item)[rng.integers(1, len(item))]
        width = {"u1": 8, "u2": 16, "u4": 32, "u8": 63}[jobs_of([item]).dtype[field].str[1:]]
        some = [0, 1, (1 << width) - 1, 1 << int(rng.integers(width)), int(rng.integers(1 << width))]
        item[field] = some[rng.integers(len(some))]
        items.append(item)
    refused = 0
    for item, got in zip(items, decode(arch, items), strict=True):
        wrong = static_errors(arch, item)
        assert (got.error in wrong) if wrong else got.error == 0, (item, got.error)
        refused += bool(wrong)
        if not wrong:
            Program(jobs_of([item])).check(arch)
        try:
            Program(jobs_of([item])).check(arch)
        except UserError:
            assert got.error
    assert 30 < refused < 220


def test_fused_jobs_hold_two_heads() -> None:
    """A pair whose K fits the ring only one head at a time would wait for ever."""
    rng = np.random.default_rng(4)
    arch = load_arch("tiny", {"sram.k_bytes": 1536})
    unit = EngineUnit.of(arch)
    pair = unit.k_ring_lines(8, True) * arch.keys_per_line(8)
    assert pair < unit.k_ring_lines(8, False) * arch.keys_per_line(8) == 64
    fused = {"head_dim": 8, "first_key": 0, "fused": Fused.FIRST}
    items = [random_attend(rng, arch, keys=keys, **fused) for keys in (pair, pair + 1)]
    assert [got.error for got in decode(arch, items)] == [0, ErrorCode.KEYS]
