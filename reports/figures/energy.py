"""Energy of runs by part, as shares of each run's total, which stands behind its bar."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.canvas import Canvas, SMALL_pt
from reports.page import quantity
from reports.palette import light

Report = dict[str, Any]
NAME = "energy"
GROUPS = {
    "DRAM transfer": ("ours", ("dram_transfer", "dram_refresh", "dram_background")),
    "DRAM activation": ("ours-soft", ("dram_activation",)),
    "SRAM": ("third", ("sram_k", "sram_v", "score_buffer")),
    "QK and PV arrays": ("other", ("qk_array", "pv_array")),
    "softmax": ("fourth", ("softmax",)),
    "top-k, importance": ("published", ("topk", "importance")),
    "crossbars": ("other-soft", ("crossbar",)),
}
"""Group -> colour, parts of ``energy_pJ`` in it. A part that no group has goes to "other parts"."""
_REST, _REST_COLOUR = "other parts", "axis"
_SMALLEST_LABELLED = 0.045
MANY = 10  # bars; from here on they are thinner


def grouped(energy_pJ: Mapping[str, float]) -> dict[str, float]:
    """Energy of the groups in pJ, those that are there."""
    found = {name: sum(energy_pJ.get(part, 0.0) for part in parts) for name, (_, parts) in GROUPS.items()}
    known = {part for _, parts in GROUPS.values() for part in parts} | {"total"}
    found[_REST] = sum(value for part, value in energy_pJ.items() if part not in known)
    return {name: value for name, value in found.items() if value}


def energy(runs: Sequence[tuple[str, Report]], name: str = NAME) -> str:
    """The figure. ``runs``: label and report (``energy_pJ``, ``latency_s``)."""
    colours = {**{name: colour for name, (colour, _) in GROUPS.items()}, _REST: _REST_COLOUR}
    with Canvas(name, 0.95 + (0.42 if len(runs) < MANY else 0.24) * len(runs)) as canvas:
        axes = canvas.axes
        shown = [name for name in colours if any(name in grouped(run["energy_pJ"]) for _, run in runs)]
        for at, (_, run) in enumerate(runs):
            total, left = run["energy_pJ"]["total"], 0.0
            parts = grouped(run["energy_pJ"])
            for group in shown:
                share = parts.get(group, 0.0) / total if total else 0.0
                axes.barh(at, 100 * share, left=100 * left, color=light(colours[group]), height=0.62,
                          label=group if at == 0 else None, edgecolor=light("paper"), linewidth=0.8)  # fmt: skip
                if share >= _SMALLEST_LABELLED:
                    text = light("ink" if colours[group].endswith("-soft") else "paper")
                    axes.text(100 * (left + share / 2), at, f"{100 * share:.0f} %", color=text, ha="center",
                              va="center", fontsize=SMALL_pt)  # fmt: skip
                left += share
            watts = total * 1e-12 / run["latency_s"] if run.get("latency_s") else None
            said = quantity(total * 1e-12, "J") + (f", {watts:.2f} W" if watts is not None else "")
            axes.annotate(said, (100, at), (5, 0), textcoords="offset points", va="center", fontsize=SMALL_pt)
        axes.set_yticks(range(len(runs)), [label for label, _ in runs])
        axes.set_ylim(len(runs) - 0.4, -0.6)
        axes.set_xlim(0, 128)
        axes.set_xticks(range(0, 101, 25))
        axes.set_xlabel("share of the run's energy, %")
        axes.spines["left"].set_visible(False)
        canvas.figure.legend(loc="outside upper left", ncols=4, handlelength=1, handleheight=1, columnspacing=1.4)
        said = "; ".join(f"{label}: {quantity(run['energy_pJ']['total'] * 1e-12, 'J')}" for label, run in runs)
        return canvas.svg("Energy by part", said)
