"""The workloads that come with the project: one YAML file each in `workloads/zoo/`, found by file name.

Every file says its `kind` (which loader reads it) and, in one line, what it is `about`. Adding a file adds the
workload; nothing is registered anywhere.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from accel.errors import UserError

ZOO = Path(__file__).parent / "zoo"


class Workload(NamedTuple):
    """One entry of the catalog; `name` is the file name without its ending."""

    name: str
    kind: str
    about: str
    path: Path


def workloads(kind: str | None = None) -> list[Workload]:
    """All workloads by name, or those of one kind. Raises UserError for a zoo file that does not say what it is."""
    entries = [_entry(path) for path in sorted(ZOO.glob("*.yaml"))]
    return [entry for entry in entries if kind in (None, entry.kind)]


def find(name: str) -> Workload:
    """The workload of that name. Raises UserError with the nearest name if there is none."""
    names = {path.stem: path for path in sorted(ZOO.glob("*.yaml"))}
    key = name.removesuffix(".yaml")
    if key not in names:
        near = get_close_matches(key.lower(), names, 1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
        raise UserError(f"no workload is called {name!r}; {hint}")
    return _entry(names[key])


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError if it is unreadable, not YAML, not a mapping or says a key twice."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except IsADirectoryError:
        raise UserError(f"{path}: this is a directory; name a YAML file in it") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a YAML file or the name of a workload") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested too deeply") from None
    except (ValueError, yaml.YAMLError) as error:  # ValueError: not UTF-8, an impossible date or number
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise UserError(f"{path}: a workload is a mapping of names to values; this file holds something else")
    return data


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, except that a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _entry(path: Path) -> Workload:
    data = read_yaml(path)
    for key in ("kind", "about"):
        if not isinstance(data.get(key), str) or not data[key].strip():
            raise UserError(f"{path}: {key} is missing; every workload says its kind and what it is about")
    return Workload(path.stem, data["kind"], " ".join(data["about"].split()), path)
