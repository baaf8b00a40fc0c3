"""Whole systems as workloads: what they are, where their numbers come from, and the kernels they ask for."""

from workloads.systems.calls import Call, Role
from workloads.systems.loader import find_run, known_run, load_system, load_zoo, run_names
from workloads.systems.model import Configuration, System, Technique, Techniques
from workloads.systems.totals import RoleTotals, Totals, totals_of

__all__ = [
    "System",
    "Configuration",
    "Technique",
    "Techniques",
    "Call",
    "Role",
    "Totals",
    "RoleTotals",
    "totals_of",
    "load_system",
    "load_zoo",
    "find_run",
    "known_run",
    "run_names",
]
