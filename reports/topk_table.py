"""Tables of ``accel topk``: all in them is a key of its report."""

from typing import Any

from rich.console import Group, RenderableType

from reports.page import add, table

Report = dict[str, Any]
LEGEND = (
    "cycles: from a row's last word in to its last word out, mean, 99th percentile and worst of the rows; interval: "
    "per row when they come without a pause. area: own factors, without memories; cells: generic gates of the Verilog, "
    "memories of a kilobit and more not included."
)


def topk_table(report: Report) -> RenderableType:
    """Cycles; engines; published figures."""
    cycles = table("engine", "lanes", "keys", "kept", "mean", "p99", "worst", "interval", "nJ", left=1)
    for row in report["rows"]:
        add(
            cycles, row["engine"], *(f"{row[name]:,}" for name in ("lanes", "keys", "kept")),
            f"{row['cycles_mean']:,.1f}", f"{row['cycles_p99']:,}", f"{row['cycles_worst']:,}",
            f"{row['interval_cycles']:,.1f}", f"{row['energy_pJ'] / 1e3:.2f}",
        )  # fmt: skip
    parts: list[RenderableType] = [cycles]
    if report["synthesis"]:
        cells = table("engine", "lanes", "max_n", "cells", "flip-flops", "memory bits", "area um2", left=1)
        for row in report["synthesis"]:
            add(
                cells, row["engine"], *(f"{row[name]:,}" for name in ("lanes", "max_n", "cells", "flip_flops",
                "memory_bits")), f"{row['model_area_um2']:,.0f}",
            )  # fmt: skip
        parts += ["", cells]
    published = table("published, quickselect to sorter", "published", "ours", "ratio", left=1)
    for row in report["figures"]:
        ours, ratio = ("-" if row[name] is None else f"{row[name]:.2f}" for name in ("ours", "ratio"))
        add(published, row["figure"], f"{row['published']:.2f}", ours, ratio)
    return Group(*parts, "", published)
