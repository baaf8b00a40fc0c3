"""Names of the engine's ports, as the bench drives them: the only place that knows them.

They are AXI4 and AXI4-Lite with the standard's signal names in lower case; see ``rtl/engine.py`` and ``rtl/axi.py``.
"""

CLOCK, RESET = "clk", "rst"
INTERRUPT = "irq"  # "interrupt" is a word that Verilator keeps for C++

#: From the cycle in which the register port takes the start command to cycle 0: the command is carried out in the next
#: one, and the start pulse is a register (``rtl/registers.py``).
START_CYCLES = 2


def read(channel: int, signal: str) -> str:
    """Read port of one memory channel: single beats of one memory access."""
    return f"read__{channel}__{signal}"


def write(signal: str) -> str:
    """Write port of the outputs, shared by all channels: single beats of one memory access."""
    return f"write__{signal}"


def program(signal: str) -> str:
    """Read port of the program: bursts of ``PROGRAM_BEAT_BYTES``."""
    return f"program__{signal}"


def registers(signal: str) -> str:
    """AXI4-Lite register port, 32 bit."""
    return f"registers__{signal}"


def probe(*names: str) -> str:
    """What a probe sees (``rtl.probes``)."""
    return "__".join(("probes", *names))


def expected(*names: str) -> str:
    """What a bench expects there."""
    return "__".join(("expected", *names))
