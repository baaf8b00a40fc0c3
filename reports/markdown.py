"""The same report as Markdown, to read in a terminal or beside code."""

from collections.abc import Iterator

from reports.build import DATA, FIGURES, Document
from reports.document import Section, Table


def markdown(made: Document, figures: bool = True) -> str:
    """The whole document. ``figures``: with links to them, which lie beside it then."""
    lines = [f"# {made.title}", "", made.lead, "", f"`{made.command}`, code {made.code_version}."]
    for section in made.sections:
        if not (figures or section.text or len(section.figures) < len(section.parts)):
            continue  # it would be empty
        lines += ["", *_section(section, figures)]
    lines += ["", "## Where the numbers come from", ""]
    for source in made.sources:
        command = f", `{source.command}`" if source.command else ""
        lines.append(
            f"* {_plain(source.label)}: [{source.hash}]({DATA}/{source.name}.json), code {source.code_version}{command}"
        )
    return "\n".join(lines) + "\n"


def _section(section: Section, figures: bool) -> Iterator[str]:
    yield f"## {section.title}"
    for paragraph in section.text:
        yield from ("", _plain(paragraph))
    for table in (part for part in section.parts if isinstance(part, Table)):
        yield from ("", f"### {_plain(table.caption)}", "", *_table(table))
    if not (figures and section.figures):
        return
    yield ""
    for figure in section.figures:
        yield f"* [{figure.name}.svg]({FIGURES}/{figure.name}.svg): {_plain(figure.caption)}"


def _table(table: Table) -> Iterator[str]:
    heads = [f"{column.name}, {column.unit}" if column.unit else column.name for column in table.columns]
    rows = [[_plain(cell.text) for cell in row.cells] for row in table.rows]
    widths = [max(len(line[at]) for line in [heads, *rows]) for at in range(len(heads))]

    def line(cells: list[str]) -> str:
        padded = (
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, width, column in zip(cells, widths, table.columns, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    yield line(heads)
    rules = (
        "-" * (width + 1) + (":" if column.is_number else "-")
        for width, column in zip(widths, table.columns, strict=True)
    )
    yield f"|{'|'.join(rules)}|"
    yield from map(line, rows)


def _plain(text: str) -> str:
    """Nothing in it is taken for Markdown or HTML."""
    for sign in "\\`*_|<[":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
