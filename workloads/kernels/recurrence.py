"""Recurrences over tokens: matrix states per head, token by token or in chunks, and diagonal states per channel."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from workloads.kernels.base import Kernel, check_gammas

Decay = Literal["constant", "head", "channel", "additive", "gradient"]


@dataclass(frozen=True)
class _MatrixState(Kernel):
    """Heads that read states of key_dim x value_dim; `heads / states` heads share one state (grouped keys)."""

    heads: int
    states: int
    key_dim: int
    value_dim: int
    tokens: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads % self.states:
            raise self._error(f"heads = {self.heads}: must be a multiple of states = {self.states}")

    @property
    def group(self) -> int:
        """Heads that read one state."""
        return self.heads // self.states

    def _check_gammas(self, decay: str, gammas: tuple[float, ...] | None) -> None:
        if gammas is None:
            return
        if decay != "constant":
            raise self._error(f"gammas with decay = {decay!r}: only a constant decay is known before the run")
        if wrong := check_gammas(gammas, self.states, "state"):
            raise self._error(wrong)

    def _token_streams(self, decay: str) -> dict[str, int]:
        queries, keys = (count * self.key_dim * self.tokens for count in (self.heads, self.states))
        values, outputs = (count * self.value_dim * self.tokens for count in (self.states, self.heads))
        factors = {"head": self.states, "channel": self.states * self.key_dim, "gradient": 3 * self.states}
        alpha = factors.get(decay, 0) * self.tokens
        return {"q": queries, "k": keys, "v": values, "output": outputs} | ({"alpha": alpha} if alpha else {})


@dataclass(frozen=True)
class StateUpdate(_MatrixState):
    """Recurrent linear attention of one layer: per token and state S = alpha S + k^T v, per head o = q S.

    ``decay`` says what alpha is:

    * constant: one fixed factor per state, ``gammas`` (1 for all if None: plain linear attention; retention)
    * head: one factor per state and token, an input stream `alpha`
    * channel: one per row of S (key channel) and token, an input stream (GLA; RWKV-6)
    * additive: exp(z[t-1] - z[t]) per row, z = running log-sum-exp of k (LightNet); k v^T enters as exp(k - z)^T v. z
      stays on chip
    * gradient: S is a memory that learns to give v for k by one gradient step per token with momentum (Titans):
      the loss |M(k) - v|^2, G = eta G - theta dLoss, M = (1 - alpha) M + G; three factors per state and token. M is
      linear, or with ``hidden`` > 0 a two-layer ReLU network key_dim -> hidden -> value_dim.

    ``causal`` False (additive only): one state of all tokens, which then every query reads.

    With T = tokens, A = key_dim * value_dim:

    * macs = T * (states + heads) * A; elementwise = T * states * A (the decay), 0 if not causal
    * exponentials: additive 3 per state, key channel and token (log-sum-exp, decay, new weight), 1 if not causal
    * state_numbers = states * A; stream `state` = 2 * states * A * T, read and written per token, for a state that is
      not kept (once written, once read if not causal)
    * q = heads * key_dim * T, k = states * key_dim * T, v = states * value_dim * T, output = heads * value_dim *
      T, alpha = states (head), states * key_dim (channel) or 3 * states (gradient) per token
    * gradient, linear: macs per state and token 2 A (forward, outer product), per head A (read), elementwise 4 A;
      hidden: P = key_dim * hidden + hidden * value_dim, macs P (forward) + P (weight gradients) + hidden * value_dim
      (error through the second layer; none is needed for k), per head P (read), elementwise 4 P; state_numbers
      2 * states * P (M and G)

    Sources: Sun et al. 2023 (2307.08621), Yang et al. 2023 (2312.06635), Qin et al. 2024 (2405.21022), Behrouz et al.
    2024 (2501.00663), equations 9 to 14.

    Raises:
        UserError: a size below 1, heads that states do not divide, gammas without a constant decay, hidden without
            gradient, or not causal without additive.
    """

    called: ClassVar[str] = "state update"
    may_be_zero: ClassVar[frozenset[str]] = frozenset({"hidden"})

    decay: Decay
    gammas: tuple[float, ...] | None = None
    hidden: int = 0
    causal: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_gammas(self.decay, self.gammas)
        if self.hidden and self.decay != "gradient":
            raise self._error(f"hidden = {self.hidden} with decay = {self.decay!r}: only a gradient memory has one")
        if not self.causal and self.decay != "additive":
            raise self._error(f"causal = False with decay = {self.decay!r}: only the additive form has no order")

    @property
    def decays(self) -> tuple[float, ...]:
        """One factor per state for a constant decay."""
        return self.gammas or (1.0,) * self.states

    @property
    def _area(self) -> int:
        """Numbers of one state (of M alone for a gradient memory)."""
        size = (self.key_dim + self.value_dim) * self.hidden
        return size or self.key_dim * self.value_dim

    @property
    def macs(self) -> int:
        per_state = self._area
        if self.decay == "gradient":
            per_state = 2 * self._area + self.hidden * self.value_dim
        return self.tokens * (self.states * per_state + self.heads * self._area)

    @property
    def elementwise_ops(self) -> int:
        factor = 4 if self.decay == "gradient" else int(self.causal)
        return factor * self.tokens * self.states * self._area

    @property
    def exponentials(self) -> int:
        per_channel = (3 if self.causal else 1) if self.decay == "additive" else 0
        return per_channel * self.tokens * self.states * self.key_dim

    @property
    def state_numbers(self) -> int:
        return self.states * self._area * (2 if self.decay == "gradient" else 1)

    def tensors(self) -> dict[str, int]:
        moves = 2 * (self.tokens if self.causal else 1)
        return self._token_streams(self.decay) | {"state": moves * self.state_numbers}


@dataclass(frozen=True)
class ChunkState(_MatrixState):
    """`StateUpdate` with a constant, head or channel decay, in chunks of ``chunk`` tokens (the last may be shorter).

    Inside a chunk the parallel form, between chunks the state: for a chunk of c tokens,

    * macs = heads * c (c + 1) / 2 * (key_dim + value_dim) [pairs] + heads * c * A [read] + states * c * A [update],
      A = key_dim * value_dim
    * elementwise = heads * c (c + 1) / 2 [decay of the pairs] + heads * c * value_dim [decay of what is read]
      + states * c * key_dim [decay of the keys] + states * A [decay of the state]
    * stream `state` = 2 * states * A per chunk; q, k, v, output, alpha as in StateUpdate

    Source: Sun et al. 2023 (2307.08621), equation 7; Yang et al. 2023 (2312.06635), section 3.

    Raises:
        UserError: a size below 1, heads that states do not divide, or gammas without a constant decay.
    """

    called: ClassVar[str] = "chunk state"

    chunk: int
    decay: Literal["constant", "head", "channel"] = "constant"
    gammas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_gammas(self.decay, self.gammas)

    @property
    def decays(self) -> tuple[float, ...]:
        """One factor per state for a constant decay."""
        return self.gammas or (1.0,) * self.states

    @property
    def chunks(self) -> int:
        """Chunks, a short last one included."""
        return -(-self.tokens // self.chunk)

    @property
    def pairs(self) -> int:
        """(query, key) pairs inside chunks, of one head."""
        whole, rest = divmod(self.tokens, self.chunk)
        return whole * (self.chunk * (self.chunk + 1) // 2) + rest * (rest + 1) // 2

    @property
    def macs(self) -> int:
        area = self.key_dim * self.value_dim
        inside = self.heads * self.pairs * (self.key_dim + self.value_dim)
        return inside + self.tokens * (self.heads + self.states) * area

    @property
    def elementwise_ops(self) -> int:
        rows = self.tokens * (self.heads * self.value_dim + self.states * self.key_dim)
        return self.heads * self.pairs + rows + self.chunks * self.state_numbers

    @property
    def state_numbers(self) -> int:
        return self.states * self.key_dim * self.value_dim

    def tensors(self) -> dict[str, int]:
        return self._token_streams(self.decay) | {"state": 2 * self.chunks * self.state_numbers}


ScanForm = Literal["ssm", "wkv", "qlstm", "leaky", "fir"]


class _ScanCost(NamedTuple):
    """Per channel, state number, token and direction; `inputs` are streams of one number per channel and token."""

    inputs: tuple[str, ...]
    exponentials: int = 0
    ops: int = 0
    macs: int = 0
    state_per_number: int = 1


_SCANS: dict[str, _ScanCost] = {
    # dt A, its exponential times h, dt u B and its addition, C h and its addition
    "ssm": _ScanCost(("u", "dt"), exponentials=1, ops=6),
    # update: new maximum (2), exponents (2), numerator (3), denominator (2); output: the same with the bonus u, divide
    "wkv": _ScanCost(("k", "v"), exponentials=4, ops=19, state_per_number=3),
    # h = f h + i x, y = o h; f, i, o are sigmoids
    "qlstm": _ScanCost(("forget", "input", "output_gate", "x"), exponentials=3, ops=4),
    # h = act(decay h + x)
    "leaky": _ScanCost(("x",), ops=3),
    # y = sum of taps times the last inputs
    "fir": _ScanCost(("x",), macs=1),
}


@dataclass(frozen=True)
class Scan(Kernel):
    """Recurrences of single channels over tokens, in one or two directions.

    * ssm: h = exp(dt A) h + dt B u, y = C h + D u, `state` numbers h per channel, B and C shared by all channels
    * wkv: running exp-weighted mean with a running maximum (numerator, denominator, maximum): RWKV's WKV
    * qlstm: h = sigmoid(f) h + sigmoid(i) x, y = sigmoid(o) h
    * leaky: h = act(decay h + x): leaky RNN units, IndRNN, a geometric tally
    * fir: y = sum over `state` taps of weight times past input: a general tally, a short depthwise convolution

    With n = channels * state * tokens * directions; per n: ssm 1 exponential and 6 operations, wkv 4 and 19, qlstm 3
    and 4, leaky 0 and 3, fir 1 MAC. Streams: channels * tokens * directions for each input (ssm: u, dt; wkv: k,
    v; qlstm: forget, input, output_gate, x; leaky, fir: x) and `output`; ssm also B and C, state * tokens *
    directions each, and A as `weights`, channels * state * directions. The vectors (bonus, decay, D, taps) are not
    counted. state_numbers = channels * state * directions (wkv: times 3); stream `state` = 2 * state_numbers * tokens
    for a state that is not kept. Two directions: each reads its inputs and writes its part of the output.

    Sources: Gu and Dao 2023 (2312.00752), algorithm 2; Peng et al. 2023 (2305.13048), appendix; Sieber et al. 2024
    (2405.15731), qLSTM; Li et al. 2018 (1803.04831), IndRNN.

    Raises:
        UserError: a size below 1, a form that is not known, more than two directions, or a state above 1 for a form
            that has one number per channel.
    """

    called: ClassVar[str] = "scan"

    form: ScanForm
    channels: int
    tokens: int
    state: int = 1
    directions: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.directions > 2:
            raise self._error(f"directions = {self.directions}: must be 1 or 2")
        if self.state > 1 and self.form not in ("ssm", "fir"):
            raise self._error(f"state = {self.state}: {self.form} has 1 number per channel")

    @property
    def _steps(self) -> int:
        return self.channels * self.state * self.tokens * self.directions

    @property
    def macs(self) -> int:
        return _SCANS[self.form].macs * self._steps

    @property
    def exponentials(self) -> int:
        return _SCANS[self.form].exponentials * self._steps

    @property
    def elementwise_ops(self) -> int:
        return _SCANS[self.form].ops * self._steps

    @property
    def state_numbers(self) -> int:
        return self.channels * self.state * self.directions * _SCANS[self.form].state_per_number

    @property
    def weight_numbers(self) -> int:
        return self.channels * self.state * self.directions if self.form == "ssm" else 0

    def tensors(self) -> dict[str, int]:
        each = self.channels * self.tokens * self.directions
        streams = dict.fromkeys((*_SCANS[self.form].inputs, "output"), each)
        if self.form == "ssm":
            shared = self.state * self.tokens * self.directions
            streams |= {"B": shared, "C": shared, "weights": self.weight_numbers}
        return streams | {"state": 2 * self.state_numbers * self.tokens}
