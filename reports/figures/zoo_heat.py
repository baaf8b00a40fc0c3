"""The zoo as a table of tinted cells: one row per system, each column tinted on its own scale."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.patches import Rectangle

from reports.figures.canvas import Canvas
from reports.palette import light
from reports.zoo_table import figure, percent, times

Row = dict[str, Any]
NAME = "zoo"
_STEPS = 5
_LEAST_RANGE = 2  # a column whose numbers lie closer together is not stretched over all tints
_SMALL_pt = 7.2


class Column(NamedTuple):
    """``value`` of a row (None: nothing there), how it is written, and whether its tint follows the logarithm."""

    name: str
    value: Callable[[Row], float | None]
    write: Callable[[float], str]
    logarithmic: bool = True


def _gain(name: str) -> Callable[[Row], float | None]:
    def found(row: Row) -> float | None:
        said = row["techniques"].get(name, {"mode": "none"})
        if said["mode"] == "none" or not said.get("measured"):
            return None
        return said.get("gain_step") or 1.0

    return found


COLUMNS = (
    Column("time\nms", lambda row: row["latency_s"] * 1e3 or None, figure),
    Column("energy\nmJ", lambda row: row["energy_pJ"]["total"] / 1e9 or None, figure),
    Column("DRAM\nMB", lambda row: row["dram_bytes"] / 1e6 or None, figure),
    Column("mixer\n÷ fp16", lambda row: row["ratio"]["fp16"]["mixer"], times),
    Column("step\n÷ fp16", lambda row: row["ratio"]["fp16"]["whole"], times),
    Column("tokens\ngain", _gain("token_pruning"), times),
    Column("heads\ngain", _gain("head_pruning"), times),
    Column("planes\ngain", _gain("progressive_quantisation"), times),
    Column("error\nRMS", lambda row: row["error"]["worst"], percent),
)


def tint(value: float, values: Sequence[float], logarithmic: bool) -> int:
    """Step 0 to 4 of ``value`` between the least and the most of ``values``, at least twice the least."""
    scale = math.log10 if logarithmic and min(values) > 0 else float
    most = max(max(values), _LEAST_RANGE * min(values)) if logarithmic else max(values)
    low, high = scale(min(values)), scale(most)
    return 0 if high == low else min(_STEPS - 1, int(_STEPS * (scale(value) - low) / (high - low)))


def zoo_heat(rows: Sequence[Row], name: str = NAME) -> str:
    """The figure. ``rows``: those of ``accel zoo --json``."""
    with Canvas(name, 0.45 + 0.175 * len(rows)) as canvas:
        axes = canvas.axes
        for at, column in enumerate(COLUMNS):
            values = [column.value(row) for row in rows]
            there = [value for value in values if value is not None]
            for line, value in enumerate(values):
                if value is not None:
                    step = tint(value, there, column.logarithmic)
                    axes.add_patch(Rectangle((at, line), 0.96, 0.92, facecolor=light(f"heat-{step}"), linewidth=0))
                axes.text(at + 0.48, line + 0.47, "–" if value is None else column.write(value), ha="center",
                          va="center", fontsize=_SMALL_pt,
                          color=light("muted" if value is None else "ink"))  # fmt: skip
        axes.set_xlim(0, len(COLUMNS))
        axes.set_ylim(len(rows), 0)
        axes.set_xticks([at + 0.48 for at in range(len(COLUMNS))], [column.name for column in COLUMNS])
        axes.set_yticks([line + 0.47 for line in range(len(rows))], [row["name"] for row in rows])
        axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
        axes.tick_params(axis="y", labelsize=_SMALL_pt)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return canvas.svg(
            f"The zoo: {len(rows)} systems on the engine",
            "Time, energy and DRAM bytes of one unit of work; bytes of an unpruned fp16 machine over the engine's; "
            "gains of the techniques in bytes of the whole step; worst error. The zoo table has the numbers as text.",
        )
