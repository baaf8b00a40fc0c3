"""Published figures and ours: the ratio of each, on one axis."""

from collections.abc import Sequence
from typing import Any

from reports.figures.canvas import Canvas, SMALL_pt
from reports.figures.labels import plain_logarithmic, short
from reports.palette import light

Row = dict[str, Any]
NAME = "reproduction"
NEAR = (0.9, 1.1)  # a ratio in here needs no cause
LABELS = {
    "trace": ("ours", "o", "from a published trace"),
    "derived": ("third", "s", "derived from published numbers"),
    "calibrated": ("other", "D", "calibrated"),
    "memory": ("published", "^", "workload from memory"),
    "published": ("fourth", "v", "published beside published"),
}
"""Label of a row -> colour, mark, what it is called."""
_UNITS = {"x": "×", "mm2": "mm²", "GOP/s/mm2": "GOP/s/mm²"}
_WIDEST = 30.0


def number(value: float | None, unit: str = "") -> str:
    """Three digits with the unit, or a dash."""
    if value is None:
        return "–"
    return f"{short(value)} {_UNITS.get(unit, unit)}".strip()


def is_evidence(row: Row) -> bool:
    """Whether a ratio near 1 says anything: not where the number was fixed by calibration."""
    return bool(row.get("evidence", row["label"] != "calibrated"))


def reproduction(rows: Sequence[Row], name: str = NAME) -> str:
    """The figure of the rows that have a ratio.

    ``rows``: figure, unit, published, ours, ratio, label, and ``evidence``, which is false where ours was made to fit;
    those are hollow.
    """
    rows = [row for row in rows if row.get("ratio")]
    ratios = [row["ratio"] for row in rows]
    low = max(1 / _WIDEST, min([0.45, *ratios]) / 1.15)
    high = min(_WIDEST, max([2.2, *ratios]) * 1.15)
    with Canvas(name, 0.9 + 0.235 * len(rows)) as canvas:
        axes = canvas.axes
        axes.axvspan(*NEAR, color=light("raised"), linewidth=0)
        axes.axvline(1, color=light("axis"), linewidth=0.8)
        seen = set()
        for at, row in enumerate(rows):
            colour, mark, called = LABELS.get(row["label"], LABELS["derived"])
            said = f"{number(row['published'])} → {number(row['ours'], row['unit'])}"
            axes.annotate(said, (1, at), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                          va="center", fontsize=SMALL_pt)  # fmt: skip
            shown = min(max(row["ratio"], low), high)
            axes.plot([1, shown], [at, at], color=light(colour), linewidth=1.2)
            axes.plot(shown, at, mark, markersize=5.5, markeredgecolor=light(colour),
                      markerfacecolor=light(colour if is_evidence(row) else "paper"))  # fmt: skip
            if called not in seen:
                axes.plot([], [], mark, color=light(colour), markersize=5.5, label=called)
            seen.add(called)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_xticks([tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if low <= tick <= high])
        plain_logarithmic(axes, "x")
        axes.set_yticks(range(len(rows)), [row["figure"] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="x")
        axes.set_xlabel("ours / published")
        if seen:
            canvas.figure.legend(loc="outside upper left", ncols=3, handletextpad=0.2)
        near = sum(NEAR[0] <= ratio <= NEAR[1] for ratio in ratios)
        return canvas.svg(
            "Published figures reproduced",
            f"{near} of {len(rows)} within {NEAR[0]} to {NEAR[1]}: "
            + "; ".join(f"{row['figure']}: {number(row.get('ratio'))}" for row in rows),
        )
