"""Retention's parallel form in ``decay`` mode: keys and values resident, scores times a factor, no softmax.

A head wider than the machine's is cut. Column blocks of V each need all scores again. Row blocks of q and k each make
a part of the score; since a weight is linear in its score, every part passes the PV array by itself and the sums carry
on through memory.
"""

from accel.arch import Arch
from accel.lower.zoo.causal import causal_work
from accel.lower.zoo.phase import SUM_BYTES, Phase, Piece, blocks, streams_of, word_bytes
from workloads.kernels import DecayAttention
from workloads.systems import Call


def lower_decay(call: Call, arch: Arch, windows: tuple[int, ...] | None = None) -> tuple[Phase, ...]:
    """``windows``: keys that a query of each head sees (technique *decay window*); None: all before it."""
    kernel = call.kernel
    assert isinstance(kernel, DecayAttention)
    L, dk, dv = kernel.length, kernel.key_dim, kernel.value_dim
    nk, nv = len(blocks(dk, arch.max_head_dim)), len(blocks(dv, arch.max_head_dim))
    dim = min(max(dk, dv), arch.max_head_dim)
    # Heads with the same window do the same work.
    works = {window: causal_work(arch, L, dim, window) for window in set(windows or (None,))}
    heads = [works[window] for window in windows or (None,) * kernel.heads]
    rows = sum(work.query_rows for work in heads)
    sums = sum(nk * work.handed_on + (nk - 1) * L for work in heads) * dv * SUM_BYTES
    again = {
        "q": (word_bytes((nv * rows - kernel.heads * L) * dk), 0),
        "k": (word_bytes((nv - 1) * kernel.heads * L * dk), 0),
        "v": (word_bytes((nk - 1) * kernel.heads * L * dv), 0),
    } | ({"sums": (sums, sums)} if sums else {})
    tiles = heads[0].tiles
    said = f"{tiles} tiles of {arch.tile_keys(dim)} keys, sums through memory" if tiles > 1 else "keys and values stay"
    if nk * nv > 1:
        said += f"; {nk} x {nv} blocks of {arch.max_head_dim}: scores made {nv} times, values used {nk} times"
    pairs = kernel.pairs * kernel.heads
    done = nk * nv * pairs
    return (
        Phase(
            call.label, "decay", call.times, said, streams_of(call, again), ("k", "v"), tiles * nk * nv, True,
            qk_macs=pairs * dk, pv_macs=pairs * dv, again_macs=(nv - 1) * pairs * dk + (nk - 1) * pairs * dv,
            exponentials=done, normalisations=done, output_values=kernel.heads * L * dv,
            array_cycles=nk * nv * sum(work.lines for work in heads),
            pieces=() if windows else (Piece(kernel, 1),),
        ),
    )  # fmt: skip
