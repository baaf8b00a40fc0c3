"""Names of the engine's ports and registers, as the bench drives them: the only place that knows them.

Ports are AXI4 and AXI4-Lite with the standard's signal names in lower case.
"""

CLOCK, RESET = "clk", "rst"
INTERRUPT = "interrupt"  # high from the end of the program on

#: Address of the first job in bytes, in two words, and the word whose lowest bit starts the engine.
PROGRAM_LOW, PROGRAM_HIGH, CONTROL = 0x10, 0x14, 0x00
START = 1
COUNTERS: dict[str, int] = {}  # name of a counter -> address of its register, 32 bit

#: Cycle 0 comes this many cycles after the one in which the register port takes the start command.
START_CYCLES = 1


def read(channel: int, signal: str) -> str:
    """Read port of one memory channel: single beats of one memory access."""
    return f"read__{channel}__{signal}"


def write(signal: str) -> str:
    """Write port of the outputs, shared by all channels: single beats of one memory access."""
    return f"write__{signal}"


def program(signal: str) -> str:
    """Read port of the program: bursts of 32-byte beats."""
    return f"program__{signal}"


def registers(signal: str) -> str:
    """AXI4-Lite register port, 32 bit."""
    return f"registers__{signal}"
