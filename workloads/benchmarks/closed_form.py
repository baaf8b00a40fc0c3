"""Reductions of K and V traffic by counting alone, as the paper's factors are understood here.

Counted are numbers of K and V at their widths, neither queries nor outputs nor the unused part of an access; that is
what token, head and width factors multiply to. What a machine moves is found by running it (``accel bench``).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum, log

from workloads.benchmarks.model import Benchmark
from workloads.benchmarks.rows import heads_per_layer, row_trace, tokens_per_layer
from workloads.benchmarks.variants import Variant

BASELINE_BITS = 32  # what the published factors are measured against: 32 / (6 + 4 x 0.059) is their 5.1
ALL = Variant()
DENSE = Variant.of(("token-pruning", "value-pruning"))


@dataclass(frozen=True)
class Counted:
    """Rows of K, of V, and of K read in a second pass; one per token, head and layer."""

    keys: int
    values: int
    second: int

    @property
    def rows(self) -> int:
        return self.keys + self.values


@functools.lru_cache(4096)
def count(one: Benchmark, variant: Variant = ALL) -> Counted:
    """Rows that a benchmark reads."""
    if one.is_bert:
        alive, heads = tokens_per_layer(one, variant), heads_per_layer(one, variant)
        keys = sum(tokens * running for tokens, running in zip(alive, heads, strict=True))
        return Counted(keys, keys, 0)  # V stays on chip for all queries, whatever single rows use
    trace = row_trace(one, variant)
    return Counted(int(trace.keys.sum()), int(trace.values.sum()), int(trace.keys[trace.lsb_pass].sum()))


def token_factor(one: Benchmark) -> float:
    """Cascade token and local value pruning."""
    return count(one, DENSE).rows / count(one).rows


def head_factor(one: Benchmark) -> float:
    """Cascade head pruning: heads of the network over heads that run, in all layers together."""
    return one.inputs.heads.value * one.inputs.layers.value / sum(heads_per_layer(one, ALL))


def width_factor(one: Benchmark) -> float:
    """Narrow words, against BASELINE_BITS."""
    found, given = count(one), one.inputs
    bits = found.keys * given.key_msb_bits.value + found.second * given.key_lsb_bits.value
    return BASELINE_BITS * found.rows / (bits + found.values * given.value_bits.value)


def total_factor(one: Benchmark) -> float:
    """All techniques together, against every head and token at BASELINE_BITS."""
    dense = count(one, Variant.of((*DENSE.without, "head-pruning"))).rows
    return dense / count(one).rows * width_factor(one)


def geometric_mean(values: Sequence[float]) -> float:
    """The mean under which factors multiply; the paper does not say which one its averages are."""
    return exp(fsum(log(value) for value in values) / len(values))
