"""Where the cycles go: how long each unit worked, and what the memory would need at its peak rate, of each run."""

import math
from collections.abc import Sequence
from typing import Any

from reports.figures.canvas import Canvas, EDGE_pt, SMALL_pt
from reports.palette import light

Report = dict[str, Any]
NAME = "busy"
MOST_RUNS, _COLUMNS = 6, 2
UNITS = {
    "fetcher": "fetcher",
    "dram": "memory at peak rate",
    "qk": "QK array",
    "softmax": "softmax",
    "topk": "top-k, values",
    "cascade": "top-k, cascade",
    "pv": "PV array",
    "writer": "result writer",
}


def shares(report: Report) -> dict[str, float]:
    """Unit -> share of the run's cycles in which it worked; memory and writer from what they need alone."""
    bound, busy = report.get("bound", {}), report["busy_cycles"]
    cycles = report["cycles"]
    every = {**{name: bound[name] for name in ("dram", "writer") if name in bound}, **busy}
    return {name: every[name] / cycles for name in UNITS if name in every}


def busy(runs: Sequence[tuple[str, Report]]) -> str:
    """The figure, of the first six runs. ``runs``: label and report (``busy_cycles``, ``bound``, ``cycles``)."""
    runs = runs[:MOST_RUNS]
    columns = min(_COLUMNS, len(runs))
    rows = math.ceil(len(runs) / columns)
    with Canvas(NAME, 0.2 + 2.15 * rows, rows, columns) as canvas:
        for axes, (label, report) in zip(canvas.all_axes, runs, strict=False):
            found = shares(report)
            longest = max(found, key=lambda name: found[name])
            for at, (name, share) in enumerate(found.items()):
                axes.barh(at, 100 * share, height=0.66, facecolor=light("ours" if name == longest else "ours-soft"),
                          edgecolor=light("ours"), linewidth=EDGE_pt)  # fmt: skip
                weight = "bold" if name == longest else "normal"
                axes.annotate(f"{100 * share:.0f} %", (100 * share, at), (3, 0), textcoords="offset points",
                              va="center", fontsize=SMALL_pt, fontweight=weight)  # fmt: skip
            axes.set_yticks(range(len(found)), [UNITS[name] for name in found])
            axes.invert_yaxis()
            axes.set_xlim(0, 112)
            axes.set_xticks(range(0, 101, 25))
            axes.grid(axis="x")
            axes.set_title(label)
            axes.set_xlabel(f"% of {report['cycles']:,} cycles")
        for axes in canvas.all_axes[len(runs) :]:
            axes.set_visible(False)
        said = "; ".join(
            f"{label}: " + ", ".join(f"{UNITS[name]} {100 * share:.0f} %" for name, share in shares(report).items())
            for label, report in runs
        )
        return canvas.svg("Where the cycles go", said)
