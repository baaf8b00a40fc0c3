"""The published benchmarks: one row each, and published figures beside ours."""

from collections.abc import Sequence
from typing import Any

from reports.document import Cell, Column, Figure, Row, Section, Table, capitalised, number, text, times
from reports.figures.energy import energy
from reports.figures.reduction import geometric_mean, reduction
from reports.figures.reproduction import NEAR, is_evidence, reproduction
from reports.figures.reproduction import number as with_unit
from reports.sources import Source

Data = dict[str, Any]

PUBLISHED_DRAM_REDUCTION = 10.0  # Wang, Zhang, Han, HPCA 2021: average over 30 benchmarks, which fits an fp32 baseline
LABELS_TEXT = (
    "Labels: trace, computed from rows that the authors published; derived, follows from their numbers; calibrated, "
    "keep ratios were set so that the published average comes out, and it is no evidence for it; memory, the workload "
    "is known only from memory; published, both numbers are compared as they stand."
)
REPRODUCTION_KEYS = ("reproduction", "figures")  # where rows of published figures may stand
COLUMNS = (
    Column("benchmark", is_number=False),
    Column("without", is_number=False),
    Column("cycles"),
    Column("done", "GOP/s"),
    Column("dense-equivalent", "GOP/s"),
    Column("DRAM moved", "MB"),
    Column("dense fp32", "÷ moved"),
    Column("dense fp16", "÷ moved"),
    Column("dense int8", "÷ moved"),
    Column("energy", "µJ"),
    Column("limit", is_number=False),
)
REPRODUCTION_COLUMNS = (
    Column("published figure", is_number=False),
    Column("where", is_number=False),
    Column("published"),
    Column("ours"),
    Column("ours / published"),
    Column("label", is_number=False),
    Column("cause of a difference", is_number=False),
)


def moved_bytes(row: Data) -> float | None:
    """Bytes that crossed the memory bus."""
    size = row.get("dram_bytes")
    if isinstance(size, dict):
        return size.get("moved", size.get("total"))
    if size is not None:
        return size
    counts = row.get("counts")
    return sum(counts["dram_read_bytes"].values()) + counts["dram_write_bytes"] if counts else None


def reductions(row: Data) -> dict[str, float]:
    """Baseline over moved bytes, by baseline."""
    found = row.get("dram_reduction") or row.get("ratio") or {}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def section(sources: Sequence[Source]) -> Section | None:
    """The section; None without benchmarks."""
    found = [source for source in sources if source.kind == "bench"]
    if not found:
        return None
    parts: list[Figure | Table] = []
    text_: list[str] = []
    for at, source in enumerate(found):
        suffix = "" if len(found) == 1 else f"-{at + 1}"
        rows = [(f"rows/{at}", row) for at, row in enumerate(source.data["rows"])]
        key = next((name for name in REPRODUCTION_KEYS if source.data.get(name)), "")
        published = source.data[key] if key else []
        if any(row.get("ratio") for row in published):
            caption = (
                f"Published figures and ours, {source.label}. Shaded: {NEAR[0]} to {NEAR[1]}; hollow: calibrated to "
                f"fit. Right: published → ours. What could not be measured is in the table. {LABELS_TEXT}"
            )
            svg = reproduction(published, f"reproduction{suffix}")
            parts.append(Figure(f"reproduction{suffix}", svg, caption, (source.name,)))
        if published:
            text_.append(_summary(published))
            parts.append(
                reproduction_table(f"reproduction{suffix}", "Published figures and ours", published, source, key)
            )
        plain = [row for _, row in rows if not row.get("without")]
        drawn = [{**row, "dram_reduction": reductions(row)} for row in plain if "fp32" in reductions(row)]
        if drawn:
            values = [row["dram_reduction"]["fp32"] for row in drawn]
            text_.append(
                f"Geometric mean of the DRAM reduction of {len(drawn)} benchmarks: {geometric_mean(values):.1f} × "
                f"against fp32 (published average: {PUBLISHED_DRAM_REDUCTION:g} ×)."
            )
            parts.append(
                Figure(f"reduction{suffix}", reduction(drawn, PUBLISHED_DRAM_REDUCTION, f"reduction{suffix}"),
                       f"DRAM bytes of dense fp32 attention over bytes moved, {source.label}.", (source.name,))
            )  # fmt: skip
        costed = [(row["name"], row) for row in plain if "total" in (row.get("energy_pJ") or {})]
        if costed:
            parts.append(Figure(f"bench-energy{suffix}", energy(costed, f"bench-energy{suffix}"),
                                  f"Energy by part, {source.label}.", (source.name,)))  # fmt: skip
        if rows:
            parts.append(Table(f"benchmarks{suffix}", capitalised(source.label), COLUMNS,
                                tuple(_row(row, source, path) for path, row in rows)))  # fmt: skip
    return Section("benchmarks", "Published benchmarks", tuple(text_), tuple(parts))


def _summary(rows: Sequence[Data]) -> str:
    ratios = [row["ratio"] for row in rows if row.get("ratio")]
    near = [row for row in rows if row.get("ratio") and NEAR[0] <= row["ratio"] <= NEAR[1]]
    fixed = sum(not is_evidence(row) for row in near)
    return (
        f"{len(rows)} published figures: {len(near)} of ours are within {NEAR[0]} to {NEAR[1]} of them"
        f"{f' ({fixed} of these were calibrated to be, hollow in the figure)' if fixed else ''}, "
        f"{len(ratios) - len(near)} are not, {len(rows) - len(ratios)} could not be measured; each of the last two "
        "kinds has its cause in the table."
    )


def _row(row: Data, source: Source, path: str) -> Row:
    rate, ratio, moved = row.get("throughput_ops_per_s") or {}, reductions(row), moved_bytes(row)
    joules = (row.get("energy_pJ") or {}).get("total")
    cells = (
        text(row["name"]), text(", ".join(row.get("without") or []) or "–"), number(row.get("cycles")),
        number(_over(rate.get("done"), 1e9)), number(_over(rate.get("dense_equivalent"), 1e9)),
        number(_over(moved, 1e6)), *(times(ratio.get(name)) for name in ("fp32", "fp16", "int8")),
        number(_over(joules, 1e6)), text((row.get("bound") or {}).get("limit", "–")),
    )  # fmt: skip
    return Row(cells, source.name, path, row.get("command", source.command))


def _over(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def reproduction_table(name: str, caption: str, rows: Sequence[Data], source: Source, key: str) -> Table:
    """Rows of published figures, with label and cause. ``key``: where they are in the source's JSON."""
    made = tuple(
        Row(
            (
                text(row["figure"]), text(row.get("where", "")),
                Cell(with_unit(row["published"], row["unit"]), row["published"]),
                Cell(with_unit(row["ours"], row["unit"]), row["ours"]), _ratio(row.get("ratio")), text(row["label"]),
                text(row.get("cause", "")),
            ),
            source.name, f"{key}/{at}", row.get("command", source.command),
        )
        for at, row in enumerate(rows)
    )  # fmt: skip
    return Table(name, caption, REPRODUCTION_COLUMNS, made)


def _ratio(value: float | None) -> Cell:
    if value is None:
        return Cell("–")
    return number(value)._replace(tone="good" if NEAR[0] <= value <= NEAR[1] else "bad")
