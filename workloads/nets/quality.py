"""What an approximate attention costs: the same network and text, once dense and once with the hook."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from accel.errors import UserError
from workloads.nets.attention import Attend
from workloads.nets.minilm import MiniLM
from workloads.nets.smollm2 import SmolLM2


class EncoderQuality(NamedTuple):
    """Cosine between the embedding with the hook and the dense one, over a number of texts (1 = the same)."""

    mean_cosine: float
    least_cosine: float
    texts: int


class DecoderQuality(NamedTuple):
    """The hook against dense attention over the same predicted tokens.

    `mean_abs_dlogit`: mean over tokens and vocabulary of the difference between the logits, each row brought to mean 0
    first, as a constant changes no probability. `top1_agreement`: share of tokens with the same most likely successor.
    """

    dense_perplexity: float
    perplexity: float
    mean_abs_dlogit: float
    top1_agreement: float
    tokens: int


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors (d,), in float64. Raises ValueError when one of them is zero."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    if lengths == 0:
        raise ValueError("cosine: one of the vectors is zero")
    return float(x @ y / lengths)


def perplexity(nll: np.ndarray) -> float:
    """exp of the mean negative log likelihood (n,) in nats. Raises ValueError when there is none."""
    if len(nll) == 0:
        raise ValueError("perplexity: no tokens")
    return float(np.exp(np.mean(nll, dtype=np.float64)))


def compare_encoder(net: MiniLM, texts: Sequence[str], attend: Attend) -> EncoderQuality:
    """Embed every text with dense attention and with `attend`. Raises UserError when there is no text."""
    if not texts:
        raise UserError("encoder quality: expected at least one text")
    cosines = [cosine(net.embed(text), net.embed(text, attend)) for text in texts]
    return EncoderQuality(float(np.mean(cosines)), min(cosines), len(cosines))


def windows(net: SmolLM2, text: str, tokens: int = 512, count: int | None = None) -> Iterator[list[int]]:
    """Cut a text into sequences of at most `tokens` ids; each begins with the document-start token, none overlap.

    At most `count` windows (None: all). Raises UserError when the window does not fit the network.
    """
    if not 2 <= tokens <= net.context_length:
        raise UserError(f"window of {tokens} tokens: expected 2 .. {net.context_length}")
    ids = net.tokenize(text)
    starts = range(0, len(ids), tokens - 1)
    for start in starts[:count]:
        yield [net.document_start, *ids[start : start + tokens - 1]]


def compare_decoder(
    net: SmolLM2, sequences: Sequence[Sequence[int]], attend: Attend, prompt: int | None = None
) -> DecoderQuality:
    """Predict each sequence's tokens with dense attention and with `attend`.

    `prompt` None: every token but the first, in one prefill pass. Otherwise `attend` decodes token by token behind a
    prompt of that many tokens, as a generating machine does; the prompt's own tokens do not count.
    Raises UserError when there is nothing to predict.
    """
    if not sequences:
        raise UserError("decoder quality: expected at least one sequence of token ids")
    dense_nll, hook_nll = [], []
    difference, agreeing, tokens = 0.0, 0, 0
    for ids in sequences:
        if len(ids) < 2:
            raise UserError("decoder quality: a sequence needs two tokens, one to predict and one before it")
        hook_states = net.forward(ids, attend)[:-1] if prompt is None else net.decode_hidden(ids, prompt, attend)
        # Dense decoding and dense prefill are the same sums, so the dense side never needs the slow way.
        dense_states = net.forward(ids)[-1 - len(hook_states) : -1]
        targets = ids[len(ids) - len(hook_states) :]
        dense_nll.append(net.nll_of(dense_states, targets))
        hook_nll.append(net.nll_of(hook_states, targets))
        tokens += len(targets)
        for rows, dense in net.logit_blocks(dense_states):
            other = net.logits(hook_states[rows])
            agreeing += int((dense.argmax(axis=1) == other.argmax(axis=1)).sum())
            gap = other - dense
            gap -= gap.mean(axis=1, keepdims=True)
            difference += float(np.abs(gap).mean(axis=1, dtype=np.float64).sum())
    return DecoderQuality(
        dense_perplexity=perplexity(np.concatenate(dense_nll)),
        perplexity=perplexity(np.concatenate(hook_nll)),
        mean_abs_dlogit=difference / tokens,
        top1_agreement=agreeing / tokens,
        tokens=tokens,
    )
