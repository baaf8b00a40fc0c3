"""Products, retention and recurrent states through the cycle simulator: their programs as a machine would run them, or
a stated sample.

Time depends on shapes alone, so nothing has values. What a sample leaves out is alike: column blocks, rows of x, slices
of K, heads, tokens of a state. Two runs of different length give the rate at which column blocks or tokens follow each
other, so that the start of a program does not count with each of them.
"""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from accel.arch import Arch
from accel.lower.decay import lower_decay
from accel.lower.linear import lower_linear
from accel.lower.state import StateLayout, lower_state
from accel.lower.zoo.phase import Piece, blocks, line_cycles
from accel.lower.zoo.state import token_cycles
from accel.program import Program
from accel.zoo.attention_time import FlatScores, Simulated, added, run_program, scaled
from workloads.kernels import DecayAttention, Gemm, StateUpdate

LINEAR_CYCLES, DECAY_CYCLES, STATE_CYCLES = 24_000, 300_000, 200_000
"""Longest simulations of one product, of one layer of retention and of one of recurrent states."""
FEWEST_ROWS, FEWEST_SLICES = 64, 4
FEW_TOKENS = 256
"""Of a state; twice as many are simulated as a whole."""


def _run(arch: Arch, program: Program) -> tuple[int, dict[str, Any]]:
    return run_program(program, arch, FlatScores(), 1)


def product_program(arch: Arch, piece: Piece) -> Program:
    """The whole of a product."""
    assert isinstance(piece.kernel, Gemm)
    return lower_linear(piece.kernel, arch, width=piece.width, longest=piece.longest)


@functools.lru_cache(4096)
def simulate_product(arch: Arch, kernel: Gemm, width: int, longest: int) -> Simulated:
    """One product."""
    said, parts, run = [], 1.0, kernel
    slices = -(-kernel.K // longest)
    per_slice: float = max(
        line_cycles(arch, longest, width), longest * width * 12 // 8 / arch.peak_read_bytes_per_cycle
    )

    def block_cycles(of: Gemm) -> float:
        lines = line_cycles(arch, longest, width) * of.M
        return -(-of.K // longest) * max(lines, per_slice)

    most = LINEAR_CYCLES / 3
    if block_cycles(run) > most and run.M > FEWEST_ROWS:
        rows = max(FEWEST_ROWS, int(run.M * most / block_cycles(run)))
        parts, run = parts * run.M / rows, replace(run, M=rows)
        said.append(f"{rows} of {kernel.M:,} rows")
    if block_cycles(run) > most and slices > FEWEST_SLICES:
        kept = max(FEWEST_SLICES, int(slices * most / block_cycles(run)))
        if kept < slices:
            parts, run = parts * kernel.K / (kept * longest), replace(run, K=kept * longest)
            said.append(f"{kept} of {slices} slices of K")
    count = len(blocks(kernel.N, width))
    few = max(1, int(most / block_cycles(run)))
    if count <= 3 * few:
        cycles, counted = _run(arch, lower_linear(run, arch, width=width, longest=longest))
        return Simulated(cycles * parts, scaled(counted, parts), ", ".join(said))
    a, b = (
        _run(arch, lower_linear(replace(run, N=n * width), arch, width=width, longest=longest)) for n in (few, 2 * few)
    )
    rest = (kernel.N / width - few) / few
    said.append(f"{2 * few} of {count} column blocks")
    grown = (a[0] + (b[0] - a[0]) * rest) * parts
    counted = added(a[1], scaled(added(b[1], a[1], -1), rest))
    return Simulated(grown, scaled(counted, parts), ", ".join(said))


@functools.lru_cache(256)
def simulate_decay(arch: Arch, kernel: DecayAttention) -> Simulated:
    """One layer of retention's parallel form."""
    said, parts, run = [], 1.0, kernel
    dim = min(-(-kernel.key_dim // 8) * 8, arch.max_head_dim)

    def cycles_of(of: DecayAttention) -> float:
        passes = -(-of.key_dim // dim) * -(-of.value_dim // dim)
        return of.heads * passes * (of.pairs / arch.keys_per_line(dim) * arch.qk_fold(dim) + 8 * of.length)

    heads = max(1, min(kernel.heads, arch.max_heads, int(DECAY_CYCLES / cycles_of(one_head(kernel)))))
    if heads < kernel.heads:
        parts, run = parts * kernel.heads / heads, first_heads(kernel, heads)
        said.append(f"{heads} of {kernel.heads} heads")
    columns = -(-kernel.value_dim // dim)
    if cycles_of(run) > DECAY_CYCLES and columns > 1:
        parts, run = parts * columns, replace(run, value_dim=dim)
        said.append(f"1 of {columns} column blocks")
    cycles, counted = _run(arch, lower_decay(run, arch))
    return Simulated(cycles * parts, scaled(counted, parts), ", ".join(said))


@functools.lru_cache(256)
def simulate_state(arch: Arch, kernel: StateUpdate) -> Simulated:
    """One layer of recurrent states."""
    said, parts, layout = [], 1.0, StateLayout(arch, kernel)
    tokens = min(kernel.tokens, 2 * FEW_TOKENS)
    one = layout.blocks * tokens * token_cycles(arch, layout.keys, layout.dim, kernel.decay)
    heads = max(1, min(kernel.heads, STATE_CYCLES // one))
    if heads < kernel.heads:
        parts = kernel.heads / heads
        said.append(f"{heads} of {kernel.heads} heads")
    gammas = kernel.gammas[:heads] if kernel.gammas else None
    run = replace(kernel, heads=heads, states=heads, gammas=gammas, tokens=tokens)
    cycles, counted = _run_state(arch, run)
    if tokens == kernel.tokens:
        return Simulated(cycles * parts, scaled(counted, parts), ", ".join(said))
    short = _run_state(arch, replace(run, tokens=FEW_TOKENS))
    rest = (kernel.tokens - tokens) / FEW_TOKENS
    said.append(f"{tokens} of {kernel.tokens:,} tokens")
    grown = added(counted, scaled(added(counted, short[1], -1), rest))
    return Simulated((cycles + (cycles - short[0]) * rest) * parts, scaled(grown, parts), ", ".join(said))


@functools.lru_cache(256)
def _run_state(arch: Arch, kernel: StateUpdate) -> tuple[int, dict[str, Any]]:
    return _run(arch, lower_state(kernel, arch))


def first_heads(kernel: DecayAttention, heads: int) -> DecayAttention:
    """The same retention with its first heads only."""
    return replace(kernel, heads=heads, gammas=kernel.gammas[:heads] if kernel.gammas else None)


def one_head(kernel: DecayAttention) -> DecayAttention:
    """One head of it."""
    return first_heads(kernel, 1)


def bytes_of(counted: Mapping[str, Any]) -> float:
    """All bytes over the memory bus."""
    return float(sum(counted["dram_read_bytes"].values()) + counted["dram_write_bytes"])
