"""Mode ``state``: values of its tokens, the same bits as ``accel.numerics.state``; and the cycles of the state unit.

A state job has the engine to itself, as it is of a format of its own. Its tokens go one after the other: their records
come from the query buffer, then the lines of the state pass through both arrays. Rules: docs/hardware.md, *Modes*.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.arch import Arch
from accel.errors import UserError
from accel.numerics.softmax import exponent_table
from accel.program import FORMAT, Flag, Jobs, records_of
from accel.units.modes import (
    DECAY_FRACTION_BITS,
    DECAY_WORD_MANTISSA_BITS,
    DECAY_WORD_UNIT_SHIFT,
    SIGNED_WEIGHT_BITS,
    STATE_BITS,
    STATE_LOW_BITS,
    TABLE_INPUT_BITS,
)
from accel.units.softmax import SEGMENTS, TABLE_BITS
from accel.units.state import ISSUE_CYCLES as STATE_ISSUE_CYCLES
from accel.units.state import StateUnit
from sim.fetcher import Fetcher
from sim.products import normalise_rows
from sim.qk import Qk
from sim.recorded import Int, JobTensors, Recorded
from sim.timing import timing_kernel
from sim.work import Record, Times, integers

_START, _SLOPE = exponent_table()
_LOW_BITS = TABLE_INPUT_BITS - (SEGMENTS.bit_length() - 1)
_FINER = DECAY_FRACTION_BITS - TABLE_INPUT_BITS
_ONE = 1 << TABLE_INPUT_BITS
_TOP = (1 << (STATE_BITS - 1)) - 1
_TOP_WORD = (1 << (SIGNED_WEIGHT_BITS - 1)) - 1


# ---- values ----------------------------------------------------------------------------------------------------------
@njit(cache=True)
def _scaled(word: int, exponent: int) -> int:
    """word 2^-exponent, half up; the exponent has ``TABLE_INPUT_BITS`` fraction bits and is at most 1."""
    fraction = exponent & (_ONE - 1)
    segment, low = fraction >> _LOW_BITS, fraction & ((1 << _LOW_BITS) - 1)
    mantissa = _START[segment] - ((_SLOPE[segment] * low) >> _LOW_BITS)
    by = TABLE_BITS + (exponent >> TABLE_INPUT_BITS)
    return (word * mantissa + (1 << (by - 1))) >> by


@njit(cache=True)
def _tokens(
    words: NDArray, fractions: NDArray, q: NDArray, k: NDArray, v: NDArray, decays: NDArray, shift: int
) -> tuple[NDArray, int]:
    """Tokens through a state, whose ``words`` (keys, dim) and ``fractions`` (keys,) change in place.

    Returns:
        Sums int64 (tokens, dim) of the read-out after each token, and how many words were limited.
    """
    tokens, keys, dim = q.shape[0], words.shape[0], words.shape[1]
    sums, limited = np.zeros((tokens, dim), np.int64), 0
    half = (1 << shift) >> 1
    for t in range(tokens):
        for i in range(keys):
            level = fractions[i] + decays[t, i]
            whole, fraction = level >> DECAY_FRACTION_BITS, level & ((1 << DECAY_FRACTION_BITS) - 1)
            fractions[i] = fraction
            grown = _scaled(k[t, i], _ONE - (fraction >> _FINER))
            weight = _scaled(q[t, i], fraction >> _FINER)
            lost = (1 << whole) >> 1
            for j in range(dim):
                word = ((words[i, j] + lost) >> whole) + ((grown * v[t, j] + half) >> shift)
                kept = min(_TOP, max(-_TOP - 1, word))
                limited += kept != word
                words[i, j] = kept
                upper = min(_TOP_WORD, (kept + (1 << (STATE_LOW_BITS - 1))) >> STATE_LOW_BITS)
                sums[t, j] += weight * upper
    return sums, limited


def decoded(words: NDArray[np.int16]) -> Int:
    """Decay exponents of decay words."""
    wide = words.astype(np.int64)
    octave, mantissa = wide >> DECAY_WORD_MANTISSA_BITS, wide & ((1 << DECAY_WORD_MANTISSA_BITS) - 1)
    units = np.where(octave > 0, (mantissa + (1 << DECAY_WORD_MANTISSA_BITS)) << np.maximum(octave - 1, 0), mantissa)
    return units << DECAY_WORD_UNIT_SHIFT


class ResidentStates:
    """What the line memories hold of states. Jobs of another format end them."""

    def __init__(self) -> None:
        self._format: tuple[int, ...] | None = None
        self._words: Int = np.zeros((0, 0), np.int64)
        self._fractions: Int = np.zeros(0, np.int64)
        self.saturated = 0

    def follow(self, job: NDArray) -> None:
        """A job that is dispatched."""
        form = tuple(int(job[name]) for name in FORMAT)
        if form != self._format:
            self._format, self._words = form, np.zeros((0, int(job["head_dim"])), np.int64)
            self._fractions = np.zeros(0, np.int64)

    def attend(self, job: NDArray, tensors: JobTensors) -> Int:
        """Outputs int64 (tokens, dim) of a state job."""
        first, keys, dim, tokens = (int(job[name]) for name in ("first_key", "keys", "head_dim", "queries"))
        begun = len(self._words)
        if (first if job["flags"] & Flag.RESTART else first + keys) > begun:
            raise UserError(f"state job of rows {first} to {first + keys - 1}: {begun} rows of states have been begun")
        more = first + keys - begun
        if more > 0:
            self._words = np.concatenate([self._words, np.zeros((more, dim), np.int64)])
            self._fractions = np.concatenate([self._fractions, np.zeros(more, np.int64)])
        words, fractions = self._words[first : first + keys], self._fractions[first : first + keys]
        if job["flags"] & Flag.RESTART:
            words[:], fractions[:] = 0, 0
        if tensors.decays is not None and job["flags"] & Flag.DECAY_WORDS:
            decays = decoded(tensors.decays[:, :keys])
        else:
            decays = np.full((tokens, keys), int(job["decay"]), np.int64)
        q, k, v = (x.astype(np.int64) for x in (tensors.q, tensors.k_full, tensors.v))
        sums, limited = _tokens(words, fractions, q, k, v, decays, int(job["score_shift"]))
        self.saturated += int(limited)
        scale = [np.full(tokens, int(job[name]), np.int64) for name in ("output_mantissa", "output_shift")]
        return normalise_rows(sums, *scale)


def record_tokens(recorded: Recorded, arch: Arch, jobs: Jobs) -> None:
    """What timing needs of state jobs: rows are records, of which nothing is known to the units that attend."""
    each = records_of(jobs)
    of_job = jobs["queries"].astype(np.int64) * each
    rows = int(of_job.sum())
    rank = np.arange(rows) - np.repeat(np.cumsum(of_job) - of_job, of_job)
    lines = StateUnit(arch).lines(jobs["keys"].astype(np.int64), int(jobs["head_dim"][0]))
    ends = (rank + 1) % np.repeat(each, of_job) == 0
    recorded.jobs.append(jobs)
    recorded.job_ids.extend([0] * len(jobs))
    recorded.rows += rows
    recorded.lsb.append(np.zeros(rows, bool))
    recorded.select.append(np.full(rows, -1, np.int64))
    recorded.pv_issues.append(np.where(ends, np.repeat(lines, of_job), 0))
    for nothing in (recorded.kept, recorded.emit):
        nothing.append(np.zeros(rows, np.int64))


# ---- cycles ----------------------------------------------------------------------------------------------------------
STATE = integers("until loaded begun drained")
"""``until``: nothing happens before this cycle, as the running token's lines issue; ``loaded``: records of the next
token; ``begun``: tokens started; ``drained``: cycle in which a token could issue its last line, by the output scaler.
"""


def new_state() -> np.ndarray:
    """Idle; one record."""
    return np.zeros(1, STATE)


@timing_kernel
def run_tokens(
    state: np.ndarray, f: Fetcher, q: Qk, normalise: np.ndarray, pv: np.ndarray, m: Record, jobs: np.ndarray,
    rows: np.ndarray, times: Times, dispatched: int, t: int,
) -> None:  # fmt: skip
    """One cycle: takes a record of the next token or, when all have been taken, starts it."""
    s, fs, qk, out, time = state[0], f.state[0], q.state[0], pv[0], times.row
    first = qk.next_row
    if t < s.until or first >= rows.shape[0] or rows[first].job >= dispatched:
        return
    job = jobs[rows[first].job]
    if job.state_lines == 0:
        return
    if s.loaded < job.records:
        r = first + s.loaded
        if r < fs.q_passed:
            time[r].final = t - 1  # its slot is given back in this cycle
            s.loaded += 1
        return
    issue_last = t + (job.state_lines - 1) * job.line_cycles
    # The output buffer has room for the row, and the output scaler is done with the one before when its sums are there.
    if s.begun - out.states_written >= m.output_rows or issue_last < s.drained:
        return
    row = first + job.records - 1  # of the query
    time[row].pv_start = t
    time[row].pv_end = issue_last + job.pv_fold - 1
    summed = time[row].pv_end + STATE_ISSUE_CYCLES + m.pv_issue + job.pv_latency
    out.drain_free = summed + job.drain
    for r in range(first, row + 1):  # also of the rows before it, which rows behind the token look at
        time[r].drained = out.drain_free
    time[row].written = out.drain_free + m.output_cycles
    s.drained = issue_last + job.drain
    s.until = t + job.state_lines * job.line_cycles
    s.begun += 1
    s.loaded = 0
    for line in range(job.state_lines):
        if out.lines_issued < times.pv_line.shape[0]:
            times.pv_line[out.lines_issued] = t + line * job.line_cycles + STATE_ISSUE_CYCLES
            out.lines_issued += 1
    issues = job.state_lines * job.pv_fold
    qk.msb_issues += issues
    qk.busy_cycles += issues
    out.issues += issues
    out.busy_cycles += issues
    qk.next_row = row + 1
    normalise[0].next_row = row + 1
    out.next_row = row + 1
    out.finished = row + 1
