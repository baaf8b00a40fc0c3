"""Modes beside softmax in the simulator: the bits of golden, and what is counted of them."""

import numpy as np
import pytest

from accel.arch import load_arch
from accel.errors import UserError
from accel.verify.cases import directed_cases, random_mode
from accel.verify.mode_cases import decay_program, linear_program
from accel.verify.state_cases import state_program
from accel.verify.tensors import tensors_of
from accel.zoo.attention_time import FlatScores
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
    cases = [case for case in directed_cases(TINY) if case.name.startswith(("decay", "linear", "state"))]
    assert {case.name.split(",")[0] for case in cases} == {"decay", "linear", "state"}
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


def test_rows_carry_on_when_scores_are_drawn() -> None:
    """Slices of K between the first and the last are alike, but each goes on from the one before it."""
    program, tensors = linear_program(TINY, 3, 160, 40)
    found = []
    for given in ({"source": FlatScores()}, {"tensors": tensors}):
        executor = Executor(TINY)
        executor.run(program.jobs, **given)  # type: ignore[arg-type]
        work = unroll(TINY, executor.recorded)
        timing = run_timing(TINY, work)
        found.append((timing.cycles, counts(TINY, work, executor.recorded, timing)))
    assert found[0] == found[1]


@pytest.mark.parametrize(("decay", "records"), [("constant", 3), ("channel", 4)])
def test_states_stay_on_chip(decay, records: int) -> None:  # type: ignore[no-untyped-def]
    """Tokens bring their records and leave their outputs, and that is all that passes the memory bus."""
    program, tensors = state_program(SPATTEN, 4, 64, 64, 10, decay=decay, tokens_per_job=5)
    executor = Executor(SPATTEN)
    executor.run(program.jobs, tensors=tensors)
    work = unroll(SPATTEN, executor.recorded)
    counted = counts(SPATTEN, work, executor.recorded, run_timing(SPATTEN, work))
    tokens, words = 40, 40 * 64 * 64
    assert counted["rows"] == tokens
    read = {name: size for name, size in counted["dram_read_bytes"].items() if size}
    assert read == {"q": tokens * records * 96}
    assert counted["dram_useful_bytes"]["q"] == tokens * records * 96
    assert counted["dram_write_bytes"] == tokens * 128
    assert counted["macs"] == {"qk": words, "pv": words}
    for which in ("sram_read_bytes", "sram_write_bytes"):
        assert {name: counted[which][name] for name in ("k", "v")} == {"k": words * 12 // 8, "v": words * 12 // 8}
    assert counted["softmax"] == {"exponentials": tokens * 128, "reciprocals": 0, "normalisations": tokens * 128}
    assert counted["output_values"] == tokens * 64


def test_a_token_takes_its_lines() -> None:
    """Once records come as fast as they are taken: three cycles for these, two for each line."""
    program, tensors = state_program(SPATTEN, 1, 64, 64, 60)
    executor = Executor(SPATTEN)
    executor.run(program.jobs, tensors=tensors)
    starts = run_timing(SPATTEN, unroll(SPATTEN, executor.recorded)).times.row["pv_start"][2::3]
    assert set(np.diff(starts)[20:40].tolist()) == {3 + 2 * 8}


def test_states_that_nobody_began_are_refused() -> None:
    program, tensors = state_program(TINY, 2, 8, 8, 4, tokens_per_job=2)
    executor = Executor(TINY)
    with pytest.raises(UserError, match="0 rows of states have been begun"):
        executor.run(program.jobs[2:], tensors=tensors[2:])
