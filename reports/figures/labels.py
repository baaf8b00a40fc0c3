"""Labels beside points without covering each other, and plain numbers on logarithmic axes."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from reports.figures.canvas import SMALL_pt

_LETTER_pt, _LINE_pt, _AWAY_pt = 0.62 * SMALL_pt, 1.25 * SMALL_pt, 7.0
_PLACES = ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (1, 2), (1, -2), (-1, 2), (-1, -2))


def short(value: float) -> str:
    """Three digits, thousands apart, no exponent for what is large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def plain_logarithmic(axes: Axes, *which: str) -> None:
    """Ticks as 0.1, 1, 1,000; none between."""
    for name in which:
        axis = getattr(axes, f"{name}axis")
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)


def label_apart(
    axes: Axes, points: Iterable[tuple[str, float, float]], lines: Sequence[tuple[float, float]] = ()
) -> None:
    """Write each label (text, x, y) at the first place beside its point where it covers no label, point or line.

    Limits and scales of the axes must be set. ``lines``: places (x, y) on lines that labels should keep off.
    """
    figure = axes.figure
    figure.canvas.draw()
    to_pt = 72 / figure.dpi
    found = [(text, x, y, *(axes.transData.transform((x, y)) * to_pt)) for text, x, y in points]
    taken = [(at_x - 4, at_y - 4, at_x + 4, at_y + 4) for *_, at_x, at_y in found]
    taken += [(x, y, x, y) for x, y in (axes.transData.transform(list(lines)) * to_pt if lines else ())]
    edges = axes.get_window_extent()
    left_pt, right_pt = edges.x0 * to_pt, edges.x1 * to_pt
    for text, x, y, at_x, at_y in found:
        width = _LETTER_pt * len(text)
        choices = []
        for side, line in _PLACES:
            start = at_x + _AWAY_pt if side > 0 else at_x - _AWAY_pt - width
            middle = at_y + line * _LINE_pt
            box = (start, middle - _LINE_pt / 2, start + width, middle + _LINE_pt / 2)
            inside = start >= left_pt and start + width <= right_pt
            choices.append((side, line, box, inside and not any(_overlap(box, other) for other in taken)))
        side, line, box, _ = next((choice for choice in choices if choice[3]), choices[0])
        taken.append(box)
        axes.annotate(text, (x, y), (side * _AWAY_pt, line * _LINE_pt), textcoords="offset points", va="center",
                      ha="left" if side > 0 else "right", fontsize=SMALL_pt)  # fmt: skip


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
