"""Where tensors lie in memory: one region per (layer, head or head pair), so that a head's rows are contiguous."""

import functools
from dataclasses import dataclass

from accel.arch import Arch
from accel.units.fetcher import fused_heads, record_bytes, row_stride_bytes
from accel.units.pv import PARTIAL_PLANES
from accel.units.softmax import OUTPUT_BITS

REGION_ALIGN_BYTES = 4096  # the AXI rule that a burst may not cross 4 KiB


def partial_stride_bytes(head_dim: int, atom_bytes: int) -> int:
    """Bytes from row to row of the sums that a tile hands to the next one: whole accesses for each plane.

    Word d of planes 0 and 1, and the lower byte of word d of plane 2, are the 40 bits of the weighted V sum of
    dimension d. The upper bytes of plane 2 are the header: bytes 0 and 1 (of words 0 and 1) the running maximum,
    signed, bytes 2 to 7 the running sum of exponents; 0 from word 8 on. All numbers low byte first.
    ``accel.lower.partials`` packs and unpacks it.
    """
    return PARTIAL_PLANES * -(-head_dim * OUTPUT_BITS // 8 // atom_bytes) * atom_bytes


@dataclass(frozen=True)
class Layout:
    """Addresses of one network's tensors.

    ``tokens``: rows reserved per head; ``queries``: query rows reserved per head. Widths in bits; ``lsb_bits`` may be
    0. ``pair_heads``: heads may lie side by side where that saves accesses. ``tiled``: reserve a row for the sums
    that a query row hands from tile to tile.
    """

    arch: Arch
    layers: int
    heads: int
    head_dim: int
    tokens: int
    queries: int
    msb_bits: int
    lsb_bits: int
    value_bits: int
    pair_heads: bool = True
    tiled: bool = False

    @property
    def _atom(self) -> int:
        return self.arch.memory_spec.access_bytes

    @property
    def fuse(self) -> int:
        """Heads whose MSB rows lie side by side."""
        return fused_heads(self.head_dim, self.msb_bits, self._atom) if self.pair_heads else 1

    def fused(self, head: int) -> bool:
        """Whether this head shares its K rows with its neighbour; the last of an odd number stands alone."""
        return self.fuse == 2 and head // 2 * 2 + 1 < self.heads

    @property
    def query_stride(self) -> int:
        """Bytes from query row to query row: 12-bit words, whole accesses."""
        return -(-record_bytes(self.head_dim, self.arch.value_bits) // self._atom) * self._atom

    @property
    def output_stride(self) -> int:
        """Bytes from output row to output row, whole accesses."""
        return -(-self.head_dim * OUTPUT_BITS // 8 // self._atom) * self._atom

    @property
    def partial_stride(self) -> int:
        """Bytes from row to row of what a tile leaves behind: weighted V sums, running maximum and sum."""
        return partial_stride_bytes(self.head_dim, self._atom)

    def _region(self, stride: int, rows: int) -> int:
        return -(-stride * rows // REGION_ALIGN_BYTES) * REGION_ALIGN_BYTES

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return {
            "k_msb": self._region(row_stride_bytes(self.head_dim, self.msb_bits, self._atom, self.fuse), self.tokens),
            "k_lsb": self._region(row_stride_bytes(self.head_dim, self.lsb_bits, self._atom), self.tokens)
            if self.lsb_bits
            else 0,
            "v": self._region(row_stride_bytes(self.head_dim, self.value_bits, self._atom), self.tokens),
            "q": self._region(self.query_stride, self.queries),
            "output": self._region(self.output_stride, self.queries),
            "partial": self._region(self.partial_stride, self.queries) if self.tiled else 0,
        }

    def address(self, tensor: str, layer: int, head: int) -> int:
        """First byte of a head's rows in ``k_msb``, ``k_lsb``, ``v``, ``q``, ``output`` or ``partial``."""
        base = 0
        for name, size in self._sizes.items():
            per_layer = (-(-self.heads // self.fuse) if name == "k_msb" else self.heads) * size
            if name == tensor:
                return base + layer * per_layer + (head // self.fuse if name == "k_msb" else head) * size
            base += self.layers * per_layer
        raise KeyError(tensor)
