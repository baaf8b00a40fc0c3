"""The program's encoding, and what a machine refuses to execute."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.arch import load_arch
from accel.errors import UserError
from accel.program import HEADER_BYTES, JOB, Flag, Lsb, Opcode, Program, jobs_of

GOOD = {
    "opcode": Opcode.ATTEND, "flags": Flag.FIRST_TILE | Flag.LAST_TILE, "msb_bits": 8, "lsb_bits": 4, "value_bits": 8,
    "group": 1, "head_dim": 64, "queries": 4, "keys": 4, "keep_ratio": 1 << 16,
}  # fmt: skip
SPATTEN = load_arch("spatten")


@given(st.binary(min_size=0, max_size=5 * JOB.itemsize))
def test_decoding_undoes_encoding(data: bytes) -> None:
    whole = data[: len(data) // JOB.itemsize * JOB.itemsize]
    program = Program(np.frombuffer(whole, JOB).copy())
    encoded = program.encode()
    assert len(encoded) == HEADER_BYTES + (len(program.jobs) + 1) * JOB.itemsize
    assert Program.decode(encoded).jobs.tobytes() == whole
    assert Program.decode(encoded).encode() == encoded


def test_the_bytes_of_a_job_are_these() -> None:
    """The hardware reads these offsets, so they may not move."""
    offsets = {name: JOB.fields[name][1] for name in JOB.names}  # type: ignore[index, union-attr]
    assert JOB.itemsize == 128
    assert {n: offsets[n] for n in ("opcode", "flags", "fused", "layer", "queries", "keys", "keep_values")} == {
        "opcode": 0, "flags": 1, "fused": 7, "layer": 8, "queries": 16, "keys": 20, "keep_values": 32,
    }  # fmt: skip
    assert {n: offsets[n] for n in ("score_mantissa", "q_address", "partial_address", "q_stride", "iteration")} == {
        "score_mantissa": 44, "q_address": 48, "partial_address": 88, "q_stride": 96, "iteration": 104,
    }  # fmt: skip
    encoded = Program(jobs_of([GOOD | {"keys": 0x01020304}])).encode()
    assert encoded[:4] == b"SPAT"
    assert encoded[4:8] == b"\x01\x00\x80\x00"
    assert encoded[8:12] == b"\x01\x00\x00\x00"
    assert encoded[HEADER_BYTES + 20 : HEADER_BYTES + 24] == b"\x04\x03\x02\x01"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header"),
        (b"ELF\x00" + bytes(60), "header"),
        (Program(jobs_of([GOOD])).encode()[:-1], "take"),
        (Program(jobs_of([GOOD])).encode() + b"\x00", "take"),
        (b"SPAT\x02\x00" + bytes(58), "version 2"),
        (Program(jobs_of([GOOD])).encode()[:-128] + b"\x01" + bytes(127), "END"),
    ],
)
def test_bytes_that_are_no_program_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Program.decode(data)


def test_a_good_job_passes() -> None:
    Program(jobs_of([{"opcode": Opcode.TOKENS, "keys": 4}, GOOD])).check(SPATTEN)
    Program(jobs_of([])).check(SPATTEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"opcode": 9}, "opcode = 9"),
        ({"head_dim": 256}, "at most 128"),
        ({"head_dim": 60}, "multiple of 8"),
        ({"head_dim": 0}, "multiple of 8"),
        ({"keys": 0}, "at least 1"),
        ({"queries": 0}, "at least 1"),
        ({"keys": 1025}, "a tile holds at most 1024"),
        ({"head": 64}, "at most 64 heads"),
        ({"head": 20, "group": 4}, "at most 64 heads"),
        ({"msb_bits": 12}, r"12\+4"),
        ({"msb_bits": 7}, r"7\+4"),
        ({"lsb": Lsb.TEST, "lsb_bits": 0}, "needs an LSB plane"),
        ({"value_bits": 5}, "value_bits = 5"),
        ({"opcode": Opcode.TOKENS, "keys": 2000}, "at most 1024"),
    ],
)
def test_a_job_the_machine_cannot_execute_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Program(jobs_of([GOOD, GOOD | change])).check(SPATTEN)
    assert "\n" not in str(error.value)
    if "bits" not in change and "planes" not in str(error.value):
        assert "job 1" in str(error.value)
