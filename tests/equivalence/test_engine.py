"""The whole engine: golden, simulator and RTL agree on whole programs, in every bit, cycle and transfer.

Both presets run all directed programs and some random ones; ``EQUIVALENCE=large`` runs many random ones.
"""

import os
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from accel.arch import load_arch
from accel.program import Flag, Opcode, Program
from accel.registers import ErrorCode
from accel.units.engine import EngineUnit
from accel.verify.boundaries import expected_transfers
from accel.verify.cases import EngineCase, directed_cases, random_cases
from accel.verify.compare import compare, predict
from accel.verify.engine import Case, EngineRun, Mode, run_engine
from accel.verify.harness import missing_tools
from accel.verify.session import Report, verify
from accel.verify.state_cases import state_program
from accel.verify.transfers import compare_transfers
from rtl.verilog import engine_verilog
from tests.equivalence.harness import BUILDS

LARGE = os.environ.get("EQUIVALENCE") == "large"
RANDOM_PROGRAMS = {"tiny": 200 if LARGE else 60, "edge": 100 if LARGE else 10}
RANDOM_MEMORY_PROGRAMS = 40 if LARGE else 4

pytestmark = pytest.mark.skipif(missing_tools() is not None, reason=f"RTL: {missing_tools()}")


def repeat(case: EngineCase) -> str:
    return f"accel verify --arch {case.arch.name} --program '{case.name}'"


@cache
def verified(name: str, mode: Mode = "dram") -> Report:
    arch = load_arch(name)
    directed, count = directed_cases(arch), RANDOM_PROGRAMS[name]
    if mode == "random":  # many times as long
        directed, count = directed[:: 1 if LARGE else 4], RANDOM_MEMORY_PROGRAMS
    return verify(arch, [*directed, *random_cases(arch, count)], mode=mode, builds=BUILDS, command=repeat)


@pytest.mark.parametrize("name", ["tiny", "edge"])
def test_golden_simulator_and_rtl_are_the_same_machine(name: str) -> None:
    report = verified(name)
    assert not report.mismatches, "\n".join(map(str, report.mismatches[:20]))
    assert report.programs == len(directed_cases(load_arch(name))) + RANDOM_PROGRAMS[name]
    for boundary, tally in report.boundaries.items():
        assert tally.transfers >= 10, f"{boundary} was hardly used"
        assert (tally.values, tally.cycles) == (0, 0), boundary


@pytest.mark.parametrize(
    "engine",
    [
        "histogram",
        pytest.param("sorter", marks=pytest.mark.skipif(not LARGE, reason="another build: EQUIVALENCE=large")),
    ],
)
def test_other_top_k_engines(engine: str) -> None:
    """Programs that prune tokens, heads and values, whatever finds the threshold."""
    arch = load_arch("tiny", {"topk.unit": engine})
    directed = directed_cases(arch)[:: 1 if LARGE else 4]
    report = verify(arch, [*directed, *random_cases(arch, 40 if LARGE else 8)], builds=BUILDS, command=repeat)
    assert not report.mismatches, "\n".join(map(str, report.mismatches[:20]))


def test_values_do_not_depend_on_time() -> None:
    """Latencies at random on every port, also of the program."""
    report = verified("tiny", "random")
    assert not report.mismatches, "\n".join(map(str, report.mismatches[:20]))


# ---- a run that does not end as it should -------------------------------------------------------------------------
TINY = load_arch("tiny")


@cache
def programs() -> list[EngineCase]:
    """Some that leave a lot behind: keep lists, pivots, sums, formats."""
    names = ("importance fades", "lsb on some rows", "one head left", "planes 10+4", "tiles of one row")
    return [case for case in directed_cases(TINY) if case.name in names]


def run(cases: list[Case]) -> list[EngineRun]:
    fields = probes()
    return run_engine(TINY, engine_verilog(TINY, probes=True), cases, builds=BUILDS, max_cycles=60_000, probes=fields)


def probes() -> dict:
    from rtl.probes import probe_fields

    return probe_fields(EngineUnit.of(TINY))


def test_a_reset_in_mid_run_leaves_a_clean_machine() -> None:
    """Whatever cycle it comes in, the next run has every transfer in its cycle."""
    cases, then, rng = [], [], np.random.default_rng(1)
    # A state reads the line memories on its own, beside registers that the reads of attention have left as they were.
    (states,) = (case for case in directed_cases(TINY) if case.name == "state, widest")
    for case, following in [*((case, case) for case in programs()), *((case, states) for case in programs())]:
        whole = predict(case).timing.cycles
        for cut in rng.integers(20, whole, 3).tolist():
            cases += [Case(case.program, case.tensors, max_cycles=cut), Case(following.program, following.tensors)]
            then.append(following)
    found = run(cases)
    assert not any(one.finished for one in found[::2])
    for one, following in zip(found[1::2], then, strict=True):
        prediction = predict(following)
        assert not compare(prediction, one)
        _, mismatches = compare_transfers(prediction, one, probes())
        assert not mismatches, mismatches[0]


def damaged(program: Program, job: int = 0, **fields: int) -> bytes:
    """The program's bytes with other numbers in one job."""
    jobs = program.jobs.copy()
    for name, value in fields.items():
        jobs[name][job] = value
    return Program(jobs).encode()


def attend(program: Program) -> int:
    """The first attend job."""
    return int(np.flatnonzero(program.jobs["opcode"] == Opcode.ATTEND)[0])


@cache
def illegal() -> list[tuple[ErrorCode, int, bytes]]:
    """(code, number of the job, bytes)."""
    program = programs()[0].program
    code, job = program.encode(), attend(program)

    def broken(code: ErrorCode, **fields: int) -> tuple[ErrorCode, int, bytes]:
        return code, job, damaged(program, job, **fields)

    flags = int(program.jobs["flags"][job])
    states, _ = state_program(TINY, 1, 8, 8, 2)
    return [
        (ErrorCode.MODE, 0, damaged(states, keys=12)),
        (ErrorCode.KEYS, 0, damaged(states, first_key=1 << 10)),
        (ErrorCode.TILE_ORDER, 0, damaged(states, flags=Flag.FIRST_TILE | Flag.LAST_TILE)),
        (ErrorCode.TILE_ORDER, 0, damaged(states, first_key=8)),
        (ErrorCode.MAGIC, 0, b"SPAM" + code[4:]),
        (ErrorCode.VERSION, 0, code[:4] + b"\x02" + code[5:]),
        (ErrorCode.JOB_SIZE, 0, code[:6] + b"\x40" + code[7:]),
        (ErrorCode.OPCODE, 0, damaged(program, opcode=77)),
        broken(ErrorCode.CHOICE, side=3),
        broken(ErrorCode.HEAD_DIM, head_dim=12),
        broken(ErrorCode.KEYS, keys=0),
        broken(ErrorCode.ROWS, queries=0),
        broken(ErrorCode.HEADS, head=TINY.max_heads),
        broken(ErrorCode.PLANES, msb_bits=5),
        broken(ErrorCode.VALUE_BITS, value_bits=7),
        broken(ErrorCode.THRESHOLD, threshold=1 << 16),
        broken(ErrorCode.SCALE, score_shift=63),
        broken(ErrorCode.ADDRESS, v_address=(1 << 48) - 1),
        broken(ErrorCode.TILE_ORDER, flags=flags & ~Flag.FIRST_TILE),
        (ErrorCode.TOKENS, 0, damaged(program, keys=TINY.max_context + 1)),
    ]


def test_illegal_programs_stop_and_the_next_one_runs() -> None:
    """The error register says why and where; without a reset, the next legal program has all its cycles."""
    case = programs()[0]
    cases = []
    for _, _, code in illegal():
        cases += [Case(case.program, case.tensors, code), Case(case.program, case.tensors, reset=False)]
    found = run(cases)
    prediction = predict(case)
    for (code, job, _), stopped, after in zip(illegal(), found[::2], found[1::2], strict=True):
        assert stopped.finished, f"{code.name}: no interrupt"
        assert stopped.error == (code, job)
        assert not stopped.writes
        assert not compare(prediction, after), code.name
        _, mismatches = compare_transfers(prediction, after, probes())
        assert not mismatches, mismatches[0]


def test_jobs_before_an_illegal_one_finish() -> None:
    case = programs()[0]
    first = attend(case.program)
    whole = predict(case)
    cut = len(case.program.jobs) - 1
    (stopped,) = run([Case(case.program, case.tensors, damaged(case.program, cut, opcode=77))])
    assert stopped.finished
    assert stopped.error == (ErrorCode.OPCODE, cut)
    last = int(whole.work.rows["w_atoms"][whole.work.jobs["first_row"][-1] :].sum())
    assert case.program.jobs["opcode"][cut] == Opcode.ATTEND
    assert first < cut
    writes = whole.timing.dram["wr"]
    assert len(stopped.writes) == writes - last


# ---- the comparison itself ----------------------------------------------------------------------------------------
def test_every_difference_is_found() -> None:
    """A run is changed in one place at a time."""
    case = programs()[1]
    prediction, (right,) = predict(case), run([Case(case.program, case.tensors)])
    fields, expected = probes(), expected_transfers(prediction)
    assert not compare(prediction, right)

    def transfers_with(name: str, number: int, t: int, words: list[int] | None) -> EngineRun:
        of = list(right.transfers[name])
        if words is None:
            del of[number]
        else:
            of[number] = (of[number][0] + t, words)
        return replace(right, transfers={**right.transfers, name: of})

    for name, of in right.transfers.items():
        if not of:
            continue
        number, words = len(of) // 2, of[len(of) // 2][1]
        wrong = [transfers_with(name, number, 1, words), transfers_with(name, number, 0, None)]
        predicted = [field in expected[name][number].content for field in fields[name]]
        assert all(predicted) or name.startswith("operation"), "such as what a prune keeps, of what is no prune"
        for i in np.flatnonzero(predicted).tolist():
            changed = [word ^ (i == j) for j, word in enumerate(words)]
            wrong.append(transfers_with(name, number, 0, changed))
        for one in wrong:
            _, mismatches = compare_transfers(prediction, one, fields, "accel")
            assert mismatches, name
            assert (mismatches[0].unit, mismatches[0].transfer) == (name, number)
            assert str(mismatches[0]).startswith(f"program {case.name}: {name}, transfer {number}, cycle ")
            assert str(mismatches[0]).endswith("; repeat: accel")
    late = [write._replace(cycle=write.cycle + (i == 3)) for i, write in enumerate(right.writes)]
    wrong_data = [write._replace(data=bytes([write.data[0] ^ 1]) + write.data[1:]) for write in right.writes]
    assert compare(prediction, replace(right, writes=late))[0].transfer == 3
    assert compare(prediction, replace(right, writes=wrong_data))[0].unit == "output, attend job 0"
    assert compare(prediction, replace(right, writes=right.writes[:-1]))
    for name in right.counters:
        more = {**right.counters, name: right.counters[name] + 1}
        assert [m.unit for m in compare(prediction, replace(right, counters=more))] == [f"counter {name}"]
    assert compare(prediction, replace(right, finished=False))[0].unit == "interrupt"
    assert compare(prediction, replace(right, error=(ErrorCode.KEYS, 2)))[0].unit == "error register"
