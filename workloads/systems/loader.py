"""Systems by name: one YAML file each in `workloads/zoo/`, found by file name."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accel.errors import UserError
from workloads.catalog import ZOO, find, read_yaml
from workloads.refusal import one_line
from workloads.systems.model import Configuration, System


def load_system(path_or_name: str | os.PathLike[str]) -> System:
    """The system in a YAML file, or the one of that name in the zoo.

    Raises UserError, one line, for an unknown name or key, a value out of range, or a kernel that has no such shape.
    """
    path = Path(path_or_name)
    if not (path.is_file() or path.suffix in (".yaml", ".yml") or path.is_dir()):
        path = find(str(path_or_name)).path
    data = read_yaml(path)
    if data.get("kind") != "system":
        raise UserError(f"{path}: kind is {data.get('kind')!r}; a system is of kind system")
    return _system(path, data)


def load_zoo() -> list[System]:
    """All systems of the zoo: the 37 in the order of their listing, then the rows beside them by name."""
    read = [(path, read_yaml(path)) for path in sorted(ZOO.glob("*.yaml"))]
    systems = [_system(path, data) for path, data in read if data.get("kind") == "system"]
    return sorted(systems, key=lambda system: (system.seed is None, system.seed or 0, system.name))


def find_run(name: str) -> tuple[System, Configuration]:
    """What `accel run NAME` means: a configuration by its name, or a system's first configuration by the system's.

    The name of a configuration starts with its system's, so only files that can hold it are read. Raises UserError with
    the nearest name if there is none.
    """
    found = known_run(name)
    if found is not None:
        return found
    near = get_close_matches(name, run_names(), 3, 0.5)
    systems = ", ".join(system.name for system in load_zoo())
    hint = f"did you mean {' or '.join(near)}?" if near else f"systems: {systems}"
    raise UserError(f"no system is called {name!r}; {hint}")


def known_run(name: str) -> tuple[System, Configuration] | None:
    """The same, or None if there is no such name; reads no other file."""
    for stem in sorted((path.stem for path in ZOO.glob("*.yaml")), key=len, reverse=True):
        if (name == stem or name.startswith(f"{stem}-")) and find(stem).kind == "system":
            system = load_system(stem)
            if name in (system.name, *(one.name for one in system.configurations)):
                return system, system.configuration(name)
    return None


def run_names() -> tuple[str, ...]:
    """Every name that `find_run` knows: each system's, followed by those of its configurations."""
    return tuple(name for system in load_zoo() for name in (system.name, *(one.name for one in system.configurations)))


def _system(path: Path, data: dict[str, Any]) -> System:
    try:
        system = System.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(error, System)}") from None
    if system.name != path.stem:
        raise UserError(f"{path}: name is {system.name!r}; the name of its file, {path.stem}, is right")
    return system
