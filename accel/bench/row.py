"""One benchmark, with some techniques off, on one machine: from its inputs to time, traffic, energy and power.

A row is a plain dictionary that depends on nothing but the benchmark, the variant, the machine, the seed and the code.
"""

import shlex
from typing import Any, NamedTuple

from accel import row_store
from accel.arch import Arch, Topk
from accel.errors import UserError
from accel.lower.plan import Plan
from accel.lower.programs import lower_prefill
from accel.session import Run, report_of, run_trace
from sim.values import Executor
from workloads.benchmarks import Benchmark, Variant
from workloads.benchmarks.closed_form import ALL, head_factor, token_factor, total_factor, width_factor
from workloads.benchmarks.rows import WIDEST_BITS, heads_per_layer, row_trace, tokens_per_layer, work_of
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


def key_of(asked: Asked, code: str) -> str:
    """Short hash of all that decides the numbers of a row; benchmarks that come to the same work share them."""
    one, variant = asked.benchmark, asked.variant
    return row_store.key_of(
        [
            FORMAT,
            one.stage,
            work_of(one, variant),
            machine(asked.arch, variant).model_dump(mode="json"),
            asked.seed,
            code,
        ]
    )


def measure(asked: Asked) -> dict[str, Any]:
    """Lower, execute, time and cost one benchmark; the numbers only, without its name.

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
    counted, energy = report["counts"], report["energy_pJ"]
    read = counted["dram_read_bytes"]
    return {
        "format": FORMAT,
        "kept": {
            "tokens": counted["keys"] / _visible(one, variant),
            "heads": sum(heads_per_layer(one, variant)) / (given.layers.value * given.heads.value),
            "values": counted["values_used"] / counted["keys"],
        },
        "second_pass_share": counted["lsb_refetch_rows"] / counted["rows"],
        "cycles": report["cycles"],
        "latency_s": report["latency_s"],
        "dram_bytes": {
            "moved": sum(read.values()) + counted["dram_write_bytes"], **read, "output": counted["dram_write_bytes"],
        },
        "dram_useful_bytes": counted["dram_useful_bytes"],
        "baseline_bytes": report["baseline_bytes"],
        "ratio": report["dram_reduction"],
        "operations": report["operations"],
        "throughput_ops_per_s": report["throughput_ops_per_s"],
        "peak_share": report["throughput_ops_per_s"]["done"] / report["throughput_ops_per_s"]["peak"],
        "bound": report["bound"],
        "energy_pJ": energy,
        "power_W": {part: pJ * 1e-12 / report["latency_s"] for part, pJ in energy.items()},
    }  # fmt: skip


def row_of(asked: Asked, measured: dict[str, Any]) -> dict[str, Any]:
    """A row: what was asked, in full, and what was measured."""
    one = asked.benchmark
    counted = {
        "tokens_and_values": token_factor(one), "heads": head_factor(one), "widths": width_factor(one),
        "all": total_factor(one),
    }  # fmt: skip
    return {
        "format": FORMAT,
        "name": one.name,
        "title": one.title,
        "family": one.family,
        "stage": one.stage,
        "without": list(asked.variant.without),
        "arch": asked.arch.name,
        "set": dict(asked.changes),
        "seed": asked.seed,
        "command": command(asked),
        "inputs": {name: value.model_dump(mode="json") for name, value in one.inputs.labelled().items()},
        "notes": list(one.notes),
        "counted_factors": counted if asked.variant == ALL else None,
        **{name: value for name, value in measured.items() if name != "format"},
    }


def command(asked: Asked) -> str:
    """The command that runs this row alone."""
    words = ["accel", "bench", asked.benchmark.name, "--arch", asked.arch.name, "--seed", str(asked.seed)]
    for key, value in asked.changes:
        words += ["--set", f"{key}={value}"]
    return " ".join(filter(None, (shlex.join(words), asked.variant.options)))


def _visible(one: Benchmark, variant: Variant) -> int:
    """Keys that the rows that are left would see if no token were pruned."""
    given, heads = one.inputs, heads_per_layer(one, variant)
    if not one.is_bert:
        return sum(heads) * sum(given.length.value + 1 + token for token in range(given.generated.value))
    queries = tokens_per_layer(one, variant)
    if not variant.has("query-pruning"):
        queries = (given.length.value,) * len(heads)
    return given.length.value * sum(count * rows for count, rows in zip(heads, queries, strict=True))


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
