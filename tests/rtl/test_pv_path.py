"""Behind the weight ring: every cycle of docs/hardware.md "PV" and "Writer", and every bit that reaches memory."""

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Const, Value

from accel.arch import load_arch
from accel.units.engine import OUTPUT_ROWS, EngineUnit
from accel.units.pv import ISSUE_CYCLES, NORMALISE_CYCLES, WRITER_CYCLES, PvUnit
from rtl.pv_path import PvPath
from tests.rtl.pv_path_bench import Job, Pace, Row, Seen, by_column, granules_of, play

TINY = EngineUnit.of(load_arch("tiny"))
#: Four keys per weight line and V line at D = 8, items of 8 outputs, writes of 64 bytes.
WIDE = EngineUnit.of(
    load_arch("tiny", {"qk.multipliers": 32, "pv.multipliers": 32, "softmax.lanes": 4, "pv.output_lanes": 8,
                       "memory.unit": "ddr4"})
)  # fmt: skip
#: Rows so short that accumulators and output buffer are what they wait for.
NARROW = EngineUnit.of(load_arch("tiny", {"pv.output_lanes": 1}))

COMPARED = (
    "first_parts", "issue", "row_finished", "ring_release", "v_release", "head_magnitude", "offers", "row_written",
    "retired",
)  # fmt: skip

FAST = Pace()
SLOW_MEMORY = Pace(aw=0.2, w=0.2, answer=0.1)
SLOW_V = Pace(v=0.3, aw=0.7, w=0.7, answer=0.5)
UNEVEN = Pace(weights=0.3, ring=0.4, v=0.6, aw=0.5, w=0.5, answer=0.5)


def expect(unit: EngineUnit, jobs: list[Job], rows: list[Row], seen: Seen) -> Seen:
    """What comes out, from the cycles of what went in."""
    out = Seen()
    selecting = dense = v_before = 0
    free = write_free = 0
    drained: list[int] = []
    ended: list[int] = []
    resident_lines = 0
    for r, row in enumerate(rows):
        job = jobs[row.job]
        dim = job.head_dim
        pv = PvUnit.of(unit.arch, dim)
        keys_per_line, per_line = unit.arch.keys_per_line(dim), unit.arch.values_per_line(dim)
        fold, latency = unit.arch.pv_fold(dim), pv.latency_cycles
        lines = -(-len(row.kept) // per_line)
        if by_column(unit, job):
            lines = int(np.bincount(np.array(row.kept) % per_line).max())
        if row.number == 0 or job.v_selected:
            resident_lines = len(row.v_lines)
        for n in range(lines):
            t = max(free, seen.weights[r])
            by_row = job.selecting and not job.v_selected
            t = max(t, seen.v_lines[v_before + (-(-row.keys // per_line) - 1 if by_row else n)])
            if job.selecting:
                t = max(t, seen.emitted[selecting])
            else:
                t = max(t, seen.dense[dense + (min(row.keys, (n + 1) * per_line) - 1) // keys_per_line])
            if n == 0 and r >= 2:
                t = max(t, drained[r - 2] - ISSUE_CYCLES - latency)
            if n == 0 and r >= OUTPUT_ROWS:
                t = max(t, ended[r - OUTPUT_ROWS] + 1)
            free = t + fold
            out.first_parts.append(t)
            out.issue += range(t, t + fold)
        if job.selecting:
            selecting += 1
        else:
            dense += -(-row.keys // keys_per_line)
        out.row_finished.append(t)
        out.ring_release.append((t, granules_of(unit, job, row)))
        if job.v_selected or row.last_of_job:
            out.v_release.append((t, resident_lines))
            v_before += resident_lines
        sums = t + fold - 1 + ISSUE_CYCLES + latency
        drained.append(max(sums, drained[-1] if drained else 0) + pv.drain_cycles(dim))
        if job.last_tile:
            magnitude = int(np.abs(row.output).sum())
            head = job.head * job.group + row.number % job.group
            out.head_magnitude.append((drained[-1] + NORMALISE_CYCLES - 1, head, magnitude))
        write_free = max(write_free, drained[-1] + NORMALISE_CYCLES + WRITER_CYCLES)
        write_bytes = unit.arch.memory_spec.access_bytes
        image = row.output.astype("<i2").tobytes() if job.last_tile else b""
        for at in range(0, len(image), write_bytes):
            data = image[at : at + write_bytes]
            out.offers.append(write_free)
            done = max(seen.aw_ready.index(True, write_free), seen.w_ready.index(True, write_free))
            strobes = (1 << len(data)) - 1
            address = job.address + row.number * job.stride + at
            out.writes.append((done, address, int.from_bytes(data, "little"), strobes))
            write_free = done + 1
        if not image:
            write_free += 1
        ended.append(write_free - 1)
        out.row_written.append(write_free)
        if row.last_of_job:
            out.retired.append(write_free)
    return out


def check(unit: EngineUnit, jobs: list[Job], pace: Pace, seed: int) -> tuple[list[Row], Seen]:
    rows, seen = play(unit, jobs, pace, seed)
    expected = expect(unit, jobs, rows, seen)
    for name in COMPARED:
        assert getattr(seen, name) == getattr(expected, name), name
    masked = []
    for cycle, address, data, strobes in seen.writes:
        mask = sum(0xFF << 8 * i for i in range(strobes.bit_length()) if strobes >> i & 1)
        masked.append((cycle, address, data & mask, strobes))
    assert masked == expected.writes
    return rows, seen


def draw(unit: EngineUnit, rng: np.random.Generator, dims: list[int], count: int, longest: int = 24) -> list[Job]:
    """Random jobs: dims one after the other; several rows, groups, causal rows, chains of tiles."""
    jobs: list[Job] = []
    for dim in dims:
        for _ in range(count):
            keys = int(rng.integers(1, longest + 1))
            group = int(rng.integers(1, 4))
            head, address = int(rng.integers(0, 4)), 64 * int(rng.integers(0, 1 << 20))
            selecting = bool(rng.integers(2))
            v_selected = selecting and bool(rng.integers(2))
            tiles = int(rng.integers(2, 4)) if rng.random() < 0.3 else 1
            for tile in range(tiles):
                rows: list[tuple[int, list[int]]] = []
                for number in range(1 if tiles > 1 else group * int(rng.integers(1, 4))):
                    visible = int(rng.integers(1, keys + 1)) if number and rng.random() < 0.5 else keys
                    wanted = int(rng.integers(1, visible + 1)) if selecting else visible
                    rows.append((visible, sorted(rng.choice(visible, wanted, replace=False).tolist())))
                jobs.append(
                    Job(dim, keys, rows, selecting, v_selected, group, head, tile == 0, tile == tiles - 1, address, 128)
                )
    return jobs


@pytest.mark.parametrize("pace", [FAST, SLOW_MEMORY, SLOW_V, UNEVEN], ids=["fast", "slow memory", "slow v", "uneven"])
@pytest.mark.parametrize("dims", [[8, 32, 5], [16, 30, 16]], ids=str)
def test_random_jobs(dims: list[int], pace: Pace) -> None:
    seed = 100 * dims[0] + int(1000 * pace.v)
    check(TINY, draw(TINY, np.random.default_rng(seed), dims, 4), pace, seed)


@pytest.mark.parametrize("unit", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("pace", [FAST, UNEVEN], ids=["fast", "uneven"])
def test_other_geometries(unit: EngineUnit, pace: Pace) -> None:
    check(unit, draw(unit, np.random.default_rng(7), [8, 24, 12], 4), pace, 7)


def test_short_rows_wait_for_accumulators() -> None:
    """Rows of one line, 32 cycles of output each: PV must not refuse the third."""
    jobs = [Job(32, 1, [(1, [0])] * 6, address=256)]
    _, seen = check(NARROW, jobs, FAST, 3)
    assert np.diff(seen.row_finished).tolist()[2:] == [32] * 3


def test_rows_wait_for_the_output_buffer() -> None:
    """Without writes, OUTPUT_ROWS rows are all that begin."""
    jobs = [Job(8, 2, [(2, [0, 1])] * (OUTPUT_ROWS + 3))]
    _, seen = check(TINY, jobs, Pace(aw=0.02, w=0.02), 5)
    assert seen.row_finished[OUTPUT_ROWS - 1] < seen.writes[0][0] < seen.row_finished[OUTPUT_ROWS]


def test_one_line_per_cycle() -> None:
    """With everything there, a row of 32 lines follows the other without a gap."""
    jobs = [Job(16, 32, [(32, list(range(32)))] * 3)]
    _, seen = check(TINY, jobs, FAST, 9)
    first = seen.issue[32]
    assert seen.issue[32:] == list(range(first, first + 64))


def test_rings_wrap() -> None:
    """More lines than the V ring has, and more weights than the weight ring, of uneven rows."""
    rng = np.random.default_rng(11)
    jobs = draw(TINY, rng, [32, 16], 10, longest=60)
    rows, _ = check(TINY, jobs, FAST, 11)
    for dim in (32, 16):
        of_dim = [row for row in rows if jobs[row.job].head_dim == dim]
        assert sum(len(row.v_lines) for row in of_dim) > 2 * TINY.v_ring_lines(dim)
    assert sum(len(row.kept) for row in rows) > 2 * TINY.arch.softmax.buffer_keys


def test_converts_to_verilog() -> None:
    path = PvPath(TINY)
    ports = [Value.cast(value) for _, _, value in path.signature.flatten(path)]
    text = verilog.convert(path, ports=[port for port in ports if not isinstance(port, Const)])
    assert "module top" in text
