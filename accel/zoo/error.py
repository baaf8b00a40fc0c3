"""What fixed point costs: each kernel's golden against float64, on seeded normal tensors of the row's own shape.

Words have 12 bits, outputs 16. Where a shape is too long it is cut, and `Measured.shape` says to what: channels,
columns and heads are independent of each other, so only the length of a reduction or of a memory matters.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from accel.arch import Arch
from accel.lower.zoo.softmax import GRANULE
from accel.numerics import decay, level_state, linear, scan, state
from accel.numerics.attention import attend_row
from accel.numerics.softmax import score_scale
from accel.units.modes import SCAN_WORD_BITS, STATE_BITS
from accel.units.softmax import OUTPUT_FRACTION_BITS
from accel.zoo import exact
from accel.zoo.exact import Real, relative_error
from accel.zoo.fixed import exponent_scores, scan_shift, to_real, to_words
from workloads.kernels import (
    ChunkState,
    Conv,
    DecayAttention,
    Gemm,
    Gemv,
    Kernel,
    Scan,
    SoftmaxAttention,
    StateUpdate,
)

SEED = 1
ROWS, COLUMNS, LONGEST_SUM = 8, 64, 4096
LONGEST_KEYS = 1024
LONGEST_MEMORY, SHORTEST_MEMORY = 512, 128
"""Tokens of a state: at most so many, and so many where the kernel is one token of a longer life."""
CHANNELS = 32
BOUND = 0.01
"""What the error of every kernel is below, or the row says why not."""


class Measured(NamedTuple):
    """RMS error over RMS of the float64 result, the shape that was run, and why it is more than `BOUND` if it is."""

    error: float
    shape: str
    why: str = ""


def measure(kernel: Kernel, arch: Arch) -> Measured | None:
    """The error of a kernel; None where the engine computes nothing that rounds (selection, the host's part)."""
    match kernel:
        case Gemv(K=K, N=N):
            return _linear(min(K, LONGEST_SUM), min(N, COLUMNS))
        case Gemm(K=K, N=N):
            return _linear(min(K, LONGEST_SUM), min(N, COLUMNS))
        case Conv():
            K = kernel.in_channels // kernel.groups * kernel.kernel_height * kernel.kernel_width
            return _linear(min(K, LONGEST_SUM), min(kernel.out_channels // kernel.groups, COLUMNS))
        case SoftmaxAttention():
            wide = -(-max(kernel.head_dim, kernel.dv) // GRANULE) * GRANULE > arch.max_head_dim or not kernel.dv
            keys = min(kernel.keys, LONGEST_KEYS)
            return (_products if wide else _softmax)(keys, kernel.head_dim, min(kernel.dv, COLUMNS))
        case DecayAttention():
            ends = (min(kernel.decays), max(kernel.decays))
            return _retention(ends, min(kernel.length, LONGEST_MEMORY), kernel.key_dim, min(kernel.value_dim, COLUMNS))
        case ChunkState():
            tokens = min(kernel.tokens, LONGEST_MEMORY)
            ends = (min(kernel.decays), max(kernel.decays))
            chunk = min(kernel.chunk, tokens // 2)
            return _chunks(ends, tokens, chunk, kernel.key_dim, min(kernel.value_dim, COLUMNS))
        case StateUpdate(decay="gradient"):
            return _linear(kernel.key_dim, kernel.hidden or kernel.value_dim)
        case StateUpdate():
            tokens = SHORTEST_MEMORY if kernel.tokens == 1 else min(kernel.tokens, LONGEST_MEMORY)
            gammas = (min(kernel.decays), max(kernel.decays)) if kernel.decay in ("constant", "head") else ()
            return _state(kernel.decay, gammas, tokens, kernel.key_dim, min(kernel.value_dim, COLUMNS))
        case Scan():
            tokens = SHORTEST_MEMORY if kernel.tokens == 1 else min(kernel.tokens, LONGEST_MEMORY)
            channels = min(kernel.channels, CHANNELS)
            return _scan(kernel.form, tokens, channels, kernel.state, kernel.directions == 2)
    return None


def normal(*shapes: tuple[int, ...]) -> list[Real]:
    """Seeded normal tensors, the same for the same shapes."""
    rng = np.random.default_rng(SEED)
    return [rng.normal(size=shape) for shape in shapes]


@functools.lru_cache(1024)
def _linear(K: int, N: int) -> Measured:
    x, W = normal((ROWS, K), (K, N))
    (xw, sx), (Ww, sw) = to_words(x), to_words(W)
    return Measured(
        relative_error(to_real(linear.linear_tiles(xw, Ww), sx * sw), x @ W), f"[{ROWS} x {K}] x [{K} x {N}]"
    )


@functools.lru_cache(1024)
def _softmax(keys: int, dk: int, dv: int) -> Measured:
    q, k, v = normal((ROWS, dk), (keys, dk), (keys, dv))
    (qw, sq), (kw, sk), (vw, sv) = to_words(q), to_words(k), to_words(v)
    scale = score_scale(sq, sk, dk)
    k16, v16 = kw.astype(np.int16), vw.astype(np.int16)
    rows = [
        attend_row(row.astype(np.int16), k16, k16, v16, scale=scale, lanes=8, keep_values=keys).output for row in qw
    ]
    found = np.array(rows) * sv * 2.0**-OUTPUT_FRACTION_BITS
    wanted = exact.softmax(q @ k.T / math.sqrt(dk)) @ v
    return Measured(relative_error(found, wanted), f"{ROWS} queries, {keys} keys, head {dk}, {dv} columns")


@functools.lru_cache(1024)
def _products(keys: int, dk: int, dv: int) -> Measured:
    """Two products with the host's softmax between them; scores alone where there are no values."""
    q, k, v = normal((ROWS, dk), (keys, dk), (keys, max(dv, 1)))
    (qw, sq), (kw, sk), (vw, sv) = to_words(q), to_words(k), to_words(v)
    scores = to_real(linear.linear_tiles(qw, kw.T), sq * sk) / math.sqrt(dk)
    said = f"{ROWS} queries, {keys} keys, head {dk}"
    if not dv:
        return Measured(relative_error(scores, q @ k.T / math.sqrt(dk)), f"{said}, scores")
    p = exact.softmax(scores)
    found = np.zeros((ROWS, dv))
    for row in range(ROWS):  # the host scales each row's probabilities to the full word
        pw, sp = to_words(p[row])
        found[row] = to_real(linear.linear_tiles(pw, vw), sp * sv)
    wanted = exact.softmax(q @ k.T / math.sqrt(dk)) @ v
    return Measured(relative_error(found, wanted), f"{said}, {dv} columns, softmax on the host")


@functools.lru_cache(1024)
def _retention(gammas: tuple[float, ...], tokens: int, dk: int, dv: int) -> Measured:
    q, k, v = normal((tokens, dk), (tokens, dk), (tokens, dv))
    (qw, sq), (kw, sk), (vw, sv) = to_words(q), to_words(k), to_words(v)
    scale = decay.weight_scale(float(np.abs(qw.astype(float) @ kw.T).max()))
    errors = []
    for gamma in gammas:
        rows = decay.decay_attention(qw, kw, vw, int(decay.encode_decay(gamma)), scale)
        found = to_real(rows.accumulated, sq * sk * sv * 2.0 ** state.score_unit_bits(scale))
        errors.append(relative_error(found, exact.retention(q, k, v, gamma)))
    return Measured(max(errors), f"{tokens} tokens, key {dk}, {dv} columns, fastest and slowest head")


@functools.lru_cache(1024)
def _chunks(gammas: tuple[float, ...], tokens: int, chunk: int, dk: int, dv: int) -> Measured:
    q, k, v = normal((tokens, dk), (tokens, dk), (tokens, dv))
    (qw, sq), (kw, sk), (vw, sv) = to_words(q), to_words(k), to_words(v)
    scale = decay.weight_scale(float(np.abs(qw.astype(float) @ kw.T).max()))
    errors = []
    for gamma in gammas:
        d = int(decay.encode_decay(gamma))
        shift = state.state_shift(state.peak_of_data(kw, vw, np.int64(d)))
        rows = state.run_chunks(qw, kw, vw, d, shift, scale, chunk)
        found = to_real(rows.accumulated, sq * sk * sv * 2.0 ** state.chunk_unit_bits(shift, scale))
        errors.append(relative_error(found, exact.retention(q, k, v, gamma)))
    said = f"{tokens} tokens in chunks of {chunk}, key {dk}, {dv} columns, fastest and slowest head"
    return Measured(max(errors), said)


@functools.lru_cache(1024)
def _state(kind: str, gammas: tuple[float, ...], tokens: int, dk: int, dv: int) -> Measured:
    q, k, v, gate = normal((tokens, dk), (tokens, dk), (tokens, dv), (tokens, dk))
    (qw, sq), (vw, sv) = to_words(q), to_words(v)
    said = f"{tokens} tokens, state {dk} x {dv}"
    if kind == "additive":
        rows = level_state.run_level_state(qw, exponent_scores(k), vw)
        real = rows.accumulated / 2.0 ** rows.shift[..., None]
        step = float(np.abs(real).max()) / (1 << 15)
        rounded = np.rint(real / step) * step * sq * sv * 2.0**level_state.LEVEL_UNIT_BITS
        return Measured(relative_error(rounded, exact.additive_state(q, k, v)), said)
    kw, sk = to_words(k)
    decays: list[Real]
    if kind == "channel":
        decays = [1 / (1 + np.exp(-gate)) ** (1 / 16)]  # gates of GLA: sigmoid^(1/16)
        exponents = [decay.decode_decay_words(decay.encode_decay_words(decay.encode_decay(decays[0])))]
    else:
        decays = [np.full(k.shape, gamma, float) for gamma in gammas]
        exponents = [np.asarray(decay.encode_decay(gamma)) for gamma in gammas]
        said += ", fastest and slowest head"
    errors = []
    for a, d in zip(decays, exponents, strict=True):
        shift = state.state_shift(state.peak_of_data(kw, vw, d))
        run = state.run_state(qw, kw, vw, d, shift)
        found = to_real(run.accumulated, sq * sk * sv * 2.0 ** state.output_unit_bits(shift))
        errors.append(relative_error(found, exact.state(q, k, v, a)))
    return Measured(max(errors), said)


@functools.lru_cache(1024)
def _scan(form: str, tokens: int, channels: int, numbers: int, both: bool) -> Measured:
    run: dict[str, Callable[[int, int, int, bool], float]] = {
        "ssm": _ssm, "wkv": _wkv, "qlstm": _qlstm, "leaky": _indrnn, "fir": _fir,
    }  # fmt: skip
    error = run[form](tokens, channels, numbers, both)
    said = f"{tokens} tokens, {channels} channels" + (f" of {numbers}" if numbers > 1 else "")
    return Measured(error, said + (", both directions" if both else ""))


def _ssm(tokens: int, channels: int, numbers: int, both: bool) -> float:
    """A = -1, -2, ... and dt of 0.001 to 0.1 by channel, as Mamba starts from."""
    u, B, C, spread = normal((tokens, channels), (tokens, numbers), (tokens, numbers), (tokens, channels))
    dt = np.geomspace(1e-3, 1e-1, channels) * np.exp(spread / 2)
    A = -np.arange(1.0, numbers + 1) * np.ones((channels, 1))
    h = exact.decayed_sum((dt * u)[:, :, None] * B[:, None], np.exp(dt[:, :, None] * A))
    wanted = np.einsum("tcn,tn->tc", h, C)
    # dt and dt u have a scale per channel, like the columns of the weights they come from.
    unit_u, unit_dt = np.abs(dt * u).max(0) / 2047, dt.max(0) / 2047
    (Bw, sB), (Cw, sC) = to_words(B), to_words(C)
    exponents = -A * unit_dt[:, None] * 2048 * math.log2(math.e)
    octaves = scan.decay_octaves(exponents)
    d = decay.encode_decay(2.0 ** -(exponents / 2.0 ** octaves[:, None]))
    d = decay.decode_decay_words(decay.encode_decay_words(d))
    shift = scan_shift(float(np.abs(h / (unit_u[:, None] * sB)).max()))
    sums, _ = scan.selective_scan(
        np.rint(dt * u / unit_u).astype(np.int64),
        np.rint(dt / unit_dt).astype(np.int64),
        d,
        Bw,
        Cw,
        shift,
        octaves=octaves,
    )
    return relative_error(sums * (unit_u * sB * sC) * 2.0 ** (shift + STATE_BITS - SCAN_WORD_BITS + 1), wanted)


def _wkv(tokens: int, channels: int, numbers: int, both: bool) -> float:
    k, v, u = normal((tokens, channels), (tokens, channels), (channels,))
    w = np.geomspace(0.1, 10, channels) / tokens if both else np.geomspace(0.0025, 1, channels)
    u = u / tokens if both else u
    (vw, sv), kappa = to_words(v), exponent_scores(k)
    own = kappa + np.rint(u * math.log2(math.e) * (1 << 12)).astype(np.int64)
    d = np.rint(w * math.log2(math.e) * decay.DECAY_ONE).astype(np.int64)
    states = [scan.wkv_states(kappa, vw, d)]
    if both:
        back = scan.wkv_states(kappa[::-1], vw[::-1], d)
        states.append(scan.WkvState(*(getattr(back, name)[::-1] for name in back.__dataclass_fields__)))
    found = scan.wkv_outputs(states, own, vw) * sv * 2.0**-OUTPUT_FRACTION_BITS
    return relative_error(found, exact.wkv(w, u, k, v, both))


def _qlstm(tokens: int, channels: int, numbers: int, both: bool) -> float:
    forget, enter, leave, x = normal(*[(tokens, channels)] * 4)
    f, i, o = (1 / (1 + np.exp(-gate)) for gate in (forget + 2, enter, leave))
    h = exact.decayed_sum(i * x, f)
    d = decay.decode_decay_words(decay.encode_decay_words(decay.encode_decay(f)))
    (xw, sx), (iw, si), (ow, so) = to_words(x), to_words(i), to_words(o)
    shift = scan_shift(float(np.abs(h).max()) / (sx * si))
    found, _ = scan.linear_scan(xw * iw, d, shift)
    unit = sx * si * so * 2.0 ** (shift + STATE_BITS - SCAN_WORD_BITS + 1)
    return relative_error(to_real(found * ow, unit), o * h)


def _indrnn(tokens: int, channels: int, numbers: int, both: bool) -> float:
    (x,) = normal((tokens, channels))
    u = np.linspace(-1, 0.99, channels)
    wanted = exact.relu_scan(x, u)
    unit = float(np.abs(wanted).max()) * 1.05 / (1 << (STATE_BITS - 1))
    xw = np.rint(x / (unit * 2.0 ** (STATE_BITS - SCAN_WORD_BITS))).astype(np.int64)
    found, _ = scan.indrnn(xw, np.rint(u * (1 << 14)).astype(np.int64))
    return relative_error(found * unit, wanted)


def _fir(tokens: int, channels: int, taps: int, both: bool) -> float:
    (x,) = normal((tokens, channels))
    weights = 0.9 ** np.arange(taps)
    (xw, sx), (tw, st) = to_words(x), to_words(weights)
    wanted = sum(tap * np.vstack([np.zeros((lag, channels)), x[: len(x) - lag]]) for lag, tap in enumerate(weights))
    return relative_error(to_real(scan.fir(xw, tw), sx * st), np.asarray(wanted))
