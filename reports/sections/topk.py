"""Top-k engines beside each other: cycles and, where synthesised, cells."""

from collections.abc import Sequence
from typing import Any

from reports.document import Column, Figure, Row, Section, Table, capitalised, number, text
from reports.figures.topk import topk
from reports.sections.benchmarks import reproduction_table
from reports.sources import Source

NUMBERS = (
    ("lanes", Column("lanes")),
    ("n", Column("elements")),
    ("kept", Column("kept")),
    ("cycles_mean", Column("mean", "cycles")),
    ("cycles_p99", Column("99 of 100", "cycles")),
    ("cycles_worst", Column("worst", "cycles")),
    ("interval_cycles", Column("interval", "cycles")),
    ("energy_pJ", Column("energy", "pJ")),
    ("cells", Column("cells")),
)
SYNTHESIS = (
    ("lanes", Column("lanes")),
    ("max_n", Column("longest row", "elements")),
    ("value_bits", Column("word", "bits")),
    ("cells", Column("cells")),
    ("flip_flops", Column("flip-flops")),
    ("memory_bits", Column("memory", "bits")),
    ("area_um2", Column("area, synthesised", "µm²")),
    ("critical_path_ps", Column("critical path", "ps")),
    ("model_area_um2", Column("area by model", "µm²")),
)
_CELLS = (
    "Cells are those of the Verilog; memories of a kilobit and more are not in them but counted as bits. Area by model "
    "is the number of operations times the factors of accel cost, without memories."
)
_DRAWN = {"engine", "lanes", "n", "cycles_mean"}


def section(sources: Sequence[Source]) -> Section | None:
    """The section; None without top-k engines."""
    found = [source for source in sources if source.kind == "topk"]
    if not found:
        return None
    said: tuple[str, ...] = ()
    parts: list[Figure | Table] = []
    for at, source in enumerate(found):
        suffix = "" if len(found) == 1 else f"-{at + 1}"
        rows = [{**row, "n": row.get("n", row.get("keys"))} for row in source.data["rows"]]
        drawn = _slowest([row for row in rows if row.keys() >= _DRAWN and row["cycles_mean"] is not None])
        if drawn:
            caption = (
                "Cycles of one selection over the number of elements; dashed: the worst that was found. Where several "
                "numbers of elements to keep were tried, the one with the largest mean is drawn."
            )
            parts.append(Figure(f"topk{suffix}", topk(drawn, f"topk{suffix}"), caption, (source.name,)))
        parts.append(_table(f"topk{suffix}", capitalised(source.label), NUMBERS, rows, source, "rows"))
        if cells := source.data.get("synthesis"):
            library = ", ".join(dict.fromkeys(str(row.get("library", "generic")) for row in cells))
            caption = f"{capitalised(source.label)}, synthesised: {library} gates"
            parts.append(_table(f"topk-cells{suffix}", caption, SYNTHESIS, cells, source, "synthesis"))
            said = (_CELLS,)
        if published := source.data.get("figures"):
            parts.append(
                reproduction_table(
                    f"topk-published{suffix}", "Engines beside published ones", published, source, "figures"
                )
            )
    return Section("topk", "Top-k engines", said, tuple(parts))


def _table(
    name: str,
    caption: str,
    numbers: Sequence[tuple[str, Column]],
    rows: Sequence[dict[str, Any]],
    source: Source,
    path: str,
) -> Table:
    """One row per engine and width, with those of ``numbers`` that any row has."""
    shown = [(key, column) for key, column in numbers if any(row.get(key) is not None for row in rows)]
    made = tuple(
        Row(
            (text(row.get("engine", "")), *(number(row.get(key)) for key, _ in shown)),
            source.name,
            f"{path}/{place}",
            row.get("command", source.command),
        )
        for place, row in enumerate(rows)
    )
    return Table(name, caption, (Column("engine", is_number=False), *(column for _, column in shown)), made)


def _slowest(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per engine, lanes and length."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["engine"], row["lanes"], row["n"])
        if key not in found or row["cycles_mean"] > found[key]["cycles_mean"]:
            found[key] = row
    return list(found.values())
