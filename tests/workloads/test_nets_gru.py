"""The GRU pair computes its architecture, hands its steps to the hook as promised, and is the published network."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from accel.errors import UserError
from workloads.nets import gru, store
from workloads.nets.edit_distance import edit_distance
from workloads.nets.gru import END, LETTERS, PHONEMES, START, GruCall, Pronouncer, float_gru_step
from workloads.nets.tensor_file import NamedTensors

WIDTH, HIDDEN = 5, 6
WORDS = ["abba", "x", "o'clock"]


def tiny_weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"enc_emb": (len(LETTERS), WIDTH), "dec_emb": (len(PHONEMES), WIDTH)}
    for part in ("enc", "dec"):
        shapes |= {f"{part}_w_ih": (3 * HIDDEN, WIDTH), f"{part}_w_hh": (3 * HIDDEN, HIDDEN)}
        shapes |= {f"{part}_b_ih": (3 * HIDDEN,), f"{part}_b_hh": (3 * HIDDEN,)}
    shapes |= {"fc_w": (len(PHONEMES), HIDDEN), "fc_b": (len(PHONEMES),)}
    return {name: rng.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def net() -> Pronouncer:
    return Pronouncer(NamedTensors(Path("tiny.npz"), tiny_weights(), "the g2p_en network"))


def step_formula(w: dict[str, np.ndarray], part: str, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """A step in float64, unit by unit."""
    new = np.zeros(HIDDEN)
    for unit in range(HIDDEN):
        a, b = (
            [
                float(w[f"{part}_w_{kind}"][row] @ y + w[f"{part}_b_{kind}"][row])
                for row in range(unit, 3 * HIDDEN, HIDDEN)
            ]
            for kind, y in (("ih", x), ("hh", h))
        )
        reset, update = (1 / (1 + np.exp(-a[gate] - b[gate])) for gate in (0, 1))
        new[unit] = (1 - update) * np.tanh(a[2] + reset * b[2]) + update * h[unit]
    return new


def formula(weights: dict[str, np.ndarray], word: str, phonemes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The encoder's last state and the logits, in float64."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    h = np.zeros(HIDDEN)
    for letter in (*word, "</s>"):
        place = 1 if letter not in LETTERS else LETTERS.index(letter)
        h = step_formula(w, "enc", w["enc_emb"][place], h)
    state, rows = h, []
    for place in (START, *(PHONEMES.index(phoneme) for phoneme in phonemes)):
        h = step_formula(w, "dec", w["dec_emb"][place], h)
        rows.append(w["fc_w"] @ h + w["fc_b"])
    return state, np.array(rows)


@pytest.mark.parametrize("word", WORDS)
def test_network_is_its_formula(net: Pronouncer, word: str) -> None:
    phonemes = ["AA1", "B", "ZH"]
    state, logits = formula(tiny_weights(), word, phonemes)
    np.testing.assert_allclose(net.encode(word), state, atol=1e-6)
    np.testing.assert_allclose(net.logits(word, phonemes), logits, atol=1e-5)
    # Each phoneme is the most likely one behind those before it, and the word ends at the end mark or at 20.
    found = net.pronounce(word)
    likeliest = formula(tiny_weights(), word, found)[1].argmax(axis=1)
    assert [PHONEMES[place] for place in likeliest[: len(found)]] == found
    assert likeliest[-1] == END or len(found) == gru.MOST_PHONEMES
    assert net.pronounce(word.upper()) == found


def test_alphabet() -> None:
    assert len(PHONEMES) == 74
    assert PHONEMES[4:8] == ("AA0", "AA1", "AA2", "AE0")
    assert PHONEMES[-9:] == ("UW", "UW0", "UW1", "UW2", "V", "W", "Y", "Z", "ZH")
    assert len(set(PHONEMES)) == 74


def test_recorded_steps_are_a_chain(net: Pronouncer) -> None:
    calls = gru.record(net, WORDS[:2])
    lengths = {word: min(len(net.pronounce(word)) + 1, gru.MOST_PHONEMES) for word in WORDS[:2]}
    expected = []
    for word in WORDS[:2]:
        expected += [("encoder", place) for place in range(len(word) + 1)]
        expected += [("decoder", place) for place in range(lengths[word])]
    assert [(call.part, call.step) for call in calls] == expected
    for call, following in itertools.pairwise(calls):
        if (following.part, following.step) == ("encoder", 0):
            assert not following.h.any()
        else:
            np.testing.assert_array_equal(following.h, float_gru_step(call))
        assert call.weights is (net.encoder if call.part == "encoder" else net.decoder)


def forgetful(call: GruCall) -> np.ndarray:
    """A GRU that keeps half of what it knew."""
    return float_gru_step(call._replace(h=call.h / 2))


def test_quality(net: Pronouncer) -> None:
    same = gru.compare_pronunciation(net, WORDS, float_gru_step)
    assert same[:6] == (0, 1, 1, 0, 3, None)
    known = {"abba": ["AE1", "B", "AH0"], "x": ["EH1", "K", "S"], "o'clock": ["AH0"]}
    other = gru.compare_pronunciation(net, WORDS, forgetful, known)
    own, changed = ([net.pronounce(word, hook) for word in WORDS] for hook in (None, forgetful))
    edits = [edit_distance(a, b) for a, b in zip(own, changed, strict=True)]
    assert other.phoneme_error_rate == sum(edits) / sum(len(a) for a in own) > 0
    assert other.word_agreement == np.mean([edit == 0 for edit in edits])
    assert other.known_error_rate == sum(edit_distance(known[w], b) for w, b in zip(WORDS, changed, strict=True)) / 7
    assert other.float_known_error_rate == sum(edit_distance(known[w], a) for w, a in zip(WORDS, own, strict=True)) / 7
    pairs = [(net.logits(w, a), net.logits(w, a, forgetful)) for w, a in zip(WORDS, own, strict=True)]
    a, b = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    assert other.top1_agreement == (a.argmax(axis=1) == b.argmax(axis=1)).mean()
    gap = (b - b.mean(axis=1, keepdims=True)) - (a - a.mean(axis=1, keepdims=True))
    assert other.mean_abs_dlogit == pytest.approx(np.abs(gap).mean(), rel=1e-5)


def test_bad_input(net: Pronouncer) -> None:
    with pytest.raises(UserError, match="at least one letter"):
        net.pronounce("")
    with pytest.raises(UserError, match="at least one word"):
        gru.compare_pronunciation(net, [], forgetful)
    with pytest.raises(UserError, match="no known pronunciation of 'x'"):
        gru.compare_pronunciation(net, ["x"], forgetful, {"y": ["W"]})
    with pytest.raises(UserError, match="phoneme 'QQ'"):
        net.logits("x", ["QQ"])
    with pytest.raises(ValueError, match=r"gru hook, encoder step 0: returned \(2,\), expected \(6,\)"):
        net.encode("x", lambda call: call.h[:2])
    weights = tiny_weights()
    del weights["dec_b_hh"]
    with pytest.raises(UserError, match="'dec_b_hh' is missing; the g2p_en network has it"):
        Pronouncer(NamedTensors(Path("x"), weights, "the g2p_en network"))


def test_dictionary(tmp_path: Path) -> None:
    text = "'bout B AW1 T\nread R EH1 D # past\nread(2) R IY1 D\nu.s. Y UW1\nzoo Z UW1\n"
    (tmp_path / "cmudict.dict").write_text(text)
    assert gru.dictionary(tmp_path) == {"read": ["R", "EH1", "D"], "zoo": ["Z", "UW1"]}


def fetched(name: str) -> Path:
    try:
        return store.locate(name)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def published() -> Pronouncer:
    return Pronouncer.read(fetched("g2p"))


def test_published_network_pronounces(published: Pronouncer) -> None:
    """As the package's own code does (500 words of the dictionary were compared, all alike)."""
    assert published.pronounce("accelerator") == ["AH0", "K", "S", "EH1", "L", "ER0", "EY2", "T", "ER0"]


def test_published_network_knows_the_dictionary(published: Pronouncer) -> None:
    fetched("cmudict")
    known = gru.dictionary()
    assert len(known) == 117493
    words = list(known)[::600]
    result = gru.compare_pronunciation(published, words, float_gru_step, known)
    assert result.words == 196
    assert result.float_known_error_rate == pytest.approx(0.107, abs=5e-4)
