"""What a report consists of, before it is a page or Markdown: sections of figures, tables and sentences."""

from typing import NamedTuple


class Cell(NamedTuple):
    """One cell. ``order`` is what sorting compares (None sorts last); ``tone`` is good, bad, or empty."""

    text: str
    order: float | str | None = None
    tone: str = ""


class Column(NamedTuple):
    """``unit`` stands under the name; columns of numbers are right-aligned."""

    name: str
    unit: str = ""
    is_number: bool = True


class Row(NamedTuple):
    """``path``: where in the source's JSON the row's numbers are, such as ``rows/3``; empty for all of it."""

    cells: tuple[Cell, ...]
    source: str
    path: str = ""
    command: str = ""


class Table(NamedTuple):
    """A table that can be sorted and filtered. The first column names the row."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


class Figure(NamedTuple):
    """An SVG fragment of :mod:`reports.figures`, its caption, and the sources of what it shows."""

    name: str
    svg: str
    caption: str
    sources: tuple[str, ...]


class Section(NamedTuple):
    """``text``: paragraphs before the rest; ``parts``: figures and tables in the order in which they are read."""

    name: str
    title: str
    text: tuple[str, ...]
    parts: tuple[Figure | Table, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The figures among the parts."""
        return tuple(part for part in self.parts if isinstance(part, Figure))


def number(value: float | None, digits: int = 3) -> Cell:
    """A number with so many significant digits, thousands apart; a dash for None."""
    if value is None:
        return Cell("–")
    shown = f"{value:,.0f}" if abs(value) >= min(1000, 10**digits) or value == int(value) else f"{value:.{digits}g}"
    return Cell(shown, float(value))


def times(value: float | None) -> Cell:
    """A ratio such as ``23.9 ×``."""
    if value is None:
        return Cell("–")
    shown = f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:,.0f}"
    return Cell(f"{shown} ×", float(value))


def percent(value: float | None) -> Cell:
    """A share such as ``69 %``, with a digit more where it is small."""
    if value is None:
        return Cell("–")
    return Cell(f"{100 * value:.0f} %" if value >= 0.1 or not value else f"{100 * value:.2g} %", float(value))


def capitalised(said: str) -> str:
    """With a capital letter first."""
    return said[:1].upper() + said[1:]


def text(value: object) -> Cell:
    """Words, sorted as words."""
    return Cell(str(value), str(value))
