"""What a unit's simulator and its hardware both need: formats, depths and latencies, each derived in one place.

One file per unit, with the unit's name. ``implementation`` finds a unit's module by the name an
:class:`~accel.arch.Arch` gives, so that a new implementation is one new file.
"""

import difflib
import importlib
import pkgutil
from types import ModuleType

from accel.errors import UserError


def implementation(package: str, name: str) -> ModuleType:
    """The module ``package.name``, for instance ``implementation("sim.topk", "quickselect")``.

    Raises:
        UserError: there is no such module; the message lists those that exist.
    """
    known = sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__))
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"{package.split('.')[-1]}.unit = {name}: no such implementation; {hint}known: {', '.join(known)}"
        )
    return importlib.import_module(f"{package}.{name}")
