"""The options that describe a machine, for all commands that need one."""

import argparse
from typing import Any

import yaml

from accel.arch import Arch, load_arch
from accel.errors import UserError

SET_HELP = "change one number of the machine, such as topk.lanes=32; may be repeated"


def add_machine_arguments(parser: argparse.ArgumentParser, set_help: str = SET_HELP) -> None:
    """``--arch`` and ``--set``."""
    parser.add_argument(
        "--arch", default="spatten", metavar="A", help="machine: a preset or a YAML file of the same form"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=set_help)


def assignments(texts: list[str]) -> dict[str, Any]:
    """``["topk.lanes=32"]`` as ``{"topk.lanes": 32}``.

    Raises:
        UserError: no ``=``, a key given twice, or a value that cannot be read.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value):
            raise UserError(f"--set {text}: expected KEY=VALUE, such as topk.lanes=32")
        if key in found:
            raise UserError(f"--set {text}: {key} is given twice")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {text}: {value} is neither a number nor a name") from None
        if not isinstance(found[key], int | float | str):
            raise UserError(f"--set {text}: {value} is neither a number nor a name")
    return found


def machine_of(args: argparse.Namespace) -> tuple[Arch, dict[str, Any]]:
    """The machine that the options describe, and what was changed in its preset.

    Raises:
        UserError: anything about it that cannot be.
    """
    changes = assignments(args.set)
    return load_arch(args.arch, changes), changes
