"""Numbers of the crossover figure, for a terminal and as Markdown."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from reports.page import add, table

Report = dict[str, Any]
WHAT = {"dram_bytes": "traffic", "cycles": "time"}


def _lines(report: Report) -> list[tuple[str, ...]]:
    forms = list(dict.fromkeys(row["form"] for row in report["rows"]))
    by = {(row["form"], row["tokens"]): row for row in report["rows"]}
    return [
        (
            f"{n:,}",
            *(f"{by[form, n]['dram_bytes'] / 1e6:,.2f}" for form in forms),
            *(f"{by[form, n]['cycles'] / 1e3:,.1f}" for form in forms),
        )
        for n in sorted({row["tokens"] for row in report["rows"]})
    ]


def _head(report: Report) -> tuple[str, ...]:
    forms = list(dict.fromkeys(row["form"] for row in report["rows"]))
    return ("tokens", *(f"{form}, MB" for form in forms), *(f"{form}, kcycles" for form in forms))


def sentences(report: Report, against: str = "") -> list[str]:
    """Where the forms with a state begin to be better, one sentence each. ``against``: than this form only."""
    out = []
    for one in report["crossings"]:
        if against not in ("", one["against"]):
            continue
        what, shortest = WHAT[one["what"]], min(row["tokens"] for row in report["rows"])
        if one["tokens"] is None:
            where = "at no length measured"
        elif one["tokens"] <= shortest:
            where = f"at every length from {shortest:,} tokens on"
        else:
            where = f"beyond {one['tokens']:,.0f} tokens"
        out.append(f"{one['form']} has less {what} than {one['against']} {where}")
    return out


def about(report: Report) -> str:
    """What was measured."""
    shape = report["shape"]
    labels = {row["form"]: set() for row in report["rows"]}  # type: dict[str, set[str]]
    for row in report["rows"]:
        labels[row["form"]].add(row["time"])
    said = "; ".join(f"{form} {' and '.join(sorted(found))}" for form, found in labels.items())
    return (
        f"{shape['work']}, {shape['heads']} heads, keys {shape['key_dim']}, values {shape['value_dim']}, chunks of "
        f"{shape['chunk']}, on {report['arch']['name']}. Time: {said}."
    )


def crossover_table(report: Report) -> RenderableType:
    """The table for a console."""
    made = table(*_head(report), left=0)
    for column in made.columns:
        column.header = Text(str(column.header).replace(", ", "\n").replace(" ", "\n"))
    for line in _lines(report):
        add(made, *line)
    return Group(Text(about(report)), Text(), made, Text(), *(Text(f"{said}.") for said in sentences(report)))


def crossover_markdown(report: Report) -> str:
    """The same as Markdown."""
    head = _head(report)
    lines = [
        "# Attention and retention at growing length\n",
        f"`{report['command']}`, code {report['code_version']}.\n",
    ]
    lines += [f"{about(report)}\n", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(line)} |" for line in _lines(report)]
    lines += ["", *(f"* {said}" for said in sentences(report))]
    return "\n".join(lines) + "\n"
