"""Recurrences of single channels in ``scan`` mode: beside the softmax lanes, one number per lane and cycle.

The mode has no hardware planned (docs/modes.md says what it would take); its time is that of the eight lanes named
there. A channel group's state stays while all tokens pass; in decoding it comes and goes with each token unless the
states of all calls fit the SRAMs.
"""

from accel.arch import Arch
from accel.lower.zoo.phase import Phase, streams_of, word_bytes
from accel.lower.zoo.state import state_room
from accel.units.modes import STATE_BITS
from workloads.kernels import Scan
from workloads.systems import Call

LANE_CYCLES = {"ssm": 1, "wkv": 3, "qlstm": 1, "leaky": 1, "fir": 1}
"""Cycles of a lane per channel, state number and token: one interpolator per lane, and WKV takes three exponents."""


def lower_scan(call: Call, arch: Arch) -> tuple[Phase, ...]:
    """One phase; a state that has no room is spilled and counted."""
    kernel = call.kernel
    assert isinstance(kernel, Scan)
    numbers = kernel.channels * kernel.state * kernel.tokens * kernel.directions
    again = {}
    kept_between = kernel.tokens == 1 and "state" in call.on_chip
    if kept_between and call.times * kernel.state_numbers > state_room(arch):
        size = word_bytes(kernel.state_numbers, STATE_BITS)
        again["state"] = (size, size)
        said = "state spilled: in and out with every token"
    elif "state" in call.on_chip or kernel.form == "fir":
        said = "state stays, channel group by channel group"
    else:
        said = f"{kernel.state_numbers * 3 / 1e3:,.0f} kB of state in and out with every token"
    lanes = arch.softmax.lanes
    return (
        Phase(
            call.label, "scan", call.times, f"{said}; {lanes} lanes, no hardware planned", streams_of(call, again),
            ("state",), 1, True, pv_macs=kernel.macs, exponentials=kernel.exponentials,
            normalisations=kernel.elementwise_ops,
            output_values=kernel.channels * kernel.tokens * kernel.directions,
            array_cycles=-(-numbers * LANE_CYCLES[kernel.form] // lanes),
        ),
    )  # fmt: skip
