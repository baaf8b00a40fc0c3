"""What all printed reports share: a console of known width, plain tables, numbers with their units."""

import sys
from typing import IO, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

PIPED_COLUMNS = 80  # when nobody says how wide the paper is; fixed, so that two runs can be compared with diff
NARROWEST, WIDEST = 80, 100
GAP = 3  # columns between two blocks side by side

_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "u"),
    (1e-9, "n"),
    (1e-12, "p"),
)


def console(file: IO[str] | None = None, columns: int | None = None) -> Console:
    """A console that prints what it is given: no markup, no highlighting, colours only on a terminal."""
    out = file or sys.stdout
    terminal = Console(file=out)
    width = max(NARROWEST, min(WIDEST, terminal.width)) if terminal.is_terminal else PIPED_COLUMNS
    return Console(file=out, width=columns or width, markup=False, highlight=False, emoji=False)


def table(*columns: str, left: int = 1) -> Table:
    """An empty table; the first ``left`` columns are text, the others numbers."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for at, name in enumerate(columns):
        made.add_column(
            Text(name), justify="left" if at < left else "right", no_wrap=at >= left or left == 1, overflow="fold"
        )
    return made


def add(made: Table, *cells: object, style: str = "") -> None:
    """A row of cells shown as they are; brackets in a user's names are not markup."""
    made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells), style=style or None)


def prefix_of(largest: float) -> tuple[float, str]:
    """SI step that writes ``largest`` with one to three digits before the point: (factor, prefix)."""
    return next(((step, name) for step, name in _PREFIXES if abs(largest) >= step), (1.0, ""))


def quantity(value: float, unit: str, digits: int = 2) -> str:
    """A number with an SI prefix in front of its unit, such as ``479.25 us``."""
    step, prefix = prefix_of(value)
    return f"{value / step:,.{digits}f} {prefix}{unit}"


def share(part: float, whole: float) -> str:
    """``part / whole`` in percent, or a dash when there is nothing to share."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def bar(fraction: float, width: int) -> str:
    """A bar of ``#``, full at 1; anything above nothing shows at least one."""
    return "#" * min(width, max(int(fraction > 0), round(fraction * width)))


def show(out: Console, page: RenderableType) -> None:
    """Print without the blanks that fill lines up to the width."""
    with out.capture() as captured:
        out.print(page)
    for line in captured.get().splitlines():
        out.file.write(line.rstrip() + "\n")


def beside(out: Console, left: RenderableType, right: RenderableType) -> RenderableType:
    """Two blocks side by side, or one under the other where that would cut off digits."""
    both = [Measurement.get(out, out.options, block).maximum for block in (left, right)]
    if sum(both) + GAP > out.width:
        return Group(left, Text(), right)
    grid = Table.grid(padding=(0, GAP))
    grid.add_row(left, right)
    return grid


def fields(pairs: dict[str, Any]) -> Table:
    """Label and value, line by line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for label, value in pairs.items():
        grid.add_row(Text(label), value if isinstance(value, Text) else Text(str(value)))
    return grid
