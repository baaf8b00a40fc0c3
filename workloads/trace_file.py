"""The text of a trace file: bytes to cells, with the line number of every row kept for messages."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from accel.errors import UserError

# Rows converted at a time: few enough that their cells are still in the processor's cache when they are looked up.
BLOCK_ROWS = 512
_BLANK_LINE = re.compile(r"^[ \t,]+$", re.MULTILINE)  # spreadsheets write lines of commas only


def read_bytes(where: str) -> bytes:
    """The bytes of the file, or a UserError that says what stands in the way."""
    try:
        return Path(where).read_bytes()
    except IsADirectoryError:
        inside = sorted(entry.name for entry in Path(where).glob("*.csv"))
        hint = f"name a file in it, such as {inside[0]}" if inside else "a trace is one .csv file"
        raise UserError(f"{where}: this is a directory; {hint}") from None
    except FileNotFoundError:
        folder = Path(where).parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        near = get_close_matches(Path(where).name, names, 1)
        hint = f"did you mean {folder / near[0]}?" if near else "give the path of a trace in CSV form"
        raise UserError(f"{where}: no such file; {hint}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise UserError(f"{where!r}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def split_text(where: str, raw: bytes, columns: Iterable[str]) -> tuple[list[str], "RowReader", str]:
    """Header cells, a reader of the data rows, and the trailing configuration line ("" if there is none)."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not a text file (byte {error.start}); a trace is comma-separated text") from None
    if "\0" in text:
        raise UserError(f"{where}: not a text file (it holds NUL characters); a trace is comma-separated text")
    text = _BLANK_LINE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if not text.strip("\n"):
        raise UserError(
            f"{where}: the file is empty; a trace begins with a line of column names ({', '.join(columns)})"
        )
    text, config = _cut_configuration(text)
    reader = RowReader(where, text)
    return reader.header, reader, config


class RowReader:
    """Iterates over blocks of data rows: (line number of each row, tuple of columns), every cell still text."""

    def __init__(self, where: str, text: str) -> None:
        self._where = where
        self._csv = csv.reader(io.StringIO(text, newline=""))
        self._line = 0
        rows: list[list[str]] = []
        while not rows:  # blank lines above the header
            rows = self._next_rows(1)[1]
        self.header = [cell.strip() for cell in rows[0]]

    def __iter__(self) -> Iterator[tuple[list[int], tuple[tuple[str, ...], ...]]]:
        wanted = len(self.header)
        while True:
            before = self._line
            lines, rows = self._next_rows(BLOCK_ROWS)
            if self._line == before:
                return
            try:
                columns = tuple(zip(*rows, strict=True))
            except ValueError:
                columns = ()
            if rows and len(columns) != wanted:
                self._refuse_ragged(lines, rows)
            if rows:
                yield lines, columns

    def _next_rows(self, count: int) -> tuple[list[int], list[list[str]]]:
        """Up to `count` rows and their line numbers, without blank lines."""
        try:
            rows = list(islice(self._csv, count))
        except csv.Error as error:
            raise UserError(f"{self._where}: not comma-separated text ({error})") from None
        lines = list(range(self._line + 1, self._line + 1 + len(rows)))
        self._line += len(rows)
        if not all(rows):
            lines = [line for line, row in zip(lines, rows, strict=True) if row]
            rows = [row for row in rows if row]
        return lines, rows

    def _refuse_ragged(self, lines: list[int], rows: list[list[str]]) -> None:
        wanted = len(self.header)
        line, row = next((line, row) for line, row in zip(lines, rows, strict=True) if len(row) != wanted)
        last = line == lines[-1] and not self._next_rows(1)[1]
        cut = "; the file looks cut off" if last and len(row) < wanted else ""
        raise UserError(f"{self._where}: line {line} has {len(row)} values, {wanted} columns are named{cut}")


def _cut_configuration(text: str) -> tuple[str, str]:
    """Split off a last line that is a name and nothing else: one cell of text, or a path to a YAML file."""
    body = text.rstrip(" \t\n,")
    start = body.rfind("\n") + 1
    last = body[start:].strip().strip('"')
    is_name = not _is_number(last) and ("," not in last or last.endswith((".yml", ".yaml")))
    if start == 0 or not is_name or not text[:start].strip("\n"):
        return text, ""
    return text[:start], last


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
