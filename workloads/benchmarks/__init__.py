"""The 30 published benchmarks as data: every input with its value, a label that says what it rests on, and a source."""

from workloads.benchmarks.loader import benchmark_names, find_benchmarks, load_benchmarks
from workloads.benchmarks.model import FAMILIES, LABELS, Benchmark, Given, Inputs
from workloads.benchmarks.variants import TECHNIQUES, Variant

__all__ = [
    "FAMILIES",
    "LABELS",
    "TECHNIQUES",
    "Benchmark",
    "Given",
    "Inputs",
    "Variant",
    "benchmark_names",
    "find_benchmarks",
    "load_benchmarks",
]
