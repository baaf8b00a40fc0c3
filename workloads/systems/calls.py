"""One kernel of a system as its file says it, and as the dataclass that it stands for."""

from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, model_validator

from accel.errors import UserError
from workloads.kernels import KERNELS, DecayAttention, Kernel, geometric_gammas
from workloads.kernels.base import StreamKind
from workloads.refusal import suggestion
from workloads.systems.arithmetic import evaluate

Role = Literal["mixer", "recurrent_gemv", "vocabulary", "projection", "ffn", "conv", "other"]
"""What a kernel is for: the sequence mixer; weights of a recurrent cell; the softmax output layer; projections around
the mixer; feed-forward layers; convolutions outside the mixer; the rest."""


class Call(NamedTuple):
    """A kernel `times` times in one unit of work; `on_chip` names the streams or stream kinds that do not move."""

    label: str
    role: Role
    times: int
    kernel: Kernel
    on_chip: frozenset[str]

    def dram_bytes(self, bits: int | Mapping[str, int] = 16) -> dict[str, int]:
        """Bytes per stream over all times, by the closed form: what is not on chip moves once."""
        return {
            stream: self.times * size
            for stream, size in self.kernel.moved_bytes(bits).items()
            if not self.on_chip & {stream, self.kernel.kind_of(stream)}
        }


class SaidKernel(BaseModel):
    """A kernel in a file: these keys, and the sizes of its dataclass as numbers or expressions."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kernel: str
    label: str
    role: Role
    count: int | str = 1
    on_chip: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _known(self) -> "SaidKernel":
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel {self.kernel!r}: {suggestion(self.kernel, list(KERNELS), 'there are')}")
        known = [field.name for field in fields(KERNELS[self.kernel])]
        for key in self.sizes:
            if key not in known:
                own = [*known, *type(self).model_fields]
                raise ValueError(f"{self.label}: unknown key {key}; {suggestion(key, own, 'known here')}")
        return self

    @property
    def sizes(self) -> dict[str, Any]:
        """What the file says about the shape."""
        return dict(self.model_extra or {})

    def build(self, names: Mapping[str, int], on_chip: frozenset[str]) -> Call:
        """The kernel with the sizes of one configuration. Raises ValueError, one line, if it has no such shape."""
        kind = KERNELS[self.kernel]
        types = {field.name: field.type for field in fields(kind)}
        shape: dict[str, Any] = {}
        try:
            for key, said in self.sizes.items():
                if key == "gammas":
                    continue
                shape[key] = evaluate(said, names) if _is_size(types[key]) else said
            if "gammas" in self.sizes:
                shape["gammas"] = _gammas(self.sizes["gammas"], shape["heads" if kind is DecayAttention else "states"])
            count = evaluate(self.count, names)
            if count < 1:
                raise ValueError(f"count = {count}: must be 1 or more")
            kernel = kind(**shape)
        except (ValueError, UserError) as error:
            raise ValueError(f"{self.label}: {error}") from None
        except KeyError as error:
            raise ValueError(f"{self.label}: {error.args[0]} is missing") from None
        except TypeError as error:
            raise ValueError(f"{self.label}: {_missing(error)}") from None
        stays = frozenset(self.on_chip) if self.on_chip is not None else on_chip
        known = [*get_args(StreamKind), *kernel.tensors()]
        for name in stays:
            if name not in known:
                raise ValueError(f"{self.label}: on_chip: {name}: {suggestion(name, known, 'there are')}")
        return Call(self.label, self.role, count, kernel, stays)


def _is_size(kind: Any) -> bool:
    return kind is int or int in get_args(kind)


def _missing(error: TypeError) -> str:
    """`Gemm.__init__() missing 1 required positional argument: 'N'` -> `'N' is missing`."""
    return f"{str(error).rpartition(': ')[2]} is missing"


def _gammas(said: Any, count: int) -> tuple[float, ...]:
    """`1/32 to 1/512` (1 - gamma, geometric over the heads), one number for all, or a list of numbers."""
    if isinstance(said, list):
        return tuple(said)
    ends = str(said).split(" to ")
    try:
        numbers = [float(Fraction(end.strip())) for end in ends]
    except (ValueError, ZeroDivisionError):
        numbers = []
    if len(numbers) == 1:
        return (numbers[0],) * count
    if len(numbers) == 2 and all(0 < number < 1 for number in numbers):
        return geometric_gammas(count, *numbers)
    raise ValueError(f"gammas = {said!r}: 1/32 to 1/512 (1 - gamma of the first and last head) or one number is right")
