"""Golden ``state`` mode with exponents for keys: A = 2^-d A + 2^kappa v^T, B likewise without v; o = q (A / B).

LightNet's additive recurrence, mLSTM, and element by element RWKV's WKV (:mod:`accel.numerics.scan`). The rule is
softmax's: a *level*, an integer, runs along; exponents are relative to it, and what was stored before is shifted right
when it rises. Here it also follows the decay downwards, so that a decay costs no shift. Apart from it each row of the
state has a *growth*, the shift of its products: it rises by one when a word of the row has become large, and falls as
the level rises. So keys keep their 12 bits, no sum overflows at any length, and no scale has to be chosen.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from accel.numerics.decay import half_up
from accel.numerics.softmax import NO_MAXIMUM, Int, exponent
from accel.numerics.state import age, upper_words
from accel.units.modes import DECAY_FRACTION_BITS, EXPONENT_KEY_BITS, PEAK, STATE_LOW_BITS, TABLE_INPUT_BITS
from accel.units.softmax import EXPONENT_BITS, MANTISSA_BITS, QUOTIENT_BITS, RECIPROCAL_BITS, SCORE_FRACTION_BITS

_FINER = DECAY_FRACTION_BITS - TABLE_INPUT_BITS


def reciprocals(totals: ArrayLike) -> tuple[Int, Int]:
    """Softmax's reciprocal of each total (above 0): ``floor(2^31 / upper 16 bits)``, and the shift of those."""
    totals = np.asarray(totals, np.int64)
    shift = np.maximum(0, np.frexp(totals.astype(np.float64))[1] - MANTISSA_BITS)
    return (1 << RECIPROCAL_BITS) // (totals >> shift), shift


def exponent_keys(exponents: Int) -> Int:
    """Exponents (20 fraction bits) as 12-bit multiplier words: 11 fraction bits, half up, 1 as 2047."""
    return np.minimum(half_up(exponents, EXPONENT_BITS - EXPONENT_KEY_BITS), (1 << EXPONENT_KEY_BITS) - 1)


def move_level(level: Int, fraction: Int, kappa: Int, decay: Int) -> tuple[Int, Int, Int, Int]:
    """New level and fraction, how far the level rose, and the new exponent (20 fraction bits).

    What is stored stands for 2^(level - f) times itself. The decay lowers the level by its whole part; then the level
    rises to the ceiling of the new key; only that rise shifts.
    """
    whole, fraction = age(fraction, decay)
    aged = level - whole
    key = kappa + (fraction >> _FINER)
    ceiling = (key + (1 << SCORE_FRACTION_BITS) - 1) >> SCORE_FRACTION_BITS
    raised = np.maximum(np.maximum(aged, ceiling), NO_MAXIMUM)
    return raised, fraction, np.minimum(raised - aged, 62), exponent(key - (raised << SCORE_FRACTION_BITS), 0)


def grow(growth: Int, rise: Int, peaked: Int) -> tuple[Int, Int]:
    """New growth, and how far the state words are shifted right; ``peaked`` (0 or 1): one of them is large."""
    grown = np.maximum(growth - rise, 0) + peaked
    return grown, np.minimum(rise + grown - growth, 62)


@dataclass(frozen=True)
class LevelState:
    """``words`` (..., dk, dv) signed 24 bit; per row (..., dk): ``totals`` B, unsigned, 20 fraction bits, ``level``,
    ``fraction`` (2^-20), ``growth``. A row stands for words 2^(level - fraction + growth - 11) times a v word.
    """

    words: Int
    totals: Int
    level: Int
    fraction: Int
    growth: Int

    @classmethod
    def empty(cls, *shape: int) -> "LevelState":
        """Zero states of shape (..., dk, dv)."""
        rows = np.zeros(shape[:-1], np.int64)
        return cls(np.zeros(shape, np.int64), rows, rows + NO_MAXIMUM, rows, rows)


def update_level(state: LevelState, kappa: ArrayLike, v: ArrayLike, decay: ArrayLike = 0) -> LevelState:
    """One token into the state: words = (words >> rise + change of growth, half up) + (k' v >> growth, half up), totals
    = (totals >> rise, floor) + 2^(kappa - level). Nothing saturates: words from 2^22 on are halved before the next
    product, at most 2^22, is added.

    Args:
        kappa: (..., dk) log2 of the keys, signed 22 bit with 12 fraction bits, as scores are. v: (..., dv) words.
        decay: exponents (..., dk), or what broadcasts to it.
    """
    peaked = (np.abs(state.words).max(-1) >= PEAK).astype(np.int64)
    kappa, decay = np.asarray(kappa, np.int64), np.asarray(decay, np.int64)
    level, fraction, rise, e = move_level(state.level, state.fraction, kappa, decay)
    growth, down = grow(state.growth, rise, peaked)
    product = exponent_keys(e)[..., :, None] * np.asarray(v, np.int64)[..., None, :]
    words = half_up(state.words, down[..., None]) + half_up(product, growth[..., None])
    return LevelState(words, (state.totals >> rise) + e, level, fraction, growth)


def read_level(state: LevelState, q: ArrayLike) -> tuple[Int, Int]:
    """PV sums (..., dv) of q (A / B), and the right shift (...) that belongs to them.

    A row's weight is q times the reciprocal of its total, half up, signed 12 bit; the smallest shift (of a reciprocal,
    less the growth) among the rows is taken out and goes to the output scaler, as a softmax row's shift does.
    """
    inverse, shift = reciprocals(state.totals)
    shift = shift - state.growth
    common = shift.min(-1)
    weights = half_up(np.asarray(q, np.int64) * inverse, QUOTIENT_BITS - 1 + shift - common[..., None])
    sums = weights[..., None, :].astype(np.float64) @ upper_words(state.words).astype(np.float64)
    return sums[..., 0, :].astype(np.int64), common


#: log2 of a read-out's accumulator unit at shift 0, in units of q word x v word: 12 state bits below the V word, 11
#: fraction bits of k', 20 of the total, 31 of the reciprocal, 16 that the weight drops.
LEVEL_UNIT_BITS = STATE_LOW_BITS - EXPONENT_KEY_BITS + EXPONENT_BITS - RECIPROCAL_BITS + QUOTIENT_BITS - 1


@dataclass(frozen=True)
class LevelRows:
    """``accumulated`` (..., tokens, dv) and ``shift`` (..., tokens): outputs are accumulated 2^(LEVEL_UNIT_BITS -
    shift) q words times v words. ``state``: as the last token left it.
    """

    accumulated: Int
    shift: Int
    state: LevelState


def run_level_state(
    q: ArrayLike, kappa: ArrayLike, v: ArrayLike, decay: ArrayLike = 0, start: LevelState | None = None
) -> LevelRows:
    """Tokens in order, each read after its update; arrays as for ``run_state``, kappa in place of k. A decay is a
    scalar, (...) of a head, or (..., tokens, dk).
    """
    q, kappa, v, decay = (np.asarray(x, np.int64) for x in (q, kappa, v, decay))
    state = start or LevelState.empty(*kappa.shape[:-2], kappa.shape[-1], v.shape[-1])
    rows, shifts = np.zeros(v.shape, np.int64), np.zeros(v.shape[:-1], np.int64)
    for t in range(kappa.shape[-2]):
        step = decay[..., t, :] if decay.ndim == kappa.ndim else decay[..., None]
        state = update_level(state, kappa[..., t, :], v[..., t, :], step)
        rows[..., t, :], shifts[..., t] = read_level(state, q[..., t, :])
    return LevelRows(rows, shifts, state)
