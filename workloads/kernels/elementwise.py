"""Small functions of single numbers, and selection."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

from workloads.kernels.base import Kernel

Function = Literal[
    "add", "multiply", "scale", "relu", "sigmoid", "tanh", "silu", "exp", "reverse_gate", "bilinear", "convex_upsample",
    "fft",
]  # fmt: skip


class _Cost(NamedTuple):
    """Per output number, and per group of `shared` output numbers that one gate serves."""

    reads: int = 1
    ops: int = 0
    macs: int = 0
    exponentials: int = 0
    gate_reads: int = 0
    gate_ops: int = 0
    gate_exponentials: int = 0


_COSTS: dict[str, _Cost] = {
    "add": _Cost(reads=2, ops=1),
    "multiply": _Cost(reads=2, ops=1),
    "scale": _Cost(ops=1),  # by a factor that is on chip
    "relu": _Cost(ops=1),
    "sigmoid": _Cost(ops=2, exponentials=1),  # 1 / (1 + e): an addition and a division
    "tanh": _Cost(ops=3, exponentials=1),  # 2 sigmoid(2x) - 1, the factor 2 folded into the exponent's constant
    "silu": _Cost(ops=3, exponentials=1),
    "exp": _Cost(exponentials=1),
    "reverse_gate": _Cost(ops=1, gate_reads=1, gate_ops=2, gate_exponentials=1),  # (1 - sigmoid(s)) x = sigmoid(-s) x
    "bilinear": _Cost(reads=4, ops=4),  # four neighbours at a place that is not known before: none is reused
    "convex_upsample": _Cost(
        reads=0, macs=9, gate_reads=9, gate_exponentials=9
    ),  # softmax over 9 weights, 9 neighbours
    "fft": _Cost(),
}
_FINE_PER_COARSE = 64
"""`convex_upsample` makes 8 x 8 fine points from each coarse one (DocScanner and RAFT alike)."""


@dataclass(frozen=True)
class Elementwise(Kernel):
    """`function` of every one of `elements` output numbers.

    ``shared``: output numbers that one gate or one set of weights serves (reverse_gate: the channels of a pixel;
    convex_upsample: the channels of a fine point). ``length``: points of one transform, for fft only; its `elements`
    are complex points, so two numbers each, and it takes 5 log2(length) operations per point (the usual count for a
    radix-2 transform; mixed radices are taken as that).

    * in = elements * reads + elements / shared * gate reads (convex_upsample: + elements / 64 coarse numbers)
    * out = elements (fft: in = out = 2 * elements)

    Raises:
        UserError: a size below 1, a function that is not known, `shared` that does not divide the elements, `length`
            that does not divide the elements or is given for another function than fft.
    """

    called: ClassVar[str] = "elementwise"

    elements: int
    function: Function
    shared: int = 1
    length: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("shared", "length"):
            if self.elements % getattr(self, name):
                raise self._error(f"{name} = {getattr(self, name)}: must divide elements = {self.elements}")
        if (self.function == "fft") != (self.length > 1):
            raise self._error(f"length = {self.length}: an fft has one of 2 or more, nothing else has one")
        if self.shared > 1 and not _COSTS[self.function].gate_reads:
            raise self._error(f"shared = {self.shared}: {self.function} has nothing to share")

    @property
    def _cost(self) -> _Cost:
        return _COSTS[self.function]

    @property
    def macs(self) -> int:
        return self._cost.macs * self.elements

    @property
    def exponentials(self) -> int:
        return self._cost.exponentials * self.elements + self._cost.gate_exponentials * (self.elements // self.shared)

    @property
    def elementwise_ops(self) -> int:
        if self.function == "fft":
            return int(5 * self.elements * math.log2(self.length))
        return self._cost.ops * self.elements + self._cost.gate_ops * (self.elements // self.shared)

    def tensors(self) -> dict[str, int]:
        if self.function == "fft":
            return {"x": 2 * self.elements, "output": 2 * self.elements}
        read = self._cost.reads * self.elements + self._cost.gate_reads * (self.elements // self.shared)
        if self.function == "convex_upsample":
            read += self.elements // _FINE_PER_COARSE
        return {"x": read, "output": self.elements}


@dataclass(frozen=True)
class TopK(Kernel):
    """The k largest of n scores that are on chip, `times` times.

    elementwise = n * times: one pass of comparisons. The quick-select engine takes two to three passes; how many is
    the engine's business.

    Raises:
        UserError: a size below 1, or k larger than n.
    """

    called: ClassVar[str] = "topk"

    n: int
    k: int
    times: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k > self.n:
            raise self._error(f"k = {self.k}: must be no more than n = {self.n}")

    @property
    def elementwise_ops(self) -> int:
        return self.n * self.times

    def tensors(self) -> dict[str, int]:
        return {"scores": 0}


assert set(_COSTS) == set(get_args(Function))
