"""Stand-ins around the softmax path: for the QK array, which sends passes and scores, and for PV, which reads the ring
and frees it; what they did and saw is recorded.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accel.program import Lsb
from accel.units.engine import EngineUnit
from accel.units.qk import QkUnit
from rtl.softmax_path import SoftmaxPath

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
