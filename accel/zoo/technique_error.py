"""What techniques do to outputs: share of the work that they leave out and RMS error, on seeded normal tensors.

Nothing in a random tensor is redundant, so these errors are what a rule costs where it finds nothing to live on; a
trained network is kinder (docs/networks.md has its measurements). Rules that only drop what is exactly zero, or that
carry a guarantee, do not depend on that.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.numerics import decay, level_state, linear, scan, state
from accel.numerics.attention import attend_row
from accel.numerics.quantise import quantise, word_scale, words
from accel.numerics.softmax import Int, score_scale
from accel.numerics.topk import top_k
from accel.units.softmax import OUTPUT_FRACTION_BITS
from accel.zoo import exact
from accel.zoo.error import ROWS, normal
from accel.zoo.exact import Real, relative_error
from accel.zoo.fixed import exponent_scores, to_real, to_words

KEPT_TOKENS, KEPT_HEADS, KEPT_ROWS = 0.5, 0.75, 0.5
LSB_BITS, THRESHOLD, TOLERANCE, BLOCK = 4, 0.1, 0.02, 64
"""Planes 8+4; second pass below a largest probability of 0.1; error allowed to an activation; outputs of a job."""
EPSILON, THETA = 0.01, 0.01
"""Smallest decay inside a window; smallest move of a neuron, in RMS of its layer, that is not skipped."""
LEAST_VALUE_BITS = 8
_TOKENS, _KEYS, _HEADS = 128, 256, 16


class Effect(NamedTuple):
    """``share`` of the streams or operations concerned that is left out, error that it causes, and how it was found."""

    share: float
    error: float
    said: str


class _Attention(NamedTuple):
    q: NDArray[np.int16]
    k: NDArray[np.int16]
    v: NDArray[np.int16]
    scale: tuple[int, int]
    unit: float
    stored: Int
    wanted: Real


@functools.lru_cache(256)
def _attention(keys: int, dk: int, dv: int) -> _Attention:
    q, k, v = normal((2 * ROWS, dk), (keys, dk), (keys, dv))
    (qw, sq), (vw, sv) = to_words(q), to_words(v)
    stored = quantise(k, 12)
    scale = score_scale(sq, float(word_scale(stored.scale, 12).item()), dk)
    wanted = exact.softmax(q[ROWS:] @ k.T / math.sqrt(dk)) @ v
    unit = sv * 2.0**-OUTPUT_FRACTION_BITS
    return _Attention(qw.astype(np.int16), words(stored.values, 12), vw.astype(np.int16), scale, unit,
                      stored.values.astype(np.int64), wanted)  # fmt: skip


@functools.lru_cache(256)
def token_pruning(keys: int, dk: int, dv: int) -> Effect:
    """Half of the tokens, by the importance that earlier rows gave them; later rows then see only those."""
    at = _attention(keys, dk, dv)
    importance = np.zeros(keys, np.int64)
    for row in at.q[:ROWS]:
        importance += attend_row(row, at.k, at.k, at.v, scale=at.scale, lanes=8, keep_values=keys).softmax.weights
    kept = top_k(importance, max(1, round(keys * KEPT_TOKENS))).positions
    k, v = at.k[kept], at.v[kept]
    found = [attend_row(row, k, k, v, scale=at.scale, lanes=8, keep_values=keys).output for row in at.q[ROWS:]]
    error = relative_error(np.array(found) * at.unit, at.wanted)
    said = f"{len(kept)} of {keys} tokens kept, by the probabilities of {ROWS} earlier rows"
    return Effect(1 - len(kept) / keys, error, said)


@functools.lru_cache(256)
def progressive_keys(keys: int, dk: int, dv: int) -> Effect:
    """Keys 8+4: rows whose largest probability is below the threshold fetch the LSB plane."""
    at = _attention(keys, dk, dv)
    upper = words(at.stored, 12, LSB_BITS, msb_only=True)
    rows = [
        attend_row(row, upper, at.k, at.v, scale=at.scale, lanes=8, keep_values=keys, lsb="test",
                   threshold=round(THRESHOLD * 65536))
        for row in at.q[ROWS:]
    ]  # fmt: skip
    again = float(np.mean([row.lsb_pass for row in rows]))
    error = relative_error(np.array([row.output for row in rows]) * at.unit, at.wanted)
    said = f"keys 8+4, {again:.0%} of rows fetch the LSB plane (largest probability below {THRESHOLD})"
    return Effect((1 - again) * LSB_BITS / 12, error, said)


@functools.lru_cache(256)
def softmax_heads(heads: int, keys: int, dk: int, dv: int) -> Effect:
    """Three quarters of the heads of a softmax layer, by the size of their outputs."""
    heads, keys = min(heads, _HEADS), min(keys, _KEYS)
    q, k, v = normal((heads, ROWS, dk), (heads, keys, dk), (heads, keys, dv))
    return _drop_heads(exact.softmax(q @ np.swapaxes(k, 1, 2) / math.sqrt(dk)) @ v)


@functools.lru_cache(256)
def state_heads(gammas: tuple[float, ...], heads: int, dk: int, dv: int) -> Effect:
    """The same of retention heads, or of heads with random gates where there are no ``gammas``."""
    heads = min(heads, _HEADS)
    q, k, v, gate = normal(*[(heads, _TOKENS, dk)] * 2, (heads, _TOKENS, dv), (heads, _TOKENS, dk))
    if gammas:
        spread = np.array(gammas)[np.linspace(0, len(gammas) - 1, heads).astype(int)]
        out = [exact.retention(q[h], k[h], v[h], float(spread[h])) for h in range(heads)]
    else:
        out = [exact.state(q[h], k[h], v[h], 1 / (1 + np.exp(-gate[h])) ** (1 / 16)) for h in range(heads)]
    return _drop_heads(np.array(out))


def _drop_heads(out: Real) -> Effect:
    kept = max(1, math.ceil(len(out) * KEPT_HEADS))
    order = np.argsort(np.abs(out).sum((1, 2)))
    pruned = out.copy()
    pruned[order[: len(out) - kept]] = 0
    said = f"{kept} of {len(out)} heads kept, by the size of their outputs"
    return Effect(1 - kept / len(out), relative_error(pruned, out), said)


@functools.lru_cache(256)
def decay_window_error(gamma: float, tokens: int, dk: int, dv: int) -> float:
    """Error of one head whose pairs below `EPSILON` are left out, against the same golden with all of them."""
    q, k, v = normal((tokens, dk), (tokens, dk), (tokens, dv))
    (qw, sq), (kw, sk), (vw, sv) = to_words(q), to_words(k), to_words(v)
    d = int(decay.encode_decay(gamma))
    scale = decay.weight_scale(float(np.abs(qw.astype(float) @ kw.T).max()))
    rows = decay.decay_attention(qw, kw, vw, d, scale, window=decay.decay_window(d, EPSILON))
    found = to_real(rows.accumulated, sq * sk * sv * 2.0 ** state.score_unit_bits(scale))
    return relative_error(found, exact.retention(q, k, v, gamma))


@functools.lru_cache(256)
def msb_first_weights(K: int, N: int, activation: linear.Activation) -> Effect:
    """Planes 8+4 of weights, LSBs per block of 64 outputs by the interval test; weights of variance 1/K."""
    x, W = normal((1, K), (K, N))
    x, W = np.tanh(x[0]), W / math.sqrt(K)
    stored = quantise(W, 12)
    xw, sx = to_words(x)
    unit = sx * float(word_scale(stored.scale, 12).item())
    test = linear.interval_test(activation, TOLERANCE, unit)
    found = linear.msb_first(xw, stored.values.astype(np.int64), 12, LSB_BITS, BLOCK, test)
    act = {"sigmoid": lambda z: 1 / (1 + np.exp(-z)), "relu": lambda z: np.maximum(z, 0)}[activation]
    share = 1 - linear.weight_bits_read(found, K, N, 12, LSB_BITS, BLOCK) / (12 * K * N)
    said = (
        f"weights 8+4, {found.refetched.mean():.0%} of blocks of {BLOCK} outputs fetch their LSB plane "
        f"({activation}, tolerance {TOLERANCE}); [{K} x {N}], variance 1/{K}"
    )
    return Effect(share, relative_error(act(found.accumulated * unit), act(x @ W)), said)


@functools.lru_cache(256)
def vocabulary(K: int, N: int) -> Effect:
    """Output layer 8+4 with softmax's own test: the LSB plane where no word has a probability of the threshold."""
    x, W = normal((1, K), (K, N))
    stored = quantise(W / math.sqrt(K), 12)
    xw, sx = to_words(x[0])
    unit = sx * float(word_scale(stored.scale, 12).item())
    upper = linear.linear_tiles(xw, words(stored.values, 12, LSB_BITS, msb_only=True)) * unit
    again = bool(exact.softmax(upper).max() < THRESHOLD)
    full = linear.linear_tiles(xw, words(stored.values, 12)) * unit
    found, wanted = exact.softmax(full if again else upper), exact.softmax(x[0] @ W / math.sqrt(K))
    said = f"output layer 8+4, LSB plane {'' if again else 'not '}fetched at threshold {THRESHOLD}; {N} words"
    return Effect(0.0 if again else LSB_BITS / 12, relative_error(found, wanted), said)


@functools.lru_cache(256)
def relu_columns(K: int, N: int) -> Effect:
    """Rows of W whose input is exactly 0 behind a ReLU, N of K inputs being such, are not fetched; exact."""
    x, W = normal((1, K), (K, N))
    x = np.concatenate([np.maximum(x[0, :N], 0), x[0, N:]])
    (xw, sx), (Ww, sw) = to_words(x), to_words(W)
    used = np.flatnonzero(xw)
    full = linear.linear_tiles(xw, Ww)
    error = relative_error(linear.linear_tiles(xw[used], Ww[used]) * sx * sw, full * sx * sw)
    return Effect(1 - len(used) / K, error, f"{K - len(used)} of {K} inputs are 0; error against all columns")


@functools.lru_cache(64)
def delta_columns(neurons: int, steps: int) -> Effect:
    """A leaky ReLU network, tau 1 to 100: a column of W is used again only if its neuron moved by more than theta."""
    (W, x) = normal((neurons, neurons), (steps, neurons))
    W, tau = W / math.sqrt(neurons), np.geomspace(1, 100, neurons)

    def run(theta: float) -> tuple[Real, float]:
        h: Real = np.zeros(neurons)
        last: Real = np.zeros(neurons)
        used, out = 0, []
        for x_t in x:
            moved = np.abs(h - last) > theta * math.sqrt(float(np.mean(h * h)))
            used += int(moved.sum())
            last = np.where(moved, h, last)
            h = h + (np.maximum(last @ W + x_t, 0) - h) / tau
            out.append(h)
        return np.array(out), used / (steps * neurons)

    wanted, _ = run(-1.0)
    found, used = run(THETA)
    said = f"{used:.0%} of columns fetched in {steps} steps of {neurons} neurons, tau 1 to 100, theta {THETA} RMS"
    return Effect(1 - used, relative_error(found, wanted), said)


@functools.lru_cache(64)
def state_rows(tokens: int, dk: int, dv: int, normalised: bool) -> Effect:
    """Read-out with the half of a state's rows that have the largest |q|; no bytes, read-out MACs only."""
    q, k, v = normal((tokens, dk), (tokens, dk), (tokens, dv))
    q = exact.softmax(q) if normalised else q
    a = np.full(k.shape, 1 - 2.0**-6)
    order = np.argsort(-np.abs(q), axis=1)
    pruned = q.copy()
    np.put_along_axis(pruned, order[:, max(1, round(dk * KEPT_ROWS)) :], 0, axis=1)
    error = relative_error(exact.state(pruned, k, v, a), exact.state(q, k, v, a))
    return Effect(1 - KEPT_ROWS, error, f"half of {dk} rows read; float64, {tokens} tokens")


@functools.lru_cache(64)
def short_values_state(tokens: int, dk: int, dv: int) -> Effect:
    """Values of 8 bits into a state with levels (LightNet)."""
    q, k, v = normal((tokens, dk), (tokens, dk), (tokens, dv))
    (qw, sq), (vw, sv) = to_words(q), to_words(v, LEAST_VALUE_BITS)
    rows = level_state.run_level_state(qw, exponent_scores(k), vw)
    found = rows.accumulated / 2.0 ** rows.shift[..., None] * sq * sv * 2.0**level_state.LEVEL_UNIT_BITS
    error = relative_error(found, exact.additive_state(q, k, v))
    return Effect(1 - LEAST_VALUE_BITS / 12, error, f"v of {LEAST_VALUE_BITS} bits, {tokens} tokens, {dk} x {dv}")


@functools.lru_cache(64)
def short_values_wkv(tokens: int, channels: int) -> Effect:
    """Values of 8 bits into WKV, both directions."""
    k, v, u = normal((tokens, channels), (tokens, channels), (channels,))
    w, u = np.geomspace(0.1, 10, channels) / tokens, u / tokens
    (vw, sv), kappa = to_words(v, LEAST_VALUE_BITS), exponent_scores(k)
    own = kappa + np.rint(u * math.log2(math.e) * (1 << 12)).astype(np.int64)
    d = np.rint(w * math.log2(math.e) * decay.DECAY_ONE).astype(np.int64)
    back = scan.wkv_states(kappa[::-1], vw[::-1], d)
    turned = scan.WkvState(*(getattr(back, name)[::-1] for name in back.__dataclass_fields__))
    found = scan.wkv_outputs([scan.wkv_states(kappa, vw, d), turned], own, vw) * sv * 2.0**-OUTPUT_FRACTION_BITS
    said = f"v of {LEAST_VALUE_BITS} bits, {tokens} tokens, {channels} channels, both directions"
    return Effect(1 - LEAST_VALUE_BITS / 12, relative_error(found, exact.wkv(w, u, k, v, True)), said)
