"""What the techniques give a row, each alone and all together: bytes of mixer and whole step, time, energy, error.

The rules are in `accel.zoo.technique_rules`. A technique without an honest counterpart gives 1.00x.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from accel.arch import Arch
from accel.cost.energy import run_energy
from accel.zoo.phase_run import PhaseRun, energy_counts
from accel.zoo.pruned_time import Left, Pruning, left_bytes, pruned_run
from accel.zoo.technique_rules import AS_IS, NOT_MEASURED, RULES, Gain
from accel.zoo.together import combined_error
from workloads.systems import Call, System, Technique

NAMES = ("token_pruning", "head_pruning", "progressive_quantisation")
Gains = dict[str, list[Gain | None]]
"""For each technique what it gives each call."""


def measure_techniques(
    system: System, calls: Sequence[Call], runs: Sequence[list[PhaseRun]], arch: Arch
) -> dict[str, dict[str, Any]]:
    """For each of the three techniques what it gives this row, and under ``together`` what all give at once."""
    gains: Gains = {}
    for kind in NAMES:
        technique: Technique = getattr(system.techniques, kind)
        rule = None
        if technique.mode == "as_is":
            rule = AS_IS[kind]
        elif technique.mode == "modified":
            rule = RULES.get(technique.name or "")
        gains[kind] = [rule(call, found, arch) if rule else None for call, found in zip(calls, runs, strict=True)]
    base = _Sums.of(calls, runs, arch)
    entries = {name: _entry(getattr(system.techniques, name), calls, runs, gains[name], base, arch) for name in NAMES}
    return entries | {"together": _together(calls, runs, gains, base, arch)}


class _Sums(NamedTuple):
    """Of a row: bytes of its mixer and of all of it, cycles, energy."""

    mixer: float
    whole: float
    cycles: float
    energy_pJ: float

    @staticmethod
    def of(
        calls: Sequence[Call], runs: Sequence[list[PhaseRun]], arch: Arch, bytes_of: Sequence[float] = ()
    ) -> "_Sums":
        """``bytes_of``: bytes of each call, where they are not its phases'."""
        sizes = bytes_of or [sum(run.moved_bytes for run in found) for found in runs]
        mixer = sum(size for call, size in zip(calls, sizes, strict=True) if call.role == "mixer")
        every = [run for found in runs for run in found]
        cycles = math.ceil(sum(run.cycles for run in every))
        energy = run_energy(arch, energy_counts(every), cycles).energy_pJ["total"]
        return _Sums(mixer, sum(sizes), cycles, energy)

    def gains(self, after: "_Sums") -> dict[str, float | None]:
        """How many times less of each."""
        return {
            "gain_mixer": _over(self.mixer, after.mixer),
            "gain_step": _over(self.whole, after.whole),
            "gain_time": _over(self.cycles, after.cycles),
            "gain_energy": _over(self.energy_pJ, after.energy_pJ),
        }


def _over(before: float, after: float) -> float | None:
    return (before / after if after else 1.0) if before else None


def _after(calls: Sequence[Call], runs: Sequence[list[PhaseRun]], gains: Sequence[Sequence[Gain]], arch: Arch) -> _Sums:
    """The row with techniques on; ``gains``: of each call, those that work on it."""
    found, sizes = [], []
    for one, of_call in zip(gains, runs, strict=True):
        left = _left(one)
        found.append([pruned_run(arch, run, left) for run in of_call] if one else list(of_call))
        sizes.append(sum(left_bytes(run, left) for run in of_call))
    return _Sums.of(calls, found, arch, sizes)


def _left(gains: Sequence[Gain]) -> Left:
    streams: dict[str, float] = {}
    work, pruning = 1.0, Pruning()
    for gain in gains:
        for name, share in gain.saved.items():
            streams[name] = streams.get(name, 1.0) * (1 - share)
        work, pruning = work * gain.left, pruning.and_(gain.pruning)
    return Left(streams, work, pruning)


def _entry(
    technique: Technique, calls: Sequence[Call], runs: Sequence[list[PhaseRun]], gains: Sequence[Gain | None],
    base: _Sums, arch: Arch,
) -> dict[str, Any]:  # fmt: skip
    some = [(call, gain) for call, gain in zip(calls, gains, strict=True) if gain is not None]
    reason = {
        "as_is": "no kernel of this row that it works on",
        "modified": NOT_MEASURED.get(technique.name or "", "depends on the values of a trained network")
        + ": not measured, counted as 1.00x",
        "none": technique.how,
    }[technique.mode]
    after = _after(calls, runs, [[gain] if gain else [] for gain in gains], arch) if some else base
    return {
        "mode": technique.mode,
        "name": technique.name or ("as is" if technique.mode == "as_is" else "none"),
        "how": technique.how,
        "bound": technique.bound,
        "measured": bool(some),
        **base.gains(after),
        "work": max((gain.work for _, gain in some), default=1.0),
        "error": max((gain.error for _, gain in some if gain.error is not None), default=None),
        "said": [f"{call.label}: {gain.said}" for call, gain in some] or [reason],
    }


def _together(
    calls: Sequence[Call], runs: Sequence[list[PhaseRun]], gains: Gains, base: _Sums, arch: Arch
) -> dict[str, Any]:
    """All techniques of the row at once; their errors measured at once where they meet in a kernel."""
    by_call = [
        {kind: gain for kind in NAMES if (gain := gains[kind][at]) is not None} for at in range(len(calls))
    ]  # fmt: skip
    after = _after(calls, runs, [list(found.values()) for found in by_call], arch) if any(by_call) else base
    errors, said = [], []
    for call, found in zip(calls, by_call, strict=True):
        if found:
            error, words = combined_error(call.kernel, {kind: gain.error for kind, gain in found.items()})
            errors += [error] if error is not None else []
            said.append(f"{call.label}: {words}")
    return {
        "mode": "together" if any(by_call) else "none",
        "name": "all of them" if any(by_call) else "none",
        "how": "all techniques of the row that are measured, at once",
        "bound": None,
        "measured": any(by_call),
        **base.gains(after),
        "work": 1.0,
        "error": max(errors, default=None),
        "said": said or ["nothing to put together"],
    }
