"""Rival machines and ours on the same tensors: throughput, traffic and energy, one row of panels per setting."""

from collections.abc import Sequence
from typing import Any

from reports.figures.canvas import Canvas, EDGE_pt, SMALL_pt
from reports.figures.labels import plain_logarithmic, short
from reports.figures.reduction import geometric_mean
from reports.page import prefix_of
from reports.palette import light

Row = dict[str, Any]
NAME = "rivals"
_WIDE = 25  # times the least: bars would not show it, so points on a logarithmic axis
OURS = ("spatten", "engine", "accel")
METRICS = {
    "gops_dense_equivalent": ("dense-equivalent throughput", "OP/s", 1e9, "more is better"),
    "dram_bytes": ("DRAM traffic", "B", 1.0, "less is better"),
    "energy_pJ": ("energy", "J", 1e-12, "less is better"),
}
"""Key of a row -> what it is, its unit, what one of it is in that unit, which way is better."""


def is_ours(machine: str) -> bool:
    """Whether a machine of the table is this project's."""
    return machine.lower().startswith(OURS)


def total(value: Any) -> float | None:
    """A number of a row, or the whole of one that is given by parts."""
    found = value.get("total", value.get("moved")) if isinstance(value, dict) else value
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def means(rows: Sequence[Row], key: str) -> dict[str, float]:
    """Machine -> geometric mean of a number over the workloads that every machine of ``rows`` has, in row order."""
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    found = {(row["machine"], row["workload"]): value for row in rows if (value := total(row.get(key)))}
    shared = [
        name
        for name in dict.fromkeys(row["workload"] for row in rows)
        if all((machine, name) in found for machine in machines)
    ]
    return {machine: geometric_mean([found[machine, name] for name in shared]) for machine in machines if shared}


def rivals(rows: Sequence[Row], name: str = NAME) -> str:
    """The figure. ``rows``: machine, setting, workload and the keys of ``METRICS``, which may be lacking."""
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    heights = [0.75 + 0.2 * len({row["machine"] for row in rows if row["setting"] == one}) for one in settings]
    said = []
    with Canvas(name, sum(heights), len(settings), len(METRICS), heights) as canvas:
        for line, setting in enumerate(settings):
            chosen = [row for row in rows if row["setting"] == setting]
            machines = list(dict.fromkeys(row["machine"] for row in chosen))
            for at, (key, (title, unit, one, better)) in enumerate(METRICS.items()):
                axes = canvas.all_axes[line * len(METRICS) + at]
                values = {name: value * one for name, value in means(chosen, key).items()}
                step, prefix = prefix_of(max(values.values(), default=1.0) / 3)
                prefix = prefix.replace("u", "µ")
                wide = bool(values) and max(values.values()) > _WIDE * min(values.values())
                for place, machine in enumerate(machines):
                    value = values.get(machine)
                    if value is None:
                        continue
                    fill, edge = ("ours", "ours") if is_ours(machine) else ("other-soft", "other")
                    if wide:
                        axes.plot([1e-9, value / step], [place, place], color=light("line"), linewidth=1)
                        axes.plot(value / step, place, "o", markersize=5.5, color=light(edge))
                    else:
                        axes.barh(place, value / step, height=0.66, facecolor=light(fill), edgecolor=light(edge),
                                  linewidth=EDGE_pt)  # fmt: skip
                    axes.annotate(short(value / step), (value / step, place), (7 if wide else 3, 0),
                                  textcoords="offset points", va="center", fontsize=SMALL_pt,
                                  fontweight="bold" if is_ours(machine) else "normal")  # fmt: skip
                    said.append(f"{setting}, {machine}, {title}: {short(value / step)} {prefix}{unit}")
                axes.set_yticks(range(len(machines)), machines if at == 0 else [""] * len(machines))
                axes.set_ylim(len(machines) - 0.4, -0.6)
                largest, least = (chosen_of(values.values(), default=step) / step for chosen_of in (max, min))
                if wide:
                    axes.set_xscale("log")
                    axes.set_xlim(least / 2, largest * 8)
                    plain_logarithmic(axes, "x")
                else:
                    axes.set_xlim(0, largest * 1.32)
                axes.grid(axis="x")
                axes.set_xlabel(f"{title}, {prefix}{unit}\n({better})")
                if at == 0:
                    axes.set_title(setting)
        return canvas.svg("Rival machines on the same tensors", "; ".join(said))
