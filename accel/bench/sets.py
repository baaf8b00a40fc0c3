"""The runs that the reproduction table needs: sets of benchmarks, each with techniques off or numbers changed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from accel.arch import Arch, load_arch
from accel.bench.row import Asked
from workloads.benchmarks import Benchmark, Variant

EIGHTH = "spatten-1-8"
BERT, GPT2 = ("bert-base", "bert-large"), ("gpt2-small", "gpt2-medium")
EVERY = (*BERT, *GPT2)


class RunSet(NamedTuple):
    """Benchmarks of some families, techniques that are off, numbers changed, and another preset if not the main one."""

    families: tuple[str, ...]
    without: tuple[str, ...] = ()
    changes: tuple[tuple[str, Any], ...] = ()
    preset: str | None = None


DENSE = ("token-pruning", "value-pruning", "head-pruning", "quantisation")
QUARTER = (("memory.channels", 4),)
MAIN = "all techniques"
SETS = {
    MAIN: RunSet(EVERY),
    "no tokens": RunSet(EVERY, ("token-pruning", "value-pruning")),
    "no heads": RunSet(EVERY, ("head-pruning",)),
    "wide": RunSet(EVERY, ("quantisation",)),
    "queries kept": RunSet(BERT, ("query-pruning",)),
    # The steps of the published gain on GPT-2; "wide" is the one before the last, "all techniques" the last.
    "datapath": RunSet(GPT2, DENSE),
    "tokens, serial": RunSet(GPT2, ("head-pruning", "quantisation", "parallel-topk")),
    "tokens and heads, serial": RunSet(GPT2, ("quantisation", "parallel-topk")),
    # What explains differences. 12 bit on a quarter of the bandwidth are 32 bit on two thirds of it; serial runs wait
    # for their top-k, not for memory.
    "half memory": RunSet(GPT2, (), (("memory.channels", 8),)),
    "datapath, 4 channels": RunSet(GPT2, DENSE, QUARTER),
    "wide, 4 channels": RunSet(GPT2, ("quantisation",), QUARTER),
    "32 lanes": RunSet(GPT2, (), (("topk.lanes", 32),)),
    "dense BERT": RunSet(BERT, DENSE),
    "eighth": RunSet(EVERY, (), (), EIGHTH),
}


def asked_of(name: str, every: Sequence[Benchmark], arch: Arch, changes: dict[str, Any], seed: int) -> list[Asked]:
    """The runs of a set; ``changes`` are those already made in ``arch``."""
    one = SETS[name]
    machine, told = arch, dict(changes)
    if one.preset:
        machine, told = load_arch(one.preset), {}
    if one.changes:
        machine, told = machine.replace(dict(one.changes)), told | dict(one.changes)
    variant = Variant.of(one.without)
    return [
        Asked(benchmark, variant, machine, tuple(told.items()), seed)
        for benchmark in every
        if benchmark.family in one.families
    ]
