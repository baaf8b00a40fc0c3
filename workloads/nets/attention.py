"""The attention hook of the networks: what a machine has to implement to be put in place of dense attention.

All networks in this package hand their attention to one callable, `Attend`. None means dense floating-point softmax.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

# Query rows handled at a time by dense attention: bounds the score matrix to Hq x 512 x Tk floats.
QUERY_BLOCK = 512


class Attend(Protocol):
    """One attention call of one layer of a network, for one sequence.

    Arguments: `layer` counts from 0; `q` float32 (Hq, Tq, dh) and `k`, `v` float32 (Hkv, Tk, dh), all after the
    position encoding; k and v are NOT repeated over query groups: query head h reads key head h // (Hq // Hkv). They
    may be views with strides and must not be written to. `causal`: query row i may see keys 0 .. q_start + i;
    otherwise all. `q_start` is the place of the first query among the keys: 0 in prefill and in encoders, Tk - 1 in
    decode. A new sequence begins with a call for layer 0 with q_start 0; state kept by the callable (importance, keep
    lists) starts afresh there.

    Returns float32 (Hq, Tq, dh). The callable applies the scale 1/sqrt(dh).

    Optional method `alive(layer) -> int array | None`: the tokens that layer `layer` is to process, as ascending
    places in the sequence; None means all that the layer before it processed. Networks ask it before each layer of an
    encoder or a prefill (never in decode). Tokens can only leave, and q, k, v then hold only the tokens that stayed.
    """

    def __call__(
        self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int
    ) -> np.ndarray: ...


class AttentionCall(NamedTuple):
    """The arguments of one call of the hook; arrays float32, `q` (Hq, Tq, dh), `k` and `v` (Hkv, Tk, dh)."""

    layer: int
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    causal: bool
    q_start: int


class Network(Protocol):
    """What `record` needs of a network."""

    def forward(self, ids: Sequence[int], attend: Attend | None = None) -> np.ndarray: ...


def dense_attend(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int) -> np.ndarray:
    """Softmax attention in float32 (row sums in float64); the meaning of `attend=None`. Shapes as in `Attend`."""
    q_heads, q_len, dim = q.shape
    kv_heads, k_len, _ = k.shape
    group = q_heads // kv_heads
    out = np.empty_like(q)
    keys = k.transpose(0, 2, 1)
    scale = np.float32(1.0 / np.sqrt(dim))
    for start in range(0, q_len, QUERY_BLOCK):
        rows = min(QUERY_BLOCK, q_len - start)
        seen = min(k_len, q_start + start + rows) if causal else k_len
        # The queries of a group share their keys, so the group is folded into the rows of one product.
        block = q[:, start : start + rows].reshape(kv_heads, group * rows, dim) * scale
        scores = (block @ keys[:, :, :seen]).reshape(kv_heads, group, rows, seen)
        if causal:
            future = np.arange(seen) > (q_start + start + np.arange(rows))[:, None]
            np.copyto(scores, -np.inf, where=future)
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores, out=scores)
        total = weights.sum(axis=-1, dtype=np.float64, keepdims=True)
        mixed = weights.reshape(kv_heads, group * rows, seen) @ v[:, :seen]
        mixed /= total.reshape(kv_heads, group * rows, 1)
        out[:, start : start + rows] = mixed.reshape(q_heads, rows, dim)
    return out


def apply_attend(attend: Attend | None, call: AttentionCall) -> np.ndarray:
    """Run the hook on one call and hold it to its contract.

    Returns float32 (Hq, Tq, dh). Raises ValueError when the hook returns another shape.
    """
    run = dense_attend if attend is None else attend
    out = np.asarray(
        run(call.layer, call.q, call.k, call.v, causal=call.causal, q_start=call.q_start), dtype=np.float32
    )
    if out.shape != call.q.shape:
        raise ValueError(f"attend hook, layer {call.layer}: returned shape {out.shape}, expected {call.q.shape}")
    return out


def surviving_tokens(attend: Attend | None, layer: int, present: np.ndarray) -> np.ndarray:
    """Places of the tokens that `layer` processes, given those present before it (both ascending int64).

    Raises ValueError when the hook names tokens in the wrong order, ones already gone, or none at all.
    """
    ask = getattr(attend, "alive", None)
    answer = None if ask is None else ask(layer)
    if answer is None:
        return present
    alive = np.asarray(answer, dtype=np.int64)
    if alive.ndim != 1 or alive.size == 0 or np.any(np.diff(alive) <= 0):
        raise ValueError(f"attend hook, alive({layer}): expected at least one token place, ascending, each once")
    gone = np.setdiff1d(alive, present, assume_unique=True)
    if gone.size:
        raise ValueError(f"attend hook, alive({layer}): token {gone[0]} was pruned before or never existed")
    return alive


class Recorder:
    """A hook that keeps a copy of everything it is asked, and lets another hook (or dense attention) answer."""

    def __init__(self, inner: Attend | None = None) -> None:
        self.inner = inner
        self.calls: list[AttentionCall] = []

    def __call__(
        self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int
    ) -> np.ndarray:
        call = AttentionCall(layer, q.copy(), k.copy(), v.copy(), causal, q_start)
        self.calls.append(call)
        return apply_attend(self.inner, call)

    def alive(self, layer: int) -> np.ndarray | None:
        """What the inner hook says, if it has an opinion."""
        ask = getattr(self.inner, "alive", None)
        return None if ask is None else ask(layer)


def record(net: Network, ids: Sequence[int], attend: Attend | None = None) -> list[AttentionCall]:
    """Run `net` once over `ids` and return the attention call of every layer, e.g. to fit score distributions."""
    recorder = Recorder(attend)
    net.forward(ids, attend=recorder)
    return recorder.calls
