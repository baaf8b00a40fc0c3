"""Proof of equality: what was compared between golden machine, simulator and RTL, and by which command."""

from collections.abc import Sequence

from accel.errors import UserError
from reports.document import Cell, Column, Figure, Row, Section, Table, number, text
from reports.figures.proof import proof
from reports.sources import Source

COLUMNS = (
    Column("machine", is_number=False),
    Column("programs"),
    Column("cycles"),
    Column("transfers compared"),
    Column("differing values"),
    Column("differing cycles"),
    Column("memory", is_number=False),
    Column("command", is_number=False),
)


def section(sources: Sequence[Source]) -> Section | None:
    """The section; None without a verification.

    Raises:
        UserError: a file of another version.
    """
    found = [source for source in sources if source.kind == "verify"]
    if not found:
        return None
    figures, rows, programs, transfers, wrong = [], [], 0, 0, 0
    try:
        for at, source in enumerate(found):
            data = source.data
            differ = [sum(tally[which] for tally in data["boundaries"].values()) for which in ("values", "cycles")]
            wrong += sum(differ) + len(data.get("mismatches", []))
            programs, transfers = programs + data["programs"], transfers + data["transfers"]
            if data["boundaries"]:
                caption = f"{source.label}: transfers compared at each boundary between units, in value and cycle."
                svg = proof(data, f"proof-{at}")
                figures.append(Figure(f"proof-{source.name}", svg, caption, (source.name,)))
            cells = (
                text(data["arch"]["name"]), number(data["programs"]), number(data["cycles"]), number(data["transfers"]),
                *(Cell(f"{count:,}", count, "bad" if count else "good") for count in differ),
                text(data.get("memory", "–")), text(source.command),
            )  # fmt: skip
            rows.append(Row(cells, source.name, "", source.command))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"report: a verification lacks what this version shows ({error}); run it again") from error
    said = (
        f"{programs:,} programs on golden machine, simulator and Verilog; {transfers:,} transfers compared in value "
        "and cycle, and all outputs, writes and counters: "
        f"{'nothing differs' if not wrong else f'{wrong:,} differences'}."
    )
    table = Table("proof", "Verifications", COLUMNS, tuple(rows))
    return Section("proof", "Proof of equality", (said,), (table, *figures))
