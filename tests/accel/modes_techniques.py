"""What the modified techniques of the new modes save and what error they cause; run as a module, without arguments.

Random normal tensors, not trained ones: the figures show the rules at work and are no claim for a network.
"""

import numpy as np

from accel.numerics import decay, linear
from accel.numerics.quantise import words
from accel.numerics.state import score_unit_bits
from tests.accel.float_kernels import rms_error, sigmoid
from tests.accel.modes_error import integers


def window_row(g: float, tokens: int, smallest: float) -> str:
    """Decay window on one head of 64: pairs kept, RMS change of the output, largest change over its bound."""
    rng = np.random.default_rng(tokens)
    q, k, v = (rng.normal(size=(tokens, 64)) for _ in range(3))
    (qw, sq), (kw, sk), (vw, sv) = integers(q), integers(k), integers(v)
    d = int(decay.encode_decay(g))
    window = decay.decay_window(d, smallest) or tokens
    dots = float(np.abs(q @ k.T).max())
    scale = decay.weight_scale(dots / (sq * sk))
    full, some = (decay.decay_attention(qw, kw, vw, d, scale, window=w) for w in (None, window))
    unit = sq * sk * sv * 2.0 ** score_unit_bits(scale)
    share = float(np.abs(some.accumulated - full.accumulated).max()) * unit
    bound = decay.window_bound(d, window, dots, float(np.abs(v).max()))
    error = rms_error(some.accumulated * unit, full.accumulated * unit)
    return (
        f"g = 1 - 1/{1 / (1 - g):.0f}, {tokens} tokens, eps {smallest}: window {window}, "
        f"pairs {full.pairs / some.pairs:.2f}x fewer, RMS {error:.2%}, largest change / bound {share / bound:.3f}"
    )


def msb_row(activation: linear.Activation, planes: tuple[int, int], offset: float, block: int) -> str:
    """MSB-first weights, 512 x 512: blocks that fetch their LSB plane, and the largest change of the activation."""
    rng = np.random.default_rng(sum(planes))
    x, W = np.tanh(rng.normal(size=512)), rng.normal(size=(512, 512)) * 0.12
    bits = sum(planes)
    unit_w = float(np.abs(W).max()) / ((1 << (bits - 1)) - 1)
    stored = np.rint(W / unit_w).astype(np.int64)
    xw, sx = integers(x)
    unit = sx * unit_w * 2.0 ** (bits - 12)
    bias = np.full(512, round(offset / unit), np.int64)
    test = linear.interval_test(activation, 0.02, unit)
    found = linear.msb_first(xw, stored, bits, planes[1], block, test, bias)
    full = linear.linear_tiles(xw, words(stored, bits)) + bias
    act = sigmoid if activation == "sigmoid" else lambda z: np.maximum(z, 0)
    error = float(np.abs(act(found.accumulated * unit) - act(full * unit)).max())
    read = linear.weight_bits_read(found, 512, 512, bits, planes[1], block)
    return (
        f"{activation}, {planes[0]}+{planes[1]} bit, offset {offset:+.0f}, blocks of {block}: "
        f"{found.refetched.mean():.2f} refetched, weights {512 * 512 * bits / read:.2f}x fewer, "
        f"largest change {error:.4f}"
    )


def main() -> None:
    for tokens in (1024, 4096):
        for g in (1 - 1 / 32, 1 - 1 / 512):
            for smallest in (0.05, 0.01):
                print(window_row(g, tokens, smallest), flush=True)
    for activation in ("sigmoid", "relu"):
        for planes in ((4, 4), (8, 4)):
            for offset in (0.0, -6.0):
                for block in (1, 8, 64):
                    print(msb_row(activation, planes, offset, block), flush=True)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
