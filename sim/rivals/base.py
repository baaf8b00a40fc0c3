"""The interface of all machines in the comparison.

A machine works on :class:`Work` items: the query rows of one head (or of the query heads that share a K/V head) and
their keys. It computes a real selection and a real output (:meth:`Rival.select_and_run`) and says what that costs in
its own dataflow (:meth:`Rival.cost`). What follows from that is the same for all: :func:`sim.rivals.measure`.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import UserError
from accel.memory import MemorySpec, load_memory
from sim.rivals._attention import Mask, Real
from sim.rivals._memory import Stream

Label = Literal["published", "derived", "calibrated", "memory", "assumed"]
WIDEST_BITS = 32
SLICE = 64
SIZE_BITS = 12


class Constant(NamedTuple):
    """Where a number of a configuration comes from. ``memory``: recalled, not looked up; ``assumed``: our choice."""

    source: str
    label: Label


@functools.cache
def _memory(name: str, channels: int) -> MemorySpec:
    return load_memory(name).with_channels(channels)


@dataclass(frozen=True)
class Config:
    """What every machine has.

    Attributes:
        multipliers: of the exact arithmetic (QK and PV together); predictors and hashes have their own.
        clock_MHz: of the machine.
        bits: width of Q, K, V and outputs.
        memory, channels: preset of the command-level memory. 0 channels: the machine's own publication has its tensors
            on chip, so traffic is counted but takes no time.
        bandwidth_GBps: a data sheet's bandwidth instead of the command-level model.
    """

    multipliers: int
    clock_MHz: float = 1000.0
    bits: int = 12
    memory: str = "hbm2"
    channels: int = 2
    bandwidth_GBps: float | None = None

    def __post_init__(self) -> None:
        at_least("multipliers", self.multipliers, 1)
        above("clock_MHz", self.clock_MHz, 0)
        between("bits", self.bits, 2, WIDEST_BITS)
        at_least("channels", self.channels, 0)
        if self.bandwidth_GBps is not None:
            above("bandwidth_GBps", self.bandwidth_GBps, 0)
        self.spec  # noqa: B018  refuses an unknown memory now

    @property
    def spec(self) -> MemorySpec:
        """The memory; that of a machine without one is a single channel, for counting."""
        return _memory(self.memory, max(1, self.channels))

    @property
    def half(self) -> float:
        """Multipliers of one of the two arrays."""
        return self.multipliers / 2


def at_least(name: str, value: float, least: float) -> None:
    """Refuse a parameter below ``least``."""
    if not value >= least:
        raise UserError(f"rival: {name} = {value}: must be {least:g} or more")


def above(name: str, value: float, limit: float) -> None:
    """Refuse a parameter at or below ``limit``."""
    if not value > limit:
        raise UserError(f"rival: {name} = {value}: must be above {limit:g}")


def between(name: str, value: float, least: float, most: float) -> None:
    """Refuse a parameter outside a closed range."""
    if not least <= value <= most:
        raise UserError(f"rival: {name} = {value}: must be {least:g} to {most:g}")


class Work(NamedTuple):
    """Query rows that share keys: ``q`` float (rows, d), ``k``, ``v`` float (keys, d).

    ``seen`` int64 (rows,): each row sees the first so many keys. ``decode``: the newest key came with these rows, so
    nothing that was prepared for the older keys is complete.
    """

    q: NDArray
    k: NDArray
    v: NDArray
    seen: NDArray[np.int64]
    layer: int = 0
    head: int = 0
    decode: bool = False

    @property
    def pairs(self) -> int:
        """Query-key pairs that dense attention computes."""
        return int(self.seen.sum())

    @property
    def dense_operations(self) -> int:
        """Multiplications and additions of dense attention: 4 d for each pair."""
        return 4 * self.pairs * self.q.shape[1]


def work_of(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    seen: NDArray | None = None,
    *,
    layer: int = 0,
    head: int = 0,
    decode: bool = False,
) -> Work:
    """Checked work; ``seen`` defaults to all keys.

    Raises:
        UserError: shapes that do not belong together, or a row that sees no key or more than there are.
    """
    if q.ndim != 2 or k.ndim != 2 or k.shape != v.shape or q.shape[1] != k.shape[1] or not len(q):
        raise UserError(f"rival: q {q.shape}, k {k.shape}, v {v.shape}: expected (rows, d), (keys, d), (keys, d)")
    prefix = np.full(len(q), len(k), np.int64) if seen is None else np.asarray(seen, np.int64)
    if prefix.shape != (len(q),) or prefix.min() < 1 or prefix.max() > len(k):
        raise UserError(f"rival: seen has to hold 1 to {len(k)} keys for each of the {len(q)} rows")
    return Work(q, k, v, prefix, layer, head, decode)


@dataclass(frozen=True)
class Selection:
    """``output`` (rows, d); ``keys``, ``values`` (rows, keys): exact dot products made and V rows used.

    ``detail`` holds what the dataflow's timing needs beside these.
    """

    output: Real
    keys: Mask
    values: Mask
    detail: Mapping[str, NDArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """``stages``: cycles of each row in each stage, in order; ``streams`` in the order of the fetches; ``prepare``:
    cycles spent on the keys before the first row.

    ``events``: counts for the energy, by name: ``mac_<bits>``, ``add_32``, ``compare_12``, ``exponential``,
    ``reciprocal``, ``normalisation``, ``sram_read_bytes``, ``sram_write_bytes``.
    """

    stages: Mapping[str, NDArray[np.float64]]
    streams: Sequence[Stream]
    events: Mapping[str, float]
    prepare: float = 0.0


class Rival(ABC):
    """A machine of a given configuration. Subclasses are called ``Machine``, one per file.

    Class attributes: ``TITLE``; ``VARIANTS``, configurations by name, the first is the published default;
    ``CONSTANTS``, the source of each parameter; ``SWEEP``, changes of the default that trade quality for work, loosest
    first; ``ISO``, what else changes in a comparison at equal means; ``NOTE``, what its time leaves out.
    """

    TITLE: ClassVar[str]
    VARIANTS: ClassVar[Mapping[str, Config]]
    CONSTANTS: ClassVar[Mapping[str, Constant]]
    SWEEP: ClassVar[tuple[Mapping[str, float], ...]] = ({},)
    ISO: ClassVar[Mapping[str, float | None]] = {}
    NOTE: ClassVar[str] = ""

    def __init__(self, config: Config) -> None:
        wanted = type(next(iter(self.VARIANTS.values())))
        if not isinstance(config, wanted):
            raise UserError(f"rival {self.name()}: its configuration is a {wanted.__module__}.{wanted.__name__}")
        self.config = config

    @classmethod
    def name(cls) -> str:
        """Name of the file."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def select_and_run(
        self, q: NDArray, k: NDArray, v: NDArray, seen: NDArray[np.int64], learned: float | None = None
    ) -> Selection:
        """Selection and output for the rows of one :class:`Work`; ``learned`` is what :meth:`learn` returned."""

    @abstractmethod
    def cost(self, work: Work, selection: Selection) -> Cost:
        """What that took in the machine's dataflow."""

    def learn(self, q: NDArray, k: NDArray, seen: NDArray[np.int64]) -> float | None:
        """A threshold fitted to example rows, for machines that learn one; else None."""
        return None

    def helpers(self) -> tuple[tuple[float, int], ...]:
        """Products per cycle beside the multipliers, and their width: predictors, filters, hashes."""
        return ()

    def equivalent_multipliers(self) -> float:
        """12-bit multipliers of the same size as all that the machine has, by the square of the width."""
        parts = ((float(self.config.multipliers), self.config.bits), *self.helpers())
        return sum(number * (bits / SIZE_BITS) ** 2 for number, bits in parts)

    def events(self, work: Work, selection: Selection, fetched_keys: float | None = None) -> dict[str, float]:
        """What every machine does for its selection: exact products, exponentials, normalised outputs, SRAM traffic.

        ``fetched_keys``: keys and values written to SRAM (default: all of the work's).
        """
        rows, dim = work.q.shape
        keys, values = float(selection.keys.sum()), float(selection.values.sum())
        byte = dim * self.config.bits / 8
        loaded = 2 * len(work.k) if fetched_keys is None else fetched_keys
        return {
            f"mac_{self.config.bits}": (keys + values) * dim,
            "exponential": keys,
            "reciprocal": rows,
            "normalisation": rows * dim,
            "sram_read_bytes": (keys + values) * byte,
            "sram_write_bytes": loaded * byte,
        }

    def operands(self, work: Work) -> dict[str, Stream]:
        """Q, K, V and output, each moved once, at the machine's width."""
        atom, byte = self.config.spec.access_bytes, self.config.bits / 8
        tensors = {"q": work.q, "k": work.k, "v": work.v, "output": work.q}
        return {n: Stream(n, np.arange(a := int(-(-x.size * byte // atom))), a, int(x.size * byte), n == "output")
                for n, x in tensors.items()}  # fmt: skip


def array_cycles(count: NDArray, dim: int, multipliers: float) -> NDArray[np.float64]:
    """Cycles of ``count`` dot products (or weighted rows) of ``dim`` numbers.

    Arrays consist of slices of 64 multipliers, as ours, A3's and ELSA's do; a head of fewer dimensions leaves a part of
    a slice idle, a wider one takes several turns.
    """
    width = min(SLICE, multipliers)
    turns = np.ceil(dim / width)
    return np.ceil(np.asarray(count, np.float64) * turns * width / multipliers)


def describe(config: Config) -> dict[str, object]:
    """The configuration as a report prints it."""
    return {item.name: getattr(config, item.name) for item in fields(config)}
