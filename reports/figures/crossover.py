"""Traffic and time against length: attention, and retention in its three forms. Data: `accel.zoo.crossover`."""

import io
from typing import Any

GREY = "#808081"
"""Text and axes; becomes the colour of the page's text."""
COLOURS = {
    "softmax attention": "#d9633b",
    "parallel decay": "#b08a1e",
    "chunkwise": "#3f8fd2",
    "recurrent": "#2e9e76",
}
"""Readable on white and on black. Attention is drawn broad, since parallel decay takes the same path over it."""
MARKS = {"softmax attention": "o", "parallel decay": "s", "chunkwise": "^", "recurrent": "D"}
PANELS = (("dram_bytes", 1e6, "DRAM traffic, MB"), ("cycles", 1e3, "time, thousand cycles"))


def crossover_svg(report: dict[str, Any]) -> str:
    """The figure as SVG, the same bytes for the same report; without a background, so that it fits light and dark."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    style: Any = {
        "svg.hashsalt": "crossover", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
        "text.color": GREY, "axes.labelcolor": GREY, "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(1, 2, figsize=(9.0, 3.9), layout="constrained")
        for axis, (what, unit, title) in zip(axes, PANELS, strict=True):
            _panel(axis, report, what, unit, title)
        shape = report["shape"]
        figure.suptitle(
            f"{shape['work']}, {shape['heads']} heads of {shape['key_dim']}, on {report['arch']['name']}", color=GREY
        )
        axes[0].legend(frameon=False, loc="upper left")
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": "accel"})
        pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :].replace(GREY, "currentColor")


def _panel(axis: Any, report: dict[str, Any], what: str, unit: float, title: str) -> None:
    lengths = sorted({row["tokens"] for row in report["rows"]})
    for form, colour in COLOURS.items():
        values = [
            row[what] / unit for n in lengths for row in report["rows"] if (row["form"], row["tokens"]) == (form, n)
        ]
        axis.plot(lengths, values, MARKS[form] + "-", color=colour, label=form, markersize=3.5,
                  linewidth=4.5 if form == "softmax attention" else 1.4)  # fmt: skip
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(lengths[::2], [f"{n // 1024}K" if n >= 1024 else str(n) for n in lengths[::2]])
    axis.set_xlabel("tokens")
    axis.set_ylabel(title)
    axis.grid(True, color=GREY, alpha=0.25, linewidth=0.5)
    low = axis.get_ylim()[0]
    for form in ("recurrent", "chunkwise"):
        found = _crossing(report, form, what)
        if found is None or found <= lengths[0]:
            continue
        axis.axvline(found, color=COLOURS[form], linestyle=":", linewidth=1.2)
        place = 1.3 if form == "recurrent" else 3.2
        axis.annotate(f"{found:,.0f}", (found, low * place), color=COLOURS[form], fontsize=8,
                      xytext=(3, 0), textcoords="offset points")  # fmt: skip
    for name in ("top", "right"):
        axis.spines[name].set_visible(False)


def _crossing(report: dict[str, Any], form: str, what: str) -> float | None:
    for one in report["crossings"]:
        if (one["form"], one["against"], one["what"]) == (form, "softmax attention", what):
            return None if one["tokens"] is None else float(one["tokens"])
    return None
