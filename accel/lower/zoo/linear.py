"""Weights times activations in ``linear`` mode: x in place of probabilities, rows of W in place of V (docs/modes.md).

`accel.lower.zoo.product` cuts a product as `accel.lower.linear` executes it, so what a phase moves is what its program
moves. A convolution is a product with a row of x per output pixel, in one of two ways: *tap by tap*, each tap's
channels a slice that is fetched where the map lies; or *as rows*, which the host writes out first, so that slices are
full. Groups of few channels are joined, with zeros between them, so that a record holds more than one.
"""

from typing import NamedTuple

from accel.arch import Arch
from accel.lower.zoo.phase import Phase, Piece, Stream, streams_of
from accel.lower.zoo.product import Cut, best_cut, unbuilt_bytes
from workloads.kernels import Aggregate, Conv, Gemm, Gemv
from workloads.systems import Call

STAYS = {True: ("weight tile",), False: ("sums",)}


def moving(stream: Stream, moved: int) -> Stream:
    """The stream of a closed form when it really moves so many bytes one way: some of it kept, or more than once."""
    once = min(stream.read + stream.write, moved)
    kept, again = stream.read + stream.write - once, moved - once
    if stream.write:
        return Stream(stream.name, stream.kind, 0, once, kept, 0, again)
    return Stream(stream.name, stream.kind, once, 0, kept, again, 0)


def product_streams(streams: tuple[Stream, ...], one: Cut, count: int, x: str = "x", w: str = "weights",
                    y: str = "output") -> tuple[Stream, ...]:  # fmt: skip
    """Streams of ``count`` products; ``streams``: the closed form's, of which those that stay on chip are missing."""
    found = []
    known = {stream.name: stream for stream in streams}
    for name, moved, kind in ((w, one.weights, "weights"), (x, one.x, "activation")):
        found.append(moving(known.get(name, Stream(name, kind)), moved * count))  # type: ignore[arg-type]
    if one.sums:
        found.append(Stream("sums", "activation", read_again=one.sums * count, write_again=one.sums * count))
    out = known.get(y, Stream(y, "activation"))
    if out.once:
        found.append(moving(out, one.output * count))
    else:
        found.append(Stream(y, "activation", write_again=one.output * count))
    return tuple(found)


def pieces_of(one: Cut, count: int) -> tuple[Piece, ...]:
    """What the simulator runs for ``count`` products."""
    return (Piece(Gemm(one.rows, one.K, one.N), one.times * count, one.width, one.longest),)


def lower_gemm(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """A matrix product."""
    kernel = call.kernel
    assert isinstance(kernel, Gemm)
    one = best_cut(arch, kernel.M, kernel.K, kernel.N)
    return (
        Phase(
            call.label, "linear", call.times, one.said(), product_streams(streams_of(call), one, 1),
            STAYS[one.rows > 1], one.blocks * one.slices, True, pv_macs=kernel.macs,
            output_values=kernel.M * kernel.N, array_cycles=one.cycles,
            unbuilt_bytes=unbuilt_bytes(arch, kernel.M, kernel.K, kernel.N).moved, pieces=pieces_of(one, 1),
        ),
    )  # fmt: skip


def lower_gemv(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """A vector through a matrix, step after step; the matrix is streamed in each step."""
    kernel = call.kernel
    assert isinstance(kernel, Gemv)
    one = best_cut(arch, 1, kernel.K, kernel.N)
    said = one.said() + (f", weights anew in each of {kernel.steps} steps" if kernel.steps > 1 else "")
    return (
        Phase(
            call.label, "linear", call.times, said, product_streams(streams_of(call), one, kernel.steps),
            ("sums",), one.blocks * one.slices, True, pv_macs=kernel.macs, output_values=kernel.N * kernel.steps,
            array_cycles=one.cycles * kernel.steps, pieces=pieces_of(one, kernel.steps),
        ),
    )  # fmt: skip


class _Way(NamedTuple):
    """A convolution as ``groups`` products of ``joined`` groups each; ``rows``: bytes of x that the host writes out."""

    cut: Cut
    groups: int
    joined: int
    rows: int

    @property
    def moved(self) -> int:
        return self.cut.moved * self.groups + self.rows


def _ways(arch: Arch, kernel: Conv) -> list[_Way]:
    M, taps = kernel.out_height * kernel.out_width, kernel.kernel_height * kernel.kernel_width
    inputs, outputs = kernel.in_channels // kernel.groups, kernel.out_channels // kernel.groups
    found = []
    for joined in range(1, kernel.groups + 1):
        if kernel.groups % joined or (joined > 1 and joined * max(inputs, outputs) > arch.max_head_dim):
            continue
        count, wide = kernel.groups // joined, inputs * joined
        longest = -(-wide // -(-wide // arch.max_head_dim))  # a tap's channels in slices of even length
        found.append(_Way(best_cut(arch, M, taps * wide, outputs * joined, longest), count, joined, 0))
        if taps > 1:
            whole = best_cut(arch, M, taps * wide, outputs * joined)
            found.append(_Way(whole, count, joined, count * whole.x // whole.blocks))
    return found


def lower_conv(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """A convolution as products, in the way that moves least."""
    kernel = call.kernel
    assert isinstance(kernel, Conv)
    way = min(_ways(arch, kernel), key=lambda way: (way.moved, way.cut.cycles * way.groups))
    one, count, known = way.cut, way.groups, {stream.name: stream for stream in streams_of(call)}
    said = f"as {count} x " if count > 1 else "as "
    said += f"[{one.M} x {one.K}] x [{one.K} x {one.N}]"
    said += f", {way.joined} groups joined" if way.joined > 1 else ""
    said += ", rows of x written out by the host" if way.rows else ", tap by tap from the map"
    phases = []
    if way.rows:
        read = known.pop("x", None)
        rows = Stream("rows of x", "activation", write_again=way.rows)
        phases.append(
            Phase(
                f"{call.label}: rows of x", "host", call.times, "the host copies each output's inputs into a record",
                (read, rows) if read else (rows,),
            )
        )  # fmt: skip
    dense = unbuilt_bytes(arch, one.M, one.K // way.joined, one.N // way.joined).moved * kernel.groups
    phases.append(
        Phase(
            call.label, "linear", call.times, f"{said}, {one.said()}",
            product_streams(tuple(known.values()), one, count, x="rows of x" if way.rows else "x"),
            STAYS[one.rows > 1], count * one.blocks * one.slices, True, pv_macs=kernel.macs,
            again_macs=count * one.M * one.K * one.N - kernel.macs, output_values=kernel.out_channels * one.M,
            array_cycles=count * one.cycles, unbuilt_bytes=dense, pieces=pieces_of(one, count),
        )
    )  # fmt: skip
    return tuple(phases)


def lower_aggregate(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """A sub-network known by its totals: every weight once, every multiplier busy."""
    kernel = call.kernel
    assert isinstance(kernel, Aggregate)
    said = "totals only: weights once, full rate; maps between its layers are not known and not counted"
    cycles = -(-kernel.macs // arch.pv.multipliers)
    return (
        Phase(call.label, "linear", call.times, said, streams_of(call), pv_macs=kernel.macs, array_cycles=cycles),
    )  # fmt: skip
