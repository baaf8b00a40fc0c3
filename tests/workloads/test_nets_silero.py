"""The Silero VAD computes its architecture, hands its LSTM to the hook as promised, and is the published network."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from accel.errors import UserError
from workloads.nets import silero, speech, store
from workloads.nets.silero import LstmCall, SileroVad, float_lstm_step
from workloads.nets.tensor_file import NamedTensors

BINS, CHANNELS, HIDDEN = 5, (6, 4, 3, 7), 4


def tiny_weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "model.stft.forward_basis_buffer": (2 * BINS, 1, 256),
        "model.decoder.rnn.weight_ih": (4 * HIDDEN, CHANNELS[-1]),
        "model.decoder.rnn.weight_hh": (4 * HIDDEN, HIDDEN),
        "model.decoder.rnn.bias_ih": (4 * HIDDEN,),
        "model.decoder.rnn.bias_hh": (4 * HIDDEN,),
        "model.decoder.decoder.2.weight": (1, HIDDEN, 1),
        "model.decoder.decoder.2.bias": (1,),
    }
    for step, (inputs, outputs) in enumerate(zip((BINS, *CHANNELS), CHANNELS, strict=False)):
        name = f"model.encoder.{step}.reparam_conv"
        shapes |= {f"{name}.weight": (outputs, inputs, 3), f"{name}.bias": (outputs,)}
    return {name: rng.normal(0, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def net() -> SileroVad:
    return SileroVad(NamedTensors(Path("tiny.onnx"), tiny_weights(), "the Silero VAD"))


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return speech.hum(0.2, seed=1)


def lstm_formula(call: LstmCall) -> tuple[np.ndarray, np.ndarray]:
    """A step in float64, unit by unit."""
    h, c = np.zeros(HIDDEN), np.zeros(HIDDEN)
    for unit in range(HIDDEN):
        i, f, g, o = (
            float(call.weights.input[row].astype(np.float64) @ call.x)
            + float(call.weights.recurrent[row].astype(np.float64) @ call.h)
            + float(call.weights.bias[row])
            for row in range(unit, 4 * HIDDEN, HIDDEN)
        )
        c[unit] = call.c[unit] / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h[unit] = np.tanh(c[unit]) / (1 + np.exp(-o))
    return h, c


def features_formula(weights: dict[str, np.ndarray], pcm: np.ndarray) -> np.ndarray:
    """What goes into the LSTM, in float64, sample by sample and tap by tap."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    out = []
    for chunk in range(-(-len(pcm) // 512)):
        before = [pcm[t] if 0 <= t < len(pcm) else 0.0 for t in range(chunk * 512 - 64, chunk * 512 + 512)]
        x = np.array([*before, *before[-2:-66:-1]], dtype=np.float64)
        spectra = [w["model.stft.forward_basis_buffer"][:, 0] @ x[start : start + 256] for start in (0, 128, 256, 384)]
        rows = [np.sqrt(s[:BINS] ** 2 + s[BINS:] ** 2) for s in spectra]
        for step, stride in enumerate((1, 2, 2, 1)):
            name = f"model.encoder.{step}.reparam_conv"
            made = []
            for middle in range(0, len(rows), stride):
                y = w[f"{name}.bias"].copy()
                for tap in range(3):
                    if 0 <= middle + tap - 1 < len(rows):
                        y += w[f"{name}.weight"][:, :, tap] @ rows[middle + tap - 1]
                made.append(np.maximum(y, 0))
            rows = made
        assert len(rows) == 1
        out.append(rows[0])
    return np.array(out)


def test_network_is_its_formula(net: SileroVad, sound: np.ndarray) -> None:
    features = features_formula(tiny_weights(), sound)
    assert features.shape == (7, CHANNELS[-1])
    np.testing.assert_allclose(net.features(sound), features, rtol=1e-4, atol=1e-4)
    # Smaller inputs, so that the gates do not saturate.
    small = features / np.abs(features).max()
    h = c = np.zeros(HIDDEN)
    states = []
    for place, x in enumerate(small):
        h, c = lstm_formula(LstmCall(0, place, x, h, c, net.weights))
        states.append(h)
    np.testing.assert_allclose(net.states(small.astype(np.float32)), states, atol=1e-6)
    last = tiny_weights()["model.decoder.decoder.2.weight"].ravel(), tiny_weights()["model.decoder.decoder.2.bias"]
    logits = np.maximum(net.states(net.features(sound)), 0) @ last[0] + last[1]
    np.testing.assert_allclose(net.probabilities(sound), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_recorded_steps_are_a_chain(net: SileroVad, sound: np.ndarray) -> None:
    calls = silero.record(net, sound)
    assert [call.step for call in calls] == list(range(7))
    assert not calls[0].h.any()
    assert not calls[0].c.any()
    for call, following in itertools.pairwise(calls):
        h, c = lstm_formula(call)
        np.testing.assert_allclose(following.h, h, atol=1e-5)
        np.testing.assert_allclose(following.c, c, atol=1e-5)
        assert following.weights is call.weights
    np.testing.assert_array_equal([call.x for call in calls], net.features(sound))


def forgetful(call: LstmCall) -> tuple[np.ndarray, np.ndarray]:
    """An LSTM without a past."""
    return float_lstm_step(call._replace(h=np.zeros(HIDDEN), c=np.zeros(HIDDEN)))


def test_hook_is_heard(net: SileroVad, sound: np.ndarray) -> None:
    alone = [net.states(row[None])[0] for row in net.features(sound)]
    np.testing.assert_allclose(net.states(net.features(sound), forgetful), alone, atol=1e-6)
    assert np.abs(net.states(net.features(sound)) - alone)[1:].max() > 0.01


def test_quality(net: SileroVad, sound: np.ndarray) -> None:
    same = silero.compare_voice(net, sound, float_lstm_step)
    assert (same.agreement, same.max_abs_difference, same.accuracy, same.chunks) == (1, 0, None, 7)
    truth = np.array([0, 1, 1, 0, 1, 0, 0], dtype=bool)
    other = silero.compare_voice(net, sound, forgetful, truth)
    a, b = net.probabilities(sound), net.probabilities(sound, forgetful)
    assert other.agreement == ((a >= 0.5) == (b >= 0.5)).mean()
    assert (other.float_speech, other.speech) == ((a >= 0.5).mean(), (b >= 0.5).mean())
    assert (other.float_accuracy, other.accuracy) == (((a >= 0.5) == truth).mean(), ((b >= 0.5) == truth).mean())
    assert other.mean_abs_difference == pytest.approx(np.abs(a - b).mean(), rel=1e-4)
    assert other.max_abs_difference == pytest.approx(np.abs(a - b).max(), rel=1e-4)
    assert other.max_abs_difference > 1e-3
    with pytest.raises(UserError, match=r"truth has shape \(3,\), the sound has 7 chunks"):
        silero.compare_voice(net, sound, forgetful, truth[:3])


def test_bad_input(net: SileroVad, sound: np.ndarray) -> None:
    with pytest.raises(UserError, match="at least one sample"):
        net.features(np.zeros(0))
    with pytest.raises(ValueError, match=r"lstm hook, step 0: returned \(1,\) and \(4,\), expected \(4,\)"):
        net.probabilities(sound, lambda call: (call.h[:1], call.c))
    weights = tiny_weights()
    weights["model.decoder.rnn.weight_ih"] = weights["model.decoder.rnn.weight_ih"][:-1]
    with pytest.raises(UserError, match=r"weight_ih' has shape \(15, 7\), expected \(16, 7\)"):
        SileroVad(NamedTensors(Path("x"), weights, "the Silero VAD"))


def fetched(name: str) -> Path:
    try:
        return store.locate(name)
    except UserError as error:
        pytest.skip(str(error))


def test_published_network_is_the_packages_graph() -> None:
    """Probabilities that onnxruntime 1.32 computed from the same file, chunk by chunk with its state fed back."""
    pytest.importorskip("onnx")
    net = SileroVad.read(fetched("silero"))
    heard = net.probabilities(speech.hum(2, seed=1))
    assert heard.shape == (63,)
    np.testing.assert_allclose(heard[[3, 20, 40, 60]], (0.01559, 0.003031, 0.094754, 0.016475), atol=3e-6)


def test_published_network_hears_who_speaks_on_the_telephone() -> None:
    pytest.importorskip("onnx")
    net = SileroVad.read(fetched("silero"))
    fetched("telephone")
    speaking = speech.telephone_speaking(silero.CHUNK_SAMPLES)
    result = silero.compare_voice(net, speech.telephone(), float_lstm_step, speaking)
    assert result.chunks == 938
    assert result.float_accuracy == pytest.approx(0.984, abs=0.001)
    assert result.float_speech == pytest.approx(0.740, abs=0.001)
