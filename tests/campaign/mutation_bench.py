"""cocotb side of the mutation campaign: one mutant after the other, each until a program shows it.

The work: {"arch", "programs": [...], "mutants": [...], "expected": [...] or null}. A program is what
``accel.verify.bench.Bench`` takes, and ``name``, ``timed`` (cycles and counters are compared too), ``cut`` (a reset in
mid-operation comes before it), ``transfers`` (a file with those of each probe). Without ``expected``, the record is
what each program does in each mutant.
"""

import functools
import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock

import accel.verify.bench as bench
from accel.arch import Arch
from accel.registers import PARAMETERS, PARAMETERS_OFFSET, WORD_BYTES, register
from accel.verify import ports

bench.REGISTER_TIMEOUT_CYCLES = 2_000  # enough for tiny's arrival counts; a mutant may never answer
READABLE = [
    *(register(name).offset for name in ("ID", "CONTROL", "PROGRAM_ADDRESS", "INTERRUPT_ENABLE", "INTERRUPT_STATUS")),
    *(PARAMETERS_OFFSET + i * WORD_BYTES for i in range(len(PARAMETERS))),
]


async def _run(dut: Any, arch: Arch, program: dict[str, Any]) -> dict[str, Any]:
    """What is seen of one program, from reset."""
    if program["cut"]:
        await bench.Bench(dut, arch, program | {"max_cycles": program["cut"], "probes": {}}).run()
    one = bench.Bench(dut, arch, program)
    try:
        record = await one.run()
        if program["registers"] and record["finished"]:
            registers = one._registers
            await registers.write(register("INTERRUPT_STATUS").offset, 1)
            record["registers"] = [await registers.read(offset) for offset in READABLE]
    except (RuntimeError, IndexError, OverflowError) as error:
        return {"broken": f"{type(error).__name__}: {error}"}
    record["first"] = ""
    if program["transfers"] and record["finished"] and not record["error"][0]:
        record["first"] = _first_transfer(record.pop("transfers"), _transfers(program["transfers"]))
    return record


@functools.cache
def _transfers(path: str) -> dict[str, list[Any]]:
    return json.loads(Path(path).read_text())


def _first_transfer(seen: dict[str, list[Any]], expected: dict[str, list[Any]]) -> str:
    """The first probe with another transfer, or another cycle of one, than the simulator's."""
    for name, wanted in expected.items():
        found = seen[name]
        if len(found) != len(wanted):
            return f"{name}: {len(found)} transfers, {len(wanted)} expected"
        for number, ((t, words), (cycle, right, masks)) in enumerate(zip(found, wanted, strict=True)):
            if t != cycle:
                return f"{name}: transfer {number} in cycle {t}, expected {cycle}"
            if any((word ^ want) & mask for word, want, mask in zip(words, right, masks, strict=True)):
                return f"{name}: transfer {number} in cycle {t} has another content"
    return ""


def _masked(writes: list[Any]) -> list[tuple[int, int]]:
    """(address, bytes that are written) of each access."""
    out = []
    for _, address, word, strobes in writes:
        mask = sum(0xFF << 8 * i for i in range(strobes.bit_length()) if strobes >> i & 1)
        out.append((address, word & mask))
    return out


def _times(record: dict[str, Any]) -> Any:
    """Cycles of all accesses; tuples, as JSON has made lists of those in what is expected."""
    return [write[0] for write in record["writes"]], [tuple(access) for access in (*record["taken"], *record["given"])]


def difference(got: dict[str, Any], want: dict[str, Any], timed: bool) -> str:
    """What shows the mutant: the first of broken, hang, error, values, cycles, counters, accesses (cycles of single
    ones), transfers (at a boundary between units), registers; or nothing.
    """
    if "broken" in got:
        return "broken"
    if not got["finished"]:
        return "hang"
    if got["error"] != want["error"]:
        return "error"
    if want["error"][0] == 0 and _masked(got["writes"]) != _masked(want["writes"]):
        return "values"
    if timed and got["counters"]["cycles"] != want["counters"]["cycles"]:
        return "cycles"
    if timed and got["counters"] != want["counters"]:
        return "counters"
    if timed and want["error"][0] == 0:
        if _times(got) != _times(want):
            return "accesses"
        if got["first"]:
            return "transfers"
    return "registers" if got.get("registers") != want.get("registers") else ""


@cocotb.test()
async def run_mutants(dut: Any) -> None:
    """Programs that showed most mutants so far in the fewest cycles come first."""
    work = json.loads(Path(os.environ["ACCEL_BENCH_WORK"]).read_text())
    arch = Arch.model_validate(work["arch"])
    Clock(getattr(dut, ports.CLOCK), 10, unit="ns", impl="gpi").start()
    programs, expected = work["programs"], work["expected"]
    shown = work.get("shown") or [0] * len(programs)
    records: list[Any] = []
    for mutant in work["mutants"]:
        bench.Input(dut, "mutant", mutant)
        if expected is None:
            records.append([await _run(dut, arch, program) for program in programs])
            continue
        order = sorted(range(len(programs)), key=lambda i: (-(shown[i] + 0.1) / programs[i]["max_cycles"], i))
        found = {"mutant": mutant, "by": "", "program": "", "runs": 0}
        for i in order:
            got = await _run(dut, arch, programs[i])
            found["runs"] += 1
            if by := difference(got, expected[i], programs[i]["timed"]):
                shown[i] += 1
                found |= {"by": by, "program": programs[i]["name"], "detail": got.get("broken") or got["first"]}
                break
        records.append(found)
    Path(os.environ["ACCEL_BENCH_RECORD"]).write_text(json.dumps({"records": records, "shown": shown}))
