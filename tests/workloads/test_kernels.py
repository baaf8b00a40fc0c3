"""Kernels count what a plain loop counts; impossible shapes are refused in one line."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import UserError
from workloads.kernels import (
    KERNELS,
    Aggregate,
    ChunkState,
    Conv,
    DecayAttention,
    Elementwise,
    Gemm,
    Gemv,
    Kernel,
    Scan,
    SoftmaxAttention,
    StateUpdate,
    TopK,
    geometric_gammas,
)

few = st.integers(1, 6)


@given(heads=few, group=few, queries=few, start=st.integers(0, 5), more=st.integers(0, 4), d=few, dv=st.integers(0, 5),
       window=st.integers(0, 8), batch=few)  # fmt: skip
def test_causal_attention_counts_every_visible_pair(
    heads: int, group: int, queries: int, start: int, more: int, d: int, dv: int, window: int, batch: int
) -> None:
    keys = start + queries + more
    kernel = SoftmaxAttention(
        heads * group, heads, queries, keys, d, query_start=start, batch=batch, value_dim=dv, window=window
    )
    seen = [
        (i, j) for i in range(queries) for j in range(keys) if j <= start + i and (not window or j > start + i - window)
    ]
    assert kernel.pairs == len(seen)
    assert kernel.exponentials == len(seen) * heads * group * batch
    assert kernel.macs == kernel.exponentials * (d + dv)
    assert kernel.tensors() == {
        "q": batch * heads * group * queries * d,
        "k": batch * heads * keys * d,
        "v": batch * heads * keys * dv,
        "output": batch * heads * group * queries * dv,
    }


def test_iterations_read_the_patterns_again_and_shared_values_cost_nothing() -> None:
    once = SoftmaxAttention(2, 2, 1, 20, 8, "none", cross=True)
    thrice = SoftmaxAttention(2, 2, 1, 20, 8, "none", cross=True, iterations=3, shared_kv=True)
    assert thrice.macs == 3 * once.macs
    assert thrice.tensors() == {"q": 16, "k": 3 * 2 * 20 * 8, "v": 0, "output": 16}
    latent = SoftmaxAttention(16, 1, 1, 100, 576, query_start=99, value_dim=512, shared_kv=True)
    assert latent.macs == 16 * 100 * (576 + 512)
    assert latent.moved_bytes({"cache": 16})["k"] == 2 * 100 * 576


def test_grouped_softmax_shares_out_the_landmarks_weight() -> None:
    kernel = SoftmaxAttention(2, 2, 1, 30, 4, "none", blocks=4, block_keys=5)
    assert kernel.exponentials == 2 * 30
    assert kernel.elementwise_ops == 2 * 4 * (5 - 1)  # the landmark itself gets none of it


@given(heads=few, length=st.integers(1, 30), dk=few, dv=few, epsilon=st.floats(0.001, 0.9))
def test_retention_counts_pairs_and_windows(heads: int, length: int, dk: int, dv: int, epsilon: float) -> None:
    kernel = DecayAttention(heads, length, dk, dv, geometric_gammas(heads, 1 / 4, 1 / 64))
    assert kernel.macs == heads * sum(n + 1 for n in range(length)) * (dk + dv)
    kept = sum(
        1
        for gamma in kernel.decays
        for n in range(length)
        for m in range(n + 1)
        if gamma ** (n - m) >= epsilon * (1 + 1e-12)
    )
    assert abs(kernel.kept_pairs(epsilon) - kept) <= heads * length  # a lag that hits epsilon exactly may go either way
    assert kernel.kept_pairs(epsilon) <= heads * kernel.pairs


@pytest.mark.parametrize(("tokens", "ratios"), [(197, (1.04, 1.01)), (1025, (1.62, 1.37)), (4097, (4.2, 2.9))])
def test_decay_windows_of_vir(tokens: int, ratios: tuple[float, float]) -> None:
    """Ratios from the decays of ViR-B (reference notes): useless on small images, useful on large ones."""
    kernel = DecayAttention(12, tokens, 64, 64, geometric_gammas(12, 1 / 32, 1 / 512))
    for epsilon, ratio in zip((0.05, 0.01), ratios, strict=True):
        assert 12 * kernel.pairs / kernel.kept_pairs(epsilon) == pytest.approx(ratio, rel=0.05)


def test_gammas_of_retnet() -> None:
    assert geometric_gammas(8, 1 / 32, 1 / 4096) == pytest.approx([1 - 2.0 ** (-5 - head) for head in range(8)])


@given(states=few, group=few, dk=few, dv=few, tokens=st.integers(1, 20), chunk=st.integers(1, 25))
def test_states_count_what_the_loops_do(states: int, group: int, dk: int, dv: int, tokens: int, chunk: int) -> None:
    heads = states * group
    step = StateUpdate(heads, states, dk, dv, tokens, "constant")
    assert step.macs == sum(dk * dv for _ in range(tokens) for _ in range(states + heads))
    assert step.tensors()["state"] == 2 * tokens * step.state_numbers
    chunks = ChunkState(heads, states, dk, dv, tokens, chunk)
    macs = 0
    for first in range(0, tokens, chunk):
        size = min(chunk, tokens - first)
        macs += heads * sum((i + 1) * (dk + dv) for i in range(size)) + size * (heads + states) * dk * dv
    assert chunks.macs == macs
    assert chunks.tensors()["state"] == 2 * -(-tokens // chunk) * states * dk * dv
    shared = ("q", "k", "v", "output")
    assert [chunks.tensors()[name] for name in shared] == [step.tensors()[name] for name in shared]


def test_one_chunk_of_all_tokens_is_the_parallel_form_and_a_useless_state() -> None:
    parallel, whole = DecayAttention(3, 40, 8, 16), ChunkState(3, 3, 8, 16, 40, 40)
    assert whole.macs - parallel.macs == 2 * 3 * 40 * 8 * 16


def test_streams_of_the_decays() -> None:
    def alpha(**more: object) -> int:
        return StateUpdate(4, 2, 8, 16, 10, **more).tensors().get("alpha", 0)  # type: ignore[arg-type]

    assert alpha(decay="constant") == alpha(decay="additive") == 0
    assert alpha(decay="head") == 2 * 10
    assert alpha(decay="channel") == 2 * 8 * 10
    assert alpha(decay="gradient") == 3 * 2 * 10
    free = StateUpdate(2, 2, 8, 16, 10, "additive", causal=False)
    assert (free.elementwise_ops, free.exponentials, free.tensors()["state"]) == (0, 2 * 8 * 10, 2 * 2 * 8 * 16)


@given(dk=few, hidden=st.integers(0, 6), dv=few)
def test_a_gradient_step_counts_its_products(dk: int, hidden: int, dv: int) -> None:
    """The products of one step, counted by running one: forward, gradients of both layers, read."""
    count = 0

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        nonlocal count
        count += a.shape[0] * a.shape[1] * b.shape[1]
        return a @ b

    k, v = np.ones((1, dk)), np.ones((1, dv))
    if hidden:
        first, second = np.ones((dk, hidden)), np.ones((hidden, dv))
        inner = np.maximum(product(k, first), 0)
        error = product(inner, second) - v
        product(inner.T, error)
        product(k.T, product(error, second.T))
        product(product(k, first), second)
    else:
        memory = np.ones((dk, dv))
        product(k.T, product(k, memory) - v)
        product(k, memory)
    assert StateUpdate(1, 1, dk, dv, 1, "gradient", hidden=hidden).macs == count


@given(channels=few, state=few, tokens=few, directions=st.integers(1, 2))
def test_scans(channels: int, state: int, tokens: int, directions: int) -> None:
    each = channels * tokens * directions
    ssm = Scan("ssm", channels, tokens, state, directions)
    shared = state * tokens * directions
    assert ssm.tensors() == {
        "u": each, "dt": each, "output": each, "B": shared, "C": shared, "weights": channels * state * directions,
        "state": 2 * channels * state * tokens * directions,
    }  # fmt: skip
    assert ssm.exponentials == each * state
    assert Scan("wkv", channels, tokens, directions=directions).state_numbers == 3 * channels * directions
    assert Scan("fir", channels, tokens, state, directions).macs == each * state
    assert set(Scan("qlstm", channels, tokens).tensors()) == {
        "forget", "input", "output_gate", "x", "output", "state",
    }  # fmt: skip


@settings(max_examples=60)
@given(
    channels=st.integers(1, 3), out=st.integers(1, 3), kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)), stride=st.integers(1, 3), dilation=st.integers(1, 2),
    groups=st.integers(1, 2), same=st.booleans(),
)  # fmt: skip
def test_convolution_counts_every_tap(
    channels: int, out: int, kernel: tuple[int, int], size: tuple[int, int], stride: int, dilation: int, groups: int,
    same: bool,
) -> None:  # fmt: skip
    spans = [dilation * (taps - 1) + 1 for taps in kernel]
    pads = [span // 2 if same else 0 for span in spans]
    places = [
        [at for at in range(-pad, length + pad - span + 1) if (at + pad) % stride == 0]
        for length, span, pad in zip(size, spans, pads, strict=True)
    ]
    shape = (channels * groups, out * groups, *kernel, *size, stride, dilation, groups, "same" if same else "valid")
    if not all(places):
        with pytest.raises(UserError, match="larger than the map"):
            Conv(*shape)  # type: ignore[arg-type]
        return
    conv = Conv(*shape)  # type: ignore[arg-type]
    assert (conv.out_height, conv.out_width) == tuple(len(axis) for axis in places)
    macs = sum(channels for _ in range(out * groups) for _ in places[0] for _ in places[1] for _ in np.ndindex(kernel))
    assert conv.macs == macs
    assert conv.tensors()["x"] == channels * groups * size[0] * size[1]


def test_weights_move_once_or_once_per_step() -> None:
    assert Gemm(8, 3, 5).tensors() == {"weights": 15, "x": 24, "output": 40}
    assert Gemv(3, 5, steps=4).tensors() == {"weights": 60, "x": 12, "output": 20}
    assert Gemv(3, 5, steps=4).weight_numbers == 15
    assert Aggregate(100, 7).moved_bytes(8) == {"weights": 7}


def test_small_functions() -> None:
    gate = Elementwise(2048 * 121, "reverse_gate", shared=2048)
    assert (gate.exponentials, gate.tensors()["x"]) == (121, 2048 * 121 + 121)
    up = Elementwise(2 * 64 * 9, "convex_upsample", shared=2)
    assert (up.macs, up.exponentials, up.tensors()["x"]) == (9 * 2 * 64 * 9, 9 * 64 * 9, 9 * 64 * 9 + 2 * 9)
    fft = Elementwise(256, "fft", length=64)
    assert (fft.elementwise_ops, fft.tensors()) == (5 * 256 * 6, {"x": 512, "output": 512})
    assert TopK(100, 5, times=3).elementwise_ops == 300


@given(bits=st.integers(1, 32), rows=few)
def test_bytes_are_whole_and_follow_the_widths(bits: int, rows: int) -> None:
    kernel = SoftmaxAttention(1, 1, rows, rows, 3, "none")
    assert kernel.moved_bytes(bits)["k"] == math.ceil(rows * 3 * bits / 8)
    mixed = kernel.moved_bytes({"k": bits, "cache": 8})
    assert mixed == {"q": 6 * rows, "k": math.ceil(rows * 3 * bits / 8), "v": 3 * rows, "output": 6 * rows}
    with pytest.raises(UserError, match="1 bit or more"):
        kernel.moved_bytes(0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SoftmaxAttention(2, 2, 8, 8, 8, window=-1), "window = -1"),
        (lambda: SoftmaxAttention(2, 2, 8, 8, 8, "none", window=4), "only a causal mask"),
        (lambda: SoftmaxAttention(2, 2, 8, 8, 8, value_dim=16, shared_kv=True), "part of a key of 8"),
        (lambda: SoftmaxAttention(2, 2, 1, 8, 8, "none", value_dim=4, iterations=2), "next query"),
        (lambda: SoftmaxAttention(2, 2, 1, 8, 8, "none", blocks=3, block_keys=3), "no more than keys = 8"),
        (lambda: SoftmaxAttention(2, 2, 1, 8, 8, "none", blocks=3), "both or neither"),
        (lambda: SoftmaxAttention(2, 2, 2, 8, 8, "none", blocks=2, block_keys=3), "1 query"),
        (lambda: SoftmaxAttention(2, 2, 2, 8, 8, value_dim=2.5), "value_dim = 2.5"),  # type: ignore[arg-type]
        (lambda: SoftmaxAttention(2, 2, 2, 8, 8, shared_kv=1), "must be true or false"),  # type: ignore[arg-type]
        (lambda: DecayAttention(2, 8, 4, 4, (0.9,)), "tuple of 2 numbers"),
        (lambda: DecayAttention(2, 8, 4, 4, (0.9, 1.5)), "1.5: each must be above 0"),
        (lambda: DecayAttention(2, 8, 4, 4).windows(1.0), "between 0 and 1"),
        (lambda: StateUpdate(3, 2, 4, 4, 1, "constant"), "multiple of states = 2"),
        (lambda: StateUpdate(2, 2, 4, 4, 1, "channel", gammas=(0.9, 0.9)), "only a constant decay"),
        (lambda: StateUpdate(2, 2, 4, 4, 1, "channel", hidden=3), "only a gradient memory"),
        (lambda: StateUpdate(2, 2, 4, 4, 1, "head", causal=False), "only the additive form"),
        (lambda: StateUpdate(2, 2, 4, 4, 1, "vector"), "one of constant, head"),  # type: ignore[arg-type]
        (lambda: ChunkState(2, 2, 4, 4, 9, 0), "chunk = 0"),
        (lambda: Scan("wkv", 4, 4, 2), "1 number per channel"),
        (lambda: Scan("ssm", 4, 4, 2, 3), "must be 1 or 2"),
        (lambda: Conv(3, 4, 3, 3, 8, 8, groups=2), "multiple of groups = 2"),
        (lambda: Gemv(3, True), "N = True"),
        (lambda: Elementwise(10, "relu", shared=2), "nothing to share"),
        (lambda: Elementwise(10, "fft"), "length = 1"),
        (lambda: Elementwise(10, "reverse_gate", shared=3), "must divide"),
        (lambda: TopK(4, 5), "no more than n = 4"),
    ],
)
def test_impossible_shapes_are_one_line(make: Callable[[], Kernel], words: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_kernel_names_its_streams_and_their_kinds() -> None:
    made = [
        SoftmaxAttention(1, 1, 2, 2, 4), DecayAttention(1, 2, 4, 4), StateUpdate(1, 1, 4, 4, 2, "channel"),
        ChunkState(1, 1, 4, 4, 2, 2), Scan("ssm", 2, 2, 2), Gemv(2, 2), Gemm(2, 2, 2), Conv(1, 1, 1, 1, 2, 2),
        Elementwise(2, "add"), TopK(2, 1), Aggregate(1, 1),
    ]  # fmt: skip
    assert [type(kernel) for kernel in made] == list(KERNELS.values())
    for kernel in made:
        assert all(numbers >= 0 for numbers in kernel.tensors().values())
        assert {kernel.kind_of(stream) for stream in kernel.tensors()} <= {"weights", "cache", "state", "activation"}
    assert made[0].kind_of("k") == "cache"
    assert made[2].kind_of("k") == "activation"
