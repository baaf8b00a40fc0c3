"""The colours of all reports, once for light paper and once for dark, and how much two colours differ.

A figure is drawn in the light colours; each of them is then written as ``var(--name, light)``, so that page and figure
change together. That is why no two names may share a light colour.
"""

from typing import NamedTuple


class Colour(NamedTuple):
    """One name in both themes, as ``#rrggbb``."""

    light: str
    dark: str


COLOURS = {
    "paper": Colour("#ffffff", "#14171b"),
    "raised": Colour("#f5f6f8", "#1d2127"),
    "line": Colour("#d5d9df", "#39404a"),
    "axis": Colour("#77808c", "#7e8794"),
    "ink": Colour("#1b2026", "#e9ecef"),
    "muted": Colour("#56606c", "#a6afba"),
    "link": Colour("#1a57a6", "#8ab8f5"),
    "ours": Colour("#2463ad", "#6fa8ea"),
    "ours-soft": Colour("#9dbbdd", "#2f4e75"),
    "published": Colour("#6d747d", "#98a1ac"),
    "other": Colour("#b0560f", "#e59a55"),
    "other-soft": Colour("#e6c09b", "#6b4524"),
    "third": Colour("#2f7d6b", "#63bda7"),
    "fourth": Colour("#8d5a97", "#c596cf"),
    "good": Colour("#1f7a4a", "#6cc596"),
    "bad": Colour("#b3261e", "#f2887f"),
    "heat-0": Colour("#f7f9fb", "#191d23"),
    "heat-1": Colour("#e3ecf6", "#1d2c3d"),
    "heat-2": Colour("#c8dbf0", "#213b57"),
    "heat-3": Colour("#a9c7e8", "#264a70"),
    "heat-4": Colour("#8ab2de", "#2b5a8b"),
}

TEXT_PAIRS = (
    *((text, under) for under in ("paper", "raised") for text in ("ink", "muted", "link", "good", "bad")),
    *(("ink", f"heat-{step}") for step in range(5)),
    ("ink", "ours-soft"), ("ink", "other-soft"),
    *(("paper", mark) for mark in ("ours", "other", "third", "fourth", "published")),
)  # fmt: skip
"""(text, what it stands on): at least 4.5 to 1 (WCAG 2.2, 1.4.3 AA)."""

MARK_PAIRS = tuple((mark, "paper") for mark in ("ours", "published", "other", "third", "fourth", "axis", "good", "bad"))
"""(mark, what it stands on): at least 3 to 1 (WCAG 2.2, 1.4.11)."""


def light(name: str) -> str:
    """The colour that a figure is drawn in."""
    return COLOURS[name].light


def variables(theme: str) -> str:
    """CSS declarations of one theme, ``light`` or ``dark``."""
    return " ".join(f"--{name}: {getattr(colour, theme)};" for name, colour in COLOURS.items())


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two ``#rrggbb`` colours, 1 to 21 (WCAG 2.2, relative luminance)."""
    dark, bright = sorted((_luminance(one), _luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
