"""How a product [M, K] x [K, N] is cut for ``linear`` jobs, in closed form: what a program really moves.

A job takes one record of x (at most ``max_head_dim`` elements) through as many rows of W, a column block wide. Nothing
stays in the SRAMs from job to job but the sums of a single row. So there are two orders:

* *weights resident*: W once, x once per column block, sums of all rows through memory between slices of K;
* *outputs resident*: row after row, its sums on chip, W once per row.

`best_cut` takes the cheaper one and the best width; `simulated` bytes of `accel.lower.linear` are the same (a test).
`unbuilt_bytes` is what better tilings would move if a job could take rows of x of several records, or if x or sums
stayed in the SRAMs: no engine of this project does that, and no row counts on it.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from accel.arch import Arch
from accel.lower.linear import LinearLayout
from accel.lower.zoo.phase import SUM_BYTES, blocks, line_cycles, word_bytes
from accel.units.softmax import OUTPUT_BITS


@dataclass(frozen=True)
class Cut:
    """One product: ``rows`` rows of x at a time, ``times`` times. Bytes are of all; ``sums`` of one way."""

    M: int
    K: int
    N: int
    rows: int
    times: int
    width: int
    longest: int
    blocks: int
    slices: int
    weights: int
    x: int
    sums: int
    output: int
    cycles: int

    @property
    def moved(self) -> int:
        """All bytes over the memory bus."""
        return self.weights + self.x + 2 * self.sums + self.output

    def said(self) -> str:
        """The cut in words."""
        words = [f"{self.blocks} column blocks of {self.width}" if self.blocks > 1 else f"one block of {self.width}"]
        if self.M > 1:
            words.append("weights resident" if self.rows > 1 else "outputs resident, weights anew for each row")
        if self.slices > 1:
            through = "sums through memory" if self.rows > 1 else "sums stay"
            words.append(f"K in {self.slices} slices of {self.longest}, {through}")
        if self.blocks > 1:
            words.append(f"x fetched {self.blocks} times")
        return ", ".join(words)


def cut(arch: Arch, M: int, K: int, N: int, rows: int, width: int, longest: int = 0) -> Cut:
    """The cut of given width; ``longest``: elements of x in a job at most, 0: as many as a record holds."""
    at = LinearLayout(arch, rows, K, N, width=width, longest=longest)
    times = -(-M // rows)
    sums = rows * (at.slices - 1) * at.blocks * at.partial_stride if rows > 1 else 0
    lines = sum(line_cycles(arch, part, width) for part in blocks(K, at.slice))
    return Cut(
        M, K, N, rows, times, width, at.slice, at.blocks, at.slices,
        weights=times * at.blocks * K * at.weight_stride,
        x=times * rows * at.blocks * at.slices * at.x_stride,
        sums=times * sums,
        output=times * rows * at.blocks * at.output_stride,
        cycles=times * rows * at.blocks * lines,
    )  # fmt: skip


@functools.lru_cache(4096)
def best_cut(arch: Arch, M: int, K: int, N: int, longest: int = 0) -> Cut:
    """The cut with the least traffic among those within a tenth of the least time (arrays or memory)."""
    found = [cut(arch, M, K, N, rows, width, longest) for rows in {1, M} for width in _widths(arch, N)]

    def time(one: Cut) -> float:
        return max(one.cycles, one.moved / arch.peak_read_bytes_per_cycle)

    least = min(map(time, found))
    return min((one for one in found if time(one) <= 1.1 * least), key=lambda one: (one.moved, time(one), -one.width))


def _widths(arch: Arch, N: int) -> Iterable[int]:
    """Powers of two, and the narrowest multiple of 8 that needs as few blocks as the widest."""
    columns = -(-N // arch.max_head_dim)
    even = -(-N // (8 * columns)) * 8
    return {1 << bit for bit in range(3, arch.max_head_dim.bit_length())} | {min(even, arch.max_head_dim)}


class Unbuilt(NamedTuple):
    """Bytes of the best tiling that is not built, and its name."""

    moved: int
    said: str


@functools.lru_cache(4096)
def unbuilt_bytes(arch: Arch, M: int, K: int, N: int) -> Unbuilt:
    """Closed forms of the three classic orders for SRAMs of this size.

    *weights resident*: a column block of all K in half of the V SRAM (else in tiles, sums through memory) while the
    next one comes in, x once per block. *x resident*: as many rows of x as the K SRAM holds, which has nothing else to
    do, W once per block of rows. *outputs resident*: sums of a block of rows and columns in the K SRAM, W and x once
    per block of the other.
    """
    x, w, y = word_bytes(M * K), word_bytes(K * N), word_bytes(M * N, OUTPUT_BITS)
    v_words, k_words = arch.sram.v_bytes * 8 // 12 // 2, arch.sram.k_bytes * 8 // 12
    width = min(N, max(1, v_words // K))
    tiles = -(-K * width // v_words)
    sums = M * N * SUM_BYTES * (tiles - 1) if M > 1 else 0
    found = [Unbuilt(w + x * -(-N // width) + y + 2 * sums, "weights resident")]
    if (rows := k_words // K) >= 1:
        found.append(Unbuilt(x + w * -(-M // rows) + y, "x resident"))
    room = arch.sram.k_bytes // SUM_BYTES
    for cuts in range(1, M + 1):
        tall = -(-M // cuts)
        if (wide := room // tall) >= 1:
            found.append(Unbuilt(w * cuts + x * -(-N // wide) + y, "outputs resident"))
        if wide >= N:
            break
    return min(found)
