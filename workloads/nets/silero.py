"""Silero VAD, "is somebody speaking?", in NumPy float32, the steps of its LSTM left to a hook.

Architecture, as in the ONNX graph of the package: every 32 ms (512 samples at 16 kHz, after 64 of the chunk before, and
64 mirrored behind) a Fourier transform with learned tables gives 4 spectra of 129 bins; four convolutions make one
vector of 128 of them; an LSTM of 128 carries the past; a linear layer on its clipped state gives the probability.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from accel.errors import UserError
from workloads.nets.float_ops import convolve, sigmoid
from workloads.nets.tensor_file import NamedTensors, read_onnx

# Of the package (silero_vad/utils_vad.py) and its graph, at 16 kHz.
CHUNK_SAMPLES = 512
CONTEXT_SAMPLES = 64
MIRRORED_SAMPLES = 64
WINDOW_SAMPLES = 256
WINDOW_STEP = 128
STRIDES = (1, 2, 2, 1)
# A chunk counts as speech from this probability on (the package's default).
THRESHOLD = 0.5


class LstmWeights(NamedTuple):
    """Float32; the rows are those of the input, forget, cell and output gate, in this order."""

    input: np.ndarray  # (4 h, n)
    recurrent: np.ndarray  # (4 h, h)
    bias: np.ndarray  # (4 h,): that of the input and that of the state, added


class LstmCall(NamedTuple):
    """One step: gates i, f, g, o = input x + recurrent h + bias; c' = sigmoid(f) c + sigmoid(i) tanh(g).

    The answer is h' = sigmoid(o) tanh(c') and c'. Step 0 has h = c = 0; state kept by a hook starts afresh there. The
    weights are the same objects in every step of a layer.
    """

    layer: int
    step: int
    x: np.ndarray  # float32 (n,)
    h: np.ndarray  # (h,)
    c: np.ndarray  # (h,)
    weights: LstmWeights


class LstmStep(Protocol):
    """What a machine has to implement to be put in place of the float step: (h', c'), float32 (h,) each."""

    def __call__(self, call: LstmCall) -> tuple[np.ndarray, np.ndarray]: ...


def lstm_gates(call: LstmCall) -> np.ndarray:
    """The matrix products of a step, float32 (4 h,): the gates before their functions."""
    return call.weights.input @ call.x + call.weights.recurrent @ call.h + call.weights.bias


def lstm_update(gates: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h', c') from the gates (4 h,) and the cell (h,): what is elementwise in a step."""
    i, f, g, o = np.split(gates, 4)
    cell = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(cell), cell


def float_lstm_step(call: LstmCall) -> tuple[np.ndarray, np.ndarray]:
    """A step in float32; the meaning of `step=None`."""
    return lstm_update(lstm_gates(call), call.c)


class SileroVad:
    """The network over `tensors`, which has the exporter's names.

    Attributes: hidden (of the LSTM), weights (of the LSTM). Raises UserError when a tensor is missing or another.
    """

    def __init__(self, tensors: NamedTensors) -> None:
        basis = tensors.shape("model.stft.forward_basis_buffer", 3)[0]
        self._fourier = tensors.take("model.stft.forward_basis_buffer", basis, 1, WINDOW_SAMPLES)[:, 0].T
        channels = basis // 2
        self._convolutions = []
        for step in range(len(STRIDES)):
            name = f"model.encoder.{step}.reparam_conv"
            outputs = tensors.shape(f"{name}.weight", 3)[0]
            weight = tensors.take(f"{name}.weight", outputs, channels, 3)
            self._convolutions.append((weight, tensors.take(f"{name}.bias", outputs)))
            channels = outputs
        self.hidden = tensors.shape("model.decoder.rnn.weight_hh", 2)[1]
        rows = 4 * self.hidden
        self.weights = LstmWeights(
            input=tensors.take("model.decoder.rnn.weight_ih", rows, channels),
            recurrent=tensors.take("model.decoder.rnn.weight_hh", rows, self.hidden),
            bias=tensors.take("model.decoder.rnn.bias_ih", rows) + tensors.take("model.decoder.rnn.bias_hh", rows),
        )
        self._last = (
            tensors.take("model.decoder.decoder.2.weight", 1, self.hidden, 1).reshape(self.hidden),
            tensors.take("model.decoder.decoder.2.bias", 1),
        )

    @classmethod
    def read(cls, folder: Path) -> "SileroVad":
        """From `silero_vad_16k_op15.onnx` in a folder; its weights are read, the graph is not run. Raises UserError.

        The package's safetensors file holds the weights of an older training, so it is not read.
        """
        return cls(read_onnx(Path(folder) / "silero_vad_16k_op15.onnx", "the Silero VAD"))

    def features(self, pcm: np.ndarray) -> np.ndarray:
        """What the LSTM is fed with, float32 (chunks, n), for a sound at 16 kHz in -1 ... 1; the past plays no part.

        Silence stands before the sound and fills its last chunk. Raises UserError for no sample.
        """
        pcm = np.asarray(pcm, dtype=np.float32)
        if pcm.ndim != 1 or not len(pcm):
            raise UserError(f"sound: shape {pcm.shape}, expected one channel of at least one sample at 16 kHz")
        chunks = -(-len(pcm) // CHUNK_SAMPLES)
        sound = np.zeros(CONTEXT_SAMPLES + chunks * CHUNK_SAMPLES, np.float32)
        sound[CONTEXT_SAMPLES : CONTEXT_SAMPLES + len(pcm)] = pcm
        return np.stack(
            [
                self._chunk_features(sound[start : start + CONTEXT_SAMPLES + CHUNK_SAMPLES])
                for start in range(0, chunks * CHUNK_SAMPLES, CHUNK_SAMPLES)
            ]
        )

    def _chunk_features(self, chunk: np.ndarray) -> np.ndarray:
        mirrored = np.pad(chunk, (0, MIRRORED_SAMPLES), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(mirrored, WINDOW_SAMPLES)[::WINDOW_STEP]
        real, imaginary = np.split(windows @ self._fourier, 2, axis=1)
        x = np.hypot(real, imaginary)
        for (weight, bias), stride in zip(self._convolutions, STRIDES, strict=True):
            x = np.maximum(convolve(x, weight, bias, stride, padding=1), np.float32(0))
        return x[0]

    def states(self, features: np.ndarray, step: LstmStep | None = None) -> np.ndarray:
        """h after every step, float32 (chunks, h). Raises ValueError when the hook returns another shape."""
        run = float_lstm_step if step is None else step
        h: np.ndarray = np.zeros(self.hidden, np.float32)
        c = h
        out = np.empty((len(features), self.hidden), np.float32)
        for place, x in enumerate(features):
            h, c = (np.asarray(part, np.float32) for part in run(LstmCall(0, place, x, h, c, self.weights)))
            if h.shape != (self.hidden,) or c.shape != (self.hidden,):
                raise ValueError(
                    f"lstm hook, step {place}: returned {h.shape} and {c.shape}, expected ({self.hidden},)"
                )
            out[place] = h
        return out

    def probabilities(self, pcm: np.ndarray, step: LstmStep | None = None) -> np.ndarray:
        """Probability of speech in every chunk of 32 ms, float32 (chunks,)."""
        states = self.states(self.features(pcm), step)
        return sigmoid(np.maximum(states, np.float32(0)) @ self._last[0] + self._last[1])


def record(net: SileroVad, pcm: np.ndarray, step: LstmStep | None = None) -> list[LstmCall]:
    """The LSTM's steps over a sound, one call per chunk of 32 ms."""
    calls: list[LstmCall] = []

    def keep(call: LstmCall) -> tuple[np.ndarray, np.ndarray]:
        calls.append(call._replace(x=call.x.copy(), h=call.h.copy(), c=call.c.copy()))
        return float_lstm_step(call) if step is None else step(call)

    net.probabilities(pcm, keep)
    return calls


class VoiceQuality(NamedTuple):
    """The hook against the float step over the same chunks.

    `agreement`: share of chunks with the same decision. `accuracy`, `float_accuracy`: share of chunks decided as is
    known to be right, where it is known.
    """

    agreement: float
    mean_abs_difference: float
    max_abs_difference: float
    speech: float
    float_speech: float
    accuracy: float | None
    float_accuracy: float | None
    chunks: int


def compare_voice(
    net: SileroVad, pcm: np.ndarray, step: LstmStep, speaking: Sequence[bool] | np.ndarray | None = None
) -> VoiceQuality:
    """Judge a sound with the float step and with `step`; `speaking` (chunks,) is the truth, if known.

    `speech`, `float_speech` are the shares of chunks taken for speech. Raises UserError for a truth of another length.
    """
    float_answer, answer = net.probabilities(pcm), net.probabilities(pcm, step)
    float_heard, heard = float_answer >= THRESHOLD, answer >= THRESHOLD
    truth = None if speaking is None else np.asarray(speaking, dtype=bool)
    if truth is not None and truth.shape != heard.shape:
        raise UserError(f"voice quality: the truth has shape {truth.shape}, the sound has {len(heard)} chunks")
    difference = np.abs(answer.astype(np.float64) - float_answer)
    return VoiceQuality(
        agreement=float((heard == float_heard).mean()),
        mean_abs_difference=float(difference.mean()),
        max_abs_difference=float(difference.max()),
        speech=float(heard.mean()),
        float_speech=float(float_heard.mean()),
        accuracy=None if truth is None else float((heard == truth).mean()),
        float_accuracy=None if truth is None else float((float_heard == truth).mean()),
        chunks=len(heard),
    )
