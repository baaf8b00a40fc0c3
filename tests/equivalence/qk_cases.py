"""The cases of the QK array: what rows, on which instance, among what stalls. Every view runs every one of them."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from accel.units.qk import QkUnit
from accel.units.softmax import SCALE_BITS
from sim.qk_schedule import Row, Stalls

#: Two keys per line or one, and keys in two and in four parts.
PARTS = QkUnit(multipliers=16, max_head_dim=64, lanes=2)
#: Fewer lanes than keys would fit, and sums that are finished one or two levels before the tree's end.
TAPS = QkUnit(multipliers=32, max_head_dim=32, lanes=2)
UNITS = [PARTS, TAPS]
#: Four multipliers, tree, parts and scaler: few gates, for the netlist.
LEAST = QkUnit(multipliers=4, max_head_dim=16, lanes=1)
MORE_UNITS = [
    LEAST,
    QkUnit(multipliers=16, max_head_dim=32, lanes=2),
    QkUnit(multipliers=1, max_head_dim=16, lanes=1),
    QkUnit(multipliers=64, max_head_dim=8, lanes=2),
    QkUnit(multipliers=128, max_head_dim=64, lanes=8),
]


class Case(NamedTuple):
    """Rows through one instance. reset_at: also reset it in that cycle of the same work, and start again."""

    name: str
    unit: QkUnit
    rows: list[Row]
    stalls: Stalls
    reset_at: int | None = None


def _words(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if kind == "lowest":  # the one product that needs the sign bit's neighbour, and the one sum that needs all bits
        return np.full(shape, -2048, np.int16)
    if kind == "extremes":
        return rng.choice(np.array([-2048, 2047], np.int16), shape)
    if kind == "small":
        return rng.integers(-3, 4, shape).astype(np.int16)
    return rng.integers(-2048, 2048, shape).astype(np.int16)


#: small: with the scale's mantissa a power of two, most scores are halfway between two. brink: scores that just reach
#: saturation or just do not.
KINDS = ("random", "lowest", "extremes", "small", "brink")


def _scale(kind: str, rng: np.random.Generator) -> tuple[int, int]:
    """Scores of every size, from all zero to all saturated."""
    half = 1 << (SCALE_BITS - 1)
    if kind == "small":
        return half, int(rng.integers(14, 21))
    mantissa = int(rng.choice([0, half, 2 * half - 1, rng.integers(half, 2 * half)], p=[0.05, 0.15, 0.2, 0.6]))
    return mantissa, int(rng.choice([1, rng.integers(1, 63), rng.integers(15, 30)], p=[0.1, 0.3, 0.6]))


def _brink_row(dim: int, n: int, rng: np.random.Generator) -> Row:
    """Halves of dot products within 4 of 2^22 and of -2^22; scores end at 2^21 - 1 and -2^21."""
    query, keys = np.zeros(dim, np.int16), np.zeros((n, dim), np.int16)
    query[:3] = -2048, -1, 1
    keys[:, :2] = np.where(rng.random((n, 1)) < 0.5, (-2048, 0), (2047, 2047))
    keys[:, 2] = rng.integers(-4, 4, n)
    return Row(query, keys, 1 << (SCALE_BITS - 1), SCALE_BITS)


def _row(kind: str, dim: int, n: int, rng: np.random.Generator) -> Row:
    if kind == "brink":
        return _brink_row(dim, n, rng)
    return Row(_words(kind, (dim,), rng), _words(kind, (n, dim), rng), *_scale(kind, rng))


def _rows(unit: QkUnit, kind: str, n_rows: int, rng: np.random.Generator) -> list[Row]:
    """Each head dimension in turn, with one key, a full line, one key more, and anything up to four lines."""
    rows = []
    for r in range(n_rows):
        dim = int(rng.choice(np.arange(8, unit.max_head_dim + 1, 8)))
        per_line = unit.keys_per_line(unit.dims[0] << max(0, (dim - 1).bit_length() - 3))
        edge = [1, per_line, per_line + 1, int(rng.integers(1, 4 * per_line + 1))][r % 4]
        rows.append(_row(str(rng.choice(KINDS)) if kind == "any" else kind, dim, edge, rng))
    return rows


def _short_rows(unit: QkUnit, n_rows: int, rng: np.random.Generator) -> list[Row]:
    """Rows of one line, of all head dimensions, so that queries have to follow each other as fast as lines."""
    dims = [unit.dims[0]] * n_rows + rng.choice(unit.dims, n_rows).tolist()
    return [_row("random", dim, int(rng.integers(1, unit.keys_per_line(dim) + 1)), rng) for dim in dims]


def _stalls(profile: str, rng: np.random.Generator) -> Stalls:
    def pattern(often: float) -> tuple[bool, ...]:
        return (True, *(rng.random(int(rng.integers(5, 40))) < often).tolist())

    never = (True,)
    return {
        "free": Stalls(),
        "slow queries": Stalls(pattern(0.1), never, never),
        "slow lines": Stalls(never, pattern(0.4), never),
        "slow sink": Stalls(never, never, pattern(0.3)),
        "all slow": Stalls(pattern(0.3), pattern(0.6), pattern(0.5)),
        "long stalls": Stalls(never, never, (*[False] * 60, *[True] * 9)),
        "lines and sink": Stalls(never, (True, False), (False, True)),
    }[profile]


PROFILES = ("free", "slow queries", "slow lines", "slow sink", "all slow", "long stalls", "lines and sink")


def cases(large: bool) -> Iterator[Case]:
    """The small set, or the large one that contains it. Each case is seeded by its name."""
    for unit in UNITS + (MORE_UNITS if large else []):
        label = f"{unit.multipliers}x{unit.max_head_dim}x{unit.lanes}"
        n_rows = 40 if large else 12
        for profile in PROFILES:
            for kind in (*KINDS, "any", "short", "reset"):
                for repeat in range(4 if large else 1):
                    name = f"{label} {kind} {repeat}, {profile}"
                    rng = np.random.default_rng(zlib.crc32(name.encode()))
                    if kind == "short":
                        rows = _short_rows(unit, n_rows, rng)
                    else:
                        rows = _rows(unit, "any" if kind == "reset" else kind, n_rows, rng)
                    reset_at = int(rng.integers(1, 12 * n_rows)) if kind == "reset" else None
                    yield Case(name, unit, rows, _stalls(profile, rng), reset_at)
