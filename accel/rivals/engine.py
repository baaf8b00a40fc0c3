"""Our engine on the rivals' workloads: its values executor on the same tensors, then its cycle simulator and cost.

Pruned keys differ from a rival's: tokens leave from layer to layer, with their queries in an encoder. What a pruned
query would have given is not computed, so the error is over the queries that are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.lower.plan import Plan
from accel.network import EngineAttention
from accel.program import Lsb
from accel.rivals.workloads import Workload
from accel.session import report_of
from accel.zoo.attention_time import added
from sim.rivals import relative_error
from sim.rivals._attention import dense_output
from workloads.kernels import SoftmaxAttention

ENCODER = Plan(key_msb_bits=8, value_bits=8, local_values=0.5, tokens=0.6)
"""The engine's default for encoders: static 8-bit keys and values (the paper has progressive ones for GPT-2 alone),
half of the values, 60 % of the tokens behind the first layers. The shares are ours: published ones are not printed."""
DECODER = Plan(key_msb_bits=8, key_lsb_bits=4, lsb=Lsb.TEST, threshold=0.1, local_values=0.5, tokens=0.6)
"""The default for decoders: 8 + 4 bit keys at the published threshold of about 0.1, the same shares."""


def default_plan(work: Workload) -> Plan:
    """What the engine prunes when nothing else is said."""
    return DECODER if work.prompt else ENCODER


@dataclass(frozen=True)
class EngineRun:
    """What the engine needed, in the simulator's counters (``docs/counters.md``), decode steps alone in a decoder."""

    cycles: float
    energy_parts_pJ: dict[str, float]
    counts: dict[str, Any]
    bound: str
    output_error: float
    computed_queries_share: float

    @property
    def energy_pJ(self) -> float:
        """All of it."""
        return self.energy_parts_pJ["total"]

    @property
    def dram_bytes(self) -> int:
        """Read and written, in whole accesses."""
        return int(sum(self.counts["dram_read_bytes"].values()) + self.counts["dram_write_bytes"])


def run_engine(arch: Arch, work: Workload, plan: Plan, seed: int = 1) -> EngineRun:
    """A workload on the engine.

    Raises:
        UserError: what the engine cannot do.
    """
    return (_decode if work.prompt else _encode)(arch, work, plan, seed)


def _report(arch: Arch, attend: EngineAttention, work: Workload, seed: int) -> dict[str, Any]:
    return report_of(arch, attend.finish(), workload={"name": work.name, "kind": "rivals"}, seed=seed).report


def _encode(arch: Arch, work: Workload, plan: Plan, seed: int) -> EngineRun:
    heads, tokens, dim = work.layers[0][0].shape
    kernel = SoftmaxAttention(heads, heads, tokens, tokens, dim, mask="none")
    attend = EngineAttention(arch, kernel, len(work.layers), plan, seed=seed)
    alive: NDArray[np.int64] = np.arange(tokens)
    errors, computed = [], 0
    for layer, (q, k, v) in enumerate(work.layers):
        still = attend.alive(layer)
        alive = alive if still is None else still
        out = attend(layer, q[:, alive], k[:, alive], v[:, alive], causal=False, q_start=0)
        errors += [_error(out[h], q[h, alive], k[h], v[h]) for h in range(heads)]
        computed += len(alive)
    report = _report(arch, attend, work, seed)
    return EngineRun(
        cycles=report["cycles"],
        energy_parts_pJ=report["energy_pJ"],
        counts=report["counts"],
        bound=report["bound"]["limit"],
        output_error=float(np.mean(errors)),
        computed_queries_share=computed / (tokens * len(work.layers)),
    )


def _decode(arch: Arch, work: Workload, plan: Plan, seed: int) -> EngineRun:
    q, k, _ = work.layers[0]
    kernel = SoftmaxAttention(len(q), len(k), work.prompt, work.tokens, q.shape[2], "causal")
    attend = EngineAttention(arch, kernel, len(work.layers), plan, seed=seed)
    begin = slice(0, work.prompt)
    for layer, (q, k, v) in enumerate(work.layers):
        attend(layer, q[:, begin], k[:, begin], v[:, begin], causal=True, q_start=0)
    prefill = _report(arch, attend, work, seed)
    errors = []
    for step in range(work.prompt, work.tokens):
        for layer, (q, k, v) in enumerate(work.layers):
            seen = slice(0, step + 1)
            out = attend(layer, q[:, step : step + 1], k[:, seen], v[:, seen], causal=True, q_start=step)
            group = len(q) // len(k)
            errors += [
                _error(
                    out[h * group : (h + 1) * group, 0], q[h * group : (h + 1) * group, step], k[h, seen], v[h, seen]
                )
                for h in range(len(k))
            ]
    whole = _report(arch, attend, work, seed)
    return EngineRun(
        cycles=whole["cycles"] - prefill["cycles"],
        energy_parts_pJ=added(whole["energy_pJ"], prefill["energy_pJ"], -1),
        counts=added(whole["counts"], prefill["counts"], -1),
        bound=_limit(whole["bound"], prefill["bound"]),
        output_error=float(np.mean(errors)),
        computed_queries_share=1.0,
    )


def _limit(whole: dict[str, Any], prefill: dict[str, Any]) -> str:
    """The part that the steps behind a prefill keep busy longest."""
    parts = [name for name in whole if name not in ("limit", "fraction")]
    return max(parts, key=lambda name: whole[name] - prefill[name])


def _error(out: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> float:
    return relative_error(out, dense_output(q, k, v, np.full(len(q), len(k))))
