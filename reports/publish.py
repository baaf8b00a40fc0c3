"""Results that people come to read, committed with the commands that make them, and a check that the code still does.

``python -m reports.publish``               run the commands and write ``reports/published``
``python -m reports.publish NAME...``       only these; some are slow and run only when named
``python -m reports.publish NAME --from F`` take what the command wrote with ``--json F``
``python -m reports.publish --check``       run them again, say what is no longer so (exit code 1)
``python -m reports.publish --page``        run nothing, only write the page of their tables and the README's figure
"""

import argparse
import contextlib
import io
import json
import math
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accel import cli
from accel.errors import UserError
from accel.runs import write_whole
from reports.build import DATA, document
from reports.figures.canvas import standalone
from reports.figures.waterfall import waterfall
from reports.markdown import markdown
from reports.sources import Source, file_source, run_source

Data = dict[str, Any]

FOLDER = Path(__file__).parent / "published"
PAGE = "README.md"
FIGURE, FIGURE_OF = Path(__file__).parent.parent / "docs" / "figures" / "waterfall.svg", "gpt2-small-wikitext2-spatten"
"""The figure of the project's README, and the run that it shows."""
COMMAND = "python -m reports.publish"
NOT_RESULTS = ("code_version", "content_sha256", "code_digest", "seconds", "cycles_per_second")
"""Keys that name the code or the time it took, not what it found."""
LEFT_OUT = {"zoo": ("phases",), "bench": ("inputs", "sets")}
"""Kind -> keys of it and its rows that are not committed: long, and made again by the same command."""
FLOAT_TOLERANCE = 1e-6  # relative; sums of floats depend on the processor's vector width, counts do not
MOST_SHOWN = 10


class Entry(NamedTuple):
    """One file. ``words``: the command as its file states it. ``by_name``: slow, run only when named."""

    name: str
    words: tuple[str, ...]
    by_name: bool = False

    @property
    def kind(self) -> str:
        """Kind of its file: the command, but for the zoo's other one."""
        return "crossover" if "--crossover" in self.words else self.words[0]

    @property
    def path(self) -> Path:
        """Where it is committed."""
        return FOLDER / DATA / f"{self.name}.json"


ENTRIES = (
    *(
        Entry(f"{workload}-{arch}", ("run", workload, "--arch", arch, "--seed", "1"))
        for workload in ("gpt2-small-wikitext2", "gpt2-medium-wikitext2")
        for arch in ("spatten", "spatten-1-8")
    ),
    Entry("zoo-spatten", ("zoo", "--arch", "spatten")),
    Entry("bench-spatten", ("bench", "--arch", "spatten", "--seed", "1"), by_name=True),
    Entry("rivals-spatten-1-8", ("rivals", "--arch", "spatten-1-8"), by_name=True),
    Entry("crossover-spatten", ("zoo", "--crossover", "--arch", "spatten")),
    Entry(
        "topk-spatten",
        (
            "topk",
            "--lanes",
            "16",
            "32",
            "--keys",
            "64",
            "128",
            "256",
            "512",
            "1024",
            "2048",
            "4096",
            "--rows",
            "1000",
            "--seed",
            "1",
            "--synth",
            "--arch",
            "spatten",
        ),
        by_name=True,
    ),
    Entry("verify-tiny", ("verify", "--arch", "tiny"), by_name=True),
)


def make(entry: Entry, names: Sequence[str] = ()) -> Data:
    """Run the command and return what is committed of its JSON. ``names``: further words, such as the rows wanted.

    Raises:
        UserError: the command fails.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "made.json"
        apart = {"run": ["--no-store"], "verify": [], "topk": []}.get(entry.kind, ["-o", place])
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = cli.main([*entry.words, *names, *apart, "--json", str(file)])
        if code or not file.is_file():
            raise UserError(f"{entry.name}: '{shlex.join(('accel', *entry.words))}' failed: {said.getvalue().strip()}")
        return committed(json.loads(file.read_text(encoding="utf-8")), entry.kind)


def taken(entry: Entry, file: Path) -> Data:
    """What is committed of a file that the entry's command wrote before.

    Raises:
        UserError: another command wrote it.
    """
    data = (run_source(file) if entry.kind == "run" else file_source(file, entry.kind)).data
    command = shlex.join(("accel", *entry.words))
    if data.get("command") != command:
        raise UserError(f"{file}: made by '{data.get('command')}'; {entry.name} is '{command}'")
    return committed(data, entry.kind)


def committed(data: Data, kind: str) -> Data:
    """What is kept of a file."""
    if kind not in LEFT_OUT:
        return data

    def short(part: Data) -> Data:
        return {key: value for key, value in part.items() if key not in LEFT_OUT[kind]}

    return {**short(data), "rows": [short(row) for row in data["rows"]]}


def file_text(data: Data, kind: str) -> str:
    """The committed bytes: a run as the store writes it; many rows one a line, so that a change is seen as one."""
    if kind == "run":
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    head = {key: value for key, value in data.items() if key != "rows"}
    rows = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in data.get("rows", []))
    text = json.dumps(head, indent=1, ensure_ascii=False, allow_nan=False)
    return f'{text[:-2]},\n "rows": [\n{rows}\n]\n}}\n' if "rows" in data else text + "\n"


def differences(was: Any, now: Any, where: str = "") -> Iterator[str]:
    """What differs between two results, one line each; counts exactly, other numbers within ``FLOAT_TOLERANCE``."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*was, *now)):
            if key in NOT_RESULTS:
                continue
            place = f"{where}.{key}" if where else str(key)
            if key not in was or key not in now:
                yield f"{place}: {'new' if key in now else 'no longer there'}"
            else:
                yield from differences(was[key], now[key], place)
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for at, (one, other) in enumerate(zip(was, now, strict=True)):
            named = one.get("name", at) if isinstance(one, dict) else at
            yield from differences(one, other, f"{where}[{named}]")
    elif isinstance(was, float) and isinstance(now, int | float) and not isinstance(now, bool):
        if not math.isclose(was, now, rel_tol=FLOAT_TOLERANCE):
            yield f"{where}: published {was!r}, now {now!r}"
    elif was != now:
        yield f"{where}: published {was!r}, now {now!r}"


def check(entry: Entry, names: Sequence[str] = ()) -> list[str]:
    """What the code no longer reproduces of a committed file. ``names``: of these rows only.

    Raises:
        UserError: it is not there, or the command fails.
    """
    if not entry.path.is_file():
        raise UserError(f"{entry.name}: not published yet; '{COMMAND} {entry.name}' does it")
    was, now = json.loads(entry.path.read_text(encoding="utf-8")), make(entry, names)
    if names:
        was, now = ({row["name"]: row for row in data["rows"] if row["name"] in names} for data in (was, now))
    return list(differences(was, now))


def sources() -> list[Source]:
    """All committed files."""
    found = [entry for entry in ENTRIES if entry.path.is_file()]
    return [
        (run_source(entry.path) if entry.kind == "run" else file_source(entry.path, entry.kind))._replace(
            name=entry.name
        )
        for entry in found
    ]


def readme() -> str:
    """The Markdown of all committed files."""
    made = document(sources(), COMMAND, title="Published results")
    said = f"{made.lead} `{COMMAND} --check` fails when the code no longer reproduces them."
    versions = ", ".join(sorted({source.code_version for source in made.sources}))
    return markdown(made._replace(lead=said, code_version=versions), figures=False)


def figure() -> str:
    """The figure of the project's README."""
    (entry,) = (one for one in ENTRIES if one.name == FIGURE_OF)
    return standalone(waterfall(run_source(entry.path).data))


def _chosen(names: Sequence[str], only_there: bool) -> list[Entry]:
    known = {entry.name: entry for entry in ENTRIES}
    for name in names:
        if name not in known:
            raise UserError(f"{name}: nothing is published under this name; there are: {', '.join(known)}")
    chosen = [known[name] for name in names] or [entry for entry in ENTRIES if not entry.by_name]
    return [entry for entry in chosen if entry.path.is_file()] if only_there and not names else chosen


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Publish results, or check that they are still so.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument(
        "--page",
        action="store_true",
        help="run nothing, write the page of what is published, and the figure of the README",
    )
    parser.add_argument("--from", dest="file", metavar="FILE", help="JSON that the command of NAME wrote before")
    args = parser.parse_args(argv)
    wrong = 0
    made: dict[Path, str] = {}  # written at the end: what is written in between would mark the code as modified
    try:
        if args.file and (len(args.names) != 1 or args.check or args.page):
            raise UserError("--from FILE goes with one NAME and nothing else")
        for entry in [] if args.page else _chosen(args.names, args.check):
            if args.check:
                found = check(entry)
                print(f"{entry.name}: {'as published' if not found else f'{len(found)} differences'}", flush=True)
                for line in found[:MOST_SHOWN]:
                    print(f"  {line}")
                wrong += bool(found)
                continue
            data = taken(entry, Path(args.file)) if args.file else make(entry)
            made[entry.path] = file_text(data, entry.kind)
            print(f"{entry.name}: {entry.path}", flush=True)
        for path, text in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
        if not args.check:
            write_whole(FOLDER / PAGE, readme())
            write_whole(FIGURE, figure())
    except UserError as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return cli.BAD_INPUT
    if wrong:
        print(f"{wrong} of the published results are no longer so; if that is meant, '{COMMAND}' publishes anew")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
