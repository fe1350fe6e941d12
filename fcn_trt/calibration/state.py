"""What a calibration knows so far, and the file from which it goes on after it was killed."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fcn_trt.cache import cache_folder, read_kept, write_kept
from fcn_trt.calibration.amax import ZERO_AMAX
from fcn_trt.calibration.cache import TensorRange
from fcn_trt.calibration.histogram import BINS, Histogram
from fcn_trt.errors import OutputError
from fcn_trt.foreign import parse_json

__all__ = ["CalibrationState", "StateSaver", "load_state", "user_folder"]

logger = logging.getLogger(__name__)

FORMAT = 2
"""A line of JSON, and behind it the histograms' counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationState:
    """What is known after some of the images.

    Attributes:
        created: The day on which the first of them was measured.
        done: How many.
        maxima: Largest magnitude of each tensor.
        histograms: Of the tensors that are quantised.
    """

    created: str
    done: int = 0
    maxima: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def after(
        self, count: int, maxima: dict[str, float], histograms: dict[str, Histogram]
    ) -> CalibrationState:
        """The state after more images; this one stays as it is, for whoever saves it."""
        return CalibrationState(
            created=self.created,
            done=self.done + count,
            maxima={name: max(v, self.maxima.get(name, 0.0)) for name, v in maxima.items()},
            histograms={
                name: self.histograms[name] + histogram if self.done else histogram
                for name, histogram in histograms.items()
            },
        )

    def range(self, name: str) -> TensorRange:
        """Of one tensor, its histogram as a cache will have it, so that no method sees another."""
        histogram = self.histograms.get(name)
        maximum = self.maxima[name]
        return TensorRange(maximum, maximum or ZERO_AMAX, histogram and histogram.halved())


@dataclass(slots=True)
class StateSaver:
    """Saves a state when it is due.

    Attributes:
        path: The file; None saves nothing.
        key: Of what it belongs to.
        every_s: Seconds from one save to the next.
        saved_s: When it was saved, on the clock of time.perf_counter.
    """

    path: Path | None
    key: str
    every_s: float
    saved_s: float = field(default_factory=time.perf_counter)

    def save(self, state: CalibrationState, *, due_only: bool) -> bool:
        """Save a state, now or if it is time.

        Returns:
            Whether it was saved.
        """
        now = time.perf_counter()
        if self.path is None or not state.done or (due_only and now - self.saved_s < self.every_s):
            return False
        names = list(state.histograms)
        meta = {
            "format": FORMAT,
            "key": self.key,
            "created": state.created,
            "done": state.done,
            "maxima": state.maxima,
            "limits": [state.histograms[name].limit for name in names],
            "names": names,
        }
        counts = np.stack([state.histograms[name].counts for name in names])
        data = json.dumps(meta).encode() + b"\n" + counts.tobytes()
        write_kept(self.path, data, durable=False)
        self.saved_s = now
        return True


def load_state(path: Path, key: str, model: str) -> CalibrationState | None:
    """The state that a calibration of the same key left behind, if it is whole."""
    meta, _, counts = read_kept(path).partition(b"\n")
    if not meta:
        return None
    try:
        return _checked_state(parse_json(meta), np.frombuffer(counts, np.int64), key)
    except (ValueError, KeyError, TypeError) as e:
        logger.warning(
            "%s, from which the calibration of %s would have gone on, is damaged or of another "
            "one (%s); it begins anew",
            path,
            model,
            e,
        )
        return None


def _checked_state(
    meta: dict[str, object], counts: npt.NDArray[np.int64], key: str
) -> CalibrationState:
    if (meta["format"], meta["key"]) != (FORMAT, key):
        raise ValueError("its key or format differs")
    names, limits, maxima = meta["names"], meta["limits"], meta["maxima"]
    done, created = meta["done"], meta["created"]
    if not (
        isinstance(names, list)
        and isinstance(limits, list)
        and isinstance(maxima, dict)
        and isinstance(done, int)
        and isinstance(created, str)
        and counts.size == len(names) * BINS
    ):
        raise ValueError("its content has another form")
    rows: Iterable[tuple[str, npt.NDArray[np.int64], float]] = zip(
        names, counts.reshape(-1, BINS), limits, strict=True
    )
    histograms = {name: Histogram(row, limit, maxima[name]) for name, row, limit in rows}
    return CalibrationState(created=created, done=done, maxima=maxima, histograms=histograms)


def user_folder() -> Path | None:
    """Where states are kept in the user's cache; None where there is no room for one."""
    try:
        return cache_folder("calibration")
    except OutputError as error:
        logger.warning("calibrating without a state, so it cannot go on once stopped: %s", error)
        return None
