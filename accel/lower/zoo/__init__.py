"""Kernels of any system to phases of the engine, one file per mode; `lower_call` finds the right one."""

from collections.abc import Callable

from accel.arch import Arch
from accel.lower.zoo.decay import lower_decay
from accel.lower.zoo.host import lower_elementwise, lower_topk
from accel.lower.zoo.linear import lower_aggregate, lower_conv, lower_gemm, lower_gemv
from accel.lower.zoo.phase import ENGINE_BITS, Mode, Phase, Piece, Stream
from accel.lower.zoo.scan import lower_scan
from accel.lower.zoo.softmax import lower_softmax
from accel.lower.zoo.state import lower_chunk, lower_state
from workloads.kernels import (
    Aggregate,
    ChunkState,
    Conv,
    DecayAttention,
    Elementwise,
    Gemm,
    Gemv,
    Kernel,
    Scan,
    SoftmaxAttention,
    StateUpdate,
    TopK,
)
from workloads.systems import Call

LOWERINGS: dict[type[Kernel], Callable[[Call, Arch], tuple[Phase, ...]]] = {
    SoftmaxAttention: lower_softmax,
    DecayAttention: lower_decay,
    StateUpdate: lower_state,
    ChunkState: lower_chunk,
    Scan: lower_scan,
    Gemv: lower_gemv,
    Gemm: lower_gemm,
    Conv: lower_conv,
    Aggregate: lower_aggregate,
    Elementwise: lower_elementwise,
    TopK: lower_topk,
}

__all__ = ["ENGINE_BITS", "LOWERINGS", "Mode", "Phase", "Piece", "Stream", "lower_call"]


def lower_call(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """The phases of one kernel of a system on a machine."""
    return LOWERINGS[type(call.kernel)](call, arch)
