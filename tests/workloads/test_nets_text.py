"""Evaluation text is running prose, whatever the markup around it."""

import bz2
from pathlib import Path

import pytest

from accel.errors import UserError
from workloads.nets import text

PROSE = "The cat sat on the mat and looked at the dog for a long, long time, as cats will do."


def export(pages: str) -> bytes:
    namespace = "http://www.mediawiki.org/xml/export-0.10/"
    return bz2.compress(f'<mediawiki xmlns="{namespace}">{pages}</mediawiki>'.encode())


def page(title: str, body: str, ns: int = 0, redirect: str = "") -> str:
    return f"<page><title>{title}</title><ns>{ns}</ns>{redirect}<revision><text>{body}</text></revision></page>"


@pytest.fixture
def excerpt(tmp_path: Path) -> Path:
    pages = page("Cat", PROSE) + page("Kitty", "#REDIRECT", redirect="<redirect title='Cat'/>")
    pages += page("Talk:Cat", PROSE, ns=1) + page("Dog", f"== Body ==\n{PROSE}\n* {PROSE}\n== See also ==\n{PROSE}")
    (tmp_path / "own.xml.bz2").write_bytes(export(pages))
    return tmp_path


def test_builtin_text_is_long_enough_for_a_window_of_512_tokens() -> None:
    lines = text.builtin_text().split("\n")
    assert len(lines) == 5
    assert lines[0].startswith("When on board H.M.S. 'Beagle,' as naturalist")
    assert 3500 < len(text.builtin_text()) < 4500


def test_pages_by_title_and_index(excerpt: Path) -> None:
    pytest.importorskip("mwparserfromhell")
    assert text.wikipedia_titles(excerpt) == ["Cat", "Dog"]
    assert text.wikipedia_page("Dog", excerpt) == text.wikipedia_page(1, excerpt) == PROSE
    with pytest.raises(UserError, match=r"'Catt': not among the 2 pages .*did you mean 'Cat'\?"):
        text.wikipedia_page("Catt", excerpt)
    for index in (-1, 2):
        with pytest.raises(UserError, match=r"there are pages 0 \.\. 1"):
            text.wikipedia_page(index, excerpt)


@pytest.mark.parametrize("damage", [b"", b"not bz2", export("<page>"), bz2.compress(b"a" * 1000)[:-8]])
def test_damaged_excerpt(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "own.xml.bz2").write_bytes(damage)
    with pytest.raises(UserError, match="not a readable MediaWiki export"):
        text.wikipedia_titles(tmp_path)


@pytest.mark.parametrize(
    "markup",
    [
        PROSE.replace("cat", "[[Felis catus|cat]]", 1).replace("dog", "[[dog]]"),
        PROSE.replace("mat", "'''mat'''").replace("dog", "''dog''"),
        PROSE.replace("mat", "mat<ref name=a>Some book</ref>").replace("dog", "dog<ref name=a/>"),
        PROSE.replace("mat", "mat{{citation needed|date=May}}"),
        f"[[File:Cat.jpg|thumb|A picture of a [[cat]] that has a very long caption, longer than any heading]]{PROSE}",
        f"{{{{Infobox\n|name = Cat\n|of={{{{flag|X}}}}}}}}\n{PROSE}\n[[Category:Cats]]",
        f'{PROSE}\n{{| class="wikitable"\n|-\n| a very long cell of a table, longer than any heading at all\n|}}',
        f"== Heading ==\n{PROSE}\n* {PROSE}\n# {PROSE}\n:{PROSE}\nshort line",
        f"{PROSE}\n==References==\n{PROSE}",
        f"{PROSE}<!-- hidden -->",
        PROSE.replace("looked", "''looked'''") + "<ref>A book</ref>",
    ],
)
def test_markup_is_stripped(markup: str) -> None:
    pytest.importorskip("mwparserfromhell")
    assert text.plain_text(markup) == PROSE


def test_gaps_of_dropped_templates_are_closed() -> None:
    pytest.importorskip("mwparserfromhell")
    markup = "The cat ({{lang|la|felis}}, a pet) sat {{x}}, and it ({{ipa|x}}) looked at the dog for a long, long time."
    assert text.plain_text(markup) == "The cat (a pet) sat, and it looked at the dog for a long, long time."


def test_own_text_file(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("  Ein Käse. \n", encoding="utf-8")
    assert text.text_file(path) == "Ein Käse."
    path.write_bytes(b"abc\xff")
    with pytest.raises(UserError, match=r"not UTF-8 text \(byte 3\)"):
        text.text_file(path)
    path.write_text(" \n")
    with pytest.raises(UserError, match="holds no text"):
        text.text_file(path)
    with pytest.raises(UserError, match="No such file"):
        text.text_file(tmp_path / "none.txt")
