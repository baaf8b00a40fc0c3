"""The networks compute what their architectures say, and hand the hook exactly what its contract promises."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import UserError
from tests.workloads.nets_tiny import BERT, LLAMA, bert_formula, llama_formula, write_bert, write_llama
from workloads.nets.attention import AttentionCall, dense_attend, record
from workloads.nets.minilm import MiniLM
from workloads.nets.smollm2 import SmolLM2

BERT_IDS = [2, 7, 29, 5, 5, 11, 0, 3]
LLAMA_IDS = [0, 40, 41, 200, 17, 17, 99, 250, 3, 60, 61]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[MiniLM, dict]:
    folder = tmp_path_factory.mktemp("bert")
    weights = write_bert(folder)
    return MiniLM(folder), weights


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmolLM2, dict]:
    folder = tmp_path_factory.mktemp("llama")
    weights = write_llama(folder)
    return SmolLM2(folder), weights


class Hook:
    """Dense attention that notes its calls and lets only some tokens into a layer."""

    def __init__(self, alive: dict[int, list[int]] | None = None) -> None:
        self.kept = alive or {}
        self.calls: list[AttentionCall] = []

    def __call__(
        self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int
    ) -> np.ndarray:
        self.calls.append(AttentionCall(layer, q, k, v, causal, q_start))
        return dense_attend(layer, q, k, v, causal=causal, q_start=q_start)

    def alive(self, layer: int) -> np.ndarray | None:
        return np.array(self.kept[layer]) if layer in self.kept else None


def test_encoder_is_bert(bert: tuple[MiniLM, dict]) -> None:
    net, weights = bert
    np.testing.assert_allclose(net.forward(BERT_IDS), bert_formula(weights, BERT_IDS), atol=2e-5)


def test_encoder_with_pruned_tokens_runs_on_the_survivors_only(bert: tuple[MiniLM, dict]) -> None:
    net, weights = bert
    alive = {1: [0, 2, 3, 7]}
    hook = Hook(alive)
    state = net.forward(BERT_IDS, attend=hook)
    np.testing.assert_allclose(state, bert_formula(weights, BERT_IDS, alive), atol=2e-5)
    assert [call.q.shape[1] for call in hook.calls] == [8, 4]


def test_embedding_is_the_mean_over_survivors(bert: tuple[MiniLM, dict]) -> None:
    net, weights = bert
    ids = net.tokenize("the cats sat")
    assert ids == [2, 4, 5, 6, 7, 3]
    alive = {1: [0, 3, 5]}
    expected = bert_formula(weights, ids, alive)[alive[1]].mean(axis=0)
    np.testing.assert_allclose(
        net.embed("the cats sat", attend=Hook(alive)), expected / np.linalg.norm(expected), atol=1e-5
    )
    whole = bert_formula(weights, ids).mean(axis=0)
    np.testing.assert_allclose(net.embed("the cats sat"), whole / np.linalg.norm(whole), atol=1e-5)


def test_long_text_is_cut_and_keeps_its_end_token(bert: tuple[MiniLM, dict]) -> None:
    assert bert[0].tokenize("the cat sat " * 9, max_tokens=5) == [2, 4, 5, 7, 3]


def test_decoder_is_llama(llama: tuple[SmolLM2, dict]) -> None:
    net, weights = llama
    expected = llama_formula(weights, LLAMA_IDS)
    np.testing.assert_allclose(net.logits(net.forward(LLAMA_IDS)), expected, atol=2e-4)
    shifted = expected[:-1] - expected[:-1].max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    nll = -log_p[np.arange(len(LLAMA_IDS) - 1), LLAMA_IDS[1:]]
    np.testing.assert_allclose(net.nll(LLAMA_IDS), nll, atol=2e-4)


@settings(max_examples=15)
@given(data=st.data())
def test_decode_is_prefill(llama: tuple[SmolLM2, dict], data: st.DataObject) -> None:
    net, _ = llama
    ids = data.draw(st.lists(st.integers(0, net.vocabulary - 1), min_size=2, max_size=24))
    prompt = data.draw(st.integers(1, len(ids) - 1))
    np.testing.assert_allclose(net.decode_nll(ids, prompt), net.nll(ids)[prompt - 1 :], atol=1e-4)


def test_decode_while_the_cache_grows_to_the_full_context(llama: tuple[SmolLM2, dict]) -> None:
    net, _ = llama
    ids = list(range(100))
    cache = net.new_cache()
    parts = [net.forward(part, cache=cache) for part in (ids[:60], ids[60:70], ids[70:])]
    np.testing.assert_allclose(np.concatenate(parts), net.forward(ids), atol=1e-4)
    with pytest.raises(UserError, match="at most 0"):
        net.forward([1], cache=cache)


def test_hook_gets_grouped_heads_and_positions(llama: tuple[SmolLM2, dict]) -> None:
    net, _ = llama
    hook = Hook()
    net.decode_hidden(LLAMA_IDS, 8, attend=hook)
    q_heads, kv_heads, dh = LLAMA["q_heads"], LLAMA["kv_heads"], LLAMA["dh"]
    seen = [(call.layer, call.q.shape, call.k.shape, call.v.shape, call.causal, call.q_start) for call in hook.calls]
    steps = [(8, 8, 0), (1, 9, 8), (1, 10, 9)]
    assert seen == [
        (layer, (q_heads, q_len, dh), (kv_heads, k_len, dh), (kv_heads, k_len, dh), True, q_start)
        for q_len, k_len, q_start in steps
        for layer in range(LLAMA["layers"])
    ]
    assert {array.dtype for call in hook.calls for array in (call.q, call.k, call.v)} == {np.dtype(np.float32)}
    with pytest.raises(ValueError, match="read-only"):
        hook.calls[0].k[0, 0, 0] = 1


def test_encoder_hook_is_not_causal(bert: tuple[MiniLM, dict]) -> None:
    calls = record(bert[0], BERT_IDS)
    heads, dh = BERT["num_attention_heads"], BERT["hidden_size"] // BERT["num_attention_heads"]
    assert [(call.layer, call.q.shape, call.causal, call.q_start) for call in calls] == [
        (layer, (heads, len(BERT_IDS), dh), False, 0) for layer in range(BERT["num_hidden_layers"])
    ]


def test_what_the_hook_returns_is_used(llama: tuple[SmolLM2, dict]) -> None:
    net, _ = llama

    def silent(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool, q_start: int) -> np.ndarray:
        return np.zeros_like(q)

    # Without attention a token sees only itself.
    np.testing.assert_allclose(net.forward([5, 6, 7], silent)[2], net.forward([9, 7], silent)[1], atol=1e-5)
    assert np.abs(net.forward([5, 6, 7]) - net.forward([5, 6, 7], silent)).max() > 0.1


def test_decoder_cache_holds_survivors_at_their_own_positions(llama: tuple[SmolLM2, dict]) -> None:
    net, _ = llama
    hook, cache = Hook({1: [0, 3, 4]}), net.new_cache()
    net.forward(LLAMA_IDS[:6], hook, cache)
    net.forward(LLAMA_IDS[6:7], hook, cache)
    assert [(c.layer, c.q.shape[1], c.k.shape[1], c.q_start) for c in hook.calls] == [
        (0, 6, 6, 0),
        (1, 3, 3, 0),
        (0, 1, 7, 6),
        (1, 1, 4, 3),
    ]
    dense = record(net, LLAMA_IDS[:6])
    # Layer 1 of a survivor sees the same input as without pruning, so its rotated key has to be the same.
    np.testing.assert_allclose(hook.calls[1].k, dense[1].k[:, [0, 3, 4]], atol=1e-5)


@pytest.mark.parametrize("alive", [[], [3, 2], [1, 1], [0, 99]])
def test_impossible_survivors_are_refused(bert: tuple[MiniLM, dict], alive: list[int]) -> None:
    with pytest.raises(ValueError, match=r"alive\(1\)"):
        bert[0].forward(BERT_IDS, attend=Hook({1: alive}))


def test_pruned_tokens_do_not_come_back(bert: tuple[MiniLM, dict]) -> None:
    with pytest.raises(ValueError, match=r"alive\(1\): token 2"):
        bert[0].forward(BERT_IDS, attend=Hook({0: [0, 1], 1: [0, 1, 2]}))


def test_hook_of_the_wrong_shape_is_refused(bert: tuple[MiniLM, dict]) -> None:
    def transposed(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, **_: object) -> np.ndarray:
        return q.transpose(1, 0, 2)

    with pytest.raises(ValueError, match="layer 0: returned shape"):
        bert[0].forward(BERT_IDS, attend=transposed)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("q_len", "k_len"), [(1, 700), (600, 700), (513, 513)])
def test_dense_attention_in_blocks(causal: bool, q_len: int, k_len: int) -> None:
    rng = np.random.default_rng(1)
    q = rng.normal(0, 2, (4, q_len, 8)).astype(np.float32)
    k, v = rng.normal(0, 2, (2, 2, k_len, 8)).astype(np.float32)
    start = k_len - q_len
    out = dense_attend(0, q, k, v, causal=causal, q_start=start)
    for row in {0, q_len // 2, min(512, q_len - 1), q_len - 1}:
        seen = start + row + 1 if causal else k_len
        for head in range(4):
            scores = k[head // 2, :seen].astype(np.float64) @ q[head, row] / np.sqrt(8)
            weights = np.exp(scores - scores.max())
            np.testing.assert_allclose(out[head, row], weights @ v[head // 2, :seen] / weights.sum(), atol=1e-5)


def test_dense_attention_survives_huge_scores() -> None:
    q = np.full((1, 2, 4), 1e4, dtype=np.float32)
    out = dense_attend(0, q, q, np.ones((1, 2, 4), dtype=np.float32), causal=True, q_start=0)
    np.testing.assert_array_equal(out, 1)


def test_generate_is_greedy(llama: tuple[SmolLM2, dict]) -> None:
    net, _ = llama
    ids = [5, 77]
    out = net.generate(ids, 6)
    for place, token in enumerate(out):
        assert token == net.logits(net.forward(ids + out[:place]))[-1].argmax()
    assert len(out) == 6 or out[-1] == net.end_token


def test_generate_stops_at_the_end_token(llama: tuple[SmolLM2, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    net, _ = llama
    first = net.generate([5, 77], 1)
    monkeypatch.setattr(net, "end_token", first[0])
    assert net.generate([5, 77], 6) == first


@given(text=st.text(max_size=40))
@settings(max_examples=50)
def test_byte_level_tokens_round_trip(llama: tuple[SmolLM2, dict], text: str) -> None:
    net, _ = llama
    assert net.detokenize(net.tokenize(text)) == text


def test_tokenizer_merges_and_splits_digits(llama: tuple[SmolLM2, dict]) -> None:
    net, _ = llama
    vocabulary = net.vocabulary
    assert net.tokenize("the the") == [vocabulary - 2, vocabulary - 1]
    assert net.tokenize("<|endoftext|>") == [net.document_start] == [0]
    assert len(net.tokenize("1234")) == 4


@pytest.mark.parametrize(
    ("ids", "message"),
    [([], "at least one"), ([1, -1], "-1 is outside"), ([300], "300 is outside"), ([1] * 101, "at most")],
)
def test_bad_token_ids(bert: tuple[MiniLM, dict], llama: tuple[SmolLM2, dict], ids: list[int], message: str) -> None:
    run: Callable[[list[int]], np.ndarray]
    for run in (bert[0].forward, llama[0].forward):
        with pytest.raises(UserError, match=message):
            run(ids)


@pytest.mark.parametrize("prompt", [0, 3, 4])
def test_bad_prompt(llama: tuple[SmolLM2, dict], prompt: int) -> None:
    with pytest.raises(UserError, match=r"expected 1 \.\. 2"):
        llama[0].decode_nll([1, 2, 3], prompt)


@pytest.mark.parametrize(
    ("name", "keep"), [("model.safetensors", 900), ("tokenizer.json", 60), ("config.json", 20), ("config.json", 0)]
)
def test_damaged_encoder_files(tmp_path: Path, name: str, keep: int) -> None:
    write_bert(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:keep])
    with pytest.raises(UserError, match=name):
        MiniLM(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"bert"', '"t5"', "model_type is 't5'"),
        ('"hidden_size": 24', '"hidden_size": 48', r"shape \(30, 24\)"),
        ('"vocab_size"', '"x"', "vocab_size is missing"),
        ('"num_hidden_layers": 2', '"num_hidden_layers": 3', "encoder.layer.2"),
    ],
)
def test_encoder_of_another_kind(tmp_path: Path, old: str, new: str, message: str) -> None:
    write_bert(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        MiniLM(tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 200, 9000, -2000])
def test_cut_gguf(tmp_path: Path, keep: int) -> None:
    write_llama(tmp_path)
    path = tmp_path / "tiny.gguf"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"tiny\.gguf"):
        SmolLM2(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "qwen2"}, "'qwen2' is not supported"),
        ({"pre": "llama-bpe"}, "gpt2/llama-bpe"),
        ({"without": "blk.1.ffn_up.weight"}, "blk.1.ffn_up.weight"),
    ],
)
def test_decoder_of_another_kind(tmp_path: Path, changes: dict, message: str) -> None:
    write_llama(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        SmolLM2(tmp_path)


def test_two_gguf_files_are_one_too_many(tmp_path: Path) -> None:
    write_llama(tmp_path)
    (tmp_path / "other.gguf").write_bytes(b"")
    with pytest.raises(UserError, match="found 2"):
        SmolLM2(tmp_path)


def test_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_llama(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'accel-codesign\[nets\]'"):
        SmolLM2(tmp_path)
