"""The cases of the PV array: what rows, on which instance, among what stalls. Every view runs every one of them."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from accel.arch import Arch
from accel.numerics.softmax import reciprocal
from accel.units.pv import MAX_ROWS, PvArray
from accel.units.softmax import EXPONENT_BITS, WEIGHT_BITS
from sim.pv_schedule import MAX_SHIFT, Row, Stalls

#: Two rows, one, and half a row per line.
SMALL = PvArray(multipliers=16, lanes=2, max_head_dim=32, output_lanes=4)
#: Fewer weights than rows would fit; a tree of two levels entered at two places.
DEEP = PvArray(multipliers=64, lanes=4, max_head_dim=32, output_lanes=8)
UNITS = [SMALL, DEEP]
MORE_UNITS = [
    PvArray(multipliers=4, lanes=1, max_head_dim=16, output_lanes=3),
    PvArray(multipliers=8, lanes=4, max_head_dim=8, output_lanes=16),
    PvArray(multipliers=64, lanes=4, max_head_dim=256, output_lanes=8),
    PvArray(multipliers=128, lanes=16, max_head_dim=64, output_lanes=1),
]
TOP_WEIGHT, TOP_VALUE = 4095, 2047


class Case(NamedTuple):
    """Rows through one instance. reset_at: also reset it in that cycle of the same work, and start again."""

    name: str
    unit: PvArray
    rows: list[Row]
    stalls: Stalls
    reset_at: int | None = None


def _scale(weights: np.ndarray) -> tuple[int, int]:
    """Reciprocal and shift that the softmax gives for such weights."""
    return reciprocal(max(1 << EXPONENT_BITS - 1, int(weights.sum()) << EXPONENT_BITS - WEIGHT_BITS))


def _row(kind: str, head_dim: int, n: int, rng: np.random.Generator) -> Row:
    shape = n, Arch.padded_head_dim(head_dim)
    weights = rng.integers(0, TOP_WEIGHT, n, endpoint=True)
    values = rng.integers(-TOP_VALUE - 1, TOP_VALUE, shape, endpoint=True)
    scale = _scale(weights)
    if kind == "saturated":
        weights = rng.choice([0, 1, TOP_WEIGHT], n, p=[0.1, 0.1, 0.8])
        values = rng.choice([-TOP_VALUE - 1, TOP_VALUE], shape[1]) * (rng.random(shape) < 0.9)
        scale = int(rng.choice([0, 1, 1 << 15, 1 << 16, (1 << 17) - 1])), int(rng.choice([0, 1, 8, 21, MAX_SHIFT]))
    elif kind == "halves":  # sums of which a good part lie in the middle between two outputs
        weights, values = rng.integers(0, 4, n), 4 * rng.integers(-3, 4, shape)
        scale = int(rng.choice([1 << 15, 1 << 16, 3 << 15])), int(rng.integers(0, 3))
    return Row(head_dim, weights, values, *scale)


def _rows(kind: str, unit: PvArray, n_rows: int, rng: np.random.Generator) -> list[Row]:
    rows: list[Row] = []
    padded = int(rng.choice(unit.padded_dims))
    for _ in range(n_rows):
        goes_on = kind == "tiles" and rows and rng.random() < 0.7
        if not goes_on and rng.random() < (0.7 if kind == "dims" else 0.2):
            padded = int(rng.choice(unit.padded_dims))
        head_dim = int(rng.choice([padded, padded, padded - 1 - rng.integers(0, padded // 2 - 1)]))
        if padded == min(unit.padded_dims):
            head_dim = int(rng.choice([padded, int(rng.integers(1, padded + 1))]))
        per_line = unit.rows_per_line(padded)
        n = int(rng.choice([0, 1, per_line, per_line + 1, 3 * per_line, rng.integers(1, 6 * per_line)]))
        if kind == "one line":
            n = int(rng.integers(0, per_line + 1))
        row = _row(kind, head_dim, n, rng)
        if goes_on:
            row = row._replace(keep_shift=int(rng.choice([0, 1, 2, 7, 38, 39, 40, 63])))
        if kind == "ragged":
            counts = rng.integers(0, per_line + 1, int(rng.integers(1, 7))).tolist()
            row = _row("random", head_dim, sum(counts), rng)._replace(counts=tuple(counts))
        rows.append(row)
    return rows


KINDS = ("random", "saturated", "halves", "one line", "ragged", "tiles", "dims")


def _stalls(profile: str, rng: np.random.Generator) -> Stalls:
    def pattern(often: float) -> tuple[bool, ...]:
        return (True, *(rng.random(int(rng.integers(5, 40))) < often).tolist())

    never = (True,)
    return {
        "free": Stalls(),
        "slow source": Stalls(pattern(0.4), never),
        "slow sink": Stalls(never, pattern(0.3)),
        "all slow": Stalls(pattern(0.6), pattern(0.6)),
        "long stalls": Stalls(never, (*[False] * 70, *[True] * 23)),
    }[profile]


PROFILES = ("free", "slow source", "slow sink", "all slow", "long stalls")


def _longest_rows(unit: PvArray) -> list[Row]:
    """Rows that fill the accumulators to their width: the most V rows, all weights and all words at one end."""
    shape = MAX_ROWS, min(unit.padded_dims)
    weights, words = np.full(MAX_ROWS, TOP_WEIGHT), np.full(shape, -TOP_VALUE - 1)
    words[:, ::2] = TOP_VALUE
    return [Row(shape[1], weights, words, *_scale(weights))]


def cases(large: bool) -> Iterator[Case]:
    """The small set, or the large one that contains it. Each case is seeded by its name."""
    for unit in UNITS + (MORE_UNITS if large else []):
        label = f"{unit.multipliers}x{unit.lanes}"
        n_rows = 40 if large else 16
        for profile in PROFILES:
            for kind in KINDS:
                for repeat in range(6 if large else 1):
                    name = f"{label} {kind} {repeat}, {profile}"
                    rng = np.random.default_rng(zlib.crc32(name.encode()))
                    yield Case(name, unit, _rows(kind, unit, n_rows, rng), _stalls(profile, rng))
            for repeat in range(20 if large else 2):
                name = f"{label} reset {repeat}, {profile}"
                rng = np.random.default_rng(zlib.crc32(name.encode()))
                rows = _rows(str(rng.choice(KINDS)), unit, 8, rng)
                yield Case(name, unit, rows, _stalls(profile, rng), int(rng.integers(1, 60)))
    yield Case("longest row", DEEP, _longest_rows(DEEP), Stalls())
