"""QKV fetcher: chooses the next fetch job and turns its keep list into addresses, one access per lane and cycle.

Jobs, by priority: LSB planes of rows that must be recomputed, V rows that local pruning selected, queries, resident
V, and K of the next head. Within a job, key j belongs to lane ``(j + rotate) mod lanes``: the bank of the K or V SRAM
that this lane writes. A lane works through its keys without waiting for the others; the next job starts when all have
finished.

Space is taken when a job is chosen (K and V bytes, query slots) and given back in row order, so a fetch never waits
for its destination and the memory is never held up by the datapath.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from sim.crossbar import Crossbar
from sim.dram_state import DramState, flat_bank, map_address
from sim.work import Record, Times, integers

KIND_Q, KIND_K, KIND_LSB, KIND_V, KIND_V_ROW = range(5)

STATE = integers(
    """
    active kind index start base stride mask first count ids pending keys_per_line rotate q_next q_released k_next
    k_used k_turn v_next v_used v_turn lsb_head lsb_tail busy_cycles
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


@njit(cache=True)
def _lowest(mask: int) -> int:
    """Number of the lowest bit set."""
    bit = 0
    while mask >> bit & 1 == 0:
        bit += 1
    return bit


@njit(cache=True)
def _begin(
    f: Fetcher, kind: int, index: int, count: int, keys_per_line: int, rotate: int, mask: int, start: int
) -> None:
    s = f.state[0]
    s.active, s.kind, s.index, s.count, s.keys_per_line = 1, kind, index, count, keys_per_line
    s.mask, s.first, s.start = mask, _lowest(mask), start
    lanes = f.lane_key.shape[0]
    for lane in range(lanes):
        f.lane_key[lane] = (lane - rotate) & (lanes - 1)
        f.lane_atom[lane] = s.first


@njit(cache=True)
def _from(f: Fetcher, base: int, stride: int, ids: int, pending: int) -> None:
    s = f.state[0]
    s.base, s.stride, s.ids, s.pending = base, stride, ids, pending


@njit(cache=True)
def choose_job(
    f: Fetcher, m: Record, ksets: np.ndarray, jobs: np.ndarray, rows: np.ndarray, times: Times,
    prunes_done: int, written: int, t: int,
) -> bool:  # fmt: skip
    """Start the most urgent job that can start; returns whether there was one.

    ``prunes_done`` cascade prunes and ``written`` result rows are behind us.
    """
    s = f.state[0]
    n_rows = rows.shape[0]
    start = t + m.job_start

    if s.lsb_head < s.lsb_tail:
        r = f.lsb[s.lsb_head]
        s.lsb_head += 1
        job = jobs[rows[r].job]
        _begin(f, KIND_LSB, r, rows[r].keys, job.keys_per_line, 0, (1 << job.lsb_atoms) - 1, start)
        _from(f, job.lsb_base, job.lsb_stride, job.ids, rows[r].lsb_pending)
        return True

    v_resident = -1
    if s.v_next < n_rows:
        r = s.v_next
        row = rows[r]
        job = jobs[row.job]
        if job.v_resident == 0:
            if times.row[r].emitted <= t and s.v_used + row.v_bytes <= m.v_bytes:
                s.v_used += row.v_bytes
                s.v_next = r + 1
                _begin(f, KIND_V_ROW, r, row.kept, job.values_per_line, s.v_turn, (1 << job.v_atoms) - 1, start)
                _from(f, job.v_base, job.v_stride, row.kept_ids, row.v_pending)
                s.v_turn += row.kept
                times.row[r].v_fetch = t
                return True
        elif job.kset < s.k_next and s.v_used + job.v_bytes <= m.v_bytes:
            v_resident = row.job

    if s.q_next < n_rows:
        count = 0
        atoms = rows[s.q_next].q_atoms + rows[s.q_next].p_atoms
        while s.q_next + count < n_rows and count < m.lanes:
            row = rows[s.q_next + count]
            room = s.q_next + count - s.q_released < m.query_slots
            known = jobs[row.job].kset < s.k_next and row.after < written
            if not (room and known and row.q_atoms + row.p_atoms == atoms):
                break
            count += 1
        if count > 0:
            _begin(f, KIND_Q, s.q_next, count, 1, s.q_next, (1 << atoms) - 1, start)
            s.q_next += count
            return True

    if v_resident >= 0:
        job = jobs[v_resident]
        s.v_used += job.v_bytes
        s.v_next = job.first_row + job.rows
        _begin(f, KIND_V, v_resident, job.keys, job.values_per_line, s.v_turn, (1 << job.v_atoms) - 1, start)
        _from(f, job.v_base, job.v_stride, job.ids, job.v_pending)
        s.v_turn += job.keys
        times.job[v_resident, 0] = t
        return True

    if s.k_next < ksets.shape[0]:
        k = s.k_next
        kset = ksets[k]
        if kset.prunes <= prunes_done and s.k_used + kset.bytes <= m.k_bytes:
            s.k_used += kset.bytes
            s.k_next = k + 1
            _begin(f, KIND_K, k, kset.keys, kset.keys_per_line, s.k_turn, kset.mask, start)
            _from(f, kset.base, kset.stride, kset.ids, kset.pending)
            s.k_turn += kset.keys
            times.kset[k, 0] = t
            return True
    return False


@njit(cache=True)
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
            line = s.pending + key // s.keys_per_line
        channel, pseudo, group, bank, dram_row, _ = map_address(dram, address)
        slot = (x.head[lane] + x.waiting[lane]) % depth
        x.channel[lane, slot] = channel
        x.bank[lane, slot] = flat_bank(dram, pseudo, group, bank)
        x.row[lane, slot] = dram_row
        x.pending[lane, slot] = line
        x.waiting[lane] += 1
        x.pushed[lane] = t
        x.busy[0] += 1
        rest = s.mask >> (atom + 1)
        if rest == 0:
            key += lanes
            f.lane_key[lane] = key
            f.lane_atom[lane] = s.first
        else:
            f.lane_atom[lane] = atom + 1 + _lowest(rest)
        if key < s.count:
            left += 1
    if left == 0:
        s.active = 0
        if s.kind == KIND_K:
            times.kset[s.index, 1] = t
        elif s.kind == KIND_V:
            times.job[s.index, 1] = t
        elif s.kind == KIND_V_ROW:
            times.row[s.index].v_fetched = t
