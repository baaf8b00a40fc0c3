"""Values of a program, in order: scores, softmax, second passes, importance, kept V rows, outputs, keep lists.

The executor holds the state that survives a job (live tokens, keep list, importance, pivot generators) and records what the
timing needs. Where the scores come from is the source's business: real tensors, or a distribution when a trace has only
counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.arch import Arch
from accel.errors import UserError
from accel.numerics.attention import normalise_output, values_kept
from accel.numerics.softmax import scale_scores
from accel.program import Flag, Jobs, Lsb, Opcode, ValueFetch
from accel.units import implementation
from accel.units.importance import HEAD_SCORE_BITS, TOKEN_SCORE_BITS, ImportanceUnit
from accel.units.topk import TopKUnit
from accel.units.softmax import WEIGHT_BITS
from sim.importance import add_head, add_tokens
from sim.qk import scores as dot_products

Int = NDArray[np.int64]


@dataclass(frozen=True)
class JobTensors:
    """12-bit words (int16) of one attend job: ``q`` (rows, dim); ``k_msb``, ``k_full``, ``v`` (live tokens, dim)."""

    q: NDArray[np.int16]
    k_msb: NDArray[np.int16]
    k_full: NDArray[np.int16]
    v: NDArray[np.int16]


class ScoreSource(Protocol):
    """Draws log2-unit scores for rows whose tensors are not known."""

    def scores(self, jobs: Jobs, tokens: NDArray[np.int32], rows: int) -> Int:
        """int64 (rows, len(tokens)) for the rows of ``jobs``, which all see these tokens."""
        ...


@dataclass
class Recorded:
    """What the timing needs to know of the values, in row, job and prune order (lists of arrays, joined at the end)."""

    lsb: list[NDArray] = field(default_factory=list)
    kept: list[NDArray] = field(default_factory=list)
    selected: list[NDArray] = field(default_factory=list)
    select: list[NDArray] = field(default_factory=list)
    emit: list[NDArray] = field(default_factory=list)
    pv_issues: list[NDArray] = field(default_factory=list)
    tokens: list[NDArray] = field(default_factory=list)
    job_ids: list[int] = field(default_factory=list)
    jobs: list[NDArray] = field(default_factory=list)
    prunes: list[tuple[int, int, int]] = field(default_factory=list)
    rows: int = 0
    token_entries: int = 0
    local_elements: int = 0
    prune_elements: int = 0
    importance_updates: int = 0


@njit(cache=True)
def _pack_visible(weights: NDArray, visible: NDArray, values: NDArray, starts: NDArray) -> None:
    for r in range(visible.shape[0]):
        for j in range(visible[r]):
            values[starts[r] + j] = weights[r, j]


@njit(cache=True)
def _emit_cycles(kept: NDArray, starts: NDArray, counts: NDArray, lanes: int, emit: NDArray) -> None:
    """Cycles from the first source word filtered to the last output word: the word that completes it, or one more."""
    for r in range(counts.shape[0]):
        n = counts[r]
        words = (n + lanes - 1) // lanes
        before = 0
        for w in range(words):
            by = kept[starts[r] + min((w + 1) * lanes, n) - 1] // lanes
            emit[r] += by if w == 0 else max(1, by - before)
            before = by


@njit(cache=True)
def _column_issues(kept: NDArray, starts: NDArray, counts: NDArray, columns: int, fold: int, issues: NDArray) -> None:
    fill = np.zeros(columns, np.int64)
    for r in range(counts.shape[0]):
        fill[:] = 0
        for i in range(counts[r]):
            fill[kept[starts[r] + i] % columns] += 1
        issues[r] = fill.max()


@njit(cache=True)
def _mask_weights(weights: NDArray, kept: NDArray, starts: NDArray, counts: NDArray) -> NDArray:
    masked = np.zeros_like(weights)
    for r in range(counts.shape[0]):
        for i in range(counts[r]):
            j = kept[starts[r] + i]
            masked[r, j] = weights[r, j]
    return masked


class Executor:
    """Executes jobs for their values.

    Args:
        arch: the machine.
        seed: start of the two pivot generators (both engines have their own), 1 to 65535.
    """

    def __init__(self, arch: Arch, seed: int = 1) -> None:
        self.arch = arch
        self.softmax = implementation("sim.softmax", arch.softmax.unit)
        self.topk = implementation("sim.topk", arch.topk.unit)
        self.local_unit = TopKUnit.of(arch, WEIGHT_BITS)
        self.token_unit = TopKUnit.of(arch, HEAD_SCORE_BITS)
        self.lfsr_local = self.lfsr_cascade = 1 + (seed - 1) % 65535
        self.token_scores = np.zeros(arch.max_context, np.int64)
        self.head_scores = np.zeros(arch.max_heads, np.int64)
        self.live_heads = np.arange(arch.max_heads)
        self.live = 0
        self.keep = np.zeros(0, np.int32)
        self.recorded = Recorded()
        self._dense_at = self._list_at = -1

    # ---- state jobs -----------------------------------------------------------------------------------------------
    def _set_keep(self, keep: NDArray) -> None:
        self.keep = keep.astype(np.int32)
        self._list_at = -1

    def _set_tokens(self, job: NDArray) -> None:
        keys = int(job["keys"])
        if job["flags"] & Flag.RESTART:
            self.token_scores[:] = 0
            self.head_scores[:] = 0
            self.live_heads = np.arange(self.arch.max_heads)
            self._set_keep(np.arange(keys))
        elif keys < self.live:
            raise UserError(f"tokens = {keys}: {self.live} are alive; only a restart makes the sequence shorter")
        else:
            self.token_scores[self.live : keys] = 0
            self._set_keep(np.append(self.keep, np.arange(self.live, keys, dtype=np.int32)))
        self.live = keys

    def _cascade(self, scores: Int, keep: int) -> tuple[Int, int]:
        """Positions kept and the cycles the shared top-k engine takes, from its first input word."""
        unit = self.token_unit
        found = self.topk.select_rows(
            scores, np.array([0, len(scores)]), np.array([keep]), unit.lanes, self.lfsr_cascade
        )
        self.lfsr_cascade = found.lfsr_state
        kept = found.kept[: found.n_kept[0]]
        emit = np.zeros(1, np.int64)
        _emit_cycles(kept, np.zeros(1, np.int64), found.n_kept, unit.lanes, emit)
        rounds = int(found.round_words[0] + found.rounds[0] * unit.round_overhead_cycles)
        fixed = unit.command_cycles + unit.take_cycles + unit.handoff_cycles + unit.filter_cycles
        self.recorded.prune_elements += int(found.round_words[0]) * unit.lanes + len(scores)
        return kept, unit.words(len(scores)) + rounds + fixed + int(emit[0])

    def _prune_tokens(self, job: NDArray) -> None:
        among = np.arange(self.live) if job["flags"] & Flag.RESTART else self.keep
        keep = int(job["keep_values"])
        newest = among[-1:]  # a token is never pruned before it has been attended to
        kept, cycles = self._cascade(self.token_scores[among[:-1]], keep - 1)
        self._set_keep(np.append(among[kept], newest))
        writeback = ImportanceUnit.of(self.arch).writeback_cycles(self.live)
        self.recorded.prunes.append((self.recorded.rows, 0, cycles + writeback))

    def _prune_heads(self, job: NDArray) -> None:
        kept, cycles = self._cascade(self.head_scores[self.live_heads], int(job["keep_values"]))
        self.live_heads = self.live_heads[kept]
        self.recorded.prunes.append((self.recorded.rows, 1, cycles))

    # ---- attend jobs ----------------------------------------------------------------------------------------------
    def _tokens(self, job: NDArray) -> tuple[NDArray[np.int32], int]:
        """Token numbers of the job's keys, and where they start in the recorded list."""
        first, keys = int(job["first_key"]), int(job["keys"])
        listed = bool(job["flags"] & Flag.KEEP_LIST)
        tokens = self.keep if listed else np.arange(self.live, dtype=np.int32)
        if first + keys > len(tokens):
            kind = "keep list" if listed else "live tokens"
            raise UserError(f"job with keys {first} to {first + keys - 1}: the {kind} has {len(tokens)}")
        at = self._list_at if listed else self._dense_at
        if at < 0 or (not listed and self.recorded.token_entries and at >= 0 and self._dense_len < len(tokens)):
            at = self.recorded.token_entries
            self.recorded.tokens.append(tokens)
            self.recorded.token_entries += len(tokens)
            if listed:
                self._list_at = at
            else:
                self._dense_at, self._dense_len = at, len(tokens)
        return tokens[first : first + keys], at + first

    def attend(self, jobs: Jobs, source: ScoreSource | None, tensors: JobTensors | None = None) -> Int | None:
        """Jobs that see the same keys: one with tensors, or several whose scores are drawn.

        Returns:
            Output rows int64 (rows, dim) with ``OUTPUT_FRACTION_BITS`` below a V word's step; None when drawn.
        """
        job = jobs[0]
        dim = int(job["head_dim"])
        lanes = self.arch.keys_per_line(dim)
        tokens, at = self._tokens(job)
        per_job = (jobs["queries"] * jobs["group"]).astype(np.int64)
        in_job = np.concatenate([np.arange(n) for n in per_job])
        keys = len(tokens)
        visible = np.full(len(in_job), keys, np.int64)
        if job["flags"] & Flag.CAUSAL:
            visible = np.minimum(keys, int(job["first_visible"]) + in_job // int(job["group"]))
        if job["flags"] & Flag.HALVE:
            self.token_scores >>= 1
        scale = int(job["score_mantissa"]), int(job["score_shift"])
        if tensors is not None:
            scores = scale_scores(dot_products(tensors.q, tensors.k_msb[tokens]), *scale)
        elif source is not None:
            scores = source.scores(jobs, tokens, len(in_job))
        else:
            raise UserError("attend: neither tensors nor a source of scores")
        soft = self.softmax.rows(scores, visible, lanes, *self.softmax.fresh(len(in_job)))
        second = np.repeat(jobs["lsb"] == Lsb.ALWAYS, per_job)
        if (test := np.repeat(jobs["lsb"] == Lsb.TEST, per_job)).any():
            second |= test & self.softmax.is_flat(soft.largest, soft.total, int(job["threshold"]))
        if tensors is not None and second.any():
            again = scale_scores(dot_products(tensors.q[second], tensors.k_full[tokens]), *scale)
            redone = self.softmax.rows(again, visible[second], lanes, *self.softmax.fresh(int(second.sum())))
            for old, new in zip(soft, redone, strict=True):
                old[second] = new
        accumulate = np.repeat((jobs["flags"] & Flag.ACCUMULATE) != 0, per_job)
        if accumulate.any():
            add_tokens(self.token_scores, tokens, visible[accumulate], soft.probabilities[accumulate])
            self.recorded.importance_updates += int(visible[accumulate].sum())
        self._record_jobs(jobs, at, per_job)
        kept, starts, counts = self._local_values(jobs, per_job, visible, soft.weights, tokens)
        self.recorded.lsb.append(second)
        if tensors is None:
            return None
        weights = soft.weights if kept is None else _mask_weights(soft.weights, kept, starts, counts)
        summed = (weights.astype(np.float64) @ tensors.v[tokens].astype(np.float64)).astype(np.int64)
        outputs = _normalise_rows(summed, soft.reciprocal, soft.shift)
        first_head = int(job["head"]) * int(job["group"])
        for member in range(int(job["group"])):
            add_head(self.head_scores, first_head + member, outputs[member :: int(job["group"])].ravel())
        return outputs

    def _record_jobs(self, jobs: Jobs, at: int, per_job: Int) -> None:
        rec = self.recorded
        rec.jobs.append(jobs)
        rec.job_ids.extend([at] * len(jobs))
        rec.rows += int(per_job.sum())

    def _local_values(
        self, jobs: Jobs, per_job: Int, visible: Int, weights: NDArray[np.int32], tokens: NDArray[np.int32]
    ) -> tuple[Int | None, Int, Int]:
        """Select the V rows of each row; kept positions (all rows, joined), their starts and counts. None: all kept."""
        job, rec = jobs[0], self.recorded
        counts = np.concatenate(
            [_kept(v, j) for v, j in zip(np.split(visible, np.cumsum(per_job)[:-1]), jobs, strict=True)]
        )
        chosen = bool(job["value_fetch"] == ValueFetch.SELECTED)
        rows_per_line = self.arch.values_per_line(int(job["head_dim"]))
        if not chosen and (counts == visible).all():
            nothing = np.full(len(visible), -1, np.int64)
            rec.kept.append(counts)
            rec.select.append(nothing)
            rec.emit.append(np.zeros_like(visible))
            rec.pv_issues.append(-(-visible // rows_per_line))
            return None, visible, counts
        starts = np.concatenate([[0], np.cumsum(visible)])
        values = np.empty(starts[-1], np.int64)
        _pack_visible(weights, visible, values, starts)
        unit = self.local_unit
        found = self.topk.select_rows(values, starts, counts, unit.lanes, self.lfsr_local)
        self.lfsr_local = found.lfsr_state
        emit = np.zeros_like(visible)
        _emit_cycles(found.kept, starts, found.n_kept, unit.lanes, emit)
        rec.local_elements += int(found.round_words.sum()) * unit.lanes + int(starts[-1])
        rec.kept.append(counts)
        rec.select.append(found.round_words + found.rounds * unit.round_overhead_cycles)
        rec.emit.append(emit)
        if chosen:
            rec.selected.append(tokens[_join(found.kept, starts, counts)])
            rec.pv_issues.append(-(-counts // rows_per_line))
        else:
            issues = np.zeros_like(visible)
            _column_issues(found.kept, starts, counts, rows_per_line, 1, issues)
            rec.pv_issues.append(issues)
        return found.kept, starts, counts

    # ---- whole programs -------------------------------------------------------------------------------------------
    def run(self, jobs: Jobs, source: ScoreSource | None = None, tensors: Sequence[JobTensors] | None = None) -> list[Int]:
        """Execute jobs in order; ``tensors`` has one entry per attend job. Returns their outputs (none when drawn)."""
        outputs: list[Int] = []
        i, attended = 0, 0
        while i < len(jobs):
            op = jobs[i]["opcode"]
            if op == Opcode.ATTEND:
                end = i + 1
                if tensors is None:
                    while end < len(jobs) and _same_keys(jobs[i], jobs[end]):
                        end += 1
                out = self.attend(jobs[i:end], source, tensors[attended] if tensors is not None else None)
                if out is not None:
                    outputs.append(out)
                attended += end - i
                i = end
                continue
            if op == Opcode.TOKENS:
                self._set_tokens(jobs[i])
            elif op == Opcode.PRUNE_TOKENS:
                self._prune_tokens(jobs[i])
            elif op == Opcode.PRUNE_HEADS:
                self._prune_heads(jobs[i])
            i += 1
        return outputs


def _same_keys(a: NDArray, b: NDArray) -> bool:
    """Whether two attend jobs can be drawn in one go."""
    same = ("opcode", "keys", "first_key", "head_dim", "value_fetch", "queries", "group", "first_visible", "threshold")
    return all(a[name] == b[name] for name in same) and not b["flags"] & Flag.HALVE


def _kept(visible: Int, job: NDArray) -> Int:
    count, ratio = int(job["keep_values"]), int(job["keep_ratio"])
    if len(visible) == 1:
        return np.array([values_kept(int(visible[0]), count, ratio)], np.int64)
    wanted = np.full_like(visible, count) if count else (visible * ratio) >> 16
    return np.minimum(visible, np.maximum(1, wanted))


def _join(kept: Int, starts: Int, counts: Int) -> Int:
    """The kept positions of all rows, without the gaps."""
    total = int(counts.sum())
    shift = np.repeat(starts[:-1] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    return kept[np.arange(total) + shift]


def _normalise_rows(summed: Int, reciprocal: Int, shift: Int) -> Int:
    outputs = np.empty_like(summed)
    for by in np.unique(shift):
        at = shift == by
        outputs[at] = normalise_output(summed[at], reciprocal[at][:, None], int(by))
    return outputs


assert TOKEN_SCORE_BITS <= HEAD_SCORE_BITS  # one physical engine serves both
