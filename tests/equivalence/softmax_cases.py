"""The cases of the softmax: what rows, on which instance, among what stalls. Every view runs every one of them."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from accel.units.softmax import (
    EXPONENT_BITS,
    SCORE_BITS,
    SCORE_FRACTION_BITS,
    SEGMENTS,
    THRESHOLD_BITS,
    SoftmaxUnit,
)
from sim.softmax import base2
from sim.softmax_schedule import Row, Stalls

ONE_LANE = SoftmaxUnit(lanes=1, max_keys=2048)
UNITS = [ONE_LANE, SoftmaxUnit(lanes=2, max_keys=1 << 20), SoftmaxUnit(lanes=8, max_keys=4096)]
MORE_UNITS = [SoftmaxUnit(lanes=4, max_keys=5000), SoftmaxUnit(lanes=16, max_keys=1 << 16)]
TOP = (1 << (SCORE_BITS - 1)) - 1
ONE = 1 << SCORE_FRACTION_BITS
HIGHEST = (1 << THRESHOLD_BITS) - 1


class Case(NamedTuple):
    """Rows through one instance. reset_at: also reset it in that cycle of the same work, and start again."""

    name: str
    unit: SoftmaxUnit
    rows: list[Row]
    stalls: Stalls
    reset_at: int | None = None


def _scores(kind: str, n: int, step: int, rng: np.random.Generator) -> np.ndarray:
    lines = -(-n // step)
    if kind == "near":
        return rng.integers(-20000, 20000, n)
    if kind == "wide":
        return rng.integers(-TOP - 1, TOP, n, endpoint=True)
    if kind == "equal":
        return np.full(n, rng.integers(-60, 60) * ONE + rng.integers(-1, 1, endpoint=True))
    if kind == "ties":  # around an integer, where the ceiling jumps, and around the ends of the pieces of 2^-f
        near = rng.integers(-3, 3) * ONE + rng.choice([0, 0, ONE // SEGMENTS, ONE // 2], n)
        return near + rng.integers(-1, 1, n, endpoint=True)
    if kind == "saturated":
        return rng.choice([-TOP - 1, TOP, TOP - 1, TOP - ONE, 0], n, p=[0.4, 0.3, 0.1, 0.1, 0.1])
    # The maximum rises in every line: by one, by some, by as much as the widest shifts.
    rise = rng.choice([1, 1, 2, 7, 19, 20, 21, 22, 39, 40, 41, 63, 64, 90], lines)
    at = np.clip(np.cumsum(rise) - rng.integers(0, 500), -512, 511) * ONE
    scores = np.repeat(at, step)[:n] - rng.integers(0, 3 * ONE, lines * step)[:n]
    scores = np.clip(scores, -TOP - 1, TOP)
    return scores if kind == "rising" else scores[::-1].copy()


KINDS = ("near", "wide", "equal", "ties", "saturated", "rising", "falling")


def _sum(row: Row) -> tuple[int, int, int]:
    """Maximum, total and largest exponent at the row's end."""
    done = base2.rows(
        row.scores[None, :],
        np.array([len(row.scores)]),
        row.keys_per_line,
        np.array([row.maximum]),
        np.array([row.total]),
    )
    return int(done.maximum[0]), int(done.total[0]), int(done.largest[0])


def _with_threshold(row: Row, rng: np.random.Generator) -> Row:
    """The least threshold that finds the row flat, one of its neighbours, or an end of the range."""
    _, total, largest = _sum(row)
    least = (largest << THRESHOLD_BITS) // total + 1
    threshold = int(rng.choice([least, least - 1, least - 1, least - 2, 0, 1, HIGHEST]))
    return row._replace(threshold=min(max(threshold, 0), HIGHEST))


def _row(unit: SoftmaxUnit, kind: str, n: int, rng: np.random.Generator) -> Row:
    step = unit.lanes if rng.random() < 0.7 else int(rng.integers(1, unit.lanes, endpoint=True))
    row = Row(_scores(kind, n, step, rng).astype(np.int64), step)
    if rng.random() < 0.3:  # a tile: what came before is above, within, or far below
        room = unit.max_keys - n
        keys = int(2 ** rng.uniform(0, np.log2(room)))
        total = int(rng.integers(1 << (EXPONENT_BITS - 1), 1 << EXPONENT_BITS)) * keys
        row = row._replace(maximum=int(rng.integers(-40, 40)), total=total)
    return _with_threshold(row, rng)


def _edge_rows(kind: str, unit: SoftmaxUnit, n_rows: int, rng: np.random.Generator) -> list[Row]:
    lanes = unit.lanes
    lengths = [1, 1, 2, max(1, lanes - 1), lanes, lanes + 1, 2 * lanes, 3 * lanes + 1, int(rng.integers(2, 40))]
    return [_row(unit, kind, int(n), rng) for n in rng.choice(lengths, n_rows)]


def _power_rows(unit: SoftmaxUnit, n_rows: int, rng: np.random.Generator) -> list[Row]:
    """Sums at a power of two, one below and one above, from the least sum to the largest that the unit has; thresholds
    for which both sides of the maximum test can be equal; and the largest sum against the largest threshold.
    """
    rows = []
    for power in rng.permutation(np.arange(EXPONENT_BITS, unit.total_bits + 1))[:n_rows]:
        n = int(rng.integers(1, 2 * unit.lanes, endpoint=True))
        row = Row(-rng.integers(0, 4 * ONE, n), unit.lanes, maximum=3)
        wanted = (1 << int(power)) + int(rng.integers(-1, 1, endpoint=True))
        _, mine, largest = _sum(row)
        most = (unit.max_keys - n) << EXPONENT_BITS
        before = min(wanted - mine, most)
        if before >= 1 << (EXPONENT_BITS - 1):
            threshold = (largest << THRESHOLD_BITS) // wanted + int(rng.integers(0, 2))
            rows.append(row._replace(total=before, threshold=min(threshold, HIGHEST)))
    return [
        *rows,
        rows[0]._replace(total=(unit.max_keys << EXPONENT_BITS) - (2 * unit.lanes << EXPONENT_BITS), threshold=HIGHEST),
    ]


def _tiles(unit: SoftmaxUnit, n_tiles: int, rng: np.random.Generator) -> list[Row]:
    """One long row in pieces, each starting from the sum of the one before."""
    kind = str(rng.choice(KINDS))
    rows: list[Row] = []
    for _ in range(n_tiles):
        row = Row(_scores(kind, int(rng.integers(1, 3 * unit.lanes, endpoint=True)), unit.lanes, rng), unit.lanes)
        if rows:
            maximum, total, _ = _sum(rows[-1])
            row = row._replace(maximum=maximum, total=total)
        rows.append(_with_threshold(row, rng))
    return rows


def _stalls(profile: str, rng: np.random.Generator) -> Stalls:
    def pattern(often: float) -> tuple[bool, ...]:
        return (True, *(rng.random(int(rng.integers(5, 40))) < often).tolist())

    never, long = (True,), (*[False] * 60, *[True] * 11)
    sources, sinks = Stalls._fields[:4], Stalls._fields[4:]
    return {
        "free": Stalls(),
        "slow sources": Stalls(**{port: pattern(0.35) for port in sources}),
        "slow sinks": Stalls(**{port: pattern(0.35) for port in sinks}),
        "all slow": Stalls(**{port: pattern(0.5) for port in sources + sinks}),
        "long stalls": Stalls(exponents=long, reciprocals=long, weights=long),
        "slow rows": Stalls(rows=pattern(0.1), sums=pattern(0.1), finals=pattern(0.6), reciprocals=never),
    }[profile]


PROFILES = ("free", "slow sources", "slow sinks", "all slow", "long stalls", "slow rows")


def cases(large: bool) -> Iterator[Case]:
    """The small set, or the large one that contains it. Each case is seeded by its name."""
    for unit in UNITS + (MORE_UNITS if large else []):
        label = f"{unit.lanes} lanes"
        n_rows = 24 if large else 6

        def rng(name: str) -> np.random.Generator:
            return np.random.default_rng(zlib.crc32(name.encode()))

        for profile in PROFILES:
            for repeat in range(10 if large else 1):
                for kind in KINDS:
                    draw = rng(name := f"{label} {kind} {repeat}, {profile}")
                    yield Case(name, unit, _edge_rows(kind, unit, n_rows, draw), _stalls(profile, draw))
                draw = rng(name := f"{label} powers of two {repeat}, {profile}")
                yield Case(name, unit, _power_rows(unit, 2 * n_rows, draw), _stalls(profile, draw))
                draw = rng(name := f"{label} tiles {repeat}, {profile}")
                yield Case(name, unit, _tiles(unit, n_rows, draw), _stalls(profile, draw))
                for part in (2, 8, 30, 80):  # while lines come, while rows are divided, while weights leave
                    draw = rng(name := f"{label} reset {repeat} in cycle {part} or so, {profile}")
                    rows = [_row(unit, kind, int(draw.integers(1, 6 * unit.lanes)), draw) for kind in KINDS]
                    yield Case(name, unit, rows, _stalls(profile, draw), part + int(draw.integers(0, part)))
        draw = rng(name := f"{label} long")
        yield Case(name, unit, [_row(unit, "near", 1100, draw), _row(unit, "equal", 1025, draw)], Stalls())
