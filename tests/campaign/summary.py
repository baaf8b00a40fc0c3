"""What a campaign leaves: lines on the terminal and a JSON file under build/campaign/."""

import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "campaign"


def machine() -> dict[str, Any]:
    """Where and of what state of the sources the figures are."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        platform.processor(),
    )
    state = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "commit": state.stdout.strip(),
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def write_summary(name: str, found: dict[str, Any], out: Path | None = None) -> Path:
    """``found`` and the machine to ``out``, or NAME.json in ``OUT``, whole or not at all."""
    path = out or OUT / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{name}.")
    with os.fdopen(handle, "w") as file:
        json.dump(found | {"machine": machine()}, file, indent=1)
    os.replace(draft, path)
    return path
