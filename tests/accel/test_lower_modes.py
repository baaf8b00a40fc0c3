"""Programs of retention and of products with weights give what their definitions say, however they are cut."""

import numpy as np
import pytest

from accel.arch import load_arch
from accel.errors import UserError
from accel.lower.decay import HeadScale, decay_layout, lower_decay
from accel.lower.linear import LinearLayout, lower_linear
from accel.lower.state import StateLayout, StateScale, lower_state
from accel.numerics.attention import normalise_output
from accel.numerics.decay import (
    decay_attention,
    decode_decay_words,
    encode_decay,
    encode_decay_words,
    output_scale,
    weight_scale,
)
from accel.numerics.linear import linear_tiles
from accel.numerics.state import run_state
from accel.program import Flag, Mode, Opcode
from accel.verify.golden import GoldenMachine
from sim.recorded import JobTensors
from workloads.kernels import DecayAttention, Gemm, StateUpdate

TINY = load_arch("tiny")
SPATTEN = load_arch("spatten")


def words(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-2048, 2048, shape).astype(np.int16)


@pytest.mark.parametrize(("length", "queries"), [(1, 1), (20, 20), (45, 45), (70, 6), (70, 1)])
@pytest.mark.parametrize(("key_dim", "value_dim"), [(32, 32), (16, 32), (32, 16), (20, 50)])
def test_retention(length: int, queries: int, key_dim: int, value_dim: int) -> None:
    """Of all tokens, or of the last ones; in tiles; with values wider and narrower than keys."""
    rng = np.random.default_rng(length + value_dim)
    kernel = DecayAttention(2, length, key_dim, value_dim, (0.7, 0.999))
    scale, output = weight_scale(3e6), output_scale(2.0**-10)
    layout = decay_layout(kernel, TINY)
    program = lower_decay(kernel, TINY, queries=queries, scales=[HeadScale(scale, output)] * 2)
    dim, blocks = layout.head_dim, layout.heads // 2
    q, k, v = (np.zeros((2, length, size), np.int16) for size in (dim, dim, blocks * dim))
    for tensor, size in ((q, key_dim), (k, key_dim), (v, value_dim)):
        tensor[:, :, :size] = words(rng, 2, length, size)

    tensors, at = [], []
    seen: dict[int, int] = {}
    for job in program.jobs[program.jobs["opcode"] == Opcode.ATTEND]:
        head = int(job["head"])
        block = seen.setdefault(int(job["v_address"]), len(seen)) % blocks
        columns = slice(block * dim, (block + 1) * dim)
        row = length - queries + (int(job["q_address"]) - layout.address("q", 0, head * blocks)) // layout.query_stride
        rows = slice(row, row + int(job["queries"]))
        at.append((head, columns, rows))
        tensors.append(JobTensors(q[head, rows], k[head], k[head], v[head, :, columns]))
    found = np.full((2, length, blocks * dim), -1 << 20)
    jobs = program.jobs[program.jobs["opcode"] == Opcode.ATTEND]
    for (head, columns, rows), job, out in zip(at, jobs, GoldenMachine(TINY).run(program.jobs, tensors), strict=True):
        if job["flags"] & Flag.LAST_TILE:
            found[head, rows, columns] = out
    for head, decay in enumerate(encode_decay(kernel.decays)):
        whole = decay_attention(q[head], k[head], v[head], int(decay), scale)
        wanted = normalise_output(whole.accumulated, *output)[length - queries :]
        np.testing.assert_array_equal(found[head, length - queries :], wanted)


@pytest.mark.parametrize("arch", [TINY, SPATTEN], ids=lambda arch: arch.name)
@pytest.mark.parametrize(("M", "K", "N"), [(1, 1, 1), (1, 300, 200), (3, 77, 40), (2, 128, 128)])
def test_products_with_weights(arch, M: int, K: int, N: int) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(K + N)
    x, w = words(rng, M, K), words(rng, K, N)
    scale = output_scale(2.0**-14)
    program, layout = lower_linear(Gemm(M, K, N), arch, scale=scale), LinearLayout(arch, M, K, N)
    padded = np.zeros((K, layout.blocks * layout.dim), np.int16)
    padded[:, :N] = w
    tensors, none = [], np.zeros((0, layout.dim), np.int16)
    for block in range(layout.blocks):
        columns = slice(block * layout.dim, (block + 1) * layout.dim)
        for s in range(layout.slices):
            rows = slice(s * layout.slice, min(K, (s + 1) * layout.slice))
            q = words(rng, M, layout.dim)  # what is behind the slice has no effect
            q[:, : rows.stop - rows.start] = x[:, rows]
            tensors.append(JobTensors(q, none, none, padded[rows, columns]))
    outputs = GoldenMachine(arch).run(program.jobs, tensors)
    last = [out for out, job in zip(outputs, program.jobs, strict=True) if job["flags"] & Flag.LAST_TILE]
    found = np.concatenate(last, axis=1)[:, :N]
    np.testing.assert_array_equal(found, normalise_output(linear_tiles(x, w), *scale))
    assert (program.jobs["mode"] == Mode.LINEAR).all()


@pytest.mark.parametrize("tokens_per_job", [None, 1, 4])
@pytest.mark.parametrize("decay", ["constant", "head", "channel"])
@pytest.mark.parametrize(("key_dim", "value_dim"), [(16, 16), (8, 32), (30, 5), (12, 40)])
def test_recurrent_states(tokens_per_job: int | None, decay, key_dim: int, value_dim: int) -> None:  # type: ignore[no-untyped-def]
    """Heads one after the other, or taking turns; keys and values of any width; decays of all kinds."""
    rng, heads, tokens = np.random.default_rng(key_dim), 2, 9
    gammas = (0.9, 0.999) if decay == "constant" else None
    kernel = StateUpdate(heads, heads, key_dim, value_dim, tokens, decay=decay, gammas=gammas)
    layout, output = StateLayout(TINY, kernel), output_scale(2.0**-5)
    keys, dim, blocks = layout.keys, layout.dim, layout.blocks
    program = lower_state(kernel, TINY, scales=[StateScale(3, output)] * heads, tokens_per_job=tokens_per_job)
    q, k = np.zeros((2, heads, tokens, dim), np.int16)
    v = np.zeros((heads, tokens, blocks * dim), np.int16)
    q[..., :key_dim], k[..., :key_dim], v[..., :value_dim] = (
        words(rng, heads, tokens, size) for size in (key_dim, key_dim, value_dim)
    )
    exponents = rng.integers(0, 1 << 21, (heads, tokens, dim if decay == "channel" else 1))
    decays = np.broadcast_to(encode_decay_words(exponents), (heads, tokens, dim)).astype(np.int16)

    found = np.full((heads, tokens, blocks * dim), -1 << 20)
    tensors, at = [], []
    seen: dict[int, int] = {}
    for number, job in enumerate(program.jobs):
        head, block = divmod(number % (heads * blocks), blocks) if tokens_per_job else divmod(number, blocks)
        place = head * blocks + block
        part = slice(seen.get(place, 0), seen.get(place, 0) + int(job["queries"]))
        seen[place] = part.stop
        records = layout.address("records", place) + part.start * layout.records * layout.record_stride
        assert int(job["q_address"]) == records
        columns = slice(block * dim, (block + 1) * dim)
        at.append((head, part, columns))
        of = decays[head, part] if decay != "constant" else None
        tensors.append(JobTensors(q[head, part], k[head, part], k[head, part], v[head, part, columns], of))
    for (head, part, columns), out in zip(at, GoldenMachine(TINY).run(program.jobs, tensors), strict=True):
        found[head, part, columns] = out
    for head in range(heads):
        of_head = encode_decay(0.9 if head == 0 else 0.999) if gammas else decode_decay_words(decays[head, :, :keys])
        whole = run_state(q[head, :, :keys], k[head, :, :keys], v[head], of_head, 3)
        np.testing.assert_array_equal(found[head], normalise_output(whole.accumulated, *output))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lower_state(StateUpdate(1, 1, 8, 8, 4, decay="additive"), TINY), "decay = additive"),
        (lambda: lower_state(StateUpdate(1, 1, 8, 8, 4, decay="gradient"), TINY), "decay = gradient"),
        (lambda: lower_state(StateUpdate(2, 1, 8, 8, 4, decay="constant"), TINY), "read by one head"),
        (lambda: lower_state(StateUpdate(1, 1, 64, 8, 4, decay="constant"), TINY), "max_head_dim = 32"),
        (
            lambda: lower_state(StateUpdate(3, 3, 32, 32, 4, decay="constant"), TINY, tokens_per_job=1),
            "3 states of 32 rows: tiny holds 64 rows of 32",
        ),
        (
            lambda: lower_state(
                StateUpdate(1, 1, 8, 8, 4, decay="constant"), load_arch("tiny", {"qk.multipliers": 32})
            ),
            "no mode state: qk.multipliers = 32 and pv.multipliers = 16 differ",
        ),
        (lambda: lower_decay(DecayAttention(1, 4, 8, 8), TINY, queries=5), "must be 1 to 4"),
        (lambda: lower_decay(DecayAttention(5, 4, 8, 8), TINY), "at most 4 heads"),
        (lambda: lower_decay(DecayAttention(1, 70000, 8, 8), TINY, queries=1), "lags are at most 65535"),
    ],
)
def test_refusals(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        make()
