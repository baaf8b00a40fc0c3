"""Errors of the fixed-point modes against float64 on seeded tensors: ``python -m tests.accel.modes_error``.

Each case quantises real tensors as a lowering would, runs the golden kernel, and gives the RMS of the error over the
RMS of the float64 result of the *unquantised* tensors, and how many numbers saturated. Tests enforce the limits.
"""

import argparse
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from accel.numerics import decay, level_state, linear, quantise, scan, state
from accel.numerics.softmax import scale_scores
from accel.units.modes import SCAN_WORD_BITS, STATE_BITS
from accel.units.softmax import SCALE_BITS, SCORE_FRACTION_BITS
from tests.accel import float_kernels as exact
from tests.accel.float_kernels import Real, rms_error

#: Decays of RetNet (1 - 2^-5 ... 1 - 2^-12) and of ViR (1 - 1/32 ... 1 - 1/512).
RETENTION_DECAYS = (1 - 2.0**-5, 1 - 2.0**-7, 1 - 2.0**-9, 1 - 2.0**-12)


@dataclass(frozen=True)
class Measured:
    """Relative RMS error, and numbers that saturated."""

    error: float
    saturated: int = 0


def integers(x: Real, bits: int = 12) -> tuple[np.ndarray, float]:
    """12-bit words of a tensor quantised to ``bits`` with one scale, int64, and the real value of a word's unit."""
    stored = quantise.quantise(x, bits)
    words = quantise.words(stored.values, bits).astype(np.int64)
    return words, float(quantise.word_scale(stored.scale, bits).item())


def output(accumulated: np.ndarray, unit: float) -> Real:
    """Through the output scaler to 16 bit, its scale chosen from the largest sum, and back to real numbers."""
    step = max(8.01, float(np.abs(accumulated).max()) / 32000)
    return decay.scale_output(accumulated, decay.output_scale(1 / step)) * (step * unit)


# ---- linear ------------------------------------------------------------------------------------------------------
def linear_case(weight_bits: int, rows: int = 768, n: int = 256, tokens: int = 32) -> Measured:
    rng = np.random.default_rng(rows)
    x, W, b = rng.normal(size=(tokens, rows)), rng.normal(size=(rows, n)), rng.normal(size=n) * 10
    (xw, sx), (Ww, sw) = integers(x), integers(W, weight_bits)
    bx, bW = linear.bias_rows(b / (sx * sw))
    sums = linear.linear_tiles(np.hstack([xw, np.tile(bx, (tokens, 1))]), np.vstack([Ww, bW]))
    return Measured(rms_error(output(sums, sx * sw), x @ W + b))


# ---- retention, three forms --------------------------------------------------------------------------------------
def retention(g: float, tokens: int, form: str, chunk: int = 64, dim: int = 64) -> tuple[Real, Real, int]:
    """Fixed point and float64 outputs of one head, and what saturated."""
    rng = np.random.default_rng(tokens)
    q, k, v = (rng.normal(size=(tokens, dim)) for _ in range(3))
    (qw, sq), (kw, sk), (vw, sv) = integers(q), integers(k), integers(v)
    d = int(decay.encode_decay(g))
    shift = state.state_shift(state.peak_of_data(kw, vw, np.int64(d)))
    scale = decay.weight_scale(float(np.abs(np.tril(qw.astype(float) @ kw.T)).max()))
    if form == "parallel":
        rows = decay.decay_attention(qw, kw, vw, d, scale)
        sums, limited, bits = rows.accumulated, rows.saturated, state.score_unit_bits(scale)
    elif form == "chunkwise":
        chunks = state.run_chunks(qw, kw, vw, d, shift, scale, chunk)
        sums, limited, bits = chunks.accumulated, chunks.saturated, state.chunk_unit_bits(shift, scale)
    else:
        steps = state.run_state(qw, kw, vw, np.int64(d), shift)
        sums, limited, bits = steps.accumulated, steps.saturated, state.output_unit_bits(shift)
    return output(sums, sq * sk * sv * 2.0**bits), exact.retention_parallel(q, k, v, g), limited


def retention_case(g: float, tokens: int, form: str) -> Measured:
    found, wanted, limited = retention(g, tokens, form)
    return Measured(rms_error(found, wanted), limited)


# ---- gated states ------------------------------------------------------------------------------------------------
def gla_case(kind: str, tokens: int, heads: int = 2, dim: int = 64) -> Measured:
    """``gla``: sigmoid(x)^(1/16), Lina-Speech, Liger. ``liger``: softmax maps for q and k, gate from the key.
    ``rwkv``: e^(-e^x) gates, read before the update, with a bonus.
    """
    rng = np.random.default_rng(tokens + len(kind))
    q, k, v, gate = (rng.normal(size=(heads, tokens, dim)) for _ in range(4))
    u, bonus = None, None
    if kind == "liger":
        a = exact.sigmoid(k) ** (1 / 16)
        q, k = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (q, k))
    elif kind == "rwkv":
        a, u = np.exp(-np.exp(gate - 3)), rng.normal(size=(heads, dim))
    else:
        a = exact.sigmoid(gate) ** (1 / 16)
    (qw, sq), (kw, sk), (vw, sv) = integers(q), integers(k), integers(v)
    d = decay.decode_decay_words(decay.encode_decay_words(decay.encode_decay(a)))
    shift = state.state_shift(state.peak_of_data(kw, vw, d))
    bits = state.output_unit_bits(shift)
    unit = sq * sk * sv * 2.0**bits
    if u is not None:
        uw, su = integers(q * u[:, None])
        scale = decay.weight_scale(float(np.abs((uw * kw).sum(-1)).max()))
        # The bonus' unit, over the state's: any real number; the words of q u take what is left of a power of two.
        ratio = su * sk * sv * 2.0 ** state.score_unit_bits(scale) / unit
        coarser = max(0, math.ceil(math.log2(ratio)))
        su *= 2.0**coarser / ratio
        uw = np.rint(q * u[:, None] / su).astype(np.int64)
        bonus, unit = state.Bonus(uw, scale, coarser), unit * 2.0**coarser
    rows = state.run_state(qw, kw, vw, d, shift, order="after" if u is None else "before", bonus=bonus)
    wanted = exact.gated_state(q, k, v, a, u)
    return Measured(rms_error(output(rows.accumulated, unit), wanted), rows.saturated)


def kappa_of(k: Real) -> np.ndarray:
    """Keys of an exponential as log2 scores, from 12-bit words."""
    words, unit = integers(k)
    scale = quantise.encode_scale(unit * math.log2(math.e) * (1 << SCORE_FRACTION_BITS), SCALE_BITS)
    return scale_scores(words, *scale)


def level_case(tokens: int, g: float = 1.0, heads: int = 2, dim: int = 64) -> Measured:
    rng = np.random.default_rng(tokens)
    q, k, v = (rng.normal(size=(heads, tokens, dim)) for _ in range(3))
    (qw, sq), (vw, sv) = integers(q), integers(v)
    rows = level_state.run_level_state(qw, kappa_of(k), vw, decay.encode_decay(np.full(heads, g)))
    unit = sq * sv * 2.0**level_state.LEVEL_UNIT_BITS
    # The output scaler shifts by what the row carries; sixteen bits of the largest output.
    step = float(np.abs(rows.accumulated / 2.0 ** rows.shift[..., None]).max()) / 32000
    found = np.rint(rows.accumulated / 2.0 ** rows.shift[..., None] / step) * step * unit
    return Measured(rms_error(found, exact.normalised_state(q, k, v, np.full(k.shape, g))))


# ---- scans -------------------------------------------------------------------------------------------------------
def scan_shift(wanted_peak: float, x_unit: float) -> int:
    """Shift of a scan whose states reach ``wanted_peak``: in units of 2^(shift + 1) x, and twice for 2^f, 23 bits."""
    return max(0, math.ceil(math.log2(2 * wanted_peak / x_unit * 9 / 8)) - STATE_BITS)


def ssm_case(tokens: int, form: scan.Form, channels: int = 32, n: int = 16) -> Measured:
    """Mamba's ranges: A = -1 ... -16, dt log-uniform in 0.001 ... 0.1 by channel, times a data-dependent part."""
    rng = np.random.default_rng(tokens)
    u, B, C = rng.normal(size=(tokens, channels)), rng.normal(size=(tokens, n)), rng.normal(size=(tokens, n))
    dt = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), channels) + rng.normal(size=(tokens, channels)) / 2)
    A = -np.tile(np.arange(1.0, n + 1), (channels, 1))
    h = exact.linear_scan((dt * u)[:, :, None] * B[:, None], np.exp(dt[:, :, None] * A))
    top = np.abs(dt * u).max(0)  # the words of dt and dt u have a scale per channel, as their weights' columns do
    du = np.rint(dt * u / top * 2047).astype(np.int64)
    dtop = dt.max(0)
    dtw = np.rint(dt / dtop * 2047).astype(np.int64)
    (Bw, sB), (Cw, sC) = integers(B), integers(C)
    Aw = decay.encode_decay(np.exp(A * dtop[:, None] * 2048 / 2047))
    Aw = decay.decode_decay_words(decay.encode_decay_words(Aw))
    shift = scan_shift(float(np.abs(h / (top[:, None] / 2047 * sB)).max()), 1)
    sums, limited = scan.selective_scan(du, dtw, Aw, Bw, Cw, shift, form)
    found = sums * (top / 2047 * sB * sC) * 2.0 ** (shift + 9)
    return Measured(rms_error(found, exact.selective_scan(u, dt, A, B, C)), limited)


def long_memory_case(tokens: int, form: scan.Form) -> Measured:
    """One slow decay, 1 - 2^-10: what separates the two forms."""
    rng = np.random.default_rng(tokens)
    x, a = rng.normal(size=(tokens, 64)), 1 - 2.0**-10
    xw, sx = integers(x)
    wanted = exact.linear_scan(x, np.full(x.shape, a))
    xw, sx = xw << 8, sx / 256
    shift = scan_shift(float(np.abs(wanted).max()), sx)
    found, limited = scan.linear_scan(xw, decay.encode_decay(np.full(64, a)), shift, form)
    return Measured(rms_error(found * sx * 2.0 ** (shift + 9), wanted), limited)


def qlstm_case(tokens: int) -> Measured:
    rng = np.random.default_rng(tokens)
    f, i, o, x = (rng.normal(size=(tokens, 64)) for _ in range(4))
    wanted = exact.qlstm(f + 2, i, o, x)
    d = decay.decode_decay_words(decay.encode_decay_words(decay.encode_decay(exact.sigmoid(f + 2))))
    (xw, sx), (iw, si), (ow, so) = integers(x), integers(exact.sigmoid(i)), integers(exact.sigmoid(o))
    peak = np.abs(exact.linear_scan(exact.sigmoid(i) * x, exact.sigmoid(f + 2))).max()
    shift = scan_shift(float(peak), sx * si)
    h, limited = scan.linear_scan(xw * iw, d, shift)
    return Measured(rms_error(output(h * ow, sx * si * so * 2.0 ** (shift + 9)), wanted), limited)


def wkv_case(tokens: int, both: bool, channels: int = 64) -> Measured:
    """RWKV-4's causal WKV (decays of many lengths), Restore-RWKV's two-directional one (decay and bonus over T)."""
    rng = np.random.default_rng(tokens)
    k, v, u = (rng.normal(size=s) for s in ((tokens, channels), (tokens, channels), (channels,)))
    w = np.abs(rng.normal(size=channels)) / tokens * 4 if both else np.exp(rng.uniform(-6, 0, channels))
    u = u / tokens if both else u
    (vw, sv), kappa = integers(v), kappa_of(k)
    own = kappa + np.rint(u * math.log2(math.e) * (1 << SCORE_FRACTION_BITS)).astype(np.int64)
    d = np.rint(w * math.log2(math.e) * decay.DECAY_ONE).astype(np.int64)
    states = [scan.wkv_states(kappa, vw, d)]
    if both:
        back = scan.wkv_states(kappa[::-1], vw[::-1], d)
        states.append(scan.WkvState(*(x[::-1] for x in dataclasses.astuple(back))))
    found = scan.wkv_outputs(states, own, vw) / 16 * sv
    return Measured(rms_error(found, exact.wkv(w, u, k, v, both=both)))


def leaky_case(tokens: int, n: int = 128) -> Measured:
    """Time constants 1 to 1000, recurrent weights of spectral radius about 1."""
    rng = np.random.default_rng(tokens)
    tau, W = np.exp(rng.uniform(0, np.log(1000), n)), rng.normal(size=(n, n)) * 0.8 / math.sqrt(n)
    x = rng.normal(size=(tokens, n))
    wanted = exact.leaky_rnn(x, W, tau, 0.01)
    Ww, sw = integers(W.T.copy())
    # One unit for h and for the target that it moves towards; 16 bit hold the larger of the two.
    targets = np.vstack([np.zeros(n), wanted[:-1]]) @ W.T + x
    unit = float(max(np.abs(targets).max(), np.abs(wanted).max())) / 32000 / 256
    word = unit * 2.0 ** (STATE_BITS - 12)
    sums = np.rint(x / (word * sw)).astype(np.int64)
    found, limited = scan.leaky_rnn(
        sums, Ww, decay.output_scale(word * sw / (unit * 256)), scan.encode_leak(1 / tau), round(0.01 * 65536)
    )
    return Measured(rms_error(found * unit, wanted), limited)


def indrnn_case(tokens: int, n: int = 128) -> Measured:
    rng = np.random.default_rng(tokens)
    x, u = rng.normal(size=(tokens, n)), rng.uniform(-1, 0.99, n)
    wanted = exact.indrnn(x, u)
    unit = float(np.abs(wanted).max()) * 1.05 / (1 << (STATE_BITS - 1))
    xw = np.rint(x / (unit * 2.0 ** (STATE_BITS - SCAN_WORD_BITS))).astype(np.int64)
    found, limited = scan.indrnn(xw, np.rint(u * 16384).astype(np.int64))
    return Measured(rms_error(found * unit, wanted), limited)


def fir_case(tokens: int, m: int = 32) -> Measured:
    rng = np.random.default_rng(tokens)
    x, taps = rng.normal(size=(tokens, 64)), 0.9 ** np.arange(m)
    (xw, sx), (tw, st) = integers(x), integers(taps)
    return Measured(rms_error(output(scan.fir(xw, tw), sx * st), exact.fir(x, taps)))


# ---- all of them -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """``limit`` is what tests enforce."""

    name: str
    run: Callable[[], Measured]
    limit: float


def cases(longest: int = 4096) -> Iterator[Case]:
    """Every kernel at every length up to ``longest`` tokens."""
    yield Case("linear 768 x 256, 12-bit weights, bias", partial(linear_case, 12), 0.0012)
    yield Case("linear 768 x 256, 8-bit weights, bias", partial(linear_case, 8), 0.012)
    for tokens in (n for n in (64, 512, 4096) if n <= longest):
        for form, limit in (("parallel", 0.007), ("chunkwise", 0.004), ("recurrent", 0.004)):
            for g in RETENTION_DECAYS:
                name = f"retention {form}, g = 1 - 2^{math.log2(1 - g):.0f}, {tokens}"
                yield Case(name, partial(retention_case, g, tokens, form), limit)
        for kind in ("gla", "liger", "rwkv"):
            yield Case(f"state {kind}, {tokens}", partial(gla_case, kind, tokens), 0.005)
        yield Case(f"state with levels, LightNet, {tokens}", partial(level_case, tokens), 0.004)
        yield Case(f"state with levels, g = 1 - 2^-7, {tokens}", partial(level_case, tokens, 1 - 2.0**-7), 0.004)
        yield Case(f"scan selective SSM, shift, {tokens}", partial(ssm_case, tokens, "shift"), 0.003)
        yield Case(f"scan selective SSM, factor, {tokens}", partial(ssm_case, tokens, "factor"), 0.005)
        yield Case(f"scan g = 1 - 2^-10, shift, {tokens}", partial(long_memory_case, tokens, "shift"), 0.0015)
        yield Case(f"scan g = 1 - 2^-10, factor, {tokens}", partial(long_memory_case, tokens, "factor"), 0.09)
        yield Case(f"scan qLSTM, {tokens}", partial(qlstm_case, tokens), 0.002)
        yield Case(f"scan WKV, {tokens}", partial(wkv_case, tokens, False), 0.002)
        yield Case(f"scan Bi-WKV, {tokens}", partial(wkv_case, tokens, True), 0.004)
        yield Case(f"scan leaky RNN, {tokens}", partial(leaky_case, tokens), 0.001)
        yield Case(f"scan IndRNN, {tokens}", partial(indrnn_case, tokens), 0.001)
        yield Case(f"scan FIR tally, 32 taps, {tokens}", partial(fir_case, tokens), 0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--longest", type=int, default=4096, help="leave out longer sequences")
    parser.add_argument("--only", default="", help="part of a name")
    options = parser.parse_args()
    print("kernel, tokens | RMS error | limit | saturated")
    for case in cases(options.longest):
        if options.only in case.name:
            found = case.run()
            print(f"{case.name} | {found.error:.2%} | {case.limit:.2%} | {found.saturated}", flush=True)


if __name__ == "__main__":
    main()
