"""Roofline: operations done per second over operations per byte moved, of every run and benchmark, below its roofs."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from accel.arch import Arch
from reports.figures.canvas import Canvas, SMALL_pt
from reports.figures.labels import label_apart, plain_logarithmic
from reports.palette import light

Report = dict[str, Any]
NAME = "roofline"
MOST_LABELS = 8
_ON_ROOF = 200  # places on a roof that labels keep off
_MARKS = ("o", "s", "^", "D", "v", "P")
_COLOURS = ("ours", "other", "third", "fourth")


class Point(NamedTuple):
    """One run. ``family`` decides the mark, ``machine`` the colour and the roofs."""

    label: str
    machine: str
    family: str
    operations_per_byte: float
    operations_per_s: float


class Roof(NamedTuple):
    """What a machine cannot exceed."""

    machine: str
    operations_per_s: float
    bytes_per_s: float


def point(label: str, machine: str, report: Report, moved: float | None) -> Point | None:
    """A run or a benchmark's row that moved so many bytes; None if it lacks a number, or moved or did nothing."""
    try:
        done, rate = report["operations"]["done"], report["throughput_ops_per_s"]["done"]
    except (KeyError, TypeError):
        return None
    family = str(report.get("family") or label.split("-")[0])
    return Point(label, machine, family, done / moved, rate) if moved and done and rate else None


def roof(arch: dict[str, Any]) -> Roof | None:
    """Roofs of a machine as reports store it; None if it is not one that this version knows."""
    try:
        found = Arch.model_validate(arch)
        return Roof(found.name, found.peak_ops_per_second, found.peak_read_bytes_per_cycle * found.clock_MHz * 1e6)
    except (ValueError, KeyError, AttributeError):
        return None


def roofline(points: Sequence[Point], roofs: Sequence[Roof]) -> str:
    """The figure."""
    machines = list(dict.fromkeys([*(roof.machine for roof in roofs), *(one.machine for one in points)]))
    families = list(dict.fromkeys(one.family for one in points))
    colour = {name: light(_COLOURS[at % len(_COLOURS)]) for at, name in enumerate(machines)}
    mark = {name: _MARKS[at % len(_MARKS)] for at, name in enumerate(families)}
    knees = [one.operations_per_s / one.bytes_per_s for one in roofs]
    intensities = [*(one.operations_per_byte for one in points), *knees]
    low = 10 ** math.floor(math.log10(min(intensities) / 1.5))
    high = 10 ** math.ceil(math.log10(max(intensities) * 2))
    with Canvas(NAME, 4.0) as canvas:
        axes = canvas.axes
        for limit in roofs:
            knee = limit.operations_per_s / limit.bytes_per_s
            axes.plot([low, knee, high], [low * limit.bytes_per_s / 1e9, *[limit.operations_per_s / 1e9] * 2],
                      color=colour[limit.machine], linewidth=1.4)  # fmt: skip
            said = f"{limit.machine}: {limit.operations_per_s / 1e9:,.0f} GOP/s, {limit.bytes_per_s / 1e9:,.0f} GB/s"
            axes.annotate(said, (high, limit.operations_per_s / 1e9), (0, 4), textcoords="offset points", ha="right",
                          fontsize=SMALL_pt)  # fmt: skip
        for one in points:
            axes.plot(one.operations_per_byte, one.operations_per_s / 1e9, mark[one.family], markersize=6,
                      color=colour[one.machine], markeredgecolor=light("paper"), markeredgewidth=0.7)  # fmt: skip
        if len(points) > MOST_LABELS:
            for name in families:
                axes.plot([], [], mark[name], color=light("muted"), markersize=6, label=name)
            axes.legend(loc="lower right", handletextpad=0.2)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, high)
        top = max([*(one.operations_per_s for one in roofs), *(one.operations_per_s for one in points)]) / 1e9
        bottom = min(one.operations_per_s for one in points) / 1e9
        axes.set_ylim(10 ** math.floor(math.log10(bottom / 1.3)), top * 2)
        axes.set_xlabel("operations done per byte of DRAM traffic")
        axes.set_ylabel("GOP/s done")
        axes.tick_params(axis="y", labelcolor=light("muted"))
        axes.grid(which="major")
        plain_logarithmic(axes, "x", "y")
        if len(points) <= MOST_LABELS:
            places = [(one.label, one.operations_per_byte, one.operations_per_s / 1e9) for one in points]
            steps = [low * (high / low) ** (at / _ON_ROOF) for at in range(_ON_ROOF + 1)]
            on_roofs = [(x, min(x * one.bytes_per_s, one.operations_per_s) / 1e9) for one in roofs for x in steps]
            label_apart(axes, places, on_roofs)
        said = "; ".join(
            f"{one.label} on {one.machine}: {one.operations_per_byte:.2g} operations per byte, "
            f"{one.operations_per_s / 1e9:,.0f} GOP/s"
            for one in points
        )
        return canvas.svg("Roofline", said)
