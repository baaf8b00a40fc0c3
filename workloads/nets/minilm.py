"""all-MiniLM-L6-v2 and other BERT sentence encoders, in NumPy float32, with the attention left to a hook.

Architecture: BERT (post-norm, learned positions, exact GELU), Hugging Face's tensor names; mean pooling and unit
length as the model card of all-MiniLM-L6-v2 prescribes. All sizes come from config.json.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np

from accel.errors import UserError
from workloads.nets.attention import Attend, AttentionCall, apply_attend, surviving_tokens
from workloads.nets.readers import check_ids, read_safetensors, read_tokenizer

# sentence_bert_config.json of all-MiniLM-L6-v2: the length that the sentence model was made for.
MAX_TOKENS = 256

Affine = tuple[np.ndarray, np.ndarray]  # weight (out, in) or (d,), bias (out,)


@numba.vectorize(["float32(float32)"], cache=True)
def gelu(x: np.float32) -> np.floating:
    """x times the normal distribution function of x, exact (erf), float32."""
    return np.float32(0.5) * x * (np.float32(1.0) + math.erf(x * np.float32(math.sqrt(0.5))))


class _Layer(NamedTuple):
    qkv: Affine  # the three projections stacked: (3 d, d), (3 d,)
    attn_out: Affine
    attn_norm: Affine
    up: Affine
    down: Affine
    ffn_norm: Affine


class MiniLM:
    """A BERT encoder read from model.safetensors, config.json and tokenizer.json in `folder`.

    Attributes: layers, width, heads, head_dim, vocabulary, context_length. Raises UserError when a file is missing,
    damaged or belongs to another kind of network.
    """

    def __init__(self, folder: Path) -> None:
        self._path = Path(folder) / "model.safetensors"
        config = _read_config(Path(folder) / "config.json")
        self.layers: int = config["num_hidden_layers"]
        self.width: int = config["hidden_size"]
        self.heads: int = config["num_attention_heads"]
        self.head_dim = self.width // self.heads
        self.vocabulary: int = config["vocab_size"]
        self.context_length: int = config["max_position_embeddings"]
        self._norm_epsilon = np.float32(config["layer_norm_eps"])
        self._tensors = read_safetensors(self._path)
        self._tokenizer = read_tokenizer(Path(folder) / "tokenizer.json")
        d, ffn = self.width, config["intermediate_size"]
        self._words = self._tensor("embeddings.word_embeddings.weight", self.vocabulary, d)
        # One segment only, so its type embedding is the same constant for every token.
        segment = self._tensor("embeddings.token_type_embeddings.weight", config["type_vocab_size"], d)[0]
        self._places = self._tensor("embeddings.position_embeddings.weight", self.context_length, d) + segment
        self._input_norm = self._norm_weights("embeddings.LayerNorm")
        self._weights = [self._read_layer(f"encoder.layer.{layer}", d, ffn) for layer in range(self.layers)]
        self._tensors = {}

    def _tensor(self, name: str, *shape: int) -> np.ndarray:
        found = self._tensors.get(name)
        if found is None:
            raise UserError(f"{self._path}: tensor {name!r} is missing; a BERT encoder has it")
        if found.shape != shape:
            raise UserError(f"{self._path}: tensor {name!r} has shape {found.shape}, config.json says {shape}")
        return found

    def _affine(self, name: str, outputs: int, inputs: int) -> Affine:
        return self._tensor(f"{name}.weight", outputs, inputs), self._tensor(f"{name}.bias", outputs)

    def _norm_weights(self, name: str) -> Affine:
        return self._tensor(f"{name}.weight", self.width), self._tensor(f"{name}.bias", self.width)

    def _read_layer(self, name: str, d: int, ffn: int) -> _Layer:
        parts = [self._affine(f"{name}.attention.self.{part}", d, d) for part in ("query", "key", "value")]
        return _Layer(
            qkv=(np.concatenate([weight for weight, _ in parts]), np.concatenate([bias for _, bias in parts])),
            attn_out=self._affine(f"{name}.attention.output.dense", d, d),
            attn_norm=self._norm_weights(f"{name}.attention.output.LayerNorm"),
            up=self._affine(f"{name}.intermediate.dense", ffn, d),
            down=self._affine(f"{name}.output.dense", d, ffn),
            ffn_norm=self._norm_weights(f"{name}.output.LayerNorm"),
        )

    def tokenize(self, text: str, max_tokens: int = MAX_TOKENS) -> list[int]:
        """Token ids of a text between [CLS] and [SEP]; a longer text is cut to `max_tokens`, the two included."""
        ids = list(self._tokenizer.encode(text).ids)
        return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]

    def forward(self, ids: Sequence[int], attend: Attend | None = None) -> np.ndarray:
        """Hidden state of every token after the last layer, float32 (T, d).

        When the hook has `alive`, a token that is dropped before layer n keeps the state it had there.
        Raises UserError for ids outside the vocabulary and for more tokens than the network has positions.
        """
        return self._run(ids, attend)[0]

    def embed(self, text: str, attend: Attend | None = None) -> np.ndarray:
        """Embedding of a text, float32 (d,), length 1: the mean over the tokens that the last layer processed.

        Without token pruning these are all tokens. With it, pruned tokens do not enter the mean, as in SpAtten, where
        what is pruned is gone for everything that follows.
        """
        state, alive = self._run(self.tokenize(text), attend)
        pooled = state[alive].mean(axis=0)
        return pooled / np.linalg.norm(pooled)

    def _run(self, ids: Sequence[int], attend: Attend | None) -> tuple[np.ndarray, np.ndarray]:
        """Hidden states (T, d), and the places of the tokens that the last layer processed."""
        array = check_ids(ids, self.vocabulary, self.context_length, "encoder")
        state = self._norm(self._words[array] + self._places[: len(array)], self._input_norm)
        alive = np.arange(len(array))
        for layer, weights in enumerate(self._weights):
            alive = surviving_tokens(attend, layer, alive)
            x = state[alive]
            product = _apply(weights.qkv, x).reshape(len(x), 3, self.heads, self.head_dim)
            q, k, v = np.ascontiguousarray(product.transpose(1, 2, 0, 3))
            call = AttentionCall(layer, q, k, v, causal=False, q_start=0)
            mixed = apply_attend(attend, call).transpose(1, 0, 2).reshape(len(x), -1)
            x = self._norm(x + _apply(weights.attn_out, mixed), weights.attn_norm)
            state[alive] = self._norm(x + _apply(weights.down, gelu(_apply(weights.up, x))), weights.ffn_norm)
        return state, alive

    def _norm(self, x: np.ndarray, weights: Affine) -> np.ndarray:
        centred = x - x.mean(axis=1, keepdims=True)
        variance = np.einsum("td,td->t", centred, centred)[:, None] / np.float32(self.width)
        return centred / np.sqrt(variance + self._norm_epsilon) * weights[0] + weights[1]


def _apply(affine: Affine, x: np.ndarray) -> np.ndarray:
    return x @ affine[0].T + affine[1]


def _read_config(path: Path) -> dict:
    """config.json, with everything in it that a BERT encoder needs. Raises UserError otherwise."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable configuration ({error})") from error
    expected = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UserError(f"{path}: {key} is {config[key]!r}; only {value!r} is supported")
    sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "intermediate_size")
    missing = [key for key in (*sizes, "max_position_embeddings", "layer_norm_eps") if key not in config]
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing; the config.json of a BERT encoder has it")
    return {"type_vocab_size": 2, **config}
