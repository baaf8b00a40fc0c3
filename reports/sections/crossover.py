"""Attention and retention at growing length."""

from collections.abc import Sequence

from accel.errors import UserError
from reports.crossover_table import about, sentences
from reports.document import Column, Figure, Row, Section, Table, capitalised, number, text
from reports.figures.crossover import ATTENTION, crossover
from reports.sources import Source

COLUMNS = (
    Column("form", is_number=False),
    Column("tokens"),
    Column("DRAM moved", "MB"),
    Column("each tensor once", "MB"),
    Column("time", "thousand cycles"),
    Column("time", "ms"),
    Column("time found by", is_number=False),
)


def section(sources: Sequence[Source]) -> Section | None:
    """The section; None without a crossover.

    Raises:
        UserError: rows of another version.
    """
    found = [source for source in sources if source.kind == "crossover"]
    if not found:
        return None
    said: list[str] = []
    parts: list[Figure | Table] = []
    for at, source in enumerate(found):
        name = "crossover" if len(found) == 1 else f"crossover-{at + 1}"
        try:
            said += [capitalised(about(source.data)), f"{capitalised('; '.join(sentences(source.data, ATTENTION)))}."]
            caption = (
                f"{capitalised(source.label)}. Dotted: the length from which on a form with a state needs less than "
                "softmax attention."
            )
            parts.append(Figure(name, crossover(source.data, name), caption, (source.name,)))
            made = tuple(_row(source, place) for place in range(len(source.data["rows"])))
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"report: {source.label}: a row lacks what this version shows ({error})") from error
        parts.append(Table(name, capitalised(source.label), COLUMNS, made))
    return Section("crossover", "Attention and retention at growing length", tuple(said), tuple(parts))


def _row(source: Source, place: int) -> Row:
    row = source.data["rows"][place]
    cells = (
        text(row["form"]), number(row["tokens"]), number(row["dram_bytes"] / 1e6),
        number(row["closed_form_bytes"] / 1e6), number(row["cycles"] / 1e3), number(row["latency_s"] * 1e3),
        text(row["time"]),
    )  # fmt: skip
    return Row(cells, source.name, f"rows/{place}", source.command)
