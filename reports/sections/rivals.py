"""Rival machines on the same tensors, how well they match their own papers, and quality against traffic."""

from collections.abc import Sequence
from typing import Any

from reports.document import Cell, Column, Figure, Row, Section, Table, number, percent, text
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
QUALITIES = (
    ("perplexity_ratio", "perplexity / dense perplexity", True),
    ("mean_embedding_cosine", "cosine with dense embedding", False),
    ("top1_agreement", "same next token", False),
    ("quality", "quality", False),
    ("output_error", "RMS error of the output", True),
)
"""Key of a curve's point, what it is, whether less is better."""


def section(sources: Sequence[Source]) -> Section | None:
    """The section; None without rivals."""
    found = [source for source in sources if source.kind == "rivals"]
    if not found:
        return None
    figures: list[Figure] = []
    tables: list[Table] = []
    for at, source in enumerate(found):
        suffix = "" if len(found) == 1 else f"-{at + 1}"
        rows = [row for row in source.data["rows"] if {"machine", "setting", "workload"} <= row.keys()]
        drawn = [row for row in rows if any(total(row.get(key)) for key in METRICS)]
        if drawn:
            caption = (
                "Geometric mean over the workloads that all machines of the setting ran, on the same tensors and the "
                "same memory model. Dense-equivalent: operations of unpruned attention over the time taken."
            )
            figures.append(Figure(f"rivals{suffix}", rivals(drawn, f"rivals{suffix}"), caption, (source.name,)))
        curves = source.data.get("curves") or []
        figures += _curves([one for one in curves if isinstance(one, dict)], source, suffix)
        if validation := source.data.get("validation"):
            shown = [row for row in validation if {"figure", "published", "ours", "unit", "label"} <= row.keys()]
            caption = "Rivals beside their own papers"
            tables.append(reproduction_table(f"validation{suffix}", caption, shown, source))
        if rows:
            made = tuple(
                _row(row, source, f"rows/{place}") for place, row in enumerate(source.data["rows"]) if row in rows
            )
            tables.append(Table(f"rivals{suffix}", f"Rivals, {source.label}", COLUMNS, made))
    return Section("rivals", "Rival machines", (), tuple(figures), tuple(tables))


def _curves(curves: Sequence[Data], source: Source, suffix: str) -> list[Figure]:
    made = []
    for key, what, less in QUALITIES:
        points = [
            Measured(str(one["machine"]), str(one["workload"]), size, float(one[key]))
            for one in curves
            if {"machine", "workload"} <= one.keys()
            and isinstance(one.get(key), int | float)
            and (size := total(one.get("dram_bytes")))
        ]
        if points:
            name = f"quality-{key.replace('_', '-')}{suffix}"
            caption = f"{what[0].upper()}{what[1:]} against DRAM traffic as a machine's own knob is turned."
            made.append(Figure(name, quality(points, what, less, name), caption, (source.name,)))
    return made


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
