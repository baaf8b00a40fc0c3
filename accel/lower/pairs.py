"""Fused heads: two K/V heads whose MSB rows lie side by side in memory are fetched together."""

import numpy as np

from accel.arch import Arch
from accel.lower.layout import Layout
from accel.program import Fused, Jobs, Opcode


def pair_fits(arch: Arch, head_dim: int, keys: int) -> bool:
    """Whether two heads of ``keys`` keys take at most half of the K SRAM, so that the next pair can follow.

    The two keys of a pair share a bank's entry, so a head wider than half of it has no room for another.
    """
    if 2 * arch.padded_head_dim(head_dim) > arch.max_head_dim:
        return False
    return 2 * -(-keys // arch.keys_per_line(head_dim)) <= arch.k_lines(head_dim, pair=True)


def fuse_pairs(jobs: Jobs, layout: Layout) -> None:
    """Mark neighbouring heads that share their K rows in memory and are both worked on, one after the other."""
    if layout.fuse == 1:
        return
    attend = jobs["opcode"] == Opcode.ATTEND
    first = np.zeros(len(jobs), bool)
    first[:-1] = (
        attend[:-1]
        & attend[1:]
        & (jobs["head"][:-1] % 2 == 0)
        & (jobs["head"][1:] == jobs["head"][:-1] + 1)
        & (jobs["layer"][1:] == jobs["layer"][:-1])
        & (jobs["keys"][1:] == jobs["keys"][:-1])
    )
    for keys in np.unique(jobs["keys"][first]):
        if not pair_fits(layout.arch, layout.head_dim, int(keys)):
            first &= jobs["keys"] != keys
    jobs["fused"][first] = Fused.FIRST
    jobs["fused"][1:][first[:-1]] = Fused.SECOND
