"""Whisper tiny.en, speech to text, in NumPy float32, with all three kinds of its attention left to hooks.

Architecture: A. Radford et al. 2022: two convolutions over the mel bands, a transformer encoder over 1500 frames of
20 ms, a transformer decoder with self-attention and cross-attention to the encoder; pre-norm, exact GELU, sinusoidal
and learned positions, output weights shared with the embedding. CTranslate2's tensor names. All sizes come from the
file: 4 + 4 layers, 6 heads of 64, 51864 tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accel.errors import UserError
from workloads.nets.attention import Attend, AttentionCall, apply_attend
from workloads.nets.float_ops import convolve, heads_first, heads_joined, layer_norm
from workloads.nets.kv_cache import KVCache
from workloads.nets.minilm import gelu
from workloads.nets.readers import check_ids, read_tokenizer
from workloads.nets.tensor_file import NamedTensors
from workloads.nets.whisper_audio import BANDS, HOP, log_mel
from workloads.nets.whisper_file import read_ctranslate2

# PyTorch's default, which the network was trained with.
NORM_EPSILON = 1e-5
# The encoder's second convolution halves the frames.
FRAMES_PER_STATE = 2

Affine = tuple[np.ndarray, np.ndarray]  # weight (in, out), bias (out,)


class Mixers(NamedTuple):
    """A hook for each kind of attention; None is dense float attention.

    `encoder`: bidirectional, all frames in one call. `decoder`: causal self-attention, a prompt and then single
    tokens. `cross`: queries of the decoder, keys and values of the encoder, the same in every call of a layer and one
    sound; `causal` False and `q_start` 0, so each call stands for itself. No hook's `alive` is asked.
    """

    encoder: Attend | None = None
    decoder: Attend | None = None
    cross: Attend | None = None


class _Block(NamedTuple):
    norm: Affine
    into: Affine
    out: Affine


class _DecoderLayer(NamedTuple):
    attention: _Block
    cross: _Block
    cross_kv: Affine  # from the encoder's states
    ffn: _Block


class Whisper:
    """The network over `tensors`, with a `tokenizers.Tokenizer`.

    Attributes: encoder_layers, decoder_layers, heads, head_dim, width, frames (encoder states), samples (the longest
    sound), vocabulary, context_length (decoder tokens), prompt (ids that each transcription begins with), end_token.
    Raises UserError when a tensor is missing or another.
    """

    def __init__(self, tensors: NamedTensors, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.vocabulary, self.width = tensors.shape("decoder/embeddings/weight", 2)
        self.frames = tensors.shape("encoder/position_encodings/encodings", 2)[0]
        self.context_length = tensors.shape("decoder/position_encodings/encodings", 2)[0]
        self.samples = self.frames * FRAMES_PER_STATE * HOP
        self.heads = tensors.number("encoder/num_heads")
        if tensors.number("decoder/num_heads") != self.heads or self.width % self.heads:
            raise UserError(f"{tensors.path}: heads do not fit width {self.width}; {tensors.network} has equal ones")
        self.head_dim = self.width // self.heads
        self.encoder_layers = tensors.count("encoder/layer_{}/ffn/linear_0/weight")
        self.decoder_layers = tensors.count("decoder/layer_{}/ffn/linear_0/weight")
        marks = [tokenizer.token_to_id(f"<|{name}|>") for name in ("startoftranscript", "notimestamps", "endoftext")]
        if None in marks or max(marks) >= self.vocabulary:
            raise UserError(f"{tensors.path}: its tokenizer.json is not that of {tensors.network}")
        self.prompt, self.end_token = marks[:2], marks[2]
        d = self.width
        self._convolutions = [
            (tensors.take(f"encoder/conv{step}/weight", d, inputs, 3), tensors.take(f"encoder/conv{step}/bias", d))
            for step, inputs in ((1, BANDS), (2, d))
        ]
        self._frame_places = tensors.take("encoder/position_encodings/encodings", self.frames, d)
        self._encoder = [
            (
                self._block(tensors, f"encoder/layer_{layer}/self_attention", 3 * d),
                self._block(tensors, f"encoder/layer_{layer}/ffn"),
            )
            for layer in range(self.encoder_layers)
        ]
        self._encoder_norm = _norm(tensors, "encoder/layer_norm", d)
        self._words = tensors.take("decoder/embeddings/weight", self.vocabulary, d)
        self._word_places = tensors.take("decoder/position_encodings/encodings", self.context_length, d)
        self._decoder = [
            _DecoderLayer(
                attention=self._block(tensors, f"decoder/layer_{layer}/self_attention", 3 * d),
                cross=self._block(tensors, f"decoder/layer_{layer}/attention", d, out="linear_2"),
                cross_kv=_affine(tensors, f"decoder/layer_{layer}/attention/linear_1", d, 2 * d),
                ffn=self._block(tensors, f"decoder/layer_{layer}/ffn"),
            )
            for layer in range(self.decoder_layers)
        ]
        self._decoder_norm = _norm(tensors, "decoder/layer_norm", d)

    @classmethod
    def read(cls, folder: Path) -> "Whisper":
        """From `model.bin` (CTranslate2) and `tokenizer.json` in a folder. Raises UserError."""
        tensors = read_ctranslate2(Path(folder) / "model.bin", "WhisperSpec", "a Whisper network")
        return cls(tensors, read_tokenizer(Path(folder) / "tokenizer.json"))

    def _block(self, tensors: NamedTensors, name: str, inner: int | None = None, out: str = "linear_1") -> _Block:
        """A block's normalisation and its first and last matrix; `inner` None takes the width from the file."""
        width = tensors.shape(f"{name}/linear_0/bias", 1)[0] if inner is None else inner
        mixed = width if inner is None else self.width
        return _Block(
            norm=_norm(tensors, f"{name}/layer_norm", self.width),
            into=_affine(tensors, f"{name}/linear_0", self.width, width),
            out=_affine(tensors, f"{name}/{out}", mixed, self.width),
        )

    def encode(self, pcm: np.ndarray, mixers: Mixers | None = None) -> np.ndarray:
        """States of a sound at 16 kHz in -1 ... 1, float32 (frames, d); what is missing of 30 s is silence.

        Raises UserError for no sample, and for more than `samples`.
        """
        pcm = np.asarray(pcm, dtype=np.float32)
        if pcm.ndim != 1 or not 1 <= len(pcm) <= self.samples:
            raise UserError(f"sound: shape {pcm.shape}, expected one channel of 1 ... {self.samples} samples at 16 kHz")
        hook = None if mixers is None else mixers.encoder
        x = log_mel(pcm, self.frames * FRAMES_PER_STATE)
        for (weight, bias), stride in zip(self._convolutions, (1, FRAMES_PER_STATE), strict=True):
            x = gelu(convolve(x, weight, bias, stride, padding=1))
        x = x + self._frame_places
        for layer, (attention, ffn) in enumerate(self._encoder):
            q, k, v = self._heads(_enter(attention, x), 3)
            call = AttentionCall(layer, q, k, v, causal=False, q_start=0)
            x = _leave(attention, x, heads_joined(apply_attend(hook, call)))
            x = _leave(ffn, x, gelu(_enter(ffn, x)))
        return layer_norm(x, *self._encoder_norm, NORM_EPSILON)

    def decoding(self, states: np.ndarray, mixers: Mixers | None = None) -> "Decoding":
        """A new transcription of the sound with these encoder states, no token in it yet."""
        return Decoding(self, states, mixers or Mixers())

    def transcribe(self, pcm: np.ndarray, mixers: Mixers | None = None, most_tokens: int = 200) -> list[int]:
        """Ids of the text, greedily: always the most likely text token, until the end token or `most_tokens`."""
        decoding = self.decoding(self.encode(pcm, mixers), mixers)
        found: list[int] = []
        feed = self.prompt
        limit = min(most_tokens, self.context_length - len(self.prompt))
        while len(found) < limit:
            # Behind the end token stand marks of languages, tasks and times.
            best = int(decoding.advance(feed)[-1, : self.end_token + 1].argmax())
            if best == self.end_token:
                break
            found.append(best)
            feed = [best]
        return found

    def text(self, ids: Sequence[int]) -> str:
        """The words that token ids stand for."""
        return str(self._tokenizer.decode(list(ids))).strip()

    def _heads(self, x: np.ndarray, parts: int) -> list[np.ndarray]:
        return [heads_first(part, self.heads) for part in np.split(x, parts, axis=1)]


class Decoding:
    """The decoder's state while it writes one text: `advance` takes tokens in and says what may follow."""

    def __init__(self, net: Whisper, states: np.ndarray, mixers: Mixers) -> None:
        self._net, self._mixers = net, mixers
        self._cache = KVCache(net.decoder_layers, net.heads, net.head_dim)
        self._sound = [net._heads(_apply(layer.cross_kv, states), 2) for layer in net._decoder]

    def advance(self, ids: Sequence[int]) -> np.ndarray:
        """Logits behind each of the new tokens, float32 (T, vocabulary). Raises UserError for ids that do not fit."""
        net, start = self._net, self._cache.length
        array = check_ids(ids, net.vocabulary, net.context_length - start, "Whisper's decoder")
        x = net._words[array] + net._word_places[start : start + len(array)]
        for layer, weights in enumerate(net._decoder):
            q, k, v = net._heads(_enter(weights.attention, x), 3)
            keys, values = self._cache.append(layer, k, v)
            call = AttentionCall(layer, q, keys, values, causal=True, q_start=start)
            x = _leave(weights.attention, x, heads_joined(apply_attend(self._mixers.decoder, call)))
            (q,) = net._heads(_enter(weights.cross, x), 1)
            k, v = self._sound[layer]
            call = AttentionCall(layer, q, k, v, causal=False, q_start=0)
            x = _leave(weights.cross, x, heads_joined(apply_attend(self._mixers.cross, call)))
            x = _leave(weights.ffn, x, gelu(_enter(weights.ffn, x)))
        self._cache.length += len(array)
        return layer_norm(x, *net._decoder_norm, NORM_EPSILON) @ net._words.T


def _norm(tensors: NamedTensors, name: str, width: int) -> Affine:
    return tensors.take(f"{name}/gamma", width), tensors.take(f"{name}/beta", width)


def _affine(tensors: NamedTensors, name: str, inputs: int, outputs: int) -> Affine:
    return tensors.take(f"{name}/weight", outputs, inputs).T, tensors.take(f"{name}/bias", outputs)


def _apply(affine: Affine, x: np.ndarray) -> np.ndarray:
    return x @ affine[0] + affine[1]


def _enter(block: _Block, x: np.ndarray) -> np.ndarray:
    """Into a block: normalised, through its first matrix."""
    return _apply(block.into, layer_norm(x, *block.norm, NORM_EPSILON))


def _leave(block: _Block, x: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Out of a block: through its last matrix, added to what went in."""
    return x + _apply(block.out, inner)
