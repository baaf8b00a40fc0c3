"""What the engine leaves to its host: functions of single numbers, transforms, small selections. Traffic is counted."""

from accel.arch import Arch
from accel.lower.zoo.phase import Phase, streams_of
from workloads.kernels import Elementwise, TopK
from workloads.systems import Call


def lower_elementwise(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """A function of every number; the engine has no mode for it."""
    kernel = call.kernel
    assert isinstance(kernel, Elementwise)
    said = f"{kernel.function} on the host; its bytes count, its time does not"
    return (Phase(call.label, "host", call.times, said, streams_of(call), host_macs=kernel.macs),)


def lower_topk(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """A selection among scores that are at hand; the engine's own top-k serves its cascade and local values."""
    assert isinstance(call.kernel, TopK)
    return (Phase(call.label, "host", call.times, "selection on the host, among scores at hand", streams_of(call)),)
