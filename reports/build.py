"""From sources to a folder: ``index.html`` (whole in itself), ``report.md``, ``data/*.json`` and ``figures/*.svg``."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accel.errors import UserError
from accel.runs import check_folder, report_text, write_whole
from accel.session import code_version
from reports.document import Section
from reports.figures.canvas import standalone
from reports.sections import benchmarks, crossover, limits, proof, rivals, runs, topk, zoo
from reports.sources import OPTIONS, Source, distinct

MOST_PAGE_bytes = 5_000_000
PAGE, MARKDOWN, DATA, FIGURES = "index.html", "report.md", "data", "figures"
_SECTIONS: tuple[Callable[[Sequence[Source]], Section | None], ...] = (
    benchmarks.section, limits.section, rivals.section, topk.section, zoo.section,
    crossover.section, proof.section,
)  # fmt: skip


class Document(NamedTuple):
    """A report before it is written."""

    title: str
    lead: str
    command: str
    code_version: str
    sections: tuple[Section, ...]
    sources: tuple[Source, ...]


def document(
    sources: Sequence[Source], command: str, timeline: dict[str, Any] | None = None, title: str = ""
) -> Document:
    """The report of these sources. A section is there if something can stand in it.

    Raises:
        UserError: there is nothing to report, or a source lacks what this version shows.
    """
    found = distinct(sources)
    if not found and timeline is None:
        raise UserError(f"report: nothing to report; name runs, or {OPTIONS} FILE")
    made = (runs.section(found, timeline), *(section(found) for section in _SECTIONS))
    machines = list(dict.fromkeys(name for source in found if (name := _machine(source))))
    kinds = [_counted(found, kind, one, many) for kind, one, many in _NAMES]
    lead = f"{', '.join(filter(None, kinds)) or 'A timeline'}; machines: {', '.join(machines) or 'none named'}."
    named = title or (f"accel report: {', '.join(machines)}" if machines else "accel report")
    return Document(
        named, lead, command, code_version(), tuple(section for section in made if section is not None), tuple(found)
    )


_NAMES = (
    ("run", "run", "runs"),
    ("bench", "set of benchmarks", "sets of benchmarks"),
    ("rivals", "comparison with rivals", "comparisons with rivals"),
    ("topk", "comparison of top-k engines", "comparisons of top-k engines"),
    ("zoo", "zoo", "zoos"),
    ("crossover", "crossover", "crossovers"),
    ("verify", "verification", "verifications"),
)


def _counted(sources: Sequence[Source], kind: str, one: str, many: str) -> str:
    count = sum(source.kind == kind for source in sources)
    return "" if not count else f"{count} {one if count == 1 else many}"


def _machine(source: Source) -> str:
    arch = source.data.get("arch")
    return str(arch.get("name", "")) if isinstance(arch, dict) else ""


def source_text(source: Source) -> str:
    """The bytes of a source's file: of a run those of the store, with their hash."""
    if source.kind == "run":
        return report_text(source.data)
    return json.dumps(source.data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_report(made: Document, folder: Path) -> list[Path]:
    """Write everything; figures and data first, so that the page never names what is not there. Returns all paths.

    Raises:
        UserError: the folder cannot be written.
    """
    from reports.markdown import markdown
    from reports.web import html

    check_folder(folder)
    files = {folder / DATA / f"{source.name}.json": source_text(source) for source in made.sources}
    files |= {
        folder / FIGURES / f"{figure.name}.svg": standalone(figure.svg)
        for section in made.sections
        for figure in section.figures
    }
    files |= {folder / MARKDOWN: markdown(made), folder / PAGE: html(made)}
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent}: cannot be made ({error.strerror or error})") from error
        write_whole(path, text)
    return list(files)
