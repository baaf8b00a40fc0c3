"""Modes beside softmax in the simulator: the bits of golden, and what is counted of them."""

import numpy as np
import pytest

from accel.arch import load_arch
from accel.verify.cases import directed_cases, random_mode
from accel.verify.mode_cases import decay_program, linear_program
from accel.verify.tensors import tensors_of
from sim.counts import counts
from sim.engine import run_timing
from sim.unroll import unroll
from sim.values import Executor
from tests.sim.golden_machine import GoldenMachine, assert_same

TINY, SPATTEN = load_arch("tiny"), load_arch("spatten")


@pytest.mark.parametrize("arch", [TINY, SPATTEN], ids=lambda arch: arch.name)
@pytest.mark.parametrize("seed", range(12))
def test_random_programs_are_golden(arch, seed: int) -> None:  # type: ignore[no-untyped-def]
    case = random_mode(arch, seed)
    golden, executor = GoldenMachine(arch), Executor(arch)
    wanted = golden.run(case.program.jobs, case.tensors)
    assert_same(golden, executor, wanted, executor.run(case.program.jobs, tensors=case.tensors))
    run_timing(arch, unroll(arch, executor.recorded))


def test_directed_programs_are_golden() -> None:
    cases = [case for case in directed_cases(TINY) if case.name.startswith(("decay", "linear"))]
    assert len(cases) == 31
    for case in cases:
        golden, executor = GoldenMachine(TINY), Executor(TINY)
        wanted = golden.run(case.program.jobs, case.tensors)
        assert_same(golden, executor, wanted, executor.run(case.program.jobs, tensors=case.tensors))


def test_decay_takes_the_time_of_attention() -> None:
    """The same program with a softmax takes the same cycles and traffic."""
    program = decay_program(TINY, 2, 30, 16, (0.9, 0.99))
    as_softmax = program.jobs.copy()
    as_softmax["mode"] = 0
    found: list[tuple] = []
    for jobs in (program.jobs, as_softmax):
        executor = Executor(TINY)
        executor.run(jobs, tensors=tensors_of(jobs, 1, "normal", 30))
        work = unroll(TINY, executor.recorded)
        timing = run_timing(TINY, work)
        counted = counts(TINY, work, executor.recorded, timing)
        assert counted["softmax"]["exponentials"] == counted["softmax"]["normalisations"] == 2 * 30 * 31 // 2
        assert counted["softmax"].pop("reciprocals") == (0 if len(found) == 0 else 60)
        found.append((timing.cycles, timing.busy, counted))
    assert found[0] == found[1]


def test_linear_fetches_no_keys() -> None:
    program, tensors = linear_program(TINY, 3, 70, 40)
    executor = Executor(TINY)
    executor.run(program.jobs, tensors=tensors)
    work = unroll(TINY, executor.recorded)
    counted = counts(TINY, work, executor.recorded, run_timing(TINY, work))
    assert len(work.ksets) == 0
    assert counted["dram_read_bytes"]["k_msb"] == counted["dram_useful_bytes"]["k_msb"] == 0
    assert counted["sram_read_bytes"]["k"] == counted["sram_write_bytes"]["k"] == 0
    keys = program.jobs["keys"].astype(np.int64)
    assert counted["macs"]["pv"] == int((keys * program.jobs["queries"] * program.jobs["head_dim"]).sum())
    assert counted["dram_read_bytes"]["v"] == int(keys.sum()) * int(work.jobs["v_stride"][0])
