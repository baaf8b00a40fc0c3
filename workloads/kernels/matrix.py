"""Weights times activations: vector, matrix, convolution, and whole sub-networks known by their totals only."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from workloads.kernels.base import Kernel


@dataclass(frozen=True)
class Gemv(Kernel):
    """y[N] = x[K] W[K, N], `steps` times one after another (the steps of a recurrence), W the same in all of them.

    * macs = K * N * steps; weight_numbers = K * N
    * weights = K * N * steps (streamed again each step unless kept), x = K * steps, output = N * steps

    Raises:
        UserError: a size below 1.
    """

    called: ClassVar[str] = "gemv"

    K: int
    N: int
    steps: int = 1

    @property
    def macs(self) -> int:
        return self.K * self.N * self.steps

    @property
    def weight_numbers(self) -> int:
        return self.K * self.N

    def tensors(self) -> dict[str, int]:
        return {"weights": self.macs, "x": self.K * self.steps, "output": self.N * self.steps}


@dataclass(frozen=True)
class Gemm(Kernel):
    """Y[M, N] = X[M, K] W[K, N], all M rows at hand at once, so each weight moves once.

    macs = M * K * N; weights = K * N, x = M * K, output = M * N.

    Raises:
        UserError: a size below 1.
    """

    called: ClassVar[str] = "gemm"

    M: int
    K: int
    N: int

    @property
    def macs(self) -> int:
        return self.M * self.K * self.N

    @property
    def weight_numbers(self) -> int:
        return self.K * self.N

    def tensors(self) -> dict[str, int]:
        return {"weights": self.K * self.N, "x": self.M * self.K, "output": self.M * self.N}


Padding = Literal["same", "valid"]


@dataclass(frozen=True)
class Conv(Kernel):
    """Convolution of an input map [in_channels, height, width] to [out_channels, out_height, out_width].

    A kernel spans e = dilation * (size - 1) + 1. Padding "valid": out = (in - e) // stride + 1; "same" pads e // 2 on
    both sides: out = (in + 2 (e // 2) - e) // stride + 1, which is ceil(in / stride) for odd kernels.

    * macs = in_channels / groups * out_channels * kernel_height * kernel_width * out_height * out_width
    * weights = in_channels / groups * out_channels * kernel_height * kernel_width; x, output = the maps, once each

    Raises:
        UserError: a size below 1, channels that groups do not divide, or a kernel larger than the map.
    """

    called: ClassVar[str] = "conv"

    in_channels: int
    out_channels: int
    kernel_height: int
    kernel_width: int
    height: int
    width: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: Padding = "same"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise self._error(f"{name} = {getattr(self, name)}: must be a multiple of groups = {self.groups}")
        for name, out in (("height", self.out_height), ("width", self.out_width)):
            if out < 1:
                raise self._error(f"{name} = {getattr(self, name)}: the kernel is larger than the map without padding")

    def _out(self, size: int, kernel: int) -> int:
        span = self.dilation * (kernel - 1) + 1
        padded = size + (2 * (span // 2) if self.padding == "same" else 0)
        return (padded - span) // self.stride + 1

    @property
    def out_height(self) -> int:
        """Rows of the output map."""
        return self._out(self.height, self.kernel_height)

    @property
    def out_width(self) -> int:
        """Columns of the output map."""
        return self._out(self.width, self.kernel_width)

    @property
    def weight_numbers(self) -> int:
        return self.in_channels // self.groups * self.out_channels * self.kernel_height * self.kernel_width

    @property
    def macs(self) -> int:
        return self.weight_numbers * self.out_height * self.out_width

    def tensors(self) -> dict[str, int]:
        return {
            "weights": self.weight_numbers,
            "x": self.in_channels * self.height * self.width,
            "output": self.out_channels * self.out_height * self.out_width,
        }


@dataclass(frozen=True)
class Aggregate(Kernel):
    """A sub-network of which only the totals are known (a backbone): it counts, but cannot be run.

    macs and weights are the fields; maps between its layers are not known and not counted.

    Raises:
        UserError: a total below 1.
    """

    called: ClassVar[str] = "aggregate"

    total_macs: int
    total_weights: int

    @property
    def macs(self) -> int:
        return self.total_macs

    @property
    def weight_numbers(self) -> int:
        return self.total_weights

    def tensors(self) -> dict[str, int]:
        return {"weights": self.total_weights}
