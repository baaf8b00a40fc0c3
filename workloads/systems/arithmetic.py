"""Sizes in a workload file: whole numbers, names of other sizes, and + - * // of them. Nothing else is evaluated."""

import ast
import operator
from collections.abc import Callable, Mapping

from workloads.refusal import suggestion

_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_LONGEST = 200
"""Characters of an expression; keeps the tree shallow."""
_LARGEST = 2**63
"""No size is this large; also keeps products cheap."""


def evaluate(said: int | str, names: Mapping[str, int]) -> int:
    """The number that `said` stands for, with `names` for the names in it.

    Raises ValueError, one line, for anything but whole numbers, known names, + - * // and brackets.
    """
    if isinstance(said, bool) or not isinstance(said, (int, str)):
        raise ValueError(f"{said!r} is no size; a whole number or an expression such as 3 * d is right")
    if isinstance(said, int):
        return said
    if len(said) > _LONGEST:
        raise ValueError(f"{said[:40]!r}... is too long; {_LONGEST} characters are possible")
    try:
        tree = ast.parse(said.strip(), mode="eval")
    except (SyntaxError, ValueError):
        raise ValueError(f"{said!r} cannot be read; an expression such as 3 * d + 1 is right") from None
    return _value(tree.body, said, names)


def _value(node: ast.expr, said: str, names: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            found = number
        case ast.Name(id=name) if name in names:
            found = names[name]
        case ast.Name(id=name):
            raise ValueError(f"{said!r}: there is no size called {name}; {suggestion(name, list(names), 'known here')}")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            a, b = _value(left, said, names), _value(right, said, names)
            if b == 0 and isinstance(op, ast.FloorDiv):
                raise ValueError(f"{said!r}: divides by 0")
            found = _OPERATORS[type(op)](a, b)
        case _:
            raise ValueError(f"{said!r}: only whole numbers, names, + - * // and brackets can be used")
    if abs(found) >= _LARGEST:
        raise ValueError(f"{said!r}: too large")
    return found
