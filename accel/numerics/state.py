"""Golden ``state`` mode: S = diag(a) S + k v^T, o = q S, the state resident; bit-true, NumPy, a loop over tokens.

**Shift-accumulate state** (our own technique). Row i of the state is kept as S_i = 2^-f_i S~_i, f_i in [0, 1). A decay
2^-d adds d to f; the whole part of the sum is shifted out of S~, the rest stays in f. The new key is multiplied by 2^f
on its way in, the query by 2^-f on its way out. No multiplier works on the state, and where the decay is slow the state
is neither multiplied nor rounded from token to token. Formats are in :mod:`accel.units.modes`, rules in docs/modes.md.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from accel.errors import UserError
from accel.numerics.decay import DECAY_ONE, decay_attention, decay_weights, half_up, saturate, times_power
from accel.numerics.softmax import Int, scale_scores
from accel.units.modes import (
    DECAY_FRACTION_BITS,
    DECAY_WEIGHT_SHIFT,
    MAX_STATE_SHIFT,
    SIGNED_WEIGHT_BITS,
    STATE_BITS,
    STATE_LOW_BITS,
    TABLE_INPUT_BITS,
)

Order = Literal["after", "before"]


@dataclass(frozen=True)
class State:
    """Resident states of some heads: ``words`` (..., dk, dv) S~, ``fraction`` (..., dk) f in units of 2^-20;
    ``saturated`` counts words that were limited so far.
    """

    words: Int
    fraction: Int
    saturated: int = 0

    @classmethod
    def empty(cls, *shape: int) -> "State":
        """Zero states of shape (..., dk, dv)."""
        return cls(np.zeros(shape, np.int64), np.zeros(shape[:-1], np.int64))


def age(fraction: Int, decay: ArrayLike) -> tuple[Int, Int]:
    """Whole shift and new fraction of rows that decay by ``decay`` more."""
    level = fraction + np.asarray(decay, np.int64)
    return level >> DECAY_FRACTION_BITS, level & (DECAY_ONE - 1)


def grown_keys(k: ArrayLike, fraction: Int) -> Int:
    """k 2^f / 2, half up, signed 12 bit: the factor is 2^-(1 - f), from the table; f at the table's precision."""
    finer = DECAY_FRACTION_BITS - TABLE_INPUT_BITS
    return times_power(k, DECAY_ONE - ((fraction >> finer) << finer))


def update(state: State, k: ArrayLike, v: ArrayLike, decay: ArrayLike, shift: int) -> State:
    """One token into the state: S~ = (S~ >> whole, half up) + (k' v >> shift, half up), saturated to 24 bit.

    Args:
        k: (..., dk), v: (..., dv): 12-bit words. decay: exponents (..., dk), or what broadcasts to it.
        shift: of the product, 0 to 15, from :func:`state_shift`.
    """
    whole, fraction = age(state.fraction, decay)
    product = grown_keys(k, fraction)[..., :, None] * np.asarray(v, np.int64)[..., None, :]
    aged = half_up(state.words, whole[..., None]) if whole.any() else state.words
    words, limited = saturate(aged + half_up(product, shift), STATE_BITS)
    return State(words, fraction, state.saturated + limited)


def upper_words(words: Int) -> Int:
    """What the PV array sees of 24-bit state words: the upper 12 plus the bit below them, 2047 at most."""
    return saturate(half_up(words, STATE_LOW_BITS), SIGNED_WEIGHT_BITS)[0]


def read(state: State, q: ArrayLike, further: ArrayLike = 0) -> Int:
    """PV sums (..., dv) of the read-out q S: weights q 2^-f, half up, signed 12 bit.

    Args:
        q: (..., dk): 12-bit words. further: decay exponents that the state has aged since it was written.
    """
    weights = times_power(q, state.fraction + np.asarray(further, np.int64))
    # Below 2^53, so exact in float64, which has fast matrix products.
    sums = weights[..., None, :].astype(np.float64) @ upper_words(state.words).astype(np.float64)
    return sums[..., 0, :].astype(np.int64)


# ---- scales ----------------------------------------------------------------------------------------------------------
def state_shift(peak: float) -> int:
    """Product shift for states that reach magnitude ``peak`` in units of k word times v word.

    S~ is at most ``peak / 2^shift``: 2^f makes up for the halved key at most. One eighth is left for rounding.

    Raises:
        UserError: more than the datapath's largest shift.
    """
    shift = max(0, math.ceil(math.log2(max(peak, 1) * 9 / 8)) - (STATE_BITS - 1))
    if shift > MAX_STATE_SHIFT:
        raise UserError(f"state of magnitude {peak:.3g}: shift {shift} is above {MAX_STATE_SHIFT}; use smaller words")
    return shift


def peak_bound(largest_k: int, largest_v: int, slowest_decay: int, tokens: int) -> float:
    """Magnitude that no state can exceed: all tokens of the largest words and the same sign."""
    g = 2.0 ** (-slowest_decay / DECAY_ONE)
    reach = tokens if slowest_decay == 0 else (1 - g**tokens) / (1 - g)
    return largest_k * largest_v * reach


def peak_of_data(k: ArrayLike, v: ArrayLike, decay: ArrayLike) -> float:
    """Magnitude that the states of these tokens reach; arguments as for :func:`run_state`. For calibration."""
    k, v = np.asarray(k, np.float64), np.asarray(v, np.float64)
    factor = np.exp2(-np.asarray(decay, np.float64) / DECAY_ONE)
    state, peak = np.zeros((*k.shape[:-2], k.shape[-1], v.shape[-1])), 0.0
    for t in range(k.shape[-2]):
        state = state * (factor[..., t, :, None] if factor.ndim == k.ndim else factor[..., None, None])
        state += k[..., t, :, None] * v[..., t, None, :]
        peak = max(peak, float(np.abs(state).max()))
    return peak


def output_unit_bits(shift: int) -> int:
    """log2 of a read-out's accumulator unit in units of q word x k word x v word: halved key, product shift, and the
    lower state bits that the PV array does not see.
    """
    return shift + 1 + STATE_LOW_BITS


# ---- whole sequences -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Bonus:
    """The current token's own part of a read-out before the update, RWKV's (q diag(u) k) v: one more PV line, whose
    weight is a score of ``q_bonus`` (..., tokens, dk; words of q times u) and k with ``scale``. ``coarser`` is log2 of
    its accumulator unit over the state's; the state's sums are shifted right by it (floor).
    """

    q_bonus: Int
    scale: tuple[int, int]
    coarser: int


@dataclass(frozen=True)
class StateRows:
    """``accumulated`` (..., tokens, dv): exact PV sums in units of 2^``output_unit_bits`` word products (of the bonus
    with order ``before``). ``state``: as the last token left it. ``saturated``: states and bonus weights limited.
    """

    accumulated: Int
    state: State
    saturated: int


def run_state(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    decay: ArrayLike,
    shift: int,
    *,
    order: Order = "after",
    bonus: Bonus | None = None,
    start: State | None = None,
) -> StateRows:
    """Tokens in order through the resident states of some heads.

    Args:
        q, k: (..., tokens, dk), v: (..., tokens, dv): 12-bit words. decay: exponents, (...) constant of a head, or
            (..., tokens, dk) of every row and token (dk may be 1).
        order: read the state ``after`` the token's update (retention, GLA) or ``before`` it (RWKV-5/6).
    """
    q, k, v, decay = (np.asarray(x, np.int64) for x in (q, k, v, decay))
    constant = decay.ndim < k.ndim
    state = start or State.empty(*k.shape[:-2], k.shape[-1], v.shape[-1])
    rows = np.zeros(v.shape, np.int64)
    for t in range(k.shape[-2]):
        old = state
        state = update(state, k[..., t, :], v[..., t, :], decay[..., None] if constant else decay[..., t, :], shift)
        rows[..., t, :] = read(state if order == "after" else old, q[..., t, :])
    limited = state.saturated
    if bonus is not None:
        scores = scale_scores((np.asarray(bonus.q_bonus, np.int64) * k).sum(-1), *bonus.scale)
        weights, clipped = decay_weights(scores, 0)
        rows = (rows >> bonus.coarser) + weights[..., None] * v
        limited += clipped
    return StateRows(rows, state, limited)


def run_chunks(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, decay: int, shift: int, scale: tuple[int, int], chunk: int
) -> StateRows:
    """Retention of one head, chunkwise: ``decay_attention`` inside a chunk, and as another tile of each row the
    read-out of the state before the chunk; then the chunk's updates, those of the recurrent form to the bit.

    Args:
        q, k: (tokens, dk), v: (tokens, dv): 12-bit words. scale: of the scores inside a chunk, a power of two.

    Whichever tile has the finer unit goes first, and its sums are shifted right (floor) to the unit of the other; the
    result is in the coarser unit, whose log2 is :func:`chunk_unit_bits`.
    """
    q, k, v = (np.asarray(x, np.int64) for x in (q, k, v))
    state = State.empty(k.shape[1], v.shape[1])
    rows, limited = np.zeros(v.shape, np.int64), 0
    unit = chunk_unit_bits(shift, scale)
    for first in range(0, len(q), chunk):
        part = slice(first, first + chunk)
        inside = decay_attention(q[part], k[part], v[part], decay, scale)
        limited += inside.saturated
        for t in range(first, min(first + chunk, len(q))):
            before = read(state, q[t], (t - first + 1) * decay)
            rows[t] = (before >> (unit - output_unit_bits(shift))) + (
                inside.accumulated[t - first] >> (unit - score_unit_bits(scale))
            )
        for t in range(first, min(first + chunk, len(q))):
            state = update(state, k[t], v[t], decay, shift)
    return StateRows(rows, state, limited + state.saturated)


def score_unit_bits(scale: tuple[int, int]) -> int:
    """log2 of decay attention's accumulator unit in units of q word x k word x v word; the scale is a power of two."""
    mantissa, shift = scale
    return DECAY_WEIGHT_SHIFT + shift - (mantissa.bit_length() - 1)


def chunk_unit_bits(shift: int, scale: tuple[int, int]) -> int:
    """log2 of the accumulator unit of a chunkwise row: the coarser of its two tiles'."""
    return max(output_unit_bits(shift), score_unit_bits(scale))
