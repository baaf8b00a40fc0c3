"""The golden functions strung together into a machine: what simulator and hardware must reproduce to the bit.

Written from the definitions and row by row; it shares no code with :class:`sim.values.Executor` beyond the golden
functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.lower.image import Tensors
from accel.lower.layout import partial_stride_bytes
from accel.numerics.attention import AttendedRow, add_importance, attend_row, dot, values_kept
from accel.numerics.modes import identity_keys, lags, weighted_row
from accel.numerics.softmax import Int, RowSum, SoftmaxRow, scale_scores, softmax_row
from accel.numerics.topk import top_k
from accel.program import Flag, Jobs, Lsb, Mode, Opcode, ValueFetch, records_of
from accel.units.importance import HEAD_SCORE_BITS
from accel.verify.golden_state import ResidentRows

LSB = {Lsb.NEVER: "never", Lsb.TEST: "test", Lsb.ALWAYS: "always"}


class Pass(NamedTuple):
    """One pass of a row through the QK array: ``scores`` int64 (n,), in log2 units for a softmax, and their softmax, or
    what the row's mode has in its place.
    """

    scores: Int
    softmax: SoftmaxRow


class GoldenRow(NamedTuple):
    """One row that was worked on. ``job``: number of its attend job, pruned heads not counted; ``head``: of the query;
    ``tokens``: numbers of its keys, int64 (n,); ``at``: number of its job in the program.
    """

    job: int
    at: int
    head: int
    tokens: NDArray[np.int64]
    q: NDArray[np.int16]
    k_msb: NDArray[np.int16]
    k_full: NDArray[np.int16]
    scale: tuple[int, int]
    lanes: int
    before: RowSum | None
    result: AttendedRow
    mode: Mode

    def passes(self) -> list[Pass]:
        """The first pass and, if there is one, the second."""
        keys = [self.k_msb, self.k_full][: 1 + self.result.lsb_pass]
        scores = [scale_scores(dot(self.q, k), *self.scale) for k in keys]
        if self.mode is not Mode.SOFTMAX:
            return [Pass(scores[0], self.result.softmax)]
        return [Pass(s, softmax_row(s, self.lanes, self.before)) for s in scores]


class GoldenState(NamedTuple):
    """What is alive after a job of the program: the keep list and the heads."""

    keep: tuple[int, ...]
    heads: tuple[int, ...]


@dataclass
class GoldenMachine:
    """State that survives a job, and what every row and job left.

    Attributes:
        scores, head_scores: importance; what is not there is 0. live: tokens. keep: keep list. heads: alive.
        lsb, kept, selected: per row, whether it made a second pass, and the token numbers of the V rows it used; those
        that were fetched by row, one after the other. rows, states: per row, and per job of the program.
        worked: numbers, among all attend jobs, of those whose head was alive.
    """

    arch: Arch
    scores: dict[int, int] = field(default_factory=dict)
    head_scores: dict[int, int] = field(default_factory=dict)
    live: int = 0
    keep: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    lsb: list[bool] = field(default_factory=list)
    kept: list[list[int]] = field(default_factory=list)  # token numbers
    selected: list[int] = field(default_factory=list)
    carried: dict[tuple[int, int, int], tuple[RowSum, np.ndarray]] = field(default_factory=dict)
    rows: list[GoldenRow] = field(default_factory=list)
    states: list[GoldenState] = field(default_factory=list)
    worked: list[int] = field(default_factory=list)
    attended: int = 0
    resident: ResidentRows = field(default_factory=ResidentRows)

    def __post_init__(self) -> None:
        self.heads = list(range(self.arch.max_heads))

    def run(self, jobs: Jobs, tensors: Sequence[Tensors]) -> list[NDArray[np.int64]]:
        """Work on all jobs; ``tensors`` of each attend job.

        Returns:
            Per attend job int64 (rows, dim): zeros for a pruned head, no rows for a tile that is not its rows' last.
        """
        waiting = iter(tensors)
        outputs = []
        for at, job in enumerate(jobs):
            if job["opcode"] == Opcode.ATTEND:
                outputs.append(self._attend(at, job, next(waiting)))
                self.attended += 1
            else:
                self._state(job)
            self.states.append(GoldenState(tuple(self.keep), tuple(self.heads)))
        return outputs

    def _state(self, job: np.void) -> None:
        restart, count = bool(job["flags"] & Flag.RESTART), int(job["keep_values"])
        if job["opcode"] == Opcode.TOKENS:
            if restart:
                self.scores, self.head_scores = {}, {}
                self.heads = list(range(self.arch.max_heads))
            self.live = int(job["keys"])
            self.keep = list(range(self.live))
        elif job["opcode"] == Opcode.PRUNE_TOKENS:
            among = list(range(self.live)) if restart else self.keep
            best = top_k([self.scores.get(t, 0) for t in among[:-1]], count - 1).positions
            self.keep = [among[i] for i in best] + among[-1:]
        else:
            among = list(range(self.arch.max_heads)) if restart else self.heads
            self.heads = [among[i] for i in top_k([self.head_scores.get(h, 0) for h in among], count).positions]

    def _attend(self, at: int, job: np.void, t: Tensors) -> NDArray[np.int64]:
        flags, group, dim = int(job["flags"]), int(job["group"]), int(job["head_dim"])
        ends = bool(flags & Flag.LAST_TILE)
        if flags & Flag.HALVE:
            self.scores = {token: score >> 1 for token, score in self.scores.items()}
        mode = Mode(int(job["mode"]))
        if group == 1 and int(job["head"]) not in self.heads and mode not in (Mode.LINEAR, Mode.STATE):
            return np.zeros((int(job["queries"]) if ends else 0, dim), np.int64)
        self.worked.append(self.attended)
        self.resident.follow(job)
        if mode is Mode.STATE:
            return self._recurrent(at, job, t)
        listed = self.keep if flags & Flag.KEEP_LIST else range(1 << 20)
        tokens = np.array(listed[int(job["first_key"]) : int(job["first_key"] + job["keys"])])
        out = []
        for r in range(int(job["queries"]) * group):
            query = r // group
            n = min(len(tokens), int(job["first_visible"]) + query) if flags & Flag.CAUSAL else len(tokens)
            seen = tokens[:n]
            # The query row's own address names it in every tile; where each tile has other elements, that of its sums.
            own = int(job["q_address"]) + r * int(job["q_stride"])
            if mode is Mode.LINEAR:
                own = int(job["partial_address"]) + r * partial_stride_bytes(dim, self.arch.memory_spec.access_bytes)
            name = (int(job["layer"]), int(job["head"]), own)
            before, carried = (None, None) if flags & Flag.FIRST_TILE else self.carried[name]
            scale, lanes = (int(job["score_mantissa"]), int(job["score_shift"])), self.arch.keys_per_line(dim)
            k_msb, k_full = (identity_keys(n, dim),) * 2 if mode is Mode.LINEAR else (t.k_msb[seen], t.k_full[seen])
            if mode is Mode.SOFTMAX:
                row = attend_row(
                    t.q[r], k_msb, k_full, t.v[seen], scale=scale, lanes=lanes,
                    keep_values=values_kept(n, int(job["keep_values"]), int(job["keep_ratio"])),
                    lsb=LSB[Lsb(job["lsb"])], threshold=int(job["threshold"]), before=before, carried=carried,
                )  # fmt: skip
            else:
                decay = int(job["decay"]) if mode is Mode.DECAY else 0
                row = weighted_row(
                    t.q[r], k_msb, t.v[seen], scale=scale,
                    exponents=decay * lags(n, int(job["first_visible"]) + query),
                    output=(int(job["output_mantissa"]), int(job["output_shift"])),
                    carried=0 if carried is None else carried,
                )  # fmt: skip
            head = int(job["head"]) * group + r % group
            number = len(self.worked) - 1
            self.rows.append(GoldenRow(number, at, head, seen, t.q[r], k_msb, k_full, scale, lanes, before, row, mode))
            self.lsb.append(row.lsb_pass)
            self.kept.append([int(x) for x in seen[row.kept]])
            if job["value_fetch"] == ValueFetch.SELECTED:
                self.selected += self.kept[-1]
            if flags & Flag.ACCUMULATE:
                for token, p in zip(seen, row.softmax.probabilities, strict=True):
                    self.scores[int(token)] = int(add_importance(self.scores.get(int(token), 0), p))
            if ends:
                if mode is not Mode.LINEAR:
                    score = self.head_scores.get(head, 0) + int(np.abs(row.output).sum())
                    self.head_scores[head] = min(score, (1 << HEAD_SCORE_BITS) - 1)
                out.append(row.output)
            else:
                self.carried[name] = (row.softmax.state, row.accumulated)
        return np.array(out, np.int64).reshape(-1, dim)

    def _recurrent(self, at: int, job: np.void, t: Tensors) -> NDArray[np.int64]:
        """Tokens through a state. Each is as many rows as it has records, the last of which is the one that counts."""
        none, dim = np.zeros(0, np.int64), int(job["head_dim"])
        results = self.resident.run(job, t)
        for result in results:
            row = GoldenRow(
                len(self.worked) - 1, at, int(job["head"]), none, t.q[0], t.q[:0], t.q[:0], (0, 0), 1, None, result,
                Mode.STATE,
            )  # fmt: skip
            for _ in range(records_of(job)):
                self.rows.append(row)
                self.lsb.append(False)
                self.kept.append([])
        return np.array([result.output for result in results], np.int64).reshape(-1, dim)
