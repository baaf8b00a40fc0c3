"""What published networks lose on the machine's arithmetic, beside text and softmax: scan, LSTM, GRU, image, speech.

Attention is the simulated engine's (`accel.network`). Scans are golden ``scan`` mode, matrix products of recurrent
cells golden ``linear`` mode: operands in 12-bit words, sums exact, results 16 bit. What is left in float is the host's:
projections outside the mixer, gate functions, biases, the term D u of a scan.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.plan import Plan
from accel.network import EngineAttention
from accel.numerics import decay, linear, scan
from accel.numerics.softmax import Int
from accel.session import code_version
from accel.units.modes import SCAN_WORD_BITS, STATE_BITS
from accel.zoo.exact import Real, decayed_sum
from accel.zoo.fixed import scan_shift, to_real, to_words
from workloads.kernels import SoftmaxAttention
from workloads.nets import gru, mamba, silero, speech, store, vit, vit_images, whisper, whisper_quality
from workloads.nets.mamba_samples import typed_samples

WORDS = 200
TEXT_BYTES = 512
MOST_TOKENS = 448
HUM_SECONDS = 8.0
DECODER_HEADROOM = 2.0
"""Whisper's prompt has two tokens, whose keys say little of those to come: with 1.25 some saturate, and 5 % of the
tokens of the test's conversation change; with 2 none does."""
LOG2_E = math.log2(math.e)


# ---- mixers on the machine's arithmetic -----------------------------------------------------------------------------
@dataclass
class Products:
    """y = x W in golden ``linear`` mode; words of a matrix are made once."""

    _words: dict[int, tuple[Any, Int, float]] = field(default_factory=dict)

    def __call__(self, weights: np.ndarray, x: np.ndarray) -> Real:
        """``weights`` (n, k), ``x`` (k,): float64 (n,)."""
        if not x.any():
            return np.zeros(len(weights))
        if id(weights) not in self._words:
            found, unit = to_words(np.asarray(weights, np.float64).T)
            self._words[id(weights)] = (weights, found, unit)  # the matrix itself, so that its id stays its own
        _, W, sw = self._words[id(weights)]
        xw, sx = to_words(np.asarray(x, np.float64))
        return to_real(linear.linear_tiles(xw, W), sx * sw)

    def lstm(self, call: silero.LstmCall) -> tuple[np.ndarray, np.ndarray]:
        """A step of :class:`workloads.nets.silero.LstmStep`."""
        own = call.weights
        gates = self(own.input, call.x) + self(own.recurrent, call.h) + own.bias
        h, c = silero.lstm_update(gates, call.c)
        return h.astype(np.float32), c.astype(np.float32)

    def gru(self, call: gru.GruCall) -> np.ndarray:
        """A step of :class:`workloads.nets.gru.GruStep`."""
        own = call.weights
        a = self(own.input, call.x) + own.input_bias
        b = self(own.recurrent, call.h) + own.recurrent_bias
        return gru.gru_update(a, b, call.h).astype(np.float32)


def machine_scan(call: mamba.ScanCall) -> np.ndarray:
    """A selective scan of :class:`workloads.nets.mamba.Scan` in golden ``scan`` mode, shift-accumulate form.

    dt u and dt have one scale per channel, like the columns of the weights that they come from, B and C one each.
    """
    u, dt, A, B, C = (np.asarray(part, np.float64) for part in (call.u, call.dt, call.A, call.B, call.C))
    du = dt * u
    unit_u = np.maximum(np.abs(du).max(0), np.finfo(float).tiny) / 2047
    unit_dt = dt.max(0) / 2047
    (Bw, sB), (Cw, sC) = to_words(B), to_words(C)
    exponents = -A * unit_dt[:, None] * 2048 * LOG2_E
    octaves = scan.decay_octaves(exponents)
    d = decay.encode_decay(2.0 ** -(exponents / 2.0 ** octaves[:, None]))
    d = decay.decode_decay_words(decay.encode_decay_words(d))
    states = decayed_sum(du[:, :, None] * B[:, None], np.exp(dt[:, :, None] * A))
    shift = scan_shift(float(np.abs(states / (unit_u[:, None] * sB)).max()))
    sums, _ = scan.selective_scan(
        np.rint(du / unit_u).astype(np.int64), np.rint(dt / unit_dt).astype(np.int64), d, Bw, Cw, shift, octaves=octaves
    )
    y = sums * (unit_u * sB * sC) * 2.0 ** (shift + STATE_BITS - SCAN_WORD_BITS + 1)
    return (y + call.D * call.u).astype(np.float32)


# ---- networks -------------------------------------------------------------------------------------------------------
def mamba_quality(arch: Arch, folder: Path) -> tuple[str, dict[str, Any]]:
    """Labels of nine texts of known type."""
    net = mamba.ByteSegmenter.read(folder)
    texts = typed_samples(length=TEXT_BYTES)
    found = mamba.compare_segmenter(net, texts, machine_scan)
    return f"{len(texts)} texts of {TEXT_BYTES} bytes", found._asdict()


def vit_quality(arch: Arch, folder: Path) -> tuple[str, dict[str, Any]]:
    """Embeddings and focus maps of photographs, or of drawings where they are not at hand."""
    net = vit.FocusViT.read(folder)
    try:
        images, said = [vit_images.photograph(name) for name in ("astronaut", "coffee", "chelsea")], "3 photographs"
    except UserError:
        images, said = vit_images.drawn_images(3), "3 drawings"
    shapes: list[tuple[int, ...]] = []

    def shape(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int) -> np.ndarray:
        shapes.append(q.shape)
        return np.zeros_like(q)

    net.forward(images[0], shape)
    heads, tokens, dim = shapes[0]
    kernel = SoftmaxAttention(heads, heads, tokens, tokens, dim, mask="none")
    attend = EngineAttention(arch, kernel, len(shapes), Plan())
    return said, vit.compare_vision(net, images, attend)._asdict()


def whisper_attention(arch: Arch, heads: int, dim: int, layers: int, frames: int) -> whisper.Mixers:
    """An engine for each kind of attention."""
    encoder = SoftmaxAttention(heads, heads, frames, frames, dim, mask="none")
    decoder = SoftmaxAttention(heads, heads, MOST_TOKENS, MOST_TOKENS, dim)
    cross = SoftmaxAttention(heads, heads, MOST_TOKENS, frames, dim, mask="none", cross=True)
    return whisper.Mixers(
        EngineAttention(arch, encoder, layers, Plan()),
        EngineAttention(arch, decoder, layers, Plan(), headroom=DECODER_HEADROOM),
        EngineAttention(arch, cross, layers, Plan()),
    )


def whisper_run(arch: Arch, folder: Path) -> tuple[str, dict[str, Any]]:
    """A telephone conversation, or vowel-like sounds where it is not at hand."""
    net = whisper.Whisper.read(folder)
    said: str | None
    try:
        pcm, said, source = speech.telephone(), speech.telephone_words(), "30 s of conversation"
    except UserError:
        pcm, said, source = speech.hum(HUM_SECONDS), None, f"{HUM_SECONDS:.0f} s of vowel-like sounds"
    calls: list[tuple[int, ...]] = []

    def shape(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int) -> np.ndarray:
        calls.append(q.shape)
        return np.zeros_like(q)

    net.encode(pcm, whisper.Mixers(encoder=shape))
    heads, frames, dim = calls[0]
    mixers = whisper_attention(arch, heads, dim, len(calls), frames)
    found = whisper_quality.compare_transcriber(net, pcm, mixers, said)._asdict()
    return source, {name: value for name, value in found.items() if name not in ("text", "dense_text")}


def silero_quality(arch: Arch, folder: Path) -> tuple[str, dict[str, Any]]:
    """Is somebody speaking, in the same sounds."""
    net = silero.SileroVad.read(folder)
    try:
        pcm, said = speech.telephone(), "30 s of conversation"
        speaking = speech.telephone_speaking(silero.CHUNK_SAMPLES)
    except UserError:
        pcm, said, speaking = speech.hum(HUM_SECONDS), f"{HUM_SECONDS:.0f} s of vowel-like sounds", None
    return said, silero.compare_voice(net, pcm, Products().lstm, speaking)._asdict()


def g2p_quality(arch: Arch, folder: Path) -> tuple[str, dict[str, Any]]:
    """Pronunciations of seeded words of the dictionary, or of a few words where it is not at hand."""
    net = gru.Pronouncer.read(folder)
    try:
        known = gru.dictionary()
        words = [str(word) for word in np.random.default_rng(0).choice(sorted(known), WORDS, replace=False)]
        said = f"{WORDS} words of the dictionary"
    except UserError:
        known, words = {}, ["retention", "attention", "engine", "memory", "recurrence", "quantised"]
        said = f"{len(words)} words"
    return said, gru.compare_pronunciation(net, words, Products().gru, known or None)._asdict()


NETWORKS: dict[str, tuple[str, Callable[[Arch, Path], tuple[str, dict[str, Any]]]]] = {
    "mamba": ("selective scan", mamba_quality),
    "vit-s": ("attention", vit_quality),
    "whisper-tiny": ("attention: encoder, decoder, cross", whisper_run),
    "silero": ("products of an LSTM", silero_quality),
    "g2p": ("products of a GRU", g2p_quality),
}
"""Package of the weights -> what runs on the machine's arithmetic, and the measurement."""


def quality_row(name: str, arch: Arch) -> dict[str, Any]:
    """One network against itself in float.

    Raises:
        UserError: its weights are not at hand.
    """
    on_machine, measure = NETWORKS[name]
    inputs, found = measure(arch, store.locate(name))
    return {"network": name, "on_the_machine": on_machine, "inputs": inputs, "quality": found}


def quality_report(rows: list[dict[str, Any]], arch: Arch, command: str) -> dict[str, Any]:
    """All rows as one report."""
    return {
        "format": 1,
        "kind": "quality",
        "command": command,
        "code_version": code_version(),
        "arch": arch.model_dump(mode="json"),
        "seed": 0,
        "rows": rows,
    }
