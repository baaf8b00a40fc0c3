"""The ViT computes its architecture, hands its attention to the hook as promised, and is the published network."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from accel.errors import UserError
from tests.workloads.nets_tiny import _attend_one
from workloads.nets import store, vit
from workloads.nets.attention import AttentionCall, dense_attend
from workloads.nets.tensor_file import NamedTensors, read_onnx
from workloads.nets.vit import FocusViT
from workloads.nets.vit_images import drawn_images, photograph

WIDTH, HEADS, LAYERS, PATCH, GRID, LEARNED, INNER = 8, 2, 2, 2, 3, 4, 12
SIZE = PATCH * GRID
COLOURS = (8, 5, 3)  # channels through the decoder


def tiny_weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    d = WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.embeddings.cls_token": (1, 1, d),
        "/backbone/embeddings/Concat_6[0]": (1, 1, d),
        "/backbone/embeddings/Reshape_1[0]": (1, LEARNED**2, d),
        "backbone.embeddings.patch_embeddings.projection.weight": (d, 3, PATCH, PATCH),
        "backbone.embeddings.patch_embeddings.projection.bias": (d,),
        "decoder.final_conv.weight": (1, COLOURS[-1], 1, 1),
        "decoder.final_conv.bias": (1,),
        "backbone.layernorm.weight": (d,),
        "backbone.layernorm.bias": (d,),
    }
    for layer in range(LAYERS):
        name = f"backbone.encoder.layer.{layer}"
        parts = {f"attention/attention/{part}": (d, d) for part in ("query", "key", "value")}
        parts |= {"attention/output/dense": (d, d), "mlp/fc1": (d, INNER), "mlp/fc2": (INNER, d)}
        for part, shape in parts.items():
            shapes[f"/backbone/encoder/layer.{layer}/{part}/MatMul[1]"] = shape
            shapes[f"{name}.{part.replace('/', '.')}.bias"] = shape[1:]
        for norm in ("norm1", "norm2"):
            shapes |= {f"{name}.{norm}.weight": (d,), f"{name}.{norm}.bias": (d,)}
        shapes |= {f"{name}.layer_scale{place}.lambda1": (d,) for place in (1, 2)}
    for step, (inputs, outputs) in enumerate(itertools.pairwise(COLOURS), start=1):
        shapes |= {f"decoder.upconv{step}.weight": (inputs, outputs, 4, 4), f"decoder.upconv{step}.bias": (outputs,)}
        shapes |= {f"decoder.bn{step}.{part}": (outputs,) for part in ("weight", "bias", "running_mean")}
        shapes[f"decoder.bn{step}.running_var"] = (outputs,)
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: abs(array) if name.endswith("var") else array for name, array in weights.items()}


def network(weights: dict[str, np.ndarray]) -> FocusViT:
    return FocusViT(NamedTensors(Path("tiny.onnx"), weights, "a ViT with a focus decoder"), SIZE, WIDTH // HEADS)


@pytest.fixture(scope="module")
def net() -> FocusViT:
    return network(tiny_weights())


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(5).uniform(0, 1, (SIZE, SIZE, 3)).astype(np.float32)


def tokens_formula(weights: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """Hidden states in float64, token by token and head by head."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    dh = WIDTH // HEADS

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return (x - x.mean()) / math.sqrt(x.var() + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]

    colours = (image.astype(np.float64) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    resize = vit.cubic_resize(LEARNED, GRID)
    learned = w["/backbone/embeddings/Reshape_1[0]"][0].reshape(LEARNED, LEARNED, WIDTH)
    state = [w["backbone.embeddings.cls_token"][0, 0] + w["/backbone/embeddings/Concat_6[0]"][0, 0]]
    for row in range(GRID):
        for column in range(GRID):
            x = w["backbone.embeddings.patch_embeddings.projection.bias"].copy()
            for y in range(PATCH):
                for z in range(PATCH):
                    pixel = colours[row * PATCH + y, column * PATCH + z]
                    x += w["backbone.embeddings.patch_embeddings.projection.weight"][:, :, y, z] @ pixel
            state.append(x + np.einsum("a,b,abd->d", resize[row], resize[column], learned))
    for layer in range(LAYERS):
        name, node = f"backbone.encoder.layer.{layer}", f"/backbone/encoder/layer.{layer}"

        def dense(x: np.ndarray, part: str, name: str = name, node: str = node) -> np.ndarray:
            return x @ w[f"{node}/{part}/MatMul[1]"] + w[f"{name}.{part.replace('/', '.')}.bias"]

        inputs = [norm(x, f"{name}.norm1") for x in state]
        q, k, v = (
            np.array([dense(x, f"attention/attention/{part}").reshape(HEADS, dh) for x in inputs])
            for part in ("query", "key", "value")
        )
        for t, x in enumerate(state):
            mixed = np.concatenate([_attend_one(q[t, h], k[:, h], v[:, h]) for h in range(HEADS)])
            x = x + dense(mixed, "attention/output/dense") * w[f"{name}.layer_scale1.lambda1"]
            inner = [0.5 * y * math.erfc(-y / math.sqrt(2)) for y in dense(norm(x, f"{name}.norm2"), "mlp/fc1")]
            state[t] = x + dense(np.array(inner), "mlp/fc2") * w[f"{name}.layer_scale2.lambda1"]
    return np.array([norm(x, "backbone.layernorm") for x in state])


def focus_formula(weights: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """The map in float64; every point of a step gathers from the points that reach it."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    x = tokens[1:].reshape(GRID, GRID, WIDTH)
    for step in range(1, len(COLOURS)):
        side = len(x)
        y = np.zeros((2 * side, 2 * side, COLOURS[step]))
        for row, column in np.ndindex(2 * side, 2 * side):
            y[row, column] = w[f"decoder.upconv{step}.bias"]
            for i, j in np.ndindex(side, side):
                down, right = row + 1 - 2 * i, column + 1 - 2 * j
                if 0 <= down < 4 and 0 <= right < 4:
                    y[row, column] += x[i, j] @ w[f"decoder.upconv{step}.weight"][:, :, down, right]
        name = f"decoder.bn{step}"
        y = (y - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + 1e-5)
        x = np.maximum(y * w[f"{name}.weight"] + w[f"{name}.bias"], 0)
    return 1 / (1 + np.exp(-(x @ w["decoder.final_conv.weight"].ravel() + w["decoder.final_conv.bias"])))


def test_network_is_its_formula(net: FocusViT, image: np.ndarray) -> None:
    assert (net.layers, net.heads, net.head_dim, net.grid, net.tokens) == (LAYERS, HEADS, WIDTH // HEADS, GRID, 10)
    expected = tokens_formula(tiny_weights(), image)
    tokens = net.forward(image)
    np.testing.assert_allclose(tokens, expected, atol=2e-5)
    np.testing.assert_allclose(net.focus(tokens), focus_formula(tiny_weights(), expected), atol=2e-5)


def test_positions_are_resized_as_onnx_does() -> None:
    np.testing.assert_array_equal(vit.cubic_resize(5, 5), np.eye(5))
    matrix = vit.cubic_resize(37, 16)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    # Doubling: the new points lie 1/4 and 3/4 between the old ones, where the cubic with -3/4 has these weights.
    quarter = np.array([-0.10546875, 0.87890625, 0.26171875, -0.03515625])
    np.testing.assert_allclose(vit.cubic_resize(6, 12)[5, 1:5], quarter)
    np.testing.assert_allclose(vit.cubic_resize(6, 12)[6, 1:5], quarter[::-1])
    # At the edge, the points outside count as the first one.
    np.testing.assert_allclose(vit.cubic_resize(6, 12)[1, :3], [quarter[0] + quarter[1], quarter[2], quarter[3]])


def test_hook_gets_every_layer_and_its_answer_counts(net: FocusViT, image: np.ndarray) -> None:
    calls = vit.record(net, image)
    assert [(call.layer, call.causal, call.q_start) for call in calls] == [(0, False, 0), (1, False, 0)]
    assert {part.shape for call in calls for part in call[1:4]} == {(HEADS, net.tokens, WIDTH // HEADS)}
    answers = iter([dense_attend(*call[:4], causal=False, q_start=0) for call in calls])

    def replay(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int) -> np.ndarray:
        return next(answers)

    np.testing.assert_array_equal(net.forward(image, replay), net.forward(image))
    assert np.abs(net.forward(image, blind) - net.forward(image)).max() > 0.01


def blind(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int) -> np.ndarray:
    """Attention that sees nothing."""
    return np.zeros_like(q)


def test_pruned_tokens_keep_their_state(net: FocusViT, image: np.ndarray) -> None:
    class Hook:
        def __init__(self) -> None:
            self.calls: list[AttentionCall] = []

        def __call__(
            self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int
        ) -> np.ndarray:
            self.calls.append(AttentionCall(layer, q, k, v, causal, q_start))
            return dense_attend(layer, q, k, v, causal=causal, q_start=q_start)

        def alive(self, layer: int) -> np.ndarray | None:
            return np.array([0, 2, 5]) if layer == 1 else None

    hook = Hook()
    pruned = net.forward(image, hook)
    assert [call.k.shape[1] for call in hook.calls] == [10, 3]
    one_layer = {name: array for name, array in tiny_weights().items() if "layer.1" not in name}
    gone = [1, 3, 4, 6, 7, 8, 9]
    np.testing.assert_allclose(pruned[gone], network(one_layer).forward(image)[gone], atol=1e-6)


def test_quality(net: FocusViT, image: np.ndarray) -> None:
    images = [image, image[::-1].copy()]
    same = vit.compare_vision(net, images, dense_attend)
    assert same.images == 2
    np.testing.assert_allclose(same[:5], 1, atol=1e-9)
    other = vit.compare_vision(net, images, blind)
    pairs = [(net.forward(picture), net.forward(picture, blind)) for picture in images]
    cosines = [[a @ b / math.sqrt(a @ a * (b @ b)) for a, b in zip(*pair, strict=True)] for pair in pairs]
    maps = [np.corrcoef(net.focus(a).ravel(), net.focus(b).ravel())[0, 1] for a, b in pairs]
    expected = [np.mean([c[0] for c in cosines]), min(c[0] for c in cosines), np.mean([c[1:] for c in cosines])]
    np.testing.assert_allclose(other[:5], [*expected, np.mean(maps), min(maps)], atol=1e-5)
    assert other.least_cosine < other.mean_cosine < 0.999
    with pytest.raises(UserError, match="at least one image"):
        vit.compare_vision(net, [], blind)


def test_bad_input(net: FocusViT) -> None:
    with pytest.raises(UserError, match=r"image: shape \(6, 5, 3\), expected \(6, 6, 3\)"):
        net.forward(np.zeros((6, 5, 3)))
    weights = tiny_weights()
    del weights["/backbone/encoder/layer.1/mlp/fc1/MatMul[1]"]
    with pytest.raises(UserError, match=r"layer\.1/mlp/fc1/MatMul\[1\]' is missing; a ViT"):
        network(weights)
    with pytest.raises(UserError, match="2 layers do not make"):
        FocusViT(NamedTensors(Path("x"), tiny_weights(), "a ViT"), image_size=7, head_dim=4)


def test_reading_onnx_constants(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    node = onnx.helper.make_node("MatMul", ["x", "onnx::MatMul_7"], ["y"], name="/layer/MatMul")
    constants = [onnx.numpy_helper.from_array(matrix, "onnx::MatMul_7")]
    constants.append(onnx.numpy_helper.from_array(np.array([3]), "count"))
    graph = onnx.helper.make_graph([node], "g", [], [], constants)
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    tensors = read_onnx(path, "a network")
    np.testing.assert_array_equal(tensors.take("/layer/MatMul[1]", 2, 3), matrix)
    assert tensors.has("onnx::MatMul_7")
    assert not tensors.has("/layer/MatMul[0]")
    with pytest.raises(UserError, match="'count' holds int64"):
        tensors.take("count", 1)
    with pytest.raises(UserError, match="expected 3 dimensions"):
        tensors.shape("/layer/MatMul[1]", 3)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="not a readable ONNX file"):
        read_onnx(path, "a network")
    with pytest.raises(UserError, match="not a readable ONNX file"):
        read_onnx(tmp_path / "none.onnx", "a network")


def test_drawn_images_are_seeded() -> None:
    images = drawn_images(2, size=32, seed=4)
    np.testing.assert_array_equal(images, drawn_images(2, size=32, seed=4))
    assert images[0].shape == (32, 32, 3)
    assert images[0].dtype == np.float32
    assert 0 <= np.min(images) < np.max(images) <= 1
    assert np.abs(images[0] - images[1]).max() > 0.1


def fetched(name: str) -> Path:
    try:
        return store.locate(name)
    except UserError as error:
        pytest.skip(str(error))


def test_published_network_is_the_packages_graph() -> None:
    """Hidden states and map that onnxruntime 1.32 computed from the same file for this drawing."""
    pytest.importorskip("onnx")
    net = FocusViT.read(fetched("vit-s"))
    assert (net.layers, net.heads, net.head_dim, net.tokens) == (12, 6, 64, 257)
    tokens = net.forward(drawn_images(1)[0])
    np.testing.assert_allclose(
        tokens[[0, 0, 100, 256], [0, 383, 7, 200]], (-2.17298, 1.30202, 2.58793, 4.71115), atol=3e-5
    )
    focus = net.focus(tokens)
    assert focus.shape == (128, 128)
    np.testing.assert_allclose(focus[[5, 40, 64, 90], [7, 64, 64, 30]], (0.03127, 0.0375, 0.03819, 0.98073), atol=2e-5)


def test_photographs() -> None:
    pytest.importorskip("PIL")
    fetched("photographs")
    picture = photograph("coffee", size=50)
    assert picture.shape == (50, 50, 3)
    # Means of the middle square of the file, by colour.
    np.testing.assert_allclose(picture.mean(axis=(0, 1)), (0.6010, 0.3052, 0.1827), atol=0.002)
    with pytest.raises(UserError, match=r"photograph 'dog': .* has astronaut, chelsea, coffee"):
        photograph("dog")
