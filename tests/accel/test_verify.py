"""The bench around the engine: its memory answers a master exactly when the simulator's memory would, with the bytes
that are there.
"""

from functools import cache, reduce
from operator import xor
from typing import NamedTuple

import numpy as np
import pytest

from accel.arch import Arch, load_arch
from accel.lower.image import memory_image
from accel.program import Flag, Opcode, Program, jobs_of
from accel.registers import ErrorCode
from accel.units.engine import PROGRAM_LATENCY_CYCLES, EngineUnit
from accel.verify.engine import PROGRAM_ADDRESS, Case, EngineRun, Mode, Write, run_engine, written_outputs
from accel.verify.harness import missing_tools
from accel.verify.memory import NONE, DramModel, ProgramModel
from sim.dram import can_accept, can_accept_write, done_tick, map_address, new_dram, push, tick_all
from sim.recorded import JobTensors
from sim.unroll import machine
from tests.equivalence.harness import BUILDS

needs_rtl = pytest.mark.skipif(missing_tools() is not None, reason=missing_tools() or "")

CHANNELS, READS, WRITES, BEATS = 2, 220, 220, [1, 4, 2, 3]
#: 10/7, 2/3 and exactly one memory clock per engine clock.
CLOCKS_MHZ = [700, 1500, 1000]


def arch_of(clock_mhz: int) -> Arch:
    return load_arch("tiny", {"memory.channels": CHANNELS, "clock_MHz": clock_mhz})


@cache
def script() -> tuple[list[list[int]], list[int]]:
    """Addresses per channel, and those of the writes, all in one bank so that the queue fills up."""
    spec = arch_of(1000).memory_spec
    rng, dram, atom = np.random.default_rng(1), new_dram(spec, CHANNELS), spec.access_bytes
    reads: list[list[int]] = [[] for _ in range(CHANNELS)]
    while min(map(len, reads)) < READS:
        address = int(rng.integers(1 << rng.choice([12, 22]))) * atom
        reads[map_address(dram, address)[0]].append(address)
    places = [(1 << 24) + int(n) * atom for n in rng.permutation(1 << 16)]
    bank = map_address(dram, places[0])[:4]
    writes = [place for place in places if map_address(dram, place)[:4] == bank]
    return [r[:READS] for r in reads], writes[:WRITES]


@cache
def case() -> Case:
    """A program that no one executes, for its bytes, and a job whose V fills the first 128 KiB of memory."""
    job = {
        "opcode": Opcode.ATTEND, "queries": 1, "group": 1, "head_dim": 32, "msb_bits": 12, "value_bits": 12,
        "q_address": 1 << 30, "k_msb_address": 1 << 31,
    }  # fmt: skip
    q, k, v = (np.random.default_rng(n).integers(-2048, 2048, (n, 32)).astype(np.int16) for n in (1, 3, 2048))
    return Case(Program(jobs_of([job])), [JobTensors(q, k, k, v)])


@cache
def verilog() -> str:
    from amaranth.back.verilog import convert

    from tests.accel.memory_master import Master

    master = Master(EngineUnit.of(arch_of(1000)), *script(), BEATS)
    return convert(master, name="master", emit_src=False, strip_internal_attrs=True)


@cache
def runs(mode: Mode, clock_mhz: int) -> EngineRun:
    signals = [f"{s}_{c}" for s in ("arvalid", "ar", "rready", "r") for c in range(CHANNELS)]
    signals += ["wvalid", "w", "b", "beat", "last_beat", "started"]
    (run,) = run_engine(
        arch_of(clock_mhz), verilog(), [case()], mode, events=signals, max_cycles=20_000,
        name="master", builds=BUILDS,
    )  # fmt: skip
    assert run.finished
    return run


class Cycles(NamedTuple):
    """Cycles in which things happened."""

    run: EngineRun

    def of(self, name: str) -> list[int]:
        return [t for event, t in self.run.events if event == name]


@needs_rtl
@pytest.mark.parametrize("clock_mhz", CLOCKS_MHZ)
def test_the_memory_answers_when_the_simulators_would(clock_mhz: int) -> None:
    """Every clock of the memory one by one, driven by what the master did: no wake list, no masks, no ring."""
    arch, (reads, writes) = arch_of(clock_mhz), script()
    seen = Cycles(runs("dram", clock_mhz))
    m, dram = machine(arch)[0], new_dram(arch.memory_spec, CHANNELS)
    offered, taken, asked, given = (
        [set(seen.of(f"{s}_{c}")) for c in range(CHANNELS)] for s in ("arvalid", "ar", "rready", "r")
    )
    write_offered, write_taken = set(seen.of("wvalid")), set(seen.of("w"))
    tickets: list[list[int]] = [[] for _ in range(CHANNELS)]
    next_read, next_given, next_write, ticked = [0] * CHANNELS, [0] * CHANNELS, 0, -1
    refused = refused_writes = 0
    for t in range(seen.run.cycles):
        tick = t * int(m["ticks"]) // int(m["ticks_per"])
        for c in range(CHANNELS):
            room = can_accept(dram, c)
            assert (t in taken[c]) == (t in offered[c] and room), f"channel {c}, cycle {t}"
            refused += t in offered[c] and not room
        for c in range(CHANNELS):
            if t in taken[c]:
                tickets[c].append(push(dram, c, reads[c][next_read[c]], False, tick))
                next_read[c] += 1
        while ticked < tick:
            ticked += 1
            tick_all(dram, ticked)
        for c in range(CHANNELS):
            waiting = tickets[c][next_given[c] :]
            done = bool(waiting) and 0 <= done_tick(dram, c, waiting[0]) <= tick
            assert (t in given[c]) == (t in asked[c] and done), f"channel {c}, cycle {t}"
            next_given[c] += t in given[c]
        room = t in write_offered and can_accept_write(dram, map_address(dram, writes[next_write])[0])
        assert (t in write_taken) == room, f"write, cycle {t}"
        refused_writes += t in write_offered and not room
        if t in write_taken:
            push(dram, map_address(dram, writes[next_write])[0], writes[next_write], True, tick)
            next_write += 1
    assert (next_read, next_given, next_write) == ([READS] * CHANNELS, [READS] * CHANNELS, WRITES)
    assert refused > 100, "the read queues never were full"
    assert refused_writes > 100, "the write queue never was full"


@needs_rtl
@pytest.mark.parametrize("mode", ["dram", "random"])
def test_data_come_from_where_they_belong(mode: Mode) -> None:
    """Writes carry what reads of the same number brought, and every port's words add up."""
    run, (reads, writes) = runs(mode, 1000), script()
    memory, atom = memory_image(arch_of(1000), case().program.jobs, case().tensors), 32
    memory.write(PROGRAM_ADDRESS, case().program.encode())

    def word(*addresses: int) -> int:
        return reduce(xor, (int.from_bytes(memory.read(address, 4), "little") for address in addresses))

    assert [(w.cycle, w.address) for w in run.writes] == list(zip(Cycles(run).of("w"), writes, strict=True))
    assert [w.data for w in run.writes] == [memory.read(address, atom) for address in reads[0]]
    assert len({write.data for write in run.writes}) > WRITES // 3, "not all the same"
    program = [PROGRAM_ADDRESS + 32 * i for i in range(sum(BEATS))]
    assert run.error == (ErrorCode.NONE, word(*reads[0], *reads[1], *program))
    assert run.counters["read_accesses"] == CHANNELS * READS
    assert run.counters["write_accesses"] == WRITES
    assert Cycles(run).of("started") == [0]
    assert run.cycles == max(Cycles(run).of("b") + Cycles(run).of("beat") + Cycles(run).of("r_1")) + 2
    if mode == "dram":
        assert [t + 1 for t in Cycles(run).of("w")] != Cycles(run).of("b"), "B is refused at times"


@needs_rtl
def test_the_program_comes_at_one_beat_per_cycle() -> None:
    """The master asks for its bursts in the first cycles and is ready in every other."""
    seen = Cycles(runs("dram", 1000))
    beats, bursts = seen.of("beat"), np.cumsum(BEATS)
    assert beats[0] >= PROGRAM_LATENCY_CYCLES
    assert seen.of("last_beat") == [beats[n - 1] for n in bursts]
    assert len(beats) < beats[-1] - beats[0] < 4 * len(beats)


def test_bursts_of_the_program_follow_each_other() -> None:
    model, given = ProgramModel(32), []
    model.take(0, 0x1000, 3)
    model.take(1, 0x2000, 2)
    model.take(40, 0x3000, 1)
    for t in range(100):
        if (beat := model.offer(t)) is not None and t != PROGRAM_LATENCY_CYCLES + 1:
            given.append((t - PROGRAM_LATENCY_CYCLES, *beat))
            model.give()
    assert given == [
        (0, 0x1000, False), (2, 0x1020, False), (3, 0x1040, True), (4, 0x2000, False), (5, 0x2020, True),
        (40, 0x3000, True),
    ]  # fmt: skip


def test_outputs_of_all_jobs_are_found_in_the_writes() -> None:
    """Also of jobs that write to the same place, with rows of more than one access and half of one."""
    job = {
        "opcode": Opcode.ATTEND, "flags": Flag.LAST_TILE, "group": 1, "queries": 2, "head_dim": 24, "output_stride": 64,
        "output_address": 4096,
    }  # fmt: skip
    jobs = jobs_of([job, job | {"flags": 0, "queries": 1}, job | {"queries": 1, "group": 2}])
    rows = np.random.default_rng(1).integers(-(1 << 15), 1 << 15, (4, 24)).astype("<i2")
    writes = []
    for i, row in enumerate(rows):
        data = row.tobytes() + b"junk" * 4
        at = 4096 + 64 * (i % 2)
        writes += [Write(4 * i, at, data[:32], -1), Write(4 * i + 1, at + 32, data[32:], 0xFFFF)]
    first, none, last = written_outputs(jobs, writes)
    np.testing.assert_array_equal(np.concatenate([first, last]), rows)
    assert none.shape == (0, 24)
    with pytest.raises(RuntimeError, match="attend job 2, row 1: write to 0x1060 expected, none found"):
        written_outputs(jobs, writes[:-1])
    with pytest.raises(RuntimeError, match="attend job 0, row 0: write to 0x1020 expected, 0x1040 in cycle 4 found"):
        written_outputs(jobs, [writes[0], *writes[2:]])
    with pytest.raises(RuntimeError, match="write to 0x1000 in cycle 0 after the last output"):
        written_outputs(jobs, [*writes, writes[0]])


@pytest.mark.parametrize("clock_mhz", [1000, 1500])
def test_an_access_wakes_a_memory_at_rest(clock_mhz: int) -> None:
    """One every 150 cycles; commands go out in the same cycles as in a memory that is ticked clock by clock."""
    arch, rng = arch_of(clock_mhz), np.random.default_rng(1)
    model, dram, m = DramModel(arch), new_dram(arch.memory_spec, CHANNELS), machine(arch)[0]
    ticked = -1
    for t in range(6000):
        reads, write, tick = {}, NONE, t * int(m["ticks"]) // int(m["ticks_per"])
        if t % 150 == 149:
            address = int(rng.integers(1 << 20)) * 32
            channel = map_address(dram, address)[0]
            push(dram, channel, address, t % 300 == 149, tick)
            if t % 300 == 149:
                write = address
            else:
                reads[channel] = address
        assert model.cycle(t, reads, model.done, write) == (write != NONE)
        while ticked < tick:
            ticked += 1
            tick_all(dram, ticked)
        for command in ("rd", "wr", "ref"):
            np.testing.assert_array_equal(model.dram.channel[command], dram.channel[command], f"{command}, cycle {t}")
    assert min(dram.channel["wr"].min(), dram.channel["rd"].min()) > 5
