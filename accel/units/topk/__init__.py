"""The top-k unit as numbers: parameters, widths and latencies that the simulator and the RTL both read.

Nothing else in the project states a width or a latency of this unit; the equivalence test then shows that the
numbers here are those of the hardware. All implementations have the same two source banks, the same filter and so the
same ports and these latencies; what finds the threshold of a row differs. Each has a module of its own here, named as
in ``Arch.topk.unit``, with its own latencies and

``memory_bits(unit)``
    of its memories, the source banks not included.
``operations(unit)``
    what one engine consists of besides memories and the filter, as counts of the operations of
    ``accel/cost/operations.yaml``.
"""

from dataclasses import dataclass

from accel.arch import Arch
from accel.errors import UserError
from accel.units import implementation

#: What engines do, as counted in ``counts.topk``: values through zero eliminators, compares, digits counted,
#: compare-exchanges of the sorter, values written to its runs.
TOPK_EVENTS = ("elements", "comparisons", "counted", "exchanges", "moves")
#: Width of the pivot generator in bits. Rows longer than 65,536 draw from that many evenly spaced positions, which is
#: just as good a pivot.
LFSR_BITS = 16
#: Shift distances of the generator step x ^= x << 7; x ^= x >> 9; x ^= x << 8 (modulo 2^16). The step is linear over
#: GF(2) and of full period 65,535 (a test walks it), so it is a maximal LFSR advanced by several bits at a time:
#: one-bit steps would make successive pivots nearly halves of each other.
LFSR_SHIFTS = (7, 9, 8)
#: Longest row of any instance, as for the context of an Arch.
MAX_N = 1 << 20


@dataclass(frozen=True)
class TopKUnit:
    """One top-k engine.

    Attributes
    ----------
    lanes : values per word, P; a power of two. 16 in the published design, to match the rate of scores.
    value_bits : bits of one unsigned value: 12 for attention probabilities, 32 for accumulated token importance.
    max_n : longest row in values; sizes the memories. At least two words, at most MAX_N values.
    lfsr_seed : state of the pivot generator after reset, 1..65535. It advances once per pivot and runs on from row
        to row, so a simulator that starts from the same seed draws the same pivots.
    payload_bits : bits that accompany each value to the output, 0 to 32; 0 for none. They are not compared.
    engine : the implementation, as ``Arch.topk.unit`` names it. lfsr_seed is of quickselect; the others draw nothing.

    Raises
    ------
    UserError : one line, for a parameter the hardware cannot have.
    """

    lanes: int = 16
    value_bits: int = 12
    max_n: int = 1024
    lfsr_seed: int = 0xACE1
    payload_bits: int = 0
    engine: str = "quickselect"

    def __post_init__(self) -> None:
        for name in ("lanes", "value_bits", "max_n", "lfsr_seed", "payload_bits"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise UserError(f"topk: {name} must be an integer, got {value!r}")
        if self.lanes < 1 or self.lanes & (self.lanes - 1):
            raise UserError(f"topk: lanes must be a power of two (1, 2, 4, ...), got {self.lanes}")
        if not 1 <= self.value_bits <= 62:
            raise UserError(f"topk: value_bits must be 1 to 62, got {self.value_bits}")
        if not 2 * self.lanes <= self.max_n <= MAX_N:
            low, high = 2 * self.lanes, MAX_N
            raise UserError(f"topk: max_n must be {low} (two words of {self.lanes} lanes) to {high}, got {self.max_n}")
        if not 1 <= self.lfsr_seed < 1 << LFSR_BITS:
            raise UserError(f"topk: lfsr_seed must be 1 to {(1 << LFSR_BITS) - 1}, got {self.lfsr_seed}")
        if not 0 <= self.payload_bits <= 32:
            raise UserError(f"topk: payload_bits must be 0 to 32, got {self.payload_bits}")
        implementation("accel.units.topk", self.engine)  # refuses one that there is not

    @classmethod
    def of(cls, arch: Arch, value_bits: int) -> "TopKUnit":
        """The engine of a machine: value_bits is 12 for local values, the accumulator width for token importance."""
        return cls(arch.topk.lanes, value_bits, max(arch.max_context, 2 * arch.topk.lanes), engine=arch.topk.unit)

    # ---- widths and depths -------------------------------------------------------------------------------------

    @property
    def index_bits(self) -> int:
        """Bits of a position 0..max_n-1."""
        return (self.max_n - 1).bit_length()

    @property
    def size_bits(self) -> int:
        """Bits of a number of values 0..max_n (n, k and every internal count)."""
        return self.max_n.bit_length()

    @property
    def lane_bits(self) -> int:
        """Bits of a lane number 0..lanes-1."""
        return (self.lanes - 1).bit_length()

    @property
    def max_words(self) -> int:
        """Words of the longest row; depth of the source banks."""
        return -(-self.max_n // self.lanes)

    @property
    def max_value(self) -> int:
        return (1 << self.value_bits) - 1

    @property
    def rows_in_flight(self) -> int:
        """Source banks: a row holds one from its command until its last output word is accepted."""
        return 2

    @property
    def memory_bits(self) -> int:
        """Two source banks of values and payloads, and what the selector has besides."""
        source_bits = self.rows_in_flight * self.max_words * self.lanes * (self.value_bits + self.payload_bits)
        return source_bits + implementation("accel.units.topk", self.engine).memory_bits(self)

    # ---- latencies ---------------------------------------------------------------------------------------------

    @property
    def command_cycles(self) -> int:
        """From the cycle a command is accepted to the first cycle its input words can be."""
        return 1

    @property
    def take_cycles(self) -> int:
        """From the last input word (or the command of an empty row) to the cycle the selector takes the row."""
        return 1

    @property
    def handoff_cycles(self) -> int:
        """From the selector taking a row to its handoff to the filter, not counting rounds."""
        return 1

    @property
    def round_overhead_cycles(self) -> int:
        """Of quickselect: cycles of a round beyond one per word read: last compare, decision, pivot index, pivot read.

        The published latency model has 3 here; it leaves no cycle for a registered compare ahead of the decision.
        """
        return 4

    @property
    def filter_cycles(self) -> int:
        """From handoff to the output word completed by source word 0 being offered: start, memory read, rank of equals,
        zero eliminator (2), packing."""
        return 6

    @property
    def marked_cycles(self) -> int:
        """The last of them: from a source word whose kept lanes are known to the output word that it completes."""
        return 3

    def words(self, n: int) -> int:
        """Words of a row of n values."""
        return -(-n // self.lanes)
