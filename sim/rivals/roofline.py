"""GPU and CPU as rooflines: time is the longer of operations at peak and bytes at the data sheet's bandwidth.

It is an upper bound of what such a device can do, not a measurement: real libraries reach a few percent of it on the
small matrices of one head, which is where the large factors over GPUs in the literature come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.rivals._attention import fixed, scores, softmax, visible
from sim.rivals.base import Config, Constant, Cost, Rival, Selection, Work, at_least


@dataclass(frozen=True)
class RooflineConfig(Config):
    """``power_W``: at the wall of the board; energy is that times the time. 0: counted like the other machines."""

    bits: int = 32
    power_W: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("power_W", self.power_W, 0)


class Machine(Rival):
    """Dense attention in floating point on a device known by two numbers."""

    TITLE = "roofline of a processor"
    VARIANTS: ClassVar[Mapping[str, Config]] = {
        "titan-xp": RooflineConfig(3840, 1582.0, 32, bandwidth_GBps=547.7, power_W=250.0),
        "xeon-e5-2640v4": RooflineConfig(160, 2400.0, 32, bandwidth_GBps=68.3, power_W=90.0),
    }
    CONSTANTS: ClassVar[Mapping[str, Constant]] = {
        "multipliers": Constant(
            "TITAN Xp: 3840 FP32 lanes; Xeon E5-2640 v4: 10 cores x 2 FMA units x 8 FP32", "memory"
        ),
        "clock_MHz": Constant("data sheets: 1582 MHz boost (12.15 TFLOP/s); 2.4 GHz base (768 GFLOP/s)", "memory"),
        "bandwidth_GBps": Constant("data sheets: 547.7 GB/s GDDR5X; 68.3 GB/s, four channels of DDR4-2133", "memory"),
        "power_W": Constant("data sheets: thermal design power 250 W and 90 W", "memory"),
    }
    ISO: ClassVar[Mapping[str, float | None]] = {"power_W": 0.0}
    NOTE = "upper bound: no launch, no softmax, no cache miss"

    def select_and_run(
        self, q: NDArray, k: NDArray, v: NDArray, seen: NDArray[np.int64], learned: float | None = None
    ) -> Selection:
        """Every visible key, in float."""
        mask = visible(seen, len(k))
        bits = self.config.bits
        return Selection(softmax(scores(fixed(q, bits), fixed(k, bits)), mask) @ fixed(v, bits), mask, mask)

    def cost(self, work: Work, selection: Selection) -> Cost:
        """Both products at peak; scores never leave the chip, as in a fused kernel."""
        cycles = 2.0 * work.seen * work.q.shape[1] / self.config.multipliers
        parts = self.operands(work)
        streams = [parts[name] for name in ("q", "k", "v", "output")]
        return Cost({"arithmetic": cycles}, streams, self.events(work, selection))
