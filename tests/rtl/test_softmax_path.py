"""From scores to kept weights: every value against the golden functions, every cycle against the rules of hardware.md.

A stand-in for the QK array sends passes and scores, one for PV reads the ring and frees it. What they did is recorded;
a model without a clock then says when each answer must have come.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Const, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.numerics.softmax import RowSum, is_flat, softmax_row
from accel.numerics.topk import top_k
from accel.program import Lsb
from accel.units.engine import EngineUnit
from accel.units.qk import QkUnit
from accel.units.softmax import SoftmaxUnit
from accel.units.topk import TopKUnit
from rtl.softmax_path import SoftmaxPath
from sim.topk.quickselect import emit_gaps, select_cycles, select_row

NEVER = 1 << 60
Events = dict[str, list[tuple[int, Any]]]  # by port: cycle and content


@dataclass
class Row:
    """One row: scores of the first pass and of the one with both planes, and the fields of its pass."""

    scores: np.ndarray
    exact: np.ndarray
    kept: int
    fields: dict[str, int]
    lines: int = 0
    start: int = 0  # word of the score buffer
    columns: int = 1  # kept items lie by column of their V line

    @property
    def items(self) -> int:
        """Places of the ring."""
        return min(self.kept, -(-len(self.scores) // self.columns)) * self.columns


@dataclass
class Pass:
    row: int
    second: bool
    issued: int
    line_cycles: list[int] = field(default_factory=list)  # in which its scores are on the port


@dataclass
class Run:
    """What the stand-ins did and what they saw."""

    passes: list[Pass] = field(default_factory=list)
    ring_releases: list[tuple[int, int]] = field(default_factory=list)
    events: Events = field(default_factory=lambda: defaultdict(list))
    kept: list[tuple[list[int], list[int]]] = field(default_factory=list)  # by row: weights and payloads read back


def make_rows(unit: EngineUnit, log2_dim: int, count: int, seed: str, **fixed: Any) -> list[Row]:
    """Random rows: short and long, chained or not, of all kinds of LSB and selection unless ``fixed``."""
    rng = random.Random(seed)
    noise = np.random.default_rng(rng.getrandbits(32))
    rows: list[Row] = []
    longest = fixed.get("longest", min(unit.arch.max_context, 40))
    while len(rows) < count:
        selecting = fixed.get("selecting", rng.random() < 0.5)
        by_row = rng.random() < 0.5
        for _ in range(min(count - len(rows), rng.choice([1, 2, 5]))):
            keys = longest if fixed.get("full") else rng.choice([1, 2, 3, rng.randint(1, longest), longest])
            centre, spread = rng.choice([0, -40, 90, 300]) << 12, rng.choice([3, 11, 14, 17])
            scores = np.clip(noise.normal(centre, 1 << spread, keys), -(1 << 21), (1 << 21) - 1).astype(np.int64)
            exact = np.clip(scores + noise.integers(-900, 900, keys), -(1 << 21), (1 << 21) - 1)
            chained = bool(rows) and rng.random() < fixed.get("chained", 0.2)
            kept = rng.choice([1, keys, rng.randint(1, keys)]) if selecting and not fixed.get("full") else keys
            row = Row(
                scores,
                exact,
                fixed.get("kept", kept),
                {
                    "lsb": fixed.get("lsb", rng.choice(list(Lsb))),
                    "threshold": rng.choice([0, 1 << 12, 1 << 14, (1 << 16) - 1]),
                    "k_lsb_address": rng.getrandbits(48),
                    "line": rng.randrange(unit.max_lines),
                    "side": rng.getrandbits(1),
                    "first_key": rng.randint(0, 60),
                    "list": rng.getrandbits(1),
                    "version": rng.getrandbits(1),
                    "selecting": int(selecting),
                    "v_selected": int(selecting and by_row),
                    "accumulate": rng.getrandbits(1),
                    "first_tile": int(not chained),
                    "ends_k": rng.getrandbits(1),
                    "k_lines": rng.randint(1, 20),
                },
            )
            row.lines = -(-keys // unit.arch.keys_per_line(1 << log2_dim))
            if selecting and not by_row:
                row.columns = unit.arch.values_per_line(1 << log2_dim)
            rows.append(row)
    return rows


def keep_list(version: int, position: int) -> int:
    return (position * 40503 + version * 977 + 5) & 0xFFFF


class Bench:
    """The stand-ins around a SoftmaxPath, one call of ``cycle`` per cycle."""

    def __init__(self, unit: EngineUnit, log2_dim: int, rows: list[Row], seed: str, patience: int = 12) -> None:
        self.unit, self.rows, self.log2_dim, self.patience = unit, rows, log2_dim, patience
        self.rng, self.run = random.Random(seed), Run()
        arch = unit.arch
        self.keys_per_line = arch.keys_per_line(1 << log2_dim)
        self.latency = 2 + QkUnit.of(arch).latency_cycles
        self.next_row, self.finished, self.score_used, self.score_word, self.free = 0, 0, 0, 0, 0
        self.lsb_waiting: list[tuple[int, int]] = []
        self.final_rows = 0  # in order: query_release
        self.scores: dict[int, tuple[list[int], int, int]] = {}
        self.weights: list[tuple[int, int]] = []  # granule of each row begun, lines
        self.reading: list[int] | None = None
        self.wait = 0
        self.counts = {"emitted": 0, "dense_lines": 0}
        self.emitted_rows, self.dense_lines_done = 0, 0

    # ---- QK ---------------------------------------------------------------------------------------------------
    def issue(self, t: int) -> dict[str, int] | None:
        """The pass that begins at t."""
        if t < self.free:
            return None
        if self.lsb_waiting and self.lsb_waiting[0][0] <= t:
            number, second = self.lsb_waiting.pop(0)[1], True
        elif (
            self.next_row < len(self.rows)
            and self.next_row - self.finished < self.unit.arch.rows_in_flight
            and self.score_used + self.rows[self.next_row].lines <= self.unit.score_words
            and (self.rows[self.next_row].fields["first_tile"] or self.final_rows == self.next_row)
        ):
            number, second = self.next_row, False
            self.next_row += 1
            self.score_used += self.rows[number].lines
            self.rows[number].start = self.score_word
            self.score_word = (self.score_word + self.rows[number].lines) % self.unit.score_words
        else:
            return None
        row, step = self.rows[number], self.keys_per_line
        values, at, gaps = row.exact if second else row.scores, t, self.rng.random() < 0.3
        this = Pass(number, second, t)
        for first in range(0, len(values), step):
            part = values[first : first + step].tolist()
            self.scores[at + self.latency] = (part, len(part), int(first + step >= len(values)))
            this.line_cycles.append(at + self.latency)
            at += self.rng.choice([1, 1, 4]) if gaps else 1
        self.free = at
        self.run.passes.append(this)
        rows = self.unit.arch.rows_in_flight
        return {
            "second": int(second), "row": number % rows, "keys": len(values), "lines": row.lines, "score": row.start,
            "kept": row.kept, **row.fields,
        }  # fmt: skip

    # ---- one cycle --------------------------------------------------------------------------------------------
    async def play(self, ctx: Any, dut: SoftmaxPath) -> None:
        see, events, t = self.see, self.run.events, 0
        ctx.set(dut.format.log2_dim, self.log2_dim)
        tokens: list[int] = []
        while self.finished < len(self.rows):
            assert t < 20000, "stands still"
            started = self.issue(t)
            ctx.set(dut.passes.valid, started is not None)
            if started:
                ctx.set(dut.passes.payload, started)
            line = self.scores.pop(t, None)
            ctx.set(dut.scores.valid, line is not None)
            if line:
                values, count, last = line
                values = values + [self.rng.getrandbits(20) for _ in range(self.unit.arch.softmax.lanes - count)]
                ctx.set(dut.scores.payload, {"scores": values, "count": count, "last": last})
            if tokens:
                ctx.set(dut.token_read.tokens, tokens)
            self.read_ring(ctx, dut, t)

            tokens = []
            if ctx.get(dut.token_read.enable):
                version, first = ctx.get(dut.token_read.version), ctx.get(dut.token_read.position)
                tokens = [keep_list(version, first + lane) for lane in range(self.unit.arch.softmax.lanes)]
            for port in ("lsb_request", "k_release", "score_release", "weights", "line", "v_row", "columns"):
                if ctx.get(getattr(dut, port).valid):
                    events[port].append((t, see(ctx.get(getattr(dut, port).payload), port)))
            for port in ("query_release", "softmax_busy", "select_busy"):
                if ctx.get(getattr(dut, port)):
                    events[port].append((t, 1))
            for port in self.counts:
                value = ctx.get(getattr(dut, port))
                if value != self.counts[port]:
                    events[port].append((t, (value - self.counts[port]) % (1 << len(getattr(dut, port)))))
                    self.counts[port] = value
            self.react(t)
            await ctx.tick()
            t += 1

    def see(self, payload: Any, port: str) -> dict[str, Any]:
        """A payload as plain numbers; of a line only what has meaning."""
        names = [name for name, _ in payload.shape()]
        content: dict[str, Any] = {
            n: list(payload[n]) if hasattr(payload[n], "shape") else int(payload[n]) for n in names
        }
        if port == "line":
            for name in ("weights", "probabilities", "tokens"):
                content[name] = content[name][: content["count"]]
        return content

    def react(self, t: int) -> None:
        """To what was seen in cycle t; has an effect from t + 1 on."""
        events = self.run.events
        for cycle, content in events["lsb_request"][-1:]:
            if cycle == t:
                head = min(
                    r
                    for r in range(self.finished, self.next_row)
                    if r % self.unit.arch.rows_in_flight == content["row"]
                )
                self.lsb_waiting.append((t + 1 + self.rng.choice([0, 3, 30]), head))
        for cycle, content in events["score_release"][-1:]:
            self.score_used -= content["count"] if cycle == t else 0
        for cycle, content in events["weights"][-1:]:
            if cycle == t:
                self.weights.append((content["granule"], self.rows[len(self.weights)].lines))
        self.final_rows += bool(events["query_release"] and events["query_release"][-1][0] == t)
        for port in self.counts:
            for cycle, content in events[port][-1:]:
                if cycle == t and port == "emitted":
                    self.emitted_rows += content
                elif cycle == t:
                    self.dense_lines_done += content

    # ---- PV ---------------------------------------------------------------------------------------------------
    def read_ring(self, ctx: Any, dut: SoftmaxPath, t: int) -> None:
        """Reads the oldest row word by word, some cycles after it is there, then frees it."""
        unit, r = self.unit, self.finished
        row, lanes = self.rows[r], unit.arch.topk.lanes
        ctx.set(dut.ring_read.valid, 0)
        ctx.set(dut.ring_release.valid, 0)
        ctx.set(dut.kept_read.enable, 0)
        words, granules = -(-row.items // lanes), -(-row.items // unit.granule)
        if self.reading is None:
            before = [x for x in self.rows[:r] if x.fields["selecting"] == row.fields["selecting"]]
            done = len(before) < self.emitted_rows
            if not row.fields["selecting"]:
                done = sum(x.lines for x in before) + row.lines <= self.dense_lines_done
            if r < len(self.weights) and done:
                self.reading, self.wait = [], self.rng.choice([0, 0, 2, self.patience])
                self.run.kept.append(([], []))
        if self.reading is None:
            return
        self.wait -= 1
        if self.wait >= 0:
            return
        weights, payloads = self.run.kept[r]
        fetch_lanes = unit.arch.fetcher.lanes
        parts = lanes // fetch_lanes  # of a word, each of which the fetcher's lanes read at once
        if len(self.reading):  # the word asked for in the cycle before
            items = ctx.get(dut.ring_items)
            if len(self.reading) % parts == 0:
                weights.extend(list(items.weights))
            if row.fields["v_selected"]:
                payloads.extend(ctx.get(x) for x in dut.kept_read.data)
            elif len(self.reading) % parts == 0:
                payloads.extend(list(items.payloads))
        asked = len(self.reading)
        if asked < words * parts:
            size = unit.granules * unit.granule
            word = (self.weights[r][0] * unit.granule // lanes + asked // parts) % (size // lanes)
            ctx.set(dut.ring_read.valid, 1)
            ctx.set(dut.ring_read.payload.word, word)
            ctx.set(dut.kept_read.enable, 1)
            rotate = self.rng.randrange(fetch_lanes)
            ctx.set(dut.kept_read.rotate, rotate)
            self.reading.append(rotate)
            first = word * lanes + asked % parts * fetch_lanes
            for lane in range(fetch_lanes):
                ctx.set(dut.kept_read.index[lane], first + (lane + rotate) % fetch_lanes)
            return
        ctx.set(dut.ring_release.valid, 1)
        ctx.set(dut.ring_release.payload.count, granules)
        self.run.ring_releases.append((t, granules))
        if row.fields["v_selected"]:  # turn the lanes back
            turned: list[int] = []
            for part, rotate in enumerate(self.reading):
                asked_for = payloads[part * fetch_lanes : (part + 1) * fetch_lanes]
                turned += [asked_for[(i - rotate) % fetch_lanes] for i in range(fetch_lanes)]
            payloads[:] = turned
        self.reading = None
        self.finished += 1


def expected(
    unit: EngineUnit, log2_dim: int, rows: list[Row], run: Run
) -> tuple[Events, list[tuple[list, list]], set[str]]:
    """What every output must have done, from the passes and the ring's releases alone; what the ring held; and what
    rows have waited for.
    """
    arch = unit.arch
    events: Events = defaultdict(list)
    step, in_flight = arch.keys_per_line(1 << log2_dim), arch.rows_in_flight
    softmax, topk = SoftmaxUnit.of(arch), TopKUnit.of(arch, 12)
    golden: list[Any] = [None] * len(rows)
    final = [NEVER] * len(rows)

    def of_row(r: int) -> dict[str, int]:
        return rows[r].fields

    # Decisions.
    for p in run.passes:
        row, d = rows[p.row], p.line_cycles[-1] + softmax.exponent_cycles + softmax.test_cycles
        before = None if of_row(p.row)["first_tile"] else golden[p.row - 1].state
        done = softmax_row(row.exact if p.second else row.scores, step, before or RowSum())
        lsb = of_row(p.row)["lsb"]
        if not p.second and (lsb == Lsb.ALWAYS or (lsb == Lsb.TEST and is_flat(done, of_row(p.row)["threshold"]))):
            names = ("line", "side", "k_lsb_address", "first_key", "list", "version")
            request = {"row": p.row % in_flight, "keys": len(row.scores), **{n: of_row(p.row)[n] for n in names}}
            events["lsb_request"].append((d, request))
        else:
            golden[p.row], final[p.row] = done, d

    # Releases in row order.
    at = -1
    for r in range(len(rows)):
        at = max(final[r], at) + 1
        events["query_release"].append((at, 1))
        if of_row(r)["ends_k"]:
            events["k_release"].append((at, {"count": of_row(r)["k_lines"]}))

    # Second passes, and what the top-k makes of them.
    ended, granule = 0, 0
    taken: list[tuple[int, int]] = []
    selecting_ended, handed, lfsr = -NEVER, -1, 1
    out_last: list[int] = []
    held: list[tuple[list, list]] = []
    reasons: set[str] = set()
    for r, row in enumerate(rows):
        granules = -(-row.items // unit.granule)
        select = of_row(r)["selecting"]

        known = final[r] + softmax.reciprocal_cycles + 1
        reasons |= {"reciprocal"} if known > ended else {"row before"} if known < ended else set()
        t = max(known, ended)
        while True:
            used = sum(n for _, n in taken) - sum(n for cycle, n in run.ring_releases if cycle < t)
            selecting_rows = sum(o >= t for o in out_last)
            holds = {
                "ring": used + granules > unit.granules,
                "top-k": bool(select) and selecting_rows == 2,
                "command": bool(select) and t < selecting_ended + 2,
                "write port": not select and selecting_rows > 0,
            }
            if not any(holds.values()):
                break
            reasons |= {reason for reason in holds if holds[reason]}
            t += 1
        taken.append((t, granules))
        ended = t + row.lines
        events["softmax_busy"] += [(cycle, 1) for cycle in range(t, ended)]
        events["score_release"].append((t, {"count": row.lines}))
        rise = 0 if of_row(r)["first_tile"] else golden[r].state.maximum - golden[r - 1].state.maximum
        sent = {
            "keys": len(row.scores), "kept": row.kept, "granule": granule, "reciprocal": golden[r].reciprocal,
            "shift": golden[r].shift, "rise": min(63, rise), "selecting": select, "maximum": golden[r].state.maximum,
            "total": golden[r].state.total,
        }  # fmt: skip
        events["weights"].append((t, sent))

        keys, values = len(row.scores), golden[r].weights
        tokens = [of_row(r)["first_key"] + j for j in range(keys)]
        if of_row(r)["list"]:
            tokens = [keep_list(of_row(r)["version"], position) for position in tokens]
        for i, first in enumerate(range(0, keys, step)):
            part, c = slice(first, first + step), t + i + softmax.normalise_cycles
            content = {
                "weights": values[part].tolist(), "probabilities": golden[r].probabilities[part].tolist(),
                "tokens": tokens[part], "position": first, "count": len(tokens[part]), "first": int(first == 0),
                "last": int(first + step >= keys), "accumulate": of_row(r)["accumulate"],
            }  # fmt: skip
            events["line"].append((c, content))
            if not select:
                events["dense_lines"].append((c + 1, 1))
        if select:
            selecting_ended = ended - 1
            loaded = ended - 1 + softmax.normalise_cycles + 1
            take = max(loaded + topk.take_cycles, handed + 1)
            positions = np.empty(keys, np.int64)
            n, found = select_row(values.astype(np.int64), row.kept, topk.lanes, lfsr, positions)
            assert positions[:n].tolist() == top_k(values, row.kept).positions.tolist()
            lfsr = found.lfsr_state
            worked = select_cycles(found.rounds, found.round_words, topk.round_overhead_cycles)
            handed = max(take + topk.handoff_cycles + worked, (out_last[-1] if out_last else -1) + 1)
            gaps = np.empty(keys, np.int64)
            o = handed + topk.filter_cycles + int(gaps[: emit_gaps(positions, n, topk.lanes, gaps)].sum())
            out_last.append(o)
            events["select_busy"] += [(cycle, 1) for cycle in range(take, handed + 1)]
            events["emitted"].append((o + 1, 1))
            if of_row(r)["v_selected"]:
                events["v_row"].append((o, {"kept": row.kept, "granule": granule}))
            kept = positions[:n].tolist()
            if row.columns > 1:
                columns = [[j for j in kept if j % row.columns == column] for column in range(row.columns)]
                counts = [len(column) for column in columns] + [0] * (arch.values_per_line(8) - row.columns)
                events["columns"].append((o, {"counts": counts}))
                kept = [
                    column[n] if n < len(column) else -1 for n in range(row.items // row.columns) for column in columns
                ]
            weights = [int(values[j]) if j >= 0 else None for j in kept]
            held.append((weights, [tokens[j] for j in kept] if of_row(r)["v_selected"] else kept))
        else:
            held.append((values.tolist(), []))
        granule = (granule + granules) % unit.granules
    return events, held, reasons


def play(unit: EngineUnit, log2_dim: int, rows: list[Row], seed: str, patience: int = 12) -> Run:
    dut, bench = SoftmaxPath(unit), Bench(unit, log2_dim, rows, seed, patience)

    async def testbench(ctx: Any) -> None:
        await bench.play(ctx, dut)

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(testbench)
    simulator.run()
    return bench.run


def check(unit: EngineUnit, log2_dim: int, rows: list[Row], run: Run) -> set[str]:
    events, held, reasons = expected(unit, log2_dim, rows, run)
    for port in sorted(events):
        seen, right = run.events[port], events[port]
        for number, (a, b) in enumerate(zip(seen, right, strict=False)):
            assert a == b, f"{port} {number}: {a}, should be {b}"
        # PV is done a few cycles before the selector or a release might be; nothing is left out before that.
        assert len(seen) == len(right), f"{port}: {len(seen)} events, should be {len(right)}"
    for r, ((weights, payloads), (want_weights, want_payloads)) in enumerate(zip(run.kept, held, strict=True)):
        there = [i for i, weight in enumerate(want_weights) if weight is not None]  # others carry no meaning
        assert [weights[i] for i in there] == [want_weights[i] for i in there], f"weights of row {r}"
        if rows[r].fields["selecting"]:
            assert [payloads[i] for i in there] == [want_payloads[i] for i in there], f"payloads of row {r}"
    return reasons


FOUR_VALUES = {"softmax.lanes": 4, "pv.multipliers": 32}

#: Changes to tiny, log2 of the head dimension, rows, what is the same in all rows, longest wait of PV, what some row
#: must have waited for.
CASES = [
    pytest.param({}, 3, 40, {}, 12, {"reciprocal", "row before", "write port"}, id="all kinds"),
    pytest.param({}, 4, 12, {"selecting": False}, 3, {"row before"}, id="one key per line, dense"),
    pytest.param({}, 3, 16, {"selecting": True, "longest": 8, "lsb": Lsb.NEVER}, 2, {"top-k", "command"}, id="top-k"),
    pytest.param({}, 3, 8, {"full": True, "longest": 64}, 150, {"ring"}, id="ring"),
    pytest.param({}, 3, 30, {"longest": 2, "selecting": False}, 0, {"reciprocal"}, id="one line per row"),
    pytest.param({}, 5, 14, {"chained": 0.9, "lsb": Lsb.NEVER, "longest": 12}, 2, {"reciprocal"}, id="chained tiles"),
    pytest.param({"topk.lanes": 8, "softmax.buffer_keys": 48}, 3, 12, {}, 12, set(), id="wider top-k"),
    pytest.param({"softmax.buffer_keys": 48}, 3, 9, {"full": True, "longest": 29}, 9, set(), id="odd ring"),
    pytest.param({"softmax.lanes": 1}, 3, 14, {"longest": 20}, 12, set(), id="one lane"),
    pytest.param({"softmax.lanes": 4, "qk.multipliers": 32}, 3, 16, {}, 12, set(), id="four lanes"),
    pytest.param(
        FOUR_VALUES,
        3,
        8,
        {"selecting": True, "full": True, "longest": 64, "kept": 20},
        300,
        {"ring"},
        id="four V rows per line",
    ),
    pytest.param(
        {**FOUR_VALUES, "topk.lanes": 8},
        4,
        20,
        {"selecting": True, "longest": 24},
        20,
        set(),
        id="two V rows per line",
    ),
]


@pytest.mark.parametrize(("change", "log2_dim", "count", "fixed", "patience", "waits"), CASES)
def test_values_and_cycles(
    change: dict, log2_dim: int, count: int, fixed: dict, patience: int, waits: set[str]
) -> None:
    unit = EngineUnit.of(load_arch("tiny", change))
    seed = f"{change} {log2_dim} {fixed}"
    rows = make_rows(unit, log2_dim, count, seed, **fixed)
    assert waits <= check(unit, log2_dim, rows, play(unit, log2_dim, rows, seed, patience))


def ports_of(component: wiring.Component) -> dict:
    """Ports for the converter, without the constant ready of helper streams, over which Amaranth 0.5.10 stumbles."""
    values = {"__".join(map(str, path)): Value.cast(value) for path, _, value in component.signature.flatten(component)}
    return {name: (value, None) for name, value in values.items() if not isinstance(value, Const)}


def test_becomes_verilog() -> None:
    path = SoftmaxPath(EngineUnit.of(load_arch("tiny")))
    assert "module SoftmaxPath" in verilog.convert(path, name="SoftmaxPath", ports=ports_of(path))
