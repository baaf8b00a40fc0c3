"""The programs that every mutant meets, with what the simulator expects of them: the suite of whole programs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accel.arch import Arch
from accel.lower.image import Memory, memory_image
from accel.program import Opcode, Program, jobs_of
from accel.registers import ErrorCode
from accel.verify.engine import PROGRAM_ADDRESS, Write, written_outputs
from sim.engine import run_timing
from sim.recorded import Recorded
from sim.unroll import unroll
from sim.values import Executor
from tests.equivalence.engine_cases import EngineCase, directed_cases, random_cases
from tests.rtl.job_model import random_attend
from tests.rtl.test_job_decoder import FAULTS as FAULTS_OF_A_JOB
from tests.rtl.test_sequencer import BOTH, RESTART
from tests.rtl.test_sequencer import FAULTS as FAULTS_OF_THE_STATE

SLACK = 1.2  # a program may take so many times the simulator's cycles before it counts as hung
FIXED_SLACK_CYCLES = 200
FAULT_CYCLES = 1_500
RANDOM_MEMORY_CYCLES = 40_000
FAULTY_BASE = {"group": 1, "head": 0, "keys": 3, "queries": 3, "fused": 0, "flags": int(BOTH), "first_key": 0}


class Expected:
    """What the simulator says of a case."""

    def __init__(self, case: EngineCase) -> None:
        executor = Executor(case.arch, 1)
        outputs = executor.run(case.program.jobs, tensors=case.tensors)
        self.recorded: Recorded = executor.recorded
        self.jobs = np.concatenate(executor.recorded.jobs)
        work = unroll(case.arch, executor.recorded)
        timing = run_timing(case.arch, work)
        self.cycles = int(timing.cycles)
        attends = case.program.jobs[case.program.jobs["opcode"] == 1]
        waiting: dict[bytes, list[Any]] = {}
        for job, output in zip(attends, outputs, strict=True):
            waiting.setdefault(job.tobytes(), []).append(output)
        self.outputs = [waiting[job.tobytes()].pop(0) for job in self.jobs]  # without the pruned heads'
        self.counters = {
            "cycles": timing.cycles, "rows": len(work.rows), "lsb_rows": int(work.rows["lsb"].sum()),
            "qk_msb_issues": timing.issue_cycles["qk_msb"], "qk_lsb_issues": timing.issue_cycles["qk_lsb"],
            "pv_issues": timing.issue_cycles["pv"],
            "read_accesses": timing.dram["rd"], "write_accesses": timing.dram["wr"],
            **{f"busy_{unit}": timing.busy[unit] for unit in ("fetcher", "qk", "softmax", "topk", "pv", "cascade")},
        }  # fmt: skip

    def differs(self, record: dict[str, Any], timed: bool, atom_bytes: int) -> str:
        """Where a run of the engine differs; nothing if it does not."""
        if not record["finished"] or record["error"][0]:
            return f"finished {record['finished']}, error {record['error']}"
        writes = [Write(t, at, word.to_bytes(atom_bytes, "little"), s) for t, at, word, s in record["writes"]]
        got = written_outputs(self.jobs, writes)
        if any(not np.array_equal(a, b) for a, b in zip(got, self.outputs, strict=True)):
            return "outputs"
        wrong = {name: (want, record["counters"][name]) for name, want in self.counters.items()
                 if record["counters"][name] != want}  # fmt: skip
        return f"(simulator, engine): {wrong}" if timed and wrong else ""


class Programs:
    """All programs as the bench takes them, their memory images in ``folder``; ``expected`` of those that have one."""

    def __init__(self, arch: Arch, folder: Path, randoms: int, seed: int) -> None:
        self.arch, self._folder = arch, folder
        self.entries: list[dict[str, Any]] = []
        self.expected: dict[int, Expected] = {}
        self.errors: dict[int, tuple[int, int]] = {}
        directed = directed_cases(arch)
        for case in [*directed, *random_cases(arch, randoms, seed)]:
            self._case(case)
        for case in directed[2::4]:  # every fourth: after a reset in its middle, and with a memory like no other
            self._case(case, cut=0.5)
            self._case(case, mode="random")
        for name, items, error in _faults(arch, seed):
            self.errors[len(self.entries)] = error
            self._add(name, Program(jobs_of(items)), Memory(), FAULT_CYCLES, "dram", 0)

    def _case(self, case: EngineCase, cut: float = 0.0, mode: str = "dram") -> None:
        expected = Expected(case)
        if not len(expected.jobs):
            return
        self.expected[len(self.entries)] = expected
        cycles = int(SLACK * expected.cycles) + FIXED_SLACK_CYCLES if mode == "dram" else RANDOM_MEMORY_CYCLES
        name = case.name + (", after a reset" if cut else "") + (", random memory" if mode == "random" else "")
        image = memory_image(case.arch, case.program.jobs, case.tensors)
        self._add(name, case.program, image, cycles, mode, int(cut * expected.cycles))

    def _add(self, name: str, program: Program, image: Memory, cycles: int, mode: str, cut: int) -> None:
        number = len(self.entries)
        image.write(PROGRAM_ADDRESS, program.encode())
        path = self._folder / f"{number}.npz"
        image.save(path)
        self.entries.append(
            {
                "name": name, "memory": str(path), "program_address": PROGRAM_ADDRESS, "mode": mode, "seed": number,
                "max_cycles": cycles, "events": [], "timed": mode == "dram", "cut": cut, "registers": number < 4,
            }
        )  # fmt: skip

    def differing(self, records: Sequence[dict[str, Any]]) -> list[str]:
        """Where the engine as it is differs from the simulator."""
        out = []
        atom = self.arch.memory_spec.access_bytes
        for i, (entry, record) in enumerate(zip(self.entries, records, strict=True)):
            if "broken" in record:
                out.append(f"{entry['name']}: {record['broken']}")
            elif i in self.expected:
                if how := self.expected[i].differs(record, entry["timed"], atom):
                    out.append(f"{entry['name']}: {how}")
            elif tuple(record["error"]) != self.errors[i]:
                out.append(f"{entry['name']}: error {record['error']}, expected {self.errors[i]}")
        return out

    def tighten(self, records: Sequence[dict[str, Any]], cycles_of: Sequence[int]) -> None:
        """After the engine as it is has run: limits for what the simulator does not time."""
        for entry, _, cycles in zip(self.entries, records, cycles_of, strict=True):
            entry["max_cycles"] = min(entry["max_cycles"], int(2 * SLACK * cycles) + FIXED_SLACK_CYCLES)


def _faults(arch: Arch, seed: int) -> Iterator[tuple[str, list[dict[str, Any]], tuple[int, int]]]:
    """(name, items of a program, error code and job) of programs that the engine refuses."""
    for name, (items, code, at) in FAULTS_OF_THE_STATE.items():
        if code == ErrorCode.FUSED and any(item["opcode"] == Opcode.PRUNE_HEADS for item in items):
            continue  # which head goes is decided by the unit test's bench there
        yield f"refused: {name}", items, (int(code), at)
    rng = np.random.default_rng(seed)
    for code, change in FAULTS_OF_A_JOB:
        if code == ErrorCode.TILE_ROWS:
            continue  # may be supported by now
        item = random_attend(rng, arch, **(FAULTY_BASE | change))
        yield f"refused: {change}", [RESTART, item], (int(code), 1)
