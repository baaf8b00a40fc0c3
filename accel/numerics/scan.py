"""Golden ``scan`` mode: recurrences that are diagonal, one number per element; bit-true, NumPy, a loop over tokens.

Two forms of h = 2^-d h + x are kept: *shift-accumulate* (as :mod:`accel.numerics.state`) and *factor*, the plain
multiplication by a 16-bit factor. They differ in cost and in how long a memory they can hold; docs/modes.md measures
both. Constant leaks (leaky RNN) multiply by 1 - a instead, with a mantissa of 16 bits at any size.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.numerics.decay import DECAY_ONE, LARGEST_DECAY, decay_factor, half_up, saturate, scale_output, times_power
from accel.numerics.level_state import exponent_keys, grow, move_level, reciprocals
from accel.numerics.quantise import WORD_BITS, encode_scale
from accel.numerics.softmax import NO_MAXIMUM, Int, exponent
from accel.numerics.state import age, upper_words
from accel.units.modes import (
    DECAY_FRACTION_BITS,
    EXPONENT_KEY_BITS,
    LEAK_BITS,
    PEAK,
    SCAN_WORD_BITS,
    STATE_BITS,
    TABLE_INPUT_BITS,
)
from accel.units.softmax import (
    EXPONENT_BITS,
    OUTPUT_BITS,
    OUTPUT_FRACTION_BITS,
    RECIPROCAL_BITS,
    SCORE_FRACTION_BITS,
    TABLE_BITS,
)

Form = Literal["shift", "factor"]
_BELOW_WORD = STATE_BITS - SCAN_WORD_BITS
_FINER = DECAY_FRACTION_BITS - TABLE_INPUT_BITS


# ---- h = 2^-d h + x ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ScanState:
    """``words`` signed 24 bit and, in the shift form, ``fraction`` (units of 2^-20), of the elements' shape."""

    words: Int
    fraction: Int
    saturated: int = 0

    @classmethod
    def empty(cls, *shape: int) -> "ScanState":
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.int64))


def scan_step(state: ScanState, x: ArrayLike, decay: ArrayLike, shift: int, form: Form = "shift") -> ScanState:
    """One token. x: up to signed 24 bit, of the elements' shape; a state's unit is 2^(shift + 1) units of x.

    * ``shift``: words = (words >> whole, half up) + (x 2^f >> shift + 1, half up); two table look-ups per element and
      token (here and in :func:`scan_words`), two multipliers.
    * ``factor``: words = (words 2^-d, half up) + (x >> shift + 1, half up); one look-up, one multiplier.
    """
    decay = np.asarray(decay, np.int64)
    if form == "shift":
        whole, fraction = age(state.fraction, decay)
        aged = half_up(state.words, whole)
        new = times_power(x, DECAY_ONE - ((fraction >> _FINER) << _FINER), shift)
    else:
        fraction = state.fraction
        mantissa, whole = decay_factor(decay)
        aged = half_up(state.words * mantissa, TABLE_BITS + whole)
        new = half_up(x, shift + 1)
    words, limited = saturate(aged + new, STATE_BITS)
    return ScanState(words, fraction, state.saturated + limited)


def scan_words(state: ScanState) -> Int:
    """States as they are read: signed 16 bit, 2^8 state units; in the shift form times 2^-f first."""
    return saturate(half_up(times_power(state.words, state.fraction), _BELOW_WORD), SCAN_WORD_BITS)[0]


def linear_scan(x: ArrayLike, decay: ArrayLike, shift: int, form: Form = "shift") -> tuple[Int, int]:
    """All tokens: 16-bit states (tokens, ...) after each, in units of 2^(shift + 9) of x, and words that were limited.

    Args:
        x: (tokens, ...) inputs. decay: exponents, (tokens, ...) or (...).
    """
    x, decay = np.asarray(x, np.int64), np.asarray(decay, np.int64)
    state, out = ScanState.empty(*x.shape[1:]), np.zeros(x.shape, np.int64)
    for t in range(len(x)):
        state = scan_step(state, x[t], decay[t] if decay.ndim == x.ndim else decay, shift, form)
        out[t] = scan_words(state)
    return out, state.saturated


def decay_octaves(exponents: ArrayLike) -> Int:
    """Octaves (d,) by which the exponents (d, n) of a selective scan, in units of 1 at a dt word of 2048, pass 16."""
    largest = np.asarray(exponents, np.float64).max(1)
    return np.clip(np.ceil(np.log2(largest / (LARGEST_DECAY / DECAY_ONE))), 0, WORD_BITS - 1).astype(np.int64)


def selective_scan(
    du: ArrayLike,
    dt: ArrayLike,
    A: ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    shift: int,
    form: Form = "shift",
    octaves: ArrayLike = 0,
) -> tuple[Int, int]:
    """Selective SSM: h = 2^-d h + B du, y = C h, d = dt |A| log2 e.

    Args:
        du, dt: (tokens, d): words of dt u, and of dt (not negative). A: (d, n): decay exponents at a dt word of
            2048 >> octaves; held as decay words, since their range is wide. B, C: (tokens, n) words.
        shift: as for :func:`scan_step`.
        octaves: 0 to 11, (d,) or one for all. A decay word ends just below 16; a channel whose exponent at its largest
            dt is beyond holds it for a smaller dt, or its smaller steps would all decay too slowly
            (:func:`decay_octaves`).

    Returns:
        y (tokens, d), exact sums in units of 2^(shift + 9) of three words, and states that were limited.
    """
    du, dt, A, B, C = (np.asarray(x, np.int64) for x in (du, dt, A, B, C))
    by = WORD_BITS - 1 - np.broadcast_to(np.asarray(octaves, np.int64), A.shape[:1])[:, None]
    state, y = ScanState.empty(*A.shape), np.zeros(du.shape, np.int64)
    for t in range(len(du)):
        decay = np.minimum(half_up(dt[t][:, None] * A, by), LARGEST_DECAY)
        state = scan_step(state, du[t][:, None] * B[t], decay, shift, form)
        y[t] = scan_words(state) @ C[t]
    return y, state.saturated


# ---- WKV: exponentials with a running level ------------------------------------------------------------------------
@dataclass(frozen=True)
class WkvState:
    """Per channel: ``words`` (24 bit), ``totals``, ``level``, ``fraction``, ``growth``, as in ``LevelState``."""

    words: Int
    totals: Int
    level: Int
    fraction: Int
    growth: Int


def wkv_states(kappa: ArrayLike, v: ArrayLike, decay: ArrayLike) -> WkvState:
    """States before each token, arrays (tokens, channels): what all earlier tokens left.

    Args:
        kappa: (tokens, channels) keys times log2 e, 12 fraction bits. v: 12-bit words. decay: exponents (channels,).

    The last token decays by nothing, as in RWKV: the decay is applied as the next one comes in.
    """
    kappa, v, decay = (np.asarray(x, np.int64) for x in (kappa, v, decay))
    zero: Int = np.zeros(v.shape[1], np.int64)
    words, totals, level, fraction, growth = zero, zero, zero + NO_MAXIMUM, zero, zero
    history = []
    for t in range(len(v)):
        history.append((words, totals, level, fraction, growth))
        peaked = (np.abs(words) >= PEAK).astype(np.int64)
        level, fraction, rise, e = move_level(level, fraction, kappa[t], decay)
        growth, down = grow(growth, rise, peaked)
        words = half_up(words, down) + half_up(exponent_keys(e) * v[t], growth)
        totals = (totals >> rise) + e
    return WkvState(*(np.array(x) for x in zip(*history, strict=True)))


def wkv_outputs(states: list[WkvState], kappa_own: ArrayLike, v: ArrayLike) -> Int:
    """WKV of every token from the states of its past (and of its future, for the bidirectional form) and itself.

    Args:
        states: each (tokens, channels). kappa_own: (tokens, channels) of the token itself, (u + k) log2 e.

    Returns:
        Signed 16 bit, 4 bits below a v word's step, like outputs of attention.
    """
    own, v = np.asarray(kappa_own, np.int64), np.asarray(v, np.int64)
    top = (own + (1 << SCORE_FRACTION_BITS) - 1) >> SCORE_FRACTION_BITS
    for s in states:
        top = np.maximum(top, s.level)
    e = exponent(own - (top << SCORE_FRACTION_BITS), 0)
    num, den = exponent_keys(e) * v, e
    for s in states:
        below = ((top - s.level) << DECAY_FRACTION_BITS) + s.fraction
        num, den = num + times_power(s.words << s.growth, below), den + times_power(s.totals, below)
    inverse, shift = reciprocals(den)
    down = RECIPROCAL_BITS - EXPONENT_BITS + EXPONENT_KEY_BITS - OUTPUT_FRACTION_BITS
    return saturate(half_up(num * inverse, down + shift), OUTPUT_BITS)[0]


# ---- cells with a constant leak, and tallies -------------------------------------------------------------------------
def encode_leak(leak: ArrayLike) -> tuple[Int, Int]:
    """1 - a of each channel (above 0, at most 1; 1/tau of a leaky cell) as a 16-bit mantissa and a right shift."""
    pairs = [encode_scale(float(x), LEAK_BITS) for x in np.asarray(leak, np.float64)]
    return np.array([m for m, _ in pairs], np.int64), np.array([s for _, s in pairs], np.int64)


def leaky_step(h: Int, target: ArrayLike, leak: tuple[Int, Int], slope: int) -> tuple[Int, int]:
    """h = LeakyReLU(h + (target - h) leak), half up; and how many were limited.

    Args:
        h: (n,) signed 24 bit. target: signed 16 bit, 2^8 units of h: the cell's W h + x from the output scaler.
        slope: of the negative side, 16 fraction bits.
    """
    mantissa, right = leak
    moved = h + half_up(((np.asarray(target, np.int64) << _BELOW_WORD) - h) * mantissa, right)
    return saturate(np.where(moved < 0, half_up(moved * slope, 16), moved), STATE_BITS)


def leaky_rnn(
    x: ArrayLike, W: ArrayLike, scale: tuple[int, int], leak: tuple[Int, Int], slope: int
) -> tuple[NDArray[np.int64], int]:
    """Leaky RNN: the recurrent product in ``linear`` mode from the upper 12 bits of h, the leak on all 24.

    Args:
        x: (tokens, n) inputs in accumulator units (rows of the same job). W: (n, n) words, one row per input element.
        scale: accumulator to target units. Returns h (tokens, n), 24 bit, and words limited.
    """
    x, W = np.asarray(x, np.int64), np.asarray(W, np.float64)
    h: Int = np.zeros(x.shape[1], np.int64)
    out, limited = np.zeros(x.shape, np.int64), 0
    for t in range(len(x)):
        sums = (upper_words(h).astype(np.float64) @ W).astype(np.int64) + x[t]
        h, over = leaky_step(h, scale_output(sums, scale), leak, slope)
        out[t], limited = h, limited + over
    return out, limited


def indrnn(x: ArrayLike, u: ArrayLike) -> tuple[Int, int]:
    """h = ReLU(x + u h). x: (tokens, n) signed 16 bit, 2^8 units of h. u: (n,) signed 16 bit, 14 fraction bits."""
    x, u = np.asarray(x, np.int64), np.asarray(u, np.int64)
    h: Int = np.zeros(x.shape[1], np.int64)
    out, limited = np.zeros(x.shape, np.int64), 0
    for t in range(len(x)):
        h, over = saturate(np.maximum((x[t] << _BELOW_WORD) + half_up(h * u, 14), 0), STATE_BITS)
        out[t], limited = h, limited + over
    return out, limited


def fir(x: ArrayLike, taps: ArrayLike) -> Int:
    """y_t = sum of taps_s x_(t-s), exact. x: (tokens, n) words. taps: (m,) weights. In ``linear`` mode: taps are the
    weights and the last m rows of x the V rows.
    """
    x, taps = np.asarray(x, np.int64), np.asarray(taps, np.int64)
    out = np.zeros(x.shape, np.int64)
    for lag, tap in enumerate(taps[: len(x)]):
        out[lag:] += tap * x[: len(x) - lag]
    return out
