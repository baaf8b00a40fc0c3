"""Top-k engines: cycles of one selection over the number of elements, one panel per number of lanes."""

from collections.abc import Sequence
from typing import Any

from reports.figures.canvas import Canvas
from reports.figures.labels import plain_logarithmic
from reports.palette import light

Row = dict[str, Any]
NAME = "topk"
_COLOURS = ("ours", "other", "third", "fourth")
_MARKS = ("o", "s", "^", "D")


def topk(rows: Sequence[Row], name: str = NAME) -> str:
    """The figure. ``rows``: engine, lanes, n, cycles_mean, cycles_worst; solid is the mean, dashed the worst found."""
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    lanes = sorted({row["lanes"] for row in rows})
    said = []
    with Canvas(name, 3.4, 1, len(lanes)) as canvas:
        for axes, width in zip(canvas.all_axes, lanes, strict=True):
            chosen = [row for row in rows if row["lanes"] == width]
            for at, engine in enumerate(engines):
                line = sorted((row for row in chosen if row["engine"] == engine), key=lambda row: row["n"])
                if not line:
                    continue
                colour, sizes = light(_COLOURS[at % 4]), [row["n"] for row in line]
                axes.plot(sizes, [row["cycles_mean"] for row in line], marker=_MARKS[at % 4], markersize=4,
                          color=colour, linewidth=1.5,
                          label=engine if width == lanes[0] else None)  # fmt: skip
                if all(row.get("cycles_worst") for row in line):
                    axes.plot(
                        sizes, [row["cycles_worst"] for row in line], color=colour, linewidth=1, linestyle=(0, (3, 2))
                    )
                said.append(f"{engine}, {width} lanes: " + ", ".join(f"{r['n']}: {r['cycles_mean']:.0f}" for r in line))
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            sizes = sorted({row["n"] for row in chosen})
            axes.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
            plain_logarithmic(axes, "x", "y")
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45 if len(sizes) > 4 else 0)
            axes.tick_params(axis="y", labelcolor=light("muted"))
            axes.grid()
            axes.set_title(f"{width} lanes")
            axes.set_xlabel("elements")
        canvas.figure.legend(loc="outside upper left", ncols=5, columnspacing=1.4)
        canvas.axes.set_ylabel("cycles: mean solid, worst dashed")
        return canvas.svg("Cycles of top-k engines", "; ".join(said))
