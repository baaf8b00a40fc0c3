"""Recorded values to :class:`sim.work.Work`: addresses, lines and outstanding accesses, all at once."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.lower.layout import partial_stride_bytes
from accel.lower.partials import transit
from accel.program import FORMAT, Flag, Fused, Jobs, Mode, Side, ValueFetch, records_of
from accel.units.engine import OUTPUT_ROWS, PROGRAM_LATENCY_CYCLES, RAW_JOBS, EngineUnit
from accel.units.fetcher import (
    JOB_START_CYCLES,
    PREFETCH_DEPTH,
    FetcherUnit,
    record_bytes,
    row_stride_bytes,
    side_mask,
)
from accel.units.importance import ACCUMULATE_CYCLES
from accel.units.pv import ISSUE_CYCLES as PV_ISSUE_CYCLES
from accel.units.pv import NORMALISE_CYCLES, WRITER_CYCLES, PvUnit
from accel.units.qk import ISSUE_CYCLES as QK_ISSUE_CYCLES
from accel.units.qk import QkUnit
from accel.units.sequencer import DECODE_CYCLES, HEADER_BEATS, HEADER_CYCLES, JOB_BEATS
from accel.units.softmax import OUTPUT_BITS, STORE_CYCLES, WEIGHT_BITS, SoftmaxUnit
from accel.units.state import StateUnit
from accel.units.topk import TopKUnit
from sim.values import Recorded
from sim.work import JOB, KSET, MACHINE, OP, OP_ATTEND, ROW, Work, records

Int = NDArray[np.int64]


def machine(arch: Arch) -> NDArray:
    """The :data:`~sim.work.MACHINE` record of an architecture (array of one)."""
    spec = arch.memory_spec
    ratio = Fraction(1_000_000, arch.clock_MHz * spec.tCK_ps)  # memory clocks per engine clock
    softmax, topk = SoftmaxUnit.of(arch), TopKUnit.of(arch, WEIGHT_BITS)
    m = np.zeros(1, MACHINE)
    engine = EngineUnit(arch)
    values = {
        "lanes": arch.fetcher.lanes,
        "window": arch.fetcher.window,
        "prefetch": PREFETCH_DEPTH,
        "address_fifo": arch.fetcher.address_fifo_depth,
        "outstanding": arch.fetcher.outstanding_per_channel,
        "query_slots": arch.fetcher.query_slots,
        "query_lanes": engine.query_lanes,
        "rows_in_flight": arch.rows_in_flight,
        "job_slots": engine.job_slots,
        "channels": spec.channels,
        "atom_bytes": spec.access_bytes,
        "ticks": ratio.numerator,
        "ticks_per": ratio.denominator,
        "score_lines": arch.score_lines,
        "granules": engine.granules,
        "output_rows": OUTPUT_ROWS,
        "topk_lanes": arch.topk.lanes,
        "job_start": JOB_START_CYCLES,
        "return_cycles": FetcherUnit.of(arch).return_cycles,
        "qk_latency": QK_ISSUE_CYCLES + QkUnit.of(arch).latency_cycles,
        "exponent": softmax.exponent_cycles,
        "test": softmax.test_cycles,
        "reciprocal": softmax.reciprocal_cycles + STORE_CYCLES,
        "normalise": softmax.normalise_cycles,
        "topk_take": topk.take_cycles,
        "topk_handoff": topk.handoff_cycles,
        "topk_filter": topk.filter_cycles,
        "accumulate": ACCUMULATE_CYCLES,
        "pv_issue": PV_ISSUE_CYCLES,
        "output_cycles": NORMALISE_CYCLES + WRITER_CYCLES,
        "program_latency": PROGRAM_LATENCY_CYCLES,
        "header_beats": HEADER_BEATS,
        "header_cycles": HEADER_CYCLES,
        "job_beats": JOB_BEATS,
        "decode": DECODE_CYCLES,
        "raw_jobs": RAW_JOBS,
    }
    for name, value in values.items():
        m[name] = value
    return m


def joined(parts: list[NDArray], dtype: type = np.int64) -> NDArray:
    """Concatenation that also works for no parts."""
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)


def _per_dim(dims: Int, value: object) -> Int:
    """``value(dim)`` for each entry of ``dims``."""
    out = np.zeros_like(dims)
    for dim in np.unique(dims):
        out[dims == dim] = value(int(dim))  # type: ignore[operator]
    return out


def _strides(dims: Int, bits: Int, heads: Int, atom: int) -> Int:
    out = np.zeros_like(dims)
    keys = np.stack([dims, bits, heads], axis=1)
    for dim, width, fused in np.unique(keys, axis=0):
        at = (keys == (dim, width, fused)).all(axis=1)
        out[at] = row_stride_bytes(int(dim), int(width), atom, int(fused)) if width else 0
    return out


def _masks(jobs: Jobs, atoms: Int, heads: Int, atom: int) -> Int:
    """Accesses per token: all of a row, or those of one head of a pair that is not fetched as one."""
    out = (np.int64(1) << atoms) - 1
    alone = np.flatnonzero((heads == 1) & (jobs["side"] != Side.ALONE))
    keys = np.stack([jobs[name][alone].astype(np.int64) for name in ("head_dim", "msb_bits", "side")], axis=1)
    for dim, bits, side in np.unique(keys, axis=0):
        out[alone[(keys == (dim, bits, side)).all(axis=1)]] = side_mask(int(dim), int(bits), atom, int(side) - 1)
    return out


def accesses(masks: Int) -> Int:
    """Number of bits set."""
    return np.array([int(mask).bit_count() for mask in masks.tolist()], np.int64)


class _Pending:
    """Hands out ranges of line indices and collects how many accesses each line waits for."""

    def __init__(self) -> None:
        self.parts: list[NDArray] = []
        self.total = 0

    def take(self, keys: Int, keys_per_line: Int, atoms: Int) -> Int:
        """First index of each range: one line per ``keys_per_line`` keys, ``atoms`` accesses per key."""
        lines = -(-keys // keys_per_line)
        first = self.total + np.concatenate([[0], np.cumsum(lines)[:-1]]).astype(np.int64) if len(lines) else lines
        line = np.arange(int(lines.sum())) - np.repeat(first - self.total, lines)
        left = np.repeat(keys, lines) - line * np.repeat(keys_per_line, lines)
        self.parts.append(np.minimum(left, np.repeat(keys_per_line, lines)) * np.repeat(atoms, lines))
        self.total += int(lines.sum())
        return first


def unroll(arch: Arch, recorded: Recorded) -> Work:
    """Everything the timing kernel needs, from the jobs and the values recorded for them."""
    atom = arch.memory_spec.access_bytes
    jobs: Jobs = np.concatenate(recorded.jobs)
    dims = jobs["head_dim"].astype(np.int64)
    # Keys that no query sees are not fetched.
    last_visible = jobs["first_visible"].astype(np.int64) + jobs["queries"] - 1
    keys = np.where(jobs["flags"] & Flag.CAUSAL, np.minimum(jobs["keys"], last_visible), jobs["keys"]).astype(np.int64)
    is_state, records_each = jobs["mode"] == Mode.STATE, records_of(jobs)
    per_job = (jobs["queries"] * jobs["group"]).astype(np.int64) * records_each
    first_row = np.concatenate([[0], np.cumsum(per_job)[:-1]]).astype(np.int64)
    pending = _Pending()

    out = records(JOB, len(jobs))
    out["first_row"], out["rows"], out["head_dim"], out["keys"] = first_row, per_job, dims, keys
    out["ids"] = recorded.job_ids
    out["keys_per_line"] = _per_dim(dims, arch.keys_per_line)
    out["values_per_line"] = _per_dim(dims, arch.values_per_line)
    out["qk_fold"], out["pv_fold"] = _per_dim(dims, arch.qk_fold), _per_dim(dims, arch.pv_fold)
    out["pv_latency"] = _per_dim(dims, lambda d: PvUnit.of(arch, d).latency_cycles)
    out["drain"] = _per_dim(dims, lambda d: PvUnit.of(arch, d).drain_cycles(d))
    single = np.ones_like(dims)
    _state_lines(arch, jobs, out)
    out["v_resident"] = jobs["value_fetch"] == ValueFetch.RESIDENT
    out["v_base"], out["lsb_base"] = jobs["v_address"], jobs["k_lsb_address"]
    out["v_stride"] = _strides(dims, jobs["value_bits"].astype(np.int64), single, atom)
    out["lsb_stride"] = _strides(dims, jobs["lsb_bits"].astype(np.int64), single, atom)
    out["v_atoms"], out["lsb_atoms"] = out["v_stride"] // atom, out["lsb_stride"] // atom

    keyless = is_state | (jobs["mode"] == Mode.LINEAR)
    fetches_k = (jobs["fused"] != Fused.SECOND) & ~keyless
    out["kset"] = np.where(keyless, -1, np.cumsum(fetches_k) - 1)
    lead = np.flatnonzero(fetches_k)
    heads = np.where(jobs["fused"][lead] == Fused.FIRST, 2, 1).astype(np.int64)
    ksets = records(KSET, len(lead))
    ksets["first_job"], ksets["base"], ksets["keys"] = lead, jobs["k_msb_address"][lead], keys[lead]
    ksets["ids"], ksets["keys_per_line"] = out["ids"][lead], out["keys_per_line"][lead]
    paired = np.where((heads == 2) | (jobs["side"][lead] != Side.ALONE), 2, 1).astype(np.int64)
    ksets["stride"] = _strides(dims[lead], jobs["msb_bits"][lead].astype(np.int64), paired, atom)
    ksets["mask"] = _masks(jobs[lead], ksets["stride"] // atom, heads, atom)
    lines = -(-keys[lead] // ksets["keys_per_line"])
    ksets["lines"] = lines
    ksets["ring"] = np.where(
        heads == 2,
        _per_dim(dims[lead], lambda d: arch.k_lines(d, pair=True)),
        _per_dim(dims[lead], lambda d: arch.k_lines(d)),
    )
    out["fresh"] = _fresh(jobs)
    ksets["fresh"] = out["fresh"][lead]
    last_job, having_k = np.zeros_like(lead), np.flatnonzero(out["kset"] >= 0)
    np.maximum.at(last_job, out["kset"][having_k], having_k)
    ksets["last_row"] = first_row[last_job] + per_job[last_job] - 1
    ksets["pending"] = pending.take(ksets["keys"], ksets["keys_per_line"], accesses(ksets["mask"]))

    row_job = np.repeat(np.arange(len(jobs)), per_job)
    of = jobs[row_job]
    rank = np.arange(len(row_job)) - first_row[row_job]
    query = rank // of["group"]
    visible = np.where(of["flags"] & Flag.CAUSAL, np.minimum(keys[row_job], of["first_visible"] + query), keys[row_job])
    of_state = is_state[row_job]
    visible[of_state] = 0
    rows = records(ROW, len(row_job))
    rows["job"], rows["keys"] = row_job, visible
    rows["silent"] = (rank + 1) % records_each[row_job] != 0
    rows["lines"] = -(-visible // out["keys_per_line"][row_job])
    rows["lsb"] = joined(recorded.lsb)
    rows["kept"], rows["select"], rows["emit"] = joined(recorded.kept), joined(recorded.select), joined(recorded.emit)
    rows["pv_issues"] = joined(recorded.pv_issues)
    chosen = np.flatnonzero(out["v_resident"][row_job] == 0)
    rows["kept_ids"][chosen] = np.concatenate([[0], np.cumsum(rows["kept"][chosen])[:-1]]) if len(chosen) else 0
    by_column = (rows["select"] >= 0) & (out["v_resident"][row_job] == 1)
    columns = np.where(by_column, out["values_per_line"][row_job], 1)
    rows["granules"] = EngineUnit(arch).kept_granules(rows["kept"], rows["keys"], columns)
    _value_lines(arch, out, rows, pending)
    again = np.flatnonzero(rows["lsb"])
    lsb_accesses = visible[again] * out["lsb_atoms"][row_job[again]]

    takes, leaves, rows_before = (of_job[row_job] for of_job in transit(jobs))
    partial_stride = _per_dim(dims, lambda d: partial_stride_bytes(d, atom))[row_job]
    partial_address = of["partial_address"].astype(np.int64) + rank * partial_stride
    q_bytes = _per_dim(dims, lambda d: record_bytes(d, arch.value_bits))[row_job]
    rows["q_address"], rows["q_atoms"] = of["q_address"] + rank * of["q_stride"], -(-q_bytes // atom)
    rows["p_address"], rows["p_atoms"] = partial_address, np.where(takes, partial_stride // atom, 0)
    rows["alone"] = ((of["flags"] & Flag.FIRST_TILE) == 0) & ~takes
    # Rows go on in the order in which the tile before left them; and there is room for the sums of so many rows.
    number, leaving = np.cumsum(rows["silent"] == 0) - 1, np.flatnonzero(rows["silent"] == 0)
    before = np.maximum(number - np.minimum(rows_before, arch.fetcher.query_slots), 0)
    rows["after"] = np.where(takes, leaving[before], -1)
    rows["q_pending"] = pending.take(np.ones_like(visible), np.ones_like(visible), rows["q_atoms"] + rows["p_atoms"])
    rows["lsb_pending"][again] = pending.take(np.ones_like(again), np.ones_like(again), lsb_accesses)
    output_rank = rank // records_each[row_job]
    rows["w_address"] = np.where(leaves, partial_address, of["output_address"] + output_rank * of["output_stride"])
    output_atoms = -(-dims[row_job] * OUTPUT_BITS // 8 // atom)
    ends = ((of["flags"] & Flag.LAST_TILE) != 0) & (rows["silent"] == 0)
    rows["w_atoms"] = np.where(leaves, partial_stride // atom, np.where(ends, output_atoms, 0))

    return Work(
        ksets, out, rows, _ops(recorded, out, per_job), joined(recorded.tokens, np.int32),
        joined(recorded.selected, np.int32), joined(pending.parts, np.int32),
    )  # fmt: skip


def _state_lines(arch: Arch, jobs: Jobs, out: NDArray) -> None:
    """What tokens of states take."""
    out["records"] = records_of(jobs)
    unit = StateUnit(arch)
    for j in np.flatnonzero(jobs["mode"] == Mode.STATE):
        dim = int(jobs["head_dim"][j])
        out["state_lines"][j], out["line_cycles"][j] = unit.lines(int(jobs["keys"][j]), dim), unit.line_cycles(dim)


def _fresh(jobs: Jobs) -> NDArray[np.bool_]:
    """Jobs of another format than the one before, as :func:`rtl.job.format_layout` has it."""
    columns = [jobs[name].astype(np.int64) for name in FORMAT]
    fused = jobs["fused"] != Fused.SINGLE
    formats = np.stack([*columns, fused, fused | (jobs["side"] != Side.ALONE)], axis=1)
    return np.concatenate([[True], (np.diff(formats, axis=0) != 0).any(axis=1)])[: len(jobs)]


def _value_lines(arch: Arch, jobs: NDArray, rows: NDArray, pending: _Pending) -> None:
    """Lines of V in the order in which they are fetched: of a resident job at its first row, else row by row."""
    job = rows["job"]
    resident = jobs["v_resident"][job] == 1
    jobs["v_ring"] = _per_dim(jobs["head_dim"], arch.v_lines)
    has_v = jobs["state_lines"][job] == 0
    fetches = np.flatnonzero(has_v & (~resident | (np.arange(len(rows)) == jobs["first_row"][job])))
    of = job[fetches]
    keys = np.where(resident[fetches], jobs["keys"][of], rows["kept"][fetches])
    lines = -(-keys // jobs["values_per_line"][of])
    first = pending.take(keys, jobs["values_per_line"][of], jobs["v_atoms"][of])
    chosen = ~resident[fetches]
    rows["v_pending"][fetches[chosen]], rows["v_lines"][fetches[chosen]] = first[chosen], lines[chosen]
    jobs["v_pending"][of[~chosen]], jobs["v_lines"][of[~chosen]] = first[~chosen], lines[~chosen]
    start = first[0] if len(first) else 0
    rows["v_first"] = np.where(resident, jobs["v_pending"][job], rows["v_pending"]) - start


def _ops(recorded: Recorded, jobs: NDArray, per_job: Int) -> NDArray:
    """The program as the sequencer sees it."""
    ops = records(OP, len(recorded.ops))
    rows_before = np.concatenate([[0], np.cumsum(per_job)])
    attended = relisted = 0
    for op, entry in zip(ops, recorded.ops, strict=True):
        op["kind"], op["cycles"] = entry.kind, entry.cycles
        op["accumulated"] = rows_before[attended] if entry.accumulated else 0
        op["written"] = rows_before[attended] if entry.written else 0
        if entry.kind == OP_ATTEND:
            op["fresh"] = jobs["fresh"][attended]
            attended += 1
        if entry.relists:
            op["retired"], relisted = relisted, attended
    return ops
