"""The attention that Whisper does on a sound, and what it costs to replace it."""

import re
from typing import NamedTuple

import numpy as np

from accel.errors import UserError
from workloads.nets.attention import AttentionCall, Recorder
from workloads.nets.edit_distance import edit_distance
from workloads.nets.whisper import Mixers, Whisper


class Recorded(NamedTuple):
    """Attention calls in their order, copied; float32 (heads, rows, dh).

    `encoder`: one call per layer. `decoder` and `cross`: one per layer for the prompt, then one per layer and token.
    """

    encoder: list[AttentionCall]
    decoder: list[AttentionCall]
    cross: list[AttentionCall]


def record(net: Whisper, pcm: np.ndarray, mixers: Mixers | None = None, most_tokens: int = 200) -> Recorded:
    """Transcribe a sound greedily and return every attention call of it."""
    recorders = [Recorder(inner) for inner in mixers or Mixers()]
    net.transcribe(pcm, Mixers(*recorders), most_tokens)
    return Recorded(*(recorder.calls for recorder in recorders))


class TranscriberQuality(NamedTuple):
    """The hooks against dense attention on one sound.

    `state_cosine`: mean cosine of the encoder's states. `token_error_rate`: edits between both transcriptions per
    token of the dense one. `top1_agreement`, `mean_abs_dlogit`: the dense transcription is fed to both decoders; share
    of tokens with the same most likely successor, and difference of the logits, each row brought to mean 0. Word error
    rates, where the words are known: edits per word said; punctuation and case do not count.
    """

    state_cosine: float
    token_error_rate: float
    top1_agreement: float
    mean_abs_dlogit: float
    tokens: int
    word_error_rate: float | None
    dense_word_error_rate: float | None
    text: str
    dense_text: str


def compare_transcriber(
    net: Whisper, pcm: np.ndarray, mixers: Mixers, said: str | None = None, most_tokens: int = 200
) -> TranscriberQuality:
    """Transcribe with dense attention and with `mixers`; `said` are the words, if known.

    Raises UserError when nothing is to be heard for dense attention, or no word was said.
    """
    dense_ids, ids = net.transcribe(pcm, None, most_tokens), net.transcribe(pcm, mixers, most_tokens)
    if not dense_ids:
        raise UserError("transcriber quality: the network hears no words in this sound")
    dense_states, states = net.encode(pcm), net.encode(pcm, mixers)
    fed = [*net.prompt, *dense_ids]
    first = len(net.prompt) - 1
    dense = net.decoding(dense_states).advance(fed)[first:]
    other = net.decoding(states, mixers).advance(fed)[first:]
    gap = other - dense
    gap -= gap.mean(axis=1, keepdims=True)
    text, dense_text = net.text(ids), net.text(dense_ids)
    return TranscriberQuality(
        state_cosine=_mean_row_cosine(dense_states, states),
        token_error_rate=edit_distance(dense_ids, ids) / len(dense_ids),
        top1_agreement=float((dense.argmax(axis=1) == other.argmax(axis=1)).mean()),
        mean_abs_dlogit=float(np.abs(gap).mean(dtype=np.float64)),
        tokens=len(dense_ids),
        word_error_rate=None if said is None else word_error_rate(said, text),
        dense_word_error_rate=None if said is None else word_error_rate(said, dense_text),
        text=text,
        dense_text=dense_text,
    )


def word_error_rate(said: str, heard: str) -> float:
    """Edits per word said. Words are compared in lower case, without punctuation. UserError when none was said."""
    words = plain_words(said)
    if not words:
        raise UserError("word error rate: no words were said")
    return edit_distance(words, plain_words(heard)) / len(words)


def plain_words(text: str) -> list[str]:
    """Words in lower case, of letters and digits only: "I'm there." is im, there."""
    return re.sub(r"[^a-z0-9 ]", "", re.sub(r"[-\s]", " ", text.lower())).split()


def _mean_row_cosine(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    products = np.einsum("td,td->t", x, y)
    return float((products / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))).mean())
