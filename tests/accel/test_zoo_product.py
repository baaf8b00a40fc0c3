"""Products and retention of the zoo: the bytes said are those that the program moves, samples stand for the whole."""

import numpy as np
import pytest

from accel.arch import load_arch
from accel.lower.decay import HeadScale, lower_decay
from accel.lower.zoo import lower_call
from accel.lower.zoo.product import best_cut, cut, unbuilt_bytes
from accel.numerics import decay, state
from accel.program import Opcode
from accel.zoo import exact, program_time
from accel.zoo.fixed import to_words
from accel.zoo.phase_run import run_phase
from sim.recorded import JobTensors
from sim.values import Executor
from workloads.kernels import Conv, DecayAttention, Gemm, Gemv, Kernel
from workloads.systems import Call

FULL, TINY = load_arch("spatten"), load_arch("tiny")


def phases_of(kernel: Kernel, arch):  # type: ignore[no-untyped-def]
    return lower_call(Call("kernel", "mixer", 1, kernel, frozenset()), arch)


@pytest.mark.parametrize(
    "kernel",
    [
        Gemm(9, 150, 96), Gemm(5, 70, 40), Gemm(2, 300, 8), Gemv(500, 90), Gemv(64, 24, 3),
        Conv(in_channels=8, out_channels=16, kernel_height=3, kernel_width=3, height=6, width=6),
        Conv(in_channels=16, out_channels=16, kernel_height=3, kernel_width=3, height=4, width=4, groups=16),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("arch", [FULL, TINY], ids=lambda arch: arch.name)
def test_a_product_moves_what_its_closed_form_says(arch, kernel: Kernel) -> None:  # type: ignore[no-untyped-def]
    phase = phases_of(kernel, arch)[-1]
    run = run_phase(arch, phase)
    assert run.label == "simulated"
    (piece,) = phase.pieces
    counted = program_time.simulate_product(arch, piece.kernel, piece.width, piece.longest).counts
    assert program_time.bytes_of(counted) * piece.times == phase.moved_bytes
    assert run.cycles >= phase.array_cycles


def test_a_sample_stands_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Gemm(150, 600, 640)
    short = program_time.simulate_product(FULL, kernel, 128, 120)
    assert "rows" in short.sample
    assert "column blocks" in short.sample
    monkeypatch.setattr(program_time, "LINEAR_CYCLES", 10**9)
    program_time.simulate_product.cache_clear()
    whole = program_time.simulate_product(FULL, kernel, 128, 120)
    program_time.simulate_product.cache_clear()
    assert not whole.sample
    assert short.cycles == pytest.approx(whole.cycles, rel=0.03)


def test_the_best_cut_is_no_worse_than_any_other() -> None:
    for M, K, N in ((1, 768, 3072), (197, 384, 384), (3, 4096, 48)):
        best = best_cut(FULL, M, K, N)
        for rows in {1, M}:
            for width in (8, 32, 64, 128):
                other = cut(FULL, M, K, N, rows, width)
                assert best.moved <= other.moved or best.cycles < other.cycles


def test_what_is_not_built_moves_no_less_than_every_tensor_once() -> None:
    for M, K, N in ((1, 768, 3072), (197, 384, 1536), (1400, 4096, 12288)):
        assert unbuilt_bytes(FULL, M, K, N).moved >= (M * K + K * N) * 12 // 8 + 2 * M * N


@pytest.mark.parametrize(("tokens", "dk", "dv"), [(12, 64, 32), (40, 48, 64)])
def test_keys_of_several_records_give_retention(tokens: int, dk: int, dv: int) -> None:
    """Row blocks and tiles of the machine "tiny", whose records hold 32 numbers."""
    gammas = (0.9, 0.97)
    kernel = DecayAttention(2, tokens, dk, dv, gammas)
    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(size=(2, tokens, dim)) for dim in (dk, dk, dv))
    (qw, sq), (kw, sk), (vw, sv) = to_words(q), to_words(k), to_words(v)
    scale = decay.weight_scale(float(np.abs(qw.astype(float) @ np.swapaxes(kw, 1, 2)).max()))
    wanted = np.array([exact.retention(q[h], k[h], v[h], gammas[h]) for h in range(2)])
    unit = sq * sk * sv * 2.0 ** state.score_unit_bits(scale)
    step = float(np.abs(wanted).max()) / unit / 30000
    program = lower_decay(kernel, TINY, scales=[HeadScale(scale, decay.output_scale(1 / step))] * 2)
    jobs = program.jobs[program.jobs["opcode"] == Opcode.ATTEND]
    blocks = max(-(-dk // 32), -(-dv // 32))
    low, tensors, places = int(jobs["q_address"].min()), [], []
    layout = {address: at for at, address in enumerate(sorted(set(jobs["k_msb_address"].tolist())))}
    values = {address: at for at, address in enumerate(sorted(set(jobs["v_address"].tolist())))}
    rows_of, columns_of = -(-dk // 32), -(-dv // 32)
    assert low >= 0
    assert blocks == 2

    def padded(words: np.ndarray, block: int) -> np.ndarray:
        part = words[:, 32 * block : 32 * block + 32].astype(np.int16)
        return np.pad(part, ((0, 0), (0, 32 - part.shape[1])))

    for job in jobs:
        head, row = divmod(layout[int(job["k_msb_address"])], rows_of)
        _, column = divmod(values[int(job["v_address"])], columns_of)
        first = int(job["first_visible"]) - 1 + int(job["first_key"])
        rows = slice(first, first + int(job["queries"]))
        own = padded(kw[head], row)
        tensors.append(JobTensors(padded(qw[head], row)[rows], own, own, padded(vw[head], column)))
        places.append((head, column, rows))
    outputs = Executor(TINY).run(program.jobs, tensors=tensors)
    found = np.zeros((2, tokens, 32 * columns_of))
    for (head, column, rows), out in zip(places, outputs, strict=True):
        if len(out):
            found[head, rows, 32 * column : 32 * column + 32] += out * step * unit
    assert exact.relative_error(found[:, :, :dv], wanted) < 0.01
