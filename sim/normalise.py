"""Second pass of the softmax: final rows leave the score buffer line by line, in row order, normalised.

Each line goes to the importance accumulators and, where local value pruning selects, to the top-k; otherwise its
weights go straight to the ring before the PV array. Space for the kept weights is taken here, in row order.
"""

import numpy as np

from sim.qk import Qk
from sim.timing import timing_kernel
from sim.work import Record, integers

STATE = integers(
    """
    next_row free granules_used busy_cycles handed read_last out_last out_last_but_one select_busy_cycles
    filter_busy_cycles selections
    """
)


def new_normalise() -> np.ndarray:
    """Nothing passed yet; one record."""
    state = np.zeros(1, STATE)
    for name in ("handed", "out_last", "out_last_but_one"):
        state[name] = -1
    state["read_last"] = -2
    return state


@timing_kernel
def second_pass(state: np.ndarray, q: Qk, m: Record, rows: np.ndarray, time: np.ndarray, t: int) -> None:
    """One cycle: start the next row if it can start. What follows inside the top-k is then fixed, since its output
    has room.

    The top-k's rules are those of :mod:`sim.topk`: two source banks, selection of one row beside the filtering of
    another.
    """
    s = state[0]
    r = s.next_row
    if r >= rows.shape[0] or t < s.free or time[r].final + m.reciprocal > t:
        return
    row = rows[r]
    if row.lines == 0:  # a token of a state
        return
    if s.granules_used + row.granules > m.granules:
        return
    stream = row.lines
    if row.select < 0 and t <= s.out_last:  # the ring has one write port: nothing of the top-k may still come
        return
    if row.select >= 0:
        stream = max(stream, (row.keys + m.topk_lanes - 1) // m.topk_lanes)
        # A source bank is free, and there is a cycle for the command between two rows' words.
        if t <= s.out_last_but_one or t <= s.read_last + 1:
            return
        s.read_last = t + stream - 1
    s.granules_used += row.granules
    s.next_row = r + 1
    s.free = t + stream
    s.busy_cycles += stream
    q.state[0].score_used -= row.lines
    end = t + stream - 1
    time[r].pass2_start = t
    time[r].pass2_end = end
    time[r].important = end + m.normalise + m.accumulate
    if row.select < 0:
        return
    loaded = end + m.normalise + 1
    take = max(loaded + m.topk_take, s.handed + 1)
    selected = take + m.topk_handoff + row.select
    handoff = max(selected, s.out_last + 1)
    last = handoff + m.topk_filter + row.emit
    s.handed = handoff
    s.out_last_but_one = s.out_last
    s.out_last = last
    s.select_busy_cycles += handoff - take + 1
    s.filter_busy_cycles += last - handoff
    s.selections += 1
    time[r].loaded = loaded
    time[r].take = take
    time[r].handoff = handoff
    time[r].emitted = last + 1
