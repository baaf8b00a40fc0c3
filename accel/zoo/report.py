"""One row of the zoo as a run of its own: what ``accel run vir-s16`` stores."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from accel.arch import Arch
from accel.cost.area import area
from accel.runs import FORMAT, ROW_KIND
from accel.session import code_version
from accel.zoo.error import SEED
from accel.zoo.row import run_row
from workloads.systems import Configuration, System


def row_report(
    system: System, one: Configuration, arch: Arch, tell: Callable[[str, float], None] | None = None
) -> dict[str, Any]:
    """Run a configuration; its row with all that a stored run says besides.

    Raises:
        UserError: a machine whose memory or technology has no figures.
    """
    said = json.dumps([one.model_dump(mode="json"), system.techniques.model_dump(mode="json")], sort_keys=True)
    row = run_row(system, one, arch, tell)
    return {
        "format": FORMAT,
        "kind": ROW_KIND,
        "workload": {
            "name": one.name,
            "kind": "system",
            "system": system.name,
            "unit": one.unit,
            "sha256": hashlib.sha256(said.encode()).hexdigest(),
        },
        "arch": arch.model_dump(mode="json"),
        "seed": SEED,
        "code_version": code_version(),
        "cycles": row["cycles"],
        "latency_s": row["latency_s"],
        "energy_pJ": row["energy_pJ"],
        "area_mm2": area(arch).area_mm2,
        "row": row,
    }
