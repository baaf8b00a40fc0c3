"""Weights times activations to jobs of mode ``linear``.

W is cut into blocks of columns, one job's outputs, and slices of rows, one job's elements of x. Both are
``linear_dim`` wide: a query record holds a slice of x, a V row the words of one row of W in a block. A block's slices
are tiles of the same rows, so sums go on exactly; of a single row of x on chip, of several through memory.
"""

from dataclasses import dataclass
from functools import cached_property

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.attention import Item
from accel.lower.layout import REGION_ALIGN_BYTES, partial_stride_bytes
from accel.numerics.quantise import encode_scale
from accel.program import Flag, Mode, Opcode, Program, jobs_of
from accel.units.fetcher import record_bytes, row_stride_bytes
from accel.units.softmax import OUTPUT_BITS, SCALE_BITS
from workloads.kernels import Gemm

#: Scores are x with as many bits behind it as a weight loses of a score, so 1 makes weights of x itself.
WHOLE = encode_scale(1.0, SCALE_BITS)


@dataclass(frozen=True)
class LinearLayout:
    """Addresses of ``rows`` rows of x (``inputs`` long), W and ``outputs``; ``weight_bits`` of W in memory.

    ``width``: words of a block, a multiple of 8; ``longest``: elements of x in a job at most. 0: as many as there can.
    """

    arch: Arch
    rows: int
    inputs: int
    outputs: int
    weight_bits: int = 12
    base: int = 0
    width: int = 0
    longest: int = 0

    @property
    def dim(self) -> int:
        """Words of a block and of a slice at most."""
        return self.width or min(self.arch.max_head_dim, -(-self.outputs // 8) * 8)

    @property
    def slice(self) -> int:
        """Elements of x in a job."""
        most = min(self.dim, self.arch.tile_keys(self.dim))
        return min(most, self.longest) if self.longest else most

    @property
    def blocks(self) -> int:
        return -(-self.outputs // self.dim)

    @property
    def slices(self) -> int:
        return -(-self.inputs // self.slice)

    @property
    def _atom(self) -> int:
        return self.arch.memory_spec.access_bytes

    @property
    def x_stride(self) -> int:
        return -(-record_bytes(self.dim, self.arch.value_bits) // self._atom) * self._atom

    @property
    def weight_stride(self) -> int:
        return row_stride_bytes(self.dim, self.weight_bits, self._atom)

    @property
    def output_stride(self) -> int:
        return -(-self.dim * OUTPUT_BITS // 8 // self._atom) * self._atom

    @property
    def partial_stride(self) -> int:
        return partial_stride_bytes(self.dim, self._atom)

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Size and number of each tensor's regions."""
        sizes = {
            "x": (self.x_stride * self.rows, self.slices),
            "w": (self.weight_stride * self.inputs, self.blocks),
            "output": (self.output_stride * self.rows, self.blocks),
            "partial": (self.partial_stride * self.rows, self.blocks),
        }
        return {name: (-(-size // REGION_ALIGN_BYTES) * REGION_ALIGN_BYTES, n) for name, (size, n) in sizes.items()}

    def address(self, tensor: str, number: int) -> int:
        """First byte of a slice of ``x``, or of a block of ``w``, ``output`` or ``partial``."""
        at = self.base
        for name, (size, count) in self._sizes.items():
            if name == tensor:
                return at + number * size
            at += size * count
        raise KeyError(tensor)


def lower_linear(
    kernel: Gemm, arch: Arch, *, weight_bits: int = 12, scale: tuple[int, int] = (0, 0), base: int = 0,
    width: int = 0, longest: int = 0,
) -> Program:  # fmt: skip
    """Y = X W.

    Args:
        weight_bits: width of W in memory. scale: mantissa and shift of the output scale
            (:func:`accel.numerics.decay.output_scale`). base: address of the first tensor. width, longest: outputs and
            inputs of a job, as in :class:`LinearLayout`.

    Raises:
        UserError: more inputs than positions, or anything that Program.check refuses.
    """
    layout = LinearLayout(arch, kernel.M, kernel.K, kernel.N, weight_bits, base, width, longest)
    if layout.slice < 1:
        raise UserError(f"N = {kernel.N}: machine {arch.name} holds no row of {layout.dim} words")
    items: list[Item] = []
    for block in range(layout.blocks):
        for s in range(layout.slices):
            first = s * layout.slice
            items.append(
                {
                    "opcode": Opcode.ATTEND,
                    "flags": (Flag.FIRST_TILE if s == 0 else 0) | (Flag.LAST_TILE if s == layout.slices - 1 else 0),
                    "mode": Mode.LINEAR,
                    "msb_bits": arch.value_bits,  # of no meaning, but the same in all jobs
                    "value_bits": weight_bits,
                    "layer": block,
                    "group": 1,
                    "head_dim": layout.dim,
                    "queries": kernel.M,
                    "keys": min(layout.slice, kernel.K - first),
                    "keep_ratio": 1 << 16,
                    "score_mantissa": WHOLE[0],
                    "score_shift": WHOLE[1],
                    "output_mantissa": scale[0],
                    "output_shift": scale[1],
                    "q_address": layout.address("x", s),
                    "v_address": layout.address("w", block) + first * layout.weight_stride,
                    "output_address": layout.address("output", block),
                    "partial_address": layout.address("partial", block),
                    "q_stride": layout.x_stride,
                    "output_stride": layout.output_stride,
                }
            )
    program = Program(jobs_of(items))
    program.check(arch)
    return program
