"""DRAM reduction of every benchmark against dense fp32, beside the published average."""

import math
from collections.abc import Sequence
from typing import Any

from reports.figures.canvas import Canvas, SMALL_pt
from reports.palette import light

Row = dict[str, Any]
NAME = "reduction"


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers; 0 for none."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else 0.0


def reduction(rows: Sequence[Row], published: float | None = None, name: str = NAME) -> str:
    """The figure. ``rows``: ``name`` and ``dram_reduction.fp32``; ``published``: the paper's average, in times."""
    values = [row["dram_reduction"]["fp32"] for row in rows]
    mean = geometric_mean(values)
    with Canvas(name, 0.75 + 0.2 * len(rows)) as canvas:
        axes = canvas.axes
        axes.barh(range(len(rows)), values, height=0.66, color=light("ours"))
        for at, value in enumerate(values):
            axes.annotate(
                f"{value:.1f}", (value, at), (3, 0), textcoords="offset points", va="center", fontsize=SMALL_pt
            )
        lines = [(mean, "ours", f"geometric mean of ours {mean:.1f} ×")]
        if published:
            lines.append((published, "other", f"published average {published:g} ×"))
        for value, colour, said in lines:
            axes.axvline(value, color=light(colour), linewidth=1.2, linestyle=(0, (4, 2)), label=said)
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, max([*values, published or 0]) * 1.1)
        axes.grid(axis="x")
        axes.set_xlabel("DRAM bytes of dense fp32 attention / bytes moved")
        canvas.figure.legend(loc="outside upper right", ncols=2)
        said = "; ".join(f"{row['name']}: {value:.1f}" for row, value in zip(rows, values, strict=True))
        return canvas.svg("DRAM reduction by benchmark", said)
