"""What passes each boundary inside the engine, and when: values by the golden machine, cycles by the simulator.

Names and fields are those of ``rtl.probes``, and ``read_taken``, ``read_given`` for the memory's read ports.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.program import Flag, Mode, Opcode
from accel.units.pv import ISSUE_CYCLES, NORMALISE_CYCLES
from accel.units.sequencer import StateOperation
from accel.units.softmax import STORE_CYCLES, WEIGHT_BITS
from accel.verify.compare import Prediction
from accel.verify.golden import Pass
from sim.fetcher import KIND_K, KIND_LSB, KIND_Q, KIND_V
from sim.unroll import machine
from sim.work import NEVER, OP_ATTEND, OP_SKIP

Content = dict[str, Any]  # field -> number, or numbers of the first lanes


class Transfer(NamedTuple):
    """``content`` has only the fields that are predicted."""

    cycle: int
    content: Content


def expected_transfers(prediction: Prediction) -> dict[str, list[Transfer]]:
    """All transfers of every boundary, in order of cycle; ``prediction`` with its lines recorded."""
    boundaries = _Boundaries(prediction)
    found: dict[str, Callable[[], Iterable[tuple[int, Content]]]] = {
        "dispatch": boundaries.dispatch,
        "operation": boundaries.operation,
        "operation_done": boundaries.operation_done,
        "fetch": boundaries.fetch,
        **{f"{kind}_arrived": partial(boundaries.arrived, kind) for kind in ("k", "v", "query", "lsb")},
        "row_start": boundaries.row_start,
        "scores": boundaries.scores,
        "decision": boundaries.decision,
        "release": boundaries.release,
        "reciprocal": boundaries.reciprocal,
        "second_pass": boundaries.second_pass,
        "weight_line": boundaries.weight_line,
        "emitted": boundaries.emitted,
        "accumulated": boundaries.accumulated,
        "pv_line": boundaries.pv_line,
        "row_finished": boundaries.row_finished,
        "output": boundaries.output,
        "head_magnitude": boundaries.head_magnitude,
        "row_written": boundaries.row_written,
    }
    return {
        name: sorted((Transfer(int(t), content) for t, content in transfers()), key=lambda transfer: transfer.cycle)
        for name, transfers in found.items()
    }


Transfers = Iterator[tuple[int, Content]]


class _Boundaries:
    """One method per boundary; each yields (cycle, content), in any order."""

    def __init__(self, p: Prediction) -> None:
        self.p, self.arch = p, p.case.arch
        self.rows, self.jobs, self.ksets = p.work.rows, p.work.jobs, p.work.ksets
        self.times, self.time, self.golden = p.timing.times, p.timing.times.row, p.golden.rows
        self.m = machine(self.arch)[0]
        self.attending = np.flatnonzero(self.jobs["state_lines"][self.rows["job"]] == 0)  # rows that are no tokens
        self.written = np.flatnonzero(self.rows["silent"] == 0)  # rows of outputs
        self._passes: dict[int, list[Pass]] = {}

    def _passes_of(self, row: int) -> list[Pass]:
        if row not in self._passes:
            self._passes[row] = self.golden[row].passes()
        return self._passes[row]

    def _job(self, row: int) -> Any:
        return self.jobs[self.rows["job"][row]]

    def _source(self, row: int) -> Any:
        """The row's job as it is in the program."""
        return self.p.jobs[self.rows["job"][row]]

    # ---- sequencer ------------------------------------------------------------------------------------------------
    def dispatch(self) -> Transfers:
        for t, job, unrolled in zip(self.times.dispatch, self.p.jobs, self.jobs, strict=True):
            keys, rows = int(unrolled["keys"]), int(unrolled["rows"] // unrolled["records"])  # keys that any query sees
            yield t, {"keys": keys, "head": int(job["head"]), "q_address": int(job["q_address"]), "rows": rows}

    def _operations(self) -> Iterator[tuple[int, Any, StateOperation]]:
        """(number of the program's job, the job, what it does to the state)."""
        for i, op in enumerate(self.p.work.ops):
            job = self.p.case.program.jobs[i]
            if not op["cycles"]:
                continue
            if op["kind"] in (OP_ATTEND, OP_SKIP):
                yield i, job, StateOperation.HALVE
            elif job["opcode"] == Opcode.TOKENS:
                yield i, job, StateOperation.RESTART
            elif job["opcode"] == Opcode.PRUNE_TOKENS:
                yield i, job, StateOperation.PRUNE_TOKENS
            else:
                yield i, job, StateOperation.PRUNE_HEADS

    def operation(self) -> Transfers:
        prunes = (StateOperation.PRUNE_TOKENS, StateOperation.PRUNE_HEADS)
        for i, job, what in self._operations():
            keep = {"keep": int(job["keep_values"])} if what in prunes else {}
            live = {"live": int(job["keys"])} if what is StateOperation.RESTART else {}
            yield self.times.op[i, 0], {"op": int(what), **keep, **live}

    def operation_done(self) -> Transfers:
        for i, _, what in self._operations():
            state = self.p.golden.states[i]
            content: Content = {"live_heads": sum(1 << head for head in state.heads)}
            if what is StateOperation.PRUNE_TOKENS:
                content["list_length"] = len(state.keep)
            yield self.times.op[i, 1], content

    # ---- fetcher --------------------------------------------------------------------------------------------------
    def fetch(self) -> Transfers:
        for (t, _), kset in zip(self.times.kset, self.ksets, strict=True):
            yield t, {"kind": KIND_K, "count": int(kset["keys"]), "base": int(kset["base"])}
        for (t, _), job in zip(self.times.job, self.jobs, strict=True):
            if t < NEVER:
                yield t, {"kind": KIND_V, "count": int(job["keys"]), "base": int(job["v_base"])}
        for r, row in enumerate(self.rows):
            job, time = self._job(r), self.time[r]
            if time["v_fetch"] < NEVER:
                yield time["v_fetch"], {"kind": KIND_V, "count": int(row["kept"]), "base": int(job["v_base"])}
            if time["lsb_chosen"] < NEVER:
                yield time["lsb_chosen"], {"kind": KIND_LSB, "count": int(row["keys"]), "base": int(job["lsb_base"])}
        chosen, first, count = np.unique(self.time["q_chosen"], return_index=True, return_counts=True)
        for t, r, n in zip(chosen, first, count, strict=True):
            yield t, {"kind": KIND_Q, "count": int(n), "base": int(self.rows["q_address"][r])}

    def arrived(self, kind: str) -> Transfers:
        """One entry per cycle, in order, each when it is complete."""
        first_v = self.p.work.first_value_line
        first_q = int(self.rows["q_pending"][0]) if len(self.rows) else 0
        ready = self.times.ready
        if kind == "lsb":
            again = np.flatnonzero(self.rows["lsb"])
            order = again[np.argsort(self.time["lsb_fetch"][again], kind="stable")]
            entries = ready[self.rows["lsb_pending"][order]]
        else:
            end_q = first_q + len(self.rows)
            entries = {"k": ready[:first_v], "v": ready[first_v:first_q], "query": ready[first_q:end_q]}[kind]
        for t in _one_per_cycle(entries):
            yield t, {}

    # ---- QK and softmax -------------------------------------------------------------------------------------------
    def _in_order_of_passes(self) -> list[tuple[int, int, int]]:
        """(cycle of its first line, row, 0 or 1 for the second) of each pass."""
        first = [(int(self.time["qk_start"][r]), r, 0) for r in self.attending]
        second = [(int(t), r, 1) for r, t in enumerate(self.time["lsb_start"]) if t < NEVER]
        return sorted(first + second)

    def row_start(self) -> Transfers:
        number = np.searchsorted(self.attending, np.arange(len(self.rows)))
        for t, r, second in self._in_order_of_passes():
            row = self.rows[r]
            content = {name: int(row[name]) for name in ("keys", "lines", "kept")}
            selecting = int(row["select"] >= 0)
            yield (
                t,
                {**content, "second": second, "row": int(number[r]) % self.arch.rows_in_flight, "selecting": selecting},
            )

    def scores(self) -> Transfers:
        issued = iter(self.times.qk_line.tolist())
        for _, r, second in self._in_order_of_passes():
            values, lanes = self._passes_of(r)[second].scores, self.golden[r].lanes
            late = int(self._job(r)["qk_fold"]) - 1 + int(self.m["qk_latency"])
            for first in range(0, len(values), lanes):
                line = values[first : first + lanes]
                content = {"scores": line.tolist(), "count": len(line), "last": int(first + lanes >= len(values))}
                yield next(issued) + late, content

    def decision(self) -> Transfers:
        for r in self.attending:
            *earlier, last = self._passes_of(r)
            for one in earlier:
                yield self.time["lsb_fetch"][r], {**one.softmax.state.__dict__, "again": 1}
            yield self.time["final"][r], {**last.softmax.state.__dict__, "again": 0}

    def release(self) -> Transfers:
        ends = {int(kset["last_row"]): int(kset["lines"]) for kset in self.ksets}
        for r, t in enumerate(_one_per_cycle(np.maximum.accumulate(self.time["final"]) + 1)):
            yield t, {"k_lines": ends.get(r, 0)}

    def reciprocal(self) -> Transfers:
        late = int(self.m["reciprocal"]) - STORE_CYCLES
        for r in self.attending:
            row, t = self.golden[r], self.time["final"][r]
            found = row.result.softmax
            content: Content = {"maximum": found.state.maximum}
            if row.mode is Mode.SOFTMAX:
                content |= {"reciprocal": found.reciprocal, "shift": found.shift}
            yield t + late, content

    def second_pass(self) -> Transfers:
        for r in self.attending:
            row, golden = self.rows[r], self.golden[r]
            found = golden.result.softmax
            content = {"keys": int(row["keys"]), "kept": int(row["kept"]), "selecting": int(row["select"] >= 0)}
            if golden.mode is Mode.SOFTMAX:
                content |= {"reciprocal": found.reciprocal, "shift": found.shift}
            if golden.before is not None:
                content["rise"] = min(found.state.maximum - golden.before.maximum, 63)
            else:
                content["rise"] = 0
            yield self.time["pass2_start"][r], content

    def weight_line(self) -> Transfers:
        for r in self.attending:
            golden = self.golden[r]
            found, n, lanes = golden.result.softmax, len(golden.tokens), golden.lanes
            accumulate = int(bool(self._source(r)["flags"] & Flag.ACCUMULATE))
            for i, first in enumerate(range(0, n, lanes)):
                part = slice(first, first + lanes)
                content: Content = {
                    "weights": _as_stored(found.weights[part]),
                    "tokens": golden.tokens[part].tolist(),
                    "position": first,
                    "count": min(lanes, n - first),
                    "first": int(first == 0),
                    "last": int(first + lanes >= n),
                    "accumulate": accumulate,
                }
                if golden.mode is Mode.SOFTMAX:
                    content["probabilities"] = found.probabilities[part].tolist()
                yield self.time["pass2_start"][r] + i + int(self.m["normalise"]), content

    def emitted(self) -> Transfers:
        for row, t in zip(self.rows, self.time["emitted"], strict=True):
            if row["select"] >= 0:
                yield t - 1, {}

    def accumulated(self) -> Transfers:
        for t in self.time["important"][self.attending]:
            yield t, {}

    # ---- PV -------------------------------------------------------------------------------------------------------
    def _pv_issues(self, row: int) -> list[list[int]]:
        """Weights of each line: of the kept rows as fetched, of all keys, or column by column (0: none left there)."""
        golden, per_line = self.golden[row], int(self._job(row)["values_per_line"])
        weights, kept = golden.result.softmax.weights, golden.result.kept
        if self._job(row)["v_resident"] and self.rows["select"][row] >= 0:
            columns = [weights[kept[kept % per_line == c]].tolist() for c in range(per_line)]
            return [[column[n] if n < len(column) else 0 for column in columns] for n in range(max(map(len, columns)))]
        used = weights[kept] if self.rows["select"][row] >= 0 else weights
        return [_as_stored(used[first : first + per_line]) for first in range(0, len(used), per_line)]

    def pv_line(self) -> Transfers:
        issued = iter(self.times.pv_line.tolist())
        for r in self.written:
            golden = self.golden[r]
            lines, found, signed = self._pv_issues(r), golden.result.softmax, int(golden.mode is not Mode.SOFTMAX)
            for number, weights in enumerate(lines):
                t, last = next(issued) + ISSUE_CYCLES + 1, int(number == len(lines) - 1)
                content: Content = {"weights": weights, "count": len(weights), "last": last, "signed": signed}
                if last:
                    content |= {"reciprocal": found.reciprocal, "shift": found.shift}
                for part in range(int(self._job(r)["pv_fold"])):
                    yield t + part, content

    def row_finished(self) -> Transfers:
        ends = np.cumsum(self.rows["pv_issues"]) - 1
        for r in self.attending:
            row = self.rows[r]
            job, v_lines = self._job(r), int(row["v_lines"])
            if job["v_resident"]:
                v_lines = int(job["v_lines"]) if self._ends_job(r) else 0
            yield self.times.pv_line[ends[r]], {"granules": int(row["granules"]), "v_lines": v_lines}

    def _ends_job(self, row: int) -> bool:
        job = self._job(row)
        return bool(row == job["first_row"] + job["rows"] - 1)

    def output(self) -> Transfers:
        """Rows of a tile that is not the last are not looked at, as nobody uses them."""
        lanes = self.arch.pv.output_lanes
        for r in self.written:
            golden = self.golden[r]
            numbers, magnitude = golden.result.output, 0
            first_cycle = int(self.time["drained"][r]) - int(self._job(r)["drain"]) + NORMALISE_CYCLES
            ends_tiles = self._source(r)["flags"] & Flag.LAST_TILE
            for i, first in enumerate(range(0, len(numbers), lanes)):
                item, last = numbers[first : first + lanes], int(first + lanes >= len(numbers))
                magnitude += int(np.abs(item).sum())
                content: Content = {"last": last}
                if ends_tiles:
                    content["numbers"] = item.tolist()
                    content["magnitude"] = magnitude
                yield first_cycle + i, content

    def head_magnitude(self) -> Transfers:
        for r in self.attending:
            golden = self.golden[r]
            if self._source(r)["flags"] & Flag.LAST_TILE and golden.mode is not Mode.LINEAR:
                magnitude = int(np.abs(golden.result.output).sum())
                t = self.time["drained"][r] + NORMALISE_CYCLES - 1
                yield t, {"head": golden.head, "magnitude": magnitude}

    def row_written(self) -> Transfers:
        for r in self.written:
            yield self.time["stored"][r], {"retired": int(self._ends_job(r))}


def _as_stored(weights: NDArray[np.int64]) -> list[int]:
    """Weights as the bits that pass on; only the PV array knows of their sign."""
    return [int(bits) for bits in weights & (1 << WEIGHT_BITS) - 1]


def _one_per_cycle(ready: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cycles in which things pass in order, one per cycle, from their own cycles on."""
    number = np.arange(len(ready))
    return np.maximum.accumulate(ready - number) + number if len(ready) else ready
