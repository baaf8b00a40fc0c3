"""Texts of known type for the byte segmenter, written by a seeded generator: no download, no third-party text."""

import base64
import csv
import io
import json
from typing import NamedTuple

import numpy as np

from workloads.nets.text import builtin_text

_NAMES = (
    "amber",
    "basalt",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbor",
    "island",
    "juniper",
    "kelp",
    "lagoon",
)
_KINDS = ("python", "sql", "html")


class TypedText(NamedTuple):
    """A text of which the type of every byte is known: `parts` are (label, bytes), one after the other."""

    data: bytes
    parts: tuple[tuple[str, int], ...]


def typed_samples(seed: int = 0, length: int = 1024) -> list[TypedText]:
    """Texts of `length` bytes of eight types of content, and one that changes its type seven times.

    The same seed, the same bytes. JSON records, a CSV table, Python functions, SQL statements, an HTML list, base64
    and hexadecimal of random bytes, and English prose (`builtin_text`, public domain; the float network takes it for
    Markdown). The last text has an eighth of `length` of each.
    """
    rng = np.random.default_rng(seed)
    texts = {
        "json": json.dumps([_record(rng) for _ in range(length // 40)], indent=1),
        "csv": _table([_record(rng) for _ in range(length // 10)]),
        **{kind: "".join(_statement(kind, _record(rng)) for _ in range(length // 40)) for kind in _KINDS},
        "encoding_base64": base64.b64encode(rng.bytes(length)).decode(),
        "encoding_hex": rng.bytes(length).hex(),
        "text": builtin_text(),
    }
    whole = {label: text.encode("ascii", "replace")[:length] for label, text in texts.items()}
    pieces = [(label, data[: length // len(whole) - 1] + b"\n") for label, data in whole.items()]
    mixed = TypedText(b"".join(data for _, data in pieces), tuple((label, len(data)) for label, data in pieces))
    return [*(TypedText(data, ((label, len(data)),)) for label, data in whole.items()), mixed]


def _record(rng: np.random.Generator) -> dict[str, str | int | float]:
    return {
        "name": str(rng.choice(_NAMES)),
        "place": str(rng.choice(_NAMES)),
        "count": int(rng.integers(1000)),
        "weight": round(float(rng.uniform(0, 50)), 2),
    }


def _table(records: list[dict[str, str | int | float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _statement(kind: str, fields: dict[str, str | int | float]) -> str:
    name, place, count, weight = fields.values()
    return {
        "python": (
            f"def {name}_{place}(values: list[float]) -> float:\n"
            f"    if len(values) > {count}:\n        raise ValueError('{place}')\n"
            f"    return sum(value * {weight} for value in values)\n\n\n"
        ),
        "sql": (
            f"INSERT INTO {place} (name, count, weight) VALUES ('{name}', {count}, {weight});\n"
            f"SELECT name, SUM(weight) FROM {place} WHERE count > {count} GROUP BY name ORDER BY name;\n"
        ),
        "html": (
            f'<div class="{place}">\n  <h2>{name}</h2>\n  <p>There are <b>{count}</b> of them.</p>\n'
            f'  <a href="/{place}/{name}.html">{weight} kg</a>\n</div>\n'
        ),
    }[kind]
