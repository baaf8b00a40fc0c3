"""What each pruning technique gives a row (stub of the thin path)."""

from collections.abc import Sequence
from typing import Any

from accel.arch import Arch
from accel.zoo.phase_run import PhaseRun
from workloads.systems import Call, System


def measure_techniques(
    system: System, calls: Sequence[Call], runs: Sequence[list[PhaseRun]], arch: Arch
) -> dict[str, dict[str, Any]]:
    return {}
