"""Float64 kernels that the fixed-point ones are held against, from their equations. Tokens come before channels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating[Any]]


def relative_error(found: Real, wanted: Real) -> float:
    """RMS of the difference over the RMS of what is wanted."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def softmax(scores: Real) -> Real:
    """Along the last axis."""
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def retention(q: Real, k: Real, v: Real, gamma: float) -> Real:
    """(q k^T . D) v, D_nm = gamma^(n - m) for n >= m; the last axes are (tokens, channels)."""
    lag = np.subtract.outer(np.arange(len(q)), np.arange(len(k)))
    return (q @ k.T * np.where(lag >= 0, gamma ** np.maximum(lag, 0), 0)) @ v


def state(q: Real, k: Real, v: Real, a: Real) -> Real:
    """o_t = q_t S_t, S_t = diag(a_t) S_(t-1) + k_t v_t^T; q, k, a: (tokens, dk), v: (tokens, dv)."""
    S, out = np.zeros((k.shape[1], v.shape[1])), []
    for q_t, k_t, v_t, a_t in zip(q, k, v, a, strict=True):
        S = S * a_t[:, None] + np.outer(k_t, v_t)
        out.append(q_t @ S)
    return np.array(out)


def additive_state(q: Real, k: Real, v: Real) -> Real:
    """o_t = sum over rows of q_t times the softmax-weighted mean of all v so far, weights e^k of the row (LightNet)."""
    e = np.exp(k - k.max(0))
    top = np.cumsum(e[:, :, None] * v[:, None, :], axis=0)
    return np.einsum("tk,tkv->tv", q / np.cumsum(e, axis=0), top)


def decayed_sum(x: Real, a: Real) -> Real:
    """h_t = a_t h_(t-1) + x_t, all elements alone."""
    h, out = np.zeros(x.shape[1:]), []
    for x_t, a_t in zip(x, a, strict=True):
        h = a_t * h + x_t
        out.append(h)
    return np.array(out)


def wkv(w: Real, u: Real, k: Real, v: Real, both: bool) -> Real:
    """Weights e^(k_i - (|t - i| - 1) w) of other tokens and e^(u + k_t) of the token itself, normalised, by channel."""
    T = len(k)
    lag = np.subtract.outer(np.arange(T), np.arange(T))[:, :, None]
    logs = k[None] - (np.abs(lag) - 1) * w
    logs = np.where(lag == 0, u + k[None], np.where((lag < 0) & (not both), -np.inf, logs))
    weights = softmax(np.moveaxis(logs, 1, 2))
    return np.einsum("tci,ic->tc", weights, v)


def relu_scan(x: Real, u: Real) -> Real:
    """h_t = ReLU(x_t + u h_(t-1))."""
    h, out = np.zeros(x.shape[1]), []
    for x_t in x:
        h = np.maximum(x_t + u * h, 0)
        out.append(h)
    return np.array(out)
