"""Kernels: what a network asks of the machine, by shape alone. One frozen, validated dataclass per primitive.

Every one of them answers, as plain arithmetic on its shape: `macs`, `exponentials`, `elementwise_ops`,
`state_numbers`, `weight_numbers`, and `tensors()`, the numbers of each tensor that moves when nothing but the work in
hand stays on chip (`moved_bytes` gives the bytes at given widths). What stays on chip, how it is tiled and what it
costs is decided by the lowering, not here.

========================  =======================================================================================
`SoftmaxAttention`        softmax(q k) v: masks, windows, groups, iterations, grouped softmax, shared K and V
`DecayAttention`          (q k^T . D) v with D = gamma^(n-m): retention in its parallel form
`StateUpdate`             S = decay S + k v^T, o = q S, token by token; also a memory learned by gradient steps
`ChunkState`              the same in chunks: parallel inside, recurrent between
`Scan`                    recurrences of single channels: ssm, wkv, qlstm, leaky, fir
`Gemv`, `Gemm`, `Conv`    weights times activations
`Elementwise`             one small function of every number
`TopK`                    the k largest of n
`Aggregate`               a whole sub-network of which only totals are known: MACs and weights, no shape
========================  =======================================================================================
"""

from workloads.kernels.attention import DecayAttention, Mask, SoftmaxAttention, geometric_gammas
from workloads.kernels.base import Kernel, StreamKind
from workloads.kernels.elementwise import Elementwise, TopK
from workloads.kernels.matrix import Aggregate, Conv, Gemm, Gemv
from workloads.kernels.recurrence import ChunkState, Scan, StateUpdate

KERNELS: dict[str, type[Kernel]] = {
    "softmax_attention": SoftmaxAttention,
    "decay_attention": DecayAttention,
    "state_update": StateUpdate,
    "chunk_state": ChunkState,
    "scan": Scan,
    "gemv": Gemv,
    "gemm": Gemm,
    "conv": Conv,
    "elementwise": Elementwise,
    "topk": TopK,
    "aggregate": Aggregate,
}
"""The name of a kernel in a workload file -> its class."""

__all__ = [
    "Mask",
    "SoftmaxAttention",
    "DecayAttention",
    "geometric_gammas",
    "StateUpdate",
    "ChunkState",
    "Scan",
    "Gemv",
    "Gemm",
    "Conv",
    "Elementwise",
    "TopK",
    "Aggregate",
    "Kernel",
    "KERNELS",
    "StreamKind",
]
