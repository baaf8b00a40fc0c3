"""Progressive quantisation: decide whether a row is final or makes a second pass with its LSB plane."""

import numpy as np

from sim.fetcher import Fetcher
from sim.qk import Qk
from sim.timing import timing_kernel
from sim.work import NEVER


@timing_kernel
def decide(q: Qk, f: Fetcher, ksets: np.ndarray, jobs: np.ndarray, rows: np.ndarray, time: np.ndarray, t: int) -> None:
    """One cycle: the oldest pass whose maximum is known, and the release of the oldest row that was final before: its
    query slot and, after the last row, its K.
    """
    s, fs = q.state[0], f.state[0]
    if fs.q_released < rows.shape[0] and time[fs.q_released].final < t:
        r = fs.q_released
        fs.q_released = r + 1
        kset = jobs[rows[r].job].kset
        if kset >= 0 and ksets[kset].last_row == r:
            fs.k_used -= ksets[kset].lines
    if s.decide_head < s.decide_tail:
        r = q.decide[s.decide_head]
        if time[r].decided <= t:
            s.decide_head += 1
            if rows[r].lsb and time[r].lsb_fetch == NEVER:
                time[r].lsb_fetch = t
                f.lsb[fs.lsb_tail] = r
                fs.lsb_tail += 1
            else:
                time[r].final = t
