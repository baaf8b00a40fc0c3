"""Benchmarks with techniques turned off."""

from collections.abc import Iterable
from typing import NamedTuple

from accel.errors import UserError
from workloads.refusal import suggestion

TECHNIQUES = {
    "token-pruning": "cascade token pruning: all tokens stay in all layers",
    "value-pruning": "local value pruning: each row uses V of all its keys",
    "head-pruning": "cascade head pruning: all heads run in all layers",
    "quantisation": "narrow words: keys and values in one plane of 12 bit, no second pass",
    "query-pruning": "queries of pruned tokens are still computed (summarization only)",
    "parallel-topk": "the top-k engine looks at one value per cycle",
}


class Variant(NamedTuple):
    """Techniques that are off, in the order of TECHNIQUES."""

    without: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str]) -> "Variant":
        """Raises UserError for a technique that there is not."""
        names = list(names)
        for name in names:
            if name not in TECHNIQUES:
                hint = suggestion(name, list(TECHNIQUES), "there are")
                raise UserError(f"--without {name}: no such technique; {hint}")
        return cls(tuple(name for name in TECHNIQUES if name in names))

    def has(self, technique: str) -> bool:
        """Whether the technique is on."""
        return technique not in self.without

    @property
    def options(self) -> str:
        """As options of ``accel bench``."""
        return " ".join(f"--without {name}" for name in self.without)
