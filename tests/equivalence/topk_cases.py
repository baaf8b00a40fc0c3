"""The cases of the top-k engine: what rows, on which instance, among what stalls. Every view runs every one of them."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from accel.units.topk import TopKUnit
from sim.topk_schedule import Row, Stalls

#: Small instances wrap around and meet every edge within a few rows; the others have the shapes of real ones.
SMALL = TopKUnit(lanes=4, value_bits=6, max_n=32)
PUBLISHED = TopKUnit(lanes=16, value_bits=12, max_n=256)
OTHER_ENGINES = [
    TopKUnit(lanes=4, value_bits=8, max_n=32, engine="histogram"),  # two digits, the lower one of two bits
    TopKUnit(lanes=4, value_bits=6, max_n=32, engine="sorter"),
]
UNITS = [
    SMALL,
    PUBLISHED,
    *OTHER_ENGINES,
    TopKUnit(lanes=8, value_bits=12, max_n=100, engine="sorter"),
]
MORE_UNITS = [
    TopKUnit(lanes=1, value_bits=3, max_n=9),
    TopKUnit(lanes=2, value_bits=32, max_n=27, lfsr_seed=1),
    TopKUnit(lanes=8, value_bits=1, max_n=100),
    TopKUnit(lanes=16, value_bits=32, max_n=1024),
    TopKUnit(lanes=1, value_bits=7, max_n=9, engine="histogram"),
    TopKUnit(lanes=2, value_bits=48, max_n=27, engine="histogram"),
    TopKUnit(lanes=8, value_bits=5, max_n=100, engine="histogram"),
    TopKUnit(lanes=16, value_bits=12, max_n=1024, engine="histogram"),
    TopKUnit(lanes=1, value_bits=3, max_n=9, engine="sorter"),
    TopKUnit(lanes=2, value_bits=48, max_n=27, engine="sorter"),
    TopKUnit(lanes=16, value_bits=12, max_n=1024, engine="sorter"),
]


class Case(NamedTuple):
    """Rows through one instance. reset_at: also reset it in that cycle of the same work, and start again."""

    name: str
    unit: TopKUnit
    rows: list[Row]
    stalls: Stalls
    reset_at: int | None = None


def _values(kind: str, n: int, unit: TopKUnit, rng: np.random.Generator) -> np.ndarray:
    top = unit.max_value
    if kind == "random":
        return rng.integers(0, top, n, endpoint=True)
    if kind == "ties":
        return rng.choice([0, top // 2, top], n)
    if kind == "equal":
        return np.full(n, rng.integers(0, top, endpoint=True))
    if kind == "saturated":
        return np.where(rng.random(n) < 0.9, top, rng.integers(0, top, n, endpoint=True))
    ascending = np.sort(rng.integers(0, top, n, endpoint=True))
    return ascending if kind == "ascending" else ascending[::-1].copy()


KINDS = ("random", "ties", "equal", "saturated", "ascending", "descending")


def _stalls(profile: str, rng: np.random.Generator) -> Stalls:
    def pattern(often: float) -> tuple[bool, ...]:
        return (True, *(rng.random(int(rng.integers(5, 40))) < often).tolist())

    never = (True,)
    return {
        "free": Stalls(),
        "slow source": Stalls(pattern(0.3), pattern(0.4), never),
        "slow sink": Stalls(never, never, pattern(0.2)),
        "all slow": Stalls(pattern(0.5), pattern(0.5), pattern(0.5)),
        "long stalls": Stalls(never, never, (*[False] * 150, *[True] * 7)),
    }[profile]


PROFILES = ("free", "slow source", "slow sink", "all slow", "long stalls")


def _edge_rows(kind: str, unit: TopKUnit, n_rows: int, rng: np.random.Generator) -> list[Row]:
    """Edges of n crossed with edges of k, in random order, so that rows of all lengths follow each other."""
    lanes, longest = unit.lanes, unit.max_n
    lengths = sorted(
        {n for n in (0, 1, 2, lanes - 1, lanes, lanes + 1, 2 * lanes, longest - 1, longest) if n <= longest}
    )
    pairs = [(n, k) for n in lengths for k in sorted({0, 1, n // 2, n - 1, n, n + 1, longest} - {-1}) if k <= longest]
    picked = rng.permutation(len(pairs))[:n_rows]
    return [Row(_values(kind, pairs[p][0], unit, rng), pairs[p][1]) for p in picked]


def _random_rows(unit: TopKUnit, n_rows: int, rng: np.random.Generator) -> list[Row]:
    rows = []
    for _ in range(n_rows):
        n = int(rng.integers(0, unit.max_n, endpoint=True))
        rows.append(Row(_values(str(rng.choice(KINDS)), n, unit, rng), int(rng.integers(0, n + 2))))
    return [row._replace(k=min(row.k, unit.max_n)) for row in rows]


def cases(large: bool) -> Iterator[Case]:
    """The small set, or the large one that contains it. Each case is seeded by its name."""
    for unit in UNITS + (MORE_UNITS if large else []):
        label = f"{unit.lanes}x{unit.value_bits}b" + (f" {unit.engine}" if unit.engine != "quickselect" else "")
        n_rows = (64 if large else 20) if unit.max_n <= 32 else (24 if large else 6)
        for profile in PROFILES:
            for kind in KINDS:
                name = f"{label} {kind}, {profile}"
                rng = np.random.default_rng(zlib.crc32(name.encode()))
                yield Case(name, unit, _edge_rows(kind, unit, n_rows, rng), _stalls(profile, rng))
            for repeat in range(20 if large else 1):
                name = f"{label} any {repeat}, {profile}"
                rng = np.random.default_rng(zlib.crc32(name.encode()))
                rows = _random_rows(unit, n_rows, rng)
                yield Case(name, unit, rows, _stalls(profile, rng))
                name = f"{label} reset {repeat}, {profile}"
                yield Case(name, unit, rows[:6], _stalls(profile, rng), int(rng.integers(1, 40 * n_rows)))
