"""The Mamba segmenter computes its architecture, hands its scans to the hook as promised, and is the published one."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from accel.errors import UserError
from workloads.nets import mamba, store
from workloads.nets.mamba import ByteSegmenter, ScanCall, float_scan
from workloads.nets.mamba_samples import TypedText, typed_samples

WIDTH, INNER, STATE, RANK, TAPS, LAYERS = 10, 6, 3, 2, 4, 2
LABELS = ["json", "csv", "text"]
DATA = b'{"a": [1, 2]}\xe4\xff'


def tiny_weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"Embed_0__embedding": (130, WIDTH)}
    dense = {"Dense_0": (WIDTH, len(LABELS))}
    norms = ["LayerNorm_0"]
    for layer in range(LAYERS):
        name = f"CheckpointMambaBlock1D_{layer}__"
        shapes |= {f"{name}A_log": (INNER, STATE), f"{name}D": (INNER,)}
        dense |= {f"{name}Dense_0": (WIDTH, 2 * INNER), f"{name}Dense_1": (INNER, RANK + 2 * STATE)}
        dense |= {f"{name}Dense_2": (RANK, INNER), f"{name}Dense_3": (INNER, WIDTH)}
        dense |= {f"{name}Conv_0": (TAPS, 1, INNER)}
        norms.append(f"{name}LayerNorm_0")
    for name, shape in dense.items():
        shapes |= {f"{name}__kernel": shape, f"{name}__bias": shape[-1:]}
    for name in norms:
        shapes |= {f"{name}__scale": (WIDTH,), f"{name}__bias": (WIDTH,)}
    return {name: rng.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}


def write(folder: Path, weights: dict[str, np.ndarray]) -> Path:
    np.savez(folder / "mamba_al.npz", allow_pickle=False, **weights)
    (folder / "manifest.json").write_text(json.dumps({"labels": LABELS}))
    return folder


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> ByteSegmenter:
    return ByteSegmenter.read(write(tmp_path_factory.mktemp("mamba"), tiny_weights()))


def scan_formula(call: ScanCall) -> np.ndarray:
    """The scan without a recurrence, in float64: what step r fed decays with the sum of the step widths since."""
    u, dt, A, B, C, D = (np.asarray(part, np.float64) for part in (call.u, call.dt, call.A, call.B, call.C, call.D))
    y = np.zeros(u.shape)
    for t in range(len(u)):
        for r in range(t + 1):
            decay = np.exp(dt[r + 1 : t + 1].sum(axis=0)[:, None] * A)
            y[t] += (decay * (dt[r] * u[r])[:, None] * B[r] * C[t]).sum(axis=1)
    return y + D * u


def formula(weights: dict[str, np.ndarray], data: bytes) -> np.ndarray:
    """Logits in float64, byte by byte."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return (x - x.mean()) / math.sqrt(x.var() + 1e-6) * w[f"{name}__scale"] + w[f"{name}__bias"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return w[f"{name}__kernel"].T @ x + w[f"{name}__bias"]

    def gate(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x))

    state = [w["Embed_0__embedding"][code if code < 128 else 128] for code in data]
    for layer in range(LAYERS):
        name = f"CheckpointMambaBlock1D_{layer}__"
        both = [dense(norm(x, f"{name}LayerNorm_0"), f"{name}Dense_0") for x in state]
        u = []
        for t in range(len(data)):
            # Four taps, centred: one byte back, this one, two ahead.
            seen = {tap: t + tap - 1 for tap in range(TAPS) if 0 <= t + tap - 1 < len(data)}
            mixed = sum(both[s][:INNER] * w[f"{name}Conv_0__kernel"][tap, 0] for tap, s in seen.items())
            u.append(gate(mixed + w[f"{name}Conv_0__bias"]))
        chosen = np.array([dense(x, f"{name}Dense_1") for x in u])
        dt = [np.log1p(np.exp(dense(x[:RANK], f"{name}Dense_2"))) + 1e-4 for x in chosen]
        ahead = (np.array(u), np.array(dt), chosen[:, RANK : RANK + STATE], chosen[:, RANK + STATE :])
        A, D, none = -np.exp(w[f"{name}A_log"]), w[f"{name}D"], np.zeros(0)
        y = np.zeros((len(data), INNER))
        for order in (1, -1):
            su, sdt, sB, sC = (part[::order] for part in ahead)
            y += scan_formula(ScanCall(layer, "forward", su, sdt, A, sB, sC, D, none))[::order]
        state = [x + dense(y[t] * gate(both[t][INNER:]), f"{name}Dense_3") for t, x in enumerate(state)]
    return np.array([dense(norm(x, "LayerNorm_0"), "Dense_0") for x in state])


def test_network_is_its_formula(net: ByteSegmenter) -> None:
    assert (net.layers, net.width, net.inner_width, net.state_size) == (LAYERS, WIDTH, INNER, STATE)
    expected = formula(tiny_weights(), DATA)
    np.testing.assert_allclose(net.forward(DATA), expected, atol=2e-5)
    assert net.segment(DATA) == [LABELS[place] for place in expected.argmax(axis=1)]


def test_recorded_scans_are_the_networks_own(net: ByteSegmenter) -> None:
    calls = mamba.record(net, DATA)
    assert [(call.layer, call.direction) for call in calls] == [
        (layer, way) for layer in range(LAYERS) for way in ("forward", "backward")
    ]
    for ahead, back in zip(calls[::2], calls[1::2], strict=True):
        for name in ("u", "dt", "B", "C", "z"):
            np.testing.assert_array_equal(getattr(ahead, name)[::-1], getattr(back, name))
        assert ahead.A is not back.A
        np.testing.assert_array_equal(ahead.A, back.A)
        assert (ahead.dt > 0).all()
        assert (ahead.A < 0).all()
    for call in calls:
        np.testing.assert_allclose(float_scan(call), scan_formula(call), rtol=1e-5, atol=1e-5)
    # What the hook answers is what the network goes on with.
    answers = iter([float_scan(call) for call in calls])
    np.testing.assert_array_equal(net.forward(DATA, lambda call: next(answers)), net.forward(DATA))


def test_a_hook_without_memory_labels_each_byte_alone(net: ByteSegmenter) -> None:
    """With the scan left out only the short convolutions see neighbours, two layers of them reach four bytes."""
    silent = net.forward(DATA, lambda call: np.zeros_like(call.u))
    changed = net.forward(DATA[:-1] + b"x", lambda call: np.zeros_like(call.u))
    np.testing.assert_array_equal(silent, net.forward(DATA, lambda call: call.u * 0))
    np.testing.assert_array_equal(silent[:-4], changed[:-4])
    assert np.abs(net.forward(DATA)[0] - net.forward(DATA[:-1] + b"x")[0]).max() > 1e-6


def test_quality(net: ByteSegmenter) -> None:
    samples = [TypedText(b"[1, 2]\na;b", (("json", 7), ("csv", 3))), TypedText(b"words", (("text", 5),))]
    same = mamba.compare_segmenter(net, samples, float_scan)
    assert (same.agreement, same.mean_abs_dlogit, same.bytes) == (1, 0, 15)
    wanted = ["json"] * 7 + ["csv"] * 3 + ["text"] * 5
    own = net.segment(samples[0].data) + net.segment(samples[1].data)
    assert same.accuracy == same.float_accuracy == np.mean([a == b for a, b in zip(own, wanted, strict=True)])

    def half(call: ScanCall) -> np.ndarray:
        return float_scan(call) / 2

    other = mamba.compare_segmenter(net, samples, half)
    changed = net.segment(samples[0].data, half) + net.segment(samples[1].data, half)
    assert other.agreement == np.mean([a == b for a, b in zip(own, changed, strict=True)]) < 1
    assert other.mean_abs_dlogit > 0.01
    with pytest.raises(UserError, match="at least one text"):
        mamba.compare_segmenter(net, [], half)
    with pytest.raises(UserError, match="'cobol' is none of"):
        mamba.compare_segmenter(net, [TypedText(b"a", (("cobol", 1),))], half)


def test_bad_input(net: ByteSegmenter, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one byte"):
        net.forward(b"")
    with pytest.raises(ValueError, match=r"scan hook, layer 0: returned shape \(1, 6\)"):
        net.forward(DATA, lambda call: call.u[:1])
    with pytest.raises(UserError, match=r"manifest\.json: not a readable list of labels"):
        ByteSegmenter.read(tmp_path)
    weights = tiny_weights()
    del weights["CheckpointMambaBlock1D_1__D"]
    with pytest.raises(UserError, match=r"'CheckpointMambaBlock1D_1__D' is missing; a Mamba segmenter has it"):
        ByteSegmenter.read(write(tmp_path, weights))
    weights["CheckpointMambaBlock1D_1__D"] = np.zeros(INNER + 1)
    with pytest.raises(UserError, match=r"has shape \(7,\), expected \(6,\)"):
        ByteSegmenter.read(write(tmp_path, weights))
    np.savez(tmp_path / "mamba_al.npz", Embed_0__embedding=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="not a readable"):
        ByteSegmenter.read(tmp_path)
    (tmp_path / "mamba_al.npz").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(UserError, match="not a readable"):
        ByteSegmenter.read(tmp_path)


def test_samples_are_what_they_say() -> None:
    samples = typed_samples(seed=3, length=256)
    assert samples == typed_samples(seed=3, length=256) != typed_samples(seed=4, length=256)
    assert [len(sample.data) for sample in samples] == [sum(part[1] for part in sample.parts) for sample in samples]
    assert [len(sample.data) for sample in samples] == [256] * 9
    assert len({label for sample in samples for label, _ in sample.parts}) == 8


@pytest.fixture(scope="module")
def published() -> ByteSegmenter:
    try:
        return ByteSegmenter.read(store.locate("mamba"))
    except UserError as error:
        pytest.skip(str(error))


def test_published_network_knows_the_types(published: ByteSegmenter) -> None:
    for sample in typed_samples(length=256)[:7]:
        found = published.segment(sample.data)
        assert found.count(sample.parts[0][0]) >= 0.9 * len(found)


def test_published_network_is_the_packages_graph(published: ByteSegmenter) -> None:
    """Logits that onnxruntime 1.32 computed from `mamba_al.onnx` of the same package."""
    expected = {0: (-2.85161, -2.5189), 80: (-6.65797, -1.05097), 160: (-3.89455, -3.00221)}
    logits = published.forward(typed_samples(length=256)[-1].data)
    json_label, python = published.labels.index("json"), published.labels.index("python")
    for byte, values in expected.items():
        np.testing.assert_allclose(logits[byte, [json_label, python]], values, atol=2e-5)
