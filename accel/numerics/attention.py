"""Golden attention: one query row of one head through the whole datapath, bit-true, from integers to integers.

This is the specification that the simulator and the hardware are compared with. It is written to be read; the
simulator has its own compiled versions of the same functions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.numerics.softmax import Int, RowSum, SoftmaxRow, is_flat, scale_scores, softmax_row
from accel.numerics.topk import top_k
from accel.units.importance import TOKEN_SCORE_BITS
from accel.units.softmax import EXPONENT_BITS, OUTPUT_BITS, OUTPUT_FRACTION_BITS, RECIPROCAL_BITS, WEIGHT_BITS

_TO_OUTPUT = RECIPROCAL_BITS - EXPONENT_BITS + WEIGHT_BITS - OUTPUT_FRACTION_BITS


def dot(q: ArrayLike, keys: ArrayLike) -> Int:
    """Full-width dot products of 12-bit words: (dim,) with (n, dim) gives (n,)."""
    return np.asarray(keys, np.int64) @ np.asarray(q, np.int64)


def normalise_output(accumulated: ArrayLike, inverse: int, shift: int) -> Int:
    """Weighted V sums times the reciprocal: round half up, saturate to ``OUTPUT_BITS``.

    The result carries ``OUTPUT_FRACTION_BITS`` bits below the step of a 12-bit V word.
    """
    by = _TO_OUTPUT + shift
    wide = (np.asarray(accumulated, np.int64) * inverse + (1 << (by - 1))) >> by
    top = (1 << (OUTPUT_BITS - 1)) - 1
    return np.clip(wide, -top - 1, top)


def add_importance(scores: ArrayLike, probabilities: ArrayLike) -> Int:
    """Token importance plus one row of probabilities, saturating at ``TOKEN_SCORE_BITS``."""
    return np.minimum(np.asarray(scores, np.int64) + np.asarray(probabilities, np.int64), (1 << TOKEN_SCORE_BITS) - 1)


def values_kept(keys: int, count: int, ratio: int) -> int:
    """V rows kept of ``keys``: ``count`` where it is given, else the floor of ``ratio`` (16 fraction bits); at least
    1.
    """
    wanted = count if count else (keys * ratio) >> 16
    return min(keys, max(1, wanted))


@dataclass(frozen=True)
class AttendedRow:
    """What one row leaves behind. ``kept`` are positions (increasing) in the row's keys whose V was used."""

    output: Int
    kept: Int
    softmax: SoftmaxRow
    lsb_pass: bool
    accumulated: Int


def attend_row(
    q: NDArray[np.int16],
    keys_msb: NDArray[np.int16],
    keys_full: NDArray[np.int16],
    values: NDArray[np.int16],
    *,
    scale: tuple[int, int],
    lanes: int,
    keep_values: int,
    lsb: str = "never",
    threshold: int = 0,
    before: RowSum | None = None,
    carried: ArrayLike | None = None,
) -> AttendedRow:
    """One query against its keys.

    Args:
        q: (dim,) 12-bit words. keys_msb, keys_full: (n, dim) words after the first and the second pass. values: (n,
        dim). scale: mantissa and shift of the score scale. lanes: scores per line.
        keep_values: V rows kept by local value pruning; ``n`` keeps all.
        lsb: ``never``, ``test`` (second pass when the row is flat) or ``always``; threshold: 16 fraction bits.
        before, carried: sum and weighted V sums of the earlier tiles of this row.
    """
    row = softmax_row(scale_scores(dot(q, keys_msb), *scale), lanes, before)
    second = lsb == "always" or (lsb == "test" and is_flat(row, threshold))
    if second:
        row = softmax_row(scale_scores(dot(q, keys_full), *scale), lanes, before)
    kept = top_k(row.weights, keep_values).positions
    total = row.weights[kept] @ np.asarray(values, np.int64)[kept]
    if carried is not None and before is not None:
        total = total + (np.asarray(carried, np.int64) >> min(row.state.maximum - before.maximum, 62))
    return AttendedRow(normalise_output(total, row.reciprocal, row.shift), kept, row, second, total)
