"""The ``accel`` command. Each subcommand is one module of :mod:`accel.commands`, found by listing that folder.

A command module has ``HELP`` (one line), ``EXAMPLES`` (whole command lines), ``add_arguments(parser)`` and
``run(args)``, which returns an exit code or None for 0. What is slow is imported in ``run``, so ``--help`` is quick.

Exit codes: 0 done; 2 something in what the user gave is wrong, said in one line on stderr; 130 interrupted; 141 whoever
read the output went away.
"""

import argparse
import difflib
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

import accel.commands
from accel.errors import UserError

BAD_INPUT, INTERRUPTED, READER_GONE = 2, 130, 141
EXTRA_OF = {
    "amaranth": "rtl",
    "pyosys": "synth",
    "safetensors": "nets",
    "gguf": "nets",
    "tokenizers": "nets",
    "mwparserfromhell": "nets",
}
"""Optional package -> the extra of the project that brings it."""


class Parser(argparse.ArgumentParser):
    """argparse that raises its complaints as :class:`UserError`, on one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} ('{self.prog} --help' shows what there is)")


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind every option that has one; examples keep their lines."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == []:
            return action.help
        return super()._get_help_string(action)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        from accel.session import code_version

        print(f"accel {code_version()}")
        parser.exit()


def command_names() -> list[str]:
    """Modules of ``accel.commands``; those that begin with an underscore help the others."""
    found = pkgutil.iter_modules(accel.commands.__path__)
    return sorted(module.name for module in found if not module.name.startswith("_"))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"accel.commands.{name}")


def build_parser() -> Parser:
    """The parser with all subcommands."""
    parser = Parser(
        prog="accel",
        description="Simulate, cost and build a sparse-attention engine.",
        epilog="'accel COMMAND --help' shows a command's options and examples.",
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print version and commit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name in command_names():
        module = _module(name)
        examples = "\n".join(f"  {line}" for line in module.EXAMPLES)
        sub = commands.add_parser(
            name,
            help=module.HELP,
            description=f"{module.HELP[0].upper()}{module.HELP[1:]}.",
            epilog=f"examples:\n{examples}",
            formatter_class=Formatter,
            allow_abbrev=False,
        )
        module.add_arguments(sub)
        sub.set_defaults(parser=sub)
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    names = command_names()
    if argv and not argv[0].startswith("-") and argv[0] not in names:
        near = difflib.get_close_matches(argv[0], names, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"commands: {', '.join(names)}"
        raise UserError(f"no command {argv[0]}; {hint}")
    parser = build_parser()
    args, stray = parser.parse_known_args(argv)
    if stray:
        options = [option for action in getattr(args, "parser", parser)._actions for option in action.option_strings]
        near = difflib.get_close_matches(stray[0].split("=")[0], options, 1, 0.6) if stray[0].startswith("-") else []
        parser_name = getattr(args, "parser", parser).prog
        hint = f"did you mean {near[0]}?" if near else f"'{parser_name} --help' shows what there is"
        raise UserError(f"{parser_name}: cannot do anything with {stray[0]}; {hint}")
    if args.command is None:
        parser.print_help()
    return args


def _run(argv: Sequence[str]) -> int:
    try:
        args = _parse(argv)
    except SystemExit:  # argparse, after --help or --version
        return 0
    return (_module(args.command).run(args) or 0) if args.command else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Unicode gets a question mark, not a traceback
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"accel: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        extra = EXTRA_OF.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        print(f"accel: this needs the package {error.name}; pip install 'accel-codesign[{extra}]'", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("accel: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer has nowhere to go; without this, Python complains about it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE


if __name__ == "__main__":
    sys.exit(main())
