"""Golden ``linear`` mode: y = x W, projections, FFN, convolutions as GEMM, gates of cells; bit-true, NumPy.

The elements of x are the PV array's weights, rows of W (one per input element) its V rows. Sums are exact and carry on
from tile to tile along the reduction, so tiling never changes a bit; only the output scaler rounds.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.errors import UserError
from accel.numerics.decay import saturate
from accel.numerics.quantise import WORD_BITS, check_planes, words
from accel.numerics.softmax import Int
from accel.units.modes import BIAS_X_MAX, LINEAR_ROWS
from accel.units.pv import ACCUMULATOR_BITS

Activation = Literal["sigmoid", "tanh", "relu", "linear"]


def linear(x: ArrayLike, W: ArrayLike, carried: ArrayLike = 0) -> Int:
    """Exact sums (..., n) of x W plus those of the tiles before.

    Args:
        x: (..., rows) 12-bit words. W: (rows, n) 12-bit words, reduction-major. carried: (..., n) earlier sums.

    Raises:
        UserError: a sum that leaves the 40-bit accumulator, which takes 2^17 of the largest products.
    """
    # Integers below 2^53: exact in float64.
    sums = (np.asarray(x, np.float64) @ np.asarray(W, np.float64)).astype(np.int64) + np.asarray(carried, np.int64)
    if saturate(sums, ACCUMULATOR_BITS)[1]:
        raise UserError(f"linear: a sum leaves the {ACCUMULATOR_BITS}-bit accumulator; use narrower words")
    return sums


def linear_tiles(x: ArrayLike, W: ArrayLike, rows: int = LINEAR_ROWS) -> Int:
    """:func:`linear` as the engine runs it, ``rows`` of W per job, sums carried from job to job."""
    x, W = np.asarray(x), np.asarray(W)
    sums = np.zeros((*x.shape[:-1], W.shape[1]), np.int64)
    for first in range(0, len(W), rows):
        sums = linear(x[..., first : first + rows], W[first : first + rows], sums)
    return sums


def bias_rows(bias: ArrayLike) -> tuple[Int, Int]:
    """A bias as further rows of W and elements of x: words (r,) of x, all alike, and rows (r, n).

    Args:
        bias: (n,) real, in accumulator units (x word times W word).

    The x word is the smallest power of two, at most 1024, with which the bias fits one row; a bias that is larger still
    takes several rows. What is added differs from ``bias`` by at most half that word.
    """
    bias = np.asarray(bias, np.float64)
    top = (1 << (WORD_BITS - 1)) - 1
    need = float(np.abs(bias).max(initial=0)) / top
    step = min(BIAS_X_MAX, 1 << max(0, math.ceil(math.log2(need)) if need > 1 else 0))
    left = np.rint(bias / step).astype(np.int64)
    rows: list[Int] = []
    while not rows or left.any():
        rows.append(np.clip(left, -top, top))
        left = left - rows[-1]
    return np.full(len(rows), step, np.int64), np.array(rows)


# ---- MSB-first weights -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class IntervalTest:
    """When the sums of MSB planes are good enough, in accumulator units: an output passes if it is at least ``high``,
    or at most ``low``, or known to within ``width``, whatever the LSB planes hold. Signed 40 bit; None: never.
    """

    high: int | None
    low: int | None
    width: int


def interval_test(activation: Activation, tolerance: float, unit: float) -> IntervalTest:
    """Thresholds after which an activation moves by no more than ``tolerance`` between the ends of the interval.

    Args:
        tolerance: of the activation's value, above 0. unit: real value of an accumulator unit.

    sigmoid and tanh have saturated at both ends, ReLU is dead at the lower one; ``width`` uses the steepest slope (1/4,
    1, 1, 1). Each of the three is sufficient.

    Raises:
        UserError: a tolerance that is not positive, or so large that every value passes.
    """
    if not tolerance > 0:
        raise UserError(f"interval test: tolerance = {tolerance}: must be positive")
    width = math.floor(tolerance * (4 if activation == "sigmoid" else 1) / unit)
    if activation == "relu":
        return IntervalTest(None, math.floor(tolerance / unit), width)
    if activation == "linear":
        return IntervalTest(None, None, width)
    if tolerance >= (1 if activation == "sigmoid" else 2):
        raise UserError(f"interval test: tolerance = {tolerance}: is the whole range of {activation}; must be below")
    end = math.log((1 - tolerance) / tolerance) if activation == "sigmoid" else math.atanh(1 - tolerance)
    return IntervalTest(math.ceil(end / unit), math.floor(-end / unit), width)


@dataclass(frozen=True)
class MsbFirst:
    """``accumulated`` (n,): full sums of refetched blocks, middles of the interval of all others. ``refetched``
    (blocks,): whose LSB plane was added. ``bound``: largest distance of an accepted sum from the full one.
    """

    accumulated: Int
    refetched: NDArray[np.bool_]
    bound: int


def msb_first(
    x: ArrayLike, stored: ArrayLike, bits: int, lsb_bits: int, block: int, test: IntervalTest, bias: ArrayLike = 0
) -> MsbFirst:
    """y = x W with *MSB-first weights*: an output block's LSB plane is fetched only if one of its outputs needs it.

    Args:
        x: (rows,) 12-bit words. stored: (rows, n) integers of ``bits``, both planes. block: outputs of a job, whose
            LSB planes are fetched together. bias: (n,) sums added to all, bias rows included; they have no LSB plane.

    The MSB plane floors: a word lies 0 to M below the full one, so the full sum lies between z + M sum(min(x, 0)) and z
    + M sum(max(x, 0)). Guaranteed, not statistical.

    Raises:
        UserError: planes that the datapath does not have, or 10+4, whose LSB plane does not fit a word by itself.
    """
    check_planes(bits - lsb_bits, lsb_bits)
    if bits > WORD_BITS:
        raise UserError(f"MSB-first weights: {bits} bits: must be at most {WORD_BITS}, such as 8+4, 6+4 or 4+4")
    x, stored = np.asarray(x, np.int64), np.asarray(stored)
    upper = linear_tiles(x, words(stored, bits, lsb_bits, msb_only=True)) + np.asarray(bias, np.int64)
    missing = ((1 << lsb_bits) - 1) << (WORD_BITS - bits)
    least, most = upper + missing * int(np.minimum(x, 0).sum()), upper + missing * int(np.maximum(x, 0).sum())
    passes = (most - least) <= test.width
    if test.high is not None:
        passes |= least >= test.high
    if test.low is not None:
        passes |= most <= test.low
    n = stored.shape[1]
    refetched = np.array([not passes[first : first + block].all() for first in range(0, n, block)])
    full = linear_tiles(x, words(stored, bits)) + np.asarray(bias, np.int64)
    again = np.repeat(refetched, block)[:n]
    middle = (least + most) >> 1
    return MsbFirst(np.where(again, full, middle), refetched, int((most[0] - least[0] + 1) // 2))


def weight_bits_read(result: MsbFirst, rows: int, n: int, bits: int, lsb_bits: int, block: int) -> int:
    """Weight bits fetched from memory: all MSB planes, and LSB planes of the refetched blocks."""
    outputs = sum(min(block, n - i * block) for i, again in enumerate(result.refetched) if again)
    return rows * (n * (bits - lsb_bits) + outputs * lsb_bits)
