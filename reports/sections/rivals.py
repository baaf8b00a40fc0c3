"""Rival machines on the same tensors, how well they match their own papers, and quality against traffic."""

from collections.abc import Sequence
from typing import Any

from reports.document import Cell, Column, Figure, Row, Section, Table, capitalised, number, percent, text
from reports.figures.quality import Measured, quality
from reports.figures.rivals import METRICS, is_ours, rivals, total
from reports.sections.benchmarks import reproduction_table
from reports.sources import Source

Data = dict[str, Any]

COLUMNS = (
    Column("machine", is_number=False),
    Column("setting", is_number=False),
    Column("workload", is_number=False),
    Column("cycles"),
    Column("dense-equivalent", "GOP/s"),
    Column("DRAM moved", "MB"),
    Column("energy", "µJ"),
    Column("keys kept", "%"),
    Column("output error", "RMS"),
)


def section(sources: Sequence[Source]) -> Section | None:
    """The section; None without rivals."""
    found = [source for source in sources if source.kind == "rivals"]
    if not found:
        return None
    parts: list[Figure | Table] = []
    for at, source in enumerate(found):
        suffix = "" if len(found) == 1 else f"-{at + 1}"
        rows = [row for row in source.data["rows"] if {"machine", "setting", "workload"} <= row.keys()]
        drawn = [row for row in rows if any(total(row.get(key)) for key in METRICS)]
        if drawn:
            caption = (
                "Geometric mean over the workloads that all machines of the setting ran, on the same tensors and the "
                "same memory model. Dense-equivalent: operations of unpruned attention over the time taken."
            )
            parts.append(Figure(f"rivals{suffix}", rivals(drawn, f"rivals{suffix}"), caption, (source.name,)))
        curves = source.data.get("curves") or []
        parts += _curves([one for one in curves if isinstance(one, dict)], source, suffix)
        if validation := source.data.get("validation"):
            shown = [row for row in validation if {"figure", "published", "ours", "unit", "label"} <= row.keys()]
            caption = "Rivals beside their own papers"
            parts.append(reproduction_table(f"validation{suffix}", caption, shown, source, "validation"))
        if rows:
            made = tuple(
                _row(row, source, f"rows/{place}") for place, row in enumerate(source.data["rows"]) if row in rows
            )
            parts.append(Table(f"rivals{suffix}", capitalised(source.label), COLUMNS, made))
    return Section("rivals", "Rival machines", (), tuple(parts))


def _curves(curves: Sequence[Data], source: Source, suffix: str) -> list[Figure]:
    """The figure of all curves (``network``, ``machine``, ``points`` with ``dram_bytes``, ``quality``, its unit)."""
    found = [
        Measured(str(one["machine"]), str(one["network"]), str(point.get("quality_unit", "quality")), size, value)
        for one in curves
        if {"machine", "network", "points"} <= one.keys()
        for point in one["points"]
        if (size := total(point.get("dram_bytes"))) and (value := total(point.get("quality"))) is not None
    ]
    if not found:
        return []
    caption = (
        "Quality against DRAM traffic of attention, as each machine's own knob is turned; the same network, text and "
        "memory for all."
    )
    return [Figure(f"quality{suffix}", quality(found, f"quality{suffix}"), caption, (source.name,))]


def _row(row: Data, source: Source, path: str) -> Row:
    moved, energy = total(row.get("dram_bytes")), total(row.get("energy_pJ"))
    name = Cell(str(row["machine"]), str(row["machine"]), "strong" if is_ours(str(row["machine"])) else "")
    cells = (
        name, text(row["setting"]), text(row["workload"]), number(row.get("cycles")),
        number(total(row.get("gops_dense_equivalent"))), number(None if moved is None else moved / 1e6),
        number(None if energy is None else energy / 1e6), percent(row.get("kept_keys_share")),
        number(row.get("output_error")),
    )  # fmt: skip
    return Row(cells, source.name, path, row.get("command", source.command))
