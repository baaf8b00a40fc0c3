"""QKV fetcher: chooses the next fetch job and turns its keep list into addresses, one access per lane and cycle.

Jobs, by priority: LSB planes of rows that must be recomputed, V rows that local pruning selected, queries, resident
V, and K of the next head. Within a job, each key belongs to the lane that writes its bank of the K or V SRAM. A lane
works through its keys without waiting for the others; the next job is chosen when all have finished.

Space is taken when a job is chosen (lines of K and V, query slots) and given back in row order, so a fetch never waits
for its destination and the memory is never held up by the datapath.

What has arrived is passed in order, one line (query, LSB fetch) of each kind per cycle, and may then be used.
"""

from typing import NamedTuple

import numpy as np

from sim.crossbar import Crossbar
from sim.dram_state import DramState, flat_bank, map_address
from sim.timing import timing_kernel
from sim.work import Record, Times, integers

KIND_Q, KIND_K, KIND_LSB, KIND_V, KIND_V_ROW = range(5)

STATE = integers(
    """
    active kind index start base stride mask first count ids pending keys_per_line q_next q_released k_next k_used
    k_line v_next v_used v_line lsb_head lsb_tail busy_cycles k_passed v_passed q_passed lsb_passed
    """
)


class Fetcher(NamedTuple):
    """``state``: one record; ``lane_key``, ``lane_atom``: next access of each lane; ``lsb``: rows waiting for LSB
    planes.
    """

    state: np.ndarray
    lane_key: np.ndarray
    lane_atom: np.ndarray
    lsb: np.ndarray


def new_fetcher(lanes: int, rows: int) -> Fetcher:
    """Nothing fetched yet."""
    return Fetcher(
        np.zeros(1, STATE), np.zeros(lanes, np.int64), np.zeros(lanes, np.int64), np.zeros(rows + 1, np.int64)
    )


@timing_kernel
def _lowest(mask: int) -> int:
    """Number of the lowest bit set."""
    bit = 0
    while mask >> bit & 1 == 0:
        bit += 1
    return bit


@timing_kernel
def _begin(f: Fetcher, kind: int, index: int, count: int, keys_per_line: int, mask: int, start: int) -> None:
    s = f.state[0]
    s.active, s.kind, s.index, s.count, s.keys_per_line = 1, kind, index, count, keys_per_line
    s.mask, s.first, s.start = mask, _lowest(mask), start


@timing_kernel
def _deal(f: Fetcher, rotate: int, lanes: int) -> None:
    """Key j goes to lane ``(j + rotate) mod lanes``; lanes beyond ``lanes`` take none."""
    for lane in range(f.lane_key.shape[0]):
        f.lane_key[lane] = (lane - rotate) % lanes if lane < lanes else f.state[0].count
        f.lane_atom[lane] = f.state[0].first


@timing_kernel
def _deal_lines(f: Fetcher, line: int, keys_per_line: int) -> None:
    """As many lines as there is room for lie side by side in the banks; the keys begin with ring line ``line``."""
    lanes = f.lane_key.shape[0]
    _deal(f, line % max(1, lanes // keys_per_line) * keys_per_line, lanes)


@timing_kernel
def _from(f: Fetcher, base: int, stride: int, ids: int, pending: int) -> None:
    s = f.state[0]
    s.base, s.stride, s.ids, s.pending = base, stride, ids, pending


@timing_kernel
def choose_job(
    f: Fetcher, m: Record, ksets: np.ndarray, jobs: np.ndarray, rows: np.ndarray, times: Times, dispatched: int,
    written: int, t: int,
) -> None:  # fmt: skip
    """Start the most urgent job that can start. Memory has ``written`` result rows."""
    s = f.state[0]
    n_rows = rows.shape[0]
    start = t + m.job_start

    if s.lsb_head < s.lsb_tail:
        r = f.lsb[s.lsb_head]
        s.lsb_head += 1
        times.row[r].lsb_chosen = t
        job = jobs[rows[r].job]
        _begin(f, KIND_LSB, r, rows[r].keys, job.keys_per_line, (1 << job.lsb_atoms) - 1, start)
        _deal_lines(f, job.k_line, job.keys_per_line)
        _from(f, job.lsb_base, job.lsb_stride, job.ids, rows[r].lsb_pending)
        return

    while s.v_next < n_rows and jobs[rows[s.v_next].job].state_lines > 0:  # has no V
        s.v_next = jobs[rows[s.v_next].job].first_row + jobs[rows[s.v_next].job].rows
    v_resident = -1
    if s.v_next < n_rows and rows[s.v_next].job < dispatched:
        r = s.v_next
        row = rows[r]
        job = jobs[row.job]
        lines = job.v_lines if job.v_resident else row.v_lines
        if job.fresh and r == job.first_row and s.v_used == 0:
            s.v_line = 0
        if s.v_used + lines <= job.v_ring:
            if job.v_resident:
                v_resident = row.job if job.kset < s.k_next else -1
            elif times.row[r].emitted <= t:
                _begin(f, KIND_V_ROW, r, row.kept, job.values_per_line, (1 << job.v_atoms) - 1, start)
                _deal_lines(f, s.v_line, job.values_per_line)
                _from(f, job.v_base, job.v_stride, row.kept_ids, row.v_pending)
                s.v_used += lines
                s.v_line = (s.v_line + lines) % job.v_ring
                s.v_next = r + 1
                times.row[r].v_fetch = t
                return

    if s.q_next < n_rows and rows[s.q_next].job < dispatched:
        row = rows[s.q_next]
        job = jobs[row.job]
        room = m.query_slots - (s.q_next - s.q_released)
        count = min(room, m.query_lanes, job.first_row + job.rows - s.q_next)
        if job.kset < s.k_next and row.after >= 0:  # the sums that the tile before has left must be there
            while count > 0 and rows[s.q_next + count - 1].after >= written:
                count -= 1
        if count > 0 and job.kset < s.k_next:
            _begin(f, KIND_Q, s.q_next, count, 1, (1 << (row.q_atoms + row.p_atoms)) - 1, start)
            _deal(f, s.q_next, m.query_lanes)
            for r in range(s.q_next, s.q_next + count):
                times.row[r].q_chosen = t
            s.q_next += count
            return

    if v_resident >= 0:
        job = jobs[v_resident]
        _begin(f, KIND_V, v_resident, job.keys, job.values_per_line, (1 << job.v_atoms) - 1, start)
        _deal_lines(f, s.v_line, job.values_per_line)
        _from(f, job.v_base, job.v_stride, job.ids, job.v_pending)
        s.v_used += job.v_lines
        s.v_line = (s.v_line + job.v_lines) % job.v_ring
        s.v_next = job.first_row + job.rows
        times.job[v_resident, 0] = t
        return

    if s.k_next < ksets.shape[0] and ksets[s.k_next].first_job < dispatched:
        kset = ksets[s.k_next]
        if kset.fresh and s.k_used == 0:
            s.k_line = 0
        if s.k_used + kset.lines <= kset.ring:
            _begin(f, KIND_K, s.k_next, kset.keys, kset.keys_per_line, kset.mask, start)
            _deal_lines(f, s.k_line, kset.keys_per_line)
            _from(f, kset.base, kset.stride, kset.ids, kset.pending)
            times.kset[s.k_next, 0] = t
            for j in range(kset.first_job, jobs.shape[0]):
                if jobs[j].kset != s.k_next:
                    break
                jobs[j].k_line = s.k_line
            s.k_used += kset.lines
            s.k_line = (s.k_line + kset.lines) % kset.ring
            s.k_next += 1


@timing_kernel
def generate_addresses(
    f: Fetcher, x: Crossbar, dram: DramState, m: Record, rows: np.ndarray, tokens: np.ndarray, selected: np.ndarray,
    times: Times, t: int,
) -> None:  # fmt: skip
    """One cycle of all lanes: each puts its next address into its FIFO unless that is full."""
    s = f.state[0]
    if t < s.start:
        return
    s.busy_cycles += 1
    lanes, depth = x.channel.shape
    ids = selected if s.kind == KIND_V_ROW else tokens
    # Data that nobody waits for yet leaves the queues short, so that what is urgent later finds them so.
    room = min(depth, m.prefetch) if s.kind == KIND_K or s.kind == KIND_V else depth
    left = 0
    for lane in range(lanes):
        key = f.lane_key[lane]
        if key >= s.count:
            continue
        if x.waiting[lane] >= room:
            left += 1
            continue
        atom = f.lane_atom[lane]
        if s.kind == KIND_Q:
            row = rows[s.index + key]
            address = row.q_address + atom * m.atom_bytes
            if atom >= row.q_atoms:
                address = row.p_address + (atom - row.q_atoms) * m.atom_bytes
            line = row.q_pending
        else:
            address = s.base + ids[s.ids + key] * s.stride + atom * m.atom_bytes
            line = s.pending if s.kind == KIND_LSB else s.pending + key // s.keys_per_line
        channel, pseudo, group, bank, dram_row, _ = map_address(dram, address)
        slot = x.head[lane] + x.waiting[lane]
        slot -= depth if slot >= depth else 0
        x.channel[lane, slot] = channel
        x.bank[lane, slot] = flat_bank(dram, pseudo, group, bank)
        x.row[lane, slot] = dram_row
        x.pending[lane, slot] = line
        x.waiting[lane] += 1
        x.pushed[lane] = t
        x.busy[0] += 1
        rest = s.mask >> (atom + 1)
        if rest == 0:
            key += m.query_lanes if s.kind == KIND_Q else lanes
            f.lane_key[lane] = key
            f.lane_atom[lane] = s.first
        else:
            f.lane_atom[lane] = atom + 1 + _lowest(rest)
        if key < s.count:
            left += 1
    if left == 0:
        s.active = 0  # the next job is chosen in the next cycle
        if s.kind == KIND_K:
            times.kset[s.index, 1] = t
        elif s.kind == KIND_V:
            times.job[s.index, 1] = t
        elif s.kind == KIND_V_ROW:
            times.row[s.index].v_fetched = t


@timing_kernel
def pass_arrivals(f: Fetcher, work_rows: np.ndarray, first_v: int, first_q: int, ready: np.ndarray, t: int) -> None:
    """One cycle of the walkers: of each kind the oldest line, query or LSB fetch is passed once it is complete.

    The lines of ``ready`` are those of K, then those of V from ``first_v`` on, then the queries from ``first_q`` on.
    """
    s = f.state[0]
    if s.k_passed < first_v and ready[s.k_passed] <= t:
        s.k_passed += 1
    if first_v + s.v_passed < first_q and ready[first_v + s.v_passed] <= t:
        s.v_passed += 1
    if s.q_passed < work_rows.shape[0] and ready[first_q + s.q_passed] <= t:
        s.q_passed += 1
    if s.lsb_passed < s.lsb_head and ready[work_rows[f.lsb[s.lsb_passed]].lsb_pending] <= t:
        s.lsb_passed += 1
