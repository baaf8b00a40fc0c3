"""Softmax attention through the cycle simulator: a layer's jobs, or a stated sample of them, scaled."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.lower.plan import Plan
from accel.lower.programs import lower_decode, lower_prefill
from accel.program import Jobs, Program
from accel.units.engine import TOKEN_BITS
from sim.counts import bound, counts
from sim.engine import Timing, run_timing
from sim.unroll import unroll
from sim.values import Executor, ScoreSource
from sim.work import Work
from workloads.kernels import SoftmaxAttention

SAMPLE_CYCLES = 300_000
"""Longest simulation of one piece; above it, some of its heads stand for all."""
LONGEST = 1 << TOKEN_BITS
"""Keys that token numbers reach."""


class FlatScores:
    """Scores of nothing: without pruning and second passes, time and traffic do not depend on them."""

    def scores(self, jobs: Jobs, tokens: NDArray[np.int32], rows: int) -> NDArray[np.int64]:
        """Zeros (rows, tokens)."""
        return np.zeros((rows, len(tokens)), np.int64)


@dataclass(frozen=True)
class Simulated:
    """Cycles and counters of a piece, scaled to all of it; ``sample`` says what ran, or is empty if all did."""

    cycles: float
    counts: Mapping[str, Any]
    sample: str


def scaled(node: Any, factor: float) -> Any:
    """All numbers of nested counters times a factor."""
    if isinstance(node, Mapping):
        return {name: scaled(value, factor) for name, value in node.items()}
    return node * factor


def added(a: Any, b: Any, sign: int = 1) -> Any:
    """Two nested counters of the same shape, number by number."""
    if isinstance(a, Mapping):
        return {name: added(a[name], b[name], sign) for name in a}
    return a + sign * b


def program_of(kernel: SoftmaxAttention, plan: Plan, arch: Arch, layers: int = 1) -> Program:
    """A prefill, an encoder or one decode step, whichever the kernel is."""
    if kernel.queries == 1 and kernel.mask == "causal" and kernel.query_start == kernel.keys - 1:
        return lower_decode(kernel, plan, arch, layers, 1)
    return lower_prefill(kernel, plan, arch, layers)


def run_program(program: Program, arch: Arch, source: ScoreSource, seed: int) -> tuple[int, dict[str, Any]]:
    """Cycles and counters (docs/counters.md) of a program whose scores come from ``source``; in ``needs`` also the
    cycles that arrays and memory would take alone.
    """
    executor, timing, work = timed(program, arch, source, seed)
    counted = counts(arch, work, executor.recorded, timing)
    alone = bound(arch, counted, timing)
    arrays = max(alone[name] for name in ("qk", "softmax", "topk", "pv"))
    return timing.cycles, counted | {"needs": {"arrays": arrays, "memory": alone["dram"]}}


def timed(program: Program, arch: Arch, source: ScoreSource, seed: int) -> tuple[Executor, Timing, Work]:
    """A program's values and timing."""
    executor = Executor(arch, seed)
    executor.run(program.jobs, source)
    work = unroll(arch, executor.recorded)
    return executor, run_timing(arch, work), work


def head_cycles(arch: Arch, kernel: SoftmaxAttention) -> int:
    """About what one K/V head takes: lines of its keys for each row, and the rows' overheads."""
    rows = kernel.group * kernel.queries
    return kernel.group * kernel.pairs // arch.keys_per_line(kernel.head_dim) * arch.qk_fold(kernel.head_dim) + 8 * rows


@functools.lru_cache(1024)
def simulate(arch: Arch, kernel: SoftmaxAttention) -> Simulated:
    """One layer of unpruned attention, 12-bit words."""
    parts, said, keys = 1.0, [], min(kernel.keys, LONGEST)
    run = kernel
    if keys < kernel.keys:
        if kernel.mask == "causal":
            run = replace(kernel, keys=keys, query_start=keys - kernel.queries)
        else:
            run = replace(kernel, keys=keys)
        parts *= kernel.keys / keys
        said.append(f"{keys:,} of {kernel.keys:,} keys")
    heads = max(1, min(run.kv_heads, SAMPLE_CYCLES // max(1, head_cycles(arch, run))))
    if heads < run.kv_heads:
        parts *= run.kv_heads / heads
        said.append(f"{heads} of {run.kv_heads} heads")
        run = replace(run, kv_heads=heads, query_heads=heads * run.group)
    cycles, counted = run_program(program_of(run, Plan(), arch), arch, FlatScores(), 1)
    return Simulated(cycles * parts, scaled(counted, parts), ", ".join(said))
