"""The published weights give the published answers. Skipped where they were not fetched (`accel models get ...`)."""

from pathlib import Path

import numpy as np
import pytest

from accel.errors import UserError
from workloads.nets import quality, store, text
from workloads.nets.minilm import MiniLM
from workloads.nets.smollm2 import SmolLM2


def fetched(name: str) -> Path:
    try:
        return store.locate(name)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    pytest.importorskip("safetensors")
    pytest.importorskip("tokenizers")
    return MiniLM(fetched("minilm"))


@pytest.fixture(scope="module")
def smollm2() -> SmolLM2:
    pytest.importorskip("gguf")
    pytest.importorskip("tokenizers")
    return SmolLM2(fetched("smollm2"))


@pytest.mark.parametrize(
    ("other", "similarity"),
    [("That is a happy dog", 0.6946), ("That is a very happy person", 0.9429), ("Today is a sunny day", 0.2569)],
)
def test_minilm_similarities_of_the_model_page(minilm: MiniLM, other: str, similarity: float) -> None:
    first = minilm.embed("That is a happy person")
    assert quality.cosine(first, minilm.embed(other)) == pytest.approx(similarity, abs=5e-5)


def test_smollm2_knows_the_capital_of_france(smollm2: SmolLM2) -> None:
    ids = smollm2.tokenize("The capital of France is")
    assert ids == [504, 3575, 282, 4649, 314]
    hidden = smollm2.forward(ids)[-1:]
    paris = smollm2.tokenize(" Paris")
    assert np.exp(-smollm2.nll_of(hidden, paris)) == pytest.approx([0.773], abs=5e-4)
    assert smollm2.logits(hidden)[0].argmax() == paris[0]
    assert smollm2.generate(ids, 1) == paris


def test_smollm2_perplexity_of_the_builtin_text(smollm2: SmolLM2) -> None:
    window = next(quality.windows(smollm2, text.builtin_text(), tokens=128))
    assert len(window) == 128
    assert quality.perplexity(smollm2.nll(window)) == pytest.approx(26.040, abs=0.01)


def test_smollm2_perplexity_of_a_wikipedia_page(smollm2: SmolLM2) -> None:
    pytest.importorskip("mwparserfromhell")
    fetched("wikipedia")
    window = next(quality.windows(smollm2, text.wikipedia_page("Autism")))
    assert quality.perplexity(smollm2.nll(window)) == pytest.approx(12.907, abs=0.01)


def test_wikipedia_pages_are_free_of_markup() -> None:
    pytest.importorskip("mwparserfromhell")
    fetched("wikipedia")
    assert len(text.wikipedia_titles()) == 106
    for title in ("Achilles", "Ambiguity", "Andre Agassi", "Asphalt"):
        prose = text.wikipedia_page(title)
        assert len(prose) > 15000
        assert not any(mark in prose for mark in ("[[", "{{", "<ref", "'''", "thumb|", "{|"))
