"""Dense engine: the same two arrays, nothing pruned. What every technique has to beat.

Per query row the QK array takes keys x d / (M / 2) cycles, softmax one score per cycle and key of the array's rate, the
PV array the same again; rows flow through the three. K and V are fetched once per head.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.rivals._attention import fixed, scores, softmax, visible
from sim.rivals.base import Config, Constant, Cost, Rival, Selection, Work, array_cycles


class Machine(Rival):
    """Dense attention at the width of the machine."""

    TITLE = "dense engine, no pruning"
    VARIANTS: ClassVar[Mapping[str, Config]] = {"dense": Config(multipliers=128)}
    CONSTANTS: ClassVar[Mapping[str, Constant]] = {
        "multipliers": Constant("as SpAtten-1/8: 128, half for QK and half for PV", "published"),
        "clock_MHz": Constant("as SpAtten-1/8: 1 GHz", "published"),
        "channels": Constant("as SpAtten-1/8: 64 GB/s", "published"),
        "bits": Constant("as SpAtten: 12", "published"),
    }
    SWEEP = ({"bits": 12}, {"bits": 8}, {"bits": 6}, {"bits": 4})
    NOTE = "no pipeline fill beyond the three stages"

    def select_and_run(
        self, q: NDArray, k: NDArray, v: NDArray, seen: NDArray[np.int64], learned: float | None = None
    ) -> Selection:
        """Every visible key."""
        bits = self.config.bits
        mask = visible(seen, len(k))
        output = softmax(scores(fixed(q, bits), fixed(k, bits)), mask) @ fixed(v, bits)
        return Selection(output, mask, mask)

    def cost(self, work: Work, selection: Selection) -> Cost:
        """QK, softmax and PV one behind the other."""
        cycles = array_cycles(work.seen, work.q.shape[1], self.config.half)
        parts = self.operands(work)
        streams = [parts[name] for name in ("q", "k", "v", "output")]
        return Cost({"qk": cycles, "softmax": cycles, "pv": cycles}, streams, self.events(work, selection))
