"""Weights times activations in ``linear`` mode: x in place of probabilities, rows of W in place of V (docs/modes.md).

W is cut into column blocks (outputs of a job) and, where a block of all K rows is more than half of the V SRAM, into
tiles of K. A tile stays while all rows of x pass, the next one is fetched meanwhile; so weights move once. Sums of
several rows leave through memory between tiles of K, those of a single row stay in the accumulators. x is fetched anew
for each column block unless all of it fits the query buffer.
"""

from dataclasses import dataclass

from accel.arch import Arch
from accel.lower.zoo.phase import (
    SUM_BYTES,
    Phase,
    blocks,
    line_cycles,
    query_words,
    streams_of,
    tile_rows,
    word_bytes,
)
from workloads.kernels import Aggregate, Conv, Gemm, Gemv
from workloads.systems import Call


@dataclass(frozen=True)
class Tiling:
    """How a product [M, K] x [K, N] is cut: ``width`` of a column block, how many of them, tiles of K.

    ``x_passes``: how often x is fetched. ``sum_bytes``: of sums, one way. ``cycles``: of the PV array.
    """

    width: int
    columns: int
    k_tiles: int
    x_passes: int
    sum_bytes: int
    cycles: int


def tile(arch: Arch, M: int, K: int, N: int) -> Tiling:
    """The cut with the least time, and of those the least traffic."""
    widths = [1 << bit for bit in range(3, arch.max_head_dim.bit_length())]
    smallest = next((width for width in widths if width >= N), widths[-1])
    found = [_tiling(arch, M, K, N, width) for width in widths if width <= smallest]

    def cost(t: Tiling) -> tuple[float, int]:
        extra = 2 * t.sum_bytes + word_bytes(M * K) * t.x_passes
        moved = extra + word_bytes(K * N) + 2 * M * N
        return max(t.cycles, moved / arch.peak_read_bytes_per_cycle), extra

    return min(found, key=cost)


def _tiling(arch: Arch, M: int, K: int, N: int, width: int) -> Tiling:
    cuts = blocks(N, width)
    tiles = blocks(K, tile_rows(arch, width))
    cycles = M * sum(line_cycles(arch, rows, cut) for cut in cuts for rows in tiles)
    passes = 1 if query_words(arch) >= M * K else len(cuts)
    sums = M * N * SUM_BYTES * (len(tiles) - 1) if M > 1 else 0
    return Tiling(width, len(cuts), len(tiles), passes, sums, cycles)


def _words(t: Tiling, M: int) -> str:
    said = [f"{t.columns} column blocks of {t.width}" if t.columns > 1 else f"one column block of {t.width}"]
    if t.k_tiles > 1:
        said.append(f"{t.k_tiles} tiles of K" + (", sums through memory" if M > 1 else ", sums stay"))
    said.append("x stays" if t.x_passes == 1 else f"x fetched {t.x_passes} times")
    return ", ".join(said)


def lower_gemm(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """A matrix product: weights once, in tiles."""
    kernel = call.kernel
    assert isinstance(kernel, Gemm)
    t = tile(arch, kernel.M, kernel.K, kernel.N)
    x_again = (t.x_passes - 1) * word_bytes(kernel.M * kernel.K)
    again = {"x": (x_again, 0)} | ({"sums": (t.sum_bytes, t.sum_bytes)} if t.sum_bytes else {})
    return (
        Phase(
            call.label, "linear", call.times, _words(t, kernel.M), streams_of(call, again), ("weight tile",),
            t.columns * t.k_tiles, True, pv_macs=kernel.macs, output_values=kernel.M * kernel.N,
            array_cycles=t.cycles,
        ),
    )  # fmt: skip


def lower_gemv(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """A vector through a matrix, step after step; the matrix is streamed in each step."""
    kernel = call.kernel
    assert isinstance(kernel, Gemv)
    t = tile(arch, 1, kernel.K, kernel.N)
    again = {"x": ((t.x_passes - 1) * word_bytes(kernel.K) * kernel.steps, 0)}
    said = _words(t, 1) + (f", weights anew in each of {kernel.steps} steps" if kernel.steps > 1 else "")
    return (
        Phase(
            call.label, "linear", call.times, said, streams_of(call, again), ("x",), t.columns * t.k_tiles, True,
            pv_macs=kernel.macs, output_values=kernel.N * kernel.steps, array_cycles=t.cycles * kernel.steps,
        ),
    )  # fmt: skip


def lower_conv(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """A convolution as a product: one row of x per output pixel, gathered by address, overlaps fetched again."""
    kernel = call.kernel
    assert isinstance(kernel, Conv)
    M = kernel.out_height * kernel.out_width
    K = kernel.in_channels // kernel.groups * kernel.kernel_height * kernel.kernel_width
    t = tile(arch, M, K, kernel.out_channels // kernel.groups)
    gathered = kernel.groups * t.x_passes * word_bytes(M * K)
    once = word_bytes(kernel.in_channels * kernel.height * kernel.width)
    again = {"x": (max(0, gathered - once), 0)}
    if t.sum_bytes:
        again["sums"] = (kernel.groups * t.sum_bytes, kernel.groups * t.sum_bytes)
    said = f"as {kernel.groups} x " if kernel.groups > 1 else "as "
    said += f"[{M} x {K}] x [{K} x {kernel.out_channels // kernel.groups}], {_words(t, M)}"
    return (
        Phase(
            call.label, "linear", call.times, said, streams_of(call, again), ("weight tile",),
            kernel.groups * t.columns * t.k_tiles, True, pv_macs=kernel.macs,
            output_values=kernel.out_channels * M, array_cycles=kernel.groups * t.cycles,
        ),
    )  # fmt: skip


def lower_aggregate(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """A sub-network known by its totals: every weight once, every multiplier busy."""
    kernel = call.kernel
    assert isinstance(kernel, Aggregate)
    said = "totals only: weights once, full rate; maps between its layers are not known and not counted"
    cycles = -(-kernel.macs // arch.pv.multipliers)
    return (
        Phase(call.label, "linear", call.times, said, streams_of(call), pv_macs=kernel.macs, array_cycles=cycles),
    )  # fmt: skip
