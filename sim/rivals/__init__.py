"""Rival machines behind one interface (:class:`sim.rivals.base.Rival`), one file each, found by file name.

Adding a rival is adding a file with a class ``Machine``; nothing else changes. Files that begin with an underscore,
and ``base``, help the others.
"""

import difflib
import importlib
import pkgutil

from accel.errors import UserError
from sim.rivals._measure import Measured, measure, relative_error, select_all
from sim.rivals.base import Rival

__all__ = ["Measured", "measure", "relative_error", "rival_class", "rival_names", "select_all"]


def rival_names() -> list[str]:
    """Names of all rivals, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def rival_class(name: str) -> type[Rival]:
    """The class of one rival.

    Raises:
        UserError: there is no rival of that name; the message lists them.
    """
    if name not in rival_names():
        near = difflib.get_close_matches(name, rival_names(), 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"rival {name}: no such machine; {hint}there are {', '.join(rival_names())}")
    found: type[Rival] = importlib.import_module(f"sim.rivals.{name}").Machine
    return found
