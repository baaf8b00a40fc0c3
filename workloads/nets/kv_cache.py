"""Keys and values of one sequence, per layer; with token pruning the layers hold different tokens."""

import numpy as np

# First allocation, in tokens; doubled whenever it is full.
_FIRST_CAPACITY = 64


class KVCache:
    """Grows as tokens are appended. `length` is the number of tokens of the sequence so far, pruned ones included."""

    def __init__(self, layers: int, kv_heads: int, head_dim: int) -> None:
        self.length = 0
        self._shape = (kv_heads, _FIRST_CAPACITY, head_dim)
        self._keys = [np.empty(self._shape, dtype=np.float32) for _ in range(layers)]
        self._values = [np.empty(self._shape, dtype=np.float32) for _ in range(layers)]
        self._held = [0] * layers

    def append(self, layer: int, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add k and v (Hkv, T, dh) to a layer; returns read-only views of all that it holds, (Hkv, held, dh) each."""
        start = self._held[layer]
        stop = start + k.shape[1]
        if stop > self._keys[layer].shape[1]:
            self._keys[layer] = _grown(self._keys[layer], start, stop)
            self._values[layer] = _grown(self._values[layer], start, stop)
        self._keys[layer][:, start:stop] = k
        self._values[layer][:, start:stop] = v
        self._held[layer] = stop
        return _read_only(self._keys[layer][:, :stop]), _read_only(self._values[layer][:, :stop])


def _grown(old: np.ndarray, used: int, needed: int) -> np.ndarray:
    heads, capacity, dim = old.shape
    new = np.empty((heads, max(2 * capacity, needed), dim), dtype=np.float32)
    new[:, :used] = old[:, :used]
    return new


def _read_only(view: np.ndarray) -> np.ndarray:
    view.flags.writeable = False
    return view
