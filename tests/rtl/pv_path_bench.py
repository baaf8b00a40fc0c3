"""Neighbours of ``rtl.pv_path.PvPath`` in plain Python, and what they see: who sends what in which cycle."""

from dataclasses import dataclass, field
from unittest import mock

import numpy as np
from amaranth.sim import Simulator

from accel.numerics.attention import normalise_output
from accel.units.engine import EngineUnit
from accel.units.pv import PvArray
from rtl.pv import PV
from rtl.pv_path import PvPath

FETCH_CYCLES = 8  # at least, from room in the V ring to a line that lands there


@dataclass
class Job:
    """An attend job. rows: (visible keys, kept positions) of each row."""

    head_dim: int
    keys: int
    rows: list[tuple[int, list[int]]]
    selecting: bool = False
    v_selected: bool = False
    group: int = 1
    head: int = 0
    first_tile: bool = True
    last_tile: bool = True
    address: int = 0
    stride: int = 64


@dataclass
class Row:
    job: int
    last_of_job: bool
    number: int  # in the job
    keys: int
    kept: list[int]
    weights: np.ndarray  # of the kept keys
    values: np.ndarray  # of the kept keys
    reciprocal: int
    shift: int
    rise: int
    v_lines: list[np.ndarray]  # brought for this row
    total: np.ndarray = field(default_factory=lambda: np.zeros(0))
    output: np.ndarray = field(default_factory=lambda: np.zeros(0))


def make_rows(unit: EngineUnit, jobs: list[Job], rng: np.random.Generator) -> list[Row]:
    """Weights and values of all rows, and what they add up to."""
    rows: list[Row] = []
    for index, job in enumerate(jobs):
        per_line = unit.arch.values_per_line(job.head_dim)
        resident = rng.integers(-2048, 2048, (job.keys, job.head_dim))
        for number, (keys, kept) in enumerate(job.rows):
            values = resident[kept]
            source = values if job.v_selected else resident
            first = number == 0 or job.v_selected
            lines = [source[at : at + per_line] for at in range(0, len(source), per_line)] if first else []
            weights = rng.integers(0, 4096, len(kept))
            total = weights @ values
            rise = int(rng.integers(0, 4))
            if not job.first_tile:
                total = total + (rows[-1].total >> rise)
            reciprocal, shift = int(rng.integers(1 << 15, 1 << 16)), int(rng.integers(0, 12))
            ends = number + 1 == len(job.rows)
            row = Row(index, ends, number, keys, kept, weights, values, reciprocal, shift, rise, lines)
            row.total, row.output = total, normalise_output(total, reciprocal, shift)
            rows.append(row)
    return rows


@dataclass
class Seen:
    """Cycles of what went in (first cycle in which it is seen), and (cycle, content) of what came out."""

    weights: list[int] = field(default_factory=list)
    emitted: list[int] = field(default_factory=list)
    dense: list[int] = field(default_factory=list)
    v_lines: list[int] = field(default_factory=list)
    aw_ready: list[bool] = field(default_factory=list)
    w_ready: list[bool] = field(default_factory=list)
    issue: list[int] = field(default_factory=list)
    first_parts: list[int] = field(default_factory=list)
    row_finished: list[int] = field(default_factory=list)
    ring_release: list[tuple[int, int]] = field(default_factory=list)
    v_release: list[tuple[int, int]] = field(default_factory=list)
    head_magnitude: list[tuple[int, int, int]] = field(default_factory=list)
    offers: list[int] = field(default_factory=list)
    writes: list[tuple[int, int, int, int]] = field(default_factory=list)  # cycle, address, data, strobes
    retired: list[int] = field(default_factory=list)
    row_written: list[int] = field(default_factory=list)
    line_refused: int = 0


@dataclass
class Pace:
    """Chances per cycle of what the neighbours do."""

    weights: float = 1.0
    ring: float = 1.0
    v: float = 1.0
    aw: float = 1.0
    w: float = 1.0
    answer: float = 1.0


def by_column(unit: EngineUnit, job: Job) -> bool:
    """Whether each column of the V line walks through kept positions of its own."""
    return job.selecting and not job.v_selected and unit.arch.values_per_line(job.head_dim) > 1


def ranked(kept: list[int], columns: int) -> list[int]:
    """Places in the row's part of the ring: columns side by side, each its positions in order."""
    return [
        columns * sum(k % columns == other % columns for other in kept[:j]) + k % columns for j, k in enumerate(kept)
    ]


def granules_of(unit: EngineUnit, job: Job, row: Row) -> int:
    columns = unit.arch.values_per_line(job.head_dim)
    items = min(len(row.kept), -(-row.keys // columns)) * columns if by_column(unit, job) else len(row.kept)
    return -(-items // unit.granule)


def packed(numbers: np.ndarray, bits: int) -> int:
    return sum((int(n) & (1 << bits) - 1) << bits * i for i, n in enumerate(numbers))


class Bench:
    """Drives one PvPath through ``jobs``; ``pv`` is the PV array inside."""

    def __init__(self, unit: EngineUnit, dut: PvPath, jobs: list[Job], rows: list[Row], pace: Pace, seed: int):
        self.unit, self.dut, self.jobs, self.rows, self.pace = unit, dut, jobs, rows, pace
        self.rng = np.random.default_rng(seed)
        self.seen = Seen()
        self.lanes = unit.arch.topk.lanes
        self.ring_w = self.rng.integers(0, 4096, unit.granules * unit.granule)
        self.ring_p = self.rng.integers(0, 1 << 16, unit.granules * unit.granule)
        self.v_memory: dict[int, np.ndarray] = {}
        self.dispatched = self.retired = self.finished = 0
        self.granule = self.granules_used = self.v_place = self.v_used = 0
        self.first_granule: list[int] = []
        self.selecting = [r for r, row in enumerate(rows) if jobs[row.job].selecting]
        self.dense_lines = [
            (r, at)
            for r, row in enumerate(rows)
            if not jobs[row.job].selecting
            for at in range(0, row.keys, unit.arch.keys_per_line(jobs[row.job].head_dim))
        ]
        self.v_lines = [(row.job, line) for row in rows for line in row.v_lines]
        self.unanswered = self.head_dim = 0
        self.access: dict[str, tuple[int, ...]] = {}
        self.offering = False
        self.columns = unit.arch.values_per_line(8)
        self.columns_known: set[int] = set()
        self.v_freed: list[tuple[int, int]] = []  # a fetch takes its time: the last line is still read

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def columns_of(self, r: int) -> int:
        return self.unit.arch.values_per_line(self.jobs[self.rows[r].job].head_dim)

    def by_column(self, r: int) -> bool:
        return by_column(self.unit, self.jobs[self.rows[r].job])

    def dispatch(self, ctx) -> bool:  # type: ignore[no-untyped-def]
        if self.dispatched == len(self.jobs) or self.dispatched - self.retired == self.unit.job_slots:
            return False
        job, dut = self.jobs[self.dispatched], self.dut
        before = self.jobs[self.dispatched - 1] if self.dispatched else None
        change = before is None or before.head_dim != job.head_dim
        if change and self.retired < self.dispatched:
            return False
        if change:
            padded = self.unit.arch.padded_head_dim(job.head_dim)
            ctx.set(dut.format, {"head_dim": job.head_dim, "log2_dim": padded.bit_length() - 1})
            ctx.set(dut.format_change, 1)
            self.v_place, self.head_dim = 0, job.head_dim
        fields = {
            "rows": len(job.rows), "group": job.group, "head": job.head, "keys": job.keys,
            "first_tile": job.first_tile, "last_tile": job.last_tile, "selecting": job.selecting,
            "v_selected": job.v_selected, "output_address": job.address, "output_stride": job.stride,
        }  # fmt: skip
        ctx.set(dut.dispatch.payload, {name: int(value) for name, value in fields.items()})
        self.dispatched += 1
        return True

    def push_weights(self, ctx, t: int) -> bool:  # type: ignore[no-untyped-def]
        r = len(self.seen.weights)
        if r == len(self.rows) or not self.chance(self.pace.weights):
            return False
        row, unit = self.rows[r], self.unit
        granules = granules_of(unit, self.jobs[row.job], row)
        if row.job >= self.dispatched or r - self.finished == unit.arch.rows_in_flight:
            return False
        if self.granules_used + granules > unit.granules:
            return False
        fields = {
            "keys": row.keys, "kept": len(row.kept), "granule": self.granule, "reciprocal": row.reciprocal,
            "shift": row.shift, "rise": row.rise, "selecting": int(self.jobs[row.job].selecting),
        }  # fmt: skip
        ctx.set(self.dut.weights.payload, fields)
        self.first_granule.append(self.granule)
        self.granule = (self.granule + granules) % unit.granules
        self.granules_used += granules
        self.seen.weights.append(t + 1)
        return True

    def fill_ring(self, ctx, t: int) -> None:  # type: ignore[no-untyped-def]
        """Weights that are seen in the ring from t on."""
        seen, size = self.seen, len(self.ring_w)
        ctx.set(self.dut.columns.valid, 0)

        def store(r: int, begin: int, end: int) -> None:
            row = self.rows[r]
            places = ranked(row.kept, self.columns_of(r)) if self.by_column(r) else range(len(row.kept))
            for j in range(begin, min(end, len(row.kept))):
                at = (self.first_granule[r] * self.unit.granule + places[j]) % size
                self.ring_w[at], self.ring_p[at] = row.weights[j], row.kept[j]

        if len(seen.emitted) < len(self.selecting) and self.chance(self.pace.ring):
            r = self.selecting[len(seen.emitted)]
            known = not self.by_column(r) or r in self.columns_known
            if r < len(seen.weights) and seen.weights[r] <= t and not known:
                counts = np.bincount(np.array(self.rows[r].kept) % self.columns_of(r), minlength=self.columns)
                ctx.set(self.dut.columns.payload, {"counts": counts.tolist()})
                ctx.set(self.dut.columns.valid, 1)
                self.columns_known.add(r)
            elif r < len(seen.weights) and seen.weights[r] <= t:
                store(r, 0, self.rows[r].keys)
                seen.emitted.append(t)
        if len(seen.dense) < len(self.dense_lines) and self.chance(self.pace.ring):
            r, at = self.dense_lines[len(seen.dense)]
            if r < len(seen.weights) and seen.weights[r] <= t:
                store(r, at, at + self.unit.arch.keys_per_line(self.jobs[self.rows[r].job].head_dim))
                seen.dense.append(t)
        ctx.set(self.dut.emitted, len(seen.emitted) % (1 << len(self.dut.emitted)))
        ctx.set(self.dut.dense_lines, len(seen.dense) % (1 << len(self.dut.dense_lines)))

    def bring_v(self, ctx, t: int) -> None:  # type: ignore[no-untyped-def]
        if self.v_freed and self.v_freed[0][0] + FETCH_CYCLES <= t:
            self.v_used -= self.v_freed.pop(0)[1]
        if len(self.seen.v_lines) < len(self.v_lines) and self.chance(self.pace.v):
            job, line = self.v_lines[len(self.seen.v_lines)]
            ring = self.unit.v_ring_lines(self.jobs[job].head_dim)
            if job < self.dispatched and self.v_used < ring:
                self.v_memory[self.v_place] = line
                self.v_place = (self.v_place + 1) % ring
                self.v_used += 1
                self.seen.v_lines.append(t)
        ctx.set(self.dut.v_passed, len(self.seen.v_lines) % (1 << len(self.dut.v_passed)))

    def v_words(self, lines: list[np.ndarray], part: int) -> int:
        """M words of a part of a line, each column from its own ring line; what carries no meaning is random."""
        m, padded = self.unit.arch.pv.multipliers, self.unit.arch.padded_head_dim(self.head_dim)
        words = self.rng.integers(0, 4096, max(m, padded))
        for p, line in enumerate(lines):
            if p < len(line):
                words[p * padded : p * padded + self.head_dim] = line[p]
        return packed(words[part * m : part * m + m], 12)

    async def run(self, ctx, pv, most: int) -> None:  # type: ignore[no-untyped-def]
        dut, seen, rng = self.dut, self.seen, self.rng
        word = None
        v_read = None
        while self.retired < len(self.jobs) or not ctx.get(dut.write_idle):
            t = len(seen.aw_ready)
            assert t < most, "the engine is stuck"
            ctx.set(dut.format_change, 0)
            ctx.set(dut.dispatch.valid, self.dispatch(ctx))
            self.fill_ring(ctx, t)
            self.bring_v(ctx, t)
            ctx.set(dut.weights.valid, self.push_weights(ctx, t))
            weights, payloads = rng.integers(0, 1 << 16, (2, self.lanes))
            if word is not None:
                at = slice(word * self.lanes, (word + 1) * self.lanes)
                weights, payloads = self.ring_w[at], self.ring_p[at]
            ctx.set(dut.ring_items.weights.as_value(), packed(weights, 12))
            ctx.set(dut.ring_items.payloads.as_value(), packed(payloads, 16))
            ctx.set(dut.v_words.as_value(), int(v_read if v_read is not None else rng.integers(0, 1 << 62)))
            aw, w = self.chance(self.pace.aw), self.chance(self.pace.w)
            answer = self.unanswered > 0 and self.chance(self.pace.answer)
            self.unanswered -= answer
            ctx.set(dut.write.awready, aw)
            ctx.set(dut.write.wready, w)
            ctx.set(dut.write.bvalid, answer)
            seen.aw_ready.append(aw)
            seen.w_ready.append(w)

            word, v_read = None, None
            if ctx.get(dut.issue):
                seen.issue.append(t)
            if ctx.get(dut.ring_read.valid):
                word = ctx.get(dut.ring_read.payload.word)
                seen.first_parts.append(t)
            if ctx.get(dut.v_read.valid):
                lines = [ctx.get(line) for line in dut.v_read.payload.lines]
                part = ctx.get(dut.v_read.payload.part)
                used = lines[: self.unit.arch.values_per_line(self.head_dim)]
                v_read = self.v_words([self.v_memory[line] for line in used], part)
            seen.line_refused += ctx.get(pv.line.valid) and not ctx.get(pv.line.ready)
            if ctx.get(dut.row_finished):
                seen.row_finished.append(t)
                self.finished += 1
            if ctx.get(dut.ring_release.valid):
                seen.ring_release.append((t, ctx.get(dut.ring_release.payload["count"])))
                self.granules_used -= seen.ring_release[-1][1]
            if ctx.get(dut.v_release.valid):
                seen.v_release.append((t, ctx.get(dut.v_release.payload["count"])))
                self.v_freed.append(seen.v_release[-1])
            if ctx.get(dut.head_magnitude.valid):
                payload = dut.head_magnitude.payload
                seen.head_magnitude.append((t, ctx.get(payload.head), ctx.get(payload.magnitude)))
            self.watch_writes(ctx, t)
            if ctx.get(dut.retired):
                seen.retired.append(t)
                self.retired += 1
            if ctx.get(dut.row_written):
                seen.row_written.append(t)
            await ctx.tick()

    def watch_writes(self, ctx, t: int) -> None:  # type: ignore[no-untyped-def]
        write, seen = self.dut.write, self.seen
        if (ctx.get(write.awvalid) or ctx.get(write.wvalid)) and not self.offering:
            assert ctx.get(write.awvalid)
            assert ctx.get(write.wvalid)
            seen.offers.append(t)
            self.offering = True
        if ctx.get(write.awvalid) and seen.aw_ready[-1]:
            self.access["address"] = (ctx.get(write.awaddr),)
        if ctx.get(write.wvalid) and seen.w_ready[-1]:
            self.access["data"] = ctx.get(write.wdata), ctx.get(write.wstrb)
        if len(self.access) == 2:
            seen.writes.append((t, *self.access["address"], *self.access["data"]))  # type: ignore[arg-type]
            self.access, self.offering = {}, False
            self.unanswered += 1


def play(unit: EngineUnit, jobs: list[Job], pace: Pace, seed: int, most: int = 4000) -> tuple[list[Row], Seen]:
    """Run the jobs. Raises AssertionError if they do not end within ``most`` cycles."""
    rows = make_rows(unit, jobs, np.random.default_rng(seed))
    arrays: list[PV] = []

    def remember(*parameters: PvArray) -> PV:
        arrays.append(PV(*parameters))
        return arrays[-1]

    with mock.patch("rtl.pv_path.PV", remember):
        dut = PvPath(unit)
        simulator = Simulator(dut)
    bench = Bench(unit, dut, jobs, rows, pace, seed)

    async def testbench(ctx):  # type: ignore[no-untyped-def]
        await bench.run(ctx, arrays[0], most)

    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert not bench.seen.line_refused, "PV refused a line"
    return rows, bench.seen
