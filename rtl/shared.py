"""Components that are many times in a machine, made once: what keeps the Verilog of a large machine small and quick.

Amaranth makes a module of its own of every instance. A class marked with :func:`shared` is elaborated as usual, unless
the platform is a :class:`Library`: then instances that are equal become instances of one module.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from amaranth.back import rtlil
from amaranth.hdl import ClockSignal, Fragment, Instance, Module, ResetSignal, Signal, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["Library", "engine_rtlil", "named_ports", "shared"]

#: Wires that only name an element of an array within a signal. The signal has a name itself, and nothing reads them;
#: they would be half of the text.
_ELEMENT = re.compile(
    r"^(?:  attribute [^\n]*\n)*  wire [^\n]*\\[^\s\[]+\[\d+\]\S*\n\n|^connect \\[^\s\[]+\[\d+\]\S* [^\n]*\n", re.M
)
#: RTLIL of signals of no bits and of the cells and assignments that make them; nothing reads them. As Verilog they
#: would be ``[-1:0]``, two bits.
_EMPTY = re.compile(
    r"^ *cell .*\n(?: *(?:parameter|connect) .*\n)*? *parameter \\Y_WIDTH 0\n(?: *(?:parameter|connect) .*\n)*? *end\n"
    r"|^ *(?:attribute .*\n *)*wire width 0 .*\n|^connect \S+ \{ *\}\n",  # of a module, not of a cell
    re.MULTILINE,
)
Kind = TypeVar("Kind", bound=type[wiring.Component])
Elaborate = Callable[[Any, object], Module]


def shared(kind: Kind) -> Kind:
    """Class decorator. Attributes other than the members must be plain values that can be compared: they and the
    signature alone say what ``elaborate`` makes. Clock domain "sync", with its reset, is the only one.
    """
    elaborate: Elaborate = kind.elaborate

    def elaborate_once(self: wiring.Component, platform: object) -> object:
        return platform.instance(self, elaborate) if isinstance(platform, Library) else elaborate(self, platform)

    kind.elaborate = elaborate_once
    return kind


def named_ports(component: wiring.Component) -> dict[str, tuple[Signal, PortDirection]]:
    """All members by the names that their ports have, but constants (a stream's valid or ready that is always 1) and
    those of no bits, which Verilog cannot have.
    """
    ports = {}
    for path, member, value in component.signature.flatten(component):
        direction = PortDirection.Input if member.flow is In else PortDirection.Output
        signal = Value.cast(value)
        if isinstance(signal, Signal) and len(signal):
            ports["__".join(map(str, path))] = (signal, direction)
    return ports


class _Made:
    """A module of the library: what it is made from, its name, and which of clk and rst it has."""

    def __init__(self, component: wiring.Component, parameters: dict[str, Any], name: str):
        self.component, self.parameters, self.name = component, parameters, name
        self.clocking: tuple[str, ...] = ()


class Library:
    """Passed as ``platform``: collects the modules that are shared.

    Parameters
    ----------
    prefix : of the modules' names.

    Attributes: texts, RTLIL of the modules made so far; count, how many instances they have.
    """

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.texts: list[str] = []
        self.count = 0
        self._made: dict[type, list[_Made]] = {}

    def instance(self, component: wiring.Component, elaborate: Elaborate) -> Instance:
        """An instance of the module that ``elaborate`` makes of ``component`` or made of its equal."""
        made = self._find(component, elaborate)
        ports = [
            ("i" if direction is PortDirection.Input else "o", name, value)
            for name, (value, direction) in named_ports(component).items()
        ]
        clocking = {"clk": ClockSignal(), "rst": ResetSignal()}
        self.count += 1
        return Instance(made.name, *ports, *(("i", name, clocking[name]) for name in made.clocking))

    def _find(self, component: wiring.Component, elaborate: Elaborate) -> _Made:
        members = set(component.signature.members)
        parameters = {
            name: value for name, value in vars(component).items()
            if name not in members and not name.startswith(("_Component__", "_MustUse__"))
        }  # fmt: skip
        same_kind = self._made.setdefault(type(component), [])
        for made in same_kind:
            if made.parameters == parameters and made.component.signature == component.signature:
                return made
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(component).__name__.strip("_")).lower()
        number = f"_{len(same_kind)}" if same_kind else ""
        made = _Made(component, parameters, f"{self.prefix}.{name}{number}")
        same_kind.append(made)
        fragment = Fragment.get(elaborate(component, self), self)
        text, _ = rtlil.convert_fragment(fragment, named_ports(component), made.name, emit_src=False)
        own = text[text.index("module ") :]
        own = own[: own.index("\nend\n")]
        made.clocking = tuple(
            port for port in ("clk", "rst") if re.search(rf"^  wire .*input \d+ +\\{port}$", own, re.M)
        )
        self.texts.append(text)
        return made


def engine_rtlil(component: wiring.Component, name: str, sharing: bool = True) -> str:
    """RTLIL of ``component`` as module ``name``; with ``sharing`` what is shared in it as modules ``name.shared.KIND``,
    else a module for each instance.
    """
    library = Library(f"{name}.shared") if sharing else None
    text, _ = rtlil.convert_fragment(Fragment.get(component, library), named_ports(component), name, emit_src=False)
    others = (of.replace("attribute \\top 1\n", "", 1) for of in (library.texts if library else ()))
    return _EMPTY.sub("", _ELEMENT.sub("", "".join((text, *others))))
