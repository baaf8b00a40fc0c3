"""Retention in its parallel form to jobs of mode ``decay``.

A head is a job, as in softmax attention, and longer contexts are cut into the same tiles. Values wider than keys are
cut into blocks of columns, each with a job that scores the keys again; narrower ones are padded with zeros. Keys wider
than a record are cut into row blocks: a weight is linear in its score, so each block's part of the scores becomes
weights of its own, and the sums carry on from block to block as from tile to tile.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.attention import Item, Part, parts
from accel.lower.layout import Layout
from accel.lower.pairs import fuse_pairs, pair_fits
from accel.numerics.decay import encode_decay
from accel.program import Flag, Mode, Opcode, Program, jobs_of
from workloads.kernels import DecayAttention


class HeadScale(NamedTuple):
    """Mantissa and shift of a head's score scale (:func:`accel.numerics.decay.weight_scale`) and of its output scale
    (:func:`accel.numerics.decay.output_scale`). Zeros: the program has traffic and time, but no values.
    """

    score: tuple[int, int] = (0, 0)
    output: tuple[int, int] = (0, 0)


def decay_layout(
    kernel: DecayAttention, arch: Arch, key_bits: int = 12, value_bits: int = 12, layers: int = 1
) -> Layout:
    """Where the tensors lie: block b of head h is the layout's head ``h * blocks + b``. Q and K have row blocks there,
    V and outputs column blocks; ``blocks`` is the larger number of them.
    """
    dim = min(-(-kernel.key_dim // 8) * 8, arch.max_head_dim)
    rows = row_blocks(kernel, arch)
    blocks, tiled = max(rows, -(-kernel.value_dim // dim)), kernel.length > arch.tile_keys(dim) or rows > 1
    pairs = blocks == 1 and not tiled and pair_fits(arch, dim, kernel.length)
    return Layout(
        arch, layers, kernel.heads * blocks, dim, kernel.length, kernel.length, key_bits, 0, value_bits,
        pair_heads=pairs, tiled=tiled,
    )  # fmt: skip


def row_blocks(kernel: DecayAttention, arch: Arch) -> int:
    """Records that a key is cut into."""
    return -(-kernel.key_dim // arch.max_head_dim)


def _passes(queries: int, keys: int, tile: int, start: int, rows: int) -> Iterator[tuple[Part, int]]:
    """Parts of all tiles and the row block that each is of. Only behind the last block do rows part into those that
    end in the tile and those that go on, so that sums are taken in the order in which they were left.
    """
    for _, of_tile in itertools.groupby(parts(queries, keys, tile, start), key=lambda part: part.first_key):
        found = list(of_tile)
        first, count = found[0], sum(part.queries for part in found)
        for block in range(rows - 1):
            yield first._replace(queries=count, starts=first.starts and block == 0, ends=False), block
        for part in found:
            yield part._replace(starts=part.starts and rows == 1), rows - 1


def lower_decay(
    kernel: DecayAttention,
    arch: Arch,
    *,
    layers: int = 1,
    queries: int | None = None,
    key_bits: int = 12,
    value_bits: int = 12,
    scales: Sequence[HeadScale] | None = None,
) -> Program:
    """All heads of ``layers`` layers.

    Args:
        queries: the last so many tokens are queries; None: all. key_bits, value_bits: widths in memory. scales: one per
            head, for all layers.

    Raises:
        UserError: heads that the machine does not have, or anything that Program.check refuses.
    """
    layout = decay_layout(kernel, arch, key_bits, value_bits, layers)
    dim, blocks = layout.head_dim, layout.heads // kernel.heads
    columns, rows = -(-kernel.value_dim // dim), row_blocks(kernel, arch)
    queries = kernel.length if queries is None else queries
    if not 1 <= queries <= kernel.length:
        raise UserError(f"queries = {queries}: must be 1 to {kernel.length}")
    decays = encode_decay(kernel.decays)
    scales = scales if scales is not None else [HeadScale()] * kernel.heads
    start = kernel.length - queries
    # No token state: contexts may be longer than it, and nothing is ever pruned.
    items: list[Item] = [{"opcode": Opcode.TOKENS, "flags": Flag.RESTART}]
    for layer in range(layers):
        for head, column in itertools.product(range(kernel.heads), range(columns)):
            place = head * blocks + column
            score, output = scales[head]
            where = {name: layout.address(name, layer, place) for name in ("q", "v", "output")}
            for part, row in _passes(queries, kernel.length, arch.tile_keys(dim), start, rows):
                flags = Flag.CAUSAL | (Flag.FIRST_TILE if part.starts else 0) | (Flag.LAST_TILE if part.ends else 0)
                q_row, sums = part.first_query, layout.tiled
                items.append(
                    {
                        "opcode": Opcode.ATTEND,
                        "flags": flags,
                        "mode": Mode.DECAY,
                        "msb_bits": key_bits,
                        "value_bits": value_bits,
                        "layer": layer,
                        "head": head,
                        "group": 1,
                        "head_dim": dim,
                        "queries": part.queries,
                        "keys": part.keys,
                        "first_key": part.first_key,
                        # Counted from the tile's first key, also where all rows see the whole tile: it gives the lag.
                        "first_visible": start + q_row + 1 - part.first_key,
                        "keep_ratio": 1 << 16,
                        "decay": int(decays[head]),
                        "score_mantissa": score[0],
                        "score_shift": score[1],
                        "output_mantissa": output[0],
                        "output_shift": output[1],
                        "q_address": layout.address("q", layer, head * blocks + row) + q_row * layout.query_stride,
                        "k_msb_address": layout.address("k_msb", layer, head * blocks + row),
                        "v_address": where["v"],
                        "output_address": where["output"] + q_row * layout.output_stride,
                        "partial_address": layout.address("partial", layer, place) + q_row * layout.partial_stride
                        if sums
                        else 0,
                        "q_stride": layout.query_stride,
                        "output_stride": layout.output_stride,
                    }
                )
    jobs = jobs_of(items)
    fuse_pairs(jobs, layout)
    program = Program(jobs)
    program.check(arch)
    return program
