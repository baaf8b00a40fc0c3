"""The error of several techniques on one kernel, measured with all of them on.

Where two meet of which one never finds anything to leave out on random tensors (MSB-first weights whose test no block
passes), the other's error stands for both.
"""

import functools
import math
from collections.abc import Mapping

import numpy as np

from accel.numerics import decay, level_state
from accel.numerics.attention import attend_row
from accel.numerics.quantise import quantise, word_scale, words
from accel.numerics.softmax import Int, score_scale
from accel.numerics.topk import top_k
from accel.units.softmax import OUTPUT_FRACTION_BITS
from accel.zoo import exact
from accel.zoo.error import COLUMNS, LONGEST_KEYS, LONGEST_MEMORY, ROWS, normal
from accel.zoo.exact import Real, relative_error
from accel.zoo.fixed import exponent_scores, to_words
from accel.zoo.technique_error import EPSILON, KEPT_HEADS, KEPT_ROWS, KEPT_TOKENS, LEAST_VALUE_BITS, LSB_BITS, THRESHOLD
from workloads.kernels import DecayAttention, Kernel, SoftmaxAttention, StateUpdate

FEW_HEADS, MANY_HEADS, TOKENS = 4, 16, 128
"""Heads and tokens of a measurement: of a multiple of 4 heads, 4 lose the same share."""
T, H, Q = "token_pruning", "head_pruning", "progressive_quantisation"


def combined_error(kernel: Kernel, errors: Mapping[str, float | None]) -> tuple[float | None, str]:
    """RMS output error of all these techniques at once, and how it was found; ``errors``: of each alone."""
    known = {kind: error for kind, error in errors.items() if error is not None}
    if len(known) < 2:
        return next(iter(known.values()), None), "one technique alone" if known else "nothing is left out"
    match kernel:
        case SoftmaxAttention():
            shape = (
                heads_of(kernel.query_heads), min(kernel.keys, LONGEST_KEYS), kernel.head_dim, min(kernel.dv, COLUMNS),
            )  # fmt: skip
            error = _softmax(*shape, T in known, H in known, Q in known)
            return error, f"{', '.join(words_of(known))} at once, {shape[0]} heads of {shape[1]} keys"
        case DecayAttention():
            tokens = min(kernel.length, LONGEST_MEMORY)
            count = heads_of(kernel.heads)
            spread = kernel.decays[:: kernel.heads // count][:count]
            error = _decay(spread, tokens, kernel.key_dim, min(kernel.value_dim, COLUMNS))
            return error, f"window and heads at once, {len(spread)} heads of {tokens} tokens, float64"
        case StateUpdate(decay="additive"):
            error = _levels(heads_of(kernel.heads), kernel.key_dim, min(kernel.value_dim, COLUMNS))
            return error, f"{', '.join(words_of(known))} at once, {heads_of(kernel.heads)} heads, {TOKENS} tokens"
        case StateUpdate():
            error = _rows(heads_of(kernel.heads), kernel.key_dim, min(kernel.value_dim, COLUMNS))
            return error, f"state rows and heads at once, {heads_of(kernel.heads)} heads, {TOKENS} tokens, float64"
    return max(known.values()), "one rule leaves nothing out here, so the other's error is that of both"


def heads_of(count: int) -> int:
    """Heads that stand for so many."""
    return FEW_HEADS if count % FEW_HEADS == 0 else min(count, MANY_HEADS)


def words_of(kinds: Mapping[str, object]) -> list[str]:
    """Techniques in a word each."""
    return [{T: "tokens", H: "heads", Q: "planes 8+4"}[kind] for kind in kinds]


def _keep_heads(out: Real, by: Real) -> Real:
    """Zeros for all but the heads with the largest outputs ``by`` (heads, rows, columns)."""
    kept = max(1, math.ceil(len(out) * KEPT_HEADS))
    order = np.argsort(np.abs(by).sum((1, 2)))
    pruned = out.copy()
    pruned[order[: len(out) - kept]] = 0
    return pruned


@functools.lru_cache(256)
def _softmax(heads: int, keys: int, dk: int, dv: int, tokens: bool, drop: bool, planes: bool) -> float:
    """Golden rows behind importance of all heads, with the planes' own test, and the smallest heads left out."""
    q, k, v = normal((heads, 2 * ROWS, dk), (heads, keys, dk), (heads, keys, dv))
    wanted = exact.softmax(q[:, ROWS:] @ np.swapaxes(k, 1, 2) / math.sqrt(dk)) @ v
    q16, k16, v16, upper, scales, units = [], [], [], [], [], []
    for head in range(heads):
        (qw, sq), (vw, sv), stored = to_words(q[head]), to_words(v[head]), quantise(k[head], 12)
        values = stored.values.astype(np.int64)
        q16.append(qw.astype(np.int16))
        v16.append(vw.astype(np.int16))
        k16.append(words(values, 12))
        upper.append(words(values, 12, LSB_BITS, msb_only=True) if planes else words(values, 12))
        scales.append(score_scale(sq, float(word_scale(stored.scale, 12).item()), dk))
        units.append(sv * 2.0**-OUTPUT_FRACTION_BITS)
    kept: Int = np.arange(keys)
    if tokens:
        importance = np.zeros(keys, np.int64)
        for head in range(heads):
            for row in q16[head][:ROWS]:
                importance += attend_row(
                    row, k16[head], k16[head], v16[head], scale=scales[head], lanes=8, keep_values=keys
                ).softmax.weights
        kept = top_k(importance, max(1, round(keys * KEPT_TOKENS))).positions
    found = np.zeros((heads, ROWS, dv))
    for head in range(heads):
        for at, row in enumerate(q16[head][ROWS:]):
            found[head, at] = attend_row(
                row, upper[head][kept], k16[head][kept], v16[head][kept], scale=scales[head], lanes=8,
                keep_values=len(kept), lsb="test" if planes else "never", threshold=round(THRESHOLD * 65536),
            ).output * units[head]  # fmt: skip
    return relative_error(_keep_heads(found, found) if drop else found, wanted)


@functools.lru_cache(256)
def _decay(gammas: tuple[float, ...], tokens: int, dk: int, dv: int) -> float:
    q, k, v = normal(*[(len(gammas), tokens, dk)] * 2, (len(gammas), tokens, dv))
    lag = np.subtract.outer(np.arange(tokens), np.arange(tokens))
    wanted, found = [], []
    for head, gamma in enumerate(gammas):
        weights = q[head] @ k[head].T * np.where(lag >= 0, gamma ** np.maximum(lag, 0), 0)
        window = decay.decay_window(int(decay.encode_decay(gamma)), EPSILON) or tokens
        wanted.append(weights @ v[head])
        found.append(np.where(lag < window, weights, 0) @ v[head])
    return relative_error(_keep_heads(np.array(found), np.array(wanted)), np.array(wanted))


@functools.lru_cache(256)
def _rows(heads: int, dk: int, dv: int) -> float:
    q, k, v = normal(*[(heads, TOKENS, dk)] * 2, (heads, TOKENS, dv))
    a = np.full((TOKENS, dk), 1 - 2.0**-6)
    pruned = q.copy()
    order = np.argsort(-np.abs(q), axis=2)
    np.put_along_axis(pruned, order[:, :, max(1, round(dk * KEPT_ROWS)) :], 0, axis=2)
    wanted = np.array([exact.state(q[h], k[h], v[h], a) for h in range(heads)])
    found = np.array([exact.state(pruned[h], k[h], v[h], a) for h in range(heads)])
    return relative_error(_keep_heads(found, wanted), wanted)


@functools.lru_cache(256)
def _levels(heads: int, dk: int, dv: int) -> float:
    q, k, v = normal(*[(heads, TOKENS, dk)] * 2, (heads, TOKENS, dv))
    wanted, found = [], []
    for head in range(heads):
        (qw, sq), (vw, sv) = to_words(q[head]), to_words(v[head], LEAST_VALUE_BITS)
        rows = level_state.run_level_state(qw, exponent_scores(k[head]), vw)
        unit = sq * sv * 2.0**level_state.LEVEL_UNIT_BITS
        found.append(rows.accumulated / 2.0 ** rows.shift[..., None] * unit)
        wanted.append(exact.additive_state(q[head], k[head], v[head]))
    return relative_error(_keep_heads(np.array(found), np.array(wanted)), np.array(wanted))
