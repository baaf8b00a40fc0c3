"""Quality measures: no loss for dense attention, the right loss for a known change, every token counted once."""

from pathlib import Path

import numpy as np
import pytest

from accel.errors import UserError
from tests.workloads.nets_tiny import write_bert, write_llama
from workloads.nets import quality
from workloads.nets.attention import dense_attend
from workloads.nets.minilm import MiniLM
from workloads.nets.smollm2 import SmolLM2

IDS = [0, 9, 8, 70, 71, 72, 200, 13]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> SmolLM2:
    folder = tmp_path_factory.mktemp("llama")
    write_llama(folder)
    return SmolLM2(folder)


def blind(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int) -> np.ndarray:
    """Attention that sees nothing."""
    return np.zeros_like(q)


def test_cosine_and_perplexity() -> None:
    assert quality.cosine(np.array([1.0, 0]), np.array([2.0, 2.0])) == pytest.approx(0.5**0.5)
    assert quality.perplexity(np.log([2.0, 8.0])) == pytest.approx(4)
    with pytest.raises(ValueError, match="zero"):
        quality.cosine(np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="no tokens"):
        quality.perplexity(np.array([]))


@pytest.mark.parametrize(("prompt", "tokens"), [(None, 7), (5, 3)])
def test_dense_hook_loses_nothing(llama: SmolLM2, prompt: int | None, tokens: int) -> None:
    result = quality.compare_decoder(llama, [IDS], dense_attend, prompt)
    assert result.tokens == tokens
    assert result.top1_agreement == 1
    assert result.mean_abs_dlogit < 1e-4
    assert result.perplexity == pytest.approx(result.dense_perplexity, rel=1e-4)
    assert result.dense_perplexity == pytest.approx(quality.perplexity(llama.nll(IDS)[-tokens:]), rel=1e-4)


@pytest.mark.parametrize("prompt", [None, 5])
def test_loss_is_that_of_the_hook(llama: SmolLM2, prompt: int | None) -> None:
    result = quality.compare_decoder(llama, [IDS, IDS[:6]], blind, prompt)
    first = 0 if prompt is None else prompt - 1
    blind_nll = np.concatenate([llama.nll(IDS, blind)[first:], llama.nll(IDS[:6], blind)[first:]])
    assert result.perplexity == pytest.approx(quality.perplexity(blind_nll), rel=1e-4)
    gaps, same = [], []
    for ids in (IDS, IDS[:6]):
        a, b = (llama.logits(llama.forward(ids, hook))[first:-1] for hook in (None, blind))
        gap = (b - a) - (b - a).mean(axis=1, keepdims=True)
        gaps.append(np.abs(gap).mean(axis=1))
        same.append(a.argmax(axis=1) == b.argmax(axis=1))
    assert result.mean_abs_dlogit == pytest.approx(np.concatenate(gaps).mean(), rel=1e-4)
    assert result.top1_agreement == pytest.approx(np.concatenate(same).mean())
    assert result.mean_abs_dlogit > 0.01


def test_windows_cover_the_text_once(llama: SmolLM2) -> None:
    text = "the cat sat on the mat"
    cut = list(quality.windows(llama, text, tokens=8))
    assert [window[0] for window in cut] == [llama.document_start] * len(cut)
    assert [token for window in cut for token in window[1:]] == llama.tokenize(text)
    assert max(len(window) for window in cut) == 8
    assert list(quality.windows(llama, text, tokens=8, count=1)) == cut[:1]
    with pytest.raises(UserError, match=r"expected 2 \.\. 100"):
        next(quality.windows(llama, text, tokens=512))


def test_nothing_to_compare(llama: SmolLM2) -> None:
    for sequences in ([], [[1]]):
        with pytest.raises(UserError, match="decoder quality"):
            quality.compare_decoder(llama, sequences, blind)


def test_encoder_comparison(tmp_path: Path) -> None:
    write_bert(tmp_path)
    net = MiniLM(tmp_path)
    texts = ["the cats sat", "the cat"]
    same = quality.compare_encoder(net, texts, dense_attend)
    assert same.least_cosine == pytest.approx(1, abs=1e-6)
    other = quality.compare_encoder(net, texts, blind)
    cosines = [quality.cosine(net.embed(text), net.embed(text, blind)) for text in texts]
    assert other == quality.EncoderQuality(float(np.mean(cosines)), min(cosines), 2)
    assert other.least_cosine < 0.999
    with pytest.raises(UserError, match="at least one text"):
        quality.compare_encoder(net, [], blind)
