"""One benchmark, with some techniques off, on one machine: from its inputs to time, traffic, energy and power.

A row is a plain dictionary that depends on nothing but the benchmark, the variant, the machine, the seed and the code.
"""

import math
import shlex

from typing import Any, NamedTuple

from accel.arch import Arch, Topk
from accel.errors import UserError
from accel.lower.plan import Plan
from accel.lower.programs import lower_prefill
from accel.session import Run, report_of, run_trace
from sim.values import Executor
from workloads.benchmarks import Benchmark, Variant
from workloads.benchmarks.closed_form import ALL, head_factor, token_factor, total_factor, width_factor
from workloads.benchmarks.rows import WIDEST_BITS, heads_per_layer, row_trace, tokens_per_layer
from workloads.draw import DrawnScores
from workloads.kernels import SoftmaxAttention

FORMAT = 1
SERIAL_LANES = 1


class Asked(NamedTuple):
    """What decides a row. ``changes``: numbers changed in the preset ``arch.name``, as ``--set`` takes them."""

    benchmark: Benchmark
    variant: Variant
    arch: Arch
    changes: tuple[tuple[str, Any], ...]
    seed: int


def machine(arch: Arch, variant: Variant) -> Arch:
    """The machine that a variant runs on.

    A serial top-k engine has one lane. No preset may say so, since the packers of the hardware begin at two; the
    simulator's engine is the same for any number.
    """
    if variant.has("parallel-topk"):
        return arch
    serial = Topk.model_construct(unit=arch.topk.unit, lanes=SERIAL_LANES)
    return arch.model_copy(update={"topk": serial})


def run_row(asked: Asked) -> dict[str, Any]:
    """Lower, execute, time and cost one benchmark.

    Raises:
        UserError: the benchmark does not fit the machine.
    """
    one, variant = asked.benchmark, asked.variant
    arch = machine(asked.arch, variant)
    try:
        run = _summarise(one, variant, arch, asked.seed) if one.is_bert else _generate(one, variant, arch, asked.seed)
    except UserError as error:
        raise UserError(f"benchmark {one.name}: {error}") from None
    report, given = run.report, one.inputs
    counted = report["counts"]
    read, useful = counted["dram_read_bytes"], counted["dram_useful_bytes"]
    moved = sum(read.values()) + counted["dram_write_bytes"]
    energy = report["energy_pJ"]
    dense_rows = (
        given.layers.value * given.heads.value * given.length.value
        if one.is_bert
        else given.layers.value * given.heads.value * given.generated.value
    )
    return {
        "format": FORMAT,
        "name": one.name,
        "title": one.title,
        "family": one.family,
        "stage": one.stage,
        "without": list(variant.without),
        "arch": asked.arch.name,
        "set": dict(asked.changes),
        "seed": asked.seed,
        "command": command(asked),
        "inputs": {name: value.model_dump(mode="json") for name, value in given.labelled().items()},
        "notes": list(one.notes),
        "kept": {
            "tokens": counted["keys"] / (_visible(one) * _rows_share(one, variant)),
            "heads": sum(heads_per_layer(one, variant)) / (given.layers.value * given.heads.value),
            "values": counted["values_used"] / counted["keys"],
            "rows": counted["rows"] / dense_rows,
        },
        "second_pass_share": counted["lsb_refetch_rows"] / counted["rows"],
        "cycles": report["cycles"],
        "latency_s": report["latency_s"],
        "dram_bytes": {"moved": moved, **read, "output": counted["dram_write_bytes"]},
        "dram_useful_bytes": useful,
        "baseline_bytes": report["baseline_bytes"],
        "ratio": report["dram_reduction"],
        "counted_factors": None
        if variant != ALL
        else {
            "tokens_and_values": token_factor(one), "heads": head_factor(one), "widths": width_factor(one),
            "all": total_factor(one),
        },
        "operations": report["operations"],
        "throughput_ops_per_s": report["throughput_ops_per_s"],
        "peak_share": report["throughput_ops_per_s"]["done"] / report["throughput_ops_per_s"]["peak"],
        "bound": report["bound"],
        "energy_pJ": energy,
        "power_W": energy["total"] * 1e-12 / report["latency_s"],
        "area_mm2": report["area_mm2"]["total"],
    }  # fmt: skip


def command(asked: Asked) -> str:
    """The command that runs this row alone."""
    words = ["accel", "bench", asked.benchmark.name, "--arch", asked.arch.name, "--seed", str(asked.seed)]
    for key, value in asked.changes:
        words += ["--set", f"{key}={value}"]
    return " ".join(filter(None, (shlex.join(words), asked.variant.options)))


def _visible(one: Benchmark) -> int:
    """Keys that the rows of the unpruned network see."""
    given = one.inputs
    heads = given.layers.value * given.heads.value
    if one.is_bert:
        return heads * given.length.value**2
    return heads * sum(given.length.value + 1 + token for token in range(given.generated.value))


def _rows_share(one: Benchmark, variant: Variant) -> float:
    """Of the network's rows, those whose head runs and whose query is still there."""
    given = one.inputs
    heads = heads_per_layer(one, variant)
    if not one.is_bert or not variant.has("query-pruning"):
        return sum(heads) / (given.layers.value * given.heads.value)
    alive = tokens_per_layer(one, variant)
    kept = sum(count * tokens for count, tokens in zip(heads, alive, strict=True))
    return kept / (given.layers.value * given.heads.value * given.length.value)


def _generate(one: Benchmark, variant: Variant, arch: Arch, seed: int) -> Run:
    return run_trace(row_trace(one, variant), arch, seed)


def _summarise(one: Benchmark, variant: Variant, arch: Arch, seed: int) -> Run:
    given = one.inputs
    layers, heads, dim, length = (
        given.layers.value, given.heads.value, given.head_dim.value, given.length.value
    )  # fmt: skip
    narrow = variant.has("quantisation")
    prunes_tokens, prunes_heads = variant.has("token-pruning"), variant.has("head-pruning")
    plan = Plan(
        key_msb_bits=given.key_msb_bits.value if narrow else WIDEST_BITS,
        value_bits=given.value_bits.value if narrow else WIDEST_BITS,
        query_bits=min(given.query_bits.value, WIDEST_BITS),
        local_values=given.value_share.value if variant.has("value-pruning") else 1.0,
        token_counts=tokens_per_layer(one, variant) if prunes_tokens else (),
        head_counts=heads_per_layer(one, variant) if prunes_heads else (),
    )
    keeps_queries = not variant.has("query-pruning")
    kernel = SoftmaxAttention(heads, heads, length, length, dim, mask="none", cross=keeps_queries)
    program = lower_prefill(kernel, plan, arch, layers)
    executor = Executor(arch, seed)
    executor.run(program.jobs, DrawnScores(seed))
    numbers = layers * heads * length * dim
    return report_of(
        arch,
        executor.recorded,
        workload={"name": one.name, "kind": "benchmark"},
        seed=seed,
        dense=(2 * numbers, numbers),
        dense_operations=4 * numbers * length,
    )


