"""Evaluation texts: a public-domain one that is part of this package, and pages of English Wikipedia.

The Wikipedia pages come from the catalogue's `wikipedia` entry; their text is CC BY-SA 3.0, so what is printed of it
has to name Wikipedia and the page.
"""

import bz2
import difflib
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from accel.errors import UserError
from workloads.nets.readers import require
from workloads.nets.store import locate

# A line shorter than this is a heading, a list item or a leftover, not running text.
_SHORTEST_PARAGRAPH = 60

# Links into these namespaces put pictures and category names into a page, not words into its sentences.
_NOT_PROSE = frozenset({"file", "image", "category", "media"})
_LIST_TAGS = frozenset({"li", "dd", "dt"})
_NOT_PROSE_TAGS = frozenset({"table", "gallery", "timeline", "math", "ref", "score"})

# From these sections on, a page holds lists only.
_BACK_MATTER = re.compile(
    r"^==+\s*(see also|notes|notes and references|footnotes|references|citations|bibliography|sources|further reading"
    r"|external links)\s*==+\s*$",
    re.IGNORECASE | re.MULTILINE,
)


def builtin_text() -> str:
    """Charles Darwin, On the Origin of Species (1859, public domain): the first five paragraphs of the introduction.

    One paragraph per line. It was surely in the training data of the networks; use it to compare runs, not networks.
    """
    return files("workloads.nets").joinpath("darwin_origin.txt").read_text(encoding="utf-8").rstrip("\n")


def text_file(path: Path | str) -> str:
    """A user's own UTF-8 text. Raises UserError when it cannot be read or holds nothing."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not text:
        raise UserError(f"{path}: holds no text")
    return text


def wikipedia_titles(folder: Path | str | None = None) -> list[str]:
    """Titles of the articles of the excerpt, in its order, without redirects."""
    return list(_articles(_dump(folder)))


def wikipedia_page(title_or_index: str | int, folder: Path | str | None = None) -> str:
    """Running text of one article, one paragraph per line; no markup, headings, lists, tables, pictures or references.

    Raises UserError for an unknown title or index, and when the excerpt is not there (`accel models get wikipedia`).
    """
    articles = _articles(_dump(folder))
    titles = list(articles)
    if isinstance(title_or_index, int):
        if not 0 <= title_or_index < len(titles):
            raise UserError(f"wikipedia page {title_or_index}: there are pages 0 .. {len(titles) - 1}")
        title = titles[title_or_index]
    else:
        title = title_or_index
    if title not in articles:
        close = difflib.get_close_matches(title, titles, n=1)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"wikipedia page {title!r}: not among the {len(titles)} pages of the excerpt{guess}")
    return plain_text(articles[title])


def plain_text(markup: str) -> str:
    """Running text of wiki markup, one paragraph per line."""
    parser = require("mwparserfromhell")
    ending = _BACK_MATTER.search(markup)
    # Quote marks for bold and italics are taken off below: the parser gives up on the page around unbalanced ones.
    code = parser.parse(markup[: ending.start()] if ending else markup, skip_style_tags=True)
    for link in code.filter_wikilinks():
        namespace = str(link.title).partition(":")[0].strip().lower()
        if ":" in str(link.title) and namespace in _NOT_PROSE:
            _remove(code, link)
    for tag in code.filter_tags(matches=lambda node: str(node.tag).lower() in _NOT_PROSE_TAGS):
        _remove(code, tag)
    for marker in code.filter_tags(matches=lambda node: str(node.tag).lower() in _LIST_TAGS):
        # The parser takes the sign of a list item for a tag; put a sign back, so that the line shows what it is.
        _replace(code, marker, parser.nodes.Text("*"))
    stripped = re.sub(r"'{2,}", "", code.strip_code(normalize=True, collapse=True))
    lines = (" ".join(line.split()) for line in stripped.splitlines())
    return "\n".join(_tidy(line) for line in lines if len(line) >= _SHORTEST_PARAGRAPH and line[0] not in "*|!{")


def _remove(code: Any, node: Any) -> None:
    """Take a node out of parsed markup; one inside a node that is already out is gone with it."""
    try:
        code.remove(node)
    except ValueError:
        return


def _replace(code: Any, node: Any, other: Any) -> None:
    """Put a node in the place of another, under the same condition."""
    try:
        code.replace(node, other)
    except ValueError:
        return


def _tidy(line: str) -> str:
    """Close the gaps that dropped templates leave: `(, a)`, `word ,`."""
    line = re.sub(r"\(\s*[,;:]\s*", "(", line)
    line = re.sub(r"\s*\(\s*\)", "", line)
    return re.sub(r"\s+([,.;:)])", r"\1", line)


def _dump(folder: Path | str | None) -> Path:
    found = sorted(locate("wikipedia", folder).glob("*.xml*.bz2"))
    if len(found) != 1:
        raise UserError(f"{found[0].parent}: expected one *.xml*.bz2 file, found {len(found)}")
    return found[0]


@cache
def _articles(path: Path) -> dict[str, str]:
    """Title -> wiki markup of every article of a MediaWiki export, redirects left out."""
    try:
        with bz2.open(path) as file:
            root = ElementTree.parse(file).getroot()
    except (OSError, EOFError, ElementTree.ParseError) as error:
        raise UserError(f"{path}: not a readable MediaWiki export ({error})") from error
    articles = {}
    for page in root.iterfind("{*}page"):
        if page.findtext("{*}ns") == "0" and page.find("{*}redirect") is None:
            articles[page.findtext("{*}title", "")] = page.findtext("{*}revision/{*}text", "")
    return articles
