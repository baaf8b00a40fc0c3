"""Whisper's view of sound: logarithmic energies in 80 mel bands, 100 times a second.

All constants as in OpenAI's whisper/audio.py: 16 kHz, windows of 400 samples (Hann) every 160, bands after M. Slaney's
Auditory Toolbox, decibels cut at 80 below the loudest.
"""

import math
from functools import cache

import numpy as np

SAMPLE_HZ = 16000
WINDOW = 400
HOP = 160
BANDS = 80

# Slaney's mel scale: linear, 3 mel per 200 Hz, up to 1000 Hz; from there a factor 6.4 per 27 mel.
_LINEAR_HZ_PER_MEL = 200 / 3
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27


@cache
def mel_bands() -> np.ndarray:
    """Weights of the frequency bins in every band, float64 (BANDS, WINDOW // 2 + 1): triangles of equal area."""
    top = _KNEE_MEL + math.log(SAMPLE_HZ / 2 / _KNEE_HZ) / _LOG_STEP
    mel = np.linspace(0, top, BANDS + 2)
    corners = np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ_PER_MEL, _KNEE_HZ * np.exp((mel - _KNEE_MEL) * _LOG_STEP))
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.linspace(0, SAMPLE_HZ / 2, WINDOW // 2 + 1)
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.clip(np.minimum(rising, falling), 0, None) * 2 / (high - low)


def log_mel(pcm: np.ndarray, frames: int) -> np.ndarray:
    """Float32 (frames, BANDS) of sound at 16 kHz, in -1 ... 1; silence fills what is missing at the end.

    `pcm` holds at most frames x HOP samples. Energies are mirrored at both ends, as the published network was trained.
    """
    samples = np.zeros(frames * HOP)
    samples[: len(pcm)] = pcm
    mirrored = np.pad(samples, WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, WINDOW)[::HOP][:frames]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(windows * hann, axis=1)) ** 2
    level = np.log10(np.maximum(power @ mel_bands().T, 1e-10))
    return ((np.maximum(level, level.max() - 8) + 4) / 4).astype(np.float32)
