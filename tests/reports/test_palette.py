"""The palette can be read in both themes: WCAG 2.2 AA for text and for marks; no colour stands for two."""

import pytest

from reports.palette import COLOURS, MARK_PAIRS, TEXT_PAIRS, contrast

AA_TEXT, AA_MARK = 4.5, 3.0


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the standard's own near miss
    assert contrast("#ffffff", "#777777") == contrast("#777777", "#ffffff")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("pairs", "least"), [(TEXT_PAIRS, AA_TEXT), (MARK_PAIRS, AA_MARK)])
def test_pairs_are_readable(pairs: tuple[tuple[str, str], ...], least: float, theme: str) -> None:
    found = {
        (one, other): contrast(getattr(COLOURS[one], theme), getattr(COLOURS[other], theme)) for one, other in pairs
    }
    assert not {pair: ratio for pair, ratio in found.items() if ratio < least}


def test_no_two_names_share_the_colour_that_stands_for_them() -> None:
    assert len({colour.light for colour in COLOURS.values()}) == len(COLOURS)
