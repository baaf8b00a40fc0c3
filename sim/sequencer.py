"""Sequencer: reads the program ahead, dispatches its attend jobs in order, and operates on the state between them."""

from typing import NamedTuple

import numpy as np

from sim.timing import timing_kernel
from sim.work import OP_ATTEND, OP_SKIP, Record, Times, integers

STATE = integers(
    """
    next requested last_beat header_checked until operated jobs dispatched busy_cycles accumulated
    """
)


class Sequencer(NamedTuple):
    """``state``: one record, of which ``jobs`` attend jobs have been dispatched and ``dispatched`` of them can be seen
    by the units; ``ready``: cycle from which each operation, and the END behind them, can be dispatched.
    """

    state: np.ndarray
    ready: np.ndarray


def new_sequencer(ops: int) -> Sequencer:
    """Before the start."""
    return Sequencer(np.zeros(1, STATE), np.zeros(ops + 1, np.int64))


@timing_kernel
def read_program(q: Sequencer, m: Record, t: int) -> None:
    """One cycle of the program reader: the header first, then job by job, a few ahead of the dispatch."""
    s = q.state[0]
    if t == 1:
        s.last_beat = t + m.program_latency + m.header_beats - 1
        s.header_checked = s.last_beat + m.header_cycles
    if t <= 1 or t < s.header_checked or s.requested == q.ready.shape[0] or s.requested - s.next >= m.raw_jobs:
        return
    s.last_beat = max(t + m.program_latency, s.last_beat + 1) + m.job_beats - 1
    q.ready[s.requested] = s.last_beat + m.decode
    s.requested += 1


@timing_kernel
def dispatch(q: Sequencer, m: Record, ops: np.ndarray, times: Times, retired: int, written: int, t: int) -> bool:
    """One cycle; returns whether the END has been reached and nothing is under way.

    ``retired`` jobs and ``written`` rows had ended before this cycle.
    """
    s, time = q.state[0], times.row
    s.dispatched = s.jobs
    while s.accumulated < time.shape[0] and time[s.accumulated].important < t:
        s.accumulated += 1
    read_program(q, m, t)
    if t < s.until or s.next >= s.requested or q.ready[s.next] > t:
        return False
    if s.next == ops.shape[0]:
        return retired == s.jobs
    op = ops[s.next]
    if op.cycles > 0 and s.operated == 0:
        if s.accumulated < op.accumulated or written < op.written or retired < op.retired:
            return False
        s.until = t + op.cycles + 1
        s.busy_cycles += op.cycles
        s.operated = 1
        times.op[s.next, 0], times.op[s.next, 1] = t, t + op.cycles
        if op.kind == OP_ATTEND or op.kind == OP_SKIP:  # scores are halved before it
            return False
    elif op.kind == OP_ATTEND:
        if s.jobs - retired >= m.job_slots or (op.fresh and retired < s.jobs):
            return False
        times.dispatch[s.jobs] = t
        s.jobs += 1
    s.next += 1
    s.operated = 0
    return False
