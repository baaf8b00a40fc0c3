"""Query buffer: what was written into a slot through its lane is read from it one cycle later."""

import random
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Const, Value
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from rtl.job import KIND_K, KIND_Q, KIND_V
from rtl.query_buffer import QueryBuffer

SLOTS = (1, 2, 8)  # tiny has 4 lanes: one bank; two banks of a slot; four banks of two slots


def buffer(slots: int) -> QueryBuffer:
    return QueryBuffer(EngineUnit.of(load_arch("tiny", {"fetcher.query_slots": slots})))


@pytest.mark.parametrize("slots", SLOTS)
def test_words_of_a_slot(slots: int) -> None:
    """Random accesses (any planes of any blocks, other kinds too) on all lanes and random reads, in every cycle."""
    dut = buffer(slots)
    unit = dut.unit
    size, lanes = unit.block_words, min(slots, 4)
    rng = random.Random(slots)
    truth = [[0] * unit.entry_words for _ in range(slots)]

    async def bench(ctx: Any) -> None:
        for slot in range(slots):  # all words known
            ctx.set(dut.write[slot % lanes].valid, 1)
            tag = {"kind": KIND_Q, "index": slot}
            ctx.set(
                dut.write[slot % lanes].payload,
                {"tag": tag, "words": [0] * unit.entry_words, "mask": [63] * (unit.entry_words // size)},
            )
            await ctx.tick()
            ctx.set(dut.write[slot % lanes].valid, 0)
        shown: list[int] | None = None
        for _ in range(150):
            read, slot = rng.random() < 0.7, rng.randrange(slots)
            ctx.set(dut.read_enable, read)
            ctx.set(dut.read_slot, slot)
            if read:
                shown = list(truth[slot])
            for lane in range(lanes):
                valid, index = rng.random() < 0.7, rng.randrange(lane, slots, lanes)
                if valid and read and index == slot:
                    valid = False  # nothing relies on it
                kind = rng.choice([KIND_Q, KIND_Q, KIND_K, KIND_V])
                words = [rng.randrange(4096) for _ in range(unit.entry_words)]
                masks = [rng.randrange(64) for _ in range(unit.entry_words // size)]
                ctx.set(dut.write[lane].valid, valid)
                ctx.set(dut.write[lane].payload, {"tag": {"kind": kind, "index": index}, "words": words, "mask": masks})
                if valid and kind == KIND_Q:
                    for i, word in enumerate(words):
                        bits = sum(3 << 2 * step for step in range(6) if masks[i // size] >> step & 1)
                        truth[index][i] = truth[index][i] & ~bits | word & bits
            await ctx.tick()
            if shown is not None:
                got = [ctx.get(dut.words[i]) & 0xFFF for i in range(unit.entry_words)]
                assert got == shown

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("slots", SLOTS)
def test_verilog(slots: int) -> None:
    dut = buffer(slots)
    ports = [Value.cast(value) for _, _, value in dut.signature.flatten(dut)]
    assert "module top" in verilog.convert(dut, ports=[port for port in ports if not isinstance(port, Const)])
