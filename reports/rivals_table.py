"""The comparison with rivals, for a terminal and as Markdown. All in it is a key of the report."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from reports.page import add, table

Report = dict[str, Any]

COLUMNS = (
    "machine",
    "setting",
    "workload",
    "mult12",
    "cyc/query",
    "GOP/s",
    "DRAM MB",
    "uJ",
    "keys",
    "values",
    "error",
    "bound",
)
CHECKS = ("figure", "published", "ours", "unit", "ratio", "label")
POINTS = ("network", "machine", "parameter", "DRAM MB", "quality")

LEGEND = (
    "setting: own = as published; iso-multipliers = multipliers and clock of the machine of --arch, own memory; "
    "iso-bandwidth = those and its memory. cyc/query: cycles of the machine's own clock. GOP/s: operations of dense "
    "attention over the time. uJ: counts times factors at one node, without clock, control and leakage; own rows of "
    "processors are power times time. keys, values: share of the dense products made and of the value rows used. "
    "error: RMS difference from float64 attention over its RMS, mean over heads. Predictors, hashes and filters are "
    "not in the multipliers that are made equal; mult12 counts them in, as 12-bit multipliers of the same size (square "
    "of the width), and the notes of a row name them."
)


def figure(value: float) -> str:
    """Three digits, thousands apart."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def cells(row: Report) -> tuple[str, ...]:
    """One line of the table."""
    return (
        row["machine"], row["setting"], row["workload"], figure(row["equivalent_multipliers"]),
        figure(row["cycles"] / row["queries"]),
        figure(row["gops_dense_equivalent"]), figure(row["dram_bytes"] / 1e6), figure(row["energy_pJ"] / 1e6),
        f"{row['kept_keys_share']:.3f}", f"{row['kept_values_share']:.3f}", f"{row['output_error']:.4f}", row["bound"],
    )  # fmt: skip


def check_cells(row: Report) -> tuple[str, ...]:
    """One line of the validation."""
    ours, ratio = ("-" if row[key] is None else figure(row[key]) for key in ("ours", "ratio"))
    return row["figure"], figure(row["published"]), ours, row["unit"], ratio, row["label"]


def point_cells(curve: Report, point: Report) -> tuple[str, ...]:
    """One line of the curves."""
    quality = f"{point['quality']:.4f}"
    return curve["network"], curve["machine"], point["parameter"], figure(point["dram_bytes"] / 1e6), quality


def rivals_table(report: Report) -> RenderableType:
    """Rows, validation and curves for a console."""
    rows = table(*COLUMNS, left=3)
    for row in report["rows"]:
        add(rows, *cells(row))
    checks = table(*CHECKS)
    for row in report["validation"]:
        add(checks, *check_cells(row))
    parts: list[RenderableType] = [
        rows,
        Text(),
        Text(f"Against published figures ({report['validation_arch']})"),
        checks,
    ]
    if report["curves"]:
        points = table(*POINTS, left=3)
        for curve in report["curves"]:
            for point in curve["points"]:
                add(points, *point_cells(curve, point))
        parts += [Text(), Text("Quality against DRAM bytes"), points]
    for line in report["skipped"]:
        parts.append(Text(f"left out: {line}"))
    return Group(*parts)


def rivals_markdown(report: Report) -> str:
    """The same as Markdown, with causes, notes and the source of every constant."""
    lines = [
        f"# Rivals on the means of {report['arch']['name']}\n",
        f"`{report['command']}`, code {report['code_version']}.\n",
        f"{LEGEND}\n",
    ]
    lines += [f"* {work['name']}: {work['tokens']} tokens; {work['about']}." for work in report["workloads"]]
    lines += [f"* left out: {line}" for line in report["skipped"]]
    lines += ["", *_markdown((*COLUMNS, "notes"), [(*cells(row), row["notes"]) for row in report["rows"]])]
    lines += ["", f"## Against published figures ({report['validation_arch']})\n"]
    lines += _markdown((*CHECKS, "cause"), [(*check_cells(row), row["cause"]) for row in report["validation"]])
    if report["curves"]:
        lines += ["", "## Quality against DRAM bytes\n"]
        found = [(*point_cells(c, p), p["quality_unit"]) for c in report["curves"] for p in c["points"]]
        lines += _markdown((*POINTS, "unit"), found)
    lines += ["", "## Constants\n"]
    found = [
        (name, key, one["label"], one["source"])
        for name, machine in report["machines"].items()
        for key, one in machine["constants"].items()
    ]
    lines += _markdown(("machine", "constant", "label", "source"), found)
    return "\n".join(lines) + "\n"


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
