"""The memory image: what decodes from its bytes is what was put in, for every width, plane and pair."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.arch import Arch, archs, load_arch
from accel.errors import UserError
from accel.lower.image import PAGE_BYTES, Memory, memory_image, read_outputs
from accel.lower.records import unpack_lsb, unpack_pair, unpack_rows
from accel.program import Flag, Fused, Jobs, Mode, Opcode, Side, jobs_of
from accel.units.fetcher import row_stride_bytes
from sim.recorded import JobTensors
from tests.equivalence.engine_cases import directed_cases, random_case
from tests.random_tensors import tensors_of

TINY = load_arch("tiny")
ATOM = TINY.memory_spec.access_bytes


def rows_at(memory: Memory, address: int, stride: int, rows: int) -> np.ndarray:
    return np.array([list(memory.read(address + r * stride, stride)) for r in range(rows)], np.uint8)


def assert_decodes(arch: Arch, jobs: Jobs, tensors: list[JobTensors], memory: Memory) -> None:
    """Every tensor of every job, read back with the strides and records of the fetcher."""
    atom = arch.memory_spec.access_bytes
    for job, of in zip(jobs[jobs["opcode"] == Opcode.ATTEND], tensors, strict=True):
        dim, tokens = int(job["head_dim"]), len(of.v)
        msb, lsb, value = (int(job[name]) for name in ("msb_bits", "lsb_bits", "value_bits"))
        if job["mode"] == Mode.STATE:
            records = [of.k_full, of.v, *([] if of.decays is None else [of.decays]), of.q]
            found = rows_at(memory, int(job["q_address"]), int(job["q_stride"]), len(of.q) * len(records))
            for number, words in enumerate(records):
                np.testing.assert_array_equal(unpack_rows(found[number :: len(records)], dim, 12) & 4095, words & 4095)
            continue
        q = rows_at(memory, int(job["q_address"]), int(job["q_stride"]), len(of.q))
        np.testing.assert_array_equal(unpack_rows(q, dim, 12), of.q)
        v = rows_at(memory, int(job["v_address"]), row_stride_bytes(dim, value, atom), tokens)
        np.testing.assert_array_equal(unpack_rows(v, dim, value) << (12 - value), of.v)
        if job["mode"] == Mode.LINEAR:
            continue
        pair = job["fused"] != Fused.SINGLE or job["side"] != Side.ALONE
        k = rows_at(memory, int(job["k_msb_address"]), row_stride_bytes(dim, msb, atom, 2 if pair else 1), tokens)
        second = int(job["fused"] == Fused.SECOND or job["side"] == Side.SECOND)
        upper = unpack_pair(k, dim, msb)[second] if pair else unpack_rows(k, dim, msb)
        np.testing.assert_array_equal(upper << (12 - msb), of.k_msb)
        if lsb:
            k = rows_at(memory, int(job["k_lsb_address"]), row_stride_bytes(dim, lsb, atom), tokens)
            full = (upper.astype(int) << lsb) | unpack_lsb(k, dim, lsb)
            assert msb + lsb <= 12 or not (full & 3).any(), "bits below the word are 0"
            np.testing.assert_array_equal(full >> 2 if msb + lsb > 12 else full << (12 - msb - lsb), of.k_full)


@settings(max_examples=60)
@given(st.sampled_from(archs()), st.integers(0, 1 << 30))
def test_random_programs_decode(arch: str, seed: int) -> None:
    case = random_case(load_arch(arch), seed)
    jobs = case.program.jobs
    assert_decodes(case.arch, jobs, case.tensors, memory_image(case.arch, jobs, case.tensors))


def test_directed_programs_decode() -> None:
    for case in directed_cases(TINY):
        jobs = case.program.jobs
        assert_decodes(TINY, jobs, case.tensors, memory_image(TINY, jobs, case.tensors))


def job(**fields: Any) -> dict[str, Any]:
    return {
        "opcode": Opcode.ATTEND, "flags": Flag.FIRST_TILE | Flag.LAST_TILE, "msb_bits": 6, "value_bits": 12, "group": 1,
        "head_dim": 16, "queries": 2, "keys": 3, "q_stride": 64, "output_stride": 32,
        "q_address": 0, "k_msb_address": 1 << 12, "k_lsb_address": 1 << 13, "v_address": 1 << 14,
        "output_address": 1 << 15,
    } | fields  # fmt: skip


def test_a_single_head_of_a_pair_leaves_the_other_one_alone() -> None:
    jobs = jobs_of([job(side=Side.SECOND, head=1)])
    tensors = tensors_of(jobs, 1, "saturating", 3)
    memory = memory_image(TINY, jobs, tensors)
    assert_decodes(TINY, jobs, tensors, memory)
    k = rows_at(memory, 1 << 12, row_stride_bytes(16, 6, ATOM, 2), 3)
    assert not unpack_pair(k, 16, 6)[0].any()


def test_two_tensors_may_share_bytes_that_are_the_same() -> None:
    jobs = jobs_of([job(), job(q_address=1 << 20)])
    first, second = tensors_of(jobs, 1, "normal", 3)
    again = JobTensors(second.q, first.k_msb.copy(), first.k_full.copy(), first.v.copy())
    assert_decodes(TINY, jobs, [first, again], memory_image(TINY, jobs, [first, again]))
    changed = again.v.copy()
    changed[2, 15] ^= 1  # in the lowest plane's last byte
    with pytest.raises(UserError, match="attend job 1, v, row 2: byte 0x40a7 holds another value already"):
        memory_image(TINY, jobs, [first, JobTensors(again.q, again.k_msb, again.k_full, changed)])


@pytest.mark.parametrize(
    ("fields", "change", "message"),
    [
        ({}, {"q": np.zeros((3, 16), np.int16)}, "2 rows and 16 dimensions"),
        ({}, {"v": np.zeros((3, 8), np.int16)}, "2 rows and 16 dimensions"),
        ({}, {"k_msb": np.full((3, 16), 32, np.int16)}, "k_msb has words with bits below its 6"),
        ({"value_bits": 4}, {"v": np.full((3, 16), 128, np.int16)}, "v has words with bits below its 4"),
        ({"lsb_bits": 4}, {"k_full": np.full((3, 16), 2, np.int16)}, "k_full has words with bits below its 10"),
        ({"lsb_bits": 4}, {"k_full": np.full((3, 16), 64, np.int16)}, "k_msb is not the upper 6 bits of k_full"),
    ],
)
def test_tensors_that_do_not_fit_their_job_are_refused(
    fields: dict[str, int], change: dict[str, np.ndarray], message: str
) -> None:
    zeros = {name: np.zeros((2 if name == "q" else 3, 16), np.int16) for name in ("q", "k_msb", "k_full", "v")}
    jobs = jobs_of([job(**fields)])
    memory_image(TINY, jobs, [JobTensors(**zeros)])
    with pytest.raises(UserError, match=message):
        memory_image(TINY, jobs, [JobTensors(**zeros | change)])
    with pytest.raises(UserError, match="0 sets of tensors for 1 attend jobs"):
        memory_image(TINY, jobs, [])


def test_outputs_are_rows_of_16_bit_numbers() -> None:
    jobs = jobs_of([job(), job(flags=Flag.FIRST_TILE), job(output_address=1 << 16, queries=1, group=2)])
    rows = np.random.default_rng(1).integers(-(1 << 15), 1 << 15, (4, 16)).astype("<i2")
    memory = Memory()
    for i, address in enumerate([1 << 15, (1 << 15) + 32, 1 << 16, (1 << 16) + 32]):
        memory.write(address, rows[i].tobytes())
    first, none, last = read_outputs(memory, jobs)
    np.testing.assert_array_equal(first, rows[:2])
    np.testing.assert_array_equal(last, rows[2:])
    assert none.shape == (0, 16)


@given(
    st.lists(
        st.tuples(st.integers(PAGE_BYTES - 40, PAGE_BYTES + 40), st.binary(max_size=64), st.integers(0)), max_size=8
    )
)
def test_a_memory_is_an_array_of_bytes(writes: list[tuple[int, bytes, int]]) -> None:
    memory, array = Memory(), bytearray(3 * PAGE_BYTES)
    for address, data, strobes in writes:
        memory.write(address, data, strobes)
        for i, byte in enumerate(data):
            if strobes >> i & 1:
                array[address + i] = byte
    assert memory.read(0, len(array)) == array


def test_a_memory_comes_back_from_its_file(tmp_path: Path) -> None:
    memory = Memory()
    memory.write((1 << 40) + 4090, bytes(range(100)))
    memory.save(tmp_path / "memory.npz")
    again = Memory.load(tmp_path / "memory.npz")
    again.write(1 << 40, b"x")
    assert again.read((1 << 40) + 4090, 100) == bytes(range(100))
    assert memory.read(1 << 40, 1) == b"\0"
    Memory().save(tmp_path / "empty.npz")
    assert Memory.load(tmp_path / "empty.npz").read(0, 8) == bytes(8)


def test_records_of_tokens_that_are_missing() -> None:
    words = np.zeros((2, 16), np.int16)
    flags = Flag.FIRST_TILE | Flag.LAST_TILE | Flag.RESTART | Flag.DECAY_WORDS
    jobs = jobs_of([job(mode=Mode.STATE, flags=flags, keys=16)])
    memory_image(TINY, jobs, [JobTensors(words, words, words, words, words)])
    with pytest.raises(UserError, match=r"attend job 0: 4 tensors of .2, 16. are due"):
        memory_image(TINY, jobs, [JobTensors(words, words, words, words)])
