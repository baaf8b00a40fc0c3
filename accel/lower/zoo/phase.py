"""What a kernel becomes on the engine: phases, each one mode of the engine with its traffic, work and decision.

A phase is lowered further to a :class:`~accel.program.Program` where the cycle simulator has its mode (`pieces`);
otherwise `array_cycles` is what its arrays take by docs/modes.md. All numbers are of one repeat.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from accel.arch import Arch
from accel.units.modes import STATE_BITS
from accel.units.softmax import OUTPUT_BITS
from workloads.kernels import DecayAttention, Gemm, SoftmaxAttention, StateUpdate, StreamKind
from workloads.systems import Call

Mode = Literal["softmax", "decay", "linear", "state", "scan", "host", "refused"]

WORD = 12
ENGINE_BITS: Mapping[str, int] = {
    "weights": WORD,
    "cache": WORD,
    "activation": WORD,
    "state": STATE_BITS,
    "output": OUTPUT_BITS,
}
"""Bits per number in memory, by stream or kind of stream: 12-bit words, states with both halves, outputs."""
SUM_BYTES = 6
"""A sum that leaves the chip between tiles: three 16-bit planes (docs/numerics.md)."""
WRITTEN = ("output",)


@dataclass(frozen=True)
class Stream:
    """Bytes of one tensor. ``kept``: part of the closed form that does not move, since the tensor stays on chip
    longer than the closed form says. ``*_again``: beyond the closed form (tiles, column blocks, spills, padding).
    """

    name: str
    kind: StreamKind
    read: int = 0
    write: int = 0
    kept: int = 0
    read_again: int = 0
    write_again: int = 0

    @property
    def once(self) -> int:
        """What the kernel's closed form says."""
        return self.read + self.write + self.kept

    @property
    def again(self) -> int:
        """Bytes beyond the closed form."""
        return self.read_again + self.write_again

    @property
    def moved(self) -> int:
        """Bytes over the memory bus."""
        return self.read + self.write + self.again


@dataclass(frozen=True)
class Piece:
    """A kernel that the simulator runs as it stands, ``times`` in one repeat of its phase. ``width``, ``longest``: of a
    product, outputs and inputs of a job (:class:`~accel.lower.linear.LinearLayout`).
    """

    kernel: SoftmaxAttention | DecayAttention | Gemm | StateUpdate
    times: int
    width: int = 0
    longest: int = 0


@dataclass(frozen=True)
class Phase:
    """One mode of the engine at work on one kernel.

    ``stays``: tensors in SRAM while it runs; ``tiles``: pieces that its largest tensor is cut into. ``qk_macs``,
    ``pv_macs``: the closed form's, by array; ``again_macs``: done twice on account of tiling; ``host_macs``: not done
    by the engine. ``normalisations``: products in the softmax lanes (factors, k', q'). ``output_values``: numbers
    through the output scaler. ``unbuilt_bytes``: fewer bytes that a tiling would move that no engine here has.
    """

    name: str
    mode: Mode
    repeats: int
    decision: str
    streams: tuple[Stream, ...] = ()
    stays: tuple[str, ...] = ()
    tiles: int = 1
    double_buffered: bool = False
    qk_macs: int = 0
    pv_macs: int = 0
    again_macs: int = 0
    host_macs: int = 0
    exponentials: int = 0
    normalisations: int = 0
    output_values: int = 0
    array_cycles: int = 0
    unbuilt_bytes: int | None = None
    pieces: tuple[Piece, ...] = field(default=(), compare=False)

    @property
    def macs(self) -> int:
        """The closed form's multiply-accumulates that this phase stands for, wherever they are done."""
        return self.qk_macs + self.pv_macs + self.host_macs

    @property
    def once_bytes(self) -> int:
        """Bytes of the closed form."""
        return sum(stream.once for stream in self.streams)

    @property
    def moved_bytes(self) -> int:
        """Bytes over the memory bus, as lowered."""
        return sum(stream.moved for stream in self.streams)


def streams_of(call: Call, again: Mapping[str, tuple[int, int]] | None = None) -> tuple[Stream, ...]:
    """The closed form's streams of a call (one repeat) at the engine's widths.

    ``again``: stream name -> (bytes read, bytes written) beyond it; a name that the kernel does not have (``sums``)
    makes a stream of its own.
    """
    kernel, more = call.kernel, dict(again or {})
    found = []
    for name, size in kernel.moved_bytes(ENGINE_BITS).items():
        kind = kernel.kind_of(name)
        if call.on_chip & {name, kind}:
            size = 0
        read_again, write_again = more.pop(name, (0, 0))
        half = size // 2 if kind == "state" else 0
        write = half if kind == "state" else size if name in WRITTEN else 0
        found.append(Stream(name, kind, size - write, write, 0, read_again, write_again))
    found += [Stream(name, "activation", read_again=read, write_again=write) for name, (read, write) in more.items()]
    return tuple(stream for stream in found if stream.once or stream.again)


def word_bytes(numbers: int, bits: int = WORD) -> int:
    """Whole bytes of so many words."""
    return -(-numbers * bits // 8)


def blocks(size: int, widest: int) -> list[int]:
    """``size`` cut into pieces of at most ``widest``."""
    return [widest] * (size // widest) + ([size % widest] if size % widest else [])


def line_cycles(arch: Arch, rows: int, dim: int) -> int:
    """Cycles in which the PV array (and QK, which is as wide) takes ``rows`` rows of ``dim`` numbers, line by line."""
    return -(-rows // arch.values_per_line(dim)) * arch.pv_fold(dim)
