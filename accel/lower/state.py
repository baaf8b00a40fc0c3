"""Recurrent states to jobs of mode ``state``: retention, linear attention and gated linear attention, token by token.

A head is a state on chip. Its tokens are one job, or several that take turns with those of other heads; then all states
are on chip at once. Values wider than the widest head are cut into blocks of columns, states of their own with the same
q and k.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.attention import Item
from accel.lower.layout import REGION_ALIGN_BYTES
from accel.numerics.decay import encode_decay
from accel.program import Flag, Mode, Opcode, Program, jobs_of
from accel.units.fetcher import record_bytes
from accel.units.softmax import OUTPUT_BITS
from accel.units.state import RECORDS, RECORDS_WITH_DECAYS, ROW_STEP, StateUnit
from workloads.kernels import StateUpdate


class StateScale(NamedTuple):
    """Product shift of a head's state (:func:`accel.numerics.state.state_shift`), and mantissa and shift of its output
    scale (:func:`accel.numerics.decay.output_scale`). Zeros: the program has traffic and time, but no values.
    """

    shift: int = 0
    output: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class StateLayout:
    """Where records and outputs lie. A *place* is a block of a head's columns in a layer: ``(layer * heads + head) *
    blocks + block``. Token t has ``records`` records from ``address("records", place) + t * records * record_stride``
    on: k, v, decay words if there are any, q.
    """

    arch: Arch
    kernel: StateUpdate
    layers: int = 1
    base: int = 0

    @property
    def dim(self) -> int:
        """Words of a record: of the keys, and of a block of the values."""
        widest = max(self.kernel.key_dim, self.kernel.value_dim)
        return min(self.arch.max_head_dim, -(-widest // ROW_STEP) * ROW_STEP)

    @property
    def keys(self) -> int:
        """Rows of a state; those that fill it up have keys and queries of 0."""
        return -(-self.kernel.key_dim // ROW_STEP) * ROW_STEP

    @property
    def blocks(self) -> int:
        return -(-self.kernel.value_dim // self.dim)

    @property
    def decay_words(self) -> bool:
        return self.kernel.decay != "constant"

    @property
    def records(self) -> int:
        return RECORDS_WITH_DECAYS if self.decay_words else RECORDS

    def _whole(self, size_bytes: int) -> int:
        atom = self.arch.memory_spec.access_bytes
        return -(-size_bytes // atom) * atom

    @property
    def record_stride(self) -> int:
        return self._whole(record_bytes(self.dim, self.arch.value_bits))

    @property
    def output_stride(self) -> int:
        return self._whole(self.dim * OUTPUT_BITS // 8)

    def address(self, tensor: str, place: int) -> int:
        """First byte of ``records`` or ``output`` of a place."""
        sizes = {
            "records": self.kernel.tokens * self.records * self.record_stride,
            "output": self.kernel.tokens * self.output_stride,
        }
        at = self.base
        for name, size in sizes.items():
            region = -(-size // REGION_ALIGN_BYTES) * REGION_ALIGN_BYTES
            if name == tensor:
                return at + place * region
            at += region * self.layers * self.kernel.heads * self.blocks
        raise KeyError(tensor)


def _check(kernel: StateUpdate, arch: Arch) -> None:
    if kernel.decay not in ("constant", "head", "channel"):
        raise UserError(f"decay = {kernel.decay}: mode state has constant decays, and those of a head or its channels")
    if kernel.group > 1:
        raise UserError(f"heads = {kernel.heads} of {kernel.states} states: a state is read by one head in mode state")
    if kernel.key_dim > arch.max_head_dim:
        raise UserError(f"key_dim = {kernel.key_dim}: machine {arch.name} has max_head_dim = {arch.max_head_dim}")


def lower_state(
    kernel: StateUpdate,
    arch: Arch,
    *,
    layers: int = 1,
    scales: Sequence[StateScale] | None = None,
    tokens_per_job: int | None = None,
    base: int = 0,
) -> Program:
    """All heads of ``layers`` layers, from empty states on. The outputs are read after each token's update.

    Args:
        scales: one per head, for all layers. tokens_per_job: heads of a layer take turns after so many tokens, their
            states being on chip at once; None: each has all of its tokens in one job. base: address of the first
            tensor.

    Raises:
        UserError: a form that mode state does not have (a state with levels, a gradient memory, one read by several
            heads), states that do not fit, or anything that Program.check refuses.
    """
    _check(kernel, arch)
    layout, unit = StateLayout(arch, kernel, layers, base), StateUnit.of(arch)
    of_layer, step = kernel.heads * layout.blocks, tokens_per_job or kernel.tokens
    if step < kernel.tokens and of_layer * layout.keys > unit.rows(layout.dim):
        raise UserError(
            f"{of_layer} states of {layout.keys} rows: {arch.name} holds {unit.rows(layout.dim)} rows of {layout.dim}"
        )
    decays = encode_decay(kernel.decays) if not layout.decay_words else [0] * kernel.heads
    scales = scales if scales is not None else [StateScale()] * kernel.heads
    flags = Flag.FIRST_TILE | Flag.LAST_TILE | (Flag.DECAY_WORDS if layout.decay_words else 0)
    items: list[Item] = []
    for layer in range(layers):
        for first in range(0, kernel.tokens, step):
            for state in range(of_layer):
                place, scale = layer * of_layer + state, scales[state // layout.blocks]
                items.append(
                    {
                        "opcode": Opcode.ATTEND,
                        "flags": flags | (Flag.RESTART if first == 0 else 0),
                        "mode": Mode.STATE,
                        "msb_bits": arch.value_bits,  # of no meaning, but the same in all jobs
                        "value_bits": arch.value_bits,
                        "layer": layer,
                        "group": 1,
                        "head_dim": layout.dim,
                        "queries": min(step, kernel.tokens - first),
                        "keys": layout.keys,
                        "first_key": state * layout.keys if step < kernel.tokens else 0,
                        "keep_ratio": 1 << 16,
                        "score_shift": scale.shift,
                        "decay": int(decays[state // layout.blocks]),
                        "output_mantissa": scale.output[0],
                        "output_shift": scale.output[1],
                        "q_address": layout.address("records", place) + first * layout.records * layout.record_stride,
                        "q_stride": layout.record_stride,
                        "output_address": layout.address("output", place) + first * layout.output_stride,
                        "output_stride": layout.output_stride,
                    }
                )
    program = Program(jobs_of(items))
    program.check(arch)
    return program
