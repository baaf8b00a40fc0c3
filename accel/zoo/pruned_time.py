"""Time and counters of a phase when techniques are on.

Softmax attention is simulated again, with the jobs that prune its tokens, its keep list and its second passes; of the
second passes, the share that was measured (`accel.zoo.technique_error`). Everything else is scaled: traffic by what its
streams have left, array work by the work that is left, time by whichever of the two then takes longer.
"""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.lower.attention import Lowering
from accel.lower.plan import Plan
from accel.program import Jobs, Lsb, Program, jobs_of
from accel.units.softmax import SCORE_FRACTION_BITS
from accel.zoo.attention_time import Simulated, added, head_cycles, run_program, scaled
from accel.zoo.phase_run import PhaseRun
from workloads.kernels import SoftmaxAttention

SAMPLE_CYCLES = 100_000
MSB_BITS, LSB_BITS = 8, 4


class Pruning(NamedTuple):
    """Of softmax attention: shares of tokens and heads kept, and of rows that fetch the LSB plane (None: one plane)."""

    tokens: float = 1.0
    heads: float = 1.0
    again: float | None = None

    def and_(self, other: "Pruning") -> "Pruning":
        """Both at once."""
        again = other.again if self.again is None else self.again
        return Pruning(self.tokens * other.tokens, self.heads * other.heads, again)


class Left(NamedTuple):
    """What is left of a call: share of each stream's bytes (1 if not named), of the array work, and of attention."""

    streams: Mapping[str, float]
    work: float
    pruning: Pruning


class NormalScores:
    """Seeded normal scores in log2 units, so that the tokens kept lie scattered as importance leaves them."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)

    def scores(self, jobs: Jobs, tokens: NDArray[np.int32], rows: int) -> NDArray[np.int64]:
        """(rows, tokens)."""
        return np.rint(self._rng.normal(size=(rows, len(tokens))) * (1 << SCORE_FRACTION_BITS)).astype(np.int64)


def left_bytes(run: PhaseRun, left: Left) -> float:
    """Bytes that still move."""
    whole = run.phase.moved_bytes
    if not whole:
        return run.moved_bytes
    kept = sum(stream.moved * left.streams.get(stream.name, 1.0) for stream in run.phase.streams)
    return run.moved_bytes * kept / whole


def pruned_run(arch: Arch, run: PhaseRun, left: Left) -> PhaseRun:
    """The phase with techniques on."""
    if run.phase.mode == "softmax" and run.phase.pieces:
        return run if left.pruning == Pruning() else _attention(arch, run, left.pruning)
    traffic = left_bytes(run, left) / run.moved_bytes if run.moved_bytes else 1.0
    before, after = max(run.array, run.memory), max(run.array * left.work, run.memory * traffic)
    time = after / before if before else 1.0
    return replace(
        run, cycles=run.cycles * time, array=run.array * left.work, memory=run.memory * traffic,
        moved_bytes=run.moved_bytes * traffic, counts=_scaled_counts(run.counts, traffic, left.work),
    )  # fmt: skip


def _scaled_counts(counted: Mapping[str, Any], traffic: float, work: float) -> dict[str, Any]:
    by_traffic = ("dram_read_bytes", "dram_write_bytes", "dram_commands", "crossbar_bytes", "sram_write_bytes")
    return {name: scaled(value, traffic if name in by_traffic else work) for name, value in counted.items()}


def _attention(arch: Arch, run: PhaseRun, pruning: Pruning) -> PhaseRun:
    cycles, total = 0.0, None
    for piece in run.phase.pieces:
        assert isinstance(piece.kernel, SoftmaxAttention)
        found = simulate_pruned(arch, piece.kernel, pruning.tokens, pruning.again)
        times = piece.times * run.phase.repeats * pruning.heads
        cycles += found.cycles * times
        part = scaled(found.counts, times)
        total = part if total is None else added(total, part)
    assert total is not None
    moved = float(sum(total["dram_read_bytes"].values()) + total["dram_write_bytes"])
    return replace(run, cycles=cycles, array=total["needs"]["arrays"], memory=total["needs"]["memory"],
                   moved_bytes=moved, counts=total)  # fmt: skip


@functools.lru_cache(1024)
def simulate_pruned(arch: Arch, kernel: SoftmaxAttention, tokens: float, again: float | None) -> Simulated:
    """One layer with a share of its tokens kept; rows that fetch the LSB plane and rows that do not are mixed."""
    if again is None:
        return _layer(arch, kernel, tokens, Plan())
    never, always = (
        _layer(arch, kernel, tokens, Plan(key_msb_bits=MSB_BITS, key_lsb_bits=LSB_BITS, lsb=lsb))
        for lsb in (Lsb.NEVER, Lsb.ALWAYS)
    )
    counted = added(never.counts, scaled(added(always.counts, never.counts, -1), again))
    return Simulated(never.cycles + again * (always.cycles - never.cycles), counted, never.sample)


def _layer(arch: Arch, kernel: SoftmaxAttention, tokens: float, plan: Plan) -> Simulated:
    heads = max(
        1, min(kernel.kv_heads, arch.max_heads // kernel.group, SAMPLE_CYCLES // max(1, head_cycles(arch, kernel)))
    )
    cross = kernel.cross or (kernel.mask == "none" and kernel.queries != kernel.keys)
    run = replace(kernel, kv_heads=heads, query_heads=heads * kernel.group, batch=1, cross=cross)
    scale = kernel.kv_heads * kernel.batch / heads
    kept = max(1, round(run.keys * tokens))
    if kept == run.keys:
        cycles, counted = _time(arch, _program(arch, run, plan, run.keys, 1))
        return Simulated(cycles * scale, scaled(counted, scale), "")
    if run.keys > arch.max_context or (run.queries > 1 and run.query_start):
        # Importance has no room for so many tokens, or which queries survive is not known: the smaller shape alone.
        own = run.queries if run.cross or run.queries < run.keys else kept
        start = 0 if run.mask == "none" else kept - own
        small = replace(run, keys=kept, queries=own, query_start=start)
        cycles, counted = _time(arch, _program(arch, small, plan, kept, 1))
        return Simulated(cycles * scale, scaled(counted, scale), "")
    # A layer that sees all tokens and gives them their importance goes before; only what comes behind it counts.
    before = _time(arch, _program(arch, run, plan, kept, 1))
    both = _time(arch, _program(arch, run, plan, kept, 2))
    return Simulated((both[0] - before[0]) * scale, scaled(added(both[1], before[1], -1), scale), "")


def _program(arch: Arch, kernel: SoftmaxAttention, plan: Plan, kept: int, layers: int) -> Program:
    n = kernel.keys
    if kept < n:
        plan = replace(plan, token_counts=(n, kept))
    low = Lowering(arch, plan, kernel, 2 if kept < n else 1)
    parts: list[Jobs] = [jobs_of(low.tokens(n, restart=True))]
    parts.append(low.attend(0, kernel.queries, n, kernel.query_start))
    if layers == 2:
        own = kernel.queries if kernel.cross or kernel.queries < n else kept
        start = kernel.query_start if own == kernel.queries == n else max(0, kept - own)
        parts.append(jobs_of(low.prunes(1, n)))
        parts.append(low.attend(1, own, kept, start, listed=True))
    program = Program(np.concatenate(parts))
    program.check(arch)
    return program


def _time(arch: Arch, program: Program) -> tuple[int, dict[str, Any]]:
    return run_program(program, arch, NormalScores(), 1)
