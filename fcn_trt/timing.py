"""Rates and percentiles of time stamps taken with time.perf_counter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["percentiles", "rate_fps"]


def rate_fps(stamps: Sequence[float]) -> float:
    """Events per second between the first stamp and the last: N stamps are N - 1 intervals.

    Args:
        stamps: Seconds, not falling.

    Returns:
        The rate; 0.0 where there are fewer than two stamps or no time between them.
    """
    if len(stamps) < 2 or stamps[-1] <= stamps[0]:
        return 0.0
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


def percentiles(
    values: Sequence[float], at: tuple[float, ...] = (50.0, 90.0, 99.0)
) -> tuple[float, ...]:
    """Percentiles with linear interpolation between the two nearest values.

    Args:
        values: At least one, in any order.
        at: Percentages from 0 to 100.

    Returns:
        One value per percentage.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("percentiles of no values")
    return tuple(float(value) for value in np.percentile(np.asarray(values, dtype=float), at))
