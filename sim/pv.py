"""PV array: one line of V rows, weighted and summed into the output row, per cycle; then the output scaler and the
writer.

Rows are worked on in order, at most ``output_rows`` of them between their first line and their last write. Selected V
arrives compacted, so a row of k rows takes ceil(k / rows per line) issues. With
resident V each of the line's columns reads its own kept rows, and the fullest column sets the number of issues.
"""

import numpy as np
from numpy.typing import NDArray

from sim.crossbar import Crossbar
from sim.dram import can_accept_write, enqueue, next_event
from sim.dram_state import WRITE, DramState, flat_bank, map_address
from sim.fetcher import Fetcher
from sim.timing import timing_kernel
from sim.work import Record, Times, integers

STATE = integers(
    """
    line free next_row finished drain_free issues busy_cycles write_row write_atom reported_rows retiring retired
    lines_issued accesses_written states_written
    """
)


def new_pv() -> np.ndarray:
    """Idle array; one record."""
    return np.zeros(1, STATE)


@timing_kernel
def issue(
    state: np.ndarray, f: Fetcher, normalise: np.ndarray, m: Record, jobs: np.ndarray, rows: np.ndarray,
    times: Times, t: int,
) -> None:  # fmt: skip
    """One cycle of the array."""
    s, time = state[0], times.row
    r = s.next_row
    if t < s.free or r >= rows.shape[0]:
        return
    row = rows[r]
    job = jobs[row.job]
    if job.state_lines > 0:
        return
    if s.line == 0:
        if r - s.write_row >= m.output_rows:
            return
        # Two sets of accumulators: this row's first sum reaches the one that row r - 2 has left.
        if r >= 2 and time[r - 2].drained > t + m.pv_issue + job.pv_latency:
            return
        time[r].pv_start = t
    v_line = row.v_first + s.line
    if row.select >= 0:
        if time[r].emitted > t:
            return
        if job.v_resident:  # lines of its keys come in any order
            v_line = row.v_first + (row.keys + job.values_per_line - 1) // job.values_per_line - 1
    else:
        last_key = min(row.keys, (s.line + 1) * job.values_per_line) - 1
        if time[r].pass2_start + m.normalise + last_key // job.keys_per_line + 1 > t:
            return
    if v_line >= f.state[0].v_passed:
        return
    if s.lines_issued < times.pv_line.shape[0]:
        times.pv_line[s.lines_issued] = t
        s.lines_issued += 1
    s.issues += job.pv_fold
    s.busy_cycles += job.pv_fold
    s.free = t + job.pv_fold
    s.line += 1
    if s.line == row.pv_issues:
        end = t + job.pv_fold - 1
        summed = end + m.pv_issue + job.pv_latency
        time[r].pv_end = end
        s.drain_free = max(summed, s.drain_free) + job.drain
        time[r].drained = s.drain_free
        time[r].written = s.drain_free + m.output_cycles
        s.line = 0
        s.next_row = s.finished = r + 1
        normalise[0].granules_used -= row.granules
        if job.v_resident == 0:
            f.state[0].v_used -= row.v_lines
        elif r == job.first_row + job.rows - 1:
            f.state[0].v_used -= job.v_lines


@timing_kernel
def write_outputs(
    state: np.ndarray, x: Crossbar, dram: DramState, m: Record, jobs: np.ndarray, rows: np.ndarray, times: Times,
    t: int, tick: int,
) -> None:  # fmt: skip
    """One cycle of the result writer: one access per cycle to the channel it belongs to."""
    s = state[0]
    s.reported_rows, s.retired = s.write_row, s.retiring
    time = times.row
    while s.write_row < s.finished and rows[s.write_row].silent:
        s.write_row += 1
    r = s.write_row
    if r >= s.finished or time[r].written > t:
        return
    row = rows[r]
    if row.w_atoms > 0:
        channel, pseudo, group, bank, dram_row, _ = map_address(dram, row.w_address + s.write_atom * m.atom_bytes)
        if not can_accept_write(dram, channel):
            return
        enqueue(dram, channel, flat_bank(dram, pseudo, group, bank), dram_row, WRITE, tick)
        x.wake[channel] = min(x.wake[channel], next_event(dram, channel, tick))
        s.write_atom += 1
        if s.accesses_written < times.write.shape[0]:
            times.write[s.accesses_written] = t
            s.accesses_written += 1
    if s.write_atom == row.w_atoms:
        s.write_atom = 0
        s.write_row = r + 1
        time[r].stored = t
        job = jobs[row.job]
        if job.state_lines > 0:
            s.states_written += 1
        if r == job.first_row + job.rows - 1:
            s.retiring = row.job + 1


def fullest_column(kept: NDArray[np.int64], columns: int) -> int:
    """Issues that a row with resident V takes: the largest number of kept positions in one column of the SRAM line."""
    return int(np.bincount(kept % columns, minlength=columns).max())
