"""Traffic and time against length: attention, and retention in its three forms. Data: `accel.zoo.crossover`."""

from typing import Any

from matplotlib.axes import Axes

from reports.figures.canvas import Canvas, SMALL_pt
from reports.figures.labels import plain_logarithmic
from reports.page import quantity
from reports.palette import light

Report = dict[str, Any]
NAME = "crossover"
ATTENTION = "softmax attention"
_STYLES = {
    ATTENTION: ("other-soft", "o", 5.0), "parallel decay": ("other", "s", 1.2), "chunkwise": ("ours", "^", 1.5),
    "recurrent": ("third", "D", 1.5),
}  # fmt: skip
"""Colour, mark, width in points. Attention is drawn broad, since parallel decay takes the same path over it."""
_PANELS = (("dram_bytes", 1e6, "DRAM traffic, MB"), ("cycles", 1e3, "time, thousand cycles"))
_MOST_TICKS = 6


def crossover(report: Report, name: str = NAME) -> str:
    """The figure, one panel for traffic and one for time; dotted lines are where a form with a state begins to need
    less than attention. ``name``: another one, where several stand in one page.

    ``report``: what ``accel zoo --crossover --json`` writes.
    """
    shape = report["shape"]
    with Canvas(name, 3.5, 1, len(_PANELS)) as canvas:
        for axes, (what, one, title) in zip(canvas.all_axes, _PANELS, strict=True):
            _panel(axes, report, what, one)
            axes.set_title(title)
        canvas.figure.legend(*canvas.axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)
        return canvas.svg(
            f"Attention and retention at growing length: {shape['work']}, {shape['heads']} heads of "
            f"{shape['key_dim']}, on {report['arch']['name']}",
            "; ".join(_said(report)),
        )


def _panel(axes: Axes, report: Report, what: str, one: float) -> None:
    lengths = sorted({row["tokens"] for row in report["rows"]})
    for form in dict.fromkeys(row["form"] for row in report["rows"]):
        colour, mark, width_pt = _STYLES[form]
        line = sorted((row["tokens"], row[what] / one) for row in report["rows"] if row["form"] == form)
        axes.plot(*zip(*line, strict=True), color=light(colour), marker=mark, markersize=3.5, linewidth=width_pt,
                  markeredgecolor=light("other") if form == ATTENTION else light(colour), label=form)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    plain_logarithmic(axes, "x", "y")
    shown = lengths[:: -(-len(lengths) // _MOST_TICKS)]
    axes.set_xticks(shown, [f"{n // 1024}K" if n >= 1024 else str(n) for n in shown])
    axes.set_xlabel("tokens")
    axes.tick_params(axis="y", labelcolor=light("muted"))
    axes.grid()
    for form, tokens in crossings(report, what).items():
        if tokens <= lengths[0]:
            continue
        axes.axvline(tokens, color=light(_STYLES[form][0]), linestyle=(0, (1, 1.5)), linewidth=1.2)
        axes.annotate(f"{tokens:,.0f}", (tokens, 0.02), (3, 0), xycoords=("data", "axes fraction"),
                      textcoords="offset points", fontsize=SMALL_pt, color=light(_STYLES[form][0]))  # fmt: skip


def crossings(report: Report, what: str) -> dict[str, float]:
    """Form with a state -> tokens from which on it needs less than attention; forms that never do are not in it."""
    return {
        one["form"]: float(one["tokens"])
        for one in report["crossings"]
        if (one["against"], one["what"]) == (ATTENTION, what) and one["tokens"] is not None
    }


def _said(report: Report) -> list[str]:
    longest = max(row["tokens"] for row in report["rows"])
    return [
        f"{row['form']}, {longest:,} tokens: {quantity(row['dram_bytes'], 'B')}, {row['cycles']:,.0f} cycles"
        for row in report["rows"]
        if row["tokens"] == longest
    ]
