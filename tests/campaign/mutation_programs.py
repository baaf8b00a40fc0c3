"""The programs that every mutant meets, and what the simulator says of them: the suite of whole programs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accel.arch import Arch
from accel.lower.image import Memory, memory_image
from accel.lower.plan import Plan
from accel.lower.programs import lower_decode, lower_prefill
from accel.program import HEADER_BYTES, Flag, Mode, Opcode, Program, jobs_of
from accel.registers import ErrorCode
from accel.units.engine import EngineUnit
from accel.units.sequencer import PROGRAM_ALIGN_BYTES
from accel.verify.boundaries import expected_transfers
from accel.verify.cases import EngineCase, directed_cases, random_cases, random_mode, random_tiles
from accel.verify.compare import Prediction, compare, predict
from accel.verify.engine import PROGRAM_ADDRESS, EngineRun, Write
from accel.verify.engine import Mode as MemoryMode
from accel.verify.tensors import scaled, tensors_of
from accel.verify.transfers import pack
from rtl.probes import ProbeField, probe_fields
from tests.rtl.job_model import random_attend
from tests.rtl.test_job_decoder import FAULTS as FAULTS_OF_A_JOB
from tests.rtl.test_sequencer import BOTH, RESTART
from tests.rtl.test_sequencer import FAULTS as FAULTS_OF_THE_STATE
from workloads.kernels import SoftmaxAttention

SLACK = 1.2  # a program may take so many times the simulator's cycles before it counts as hung
FIXED_SLACK_CYCLES = 200
TILED, MODES = 8, 12  # random programs of several tiles, and of the modes beside softmax
PAGE = 4096  # no AXI burst crosses it: a job that does is read in halves
ACROSS = PROGRAM_ADDRESS + PAGE - HEADER_BYTES - PROGRAM_ALIGN_BYTES  # the first job lies across
FAULT_CYCLES = 1_500
RANDOM_MEMORY_TIMES = 40
FAULTY_BASE = {"group": 1, "head": 0, "keys": 3, "queries": 3, "fused": 0, "flags": int(BOTH), "first_key": 0}
ADDRESSES = ("q_address", "k_msb_address", "k_lsb_address", "v_address", "output_address", "partial_address")


def _prefill(arch: Arch, heads: int, keys: int, dim: int, plan: Plan, layers: int = 1) -> EngineCase:
    kernel = SoftmaxAttention(heads, heads, queries=keys, keys=keys, head_dim=dim, mask="causal")
    program = Program(scaled(lower_prefill(kernel, plan, arch, layers).jobs, 2.0**-9))
    return EngineCase("part", arch, program, tensors_of(program.jobs, 1, "normal", keys))


def _joined(name: str, arch: Arch, parts: Sequence[EngineCase]) -> EngineCase:
    """One program of all, each with its own memory."""
    jobs = [part.program.jobs.copy() for part in parts]
    for i, some in enumerate(jobs):
        for field in ADDRESSES:
            some[field] += np.uint64(i << 36)
    return EngineCase(name, arch, Program(np.concatenate(jobs)), [of for part in parts for of in part.tensors])


def _prunes_from_the_list(arch: Arch) -> EngineCase:
    """A decode whose prunes of tokens all take the list: after TOKENS that is all tokens, though nothing restarts."""
    kernel = SoftmaxAttention(2, 2, queries=1, keys=12, head_dim=16, query_start=11)
    program = lower_decode(kernel, Plan(token_counts=(9, 7, 4)), arch, 3, 3, prefill=True)
    jobs = scaled(program.jobs, 2.0**-9)
    jobs["flags"][jobs["opcode"] == Opcode.PRUNE_TOKENS] &= ~int(Flag.RESTART) & 0xFF
    tensors = tensors_of(jobs, 1, "normal", 14)
    return EngineCase("prunes from the list", arch, Program(jobs), tensors)


def further_cases(arch: Arch) -> list[EngineCase]:
    """What the first campaign showed to be missing from the directed programs."""
    narrow, wide = Plan(key_msb_bits=4, value_bits=4), Plan()
    two_planes = Plan(key_msb_bits=10, key_lsb_bits=4, local_values=0.5)
    return [
        _joined("pairs, K ring wraps", arch, [_prefill(arch, 4, 24, 16, wide, 2)]),
        _joined("narrow pairs, K ring wraps", arch, [_prefill(arch, 4, 24, 8, wide, 2)]),
        _joined("narrow heads, K ring wraps", arch, [_prefill(arch, 3, 24, 8, Plan(key_msb_bits=6), 2)]),
        _joined(
            "another format for every job", arch,
            [_prefill(arch, 1, 6, 8, narrow), _prefill(arch, 2, 6, 16, wide), _prefill(arch, 1, 6, 32, two_planes),
             _prefill(arch, 2, 7, 8, two_planes), _prefill(arch, 1, 5, 24, narrow), _prefill(arch, 1, 6, 8, wide)],
        ),
        _joined("short jobs in other formats", arch,
                [_prefill(arch, 1, 1, dim, plan) for dim in (8, 16, 32) for plan in (narrow, wide, two_planes)]),
        _prunes_from_the_list(arch),
        _joined("many short jobs", arch, [_prefill(arch, 4, 1, 8, wide, 4)]),
        _sees_all_whatever_is_visible(arch),
    ]  # fmt: skip


def _sees_all_whatever_is_visible(arch: Arch) -> EngineCase:
    """Jobs without a mask whose first_visible would hide keys from one with a mask."""
    kernel = SoftmaxAttention(2, 2, queries=3, keys=9, head_dim=8, mask="none", cross=True)
    jobs = scaled(lower_prefill(kernel, Plan(), arch, 1).jobs, 2.0**-9)
    jobs["first_visible"][(jobs["opcode"] == Opcode.ATTEND) & (jobs["mode"] == Mode.SOFTMAX)] = 1
    return EngineCase("no mask", arch, Program(jobs), tensors_of(jobs, 1, "normal", 9))


class Programs:
    """All programs as the bench takes them, their files in ``folder``."""

    def __init__(self, arch: Arch, folder: Path, randoms: int, seed: int) -> None:
        self.arch, self._folder = arch, folder
        self._fields = probe_fields(EngineUnit.of(arch))
        self.entries: list[dict[str, Any]] = []
        self._predictions: dict[int, Prediction] = {}
        self._errors: dict[int, tuple[int, int]] = {}
        rng = np.random.default_rng(seed)
        directed = [*directed_cases(arch), *further_cases(arch)]
        tiled = [random_tiles(arch, seed + i) for i in range(TILED)]
        modes = [random_mode(arch, seed + i) for i in range(MODES)]
        for case in [*directed, *random_cases(arch, randoms, seed), *tiled, *modes]:
            self._case(case)
        self._case(directed[-1], address=ACROSS)
        for case in directed:
            self._case(case, cut=float(rng.random()))
        for case in directed[::2]:
            self._case(case, mode="random")
        for name, program, error, address in _faults(arch, seed):
            self._errors[len(self.entries)] = error
            self._add(name, program, Memory(), FAULT_CYCLES, "dram", 0, address)

    def _case(self, case: EngineCase, cut: float = 0.0, mode: str = "dram", address: int = PROGRAM_ADDRESS) -> None:
        timed = mode == "dram"
        prediction = predict(case)
        if not len(prediction.jobs):
            return
        self._predictions[len(self.entries)] = prediction
        cycles = int(prediction.timing.cycles)
        limit = int((SLACK if timed else RANDOM_MEMORY_TIMES) * cycles) + FIXED_SLACK_CYCLES
        name = case.name + (", after a reset" if cut else "") + ("" if timed else ", random memory")
        image = memory_image(case.arch, case.program.jobs, case.tensors)
        self._add(name, case.program.encode(), image, limit, mode, int(cut * cycles), address)
        if timed:
            entry = self.entries[-1]
            entry["transfers"] = str(self._folder / f"{len(self.entries)}.json")
            Path(entry["transfers"]).write_text(json.dumps(self._transfers(prediction)))

    def _transfers(self, prediction: Prediction) -> dict[str, list[Any]]:
        """Of each probe (cycle, words, masks): a mask is 0 where the content carries no meaning."""
        out: dict[str, list[Any]] = {}
        for name, expected in expected_transfers(prediction).items():
            fields = self._fields[name]
            out[name] = []
            for transfer in expected:
                words = [_word(field, transfer.content.get(key)) for key, field in fields.items()]
                out[name].append((transfer.cycle, [word for word, _ in words], [mask for _, mask in words]))
        return out

    def _add(
        self, name: str, program: bytes, image: Memory, cycles: int, mode: str, cut: int, address: int
    ) -> None:  # fmt: skip
        number = len(self.entries)
        image.write(address, program)
        path = self._folder / f"{number}.npz"
        image.save(path)
        self.entries.append(
            {
                "name": name, "memory": str(path), "program_address": address, "mode": mode, "seed": number,
                "max_cycles": cycles, "events": [], "timed": mode == "dram", "cut": cut, "registers": number < 4,
                "probes": {name: list(fields) for name, fields in self._fields.items()} if mode == "dram" else {},
                "transfers": "",
            }
        )  # fmt: skip

    def differing(self, records: Sequence[dict[str, Any]]) -> list[str]:
        """Where the engine as it is differs from golden and simulator; its transfers are the bench's business."""
        out = []
        for i, (entry, record) in enumerate(zip(self.entries, records, strict=True)):
            if "broken" in record:
                out.append(f"{entry['name']}: {record['broken']}")
            elif i in self._predictions:
                mode: MemoryMode = "dram" if entry["timed"] else "random"
                out += [str(one) for one in compare(self._predictions[i], self._run_of(record), mode)]
                if record["first"]:
                    out.append(f"{entry['name']}: {record['first']}")
            elif tuple(record["error"]) != self._errors[i]:
                out.append(f"{entry['name']}: error {record['error']}, expected {self._errors[i]}")
        return out

    def _run_of(self, record: dict[str, Any]) -> EngineRun:
        atom, (code, job) = self.arch.memory_spec.access_bytes, record["error"]
        writes = [Write(t, at, word.to_bytes(atom, "little"), s) for t, at, word, s in record["writes"]]
        cycles = record["counters"].get("cycles", 0)
        error = (ErrorCode(code), job)
        return EngineRun(record["finished"], cycles, error, writes, [], record["counters"], [], {}, [], [], 0.0)

    def tighten(self, records: Sequence[dict[str, Any]]) -> None:
        """After the engine as it is has run: limits for what the simulator does not time."""
        for entry, record in zip(self.entries, records, strict=True):
            limit = int(2 * SLACK * record["counters"]["cycles"]) + FIXED_SLACK_CYCLES
            entry["max_cycles"] = min(entry["max_cycles"], limit)


def _word(field: ProbeField, value: Any) -> tuple[int, int]:
    """A field as its port carries it, and the bits that carry meaning."""
    if value is None:
        return 0, 0
    lanes = len(value) if isinstance(value, list) else field.lanes
    mask = (1 << min(lanes, field.lanes) * field.bits) - 1
    return pack(value, field) & mask, mask


def _faults(arch: Arch, seed: int) -> Iterator[tuple[str, bytes, tuple[int, int], int]]:
    """(name, program, error code and job, address) of programs that the engine refuses."""
    right = Program(jobs_of([RESTART])).encode()
    for at, code in ((0, ErrorCode.MAGIC), (3, ErrorCode.MAGIC), (4, ErrorCode.VERSION), (6, ErrorCode.JOB_SIZE)):
        wrong = right[:at] + bytes([right[at] ^ 4]) + right[at + 1 :]
        yield f"refused: header, byte {at}", wrong, (int(code), 0), PROGRAM_ADDRESS
    yield "refused: address", right, (int(ErrorCode.PROGRAM_ADDRESS), 0), PROGRAM_ADDRESS + PROGRAM_ALIGN_BYTES // 2
    for name, (items, code, at) in FAULTS_OF_THE_STATE.items():
        if code == ErrorCode.FUSED and any(item["opcode"] == Opcode.PRUNE_HEADS for item in items):
            continue  # which head goes is decided by the unit test's bench there
        yield f"refused: {name}", Program(jobs_of(items)).encode(), (int(code), at), PROGRAM_ADDRESS
    rng = np.random.default_rng(seed)
    for code, change in FAULTS_OF_A_JOB:
        item = random_attend(rng, arch, **(FAULTY_BASE | change))
        yield f"refused: {change}", Program(jobs_of([RESTART, item])).encode(), (int(code), 1), PROGRAM_ADDRESS
