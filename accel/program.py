"""Program: the work order that golden, simulator and hardware execute; one binary encoding for all of them.

A program is a header of 64 bytes and a list of jobs of 128 bytes, little endian, version 1. It lies in memory; the
engine reads jobs in order. A job either attends (one K/V head, one or more query rows) or changes what is alive
(tokens, heads). Fields that an opcode does not use are zero.

What is alive: ``TOKENS`` makes tokens 0 ... keys-1 live and the keep list all of them (so the cascade starts anew
with every generated token); scores of tokens that were there stay, unless ``RESTART``. ``TOKENS`` with RESTART and no
keys keeps no token state at all: contexts beyond ``max_context`` run so. An attend job of a head that has been pruned
is skipped, unless query heads share its K and V.

Rows of an attend job are numbered ``query * group + member``: the query heads that share one K/V head follow each
other. Row r lies at ``q_address + r * q_stride``. Keys are positions ``first_key ... first_key + keys - 1`` of the
keep list (or, without ``KEEP_LIST``, token numbers). With ``CAUSAL`` query i sees the first ``first_visible + i`` of
them.

``mode`` says what becomes of the scores. ``DECAY``: key j of query i is ``first_visible + i - 1 - j`` positions back,
its lag (also in a tile that the query sees as a whole: first_visible then goes beyond it). ``LINEAR``: key j is 2^10 in
dimension j and 0 in all others; none is fetched, and with ``first_key`` V rows alone are meant. In both weights are
signed, and outputs are scaled by ``output_mantissa`` and ``output_shift``; all tiles of a row have the same mode.

``STATE``: queries are tokens that go through a recurrent state of ``keys`` rows by ``head_dim`` columns on chip, from
row ``first_key`` of the line memories on; with ``RESTART`` it is zero before the first of them, otherwise jobs of the
same format just before have left it there. A token's records follow each other at ``q_stride``: k, v, with
``DECAY_WORDS`` the decay words of the state's rows, and q. Without them all rows decay by ``decay``. ``score_shift`` is
the product shift; outputs, one row per token, are read after the token's update and scaled as above.
"""

import enum
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.errors import UserError
from accel.numerics.quantise import check_planes
from accel.units.engine import ROWS_BITS
from accel.units.modes import DECAY_BITS, MAX_LAG, MAX_OUTPUT_SHIFT, MAX_STATE_SHIFT, OUTPUT_SCALE_BITS
from accel.units.state import RECORDS, RECORDS_WITH_DECAYS, ROW_STEP, StateUnit

VERSION = 1
MAGIC = b"SPAT"
HEADER_BYTES = 64
_HEADER = struct.Struct("<4sHHI52x")


class Opcode(enum.IntEnum):
    """What a job does."""

    END = 0  # stop and raise the interrupt
    ATTEND = 1  # rows of one K/V head
    TOKENS = (
        2  # live tokens become 0 ... keys-1; new ones have importance 0; with RESTART all scores and the list reset
    )
    PRUNE_TOKENS = 3  # keep list := the keep_values most important; with RESTART of all live tokens, else of the list
    PRUNE_HEADS = 4  # live heads := the keep_values most important; with RESTART of all heads, else of the live ones


class Lsb(enum.IntEnum):
    """When a row makes a second pass with the LSB plane."""

    NEVER = 0
    TEST = 1  # when its largest probability is below the threshold
    ALWAYS = 2


class ValueFetch(enum.IntEnum):
    """Which V rows are read from memory."""

    RESIDENT = 0  # all of the job's keys, once, shared by its rows
    SELECTED = 1  # per row, those that local value pruning kept


class Fused(enum.IntEnum):
    """Two heads stored side by side are fetched together when a row alone would waste part of every access."""

    SINGLE = 0
    FIRST = 1  # fetch K for this job and the next
    SECOND = 2  # K came with the job before


class Side(enum.IntEnum):
    """Where a head's K rows lie: alone, or as the first or second head of a pair side by side."""

    ALONE = 0
    FIRST = 1
    SECOND = 2


class Mode(enum.IntEnum):
    """What an attend job's scores become; see docs/modes.md."""

    SOFTMAX = 0
    DECAY = 1  # scores times 2^-(lag * decay): retention
    LINEAR = 2  # no keys: the queries' words themselves, so outputs are q V
    STATE = 3  # S = 2^-decay S + k v^T, o = q S: retention, gated linear attention, token by token


class Flag(enum.IntFlag):
    """Modifiers of an attend job (RESTART: of the token jobs, and of mode STATE)."""

    NONE = 0
    CAUSAL = 1
    ACCUMULATE = 2  # add the rows' probabilities to the token scores
    KEEP_LIST = 4  # keys are positions in the keep list
    HALVE = 8  # halve all token scores before this job (the published trace's rescale flag; the paper gives no rule)
    FIRST_TILE = 16  # start the rows' sums; else carry on from partial_address
    LAST_TILE = 32  # normalise and write outputs; else write partial sums
    RESTART = 64
    DECAY_WORDS = 128  # mode STATE: every token brings its rows' decays


JOB = np.dtype(
    [
        ("opcode", "u1"), ("flags", "u1"), ("lsb", "u1"), ("value_fetch", "u1"),
        ("msb_bits", "u1"), ("lsb_bits", "u1"), ("value_bits", "u1"), ("fused", "u1"),
        ("layer", "<u2"), ("head", "<u2"), ("group", "<u2"), ("head_dim", "<u2"),
        ("queries", "<u4"), ("keys", "<u4"), ("first_key", "<u4"), ("first_visible", "<u4"),
        ("keep_values", "<u4"), ("keep_ratio", "<u4"), ("threshold", "<u4"),
        ("score_mantissa", "<u2"), ("score_shift", "<u2"),
        ("q_address", "<u8"), ("k_msb_address", "<u8"), ("k_lsb_address", "<u8"), ("v_address", "<u8"),
        ("output_address", "<u8"), ("partial_address", "<u8"),
        ("q_stride", "<u4"), ("output_stride", "<u4"),
        ("iteration", "<u4"), ("side", "u1"), ("mode", "u1"), ("output_shift", "u1"), ("padding", "V1"),
        ("output_mantissa", "<u4"), ("decay", "<u4"), ("reserved", "V8"),
    ]
)  # fmt: skip
assert JOB.itemsize == 128
Jobs = NDArray[Any]  # of dtype JOB


#: Jobs that differ in these never run at the same time (``rtl.job.format_layout``; pairs are a matter of it too).
FORMAT = ("head_dim", "msb_bits", "lsb_bits", "value_bits", "mode")


@dataclass(frozen=True)
class Program:
    """``jobs``: array of dtype :data:`JOB`, not counting the END that the encoding appends."""

    jobs: Jobs

    def encode(self) -> bytes:
        """The bytes that the engine reads: header, jobs, END."""
        end = np.zeros(1, JOB)
        return _HEADER.pack(MAGIC, VERSION, JOB.itemsize, len(self.jobs)) + self.jobs.tobytes() + end.tobytes()

    @staticmethod
    def decode(data: bytes) -> "Program":
        """Inverse of :meth:`encode`.

        Raises:
            UserError: not a program, another version, or cut off.
        """
        if len(data) < HEADER_BYTES or data[:4] != MAGIC:
            raise UserError("program: does not start with a program header")
        _, version, size, count = _HEADER.unpack(data[:HEADER_BYTES])
        if (version, size) != (VERSION, JOB.itemsize):
            raise UserError(f"program: version {version} with {size}-byte jobs; this engine reads version {VERSION}")
        if len(data) != HEADER_BYTES + (count + 1) * size:
            raise UserError(
                f"program: {len(data)} bytes, but {count} jobs and an END take {HEADER_BYTES + (count + 1) * size}"
            )
        jobs = np.frombuffer(data, JOB, count + 1, HEADER_BYTES)
        if jobs["opcode"][-1] != Opcode.END:
            raise UserError("program: the job after the last is not END")
        return Program(jobs[:-1].copy())

    def check(self, arch: Arch) -> None:
        """Refuse what this machine cannot execute.

        Raises:
            UserError: naming the job, the field, its value and what would be right.
        """
        jobs = self.jobs
        attend = jobs["opcode"] == Opcode.ATTEND

        def refuse(bad: NDArray[np.bool_], field: str, right: str) -> None:
            if bad.any():
                at = int(np.flatnonzero(bad)[0])
                raise UserError(f"job {at}: {field} = {jobs[field][at]}: {right} on {arch.name}")

        refuse(jobs["opcode"] > max(Opcode), "opcode", f"must be 0 to {int(max(Opcode))}")
        refuse(attend & (jobs["head_dim"] > arch.max_head_dim), "head_dim", f"at most {arch.max_head_dim}")
        refuse(attend & ((jobs["head_dim"] < 8) | (jobs["head_dim"] % 8 != 0)), "head_dim", "must be a multiple of 8")
        refuse(attend & (jobs["keys"] == 0), "keys", "must be at least 1")
        refuse(
            (jobs["opcode"] == Opcode.TOKENS) & (jobs["keys"] > arch.max_context), "keys", f"at most {arch.max_context}"
        )
        refuse(attend & (jobs["queries"] == 0), "queries", "must be at least 1")
        refuse(
            attend & ((jobs["head"] + 1) * jobs["group"] > arch.max_heads), "head", f"at most {arch.max_heads} heads"
        )
        prune = (jobs["opcode"] == Opcode.PRUNE_TOKENS) | (jobs["opcode"] == Opcode.PRUNE_HEADS)
        refuse(prune & (jobs["keep_values"] == 0), "keep_values", "a prune keeps at least 1")
        refuse(jobs["side"] > Side.SECOND, "side", f"at most {int(Side.SECOND)}")
        for dim in np.unique(jobs["head_dim"][attend]):
            tile = arch.tile_keys(int(dim))
            refuse(attend & (jobs["head_dim"] == dim) & (jobs["keys"] > tile), "keys", f"a tile holds at most {tile}")
        for msb, lsb in sorted({(int(j["msb_bits"]), int(j["lsb_bits"])) for j in jobs[attend]}):
            check_planes(msb, lsb)
        refuse(attend & (jobs["lsb"] != Lsb.NEVER) & (jobs["lsb_bits"] == 0), "lsb", "a second pass needs an LSB plane")
        refuse(attend & ~np.isin(jobs["value_bits"], (4, 6, 8, 10, 12)), "value_bits", "must be 4, 6, 8, 10 or 12")
        refuse(attend & (jobs["mode"] > max(Mode)), "mode", f"must be 0 to {int(max(Mode))}")
        for mode in (Mode.DECAY, Mode.LINEAR, Mode.STATE):
            _refuse_mode(jobs, attend & (jobs["mode"] == mode), mode, refuse)
        _refuse_state(arch, jobs, attend & (jobs["mode"] == Mode.STATE), refuse)


Refuse = Callable[[NDArray[np.bool_], str, str], None]


def _refuse_mode(jobs: Jobs, of: NDArray[np.bool_], mode: Mode, refuse: Refuse) -> None:
    """What a mode beside softmax cannot do; ``of``: its jobs."""
    name = mode.name.lower()
    last_visible = jobs["first_visible"].astype(np.int64) + jobs["queries"] - 1
    causal = (jobs["flags"] & Flag.CAUSAL) != 0
    visible = np.where(causal, np.minimum(jobs["keys"], last_visible), jobs["keys"])
    counted = jobs["keep_values"] != 0
    drops = np.where(counted, jobs["keep_values"] < visible, (visible > 1) & (jobs["keep_ratio"] < 1 << 16))
    refuse(of & (jobs["lsb"] != Lsb.NEVER), "lsb", f"{name} makes one pass")
    refuse(of & ((jobs["flags"] & Flag.ACCUMULATE) != 0), "flags", f"{name} has no probabilities to accumulate")
    refuse(of & (jobs["value_fetch"] != ValueFetch.RESIDENT), "value_fetch", f"{name} uses all values")
    refuse(of & drops & counted, "keep_values", f"{name} uses all values")
    refuse(of & drops & ~counted, "keep_ratio", f"{name} uses all values")
    most = (1 << OUTPUT_SCALE_BITS) - 1
    refuse(of & (jobs["output_mantissa"] > most), "output_mantissa", f"at most {most}")
    refuse(of & (jobs["output_shift"] > MAX_OUTPUT_SHIFT), "output_shift", f"at most {MAX_OUTPUT_SHIFT}")
    if mode is Mode.DECAY:
        refuse(of & ~causal, "flags", "decay is causal")
        refuse(of & (jobs["decay"] >> DECAY_BITS != 0), "decay", f"at most {(1 << DECAY_BITS) - 1}")
        refuse(of & (last_visible > MAX_LAG + 1), "first_visible", f"lags are at most {MAX_LAG}")
    else:
        listed = Flag.CAUSAL | Flag.KEEP_LIST
        refuse(of & ((jobs["flags"] & listed) != 0), "flags", f"{name} has no mask and no keep list")
        refuse(of & (jobs["fused"] != Fused.SINGLE), "fused", f"{name} has no keys to fuse")
        refuse(of & (jobs["keys"] > jobs["head_dim"]), "keys", f"{name} takes at most head_dim elements")


def _refuse_state(arch: Arch, jobs: Jobs, of: NDArray[np.bool_], refuse: Refuse) -> None:
    """What mode STATE cannot do beyond that; ``of``: its jobs."""
    if not of.any():
        return
    unit = StateUnit.of(arch)
    whole = Flag.FIRST_TILE | Flag.LAST_TILE
    refuse(of & ((jobs["flags"] & whole) != whole), "flags", "state has no tiles: FIRST_TILE and LAST_TILE")
    refuse(of & (jobs["group"] != 1), "group", "1 in mode state")
    refuse(of & (jobs["side"] != Side.ALONE), "side", "state has no pairs")
    refuse(of & (jobs["queries"] >= (1 << ROWS_BITS) // RECORDS_WITH_DECAYS), "queries", "fewer than 2^22 tokens")
    for name in ("keys", "first_key"):
        refuse(of & (jobs[name] % ROW_STEP != 0), name, f"must be a multiple of {ROW_STEP} in mode state")
    refuse(of & (jobs["score_shift"] > MAX_STATE_SHIFT), "score_shift", f"at most {MAX_STATE_SHIFT} in mode state")
    refuse(of & (jobs["decay"] >> DECAY_BITS != 0), "decay", f"at most {(1 << DECAY_BITS) - 1}")
    for dim in np.unique(jobs["head_dim"][of]):
        rows = unit.rows(int(dim))
        beyond = of & (jobs["head_dim"] == dim) & (jobs["first_key"].astype(np.int64) + jobs["keys"] > rows)
        refuse(beyond, "first_key", f"states of {dim} columns have {rows} rows in all")
    not_begun, begun, before = np.zeros(len(jobs), bool), 0, None
    for at in np.flatnonzero(jobs["opcode"] == Opcode.ATTEND).tolist():
        form = tuple(int(jobs[name][at]) for name in FORMAT)
        begun, before = (begun if form == before else 0), form
        if of[at]:
            first, end = int(jobs["first_key"][at]), int(jobs["first_key"][at]) + int(jobs["keys"][at])
            not_begun[at] = (first if jobs["flags"][at] & Flag.RESTART else end) > begun
            begun = max(begun, end)
    refuse(not_begun, "first_key", "no job of this format just before has begun this state, or the one below it")


def records_of(jobs: Any) -> Any:
    """Query records of each query of attend jobs, or of one: int64. More than one are the records of a token."""
    words = (jobs["flags"] & Flag.DECAY_WORDS) != 0
    return np.where(jobs["mode"] == Mode.STATE, np.where(words, RECORDS_WITH_DECAYS, RECORDS), 1).astype(np.int64)[()]


def jobs_of(items: Iterable[dict[str, Any]]) -> Jobs:
    """An array of jobs from dictionaries of fields; fields left out are zero."""
    rows: Sequence[dict[str, Any]] = list(items)
    jobs = np.zeros(len(rows), JOB)
    for name in {key for row in rows for key in row}:
        jobs[name] = [row.get(name, 0) for row in rows]
    return jobs
