"""What all figures share: a canvas in the palette of the reports, and SVG that follows the theme of its page."""

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reports.palette import COLOURS, light, variables

WIDTH_in = 7.2  # a text column of a paper, a page on a screen
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
SMALL_pt, NORMAL_pt = 8.0, 9.0
EDGE_pt = 0.6  # around what is filled with a soft colour, in its strong one

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "accel",
    "font.family": "DejaVu Sans",  # the widths are measured in it; it is wider than what FONTS will be shown in
    "font.size": NORMAL_pt,
    "text.color": light("ink"),
    "text.parse_math": False,
    "axes.labelcolor": light("muted"),
    "axes.edgecolor": light("axis"),
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.titlesize": NORMAL_pt,
    "axes.titlelocation": "left",
    "axes.titlecolor": light("ink"),
    "axes.labelsize": SMALL_pt,
    "figure.facecolor": "none",
    "grid.color": light("line"),
    "grid.linewidth": 0.6,
    "xtick.color": light("axis"),
    "ytick.color": light("axis"),
    "xtick.labelcolor": light("muted"),
    "ytick.labelcolor": light("ink"),
    "xtick.labelsize": SMALL_pt,
    "ytick.labelsize": SMALL_pt,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": SMALL_pt,
    "legend.labelcolor": light("ink"),
}


class Canvas:
    """A figure being drawn. Use as a context: matplotlib's settings are those of the reports inside it only."""

    def __init__(self, name: str, height_in: float, rows: int = 1, columns: int = 1, heights: Sequence[float] = ()):
        """``name`` begins every id in the SVG, so that several figures may stand in one page; ``heights``: of the rows,
        relative to each other.
        """
        self.name = name
        self._context = rc_context(_STYLE)
        self._size, self._grid, self._heights = (WIDTH_in, height_in), (rows, columns), list(heights) or None

    def __enter__(self) -> "Canvas":
        self._context.__enter__()
        self.figure = Figure(figsize=self._size, layout="constrained")
        self.all_axes: list[Axes] = list(
            self.figure.subplots(*self._grid, squeeze=False, height_ratios=self._heights).flat
        )
        self.axes = self.all_axes[0]
        return self

    def __exit__(self, *failed: object) -> None:
        self._context.__exit__(None, None, None)

    def svg(self, title: str, description: str) -> str:
        """The figure as an SVG element. ``title`` and ``description`` are what a screen reader says."""
        FigureCanvasSVG(self.figure)
        text = io.StringIO()
        self.figure.savefig(
            text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None, "Format": None}
        )
        return _themed(_own_ids(_bare(text.getvalue()), self.name), self.name, title, description)


def standalone(svg: str) -> str:
    """A figure as a file of its own: light or dark as the reader's system is."""
    style = (
        f"<style>:root {{ {variables('light')} }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ {variables('dark')} }} }}"
        " svg { background: var(--paper) }</style>"
    )
    head, rest = svg.split(">", 1)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head).groups()  # type: ignore[union-attr]
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head} width="{width}pt" height="{height}pt">{style}{rest}\n'


def _bare(text: str) -> str:
    """Without prolog, metadata and fixed size: the page decides how large a figure is."""
    text = text[text.index("<svg") :].rstrip()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.S)
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None, "matplotlib writes one"
    inside = text[text.index(">") + 1 :]
    inside = re.sub(r"<style type=.text/css.>.*?</style>", "", inside, flags=re.S)
    return f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view[0]}>{inside}'


def _own_ids(text: str, name: str) -> str:
    """Ids that something points to get the figure's name in front; the others go."""
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)


def _themed(text: str, name: str, title: str, description: str) -> str:
    names = {colour.light: token for token, colour in COLOURS.items()}
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _variable(found[0], names), text)
    text = re.sub(r"(font: [^;\"]*?)'DejaVu Sans'[^;\"]*", rf"\g<1>{FONTS}", text)
    head, rest = text.split(">", 1)
    about = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    return f'{head} role="img" aria-labelledby="{name}-title {name}-desc" stroke-linejoin="round">{about}{rest}'


def _variable(colour: str, names: dict[str, str]) -> str:
    return f"var(--{names[colour]}, {colour})" if colour in names else colour
