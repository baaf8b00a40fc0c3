"""Whisper computes its architecture, hands three kinds of attention to the hooks, and is the published network."""

import math
import struct
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import UserError
from tests.workloads.nets_tiny import _attend_one
from workloads.nets import speech, store, whisper_audio, whisper_quality
from workloads.nets.attention import AttentionCall, dense_attend
from workloads.nets.edit_distance import edit_distance
from workloads.nets.tensor_file import NamedTensors
from workloads.nets.whisper import Mixers, Whisper
from workloads.nets.whisper_file import read_ctranslate2

WIDTH, HEADS, LAYERS, FRAMES, CONTEXT, INNER, WORDS = 8, 2, 2, 6, 16, 12, 20
END, START, PLAIN = 17, 18, 19


class Letters:
    """Stands for a tokenizer: id 0 is a, 1 is b, and so on."""

    def token_to_id(self, token: str) -> int | None:
        return {"<|startoftranscript|>": START, "<|notimestamps|>": PLAIN, "<|endoftext|>": END}.get(token)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(97 + place) for place in ids)


def tiny_weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    d = WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "encoder/position_encodings/encodings": (FRAMES, d),
        "decoder/position_encodings/encodings": (CONTEXT, d),
        "decoder/embeddings/weight": (WORDS, d),
    }
    dense: dict[str, tuple[int, ...]] = {"encoder/conv1": (d, 80, 3), "encoder/conv2": (d, d, 3)}
    norms = ["encoder/layer_norm", "decoder/layer_norm"]
    for side in ("encoder", "decoder"):
        for layer in range(LAYERS):
            name = f"{side}/layer_{layer}"
            dense |= {f"{name}/self_attention/linear_0": (3 * d, d), f"{name}/self_attention/linear_1": (d, d)}
            dense |= {f"{name}/ffn/linear_0": (INNER, d), f"{name}/ffn/linear_1": (d, INNER)}
            norms += [f"{name}/self_attention/layer_norm", f"{name}/ffn/layer_norm"]
            if side == "decoder":
                dense |= {f"{name}/attention/linear_0": (d, d), f"{name}/attention/linear_1": (2 * d, d)}
                dense |= {f"{name}/attention/linear_2": (d, d)}
                norms.append(f"{name}/attention/layer_norm")
    for name, shape in dense.items():
        shapes |= {f"{name}/weight": shape, f"{name}/bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}/gamma": (d,), f"{name}/beta": (d,)}
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    return weights | {f"{side}/num_heads": np.array(HEADS, np.int16) for side in ("encoder", "decoder")}


def network(weights: dict[str, np.ndarray]) -> Whisper:
    return Whisper(NamedTensors(Path("tiny.bin"), weights, "a Whisper network"), Letters())


@pytest.fixture(scope="module")
def net() -> Whisper:
    return network(tiny_weights())


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return speech.hum(0.1, seed=2)


class Formula:
    """The network in float64, token by token and head by head."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.w = {name: array.astype(np.float64) for name, array in weights.items()}

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * self.w[f"{name}/gamma"] + self.w[f"{name}/beta"]

    def dense(self, x: np.ndarray, name: str) -> np.ndarray:
        return self.w[f"{name}/weight"] @ x + self.w[f"{name}/bias"]

    @staticmethod
    def gelu(x: np.ndarray) -> np.ndarray:
        return np.array([0.5 * y * math.erfc(-y / math.sqrt(2)) for y in x])

    def mix(self, query: np.ndarray, keys: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> np.ndarray:
        cuts = [slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS) for h in range(HEADS)]
        ks, vs = np.array(keys), np.array(values)
        return np.concatenate([_attend_one(query[cut], ks[:, cut], vs[:, cut]) for cut in cuts])

    def ffn(self, x: np.ndarray, name: str) -> np.ndarray:
        inner = self.gelu(self.dense(self.norm(x, f"{name}/ffn/layer_norm"), f"{name}/ffn/linear_0"))
        return x + self.dense(inner, f"{name}/ffn/linear_1")

    def convolve(self, x: list[np.ndarray], name: str, stride: int) -> list[np.ndarray]:
        out = []
        for middle in range(0, len(x), stride):
            y = self.w[f"{name}/bias"].copy()
            for tap in range(3):
                if 0 <= middle + tap - 1 < len(x):
                    y += self.w[f"{name}/weight"][:, :, tap] @ x[middle + tap - 1]
            out.append(self.gelu(y))
        return out

    def states(self, pcm: np.ndarray) -> list[np.ndarray]:
        bands = list(whisper_audio.log_mel(pcm, 2 * FRAMES).astype(np.float64))
        x = self.convolve(self.convolve(bands, "encoder/conv1", 1), "encoder/conv2", 2)
        x = [a + b for a, b in zip(x, self.w["encoder/position_encodings/encodings"], strict=True)]
        for layer in range(LAYERS):
            name = f"encoder/layer_{layer}"
            attention = f"{name}/self_attention"
            qkv = [np.split(self.dense(self.norm(y, f"{attention}/layer_norm"), f"{attention}/linear_0"), 3) for y in x]
            mixed = [self.mix(q, [k for _, k, _ in qkv], [v for _, _, v in qkv]) for q, _, _ in qkv]
            x = [y + self.dense(m, f"{attention}/linear_1") for y, m in zip(x, mixed, strict=True)]
            x = [self.ffn(y, name) for y in x]
        return [self.norm(y, "encoder/layer_norm") for y in x]

    def logits(self, states: list[np.ndarray], ids: Sequence[int]) -> np.ndarray:
        table = self.w["decoder/embeddings/weight"]
        x = [table[place] + self.w["decoder/position_encodings/encodings"][t] for t, place in enumerate(ids)]
        for layer in range(LAYERS):
            name = f"decoder/layer_{layer}"
            own, cross = f"{name}/self_attention", f"{name}/attention"
            heard = [np.split(self.dense(state, f"{cross}/linear_1"), 2) for state in states]
            keys, values = [], []
            for t, y in enumerate(x):
                q, k, v = np.split(self.dense(self.norm(y, f"{own}/layer_norm"), f"{own}/linear_0"), 3)
                keys.append(k)
                values.append(v)
                y = y + self.dense(self.mix(q, keys, values), f"{own}/linear_1")
                q = self.dense(self.norm(y, f"{cross}/layer_norm"), f"{cross}/linear_0")
                mixed = self.mix(q, [k for k, _ in heard], [v for _, v in heard])
                x[t] = self.ffn(y + self.dense(mixed, f"{cross}/linear_2"), name)
        return np.array([table @ self.norm(y, "decoder/layer_norm") for y in x])


def test_network_is_its_formula(net: Whisper, sound: np.ndarray) -> None:
    formula = Formula(tiny_weights())
    states = formula.states(sound)
    np.testing.assert_allclose(net.encode(sound), states, atol=3e-5)
    ids = [*net.prompt, 3, 0, 16, 3]
    np.testing.assert_allclose(net.decoding(net.encode(sound)).advance(ids), formula.logits(states, ids), atol=2e-4)


def test_one_by_one_is_the_same_as_at_once(net: Whisper, sound: np.ndarray) -> None:
    states, ids = net.encode(sound), [*net.prompt, 3, 0, 16, 3]
    slow = net.decoding(states)
    rows = [slow.advance(ids[:2]), *(slow.advance([place]) for place in ids[2:])]
    np.testing.assert_allclose(np.concatenate(rows), net.decoding(states).advance(ids), atol=1e-5)


def test_transcription_takes_the_likeliest_text_token(net: Whisper, sound: np.ndarray) -> None:
    found = net.transcribe(sound, most_tokens=5)
    fed = list(net.prompt)
    for place in found:
        logits = net.decoding(net.encode(sound)).advance(fed)[-1]
        assert place == logits[: END + 1].argmax() != END
        fed.append(place)
    assert 0 < len(found) <= 5
    assert len(net.transcribe(sound)) <= CONTEXT - 2, "ends where the places end"
    assert net.text([0, 1]) == "ab"

    # A network that always answers with the end token writes nothing.
    weights = tiny_weights()
    weights["decoder/layer_norm/gamma"][:] = 0
    weights["decoder/layer_norm/beta"][:] = weights["decoder/embeddings/weight"][END] * 9
    assert network(weights).transcribe(sound) == []


def test_recorded_calls(net: Whisper, sound: np.ndarray) -> None:
    written = net.transcribe(sound, most_tokens=3)
    assert len(written) == 3
    calls = whisper_quality.record(net, sound, most_tokens=3)
    head = WIDTH // HEADS
    assert [(c.layer, c.causal, c.q.shape) for c in calls.encoder] == [
        (layer, False, (HEADS, FRAMES, head)) for layer in range(LAYERS)
    ]
    # The prompt, and every token written but the last.
    rows = [2, 1, 1]
    assert [(c.layer, c.causal, c.q_start, c.q.shape[1], c.k.shape[1]) for c in calls.decoder] == [
        (layer, True, sum(rows[:step]), rows[step], sum(rows[: step + 1]))
        for step in range(3)
        for layer in range(LAYERS)
    ]
    assert [(c.layer, c.causal, c.q_start, c.q.shape[1], c.k.shape[1]) for c in calls.cross] == [
        (layer, False, 0, rows[step], FRAMES) for step in range(3) for layer in range(LAYERS)
    ]
    for step in range(3):
        np.testing.assert_array_equal(calls.cross[0].k, calls.cross[step * LAYERS].k)


@pytest.mark.parametrize("kind", Mixers._fields)
def test_every_hook_is_asked_and_heard(net: Whisper, sound: np.ndarray, kind: str) -> None:
    asked: list[AttentionCall] = []

    def blind(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int) -> np.ndarray:
        asked.append(AttentionCall(layer, q, k, v, causal, q_start))
        return np.zeros_like(q)

    mixers = Mixers(**{kind: blind})
    same = net.decoding(net.encode(sound)).advance(net.prompt)
    other = net.decoding(net.encode(sound, mixers), mixers).advance(net.prompt)
    assert [call.layer for call in asked] == list(range(LAYERS))
    assert {call.causal for call in asked} == {kind == "decoder"}
    assert np.abs(same - other).max() > 1e-3


def test_quality(net: Whisper, sound: np.ndarray) -> None:
    dense = Mixers(dense_attend, dense_attend, dense_attend)
    same = whisper_quality.compare_transcriber(net, sound, dense, said="a word", most_tokens=4)
    assert (same.token_error_rate, same.top1_agreement, same.mean_abs_dlogit) == (0, 1, 0)
    assert same.state_cosine == pytest.approx(1)
    assert same.text == same.dense_text == net.text(net.transcribe(sound, most_tokens=4))
    assert same.word_error_rate == same.dense_word_error_rate == 1

    def blind(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int) -> np.ndarray:
        return np.zeros_like(q)

    mixers = Mixers(encoder=blind, cross=blind)
    other = whisper_quality.compare_transcriber(net, sound, mixers, most_tokens=4)
    ids, changed = net.transcribe(sound, None, 4), net.transcribe(sound, mixers, 4)
    assert other.token_error_rate == edit_distance(ids, changed) / len(ids)
    fed = [*net.prompt, *ids]
    a = net.decoding(net.encode(sound)).advance(fed)[1:]
    b = net.decoding(net.encode(sound, mixers), mixers).advance(fed)[1:]
    gap = (b - b.mean(axis=1, keepdims=True)) - (a - a.mean(axis=1, keepdims=True))
    assert other.mean_abs_dlogit == pytest.approx(np.abs(gap).mean(), rel=1e-5)
    assert other.top1_agreement == (a.argmax(axis=1) == b.argmax(axis=1)).mean()
    assert other.state_cosine < 0.99
    assert other.word_error_rate is None


def test_words() -> None:
    assert whisper_quality.plain_words("I'm there, well-known 2 ALL.") == ["im", "there", "well", "known", "2", "all"]
    assert whisper_quality.word_error_rate("one two three four", "One, too three") == 0.5
    with pytest.raises(UserError, match="no words were said"):
        whisper_quality.word_error_rate("...", "a")


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_edit_distance(a: str, b: str) -> None:
    def slow(x: str, y: str) -> int:
        if not x or not y:
            return len(x) + len(y)
        return min(slow(x[1:], y) + 1, slow(x, y[1:]) + 1, slow(x[1:], y[1:]) + (x[0] != y[0]))

    assert edit_distance(a, b) == slow(a, b)


def test_bands_of_the_feature_extractor() -> None:
    """Values that the feature extractor of faster-whisper 1.2 (NumPy, its own code) gives for this sound."""
    bands = whisper_audio.log_mel(speech.hum(1), frames=200)
    expected = (-0.46772, 0.2571, 0.51669, -0.33277, -0.96421)
    np.testing.assert_allclose(bands[[0, 50, 99, 99, 150], [0, 10, 40, 79, 5]], expected, atol=2e-5)


def ctranslate2_bytes(weights: dict[str, np.ndarray], name: str = "WhisperSpec", version: int = 6) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    kinds = {"float32": 0, "int16": 2, "float16": 4}
    out = struct.pack("<I", version) + text(name) + struct.pack("<II", 3, len(weights))
    for key, array in weights.items():
        sizes = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        out += text(key) + sizes + struct.pack("<BI", kinds[array.dtype.name], array.nbytes) + array.tobytes()
    return out + struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/weight")


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    weights = tiny_weights()
    halves = {name: array.astype(np.float16) if array.ndim else array for name, array in weights.items()}
    whole = ctranslate2_bytes(halves)
    path.write_bytes(whole)
    tensors = read_ctranslate2(path, "WhisperSpec", "a Whisper network")
    for name, array in halves.items():
        if array.ndim:
            np.testing.assert_array_equal(tensors.take(name, *array.shape), array.astype(np.float32))
    assert tensors.number("encoder/num_heads") == HEADS
    assert tensors.shape("decoder/projection/weight", 2) == (WORDS, WIDTH)
    for cut in (0, 3, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="not a readable CTranslate2 file"):
            read_ctranslate2(path, "WhisperSpec", "a Whisper network")
    for other in (ctranslate2_bytes(halves, version=5), ctranslate2_bytes(halves, name="TransformerSpec")):
        path.write_bytes(other)
        with pytest.raises(UserError, match="supported is version 6 of 'WhisperSpec'"):
            read_ctranslate2(path, "WhisperSpec", "a Whisper network")


def test_bad_input(net: Whisper, sound: np.ndarray) -> None:
    for pcm in (np.zeros(0), np.zeros(net.samples + 1), np.zeros((2, 9))):
        with pytest.raises(UserError, match=r"expected one channel of 1 \.\.\. 1920 samples"):
            net.encode(pcm)
    with pytest.raises(UserError, match="at most 16"):
        net.decoding(net.encode(sound)).advance([0] * 17)
    weights = tiny_weights()
    del weights["encoder/num_heads"]
    with pytest.raises(UserError, match="number 'encoder/num_heads' is missing; a Whisper network has it"):
        network(weights)
    weights = tiny_weights()
    weights["decoder/num_heads"] = np.array(4)
    with pytest.raises(UserError, match="heads do not fit width 8"):
        network(weights)
    with pytest.raises(UserError, match=r"its tokenizer\.json is not that of"):
        network({name: array[:19] if "embeddings" in name else array for name, array in tiny_weights().items()})


def test_sounds(tmp_path: Path) -> None:
    sound = speech.hum(0.5, seed=3)
    assert sound.shape == (8000,)
    assert 0.02 < np.abs(sound).max() <= 1
    np.testing.assert_array_equal(sound, speech.hum(0.5, seed=3))
    path = tmp_path / "a.wav"
    for channels, rate in ((1, 16000), (2, 16000), (1, 8000)):
        with wave.open(str(path), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(np.array([0, 16384, -32768, 5], "<i2").tobytes())
        if (channels, rate) == (1, 16000):
            np.testing.assert_array_equal(speech.read_wave(path), [0, 0.5, -1, 5 / 32768])
        else:
            with pytest.raises(UserError, match="expected 16 bits, 1 channel, 16000 Hz"):
                speech.read_wave(path)
    path.write_bytes(b"RIFF")
    with pytest.raises(UserError, match="not a readable WAV file"):
        speech.read_wave(path)


def fetched(name: str) -> Path:
    try:
        return store.locate(name)
    except UserError as error:
        pytest.skip(str(error))


def test_published_network_hears_what_ctranslate2_hears() -> None:
    """CTranslate2 4.8.5 (float32, greedy, nothing suppressed) wrote the same 105 tokens for this sound."""
    pytest.importorskip("tokenizers")
    net = Whisper.read(fetched("whisper-tiny"))
    fetched("telephone")
    ids = net.transcribe(speech.telephone())
    assert len(ids) == 105
    text = net.text(ids)
    assert text.startswith("Hello. Hello.")
    assert "I'm Sheila and Texas originally from Chicago. Oh, I'm originally from Chicago also." in text
    assert whisper_quality.word_error_rate(speech.telephone_words(), text) == pytest.approx(16 / 81)
