"""Networks of some random weights in the published file formats, and what they compute, written out in float64.

The formulas here go token by token and head by head, with complex numbers for the rotation, so that they share no code
and no shortcuts with `workloads.nets`.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "num_hidden_layers": 2,
    "hidden_size": 24,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "vocab_size": 30,
    "max_position_embeddings": 20,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}
LLAMA: dict[str, Any] = {
    "layers": 2,
    "d": 64,
    "q_heads": 4,
    "kv_heads": 2,
    "dh": 16,
    "ffn": 96,
    "base": 500.0,
    "epsilon": 1e-5,
}
MERGES = ["1 2", "t h", "th e", "Ġ the"]

Weights = dict[str, np.ndarray]


def write_bert(folder: Path, seed: int = 0) -> Weights:
    """A two-layer encoder in `folder`; returns its tensors."""
    save_file = pytest.importorskip("safetensors.numpy").save_file
    rng = np.random.default_rng(seed)
    d, ffn = BERT["hidden_size"], BERT["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (BERT["vocab_size"], d),
        "embeddings.position_embeddings.weight": (BERT["max_position_embeddings"], d),
        "embeddings.token_type_embeddings.weight": (2, d),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(BERT["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        dense = {f"attention.self.{part}": (d, d) for part in ("query", "key", "value")}
        dense |= {"attention.output.dense": (d, d), "intermediate.dense": (ffn, d), "output.dense": (d, ffn)}
        for part, shape in dense.items():
            shapes |= {f"{name}.{part}.weight": shape, f"{name}.{part}.bias": shape[:1]}
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    weights = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        weights[f"{name}.weight"] = rng.uniform(0.5, 1.5, d).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 0.1, d).astype(np.float32)
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(BERT))
    _write_wordpiece(folder / "tokenizer.json")
    return weights


def _write_wordpiece(path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s", "sat"]
    model = tokenizers.models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    # The published file asks for padding to 128 tokens; a loader that heeds it would embed padding.
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(max_length=12)
    tokenizer.save(str(path))


def write_llama(folder: Path, seed: int = 0, **changes: object) -> Weights:
    """A two-layer decoder in `folder`, embedding in Q8_0 and one matrix in Q4_1; returns its tensors, dequantised.

    `changes` replace metadata: `architecture`, `pre` (pre-tokeniser), or drop a tensor: `without`.
    """
    gguf = pytest.importorskip("gguf")
    rng = np.random.default_rng(seed)
    tokens = ["<|endoftext|>", "<|im_end|>", *_byte_alphabet(), "12", "th", "the", "Ġthe"]
    d, ffn, dh = LLAMA["d"], LLAMA["ffn"], LLAMA["dh"]
    shapes = {"token_embd.weight": (len(tokens), d), "output_norm.weight": (d,)}
    for layer in range(LLAMA["layers"]):
        rows = {"attn_q": LLAMA["q_heads"] * dh, "attn_k": LLAMA["kv_heads"] * dh, "attn_v": LLAMA["kv_heads"] * dh}
        shapes |= {f"blk.{layer}.{name}.weight": (count, d) for name, count in rows.items()}
        shapes |= {f"blk.{layer}.{name}.weight": (d,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{layer}.{name}.weight": (ffn, d) for name in ("ffn_gate", "ffn_up")}
        shapes |= {f"blk.{layer}.attn_output.weight": (d, rows["attn_q"]), f"blk.{layer}.ffn_down.weight": (d, ffn)}
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / "tiny.gguf", str(changes.get("architecture", "llama")))
    writer.add_block_count(LLAMA["layers"])
    writer.add_context_length(100)
    writer.add_embedding_length(d)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(LLAMA["q_heads"])
    writer.add_head_count_kv(LLAMA["kv_heads"])
    writer.add_rope_freq_base(LLAMA["base"])
    writer.add_layer_norm_rms_eps(LLAMA["epsilon"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(str(changes.get("pre", "smollm")))
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(1)
    weights = {}
    quantised = {"token_embd.weight": gguf.GGMLQuantizationType.Q8_0, "blk.0.attn_q.weight": "Q4_1"}
    for name, shape in shapes.items():
        mean = 1.0 if "norm" in name else 0.0
        array = rng.normal(mean, 0.25, shape).astype(np.float32)
        kind = quantised.get(name)
        if kind == "Q4_1":
            kind = gguf.GGMLQuantizationType.Q4_1
        if kind is not None:
            stored = gguf.quantize(array, kind)
            array = gguf.dequantize(stored, kind)
        if name == changes.get("without"):
            continue
        writer.add_tensor(name, array if kind is None else stored, raw_dtype=kind)
        weights[name] = array
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def _byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in byte-level BPE."""
    return sorted(pytest.importorskip("tokenizers").pre_tokenizers.ByteLevel.alphabet())


def _attend_one(query: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    scores = [math.fsum(query * key) / math.sqrt(len(query)) for key in keys]
    weights = np.exp(np.array(scores) - max(scores))
    return (weights / weights.sum()) @ values


def bert_formula(weights: Weights, ids: list[int], alive: dict[int, list[int]] | None = None) -> np.ndarray:
    """BERT in float64: hidden states (T, d); `alive` maps a layer to the tokens it and all later layers process."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    d, heads = BERT["hidden_size"], BERT["num_attention_heads"]
    dh = d // heads

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return (x - x.mean()) / math.sqrt(x.var() + BERT["layer_norm_eps"]) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    state = []
    for place, token in enumerate(ids):
        x = w["embeddings.word_embeddings.weight"][token] + w["embeddings.position_embeddings.weight"][place]
        state.append(norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm"))
    present = list(range(len(ids)))
    for layer in range(BERT["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        present = (alive or {}).get(layer, present)
        q, k, v = (
            {t: dense(state[t], f"{name}.attention.self.{part}") for t in present} for part in ("query", "key", "value")
        )
        for t in present:
            mixed = []
            for head in range(heads):
                cut = slice(head * dh, (head + 1) * dh)
                mixed.append(
                    _attend_one(
                        q[t][cut], np.array([k[s][cut] for s in present]), np.array([v[s][cut] for s in present])
                    )
                )
            out = dense(np.concatenate(mixed), f"{name}.attention.output.dense")
            x = norm(state[t] + out, f"{name}.attention.output.LayerNorm")
            inner = [0.5 * y * math.erfc(-y / math.sqrt(2)) for y in dense(x, f"{name}.intermediate.dense")]
            state[t] = norm(x + dense(np.array(inner), f"{name}.output.dense"), f"{name}.output.LayerNorm")
    return np.array(state)


def llama_formula(weights: Weights, ids: list[int]) -> np.ndarray:
    """Llama in float64: logits (T, vocabulary)."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    dh, group = LLAMA["dh"], LLAMA["q_heads"] // LLAMA["kv_heads"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / math.sqrt((x**2).mean() + LLAMA["epsilon"]) * w[name]

    def turn(head: np.ndarray, place: int) -> np.ndarray:
        pairs = head[0::2] + 1j * head[1::2]
        pairs = pairs * np.exp([1j * place / LLAMA["base"] ** (2 * i / dh) for i in range(dh // 2)])
        return np.stack([pairs.real, pairs.imag], axis=1).ravel()

    state = [w["token_embd.weight"][token] for token in ids]
    for layer in range(LLAMA["layers"]):
        name = f"blk.{layer}"
        keys, values = [], []
        for t, x in enumerate(state):
            y = norm(x, f"{name}.attn_norm.weight")
            q = (w[f"{name}.attn_q.weight"] @ y).reshape(-1, dh)
            keys.append([turn(head, t) for head in (w[f"{name}.attn_k.weight"] @ y).reshape(-1, dh)])
            values.append((w[f"{name}.attn_v.weight"] @ y).reshape(-1, dh))
            seen, mixes = np.array(keys), np.array(values)
            mixed = [_attend_one(turn(q[h], t), seen[:, h // group], mixes[:, h // group]) for h in range(len(q))]
            x = x + w[f"{name}.attn_output.weight"] @ np.concatenate(mixed)
            y = norm(x, f"{name}.ffn_norm.weight")
            gate = w[f"{name}.ffn_gate.weight"] @ y
            inner = gate / (1 + np.exp(-gate)) * (w[f"{name}.ffn_up.weight"] @ y)
            state[t] = x + w[f"{name}.ffn_down.weight"] @ inner
    return np.array([w["token_embd.weight"] @ norm(x, "output_norm.weight") for x in state])
