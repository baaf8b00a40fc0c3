"""The tables of ``accel bench``, for a terminal and as Markdown. All in them is a key of its report."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from reports.page import add, table

Report = dict[str, Any]

COLUMNS = (
    "benchmark",
    "length",
    "tokens",
    "heads",
    "V",
    "us",
    "DRAM MB",
    "/fp32",
    "/fp16",
    "/int8",
    "GOP/s",
    "dense-eq",
    "peak",
    "limit",
    "uJ",
    "W",
)
MEANS = ("mean", "of", "us", "/fp32", "/fp16", "/int8", "GOP/s", "dense-eq", "peak", "uJ", "W")
FIGURES = ("where", "figure", "unit", "published", "ours", "ratio", "label")
LEGEND = (
    "tokens, heads, V: kept of all keys that the rows would see, of all heads, of the keys' values. DRAM: all that "
    "crosses the bus, and how many times more the unpruned network moves at each precision. GOP/s: multiply and add "
    "done, second passes included; dense-eq: as if nothing were pruned; peak: done over what the arrays could do. "
    "limit: what alone would take the largest part of the time."
)
MEANS_LEGEND = "Ratios by geometric mean, times, rates, energies and powers by arithmetic mean."
FIGURES_LEGEND = (
    "label: what our figure rests on: published inputs, a published trace, derived ones, inputs calibrated to a "
    "published average, inputs from memory. * fixed by calibration: no evidence. Every ratio outside 0.9 to 1.1 has "
    "its cause below."
)


def cells(row: Report) -> tuple[str, ...]:
    """One benchmark."""
    kept, ratio, rate = row["kept"], row["ratio"], row["throughput_ops_per_s"]
    return (
        row["name"],
        str(row["inputs"]["length"]["value"]),
        *(f"{100 * kept[name]:.0f} %" for name in ("tokens", "heads", "values")),
        f"{row['latency_s'] * 1e6:,.1f}",
        f"{row['dram_bytes']['moved'] / 1e6:,.2f}",
        *(f"{ratio[name]:.2f}" for name in ("fp32", "fp16", "int8")),
        f"{rate['done'] / 1e9:,.0f}",
        f"{rate['dense_equivalent'] / 1e9:,.0f}",
        f"{100 * row['peak_share']:.0f} %",
        f"{row['bound']['limit']} {100 * row['bound']['fraction']:.0f} %",
        f"{row['energy_pJ']['total'] / 1e6:,.1f}",
        f"{row['power_W']['total']:.2f}",
    )


def mean_cells(one: Report) -> tuple[str, ...]:
    """One average."""
    return (
        one["group"],
        str(one["benchmarks"]),
        f"{one['latency_s'] * 1e6:,.1f}",
        *(f"{one[f'ratio_{name}']:.2f}" for name in ("fp32", "fp16", "int8")),
        f"{one['done'] / 1e9:,.0f}",
        f"{one['dense_equivalent'] / 1e9:,.0f}",
        f"{100 * one['peak_share']:.0f} %",
        f"{one['energy_pJ'] / 1e6:,.1f}",
        f"{one['power_W']:.2f}",
    )


def figure_cells(row: Report) -> tuple[str, ...]:
    """One published figure."""
    ours, ratio = row["ours"], row["ratio"]
    star = "" if row["evidence"] or ours is None else "*"
    return (
        row["where"],
        row["figure"],
        row["unit"],
        number(row["published"]),
        "-" if ours is None else number(ours),
        "-" if ratio is None else f"{ratio:.2f}{star}",
        row["label"],
    )


def number(value: float) -> str:
    """Three digits or more, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 100 else f"{value:.3g}"


def _filled(columns: Sequence[str], lines: Sequence[tuple[str, ...]], left: int) -> RenderableType:
    made = table(*columns, left=left)
    for line in lines:
        add(made, *line)
    return made


def bench_page(report: Report) -> RenderableType:
    """All tables for a console."""
    parts: list[RenderableType] = [
        _filled(COLUMNS, [cells(row) for row in report["rows"]], 1),
        Text(),
        Text(LEGEND),
        Text(),
        _filled(MEANS, [mean_cells(one) for one in report["averages"]], 1),
        Text(),
        Text(MEANS_LEGEND),
    ]
    if "figures" in report:
        parts += [
            Text(),
            _filled(FIGURES, [figure_cells(row) for row in report["figures"]], 3),
            Text(),
            Text(FIGURES_LEGEND),
            Text(),
        ]
        parts += [Text(f"{row['where']} {row['figure']}: {row['cause']}.") for row in report["figures"] if row["cause"]]
    return Group(*parts)


def bench_markdown(report: Report) -> str:
    """The same as Markdown, with the inputs of every benchmark and the command of every figure."""
    lines = [
        f"# The published benchmarks on {report['arch']['name']}\n",
        f"`{report['command']}`, code {report['code_version']}.\n",
        *_markdown(COLUMNS, [cells(row) for row in report["rows"]]),
        f"\n{LEGEND}\n",
        *_markdown(MEANS, [mean_cells(one) for one in report["averages"]]),
        f"\n{MEANS_LEGEND}\n",
    ]
    if "figures" in report:
        lines += ["## Published figures beside ours\n", f"{FIGURES_LEGEND}\n"]
        lines += _markdown(
            (*FIGURES, "cause", "command"),
            [
                (*figure_cells(row), row["cause"], f"`{row['command']}`" if row["command"] else "-")
                for row in report["figures"]
            ],
        )
    return "\n".join([*lines, "\n## Inputs\n", *inputs_markdown(report["rows"])]) + "\n"


def inputs_markdown(rows: Sequence[Report]) -> list[str]:
    """What every benchmark rests on: value and label of each input, and below them the sources."""
    names = [name for name in rows[0]["inputs"] if name not in ("layers", "heads", "head_dim", "generated")]
    sources: dict[str, int] = {}
    lines = []
    for row in rows:
        said = []
        for name in names:
            one = row["inputs"][name]
            mark = sources.setdefault(one["source"], len(sources) + 1)
            said.append(f"{_value(one['value'])} {one['label']} [{mark}]")
        lines.append((row["name"], *said))
    found = _markdown(("benchmark", *names), lines)
    return [*found, "", *(f"* [{mark}] {source}" for source, mark in sources.items())]


def _value(value: Any) -> str:
    """Head counts as ranges of equal ones: ``12x4 10x8``."""
    if not isinstance(value, list):
        return "none" if value is None else str(value)
    return " ".join(f"{one}x{value.count(one)}" for one in dict.fromkeys(value))


def _markdown(columns: Sequence[str], lines: Sequence[tuple[str, ...]]) -> list[str]:
    made = (" | ".join(cell.replace("|", "/").replace("*", r"\*") for cell in line) for line in (columns, *lines))
    head, *rest = (f"| {line} |" for line in made)
    return [head, f"|{'---|' * len(columns)}", *rest]
