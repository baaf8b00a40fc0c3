"""The machine in the place of a network's attention: close to float when dense, the same words however it is asked."""

import math
from typing import Any

import numpy as np
import pytest

from accel.arch import Arch, load_arch
from accel.errors import UserError
from accel.lower.plan import Plan
from accel.network import EngineAttention, KeyScale, run_minilm, run_smollm2
from accel.program import Lsb, Opcode
from sim.unroll import unroll
from sim.work import OP_STATE
from workloads.kernels import Mask, SoftmaxAttention
from workloads.nets import store, text
from workloads.nets.attention import dense_attend
from workloads.nets.minilm import MiniLM
from workloads.nets.smollm2 import SmolLM2

SPATTEN = load_arch("spatten")
PRUNED = Plan(key_msb_bits=8, key_lsb_bits=4, value_bits=8, lsb=Lsb.TEST, threshold=0.1, local_values=0.5, tokens=0.6)


def random_call(seed: int, heads: tuple[int, int], queries: int, keys: int, dim: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    shapes = [(heads[0], queries, dim), (heads[1], keys, dim), (heads[1], keys, dim)]
    return tuple(rng.normal(0, 1, shape).astype(np.float32) for shape in shapes)


def engine(
    heads: tuple[int, int], queries: int, keys: int, dim: int, mask: Mask, plan: Plan, *, layers: int = 1,
    arch: Arch = SPATTEN, key_scale: KeyScale = "head",
) -> EngineAttention:  # fmt: skip
    return EngineAttention(arch, SoftmaxAttention(*heads, queries, keys, dim, mask), layers, plan, key_scale=key_scale)


@pytest.mark.parametrize("key_scale", ["head", "channel"])
@pytest.mark.parametrize("mask", ["none", "causal"])
@pytest.mark.parametrize(("heads", "dim"), [((4, 4), 32), ((9, 3), 64), ((4, 1), 80), ((2, 2), 128)])
def test_dense_is_float_to_a_thousandth(heads: tuple[int, int], dim: int, mask: Mask, key_scale: KeyScale) -> None:
    q, k, v = random_call(1, heads, 40, 40, dim)
    attend = engine(heads, 40, 40, dim, mask, Plan(), key_scale=key_scale)
    found = attend(0, q, k, v, causal=mask == "causal", q_start=0)
    wanted = dense_attend(0, q, k, v, causal=mask == "causal", q_start=0)
    assert np.abs(found - wanted).max() <= 4e-3
    assert np.abs(found - wanted).mean() <= 5e-4


def test_tiles_are_put_back_in_order() -> None:
    q, k, v = random_call(2, (4, 2), 200, 200, 64)
    small = load_arch("spatten", {"softmax.buffer_keys": 64})
    attend = engine((4, 2), 200, 200, 64, "causal", Plan(), arch=small)
    found = attend(0, q, k, v, causal=True, q_start=0)
    assert np.abs(found - dense_attend(0, q, k, v, causal=True, q_start=0)).max() <= 4e-3
    assert len(attend.finish().jobs) == 2 * 7, "four tiles per head: two jobs each, one for the last"


def decode(attend: EngineAttention, layers: list[tuple[np.ndarray, ...]], prompt: int) -> list[np.ndarray]:
    """Prefill, then one step per further token; outputs of the last layer."""
    total = layers[0][0].shape[1]
    out = []
    for end in range(prompt, total + 1):
        start = 0 if end == prompt else end - 1
        for layer, (q, k, v) in enumerate(layers):
            last = attend(layer, q[:, start:end], k[:, :end], v[:, :end], causal=True, q_start=start)
        out.append(last)
    return out


def test_decode_steps_are_rows_of_the_dense_attention() -> None:
    layers = [random_call(i, (6, 2), 30, 30, 64) for i in range(2)]
    outputs = decode(engine((6, 2), 20, 30, 64, "causal", Plan(), layers=2), layers, 20)
    wanted = dense_attend(0, *layers[-1], causal=True, q_start=0)
    found = np.concatenate(outputs, axis=1)
    assert np.abs(found - wanted).max() <= 8e-3  # scales of the prompt, with headroom


def test_a_new_sequence_starts_afresh() -> None:
    layers = [random_call(i, (4, 4), 16, 16, 32) for i in range(3)]
    other = [random_call(9 + i, (4, 4), 12, 12, 32) for i in range(3)]
    for q, k, _ in other:  # all look at the last tokens, which random rows find least important
        q[:], k[:] = 3, 0
        k[:, 6:] = 3
    plan = Plan(tokens=0.5)
    alone = decode(engine((4, 4), 10, 16, 32, "causal", plan, layers=3), layers, 10)
    attend = engine((4, 4), 10, 16, 32, "causal", plan, layers=3)
    for _ in range(4):
        decode(attend, other, 9)
    for a, b in zip(alone, decode(attend, layers, 10), strict=True):
        np.testing.assert_array_equal(a, b)


def test_values_outside_the_prompt_s_range_saturate() -> None:
    q, k, v = random_call(3, (1, 1), 9, 9, 8)
    largest = np.abs(v[:, :8]).max()
    v[:, 8] = 1000 * largest
    k[:, 8] = 10 * q[:, 8]  # the last token is the only one that its query looks at
    attend = engine((1, 1), 8, 9, 8, "causal", Plan())
    out = decode(attend, [(q, k, v)], 8)[-1]
    assert out.max() <= 1.26 * largest
    assert out.min() >= 0.5 * largest, "saturated, not wrapped around"


def test_an_encoder_loses_tokens_and_head_rows() -> None:
    plan = Plan(token_counts=(20, 12, 5), head_counts=(4, 4, 3))
    attend = engine((4, 4), 20, 20, 32, "none", plan, layers=3)
    kept: np.ndarray = np.arange(20)
    for layer in range(3):
        alive = attend.alive(layer)
        kept = kept if alive is None else alive
        assert len(kept) == (20, 12, 5)[layer]
        q, k, v = (x[:, kept] for x in random_call(layer, (4, 4), 20, 20, 32))
        out = attend(layer, q, k, v, causal=False, q_start=0)
        assert (np.abs(out).max(axis=(1, 2)) > 0).sum() == (4, 4, 3)[layer]
    assert 19 in kept, "the newest token stays"
    recorded = attend.finish()
    assert sum(op.kind == OP_STATE for op in recorded.ops) == 1 + 3, "a restart, two prunes of tokens, one of heads"
    assert recorded.rows == 4 * 20 + 4 * 12 + 3 * 5


def test_the_record_unrolls() -> None:
    layers = [random_call(i, (4, 4), 16, 16, 64) for i in range(3)]
    attend = engine((4, 4), 12, 16, 64, "causal", PRUNED, layers=3)
    decode(attend, layers, 12)
    recorded = attend.finish()
    work = unroll(SPATTEN, recorded)
    assert len(work.rows) == recorded.rows == 3 * 4 * (12 + 4)
    assert sum(int((j["opcode"] == Opcode.ATTEND).sum()) for j in recorded.jobs) == 3 * 4 * 5
    assert (work.rows["kept"] <= work.rows["keys"]).all()


def test_a_run_repeats_to_the_bit() -> None:
    layers = [random_call(i, (4, 4), 16, 16, 64) for i in range(3)]
    runs = [decode(engine((4, 4), 12, 16, 64, "causal", PRUNED, layers=3), layers, 12) for _ in range(2)]
    np.testing.assert_array_equal(np.concatenate(runs[0], axis=1), np.concatenate(runs[1], axis=1))


def test_what_the_hook_was_not_set_up_for_is_refused() -> None:
    q, k, v = random_call(1, (4, 4), 8, 8, 32)
    attend = engine((4, 4), 8, 8, 32, "causal", Plan(), layers=3)
    with pytest.raises(UserError, match="set up for 4, 4, 32, True"):
        attend(0, q, k, v, causal=False, q_start=0)
    with pytest.raises(UserError, match="set up for 8"):
        attend(0, *random_call(1, (4, 4), 9, 9, 32), causal=True, q_start=0)
    with pytest.raises(UserError, match="layers come in order"):
        attend(2, q, k, v, causal=True, q_start=0)
    with pytest.raises(UserError, match="head or channel"):
        engine((4, 4), 8, 8, 32, "causal", Plan(), key_scale="token")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="importance is known from layer 1"):
        engine((4, 4), 8, 8, 32, "none", Plan(token_counts=(4, 4, 4)), layers=3)(0, q, k, v, causal=False, q_start=0)


# ---- real networks -------------------------------------------------------------------------------------------------
def test_minilm_on_the_machine() -> None:
    try:
        net = MiniLM(store.locate("minilm"))
    except UserError as missing:
        pytest.skip(str(missing))
    told: list[float] = []
    texts = ["That is a happy person", text.builtin_text()[:600]]
    quality, attend = run_minilm(SPATTEN, net, texts, Plan(), progress=lambda what, share: told.append(share))
    assert quality["least_embedding_cosine"] > 0.9999
    assert told == [(i + 1) / 12 for i in range(12)]
    assert attend.finish().rows == 12 * 6 * sum(len(net.tokenize(t)) for t in texts)
    pruned, _ = run_minilm(SPATTEN, net, texts[1:], Plan(tokens=0.7))
    assert 0.8 < pruned["mean_embedding_cosine"] < 0.9999
    with pytest.raises(UserError, match="at least one text"):
        run_minilm(SPATTEN, net, [], Plan())


@pytest.fixture(scope="module")
def smollm2() -> SmolLM2:
    try:
        return SmolLM2(store.locate("smollm2"))
    except UserError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(("generate", "plan", "ratio"), [(0, Plan(), 1.01), (8, Plan(tokens=0.7, halve_every=1), 1.3)])
def test_smollm2_on_the_machine(smollm2: SmolLM2, generate: int, plan: Plan, ratio: float) -> None:
    quality: dict[str, Any]
    quality, attend = run_smollm2(SPATTEN, smollm2, text.builtin_text(), plan, context=96, generate=generate)
    assert 1 / ratio < quality["perplexity_ratio"] < ratio
    assert quality["predicted_tokens"] == (generate or 95)
    steps = max(0, generate - 1)
    assert attend.finish().rows == 30 * 9 * (96 - generate + steps)
    assert math.isfinite(quality["mean_abs_dlogit"])
    with pytest.raises(UserError, match="generate = 96"):
        run_smollm2(SPATTEN, smollm2, text.builtin_text(), plan, context=96, generate=96)
