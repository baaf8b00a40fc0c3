"""Real networks on the machine's arithmetic against themselves in float."""

from typing import Any

from rich.console import RenderableType

from reports.page import add, table

FORMATS = {"mean_abs_dlogit": "{:.4f}", "mean_abs_difference": "{:.5f}", "max_abs_difference": "{:.5f}"}


def quality_table(report: dict[str, Any]) -> RenderableType:
    """One line per figure."""
    made = table("network", "on the machine", "inputs", "figure", "", left=4)
    for row in report["rows"]:
        first = (row["network"], row["on_the_machine"], row["inputs"])
        for name, value in row["quality"].items():
            if value is None:
                continue
            shown = FORMATS.get(name, "{:.6f}").format(value) if isinstance(value, float) else f"{value:,}"
            add(made, *first, name.replace("_", " "), shown)
            first = ("", "", "")
    return made
