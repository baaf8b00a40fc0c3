"""The command that repeats what was done, for reports and messages."""

import argparse
import shlex
from collections.abc import Container


def command_line(args: argparse.Namespace, always: Container[str], leave_out: Container[str]) -> str:
    """What was named, and all options that differ from their defaults.

    Args:
        always: options (as attributes of ``args``) that are shown in any case.
        leave_out: options that say where results go or how they come about, and not what they are.
    """
    words = args.parser.prog.split()
    for action in sorted(args.parser._actions, key=lambda action: bool(action.option_strings)):
        if action.dest == "help" or action.dest in leave_out:
            continue
        value = getattr(args, action.dest)
        if value in (None, action.default) and action.dest not in always:
            continue
        values = [str(item) for item in value] if isinstance(value, list) else [str(value)]
        if not action.option_strings:
            words += values
        elif value is True:
            words.append(action.option_strings[-1])
        elif action.nargs == "+":
            words += [action.option_strings[-1], *values]
        else:
            words += [word for item in values for word in (action.option_strings[-1], item)]
    return shlex.join(words)
