"""Float64 kernels of the engine's modes, written from their equations (docs/modes.md); what golden is measured against.

Shapes: heads in front where a function says so, then tokens, then channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating[Any]]


def sigmoid(x: Real) -> Real:
    return (1 + np.tanh(x / 2)) / 2


def rms_error(found: Real, wanted: Real) -> float:
    """Root mean square of the error over that of what is wanted."""
    return float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))


# ---- retention and gated linear recurrences ----------------------------------------------------------------------
def retention_parallel(q: Real, k: Real, v: Real, g: float, window: int | None = None) -> Real:
    """O = ((Q K^T) . D) V, D_nm = g^(n - m) for n >= m; one head; optionally only lags below ``window``."""
    out = np.zeros((len(q), v.shape[1]))
    for first in range(0, len(q), 512):
        rows = np.arange(first, min(first + 512, len(q)))
        lag = rows[:, None] - np.arange(len(q))
        seen = (lag >= 0) & (lag < (len(q) if window is None else window))
        out[rows] = ((q[rows] @ k.T) * np.where(seen, g ** np.maximum(lag, 0).astype(float), 0)) @ v
    return out


def gated_state(q: Real, k: Real, v: Real, a: Real, u: Real | None = None) -> Real:
    """S_t = diag(a_t) S_(t-1) + k_t v_t^T; o_t = q_t S_t, or with ``u`` (heads, dk) q_t (S_(t-1) + diag(u) k_t v_t^T).

    q, k, a: (heads, tokens, dk), v: (heads, tokens, dv).
    """
    state: Real = np.zeros((k.shape[0], k.shape[2], v.shape[2]))
    out = np.zeros(v.shape)
    for t in range(k.shape[1]):
        new = k[:, t, :, None] * v[:, t, None, :]
        if u is not None:
            out[:, t] = np.einsum("hk,hkv->hv", q[:, t], state + u[:, :, None] * new)
        state = a[:, t, :, None] * state + new
        if u is None:
            out[:, t] = np.einsum("hk,hkv->hv", q[:, t], state)
    return out


def normalised_state(q: Real, k: Real, v: Real, a: Real) -> Real:
    """o_t = q_t (A_t / B_t), A_t = diag(a_t) A_(t-1) + e^(k_t) v_t^T, B alike with 1 for v. LightNet has a = 1."""
    num: Real = np.zeros((k.shape[0], k.shape[2], v.shape[2]))
    den, out = np.zeros((k.shape[0], k.shape[2])), np.zeros(v.shape)
    for t in range(k.shape[1]):
        e = np.exp(k[:, t])
        num = a[:, t, :, None] * num + e[:, :, None] * v[:, t, None, :]
        den = a[:, t] * den + e
        out[:, t] = np.einsum("hk,hkv->hv", q[:, t] / den, num)
    return out


def lightnet_multiplicative(q: Real, k: Real, v: Real) -> Real:
    """LightNet as it is published: z_t = log(sum of e^k), S_t = e^(z_(t-1) - z_t) S_(t-1) + e^(k_t - z_t) v_t^T."""
    z = np.logaddexp.accumulate(k, axis=1)
    before = np.concatenate([z[:, :1], z[:, :-1]], axis=1)
    return gated_state(q, np.exp(k - z), v, np.exp(before - z))


# ---- diagonal scans ----------------------------------------------------------------------------------------------
def linear_scan(x: Real, a: Real) -> Real:
    """h_t = a_t h_(t-1) + x_t, element by element; tokens first."""
    h: Real = np.zeros(x.shape[1:])
    out = np.zeros(x.shape)
    for t in range(len(x)):
        h = a[t] * h + x[t]
        out[t] = h
    return out


def selective_scan(u: Real, dt: Real, A: Real, B: Real, C: Real) -> Real:
    """h = exp(dt A) h + dt B u, y = C h; u, dt: (tokens, d), A: (d, n), B, C: (tokens, n)."""
    h, out = np.zeros(A.shape), np.zeros(u.shape)
    for t in range(len(u)):
        h = np.exp(dt[t][:, None] * A) * h + (dt[t] * u[t])[:, None] * B[t]
        out[t] = h @ C[t]
    return out


def _weighted_past(w: Real, k: Real, v: Real) -> tuple[Real, Real, Real]:
    """For each token, numerator and denominator over all before it, relative to e^level: (tokens, channels) each."""
    num, den, level = np.zeros(k.shape), np.zeros(k.shape), np.full(k.shape, -1e30)
    for t in range(1, len(k)):
        aged = level[t - 1] - w if t > 1 else level[0]
        level[t] = np.maximum(aged, k[t - 1])
        old, new = np.exp(aged - level[t]), np.exp(k[t - 1] - level[t])
        num[t], den[t] = old * num[t - 1] + new * v[t - 1], old * den[t - 1] + new
    return num, den, level


def wkv(w: Real, u: Real, k: Real, v: Real, *, both: bool = False) -> Real:
    """Weights e^(-(lag - 1) w + k_i) of other tokens, e^(u + k_t) of the token itself, normalised; per channel.

    w, u: (channels,), k, v: (tokens, channels). ``both``: tokens before and after (Restore-RWKV), else before.
    """
    parts = [_weighted_past(w, k, v)]
    if both:
        parts.append(tuple(x[::-1] for x in _weighted_past(w, k[::-1], v[::-1])))  # type: ignore[arg-type]
    own = u + k
    top = np.maximum.reduce([own, *(level for _, _, level in parts)])
    num, den = np.exp(own - top) * v, np.exp(own - top)
    for n, d, level in parts:
        num, den = num + n * np.exp(level - top), den + d * np.exp(level - top)
    return num / den


def leaky_rnn(x: Real, W: Real, tau: Real, slope: float) -> Real:
    """h_t = LeakyReLU((1 - 1/tau) h_(t-1) + (W h_(t-1) + x_t) / tau); x: (tokens, n), W: (n, n), tau: (n,)."""
    h: Real = np.zeros(len(tau))
    out = np.zeros(x.shape)
    for t in range(len(x)):
        a = (1 - 1 / tau) * h + (W @ h + x[t]) / tau
        h = out[t] = np.where(a > 0, a, slope * a)
    return out


def indrnn(x: Real, u: Real) -> Real:
    """h_t = ReLU(x_t + u h_(t-1)); x: (tokens, n), u: (n,)."""
    h: Real = np.zeros(len(u))
    out = np.zeros(x.shape)
    for t in range(len(x)):
        h = out[t] = np.maximum(x[t] + u * h, 0)
    return out


def qlstm(f: Real, i: Real, o: Real, x: Real) -> Real:
    """h = sigmoid(f) h + sigmoid(i) x, y = sigmoid(o) h; all (tokens, n)."""
    return sigmoid(o) * linear_scan(sigmoid(i) * x, sigmoid(f))


def fir(x: Real, taps: Real) -> Real:
    """y_t = sum over s = 0..m-1 of taps_s x_(t-s); x: (tokens, n), taps: (m,)."""
    padded = np.concatenate([np.zeros((len(taps) - 1, x.shape[1])), x])
    return np.array([taps[::-1] @ padded[t : t + len(taps)] for t in range(len(x))])
