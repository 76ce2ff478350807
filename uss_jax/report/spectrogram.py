"""A spectrogram of fixed size that is made while a recording streams by, however long it is."""

import math

import numpy as np

COLUMNS = 1200  # at most
ROWS = 96
WINDOW_SECONDS = 0.046  # about; 2048 samples at 44.1 kHz
LOW_HZ = 40.0
HIGH_HZ = 16_000.0  # at most
BATCH = 128  # windows that are transformed at once
ERB_PER_DECADE, ERB_BEND_HZ = 21.4, 228.8
SILENCE = 1e-20  # power, −200 dB
LABELS_HZ = (100, 500, 1000, 2000, 5000, 10_000)


class Spectrogram:
    """Power over time and pitch; every column is the mean of all windows whose centre it holds."""

    def __init__(self, sample_rate_hz: int, frames: int) -> None:
        """Divides a recording of this rate and length into columns."""
        self._size = 2 ** max(4, round(math.log2(WINDOW_SECONDS * sample_rate_hz)))
        columns = min(COLUMNS, max(1, math.ceil(frames / (self._size / 8))))
        self._per_column = max(1, math.ceil(frames / columns / (self._size / 2)))  # windows
        self._frames, self._windows = frames, columns * self._per_column
        self._next = 0  # window
        self._held = np.zeros(self._size, np.float32)  # the latest samples, which later windows begin with
        self._end = 0  # of them, in the recording
        self._shape = np.hanning(self._size + 1)[:-1].astype(np.float32)
        self._edges = edges(sample_rate_hz, self._size)
        self._power = np.zeros((columns, ROWS))

    def add(self, samples: np.ndarray) -> None:
        """Takes the next samples, (time,)."""
        held = np.concatenate([self._held, samples])
        start, self._end = self._end - len(self._held), self._end + len(samples)
        last = self._complete()
        if self._next < last and held.any():  # silence leaves its columns as they are
            windows = np.lib.stride_tricks.sliding_window_view(held, self._size)
            for first in range(self._next, last, BATCH):
                chosen = np.arange(first, min(first + BATCH, last))
                centres = (2 * chosen + 1) * self._frames // (2 * self._windows)
                spectrum = np.fft.rfft(windows[centres - self._size // 2 - start] * self._shape)
                power = in_bands(spectrum.real**2 + spectrum.imag**2, self._edges)
                np.add.at(self._power, chosen // self._per_column, power)
        self._next = last
        self._held = held[-self._size :].copy()

    def _complete(self) -> int:
        """How many windows end before the samples do that are known so far."""
        centre = self._end - self._size // 2  # the last that a complete window may have
        return min(self._windows, max(0, (((centre + 1) * 2 * self._windows - 1) // self._frames + 1) // 2))

    def decibels(self) -> np.ndarray:
        """Ends the recording, and gives what it holds: (rows, columns), dB, a full-scale sine 0, high sounds first."""
        self.add(np.zeros(self._size, np.float32))
        full_scale = (self._shape.sum() / 2) ** 2
        return 10 * np.log10(self._power.T[::-1] / (self._per_column * full_scale) + SILENCE)


def pitch(frequency_hz: float) -> float:
    """Frequency as it is heard: nearly linear below 200 Hz, logarithmic above; in ERB (Glasberg and Moore)."""
    return ERB_PER_DECADE * math.log10(1 + frequency_hz / ERB_BEND_HZ)


def span(sample_rate_hz: int) -> tuple[float, float]:
    """The lowest and highest pitch that a picture shows."""
    high = min(HIGH_HZ, sample_rate_hz / 2)
    return pitch(min(LOW_HZ, high / 10)), pitch(high)


def edges(sample_rate_hz: int, size: int) -> np.ndarray:
    """Where the rows begin and the last ends, low rows first, in bins of an FFT of this size: (rows + 1,)."""
    pitches = np.linspace(*span(sample_rate_hz), ROWS + 1)
    return ERB_BEND_HZ * (10 ** (pitches / ERB_PER_DECADE) - 1) * size / sample_rate_hz


def in_bands(power: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean power between the edges: (windows, bins) → (windows, rows). A bin reaches half a bin to either side.

    By running sums: BLAS would start threads for a product as small as this.
    """
    below = np.zeros((len(power), power.shape[1] + 1))
    np.cumsum(power, axis=1, out=below[:, 1:])
    place = edges + 0.5
    bin_below = np.minimum(place.astype(int), power.shape[1] - 1)
    at_edges = below[:, bin_below] + power[:, bin_below] * (place - bin_below)
    return np.maximum(np.diff(at_edges, axis=1), 0) / np.diff(edges)


def labels(sample_rate_hz: int) -> list[tuple[int, float]]:
    """Frequencies to be written beside a picture, Hz, and how high each lies in it, from 0 to 1."""
    low, high = span(sample_rate_hz)
    places = [(frequency, (pitch(frequency) - low) / (high - low)) for frequency in LABELS_HZ]
    return [(frequency, place) for frequency, place in places if 0 < place < 1]
