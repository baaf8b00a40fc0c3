"""Softmax attention: as pieces that the cycle simulator runs, or, where a head is too wide, as two products.

*Pieces.* Iterations repeat the whole. Different widths of keys and values become one, padded with zeros; head
dimensions are multiples of 8. Shared keys and values are fetched twice, into either SRAM. Grouped softmax: each block
is an attention of its own, whose output then stands as its landmark's value among the landmarks and later keys.

*Two products.* A head wider than the machine's, and scores without values: scores = K q with K stored dimension by
dimension as a ``linear`` job, softmax on the host, values as a second ``linear`` job with the probabilities as x.
"""

from dataclasses import replace

from accel.arch import Arch
from accel.lower.zoo.linear import pieces_of, product_streams
from accel.lower.zoo.phase import Phase, Piece, Stream, streams_of, word_bytes
from accel.lower.zoo.product import best_cut
from accel.units.softmax import OUTPUT_BITS
from workloads.kernels import SoftmaxAttention
from workloads.systems import Call

GRANULE = 8
"""Head dimensions of a job are multiples of this."""


def lower_softmax(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """One phase of pieces, or the phases of two products."""
    kernel = call.kernel
    assert isinstance(kernel, SoftmaxAttention)
    if kernel.window:
        said = f"refused: window = {kernel.window} has no job of the engine; give its keys as keys"
        return (Phase(call.label, "refused", call.times, said, streams_of(call), host_macs=kernel.macs),)
    dim = -(-max(kernel.head_dim, kernel.dv) // GRANULE) * GRANULE
    if kernel.dv == 0 or dim > arch.max_head_dim:
        return _products(call, arch)
    pieces, said = _pieces(kernel, dim, arch)
    rows = kernel.batch * kernel.query_heads * kernel.queries * kernel.iterations
    again = {"v": (word_bytes(kernel.tensors()["k"]), 0)} if kernel.shared_kv else {}
    more = kernel.iterations - 1
    if more:  # the output comes back as the next query
        size = word_bytes(rows // kernel.iterations * kernel.head_dim)
        back = word_bytes(rows // kernel.iterations * kernel.dv, OUTPUT_BITS)
        again |= {"q": (more * size, 0), "output": (0, more * back)}
    scores = kernel.exponentials
    return (
        Phase(
            call.label, "softmax", call.times, said, streams_of(call, again), ("k", "v", "scores"),
            -(-kernel.keys // arch.tile_keys(dim)), True, qk_macs=scores * kernel.head_dim, pv_macs=scores * kernel.dv,
            exponentials=scores, normalisations=scores, output_values=rows * kernel.dv, pieces=pieces,
        ),
    )  # fmt: skip


def _pieces(kernel: SoftmaxAttention, dim: int, arch: Arch) -> tuple[tuple[Piece, ...], str]:
    said = []
    plain = replace(kernel, head_dim=dim, value_dim=None, shared_kv=False, iterations=1, blocks=0, block_keys=0)
    if kernel.dv != kernel.head_dim or dim != kernel.head_dim:
        said.append(f"keys of {kernel.head_dim} and values of {kernel.dv} padded to {dim}")
    if kernel.shared_kv:
        said.append("shared keys and values fetched twice")
    if kernel.iterations > 1:
        said.append(f"{kernel.iterations} iterations through memory")
    if kernel.query_heads > arch.max_heads:
        groups = -(-kernel.query_heads // arch.max_heads)
        while kernel.kv_heads % groups:
            groups += 1
        said.append(f"heads in {groups} programs")
        plain = replace(plain, query_heads=kernel.query_heads // groups, kv_heads=kernel.kv_heads // groups)
        pieces: tuple[Piece, ...] = (Piece(plain, groups * kernel.iterations),)
    elif kernel.blocks:
        inner = replace(plain, mask="none", query_start=0, keys=kernel.block_keys - 1)
        outer = replace(plain, mask="none", query_start=0, keys=kernel.keys - kernel.blocks * (kernel.block_keys - 1))
        pieces = (Piece(inner, kernel.blocks * kernel.iterations), Piece(outer, kernel.iterations))
        said.append(f"{kernel.blocks} blocks first, their outputs stand as their landmarks' values")
    else:
        pieces = (Piece(plain, kernel.iterations),)
    tiles = -(-kernel.keys // arch.tile_keys(dim))
    said.append(f"{tiles} tiles of {arch.tile_keys(dim)} keys" if tiles > 1 else "keys and values of a head stay")
    return pieces, ", ".join(said)


def _products(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """Scores and values as ``linear`` jobs per K/V head, the softmax between them on the host."""
    kernel = call.kernel
    assert isinstance(kernel, SoftmaxAttention)
    heads, M = kernel.batch * kernel.kv_heads * kernel.iterations, kernel.group * kernel.queries
    why = "scores only" if kernel.dv == 0 else f"head of {max(kernel.head_dim, kernel.dv)} > {arch.max_head_dim}"
    masked = heads * kernel.group * (kernel.queries * kernel.keys - kernel.pairs)  # a product does not know of a mask
    streams = streams_of(call)
    score_bytes = heads * M * kernel.keys
    first = best_cut(arch, M, kernel.head_dim, kernel.keys)
    phases = [
        Phase(
            f"{call.label}: scores", "linear", call.times,
            f"{why}: K as weights, dimension by dimension; {first.said()}",
            product_streams(streams, first, heads, "q", "k", "scores"), ("q",), first.blocks * first.slices, True,
            pv_macs=kernel.exponentials * kernel.head_dim, again_macs=masked * kernel.head_dim,
            output_values=score_bytes, array_cycles=heads * first.cycles, pieces=pieces_of(first, heads),
        ),
        Phase(
            f"{call.label}: softmax", "host", call.times, f"{why}: softmax on the host, scores through memory",
            (Stream("scores", "activation", read_again=word_bytes(score_bytes, OUTPUT_BITS)),),
            exponentials=kernel.exponentials,
        ),
    ]  # fmt: skip
    if kernel.dv == 0:
        return tuple(phases)
    second = best_cut(arch, M, kernel.keys, kernel.dv)
    known = tuple(stream for stream in streams if stream.name in ("v", "output"))
    made = Stream("probabilities", "activation", write_again=word_bytes(score_bytes))
    phases[1] = replace(phases[1], streams=(*phases[1].streams, made))
    phases.append(
        Phase(
            f"{call.label}: values", "linear", call.times, f"probabilities as x; {second.said()}",
            product_streams(known, second, heads, "probabilities", "v"), ("v tile",), second.blocks * second.slices,
            True, pv_macs=kernel.exponentials * kernel.dv, again_macs=masked * kernel.dv,
            output_values=heads * M * kernel.dv, array_cycles=heads * second.cycles, pieces=pieces_of(second, heads),
        )
    )  # fmt: skip
    return tuple(phases)
