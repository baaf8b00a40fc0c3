"""The engine as a whole: counts that are known in advance, bounds that no machine beats, order, and monotonic
resources.
"""

from itertools import pairwise

import numpy as np
import pytest

from accel.arch import Arch, archs, load_arch
from accel.lower.plan import Plan
from accel.lower.programs import lower_decode, lower_prefill
from accel.lower.trace import lower_trace
from accel.program import Flag, Opcode, Program, ValueFetch, jobs_of
from accel.units.fetcher import JOB_START_CYCLES, FetcherUnit, record_bytes, row_stride_bytes, side_mask
from accel.units.pv import ISSUE_CYCLES as PV_ISSUE_CYCLES
from accel.units.pv import NORMALISE_CYCLES, WRITER_CYCLES, PvUnit
from accel.units.qk import ISSUE_CYCLES as QK_ISSUE_CYCLES
from accel.units.qk import QkUnit
from accel.units.softmax import STORE_CYCLES, SoftmaxUnit
from sim.engine import Timing, run_timing
from sim.unroll import unroll
from sim.values import Executor
from sim.work import NEVER, Work
from workloads.kernels import SoftmaxAttention
from workloads.schedule import load_schedule


class NormalScores:
    """Scores with a part that belongs to the token, so that importance builds up; enough for timing."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.token = self.random.normal(size=1 << 16)

    def scores(self, jobs: np.ndarray, tokens: np.ndarray, rows: int) -> np.ndarray:
        drawn = self.random.normal(size=(rows, len(tokens))) + self.token[tokens]
        return np.rint(2 * 4096 * drawn).astype(np.int64)


def simulate(arch: Arch, program: Program, seed: int = 1) -> tuple[Work, Timing]:
    executor = Executor(arch, seed)
    executor.run(program.jobs, NormalScores(seed))
    work = unroll(arch, executor.recorded)
    return work, run_timing(arch, work)


def one_head(arch: Arch, keys: int, kept: int, head_dim: int = 64, **fields: int) -> Program:
    """A single decode row on an idle machine."""
    row = {
        "opcode": Opcode.ATTEND, "flags": Flag.FIRST_TILE | Flag.LAST_TILE, "msb_bits": 8, "value_bits": 8, "group": 1,
        "head_dim": head_dim, "queries": 1, "keys": keys, "keep_values": kept,
        "value_fetch": ValueFetch.RESIDENT if kept == keys else ValueFetch.SELECTED,
        "q_address": 0, "k_msb_address": 1 << 20, "k_lsb_address": 2 << 20, "v_address": 3 << 20,
        "output_address": 4 << 20,
    }  # fmt: skip
    tokens = {"opcode": Opcode.TOKENS, "flags": Flag.RESTART, "keys": keys}
    program = Program(jobs_of([tokens, row | fields]))
    program.check(arch)
    return program


@pytest.fixture(scope="module")
def small() -> tuple[Arch, Work, Timing]:
    arch = load_arch("spatten")
    return arch, *simulate(arch, lower_trace(load_schedule("gpt2-small-wikitext2"), arch))


def test_published_issue_cycles(small: tuple[Arch, Work, Timing]) -> None:
    """The arrays are busy for exactly the cycles that follow from the published trace."""
    assert small[2].issue_cycles == {"qk_msb": 162_336, "qk_lsb": 33_767, "pv": 33_132}


def test_not_faster_than_its_parts(small: tuple[Arch, Work, Timing]) -> None:
    """Neither the bandwidth floor of the published bytes nor any unit's own work is undercut."""
    arch, work, timing = small
    assert timing.cycles > 163_484  # 83.7 MB at 512 bytes per cycle
    assert timing.cycles > work.pending.sum() * arch.memory_spec.access_bytes / arch.peak_read_bytes_per_cycle
    assert timing.cycles > max(timing.busy.values())


def test_every_access_is_made_once(small: tuple[Arch, Work, Timing]) -> None:
    _, work, timing = small
    assert timing.dram["rd"] == work.pending.sum()
    assert timing.dram["wr"] == work.rows["w_atoms"].sum()


def test_rows_go_through_the_units_in_order(small: tuple[Arch, Work, Timing]) -> None:
    """Each row passes the stages one after the other, and rows do not overtake one another where they must not."""
    _, work, timing = small
    time, second = timing.times.row, work.rows["lsb"] == 1
    stages = [
        "qk_start",
        "qk_end",
        "final",
        "pass2_start",
        "pass2_end",
        "loaded",
        "take",
        "handoff",
        "emitted",
        "pv_start",
    ]
    for before, after in pairwise(stages):
        assert (time[before] <= time[after]).all(), (before, after)
    assert (time["lsb_start"][~second] == NEVER).all()
    assert (time["lsb_end"][second] < time["final"][second]).all()
    assert (time["decided"][second] > time["lsb_end"][second]).all()
    for stage in ("qk_start", "pass2_start", "handoff", "pv_start", "written"):
        assert (np.diff(time[stage]) > 0).all(), stage


def test_same_seed_same_times(small: tuple[Arch, Work, Timing]) -> None:
    arch = load_arch("tiny")
    program = one_head(arch, 40, 10, head_dim=16)
    first, again = (simulate(arch, program)[1] for _ in range(2))
    assert first.cycles == again.cycles
    assert (first.times.row == again.times.row).all()


@pytest.mark.parametrize("keys", [1, 7, 8, 100])
def test_unloaded_latency_is_the_sum_of_the_stages(keys: int) -> None:
    """One dense row alone: from the K fetch to the output, every stage's latency and nothing else.

    A query of 96 bytes and keys of 64 bytes leave the queues as fast as the crossbar takes them; what is measured
    here is the chain behind the last key's arrival.
    """
    arch = load_arch("spatten")
    timing = simulate(arch, one_head(arch, keys, keys))[1]
    time = timing.times.row[0]
    qk, softmax = QkUnit.of(arch), SoftmaxUnit.of(arch)
    scores = QK_ISSUE_CYCLES + qk.latency_cycles
    assert time["decided"] == time["qk_end"] + scores + softmax.exponent_cycles + softmax.test_cycles
    assert time["final"] == time["decided"]
    assert time["pass2_start"] == time["final"] + softmax.reciprocal_cycles + STORE_CYCLES
    lines = -(-keys // 8)
    assert time["pass2_end"] == time["pass2_start"] + lines - 1
    assert time["pv_end"] >= time["pass2_end"] + softmax.normalise_cycles + 1
    pv = PvUnit.of(arch, 64)
    summed = time["pv_end"] + PV_ISSUE_CYCLES + pv.latency_cycles
    assert time["written"] == summed + pv.drain_cycles(64) + NORMALISE_CYCLES + WRITER_CYCLES
    first_key = time["qk_start"] - timing.times.kset[0, 0]
    spec = arch.memory_spec
    port = 2  # the slice before the memory's port, and the walker that passes what has arrived
    unloaded = JOB_START_CYCLES + 1 + port + spec.closed_read_cycles + FetcherUnit.of(arch).return_cycles
    conflict = spec.RAS + spec.RP if keys > 8 else 0  # the query may find its bank open for a key
    assert unloaded <= first_key <= unloaded + 3 * spec.CCD_L + 16 + conflict  # the query comes behind the keys


def test_second_pass_costs_its_fetch_and_its_lines() -> None:
    arch = load_arch("spatten")
    plain = simulate(arch, one_head(arch, 256, 64, msb_bits=6, lsb_bits=4))[1]
    again, timing = simulate(arch, one_head(arch, 256, 64, msb_bits=6, lsb_bits=4, lsb=2))
    assert again.rows["lsb"].tolist() == [1]
    assert timing.issue_cycles["qk_lsb"] == 32
    assert timing.cycles >= plain.cycles + 32 + arch.memory_spec.closed_read_cycles


@pytest.mark.parametrize("name", archs())
def test_every_preset_runs(name: str) -> None:
    arch = load_arch(name)
    dim = min(arch.max_head_dim, 64)
    keys = min(arch.tile_keys(dim), 300)
    for kept in (keys, keys // 3):
        assert simulate(arch, one_head(arch, keys, kept, head_dim=dim))[1].cycles > 0


@pytest.mark.parametrize("head_dim", [8, 32, 64, 80, 96, 128])
def test_head_dimensions(head_dim: int) -> None:
    """Issue cycles follow the padded head dimension."""
    arch = load_arch("spatten")
    timing = simulate(arch, one_head(arch, 100, 50, head_dim=head_dim))[1]
    per_line = min(8, 512 // arch.padded_head_dim(head_dim))
    assert timing.issue_cycles["qk_msb"] == -(-100 // per_line)
    assert timing.issue_cycles["pv"] == -(-50 // per_line)


MORE = [
    {"memory.channels": 32},
    {"qk.multipliers": 1024, "pv.multipliers": 1024, "softmax.lanes": 16},
    {"topk.lanes": 32},
    {"fetcher.lanes": 64},
    {"sram.k_bytes": 2 * 196_608, "sram.v_bytes": 2 * 196_608},
    {"softmax.buffer_keys": 4096},
    {"fetcher.address_fifo_depth": 128},
    {"rows_in_flight": 32},
]


@pytest.mark.parametrize("more", MORE, ids=lambda more: next(iter(more)))
def test_more_hardware_is_not_slower(more: dict[str, int]) -> None:
    """Within 1 %: scheduling anomalies of the memory controller are real, and small."""
    arch = load_arch("spatten")
    schedule = load_schedule("gpt2-small-wikitext2")
    program = lower_trace(schedule, arch)
    program = Program(program.jobs[: 12 * 40])
    base = simulate(arch, program)[1].cycles
    assert simulate(arch.replace(more), program)[1].cycles <= 1.01 * base


def test_a_tile_waits_for_the_sums_of_the_one_before() -> None:
    """Between tiles of prefill the sums go through memory: written, then read, and both are counted."""
    arch = load_arch("tiny")
    cross = SoftmaxAttention(query_heads=1, kv_heads=1, queries=5, keys=150, head_dim=16, mask="none", cross=True)
    work, timing = simulate(arch, lower_prefill(cross, Plan(), arch, 1))
    rows, time = work.rows, timing.times.row
    carried = np.flatnonzero(rows["after"] >= 0)
    assert carried.tolist() == list(range(5, 15)), "three tiles of 64, 64 and 22 keys"
    assert (rows["w_address"][carried - 5] == rows["p_address"][carried]).all()
    assert (rows["after"][carried] == carried - 2).all(), "two query slots hold the sums of two rows"
    assert (rows["w_atoms"][:10] == 3).all(), "16 sums of 6 bytes in accesses of 32"
    assert (rows["p_atoms"][carried] == 3).all()
    assert (time["qk_start"][carried] > time["written"][rows["after"][carried]]).all()


def test_a_single_row_goes_on_through_memory_where_its_sums_are() -> None:
    """Of five rows four end with the second tile; the last one is alone from there on, but its sums are not on chip."""
    arch = load_arch("tiny")
    tile = arch.tile_keys(16)
    kernel = SoftmaxAttention(1, 1, queries=5, keys=2 * tile + 1, head_dim=16, query_start=2 * tile - 4)
    rows = simulate(arch, lower_prefill(kernel, Plan(), arch, 1))[0].rows
    assert (rows["p_atoms"] > 0).tolist() == [False] * 5 + [True] * 6
    assert rows["w_atoms"].tolist() == [3] * 5 + [1] * 4 + [3] + [1]
    assert not rows["alone"].any()
    assert rows["after"][5:].tolist() == [3, 4, 5, 6, 7, 9]


def test_a_single_row_keeps_its_sums_between_tiles() -> None:
    arch = load_arch("tiny")
    decode = SoftmaxAttention(query_heads=1, kv_heads=1, queries=1, keys=150, head_dim=16, query_start=149)
    work = simulate(arch, lower_decode(decode, Plan(), arch, 1, 1))[0]
    assert work.rows["p_atoms"].sum() == 0
    assert work.rows["w_atoms"].tolist() == [0, 0, 1]


@pytest.mark.parametrize(("head_dim", "bits"), [(64, 6), (64, 10), (96, 6), (32, 6), (128, 6), (64, 8)])
def test_heads_of_a_pair_share_only_the_crumbs(head_dim: int, bits: int) -> None:
    """Both heads' accesses together are the pair's row, and what they share is where both have 2-bit planes."""
    atom = 32
    atoms = row_stride_bytes(head_dim, bits, atom, 2) // atom
    masks = [side_mask(head_dim, bits, atom, side) for side in (0, 1)]
    assert masks[0] | masks[1] == (1 << atoms) - 1
    if bits == 8:
        assert masks[0] & masks[1] == 0
    assert all(mask.bit_count() * atom >= record_bytes(head_dim, bits) for mask in masks)
