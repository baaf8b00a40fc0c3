"""Rows of the reproduction table, and the results that they are made of."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from accel.arch import Arch
from accel.bench.sets import MAIN

Row = dict[str, Any]
FIXED = "fixed by calibration, no evidence"
UNEXPLAINED = "unexplained"
CLOSE = (0.9, 1.1)  # ratios within need no cause


@dataclass(frozen=True)
class Results:
    """``sets``: rows by name of the set of runs, in the order of the benchmarks. ``fc``: FC layers by weight bits.

    ``rivals`` and ``topk`` as :mod:`accel.bench.beside` gives them.
    """

    arch: Arch
    sets: dict[str, list[Row]]
    fc: dict[int, Row]
    command: str
    rivals: Row
    topk: list[Row]

    def rows(self, name: str, *families: str) -> list[Row]:
        """Rows of a set, of some families."""
        return [row for row in self.sets[name] if not families or row["family"] in families]

    def pairs(self, first: str, second: str, *families: str) -> list[tuple[Row, Row]]:
        """Rows of two sets, benchmark by benchmark."""
        by_name = {row["name"]: row for row in self.rows(second, *families)}
        return [(row, by_name[row["name"]]) for row in self.rows(first, *families) if row["name"] in by_name]

    def gain(self, before: str, after: str, value: Callable[[Row], float], *families: str) -> float:
        """Geometric mean of value before over value after."""
        return geometric(value(a) / value(b) for a, b in self.pairs(before, after, *families))

    def speed(self, name: str, *families: str) -> float:
        """Mean operations per second that a set does, second passes not counted."""
        return mean(done(row) for row in self.rows(name, *families))

    def options(self, name: str) -> str:
        """The command of this table with a set's techniques off and numbers changed."""
        row = self.sets[name][0]
        changed = [
            f"--set {key}={value}" for key, value in row["set"].items() if self.sets[MAIN][0]["set"].get(key) != value
        ]
        off = [f"--without {technique}" for technique in row["without"]]
        families = sorted({row["family"] for row in self.sets[name]})
        command = self.command
        if row["arch"] != self.arch.name:
            command = command.replace(f"--arch {self.arch.name}", f"--arch {row['arch']}")
        named = families if len(families) < 4 else []
        return " ".join([command.replace("accel bench", " ".join(["accel bench", *named]), 1), *off, *changed])


def geometric(values: Iterable[float]) -> float:
    """Mean under which ratios multiply."""
    numbers = list(values)
    return math.exp(math.fsum(math.log(value) for value in numbers) / len(numbers))


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean, for rates, times and powers."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def done(row: Row) -> float:
    """Operations per second, without those of second passes."""
    return float(row["throughput_ops_per_s"]["without_second_passes"])


def kv_bytes(row: Row) -> float:
    """Bytes of K and V that were moved."""
    moved = row["dram_bytes"]
    return float(moved["k_msb"] + moved["k_lsb"] + moved["v"])


def cycles(row: Row) -> float:
    """Cycles of a run."""
    return float(row["cycles"])


def figure(
    where: str, text: str, unit: str, published: float, ours: float | None, label: str, command: str, *,
    cause: str = "", evidence: bool = True,
) -> Row:  # fmt: skip
    """One row. ``cause`` is kept where it is needed or said; ``evidence`` False: calibration made it come out."""
    ratio = None if ours is None else ours / published
    if not evidence and "no evidence" not in cause:
        cause = f"{FIXED}; {cause}" if cause else FIXED
    if not cause and (ratio is None or not CLOSE[0] <= ratio <= CLOSE[1]):
        cause = UNEXPLAINED  # on a machine that was changed; as published, a check of the stored table refuses it
    return {
        "figure": text,
        "where": where,
        "unit": unit,
        "published": published,
        "ours": ours,
        "ratio": ratio,
        "label": label,
        "evidence": evidence and ours is not None,
        "cause": cause,
        "command": command,
    }


def without_ours(where: str, unit: str, cause: str, figures: Sequence[tuple[str, float]]) -> list[Row]:
    """Rows of figures that nothing here can be set beside."""
    return [figure(where, text, unit, published, None, "published", "", cause=cause) for text, published in figures]
