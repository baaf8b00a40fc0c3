"""Values of a program, in order: scores, softmax, second passes, importance, kept V rows, outputs, keep lists.

The executor holds the state that survives a job (live tokens, keep list, importance, pivot generators, the sums that
a tile hands to the next) and records what the timing needs. Where the scores come from is the source's business: real
tensors, or a distribution when a trace has only counts.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.layout import partial_stride_bytes
from accel.program import Flag, Jobs, Lsb, Mode, Opcode, ValueFetch
from accel.units import implementation
from accel.units.importance import HEAD_SCORE_BITS, TOKEN_SCORE_BITS, ImportanceUnit
from accel.units.softmax import WEIGHT_BITS
from accel.units.topk import TopKUnit
from sim import modes
from sim.importance import add_head, add_tokens
from sim.local_values import column_issues, emit_cycles, joined_kept, kept_counts, mask_weights, pack_visible
from sim.products import Operands, normalise_rows
from sim.recorded import Int, JobTensors, Op, Recorded, ScoreSource
from sim.state import ResidentStates, record_tokens
from sim.tiles import Sums, TileSums
from sim.work import OP_ATTEND, OP_SKIP, OP_STATE, OP_TOKENS

__all__ = ["Executor", "JobTensors", "Recorded", "ScoreSource"]

CHUNK_ROWS = (
    384  # rows worked on at a time: their scores stay in the cache, and causal rows skip most keys they cannot see
)


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
        self.state_unit = ImportanceUnit.of(arch)
        self.token_unit = self.state_unit.topk()
        self.lfsr_local = self.lfsr_cascade = 1 + (seed - 1) % 65535
        self.token_scores = np.zeros(arch.max_context, np.int64)
        self.head_scores = np.zeros(arch.max_heads, np.int64)
        self.live_heads: Int = np.arange(arch.max_heads)
        self.live = 0
        self.keep: NDArray[np.int32] = np.zeros(0, np.int32)
        self.recorded = Recorded()
        self._dense_at = self._list_at = -1
        self._dense_len = 0
        self._tiles = TileSums()
        self.resident = ResidentStates()

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
            self.recorded.ops.append(Op(OP_STATE, self.state_unit.restart_cycles, accumulated=True, written=True))
        elif keys < self.live:
            raise UserError(f"tokens = {keys}: {self.live} are alive; only a restart makes the sequence shorter")
        else:
            self.token_scores[self.live : keys] = 0
            self._set_keep(np.arange(keys))
            self.recorded.ops.append(Op(OP_TOKENS))
        self.live = keys

    def _cascade(self, scores: Int, keep: int) -> tuple[Int, int, int]:
        """Positions kept, and what the cascade's top-k takes to select and to give them out."""
        unit = self.token_unit
        found = self.topk.select_rows(unit, scores, np.array([0, len(scores)]), np.array([keep]), self.lfsr_cascade)
        self.lfsr_cascade = found.lfsr_state
        kept = found.kept[: found.n_kept[0]]
        emit = np.zeros(1, np.int64)
        emit_cycles(kept, np.zeros(1, np.int64), found.n_kept, unit.lanes, emit)
        self.recorded.add_topk(found.events)
        return kept, int(found.select_cycles[0]), int(emit[0])

    def _prune_tokens(self, job: NDArray) -> None:
        among = np.arange(self.live) if job["flags"] & Flag.RESTART else self.keep
        keep = int(job["keep_values"])
        newest = among[-1:]  # a token is never pruned before it has been attended to
        kept, rounds, emit = self._cascade(self.token_scores[among[:-1]], keep - 1)
        self._set_keep(np.append(among[kept], newest))
        cycles = self.state_unit.prune_tokens_cycles(self.live, rounds, emit)
        self.recorded.ops.append(Op(OP_STATE, cycles, accumulated=True, relists=True))

    def _prune_heads(self, job: NDArray) -> None:
        among = np.arange(self.arch.max_heads) if job["flags"] & Flag.RESTART else self.live_heads
        kept, rounds, emit = self._cascade(self.head_scores[among], int(job["keep_values"]))
        self.live_heads = among[kept]
        self.recorded.ops.append(Op(OP_STATE, self.state_unit.prune_heads_cycles(rounds, emit), written=True))

    # ---- attend jobs ----------------------------------------------------------------------------------------------
    def _tokens(self, job: NDArray) -> tuple[NDArray[np.int32], int]:
        """Token numbers of the job's keys, and where they start in the recorded list."""
        first, end = int(job["first_key"]), int(job["first_key"]) + int(job["keys"])
        rec = self.recorded
        if job["flags"] & Flag.KEEP_LIST:
            if end > len(self.keep):
                raise UserError(f"job with keys {first} to {end - 1}: the keep list has {len(self.keep)}")
            if self._list_at < 0:
                self._list_at = rec.token_entries
                rec.tokens.append(self.keep)
                rec.token_entries += len(self.keep)
            return self.keep[first:end], self._list_at + first
        # With no live tokens the context is longer than the token state and attended to without it.
        if end > self.live and (self.live or job["flags"] & Flag.ACCUMULATE) and job["mode"] != Mode.LINEAR:
            raise UserError(f"job with keys {first} to {end - 1}: {self.live} tokens are alive")
        if end > self._dense_len:
            self._dense_at, self._dense_len = rec.token_entries, max(end, self.live)
            rec.tokens.append(np.arange(self._dense_len, dtype=np.int32))
            rec.token_entries += self._dense_len
        return np.arange(first, end, dtype=np.int32), self._dense_at + first

    def attend(self, jobs: Jobs, source: ScoreSource | None, tensors: JobTensors | None = None) -> Int | None:
        """Jobs that see the same keys: one with tensors, or several whose scores are drawn.

        Returns:
            Output rows int64 (rows, dim) with ``OUTPUT_FRACTION_BITS`` below a V word's step, none for a tile that is
            not its rows' last; None when drawn.

        Raises:
            UserError: keys that are not there, or a later tile of rows whose earlier tile was not the job before.
        """
        job = jobs[0]
        dim, group, flags = int(job["head_dim"]), int(job["group"]), int(job["flags"])
        self.resident.follow(job)
        if job["mode"] == Mode.STATE:
            record_tokens(self.recorded, self.arch, jobs)
            return None if tensors is None else self.resident.attend(jobs[0], tensors)
        tokens, at = self._tokens(job)
        per_job = (jobs["queries"].astype(np.int64) * jobs["group"]).astype(np.int64)
        in_job = np.concatenate([np.arange(n) for n in per_job])
        rows, keys = len(in_job), len(tokens)
        sees = int(job["first_visible"]) + in_job // group
        visible = np.minimum(keys, sees) if flags & Flag.CAUSAL else np.full(rows, keys, np.int64)
        self.recorded.jobs.append(jobs)
        self.recorded.job_ids.extend([at] * len(jobs))
        self.recorded.rows += rows
        states = np.repeat(jobs["partial_address"].astype(np.int64), per_job) + in_job * partial_stride_bytes(
            dim, self.arch.memory_spec.access_bytes
        )
        before = Sums.fresh(rows) if flags & Flag.FIRST_TILE else self._tiles.take(states)
        kept = kept_counts(visible, jobs, per_job)
        selecting = bool(job["value_fetch"] == ValueFetch.SELECTED) or bool((kept != visible).any())
        if tensors is not None:
            operands = Operands.of(tensors, tokens, dense=not flags & Flag.KEEP_LIST)
            # Rows in pieces; what counts rows or draws pivots goes through them in order, so the pieces leave no trace.
            pieces = [slice(a, min(a + CHUNK_ROWS, rows)) for a in range(0, rows, CHUNK_ROWS)]
            scored = (operands.scores(tensors.q[p], int(visible[p].max()), job) for p in pieces)
        elif source is not None:
            operands, pieces = None, [slice(0, rows)]
            scored = (source.scores(jobs, tokens, rows) for _ in pieces)
        else:
            raise UserError("attend: neither tensors nor a source of scores")
        accumulate = np.repeat((jobs["flags"] & Flag.ACCUMULATE) != 0, per_job)
        always, test = np.repeat(jobs["lsb"] == Lsb.ALWAYS, per_job), np.repeat(jobs["lsb"] == Lsb.TEST, per_job)
        lanes = self.arch.keys_per_line(dim)
        outputs, after = [], []
        for p, scores in zip(pieces, scored, strict=True):
            seen, sums = visible[p], before.part(p)
            if job["mode"] == Mode.SOFTMAX:
                soft = self.softmax.rows(scores, seen, lanes, sums.maximum, sums.total)
            else:
                soft = modes.rows(job, scores, seen, sees[p])
            second = always[p].copy()
            if test[p].any():
                second |= test[p] & self.softmax.is_flat(soft.largest, soft.total, int(job["threshold"]))
            if tensors is not None and operands is not None and second.any():
                again = operands.scores(tensors.q[p][second], int(seen[second].max()), job, full=True)
                redone = self.softmax.rows(again, seen[second], lanes, sums.maximum[second], sums.total[second])
                for old, new in zip(soft, redone, strict=True):
                    if new.ndim == 2:
                        old[second, : new.shape[1]] = new
                    else:
                        old[second] = new
            self.recorded.lsb.append(second)
            if (adding := accumulate[p]).any():
                self.recorded.importance_updates += int(seen[adding].sum())
                add_tokens(self.token_scores, tokens, seen[adding], soft.probabilities[adding])
            weights = self._local_values(job, seen, kept[p], soft.weights, tokens, selecting)
            if operands is None:
                after.append(Sums(soft.maximum, soft.total, None))
                continue
            summed = (weights.astype(np.float64) @ operands.v[: weights.shape[1]]).astype(np.int64)
            if sums.values is not None:
                summed += sums.values >> np.minimum(soft.maximum - sums.maximum, 62)[:, None]
            after.append(Sums(soft.maximum, soft.total, summed))
            if flags & Flag.LAST_TILE:
                outputs.append(normalise_rows(summed, soft.reciprocal, soft.shift))
        if not flags & Flag.LAST_TILE:
            self._tiles.keep(states, after)
        if operands is None:
            return None
        out = np.concatenate(outputs) if outputs else np.zeros((0, dim), np.int64)
        first_head = int(job["head"]) * group
        for member in range(group if job["mode"] != Mode.LINEAR else 0):
            add_head(self.head_scores, first_head + member, out[member::group].ravel())
        return out

    def _local_values(
        self,
        job: NDArray,
        visible: Int,
        counts: Int,
        weights: NDArray[np.int32],
        tokens: NDArray[np.int32],
        selecting: bool,
    ) -> NDArray[np.int32]:
        """Select the V rows of each row; the weights, zero where V is not used."""
        rec = self.recorded
        rec.kept.append(counts)
        rows_per_line = self.arch.values_per_line(int(job["head_dim"]))
        if not selecting:
            rec.select.append(np.full(len(visible), -1, np.int64))
            rec.emit.append(np.zeros_like(visible))
            rec.pv_issues.append(-(-visible // rows_per_line))
            return weights
        starts = np.concatenate([[0], np.cumsum(visible)])
        values = np.empty(starts[-1], np.int64)
        pack_visible(weights, visible, values, starts)
        unit = self.local_unit
        found = self.topk.select_rows(unit, values, starts, counts, self.lfsr_local)
        self.lfsr_local = found.lfsr_state
        emit = np.zeros_like(visible)
        emit_cycles(found.kept, starts, found.n_kept, unit.lanes, emit)
        rec.add_topk(found.events)
        rec.select.append(found.select_cycles)
        rec.emit.append(emit)
        if job["value_fetch"] == ValueFetch.SELECTED:
            rec.selected.append(tokens[joined_kept(found.kept, starts, counts)])
            rec.pv_issues.append(-(-counts // rows_per_line))
        else:
            issues = np.zeros_like(visible)
            column_issues(found.kept, starts, counts, rows_per_line, issues)
            rec.pv_issues.append(issues)
        return mask_weights(weights, found.kept, starts, counts)

    # ---- whole programs -------------------------------------------------------------------------------------------
    def run(
        self, jobs: Jobs, source: ScoreSource | None = None, tensors: Sequence[JobTensors] | None = None
    ) -> list[Int]:
        """Execute jobs in order; ``tensors`` has one entry per attend job, pruned heads included.

        Returns:
            Their outputs (nothing when drawn): (rows, dim) each, zeros for a pruned head, no rows for a tile that is
            not its rows' last.
        """
        outputs: list[Int] = []
        i, attended = 0, 0
        while i < len(jobs):
            op = jobs[i]["opcode"]
            if op == Opcode.ATTEND:
                end = i + 1
                if tensors is None:
                    while end < len(jobs) and _drawn_together(jobs[i:end], jobs[end]):
                        end += 1
                halving = 0
                if jobs[i]["flags"] & Flag.HALVE:
                    self.token_scores >>= 1
                    halving = self.state_unit.halve_cycles(self.live)
                alive = self._alive(jobs[i:end])
                ops = [Op(OP_ATTEND if lives else OP_SKIP) for lives in alive]
                ops[0] = ops[0]._replace(cycles=halving, accumulated=halving > 0)
                self.recorded.ops += ops
                if alive.any():
                    out = self.attend(jobs[i:end][alive], source, tensors[attended] if tensors is not None else None)
                elif tensors is not None:
                    ends = bool(jobs[i]["flags"] & Flag.LAST_TILE)
                    out = np.zeros((int(jobs[i]["queries"]) if ends else 0, int(jobs[i]["head_dim"])), np.int64)
                if tensors is not None and out is not None:
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

    def _alive(self, jobs: Jobs) -> NDArray[np.bool_]:
        """Jobs of heads that are not pruned; heads that share K and V stay together."""
        return (
            (jobs["group"] > 1)
            | np.isin(jobs["mode"], (Mode.LINEAR, Mode.STATE))
            | np.isin(jobs["head"], self.live_heads)
        )


def _drawn_together(drawn: Jobs, job: NDArray) -> bool:
    """Whether an attend job can be drawn in one go with those before it; not if it carries on rows of one of them."""
    same = (
        "opcode", "keys", "first_key", "head_dim", "value_fetch", "queries", "group", "first_visible", "threshold",
        "mode",
    )  # fmt: skip
    whole = Flag.FIRST_TILE | Flag.LAST_TILE
    alike = Flag.KEEP_LIST | Flag.CAUSAL | whole
    return (
        all(drawn[0][name] == job[name] for name in same)
        and not job["flags"] & Flag.HALVE
        and not (drawn[0]["flags"] ^ job["flags"]) & alike
        and (bool(job["flags"] & whole == whole) or job["partial_address"] not in drawn["partial_address"])
    )


assert TOKEN_SCORE_BITS <= HEAD_SCORE_BITS  # one physical engine serves both
