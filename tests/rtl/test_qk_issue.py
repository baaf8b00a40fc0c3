"""Control of the QK array: every pass, query, line, read and counted issue in the cycle of the contract.

The model below steps cycles and states the rules of docs/hardware.md anew, from jobs as dictionaries.
"""

import random
from collections import deque
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Const, Value
from amaranth.sim import Simulator

from accel.arch import Arch, load_arch
from accel.numerics.attention import values_kept
from accel.units.engine import EngineUnit
from rtl.job import sequence_bits
from rtl.qk_issue import QkIssue
from rtl.qk_rows import QkRows

TINY = load_arch("tiny", {"sram.k_bytes": 768})  # 4 entries: rings of 8 to 32 lines wrap often
#: More query slots than rows in flight, a score buffer of 24 words and K entries that are no power of two; no parts.
OTHER = load_arch(
    "tiny",
    {"sram.k_bytes": 1152, "fetcher.query_slots": 8, "softmax.buffer_keys": 96, "softmax.lanes": 4,
     "qk.multipliers": 32, "rows_in_flight": 2},
)  # fmt: skip


class Plan:
    """Jobs of one format, and of each row what its passes must say."""

    def __init__(
        self, rng: random.Random, unit: EngineUnit, dim: int, fused: bool, jobs: int, first: dict[str, int]
    ) -> None:
        """``first``: running numbers to begin with: row, number (of K lines), score."""
        arch = unit.arch
        padded = Arch.padded_head_dim(dim)
        per_line, ring = arch.keys_per_line(padded), unit.k_ring_lines(padded, fused)
        self.jobs: list[dict[str, int]] = []
        self.rows: list[dict[str, Any]] = []
        line, number, score, row_number = 0, first["number"], first["score"], first["row"]
        most = min(ring, unit.score_words) * per_line
        for j in range(jobs):
            second = fused and j % 2 == 1
            keys = self.jobs[-1]["keys"] if second else rng.randint(1, min(most, rng.choice([3, most])))
            group = rng.choice([1, 1, 2, 3])
            queries = rng.randint(1, 4)
            single = rng.random() < 0.3
            job = {
                "rows": 1 if single else group * queries,
                "group": 1 if single else group,
                "keys": keys,
                "first_key": rng.randrange(1 << 10),
                "causal": rng.randrange(2),
                "first_visible": rng.randint(1, keys),
                "accumulate": rng.randrange(2),
                "list": rng.randrange(2),
                "version": rng.randrange(2),
                "second": second,
                "side": rng.randrange(2),
                "first_tile": 0 if single and rng.random() < 0.7 else 1,
                "lsb": rng.randrange(3),
                "threshold": rng.randrange(1 << 16),
                "selecting": rng.randrange(2),
                "v_selected": rng.randrange(2),
                "keep_values": rng.choice([0, 0, rng.randint(1, keys), keys]),
                "keep_ratio": rng.choice([0, 1 << 16, rng.randrange(1 << 16)]),
                "score_mantissa": rng.randrange(1 << 16),
                "score_shift": rng.randrange(1, 63),
                "k_lsb_address": rng.randrange(1 << 48),
            }
            self.jobs.append(job)
            k_lines = -(-keys // per_line)
            if second:
                line, number = (line - k_lines) % ring, number - k_lines
            for i in range(job["rows"]):
                visible = min(keys, job["first_visible"] + i // job["group"]) if job["causal"] else keys
                lines = -(-visible // per_line)
                sent = {name: job[name] for name in (
                    "lsb", "threshold", "k_lsb_address", "first_key", "list", "version", "selecting", "v_selected",
                    "accumulate", "first_tile")}  # fmt: skip
                sent |= {
                    "second": 0,
                    "row": row_number % arch.rows_in_flight,
                    "keys": visible,
                    "lines": lines,
                    "line": line,
                    "score": score,
                    "kept": values_kept(visible, job["keep_values"], job["keep_ratio"]),
                    "ends_k": int(i == job["rows"] - 1 and not (fused and not second)),
                    "k_lines": k_lines,
                }
                self.rows.append(
                    {
                        "pass": sent,
                        "job": j,
                        "number": number,
                        "ring_lines": [(line + k) % ring for k in range(lines)],
                        "counts": [min(per_line, visible - k * per_line) for k in range(lines)],
                        "row_number": row_number,
                        "side": second,
                        "again": rng.random() < 0.4,
                        "scale": (job["score_mantissa"], job["score_shift"]),
                    }
                )
                score = (score + lines) % unit.score_words
                row_number += 1
            line, number = (line + k_lines) % ring, number + k_lines
        self.last = {"number": number, "score": score, "row": row_number}


class Model:
    """``passed``: running numbers as registers of the cycle: query, k, lsb."""

    def __init__(self, unit: EngineUnit, plan: Plan, fold: int, lsb_head: int) -> None:
        self.unit, self.plan, self.fold = unit, plan, fold
        self.free_at, self.running = 0, None  # type: ignore[var-annotated]
        self.next_row, self.unfinished, self.not_final, self.score_used = 0, 0, 0, 0
        self.requests: deque[int] = deque()
        self.lsb_head = lsb_head

    def cycle(self, t: int, passed: dict[str, int]) -> tuple[tuple[int, bool] | None, tuple[int, int, bool] | None]:
        """What happens at t: (row, second) that starts; (row, line of the row, second) that issues."""
        start = None
        if t < self.free_at:
            return None, None
        if self.running is None:
            if self.requests and self.lsb_head < passed["lsb"]:
                start = (self.requests.popleft(), True)
                self.lsb_head += 1
            elif self.next_row < len(self.plan.rows):
                row = self.plan.rows[self.next_row]
                if (
                    self.unfinished < self.unit.arch.rows_in_flight
                    and row["row_number"] < passed["query"]
                    and self.score_used + row["pass"]["lines"] <= self.unit.score_words
                    and row["number"] < passed["k"]
                    and (row["pass"]["first_tile"] or not self.not_final)
                ):
                    start = (self.next_row, False)
                    self.next_row += 1
                    self.unfinished += 1
                    self.not_final += 1
                    self.score_used += row["pass"]["lines"]
            if start is None:
                return None, None
            self.running = [*start, 0]
        r, second, k = self.running
        row = self.plan.rows[r]
        if not second and row["number"] + k >= passed["k"]:
            return start, None
        self.free_at = t + self.fold
        self.running = [r, second, k + 1] if k + 1 < row["pass"]["lines"] else None
        return start, (r, k, second)


def read_struct(ctx: Any, view: Any, names: Any) -> dict[str, int]:
    return {name: ctx.get(getattr(view, name)) for name in names}


async def play(
    ctx: Any, dut: QkIssue, rng: random.Random, dim: int, fused: bool, first: dict[str, int], jobs: int
) -> tuple[dict[str, int], dict[str, int]]:
    """All jobs of one format; returns where the running numbers stand, and how often each thing happened."""
    unit = dut.unit
    arch = unit.arch
    padded = Arch.padded_head_dim(dim)
    plan = Plan(rng, unit, dim, fused, jobs, first)
    fold = arch.qk_fold(padded)
    modulus = 1 << sequence_bits(unit)
    model = Model(unit, plan, fold, first["lsb"])
    passed = {"query": first["row"], "k": first["number"], "lsb": first["lsb"]}
    wide = unit.wide(padded, fused)
    format_fields = {
        "head_dim": dim, "log2_dim": padded.bit_length() - 1, "fused": fused, "pair": fused, "k_wide": wide,
    }  # fmt: skip
    multipliers = arch.qk.multipliers
    to_dispatch, dispatched, held = 0, {}, 0  # type: ignore[var-annotated]
    expected: dict[int, dict[str, Any]] = {}
    to_request: list[int] = []  # rows whose first pass is done
    requested: list[int] = []  # cycles of the requests
    final: set[int] = set()
    finals, finished, scores_back = 0, 0, 0
    started_second = first["lsb"]
    counts = {"second": 0}
    pace = 1.0
    idle = 0
    t = 0
    while finished < len(plan.rows) or scores_back < len(plan.rows) or idle < 8:
        assert t < 6000, "no progress"
        idle = idle + 1 if finished == len(plan.rows) and scores_back == len(plan.rows) else 0
        if t % 40 == 0:
            pace = rng.choice([0.05, 0.3, 1.0])

        # What the neighbours do in this cycle, by what has happened before.
        ctx.set(dut.format_change, t == 0)
        dispatch = to_dispatch < jobs and held < unit.job_slots and (t == 0 or rng.random() < 0.5)
        ctx.set(dut.dispatch.valid, dispatch)
        if dispatch:
            ctx.set(dut.dispatch.payload, plan.jobs[to_dispatch])
            dispatched[to_dispatch] = t
            held += 1
            to_dispatch += 1
        ctx.set(dut.format, format_fields)  # from the first dispatch on
        for name, port in (("query", dut.query_passed), ("k", dut.k_passed), ("lsb", dut.lsb_passed)):
            ctx.set(port, passed[name] % modulus)

        start, issue = model.cycle(t, passed)
        if start is not None:
            r, second = start
            row = plan.rows[r]
            expected.setdefault(t, {})["pass"] = row["pass"] | {"second": int(second)}
            expected[t]["slot"] = row["row_number"] % arch.fetcher.query_slots
            expected.setdefault(t + 1, {})["scale"] = (*row["scale"], padded.bit_length() - 1)
            counts["second"] += second
            started_second += second
        if issue is not None:
            r, k, second = issue
            row = plan.rows[r]
            for part in range(fold):
                expected.setdefault(t + part, {})["issue"] = int(second)
                expected.setdefault(t + 2 + part, {})["read"] = (
                    row["ring_lines"][k],
                    part,
                    int(row["side"]),
                    int(not second),
                )
                expected.setdefault(t + 3 + part, {})["line"] = (row["counts"][k], int(k == row["pass"]["lines"] - 1))
            if k == row["pass"]["lines"] - 1:
                if row["again"] and not second:
                    to_request.append(r)
                else:
                    final.add(r)

        # Softmax and PV: a request, a final row, a row finished, words given back; each a pulse seen at t + 1.
        request = bool(to_request) and rng.random() < pace
        ctx.set(dut.lsb_request.valid, request)
        if request:
            r = to_request.pop(0)
            requested.append(t)
            ctx.set(dut.lsb_request.payload.row, plan.rows[r]["pass"]["row"])
        release = finals in final and rng.random() < pace
        ctx.set(dut.query_release, release)
        score = scores_back < finals and rng.random() < pace
        ctx.set(dut.score_release.valid, score)
        ctx.set(dut.score_release.payload.count, plan.rows[scores_back]["pass"]["lines"] if score else rng.randrange(4))
        finish = finished < scores_back and rng.random() < pace
        ctx.set(dut.row_finished, finish)

        query_words = [rng.randrange(-2048, 2048) for _ in range(unit.entry_words)]
        k_words = [rng.randrange(-2048, 2048) for _ in range(multipliers)]
        for i, word in enumerate(query_words):
            ctx.set(dut.query_words[i], word)
        for i, word in enumerate(k_words):
            ctx.set(dut.k_words[i], word)

        want = expected.pop(t, {})
        where = f"dim {dim}, fused {fused}, cycle {t}"
        assert ctx.get(dut.passes.valid) == ctx.get(dut.query_read_enable) == ("pass" in want), where
        if "pass" in want:
            assert read_struct(ctx, dut.passes.payload, want["pass"]) == want["pass"], where
            assert ctx.get(dut.query_read_slot) == want["slot"], where
        assert ctx.get(dut.query.valid) == ("scale" in want), where
        if "scale" in want:
            query = dut.query.payload
            assert tuple(read_struct(ctx, query, ("mantissa", "shift", "log2_dim")).values()) == want["scale"], where
            got = [ctx.get(query.words[i]) for i in range(unit.entry_words)]
            assert got == [word if i < dim else 0 for i, word in enumerate(query_words)], where
        assert ctx.get(dut.k_read_enable) == ("read" in want), where
        if "read" in want:
            ports = (dut.k_read_line, dut.k_read_part, dut.k_read_side, dut.k_read_mask_lsb)
            assert tuple(ctx.get(port) for port in ports) == want["read"], where
        assert ctx.get(dut.line.valid) == ("line" in want), where
        if "line" in want:
            line = dut.line.payload
            assert (ctx.get(line.count), ctx.get(line.last)) == want["line"], where
            assert [ctx.get(line.words[i]) for i in range(multipliers)] == k_words, where
        assert ctx.get(dut.busy) == ("issue" in want), where
        issues = (ctx.get(dut.issue_msb), ctx.get(dut.issue_lsb))
        assert issues == ((0, 0) if "issue" not in want else (1, 0) if want["issue"] == 0 else (0, 1)), where

        await ctx.tick()
        t += 1
        if request:
            model.requests.append(r)
        model.not_final -= release
        finals += release
        if score:
            model.score_used -= plan.rows[scores_back]["pass"]["lines"]
        scores_back += score
        model.unfinished -= finish
        if finish:
            job = plan.rows[finished]["job"]
            held -= finished + 1 == len(plan.rows) or plan.rows[finished + 1]["job"] != job
        finished += finish
        # Arrivals. A query cannot be there earlier than its job is ready; K lines are counted past the ring's end.
        q = passed["query"] - first["row"]
        if q < len(plan.rows) and q - finals < arch.fetcher.query_slots and rng.random() < pace:
            passed["query"] += t >= dispatched.get(plan.rows[q]["job"], 1 << 30) + QkRows.PREPARE_CYCLES
        k_end = max([row["number"] + row["pass"]["k_lines"] for row in plan.rows if row["job"] in dispatched])
        if passed["k"] < k_end and rng.random() < max(0.3, pace):
            passed["k"] += 1
        fetch = passed["lsb"] - first["lsb"]
        if fetch < len(requested) and t >= requested[fetch] + QkIssue.REQUEST_CYCLES and rng.random() < pace / 3:
            passed["lsb"] += 1
    assert not expected
    return {**plan.last, "lsb": started_second}, counts


@pytest.mark.parametrize(("arch", "name"), [(TINY, "tiny"), (OTHER, "other")], ids=["tiny", "other"])
def test_every_cycle(arch: Arch, name: str) -> None:
    """Formats one after the other on one machine: all head dimensions, fused pairs, a head that is padded."""
    dut = QkIssue(EngineUnit.of(arch))
    rng = random.Random(name)
    total = {"second": 0}

    async def bench(ctx: Any) -> None:
        first = {"row": 0, "number": 0, "score": 0, "lsb": 0}
        for dim, fused in ((8, False), (32, False), (16, True), (24, False), (8, True), (16, False)):
            first, counts = await play(ctx, dut, rng, dim, fused, first, 8)
            total["second"] += counts["second"]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert total["second"] > 10


def test_verilog() -> None:
    dut = QkIssue(EngineUnit.of(TINY))
    ports = [Value.cast(value) for _, _, value in dut.signature.flatten(dut)]
    assert "module top" in verilog.convert(dut, ports=[port for port in ports if not isinstance(port, Const)])
