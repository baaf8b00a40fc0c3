"""Programs of retention and of products with weights give what their definitions say, however they are cut."""

import numpy as np
import pytest

from accel.arch import load_arch
from accel.errors import UserError
from accel.lower.decay import HeadScale, decay_layout, lower_decay
from accel.lower.linear import LinearLayout, lower_linear
from accel.numerics.attention import normalise_output
from accel.numerics.decay import decay_attention, encode_decay, output_scale, weight_scale
from accel.numerics.linear import linear_tiles
from accel.program import Flag, Mode, Opcode
from accel.verify.golden import GoldenMachine
from sim.recorded import JobTensors
from workloads.kernels import DecayAttention, Gemm

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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lower_decay(DecayAttention(1, 4, 8, 8), TINY, queries=5), "must be 1 to 4"),
        (lambda: lower_decay(DecayAttention(5, 4, 8, 8), TINY), "at most 4 heads"),
        (lambda: lower_decay(DecayAttention(1, 70000, 8, 8), TINY, queries=1), "lags are at most 65535"),
    ],
)
def test_refusals(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        make()
