"""Quality against DRAM traffic: one curve per machine, one panel per network."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reports.figures.canvas import Canvas
from reports.figures.labels import plain_logarithmic
from reports.figures.rivals import is_ours
from reports.page import prefix_of
from reports.palette import light

NAME = "quality"
_LESS_IS_BETTER = ("perplexity", "error", "difference")
_WIDE = 20  # times the least: from here on the axis is logarithmic
_LOOKS = (
    ("other", "s"), ("third", "^"), ("fourth", "D"), ("published", "v"), ("bad", "P"), ("muted", "X"),
)  # fmt: skip
"""Colour and mark of each rival."""


class Measured(NamedTuple):
    """One setting of one machine on one network; ``what``: what ``value`` is, with its unit."""

    machine: str
    workload: str
    what: str
    dram_bytes: float
    value: float


def quality(points: Sequence[Measured], name: str = NAME) -> str:
    """The figure."""
    workloads = list(dict.fromkeys(one.workload for one in points))
    machines = list(dict.fromkeys(one.machine for one in points))
    rivals = [name for name in machines if not is_ours(name)]
    looks: Mapping[str, tuple[str, str]] = {
        name: ("ours", "o") if is_ours(name) else _LOOKS[rivals.index(name) % len(_LOOKS)] for name in machines
    }
    said, named = [], set()
    with Canvas(name, 3.3, 1, len(workloads)) as canvas:
        for axes, workload in zip(canvas.all_axes, workloads, strict=True):
            chosen = [one for one in points if one.workload == workload]
            step, prefix = prefix_of(min(one.dram_bytes for one in chosen))
            for machine in machines:
                line = sorted((one.dram_bytes / step, one.value) for one in chosen if one.machine == machine)
                if not line:
                    continue
                colour, mark = looks[machine]
                axes.plot(*zip(*line, strict=True), marker=mark, markersize=4.5, color=light(colour),
                          linewidth=1.8 if is_ours(machine) else 1.1, markeredgecolor=light("paper"),
                          markeredgewidth=0.5, label=machine if machine not in named else None)  # fmt: skip
                named.add(machine)
                said.append(f"{workload}, {machine}: " + ", ".join(f"{x:.3g} {prefix}B {y:.3g}" for x, y in line))
            axes.set_xscale("log")
            span = [one.dram_bytes / step for one in chosen]
            axes.set_xlim(min(span) / 1.6, max(span) * 1.6)
            values = [one.value for one in chosen]
            if min(values) > 0 and max(values) > _WIDE * min(values):
                axes.set_yscale("log")
            axes.margins(y=0.15)
            axes.grid()
            plain_logarithmic(axes, "x")
            axes.set_title(workload)
            less = any(word in chosen[0].what.lower() for word in _LESS_IS_BETTER)
            axes.set_ylabel(f"{chosen[0].what} ({'less' if less else 'more'} is better)")
            axes.set_xlabel(f"DRAM traffic of attention, {prefix}B")
            axes.tick_params(axis="y", labelcolor=light("muted"))
        canvas.figure.legend(loc="outside upper left", ncols=6, columnspacing=1.4)
        return canvas.svg("Quality against DRAM traffic", "; ".join(said))
