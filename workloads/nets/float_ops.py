"""What lies between the mixers of the networks, in float32: normalisation, gates, convolutions along the sequence."""

import numpy as np


def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    """Each row of x (T, d) brought to mean 0 and variance 1, then scaled (d,) and shifted (d,). Float32 (T, d)."""
    centred = x - x.mean(axis=1, keepdims=True)
    variance = np.einsum("td,td->t", centred, centred)[:, None] / np.float32(x.shape[1])
    return centred / np.sqrt(variance + np.float32(epsilon)) * scale + bias


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), any shape; written with tanh, which does not overflow."""
    half = np.float32(0.5)
    return half * np.tanh(half * x) + half


def silu(x: np.ndarray) -> np.ndarray:
    """x times its sigmoid (also called swish), any shape."""
    return x * sigmoid(x)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), any shape, without overflow."""
    return np.logaddexp(np.float32(0), x)


def heads_first(x: np.ndarray, heads: int) -> np.ndarray:
    """(T, heads * dh) -> contiguous (heads, T, dh)."""
    return np.ascontiguousarray(x.reshape(len(x), heads, -1).transpose(1, 0, 2))


def heads_joined(x: np.ndarray) -> np.ndarray:
    """(heads, T, dh) -> (T, heads * dh)."""
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """Convolution along time: x (T, inputs), weight (outputs, inputs, width), bias (outputs,); zeros outside of x.

    Returns (floor((T + 2 padding - width) / stride) + 1, outputs).
    """
    width = weight.shape[2]
    padded = np.pad(x, ((padding, padding), (0, 0)))
    steps = (len(padded) - width) // stride + 1
    last = (steps - 1) * stride + 1
    return sum((padded[tap : tap + last : stride] @ weight[:, :, tap].T for tap in range(width)), start=bias)
