"""What was compared between golden machine, simulator and RTL, and how much of it differed."""

from typing import Any

from reports.figures.canvas import Canvas, SMALL_pt
from reports.figures.labels import plain_logarithmic
from reports.palette import light

Report = dict[str, Any]
NAME = "proof"


def proof(report: Report, name: str = NAME) -> str:
    """The figure, one bar per boundary. ``name``: another one, where several stand in one page.

    ``report``: what ``accel verify --json`` writes.
    """
    found = report["boundaries"]
    most = max((tally["transfers"] for tally in found.values()), default=1)
    with Canvas(name, 0.65 + 0.235 * len(found)) as canvas:
        axes = canvas.axes
        for at, tally in enumerate(found.values()):
            wrong = tally["values"] + tally["cycles"]
            axes.barh(at, tally["transfers"], height=0.62, color=light("bad" if wrong else "ours"))
            said = "none"
            if tally["transfers"]:
                differ = f"{tally['values']:,} values, {tally['cycles']:,} cycles differ" if wrong else "0 differ"
                said = f"{tally['transfers']:,}: {differ}"
            axes.annotate(said, (max(tally["transfers"], 1), at), (4, 0), textcoords="offset points", va="center",
                          fontsize=SMALL_pt, color=light("bad" if wrong else "ink"))  # fmt: skip
        axes.set_yticks(range(len(found)), list(found))
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xscale("log")
        axes.set_xlim(1, most * 60)
        plain_logarithmic(axes, "x")
        axes.grid(axis="x")
        axes.set_xlabel("transfers compared in value and cycle")
        wrong = sum(tally["values"] + tally["cycles"] for tally in found.values())
        return canvas.svg(
            f"Equality of simulator and RTL on {report['arch']['name']}",
            f"{report['programs']} programs, {report['transfers']:,} transfers at {len(found)} boundaries, "
            f"{wrong} differences",
        )
