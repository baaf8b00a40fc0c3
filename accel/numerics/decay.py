"""Golden ``decay`` mode: scores times a decay in place of softmax (retention, parallel form), bit-true, NumPy.

A decay a <= 1 is held as its *decay exponent* -log2(a) in units of 2^-20; several steps of decay are then a sum. The
factor 2^-L is softmax's table for the upper 12 fraction bits of L, and a right shift by its integer part. Formats are
in :mod:`accel.units.modes`, rules in docs/modes.md.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.errors import UserError
from accel.numerics.attention import normalise_output
from accel.numerics.quantise import encode_scale
from accel.numerics.softmax import Int, exponent, scale_scores
from accel.units.modes import (
    DECAY_BITS,
    DECAY_FRACTION_BITS,
    DECAY_WEIGHT_SHIFT,
    DECAY_WORD_EXPONENT_BITS,
    DECAY_WORD_MANTISSA_BITS,
    DECAY_WORD_UNIT_SHIFT,
    MAX_OUTPUT_SHIFT,
    OUTPUT_SCALE_BITS,
    SIGNED_WEIGHT_BITS,
    TABLE_INPUT_BITS,
)
from accel.units.pv import OUTPUT_SHIFT
from accel.units.softmax import EXPONENT_BITS, SCALE_BITS, SCORE_BITS, TABLE_BITS

DECAY_ONE = 1 << DECAY_FRACTION_BITS
LARGEST_DECAY = (1 << DECAY_BITS) - 1
_FINER = DECAY_FRACTION_BITS - TABLE_INPUT_BITS  # bits of a decay exponent below the table's input
_FARTHEST = 36  # a shift by this and more leaves nothing of any operand
_ROW_BLOCK = 256  # rows of scores held at a time


# ---- rounding --------------------------------------------------------------------------------------------------------
def half_up(x: ArrayLike, by: ArrayLike) -> Int:
    """``x / 2^by`` to the nearest integer, halves upwards; ``by`` 0 to 62, broadcasts against ``x``."""
    x, by = np.asarray(x, np.int64), np.asarray(by, np.int64)
    return (x + ((np.int64(1) << by) >> 1)) >> by


def saturate(x: ArrayLike, bits: int) -> tuple[Int, int]:
    """``x`` limited to signed ``bits``, and how many of its elements were out of range."""
    x, top = np.asarray(x, np.int64), (1 << (bits - 1)) - 1
    limited = np.clip(x, -top - 1, top)
    return limited, int(np.count_nonzero(limited != x))


# ---- decays ----------------------------------------------------------------------------------------------------------
def encode_decay(decay: ArrayLike) -> Int:
    """Decay exponents of decays: -log2, in units of 2^-20, to the nearest.

    Args:
        decay: real, above 0 and at most 1; below 2^-16 gives the largest exponent, just below 16.

    Raises:
        UserError: a decay outside of (0, 1].
    """
    decay = np.asarray(decay, np.float64)
    good = (decay > 0) & (decay <= 1)
    if not good.all():
        raise UserError(f"decay {decay[~good].flat[0]}: must be above 0 and at most 1")
    return np.minimum(np.rint(-np.log2(decay) * DECAY_ONE).astype(np.int64), LARGEST_DECAY)


def encode_decay_words(exponents: ArrayLike) -> NDArray[np.uint16]:
    """Decay exponents as 12-bit decay words in memory, to the nearest; what data-dependent decays travel as."""
    units = half_up(exponents, DECAY_WORD_UNIT_SHIFT)
    one = 1 << DECAY_WORD_MANTISSA_BITS
    octave = np.maximum(np.frexp(units.astype(np.float64))[1] - DECAY_WORD_MANTISSA_BITS, 1)
    # Rounding may carry into the next octave: mantissa 2^9 is mantissa 2^8 one octave up, which the sum below gives.
    word = half_up(units, octave - 1) + ((octave - 1) << DECAY_WORD_MANTISSA_BITS)
    largest = (1 << (DECAY_WORD_MANTISSA_BITS + DECAY_WORD_EXPONENT_BITS)) - 1
    return np.minimum(np.where(units < one, units, word), largest).astype(np.uint16)


def decode_decay_words(words: ArrayLike) -> Int:
    """Decay exponents (units of 2^-20) of decay words: (256 + mantissa) << (exponent - 1) units of 2^-19; the mantissa
    alone where the exponent is 0.
    """
    words = np.asarray(words, np.int64)
    octave, mantissa = words >> DECAY_WORD_MANTISSA_BITS, words & ((1 << DECAY_WORD_MANTISSA_BITS) - 1)
    normal = (mantissa + (1 << DECAY_WORD_MANTISSA_BITS)) << np.maximum(octave - 1, 0)
    return np.where(octave == 0, mantissa, normal) << DECAY_WORD_UNIT_SHIFT


def decay_factor(exponents: ArrayLike) -> tuple[Int, Int]:
    """2^-L as a 16-bit mantissa (16 fraction bits, 1 stored as 65534) and the right shift that goes with it.

    Args:
        exponents: L >= 0 in units of 2^-20; bits below 2^-12 are dropped.
    """
    exponents = np.asarray(exponents, np.int64)
    fraction = (exponents & (DECAY_ONE - 1)) >> _FINER
    return exponent(-fraction, 0) >> (EXPONENT_BITS - TABLE_BITS), exponents >> DECAY_FRACTION_BITS


def times_power(x: ArrayLike, exponents: ArrayLike, drop: int = 0) -> Int:
    """``x * 2^-(L + drop)``, half up, as the hardware makes it: times the 16-bit mantissa, then one shift."""
    mantissa, whole = decay_factor(exponents)
    return half_up(np.asarray(x, np.int64) * mantissa, TABLE_BITS + np.minimum(whole + drop, _FARTHEST))


# ---- scales ----------------------------------------------------------------------------------------------------------
def output_scale(real: float) -> tuple[int, int]:
    """Mantissa and shift of a job's output scale: accumulator units to output units, below 1/8.

    Raises:
        UserError: not positive, or outside of what the output scaler can do.
    """
    mantissa, shift = encode_scale(real * 2.0**OUTPUT_SHIFT, OUTPUT_SCALE_BITS)
    if mantissa == 0 or shift > MAX_OUTPUT_SHIFT:
        raise UserError(f"output scale {real}: must be 2^-44 or more")
    return mantissa, shift


def scale_output(accumulated: ArrayLike, scale: tuple[int, int]) -> Int:
    """Sums of the PV array to signed 16-bit outputs: ``normalise_output`` with a job's constant."""
    return normalise_output(accumulated, *scale)


def weight_scale(largest: float) -> tuple[int, int]:
    """Mantissa and shift that bring dot products of magnitude up to ``largest`` just into a 22-bit score.

    The scale is a power of two, so that sums of other tiles of a row are aligned with it by shifts.
    """
    room = (1 << (SCORE_BITS - 1)) - 1 - (1 << DECAY_WEIGHT_SHIFT)  # a weight that rounds up still fits
    return encode_scale(2.0 ** math.floor(math.log2(room / max(largest, 1))), SCALE_BITS)


# ---- the mode --------------------------------------------------------------------------------------------------------
def decay_weights(scores: ArrayLike, exponents: ArrayLike) -> tuple[Int, int]:
    """Signed 12-bit PV weights of scores and the decay between query and key; and how many were limited.

    Args:
        scores: signed 22 bit, from ``scale_scores``. exponents: distance times decay exponent, units of 2^-20.
    """
    return saturate(times_power(scores, exponents, DECAY_WEIGHT_SHIFT), SIGNED_WEIGHT_BITS)


@dataclass(frozen=True)
class DecayRows:
    """``accumulated`` (rows, dv): exact PV sums, at most 40 bit. ``saturated``: scores and weights that were limited.
    ``pairs``: query-key pairs worked on.
    """

    accumulated: Int
    saturated: int
    pairs: int


def decay_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    decay: int,
    scale: tuple[int, int],
    *,
    window: int | None = None,
) -> DecayRows:
    """Retention of one head, parallel form: sum over m <= n of clip12(score_nm 2^-((n - m) d)) v_m.

    Args:
        q: (n, dk), k: (n, dk), v: (n, dv): 12-bit words. decay: decay exponent of one step. scale: of the scores, from
            :func:`weight_scale`; a weight is 2^10 scores.
        window: keys seen by a query, itself included (technique *decay window*); None sees all.

    Tiles of a row have no scale of their own: their sums add up exactly, wherever the row is cut.
    """
    # Every product and sum is an integer below 2^53, so float64 matrix products are exact, in any order.
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    n, limited, pairs = len(q), 0, 0
    accumulated = np.zeros((n, v.shape[1]), np.int64)
    for first in range(0, n, _ROW_BLOCK):
        last = min(first + _ROW_BLOCK, n)
        start = 0 if window is None else max(0, first - window + 1)
        distance = np.arange(first, last)[:, None] - np.arange(start, last)
        seen = (distance >= 0) & (distance < (n if window is None else window))
        dots = np.where(seen, q[first:last] @ k[start:last].T, 0).astype(np.int64)
        scores = scale_scores(dots, *scale)
        top = (1 << (SCORE_BITS - 1)) - 1
        weights, clipped = decay_weights(scores, np.maximum(distance, 0) * decay)
        limited += clipped + int(np.count_nonzero((scores == top) | (scores == -top - 1)))
        pairs += int(np.count_nonzero(seen))
        accumulated[first:last] = (weights.astype(np.float64) @ v[start:last]).astype(np.int64)
    return DecayRows(accumulated, limited, pairs)


# ---- decay window ----------------------------------------------------------------------------------------------------
def decay_window(decay: int, smallest: float) -> int | None:
    """Keys a query sees when those whose decay is below ``smallest`` are skipped; None where there is no decay."""
    return None if decay == 0 else math.floor(-math.log2(smallest) * DECAY_ONE / decay) + 1


def window_bound(decay: int, window: int, largest_qk: float, largest_v: float) -> float:
    """Largest change of an output by a decay window: g^w / (1 - g) max|q.k| max|v|, in real units of the arguments."""
    g = 2.0 ** (-decay / DECAY_ONE)
    return math.inf if decay == 0 else g**window / (1 - g) * largest_qk * largest_v
