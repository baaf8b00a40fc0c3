"""The zoo: every system of retention, scan and attention papers on the engine."""

from collections.abc import Sequence
from typing import Any

from accel.errors import UserError
from reports.document import Cell, Column, Figure, Row, Section, Table, capitalised, number, percent, text, times
from reports.figures.zoo_heat import COLUMNS as HEAT_COLUMNS
from reports.figures.zoo_heat import zoo_heat
from reports.sources import Source
from reports.zoo_table import technique

Data = dict[str, Any]

COLUMNS = (
    Column("system", is_number=False),
    Column("unit of work", is_number=False),
    Column("lowering", is_number=False),
    Column("time found by", is_number=False),
    Column("time", "ms"),
    Column("energy", "mJ"),
    Column("DRAM moved", "MB"),
    Column("mixer", "fp16 ÷ moved"),
    Column("whole step", "fp16 ÷ moved"),
    Column("ceiling", "1/(1-f)"),
    Column("tokens", "mixer/step, error", False),
    Column("heads", "mixer/step, error", False),
    Column("planes", "mixer/step, error", False),
    Column("error", "RMS, worst kernel"),
    Column("confidence", is_number=False),
)
_TECHNIQUES = ("token_pruning", "head_pruning", "progressive_quantisation")
TEXT = (
    "Every system runs one unit of work on the unpruned engine at 12 bit. Mixer and whole step: bytes of an unpruned "
    "fp16 machine over the engine's. Ceiling: what no technique that only touches the mixer can exceed.",
    "Techniques: gain in bytes of mixer and step, and RMS output error on random tensors, in which nothing is "
    "redundant. * a modified technique under its own name; ? not measured, counted as 1.00x; - has no counterpart in "
    "the system.",
)


def section(sources: Sequence[Source]) -> Section | None:
    """The section; None without a zoo.

    Raises:
        UserError: rows of another version.
    """
    found = [source for source in sources if source.kind == "zoo"]
    if not found:
        return None
    parts: list[Figure | Table] = []
    for at, source in enumerate(found):
        suffix = "" if len(found) == 1 else f"-{at + 1}"
        try:
            names = ", ".join(column.name.replace("\n", " ") for column in HEAT_COLUMNS)
            caption = (
                f"{capitalised(source.label)}. Columns: {names}. Each column is tinted on its own logarithmic scale."
            )
            svg = zoo_heat(source.data["rows"], f"zoo{suffix}")
            parts.append(Figure(f"zoo{suffix}", svg, caption, (source.name,)))
            made = tuple(_row(row, source, f"rows/{place}") for place, row in enumerate(source.data["rows"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"report: {source.label}: a row lacks what this version shows ({error})") from error
        parts.append(Table(f"zoo{suffix}", capitalised(source.label), COLUMNS, made))
    return Section("zoo", "The zoo", TEXT, tuple(parts))


def _row(row: Data, source: Source, path: str) -> Row:
    ratio = row["ratio"]["fp16"]
    cells = (
        text(row["name"]), text(row["unit"]), text(row["lowering"]), text(row["time"]), number(row["latency_s"] * 1e3),
        number(row["energy_pJ"]["total"] / 1e9), number(row["dram_bytes"] / 1e6), times(ratio["mixer"]),
        times(ratio["whole"]), times(row["ceiling"]), *(_technique(row["techniques"][name]) for name in _TECHNIQUES),
        percent(row["error"]["worst"]), text(row["confidence"]),
    )  # fmt: skip
    return Row(cells, source.name, path, f"accel zoo {row['name']} --arch {row['arch']}")


def _technique(said: Data) -> Cell:
    shown = technique(said)
    return Cell(shown, said.get("gain_step") or (1.0 if said["mode"] != "none" else None))
