"""QK array: one line of keys against the query per cycle.

Rows are worked on in order, except that a row whose LSB planes have all arrived makes its second pass before a new row
starts. A row starts when its query and its first line are there, the score buffer has room for all its lines and
fewer than ``rows_in_flight`` rows are unfinished; then each line issues as soon as it has arrived and the array is
free.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.fetcher import Fetcher
from sim.timing import timing_kernel
from sim.work import Record, Times, integers

STATE = integers(
    """
    row second line lines free next_row score_used lsb_head msb_issues lsb_issues busy_cycles decide_head
    decide_tail issued
    """
)


class Qk(NamedTuple):
    """``state``: one record; ``decide``: rows in the order of their passes, waiting for the maximum test."""

    state: np.ndarray
    decide: np.ndarray


def new_qk(rows: int) -> Qk:
    """Idle array."""
    state = np.zeros(1, STATE)
    state["row"] = -1
    return Qk(state, np.zeros(2 * rows + 1, np.int64))


@timing_kernel
def issue(
    q: Qk, f: Fetcher, m: Record, ksets: np.ndarray, jobs: np.ndarray, rows: np.ndarray, times: Times,
    dispatched: int, finished: int, t: int,
) -> None:  # fmt: skip
    """One cycle. ``finished`` rows have left PV."""
    s, passed, time = q.state[0], f.state[0], times.row
    if t < s.free:
        return
    if s.row < 0:
        if s.lsb_head < passed.lsb_passed:
            r = f.lsb[s.lsb_head]
            s.lsb_head += 1
            s.row, s.second, s.line, s.lines = r, 1, 0, rows[r].lines
            time[r].lsb_start = t
        elif s.next_row < rows.shape[0] and rows[s.next_row].job < dispatched:
            r = s.next_row
            row = rows[r]
            if jobs[row.job].state_lines > 0 or r - finished >= m.rows_in_flight or r >= passed.q_passed:
                return
            kset = jobs[row.job].kset
            if s.score_used + row.lines > m.score_lines or (kset >= 0 and ksets[kset].pending >= passed.k_passed):
                return
            if row.alone and passed.q_released < r:  # its sums go on from those of the row before
                return
            s.score_used += row.lines
            s.next_row = r + 1
            s.row, s.second, s.line, s.lines = r, 0, 0, row.lines
            time[r].qk_start = t
        else:
            return
    job = jobs[rows[s.row].job]
    if s.second:
        s.lsb_issues += job.qk_fold
    elif job.kset < 0 or ksets[job.kset].pending + s.line < passed.k_passed:
        s.msb_issues += job.qk_fold
    else:
        return
    s.busy_cycles += job.qk_fold
    if s.issued < times.qk_line.shape[0]:
        times.qk_line[s.issued] = t
        s.issued += 1
    s.free = t + job.qk_fold
    s.line += 1
    if s.line == s.lines:
        r = s.row
        last = t + job.qk_fold - 1
        if s.second:
            time[r].lsb_end = last
        else:
            time[r].qk_end = last
        time[r].decided = last + m.qk_latency + m.exponent + m.test
        q.decide[s.decide_tail] = r
        s.decide_tail += 1
        s.row = -1


def scores(q: NDArray[np.int16], keys: NDArray[np.int16]) -> NDArray[np.int64]:
    """Full-width dot products: words (rows, dim) and (n, dim) give (rows, n).

    Computed in float64, which is exact here: 12 x 12 bit products summed over at most 256 dimensions stay below 2^31.
    """
    return (q.astype(np.float64) @ keys.astype(np.float64).T).astype(np.int64)
