"""A trained Mamba: the byte segmenter of the `typeseg` package, in NumPy float32, its selective scans left to a hook.

Architecture: Mamba (A. Gu, T. Dao 2023) with two changes of this network's own. It is bidirectional: each layer scans
the same tensors once forward and once backward and adds the two; and its short convolution is centred, not causal. So
it labels every byte of a given text with the type of content it belongs to, and does not generate text. All sizes
come from the file; the published one has 6 layers of width 256, state size 16, 35 types of content.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numba
import numpy as np

from accel.errors import UserError
from workloads.nets.float_ops import layer_norm, silu, softplus
from workloads.nets.mamba_samples import TypedText
from workloads.nets.tensor_file import NamedTensors, read_npz

# Flax's default epsilon of LayerNorm, and what the package adds to the step width after the softplus.
NORM_EPSILON = 1e-6
LEAST_STEP = np.float32(1e-4)
# Bytes from 128 on share one embedding row (128); the row behind it pads windows and is not used here.
FIRST_SHARED_BYTE = 128


class ScanCall(NamedTuple):
    """One direction of one layer: s[t] = exp(dt[t] A) s[t-1] + dt[t] u[t] B[t] and y[t] = s[t] C[t] + D u[t].

    s[-1] is 0. For "backward" the time axes are already reversed: row 0 is the last byte of the text. `z`, the gate,
    is no part of the scan: the network multiplies the sum of both directions by silu(z). All float32; they may be
    views and must not be written to.
    """

    layer: int
    direction: Literal["forward", "backward"]
    u: np.ndarray  # (T, d)
    dt: np.ndarray  # (T, d), positive
    A: np.ndarray  # (d, state), negative
    B: np.ndarray  # (T, state)
    C: np.ndarray  # (T, state)
    D: np.ndarray  # (d,)
    z: np.ndarray  # (T, d)


class Scan(Protocol):
    """What a machine has to implement to be put in place of the float scan: y, float32 (T, d), in the call's order."""

    def __call__(self, call: ScanCall) -> np.ndarray: ...


@numba.njit(cache=True)
def _scan(
    u: np.ndarray, dt: np.ndarray, A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray, y: np.ndarray
) -> None:
    steps, width = u.shape
    size = A.shape[1]
    state = np.zeros((width, size), np.float32)
    for t in range(steps):
        for i in range(width):
            fed = dt[t, i] * u[t, i]
            total = np.float32(0)
            for j in range(size):
                state[i, j] = np.exp(dt[t, i] * A[i, j]) * state[i, j] + fed * B[t, j]
                total += state[i, j] * C[t, j]
            y[t, i] = total + D[i] * u[t, i]


def float_scan(call: ScanCall) -> np.ndarray:
    """The scan in float32; the meaning of `scan=None`."""
    y = np.empty(call.u.shape, np.float32)
    # One layout for the compiler, whatever views a call is made of.
    u, dt, A, B, C, D = (np.ascontiguousarray(part) for part in (call.u, call.dt, call.A, call.B, call.C, call.D))
    _scan(u, dt, A, B, C, D, y)
    return y


class _Layer(NamedTuple):
    norm: tuple[np.ndarray, np.ndarray]
    into: tuple[np.ndarray, np.ndarray]  # (width, 2 d), (2 d,): the scan's input and the gate
    convolution: tuple[np.ndarray, np.ndarray]  # (taps, d), (d,): one filter per channel
    select: tuple[np.ndarray, np.ndarray]  # (d, rank + 2 state): step width, B, C
    step: tuple[np.ndarray, np.ndarray]  # (rank, d), (d,)
    A: np.ndarray
    D: np.ndarray
    out: tuple[np.ndarray, np.ndarray]  # (d, width), (width,)


class ByteSegmenter:
    """The network over `tensors`, which has Flax's names, with `labels` for its classes.

    Attributes: layers, width, inner_width (d of the scans), state_size, labels. Raises UserError when a tensor is
    missing or does not fit the others.
    """

    def __init__(self, tensors: NamedTensors, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self.layers = tensors.count("CheckpointMambaBlock1D_{}__A_log")
        if not self.layers:
            raise UserError(f"{tensors.path}: no tensor 'CheckpointMambaBlock1D_0__A_log'; {tensors.network} has it")
        self.width = tensors.shape("Embed_0__embedding", 2)[1]
        self.inner_width, self.state_size = tensors.shape("CheckpointMambaBlock1D_0__A_log", 2)
        self._words = tensors.take("Embed_0__embedding", FIRST_SHARED_BYTE + 2, self.width)
        self._weights = [self._read_layer(tensors, f"CheckpointMambaBlock1D_{layer}__") for layer in range(self.layers)]
        self._norm = _pair(tensors, "LayerNorm_0__", "scale", self.width)
        self._head = _pair(tensors, "Dense_0__", "kernel", self.width, len(self.labels))

    @classmethod
    def read(cls, folder: Path) -> "ByteSegmenter":
        """From `mamba_al.npz` and `manifest.json` (its labels) in a folder. Raises UserError."""
        manifest = Path(folder) / "manifest.json"
        try:
            labels = json.loads(manifest.read_text(encoding="utf-8"))["labels"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{manifest}: not a readable list of labels ({error!r})") from error
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise UserError(f"{manifest}: labels have to be a list of names")
        return cls(read_npz(Path(folder) / "mamba_al.npz", "a Mamba segmenter"), labels)

    def _read_layer(self, tensors: NamedTensors, name: str) -> _Layer:
        d, state = self.inner_width, self.state_size
        taps = tensors.shape(f"{name}Conv_0__kernel", 3)[0]
        rank = tensors.shape(f"{name}Dense_2__kernel", 2)[0]
        kernel, bias = _pair(tensors, f"{name}Conv_0__", "kernel", taps, 1, d)
        return _Layer(
            norm=_pair(tensors, f"{name}LayerNorm_0__", "scale", self.width),
            into=_pair(tensors, f"{name}Dense_0__", "kernel", self.width, 2 * d),
            convolution=(kernel[:, 0], bias),
            select=_pair(tensors, f"{name}Dense_1__", "kernel", d, rank + 2 * state),
            step=_pair(tensors, f"{name}Dense_2__", "kernel", rank, d),
            A=-np.exp(tensors.take(f"{name}A_log", d, state)),
            D=tensors.take(f"{name}D", d),
            out=_pair(tensors, f"{name}Dense_3__", "kernel", d, self.width),
        )

    def forward(self, data: bytes, scan: Scan | None = None) -> np.ndarray:
        """Logits of every byte, float32 (T, labels). Raises UserError for no bytes, ValueError for a hook's fault.

        The package itself cuts a text into overlapping windows of 1536 bytes; here all of `data` is one sequence.
        """
        codes = np.frombuffer(data, np.uint8)
        if not codes.size:
            raise UserError("segmenter: expected at least one byte")
        x = self._words[np.minimum(codes, FIRST_SHARED_BYTE)]
        for layer, weights in enumerate(self._weights):
            call = self._scan_call(layer, weights, layer_norm(x, *weights.norm, NORM_EPSILON))
            mixed = _checked(scan, call) + _checked(scan, _reversed(call))[::-1]
            x = x + _affine(weights.out, mixed * silu(call.z))
        return _affine(self._head, layer_norm(x, *self._norm, NORM_EPSILON))

    def segment(self, data: bytes, scan: Scan | None = None) -> list[str]:
        """The most likely label of every byte."""
        return [self.labels[place] for place in self.forward(data, scan).argmax(axis=1)]

    def _scan_call(self, layer: int, weights: _Layer, x: np.ndarray) -> ScanCall:
        u, z = np.split(_affine(weights.into, x), 2, axis=1)
        u = silu(_convolve_channels(u, *weights.convolution))
        rank = len(weights.step[0])
        step, B, C = np.split(_affine(weights.select, u), [rank, rank + self.state_size], axis=1)
        dt = softplus(_affine(weights.step, step)) + LEAST_STEP
        return ScanCall(layer, "forward", u, dt, weights.A, B, C, weights.D, z)


def record(net: ByteSegmenter, data: bytes, scan: Scan | None = None) -> list[ScanCall]:
    """The scans of one pass over `data`, copied: forward and backward of layer 0, then of layer 1, and so on."""
    calls: list[ScanCall] = []

    def keep(call: ScanCall) -> np.ndarray:
        calls.append(ScanCall(call.layer, call.direction, *(np.array(part, order="C") for part in call[2:])))
        return float_scan(call) if scan is None else scan(call)

    net.forward(data, keep)
    return calls


class SegmenterQuality(NamedTuple):
    """The hook against the float scan over the same bytes.

    `agreement`: share of bytes with the same most likely label. `accuracy`, `float_accuracy`: share of bytes that get
    the label they are known to have. `mean_abs_dlogit`: each byte's logits brought to mean 0 first.
    """

    agreement: float
    accuracy: float
    float_accuracy: float
    mean_abs_dlogit: float
    bytes: int


def compare_segmenter(net: ByteSegmenter, samples: Sequence[TypedText], scan: Scan) -> SegmenterQuality:
    """Label every text once with the float scan and once with `scan`.

    Raises UserError for no text, and for a label that the network does not know.
    """
    if not samples:
        raise UserError("segmenter quality: expected at least one text")
    equal, right, float_right, difference, total = 0, 0, 0, 0.0, 0
    for sample in samples:
        wanted = np.concatenate([np.full(length, _place(net, label)) for label, length in sample.parts])
        dense, other = net.forward(sample.data), net.forward(sample.data, scan)
        float_labels, labels = dense.argmax(axis=1), other.argmax(axis=1)
        equal += int((float_labels == labels).sum())
        right += int((labels == wanted).sum())
        float_right += int((float_labels == wanted).sum())
        gap = other - dense
        gap -= gap.mean(axis=1, keepdims=True)
        difference += float(np.abs(gap).mean(axis=1, dtype=np.float64).sum())
        total += len(wanted)
    return SegmenterQuality(equal / total, right / total, float_right / total, difference / total, total)


def _place(net: ByteSegmenter, label: str) -> int:
    if label not in net.labels:
        raise UserError(f"segmenter quality: label {label!r} is none of the network's ({', '.join(net.labels)})")
    return net.labels.index(label)


def _pair(tensors: NamedTensors, name: str, weight: str, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """A weight of this shape and the bias that goes with its last axis."""
    return tensors.take(f"{name}{weight}", *shape), tensors.take(f"{name}bias", shape[-1])


def _affine(weights: tuple[np.ndarray, np.ndarray], x: np.ndarray) -> np.ndarray:
    return x @ weights[0] + weights[1]


def _convolve_channels(x: np.ndarray, taps: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A filter per channel: x (T, d), taps (n, d); byte t sees t - (n - 1) // 2 and on, zeros outside of the text."""
    before = (len(taps) - 1) // 2
    padded = np.pad(x, ((before, len(taps) - 1 - before), (0, 0)))
    return sum((padded[place : place + len(x)] * tap for place, tap in enumerate(taps)), start=bias)


def _reversed(call: ScanCall) -> ScanCall:
    return call._replace(
        direction="backward", u=call.u[::-1], dt=call.dt[::-1], B=call.B[::-1], C=call.C[::-1], z=call.z[::-1]
    )


def _checked(scan: Scan | None, call: ScanCall) -> np.ndarray:
    """Run the hook on one call and hold it to its contract."""
    if scan is None:
        return float_scan(call)
    y = np.asarray(scan(call), dtype=np.float32)
    if y.shape != call.u.shape:
        raise ValueError(f"scan hook, layer {call.layer}: returned shape {y.shape}, expected {call.u.shape}")
    return y
