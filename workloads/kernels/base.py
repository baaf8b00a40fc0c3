"""What all kernels share: checked sizes, and bytes from numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from accel.errors import UserError

StreamKind = Literal["weights", "cache", "state", "activation"]

_OWN_KIND: dict[str, StreamKind] = {"weights": "weights", "state": "state"}


@dataclass(frozen=True)
class Kernel:
    """One kernel; see the package for the common members.

    Raises:
        UserError: a size that is not a whole number or too small, a word that is not one of its choices.
    """

    called: ClassVar[str] = "kernel"
    """How error messages call it."""
    may_be_zero: ClassVar[frozenset[str]] = frozenset()
    """Sizes that have a meaning at 0; all others are 1 or more."""
    cached: ClassVar[frozenset[str]] = frozenset()
    """Streams that are kept in memory from one call to the next and only read here (K and V of attention)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int:
                least = 0 if field.name in self.may_be_zero else 1
                if not isinstance(value, int) or isinstance(value, bool) or value < least:
                    raise self._error(f"{field.name} = {value!r}: must be a whole number, {least} or more")
            elif field.type is bool and not isinstance(value, bool):
                raise self._error(f"{field.name} = {value!r}: must be true or false")
            elif _is_choice(field.type) and value not in get_args(field.type):
                raise self._error(f"{field.name} = {value!r}: must be one of {', '.join(get_args(field.type))}")

    def _error(self, message: str) -> UserError:
        return UserError(f"{self.called}: {message}")

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations."""
        return 0

    @property
    def exponentials(self) -> int:
        """Exponentials; a sigmoid and a tanh are one each."""
        return 0

    @property
    def elementwise_ops(self) -> int:
        """Multiplications, additions and comparisons that are part of no multiply-accumulate and no normalisation."""
        return 0

    @property
    def state_numbers(self) -> int:
        """Numbers that live from one token to the next."""
        return 0

    @property
    def weight_numbers(self) -> int:
        """Different weights, however often they are used."""
        return 0

    def tensors(self) -> dict[str, int]:
        """Numbers that each stream moves in all, by stream name (`kind_of` says what a stream is)."""
        raise NotImplementedError

    def kind_of(self, stream: str) -> StreamKind:
        """What a stream of `tensors` is: weights, state, cache, or activation (all others)."""
        if stream in self.cached:
            return "cache"
        return _OWN_KIND.get(stream, "activation")

    def moved_bytes(self, bits: int | Mapping[str, int] = 16) -> dict[str, int]:
        """Bytes of each stream, whole bytes per stream.

        `bits` is one width for all numbers, or a width per stream name or per stream kind ("k" goes before "cache"),
        with 16 for those not named. Raises UserError for a width below 1.
        """
        widths: Mapping[str, int] = {} if isinstance(bits, int) else bits
        rest = bits if isinstance(bits, int) else 16
        found = {}
        for stream, numbers in self.tensors().items():
            width = widths.get(stream, widths.get(self.kind_of(stream), rest))
            if width < 1:
                raise self._error(f"{stream} at {width} bit: must be 1 bit or more")
            found[stream] = -(-numbers * width // 8)
        return found


def _is_choice(kind: Any) -> bool:
    """A Literal of words."""
    choices = get_args(kind)
    return bool(choices) and all(isinstance(choice, str) for choice in choices)


def causal_pairs(queries: int, keys: int, query_start: int, window: int = 0) -> int:
    """(query, key) pairs where query i sees the last `window` of keys 0 ... query_start + i; window 0 sees them all.

    Closed form: the sum of min(window, query_start + i + 1) over i < queries. `keys` only bounds the window.
    """
    width = min(window or keys, keys)
    growing = max(0, min(queries, width - query_start))  # queries that see fewer than a full window
    return growing * query_start + growing * (growing + 1) // 2 + (queries - growing) * width


def check_gammas(gammas: Any, heads: int, what: str) -> str | None:
    """Why these are not the decays of that many heads, or None if they are: each above 0 and at most 1."""
    if not isinstance(gammas, tuple) or len(gammas) != heads:
        return f"gammas = {gammas!r}: must be a tuple of {heads} numbers, one per {what}"
    bad = next((gamma for gamma in gammas if not isinstance(gamma, (int, float)) or not 0 < gamma <= 1), None)
    return None if bad is None else f"gammas has {bad!r}: each must be above 0 and at most 1"
