"""The program's encoding, and what a machine refuses to execute."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.arch import load_arch
from accel.errors import UserError
from accel.program import HEADER_BYTES, JOB, Flag, Fused, Lsb, Mode, Opcode, Program, ValueFetch, jobs_of

GOOD = {
    "opcode": Opcode.ATTEND, "flags": Flag.FIRST_TILE | Flag.LAST_TILE, "msb_bits": 8, "lsb_bits": 4, "value_bits": 8,
    "group": 1, "head_dim": 64, "queries": 4, "keys": 4, "keep_ratio": 1 << 16,
}  # fmt: skip
SPATTEN = load_arch("spatten")
BOTH = Flag.FIRST_TILE | Flag.LAST_TILE
DECAY = GOOD | {"mode": Mode.DECAY, "flags": BOTH | Flag.CAUSAL, "first_visible": 1}
STATE = GOOD | {"mode": Mode.STATE, "flags": BOTH | Flag.RESTART, "group": 1, "keys": 64}
LINEAR = GOOD | {"mode": Mode.LINEAR}


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
    assert {n: offsets[n] for n in ("side", "mode", "output_shift", "output_mantissa", "decay", "reserved")} == {
        "side": 108, "mode": 109, "output_shift": 110, "output_mantissa": 112, "decay": 116, "reserved": 120,
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


@pytest.mark.parametrize("good", [DECAY, LINEAR, STATE], ids=["decay", "linear", "state"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lsb": Lsb.TEST}, "makes one pass"),
        ({"flags": BOTH | Flag.CAUSAL | Flag.ACCUMULATE}, "no probabilities"),
        ({"value_fetch": ValueFetch.SELECTED}, "uses all values"),
        ({"keep_values": 3}, "keep_values = 3: .* uses all values"),
        ({"keep_ratio": 65535}, "keep_ratio = 65535: .* uses all values"),
        ({"output_mantissa": 1 << 17}, "output_mantissa = 131072: at most 131071"),
        ({"output_shift": 44}, "output_shift = 44: at most 43"),
    ],
)
def test_what_no_mode_beside_softmax_can_do(good: dict, change: dict, message: str) -> None:
    Program(jobs_of([good | {"keep_values": 64}])).check(SPATTEN)
    with pytest.raises(UserError, match=message):
        Program(jobs_of([good | change])).check(SPATTEN)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (GOOD | {"mode": 4}, "mode = 4: must be 0 to 3"),
        (DECAY | {"flags": BOTH}, "decay is causal"),
        (DECAY | {"decay": 1 << 24}, "decay = 16777216: at most 16777215"),
        (DECAY | {"first_visible": 65534}, "lags are at most 65535"),
        (LINEAR | {"flags": BOTH | Flag.CAUSAL, "first_visible": 4}, "no mask"),
        (LINEAR | {"flags": BOTH | Flag.KEEP_LIST}, "no keep list"),
        (LINEAR | {"fused": Fused.FIRST}, "no keys to fuse"),
        (LINEAR | {"keys": 65}, "at most head_dim"),
        (STATE | {"keys": 72}, "at most head_dim"),
        (STATE | {"keys": 12}, "keys = 12: must be a multiple of 8"),
        (STATE | {"first_key": 4}, "first_key = 4: must be a multiple of 8"),
        (STATE | {"flags": BOTH | Flag.CAUSAL, "first_visible": 4}, "state has no mask"),
        (STATE | {"flags": Flag.FIRST_TILE}, "state has no tiles"),
        (STATE | {"group": 2}, "group = 2: 1 in mode state"),
        (STATE | {"side": 1}, "state has no pairs"),
        (STATE | {"queries": 1 << 22}, "fewer than 2\\^22 tokens"),
        (STATE | {"score_shift": 16}, "score_shift = 16: at most 15"),
        (STATE | {"decay": 1 << 24}, "decay = 16777216: at most 16777215"),
        (STATE | {"flags": BOTH}, "first_key = 0: no job of this format just before has begun this state"),
        (STATE | {"first_key": 8}, "first_key = 8: no job of this format just before has begun this state"),
        (STATE | {"first_key": 1024, "keys": 32}, "states of 64 columns have 1024 rows in all"),
    ],
)
def test_what_one_mode_cannot_do(job: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Program(jobs_of([job])).check(SPATTEN)
