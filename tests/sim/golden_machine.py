"""The golden functions strung together into a machine: what :class:`sim.values.Executor` must reproduce to the bit.

Written from the definitions and row by row; it shares no code with the executor beyond the golden functions.
"""

from dataclasses import dataclass, field

import numpy as np

from accel.arch import Arch
from accel.numerics.attention import add_importance, attend_row, values_kept
from accel.numerics.softmax import RowSum
from accel.numerics.topk import top_k
from accel.program import Flag, Jobs, Lsb, Opcode, ValueFetch
from sim.values import Executor, JobTensors

LSB = {Lsb.NEVER: "never", Lsb.TEST: "test", Lsb.ALWAYS: "always"}


@dataclass
class GoldenMachine:
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

    def run(self, jobs: Jobs, tensors: list[JobTensors]) -> list[np.ndarray]:
        waiting = iter(tensors)
        outputs = []
        for job in jobs:
            if job["opcode"] == Opcode.ATTEND:
                outputs.append(self._attend(job, next(waiting)))
            else:
                self._state(job)
        return outputs

    def _state(self, job: np.void) -> None:
        restart, count = bool(job["flags"] & Flag.RESTART), int(job["keep_values"])
        if job["opcode"] == Opcode.TOKENS:
            first = 0 if restart else self.live
            if restart:
                self.scores, self.head_scores, self.keep = {}, {}, []
                self.heads = list(range(self.arch.max_heads))
            self.live = int(job["keys"])
            self.keep += range(first, self.live)
        elif job["opcode"] == Opcode.PRUNE_TOKENS:
            among = list(range(self.live)) if restart else self.keep
            best = top_k([self.scores.get(t, 0) for t in among[:-1]], count - 1).positions
            self.keep = [among[i] for i in best] + among[-1:]
        else:
            among = list(range(self.arch.max_heads)) if restart else self.heads
            self.heads = [among[i] for i in top_k([self.head_scores.get(h, 0) for h in among], count).positions]

    def _attend(self, job: np.void, t: JobTensors) -> np.ndarray:
        flags, group, dim = int(job["flags"]), int(job["group"]), int(job["head_dim"])
        ends = bool(flags & Flag.LAST_TILE)
        if group == 1 and int(job["head"]) not in self.heads:
            return np.zeros((int(job["queries"]) if ends else 0, dim), np.int64)
        listed = self.keep if flags & Flag.KEEP_LIST else range(1 << 20)
        tokens = np.array(listed[int(job["first_key"]) : int(job["first_key"] + job["keys"])])
        out = []
        for r in range(int(job["queries"]) * group):
            query = r // group
            n = min(len(tokens), int(job["first_visible"]) + query) if flags & Flag.CAUSAL else len(tokens)
            seen = tokens[:n]
            # The query row's own address names it in every tile.
            name = (int(job["layer"]), int(job["head"]), int(job["q_address"]) + r * int(job["q_stride"]))
            before, carried = (None, None) if flags & Flag.FIRST_TILE else self.carried[name]
            row = attend_row(
                t.q[r], t.k_msb[seen], t.k_full[seen], t.v[seen],
                scale=(int(job["score_mantissa"]), int(job["score_shift"])),
                lanes=self.arch.keys_per_line(dim),
                keep_values=values_kept(n, int(job["keep_values"]), int(job["keep_ratio"])),
                lsb=LSB[Lsb(job["lsb"])], threshold=int(job["threshold"]), before=before, carried=carried,
            )  # fmt: skip
            self.lsb.append(row.lsb_pass)
            self.kept.append([int(x) for x in seen[row.kept]])
            if job["value_fetch"] == ValueFetch.SELECTED:
                self.selected += self.kept[-1]
            if flags & Flag.ACCUMULATE:
                for token, p in zip(seen, row.softmax.probabilities, strict=True):
                    self.scores[int(token)] = int(add_importance(self.scores.get(int(token), 0), p))
            if ends:
                head = int(job["head"]) * group + r % group
                self.head_scores[head] = self.head_scores.get(head, 0) + int(np.abs(row.output).sum())
                out.append(row.output)
            else:
                self.carried[name] = (row.softmax.state, row.accumulated)
        return np.array(out).reshape(-1, dim)


def assert_same(golden: GoldenMachine, executor: Executor, wanted: list[np.ndarray], found: list[np.ndarray]) -> None:
    """Everything that values leave behind is equal, bit for bit."""
    record = executor.recorded
    assert len(found) == len(wanted)
    for i, (a, b) in enumerate(zip(wanted, found, strict=True)):
        np.testing.assert_array_equal(b, a, err_msg=f"output of attend job {i}")
    assert np.concatenate(record.lsb).tolist() == golden.lsb, "second passes"
    assert np.concatenate(record.kept).tolist() == [len(k) for k in golden.kept], "V rows kept"
    assert [int(t) for part in record.selected for t in part] == golden.selected, "V rows fetched"
    assert executor.keep.tolist() == golden.keep, "keep list"
    assert executor.live_heads.tolist() == golden.heads or not golden.heads, "live heads"
    assert {i: int(s) for i, s in enumerate(executor.token_scores) if s} == {
        i: s for i, s in golden.scores.items() if s
    }
    assert {i: int(s) for i, s in enumerate(executor.head_scores) if s} == {
        i: s for i, s in golden.head_scores.items() if s
    }
