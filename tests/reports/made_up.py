"""Small reports of every kind for the tests of pages and figures. The numbers are made up."""

import random
from typing import Any

Report = dict[str, Any]


def _head(kind: str, arch: Report) -> Report:
    return {"format": 1, "kind": kind, "command": f"accel {kind} --arch tiny", "code_version": "0.1.0+made-up",
            "arch": arch, "seed": 1}  # fmt: skip


def bench(run: Report, benchmarks: int = 30) -> Report:
    """Rows with the keys of a run's report, and rows of published figures: near, far, and not measured."""
    draw = random.Random(3)
    rows = []
    for at in range(benchmarks):
        factor = draw.uniform(0.3, 3)
        rate = {name: value * factor for name, value in run["throughput_ops_per_s"].items()}
        family = "gpt2" if at % 4 == 0 else "bert"
        rows.append(
            {
                "name": f"{family}-task-{at}", "family": family, "without": [],
                "command": f"accel bench {family}-task-{at}",
                "cycles": round(run["cycles"] / factor), "latency_s": run["latency_s"] / factor,
                "counts": run["counts"], "throughput_ops_per_s": rate, "operations": run["operations"],
                "energy_pJ": run["energy_pJ"], "bound": run["bound"], "busy_cycles": run["busy_cycles"],
                "dram_reduction": {name: value * factor for name, value in run["dram_reduction"].items()},
                "baseline_bytes": run["baseline_bytes"],
            }
        )  # fmt: skip
    reproduction = [
        _figure("DRAM reduction, all techniques", "3.1", "×", 10.0, 9.6, "calibrated", ""),
        _figure("computation reduction", "3.1", "×", 2.1, 2.2, "calibrated", ""),
        _figure("throughput, BERT", "3.2", "TFLOPS", 1.61, 1.2, "derived", "the selection is charged per head pair"),
        _figure("throughput, GPT-2", "3.2", "TFLOPS", 0.43, 0.423, "trace", ""),
        _figure("area", "3.2", "mm²", 18.71, 6.86, "published", "no placement, no clock tree"),
        _figure("speed-up over TITAN Xp", "3.2", "×", 162, None, "published", "no such part here to measure"),
    ]
    return {**_head("bench", run["arch"]), "rows": rows, "reproduction": reproduction}


def _figure(name: str, where: str, unit: str, published: float, ours: float | None, label: str, cause: str) -> Report:
    return {
        "figure": name, "where": where, "unit": unit, "published": published, "ours": ours,
        "ratio": None if ours is None else ours / published, "label": label, "cause": cause, "command": "accel bench",
    }  # fmt: skip


def rivals(run: Report) -> Report:
    """Six machines in three settings on two workloads, a validation row and curves."""
    draw, rows, curves = random.Random(4), [], []
    machines = ("spatten-1-8", "dense", "A3", "MNNFast", "ELSA", "Sanger", "Energon")
    for setting in ("published", "iso-multipliers", "iso-bandwidth"):
        for machine in machines:
            for workload in ("minilm", "smollm2"):
                rows.append(
                    {
                        "machine": machine, "setting": setting, "workload": workload,
                        "cycles": draw.randint(10**5, 10**6),
                        "gops_dense_equivalent": draw.uniform(80, 700), "dram_bytes": draw.randint(10**6, 10**8),
                        "energy_pJ": draw.uniform(1e8, 1e9), "kept_keys_share": draw.uniform(0.1, 1),
                        "output_error": draw.uniform(0.001, 0.1),
                    }
                )  # fmt: skip
    for machine in machines:
        for network, unit in (("minilm", "mean cosine"), ("smollm2", "perplexity ratio")):
            start = draw.uniform(1e6, 3e6)
            points = [
                {"parameter": f"keep {at}", "value": at, "dram_bytes": start * 1.4**at, "quality_unit": unit,
                 "quality": 1 - 0.1 / 1.9**at if network == "minilm" else 1 + 0.5 / 1.9**at}
                for at in range(5)
            ]  # fmt: skip
            curves.append({"network": network, "machine": machine, "points": points})
    validation = [_figure("A3 throughput", "3.3", "GOP/s", 221, 214.0, "published", "")]
    return {**_head("rivals", run["arch"]), "rows": rows, "validation": validation, "curves": curves}


def topk(run: Report) -> Report:
    """Three engines at two widths, and their cells without a library."""
    rows = [
        {"engine": engine, "lanes": lanes, "n": n, "cycles_mean": n * slope / lanes + 3,
         "cycles_p99": n * slope * 1.7 / lanes,
         "cycles_worst": n * slope * 2.5 / lanes, "cells": cells * lanes}
        for engine, slope, cells in (("quickselect", 3.4, 900), ("batcher sorter", 5.1, 3100), ("radix", 2.2, 700))
        for lanes in (16, 32)
        for n in (64, 256, 1024, 4096)
    ]  # fmt: skip
    synthesis = [
        {"engine": engine, "lanes": lanes, "value_bits": 12, "max_n": 1024, "library": "generic",
         "cells": cells * lanes, "flip_flops": 90 * lanes, "memory_bits": 24_576, "model_area_um2": 12_545.4}
        for engine, cells in (("quickselect", 900), ("batcher sorter", 3100), ("radix", 700))
        for lanes in (16, 32)
    ]  # fmt: skip
    return {**_head("topk", run["arch"]), "rows": rows, "synthesis": synthesis}


def crossover(run: Report) -> Report:
    """Attention of the square and forms with a state of the length; chunks never need less time."""
    rows = [
        {"form": form, "tokens": n, "dram_bytes": 6656.0 * n * (n / 1024 if n > 1024 and square else 1),
         "cycles": n * n if square else 128 * n, "latency_s": 1e-9 * n, "time": "sampled",
         "closed_form_bytes": 6656 * n}
        for form, square in (("softmax attention", 1), ("parallel decay", 1), ("chunkwise", 0), ("recurrent", 0))
        for n in (64, 256, 1024, 4096, 16384, 65536)
    ]  # fmt: skip
    crossings = [
        {"form": form, "against": other, "what": what, "tokens": tokens}
        for form, what, tokens in (("chunkwise", "dram_bytes", 3230.4), ("chunkwise", "cycles", None),
                                   ("recurrent", "dram_bytes", 1024.0), ("recurrent", "cycles", 64.0))
        for other in ("softmax attention", "parallel decay")
    ]  # fmt: skip
    shape = {"heads": 16, "key_dim": 64, "value_dim": 64, "chunk": 512, "work": "prefill of one layer"}
    return {**_head("crossover", run["arch"]), "shape": shape, "rows": rows, "crossings": crossings}


def verify(run: Report, wrong: int = 0) -> Report:
    """What ``accel verify --json`` writes."""
    boundaries = {
        name: {"transfers": count, "values": wrong if name == "scores" else 0, "cycles": 0}
        for name, count in (("requests", 120_000), ("scores", 34_000), ("probabilities", 34_100), ("outputs", 410))
    }
    return {
        **_head("verify", run["arch"]), "memory": "dram", "programs": 29, "cycles": 120_345, "transfers": 188_510,
        "boundaries": boundaries, "mismatches": [],
    }  # fmt: skip
