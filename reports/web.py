"""The page: everything in one file, no request to anywhere, and no script but the one whose hash its policy names."""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files

import jinja2

from reports.build import Document, MOST_PAGE_bytes
from reports.palette import variables

_RESERVED_bytes = 250_000  # tables, text and script beside figures and data


def theme_css() -> str:
    """The palette in both themes: the system's, unless the reader chose one; always light on paper."""
    light, dark = variables("light"), variables("dark")
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme='light']) {{ color-scheme: dark; {dark} }} }}\n"
        f":root[data-theme='dark'] {{ color-scheme: dark; {dark} }}\n"
        f"@media print {{ :root, :root[data-theme], :root:not([data-theme='light']) "
        f"{{ color-scheme: light; {light} }} }}\n"
    )


@cache
def _part(name: str) -> str:
    return (files("reports") / "templates" / name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_part("page.html.j2"))


def embedded_json(made: Document) -> tuple[str, set[str]]:
    """JSON of the sources for inside a script element, and the names of those that fit with all their data."""
    room = MOST_PAGE_bytes - _RESERVED_bytes - sum(len(f.svg) for section in made.sections for f in section.figures)
    found: dict[str, object] = {}
    fitting: set[str] = set()
    for source in sorted(made.sources, key=lambda one: len(json.dumps(one.data))):
        entry: dict[str, object] = {"hash": source.hash, "code": source.code_version, "command": source.command}
        size = len(_in_script({"json": source.data}).encode())
        if size <= room:
            room -= size
            fitting.add(source.name)
            found[source.name] = {**entry, "json": source.data}
        else:
            found[source.name] = entry
    return _in_script(found), fitting


def _in_script(value: object) -> str:
    """JSON in which nothing ends a script element or begins a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def html(made: Document) -> str:
    """The whole page."""
    script = _part("page.js")
    data, fitting = embedded_json(made)
    return _template().render(
        title=made.title,
        lead=made.lead,
        command=made.command,
        code_version=made.code_version,
        sections=made.sections,
        sources=made.sources,
        labels={source.name: source.label for source in made.sources},
        embedded=fitting,
        style=theme_css() + _part("page.css"),
        script=script,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=data,
    )
