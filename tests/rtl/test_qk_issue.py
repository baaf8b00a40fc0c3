"""Control of the QK array: every pass, query, line, read and counted issue in the cycle of the contract."""

import random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Const, Module, Value
from amaranth.sim import Simulator

from accel.arch import Arch, load_arch
from accel.program import Mode
from accel.units.engine import EngineUnit
from accel.units.qk import QkUnit
from rtl.job import sequence_bits
from rtl.qk import QkArray
from rtl.qk_issue import QkIssue
from rtl.qk_rows import QkRows
from tests.rtl.qk_issue_model import Model, Plan

#: 4 entries: rings of 8 to 32 lines, and running numbers of 7 bits, wrap often.
TINY = load_arch("tiny", {"sram.k_bytes": 768, "sram.v_bytes": 768})
#: More query slots than rows in flight, a score buffer of 24 words and K entries that are no power of two; no parts.
OTHER = load_arch(
    "tiny",
    {"sram.k_bytes": 1152, "fetcher.query_slots": 8, "softmax.buffer_keys": 96, "softmax.lanes": 4,
     "qk.multipliers": 32, "rows_in_flight": 2},
)  # fmt: skip


def read_struct(ctx: Any, view: Any, names: Any) -> dict[str, int]:
    return {name: ctx.get(getattr(view, name)) for name in names}


def identity_words(unit: EngineUnit, padded: int, line: int, part: int) -> list[int]:
    """Words of a line, or of its part, of keys that are 2^10 in their own dimension."""
    multipliers, keys = unit.arch.qk.multipliers, unit.arch.keys_per_line(padded)
    words = np.zeros((keys, padded), int)
    for key in range(keys):
        if line * keys + key < padded:
            words[key, line * keys + key] = 1 << 10
    flat = words.ravel()[part * multipliers :][:multipliers]
    return [*flat.tolist(), *[0] * (multipliers - len(flat))]


async def play(
    ctx: Any,
    dut: QkIssue,
    rng: random.Random,
    dim: int,
    fused: bool,
    first: dict[str, int],
    jobs: int,
    keyless: bool = False,
) -> tuple[dict[str, int], dict[str, int]]:
    """All jobs of one format; returns where the running numbers stand, and how often each thing happened."""
    unit = dut.unit
    arch = unit.arch
    padded = Arch.padded_head_dim(dim)
    plan = Plan(rng, unit, dim, fused, jobs, first, keyless)
    fold = arch.qk_fold(padded)
    modulus = 1 << sequence_bits(unit)
    model = Model(unit, plan, fold, first["lsb"])
    passed = {"query": first["row"], "k": first["number"], "lsb": first["lsb"]}
    wide = unit.wide(padded, fused)
    format_fields = {
        "head_dim": dim, "log2_dim": padded.bit_length() - 1, "fused": fused, "pair": fused, "k_wide": wide,
        "mode": Mode.LINEAR if keyless else Mode.DECAY,
    }  # fmt: skip
    multipliers = arch.qk.multipliers
    to_dispatch, held = 0, 0
    dispatched: dict[int, int] = {}  # cycle of each job's dispatch
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
            pace = rng.choice([0.15, 0.5, 1.0, 1.0])

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
            if not second:
                expected[t]["decay"] = row["decay"]
            expected[t]["slot"] = row["row_number"] % arch.fetcher.query_slots
            expected.setdefault(t + 1, {})["scale"] = (*row["scale"], padded.bit_length() - 1)
            counts["second"] += second
            started_second += second
        if issue is not None:
            r, k, second = issue
            row = plan.rows[r]
            for part in range(fold):
                expected.setdefault(t + part, {})["issue"] = int(second)
                reads = (row["ring_lines"][k], part, int(row["side"]), int(not second))
                if not keyless:
                    expected.setdefault(t + 2 + part, {})["read"] = reads
                found = expected.setdefault(t + 3 + part, {})
                found["line"] = (row["counts"][k], int(k == row["pass"]["lines"] - 1))
                if keyless:
                    found["words"] = identity_words(unit, padded, k, part)
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
        ctx.set(dut.query_words, query_words)
        ctx.set(dut.k_words, k_words)

        want = expected.pop(t, {})
        where = f"dim {dim}, fused {fused}, cycle {t}"
        assert ctx.get(dut.passes.valid) == ctx.get(dut.query_read_enable) == ("pass" in want), where
        if "pass" in want:
            assert read_struct(ctx, dut.passes.payload, want["pass"]) == want["pass"], where
            assert ctx.get(dut.query_read_slot) == want["slot"], where
        if "decay" in want:
            assert (ctx.get(dut.decay.step), ctx.get(dut.decay.start)) == want["decay"], where
        assert ctx.get(dut.query.valid) == ("scale" in want), where
        if "scale" in want:
            query = dut.query.payload
            assert tuple(read_struct(ctx, query, ("mantissa", "shift", "log2_dim")).values()) == want["scale"], where
            assert list(ctx.get(query.words)) == [word if i < dim else 0 for i, word in enumerate(query_words)], where
        assert ctx.get(dut.k_read_enable) == ("read" in want), where
        if "read" in want:
            ports = (dut.k_read_line, dut.k_read_part, dut.k_read_side, dut.k_read_mask_lsb)
            assert tuple(ctx.get(port) for port in ports) == want["read"], where
        assert ctx.get(dut.line.valid) == ("line" in want), where
        if "line" in want:
            line = dut.line.payload
            assert (ctx.get(line.count), ctx.get(line.last)) == want["line"], where
            assert list(ctx.get(line.words)) == want.get("words", k_words), where
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
        if not keyless and passed["k"] < k_end and rng.random() < max(0.3, pace):
            passed["k"] += 1
        fetch = passed["lsb"] - first["lsb"]
        if fetch < len(requested) and t >= requested[fetch] + QkIssue.REQUEST_CYCLES and rng.random() < pace / 3:
            passed["lsb"] += 1
    assert not expected
    return {**plan.last, "lsb": started_second}, counts


@pytest.mark.parametrize(("arch", "name"), [(TINY, "tiny"), (OTHER, "other")], ids=["tiny", "other"])
def test_every_cycle(arch: Arch, name: str) -> None:
    """Formats one after the other on one machine: all head dimensions, fused pairs, a padded head, no keys."""
    dut = QkIssue(EngineUnit.of(arch))
    rng = random.Random(name)
    total = {"second": 0}

    async def bench(ctx: Any) -> None:
        first = {"row": 0, "number": 0, "score": 0, "lsb": 0}
        formats = [
            (8, "fused"), (24, "linear"), (32, ""), (16, "fused"), (8, "linear"), (24, ""), (8, ""), (32, "linear"),
            (16, "linear"), (16, ""),
        ]  # fmt: skip
        for dim, kind in formats:
            first, counts = await play(ctx, dut, rng, dim, kind == "fused", first, 8, kind == "linear")
            total["second"] += counts["second"]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert total["second"] > 10


@pytest.mark.parametrize("dispatches", [(0, 2, 3, 6, 7, 8, 10, 11), (0, 1, 5, 6, 7, 9, 11, 15)])
def test_a_row_every_cycle(dispatches: tuple[int, ...]) -> None:
    """Jobs of one row of one line, dispatched with gaps, start one after the other once their queries are there."""
    dut = QkIssue(EngineUnit.of(TINY))
    begin = 22
    starts: list[int] = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.format, {"head_dim": 8, "log2_dim": 3})
        for t in range(begin + 2 * len(dispatches)):
            ctx.set(dut.dispatch.valid, t in dispatches)
            ctx.set(dut.dispatch.payload, {"rows": 1, "group": 1, "keys": 2, "first_tile": 1})
            for passed in (dut.query_passed, dut.k_passed):
                ctx.set(passed, len(dispatches) if t >= begin else 0)
            ctx.set(dut.row_finished, len(starts) > 0 and starts[-1] == t - 1)
            if ctx.get(dut.passes.valid):
                starts.append(t)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert starts == list(range(begin, begin + len(dispatches)))


@pytest.mark.parametrize("dim", [8, 16, 32])
def test_the_array_takes_all_at_full_rate(dim: int) -> None:
    """Everything has arrived and is taken away at once: the array still never refuses a query or a line."""
    unit = EngineUnit.of(TINY)
    dut, array = QkIssue(unit), QkArray(QkUnit.of(TINY))
    plan = Plan(random.Random(dim), unit, dim, False, 8, {"row": 0, "number": 0, "score": 0})
    m = Module()
    m.submodules.issue, m.submodules.array = dut, array
    m.d.comb += [
        array.query.valid.eq(dut.query.valid),
        array.query.payload.eq(dut.query.payload),
        array.line.valid.eq(dut.line.valid),
        array.line.payload.eq(dut.line.payload),
        array.scores.ready.eq(1),
    ]
    seen = {"query": 0, "line": 0, "last": 0}

    async def bench(ctx: Any) -> None:
        ctx.set(dut.format, {"head_dim": dim, "log2_dim": dim.bit_length() - 1, "k_wide": unit.wide(dim)})
        started: list[int] = []
        waiting = list(plan.jobs)
        t = 0
        while seen["last"] < len(plan.rows):
            assert t < 1000
            ctx.set(dut.dispatch.valid, bool(waiting))
            if waiting:
                ctx.set(dut.dispatch.payload, waiting.pop(0))
            for passed in (dut.query_passed, dut.k_passed):
                ctx.set(passed, 63 if t > 15 else 0)
            back = bool(started)
            for pulse in (dut.query_release, dut.row_finished, dut.score_release.valid):
                ctx.set(pulse, back)
            ctx.set(dut.score_release.payload.count, started.pop(0) if back else 0)
            if ctx.get(dut.passes.valid):
                started.append(ctx.get(dut.passes.payload.lines))
            for name, here, there in (("query", dut.query, array.query), ("line", dut.line, array.line)):
                seen[name] += ctx.get(here.valid)
                assert ctx.get(there.ready) or not ctx.get(here.valid), f"{name} refused in cycle {t}"
            seen["last"] += ctx.get(array.scores.valid) and ctx.get(array.scores.payload.last)
            t += 1
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen["query"] == len(plan.rows)
    assert seen["line"] == sum(row["pass"]["lines"] for row in plan.rows) * TINY.qk_fold(dim)


def test_verilog() -> None:
    dut = QkIssue(EngineUnit.of(TINY))
    ports = [Value.cast(value) for _, _, value in dut.signature.flatten(dut)]
    assert "module top" in verilog.convert(dut, ports=[port for port in ports if not isinstance(port, Const)])
