"""What software sees of the engine: registers, their fields, and the codes of errors; as data, Markdown and a C header.

All registers lie in one page of ``PAGE_BYTES``, 32-bit words, little endian. A program is started so: its address to
``PROGRAM_ADDRESS``, 1 to ``CONTROL.start``; when ``INTERRUPT_STATUS.done`` rises, ``ERROR.code`` says how it went.
"""

import enum
import io
from dataclasses import dataclass
from typing import Any

from accel.arch import Arch
from accel.program import MAGIC
from accel.units.engine import ADDRESS_BITS, EngineUnit

PAGE_BYTES = 1 << 12
WORD_BYTES = 4
REGISTERS_VERSION = 1  # of this map
ID = int.from_bytes(MAGIC, "little")
COUNTER_BITS = 64
ERROR_CODE_BITS = 8
ERROR_JOB_BITS = 32


class ErrorCode(enum.IntEnum):
    """Why the engine stopped before the program's END. ``meaning``: one line."""

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> "ErrorCode":
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    NONE = 0, "no error"
    PROGRAM_ADDRESS = 1, "the program's address is not a multiple of 64"
    BUS = 2, "a read of the program was answered with an error, or with a burst of another length"
    MAGIC = 3, "the header does not begin with SPAT"
    VERSION = 4, "the program is of another version"
    JOB_SIZE = 5, "the header says that jobs are not 128 bytes"
    NO_END = 6, "the job after the last is not END"
    OPCODE = 7, "unknown opcode"
    CHOICE = 8, "lsb, value_fetch, fused or side has a value that means nothing"
    HEAD_DIM = 9, "head_dim is not a multiple of 8, from 8 to the machine's largest"
    KEYS = 10, "keys is 0, more than a tile (of two heads, if fused) holds, or reaches beyond 65535 (states: a tile)"
    ROWS = 11, "queries or group is 0, or queries * group is 2^24 or more"
    HEADS = 12, "(head + 1) * group is more than the machine has heads"
    PLANES = 13, "msb_bits + lsb_bits is not 4, 6, 8, 10 or 12 alone, or 4+4, 6+4, 8+4, 10+4"
    LSB = 14, "a second pass without an LSB plane"
    VALUE_BITS = 15, "value_bits is not 4, 6, 8, 10 or 12"
    THRESHOLD = 16, "threshold is more than 65535"
    SCALE = 17, "score_shift is more than 62, or 0 with a mantissa"
    VISIBLE = 18, "the first query of a causal job sees no key"
    ADDRESS = 19, "an address of 2^48 or more, a stride of 2^16 or more, or one that is no multiple of a memory access"
    KEEP_VALUES = 20, "a prune that keeps nothing"
    TOKENS = 21, "more tokens than the machine's context"
    SHRINK = 22, "fewer tokens than are alive, without RESTART"
    LIVE = 23, "keys beyond the live tokens, or a prune of tokens when none is alive"
    KEEP_LIST = 24, "keys beyond the keep list"
    TILE_ORDER = 25, "a later tile that does not find the sums of the last unfinished one, or a state nobody has begun"
    FUSED = 26, "two fused jobs do not follow each other with the same keys and live heads next to each other"
    MEMORY = 27, "an access to tensors or results was answered with an error; job: the next to be dispatched"
    MODE = 28, "no such mode, or one (docs/modes.md) that cannot do what the job asks, or its scales are out of range"


class Access(enum.Enum):
    """What reading and writing do. Any write that is not allowed is answered with SLVERR and has no effect."""

    READ_ONLY = "read only"
    READ_WRITE = "read, write"
    WRITE_ONE_STARTS = "write 1 to start; reads 0"
    WRITE_ONE_CLEARS = "read; write 1 to clear"


@dataclass(frozen=True)
class Field:
    """Bits ``low`` ... ``low + bits - 1`` of a register (of word ``low // 32``; a field of 32 bits or less stays in one
    word).
    """

    name: str
    low: int
    bits: int
    meaning: str


@dataclass(frozen=True)
class Register:
    """``offset`` in bytes; ``words`` of 32 bits, lowest first. ``fields`` empty: one number."""

    name: str
    offset: int
    words: int
    access: Access
    meaning: str
    fields: tuple[Field, ...] = ()


#: Sizes of the machine, each in a word of its own: name and meaning; values by :func:`parameter_values`.
PARAMETERS = (
    ("max_context", "tokens"),
    ("max_head_dim", "dimensions"),
    ("max_heads", "heads"),
    ("qk_multipliers", "products per cycle"),
    ("pv_multipliers", "products per cycle"),
    ("softmax_lanes", "scores per cycle"),
    ("topk_lanes", "values per cycle"),
    ("fetcher_lanes", "accesses generated per cycle"),
    ("channels", "memory read ports"),
    ("access_bytes", "bytes of a memory access"),
    ("rows_in_flight", "rows"),
    ("query_slots", "rows"),
    ("job_slots", "jobs"),
    ("k_bytes", "bytes of the K memory"),
    ("v_bytes", "bytes of the V memory"),
    ("score_keys", "scores in the score buffer"),
)

#: Counters of 64 bits, cleared at start: name and meaning. All but ``cycles`` count what the engine tells them.
COUNTERS = (
    ("cycles", "cycles from start to done, both counted"),
    ("qk_msb_issues", "cycles in which the QK array took a line of a first pass"),
    ("qk_lsb_issues", "cycles in which the QK array took a line of a second pass"),
    ("pv_issues", "cycles in which the PV array took a line"),
    ("rows", "queries of heads worked on"),
    ("lsb_rows", "of these, made a second pass"),
    ("read_accesses", "memory accesses read"),
    ("write_accesses", "memory accesses written"),
    ("busy_fetcher", "cycles in which the fetcher made addresses"),
    ("busy_qk", "cycles in which the QK array was busy"),
    ("busy_softmax", "cycles in which the second pass of the softmax was busy"),
    ("busy_topk", "cycles in which the top-k of local values was busy"),
    ("busy_pv", "cycles in which the PV array was busy"),
    ("busy_cascade", "cycles in which the top-k of tokens and heads was busy"),
)

PARAMETERS_OFFSET = 0x40
COUNTERS_OFFSET = 0x80
_EVENTS = (Field("done", 0, 1, "the program has ended"), Field("error", 1, 1, "it ended with an error"))

REGISTERS: tuple[Register, ...] = (
    Register("ID", 0x00, 1, Access.READ_ONLY, f"0x{ID:08x}: {MAGIC.decode()}"),
    Register("VERSION", 0x04, 1, Access.READ_ONLY, f"{REGISTERS_VERSION}: of this map"),
    Register(
        "CONTROL", 0x08, 1, Access.WRITE_ONE_STARTS, "commands",
        (Field("start", 0, 1, "run the program at PROGRAM_ADDRESS; SLVERR while busy"),),
    ),
    Register(
        "STATUS", 0x0C, 1, Access.READ_ONLY, "what the engine is doing",
        (
            Field("busy", 0, 1, "a program is running"),
            Field("done", 1, 1, "the last program has ended; 0 from the next start"),
            Field("error", 2, 1, "it ended with an error; 0 from the next start"),
        ),
    ),
    Register(
        "ERROR", 0x10, 2, Access.READ_ONLY, "of the last program; 0 from the next start",
        (
            Field("code", 0, ERROR_CODE_BITS, "why it stopped, see the table of codes"),
            Field("job", 32, ERROR_JOB_BITS, "number of the job, counted from 0; 0 for errors of the header"),
        ),
    ),
    Register(
        "PROGRAM_ADDRESS", 0x18, 2, Access.READ_WRITE, "where the program lies: a multiple of 64",
        (Field("address", 0, ADDRESS_BITS, "bytes; bits from 48 on read 0"),),
    ),
    Register("INTERRUPT_ENABLE", 0x20, 1, Access.READ_WRITE, "events that raise the interrupt", _EVENTS),
    Register(
        "INTERRUPT_STATUS", 0x24, 1, Access.WRITE_ONE_CLEARS, "events since they were cleared; start does not clear",
        _EVENTS,
    ),
    *(
        Register(name.upper(), PARAMETERS_OFFSET + WORD_BYTES * i, 1, Access.READ_ONLY, f"of the machine: {meaning}")
        for i, (name, meaning) in enumerate(PARAMETERS)
    ),
    *(
        Register(name.upper(), COUNTERS_OFFSET + 2 * WORD_BYTES * i, 2, Access.READ_ONLY, f"counter: {meaning}")
        for i, (name, meaning) in enumerate(COUNTERS)
    ),
)  # fmt: skip


def register(name: str) -> Register:
    """The register of that name. Raises KeyError if there is none."""
    return {r.name: r for r in REGISTERS}[name]


def parameter_values(unit: EngineUnit) -> dict[str, int]:
    """What the words of :data:`PARAMETERS` read on a machine."""
    arch: Arch = unit.arch
    return {
        "max_context": arch.max_context,
        "max_head_dim": arch.max_head_dim,
        "max_heads": arch.max_heads,
        "qk_multipliers": arch.qk.multipliers,
        "pv_multipliers": arch.pv.multipliers,
        "softmax_lanes": arch.softmax.lanes,
        "topk_lanes": arch.topk.lanes,
        "fetcher_lanes": arch.fetcher.lanes,
        "channels": arch.memory_spec.channels,
        "access_bytes": arch.memory_spec.access_bytes,
        "rows_in_flight": arch.rows_in_flight,
        "query_slots": arch.fetcher.query_slots,
        "job_slots": unit.job_slots,
        "k_bytes": arch.sram.k_bytes,
        "v_bytes": arch.sram.v_bytes,
        "score_keys": arch.softmax.buffer_keys,
    }


def constant_words(unit: EngineUnit) -> dict[int, int]:
    """Offset to value of the words that never change on a machine."""
    values = {register("ID").offset: ID, register("VERSION").offset: REGISTERS_VERSION}
    return values | {register(name.upper()).offset: value for name, value in parameter_values(unit).items()}


def as_markdown() -> str:
    """The map as tables for a document."""
    out = io.StringIO()
    out.write("| offset | register | words | access | meaning |\n| --- | --- | --- | --- | --- |\n")
    for r in REGISTERS:
        out.write(f"| 0x{r.offset:02x} | `{r.name}` | {r.words} | {r.access.value} | {r.meaning} |\n")
        for f in r.fields:
            bits = f"{f.low}" if f.bits == 1 else f"{f.low + f.bits - 1}:{f.low}"
            out.write(f"| | `{r.name}.{f.name}` | bits {bits} | | {f.meaning} |\n")
    out.write(
        "\nA counter is read low word first: that read keeps the high word, which the read of the high word gives.\n"
    )
    out.write("\n| code | error | meaning |\n| --- | --- | --- |\n")
    for code in ErrorCode:
        out.write(f"| {code.value} | `{code.name}` | {code.meaning} |\n")
    return out.getvalue()


def as_c_header(prefix: str = "SPAT") -> str:
    """The map as a self-contained C header: offsets in bytes, shifts and masks within the word at ``..._OFFSET``."""
    out = io.StringIO()

    def define(name: str, value: str, comment: str = "") -> None:
        out.write(f"#define {prefix}_{name} {value}" + (f" /* {comment} */" if comment else "") + "\n")

    out.write(f"/* Registers of the engine: 32-bit words. Generated. */\n#ifndef {prefix}_REGISTERS_H\n")
    out.write(f"#define {prefix}_REGISTERS_H\n\n")
    define("PAGE_BYTES", f"{PAGE_BYTES}u")
    define("ID_VALUE", f"0x{ID:08x}u")
    define("VERSION_VALUE", f"{REGISTERS_VERSION}u")
    for r in REGISTERS:
        out.write("\n")
        define(f"{r.name}_OFFSET", f"0x{r.offset:02x}u", f"{r.access.value}; {r.meaning}")
        if r.words == 2:
            define(f"{r.name}_HIGH_OFFSET", f"0x{r.offset + WORD_BYTES:02x}u")
        for f in r.fields:
            if f.bits > 8 * WORD_BYTES:
                continue  # the register's two words are the number
            name, low = f"{r.name}_{f.name.upper()}", f.low % (8 * WORD_BYTES)
            if f.low != low:
                define(f"{name}_OFFSET", f"0x{r.offset + f.low // 8 - low // 8:02x}u")
            define(f"{name}_SHIFT", f"{low}u", f.meaning)
            define(f"{name}_MASK", f"0x{((1 << f.bits) - 1) << low:08x}u")
    out.write("\n")
    for code in ErrorCode:
        define(f"ERROR_{code.name}", f"{code.value}u", code.meaning)
    out.write("\n#endif\n")
    return out.getvalue()


def as_dict() -> dict[str, Any]:
    """The map for JSON."""
    return {
        "version": REGISTERS_VERSION,
        "page_bytes": PAGE_BYTES,
        "registers": [
            {
                "name": r.name,
                "offset": r.offset,
                "words": r.words,
                "access": r.access.name.lower(),
                "meaning": r.meaning,
                "fields": [{"name": f.name, "low": f.low, "bits": f.bits, "meaning": f.meaning} for f in r.fields],
            }
            for r in REGISTERS
        ],
        "errors": [{"code": c.value, "name": c.name, "meaning": c.meaning} for c in ErrorCode],
    }
