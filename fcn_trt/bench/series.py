"""Series of times: warm-up until they are stable, several calls in turns, and what is told of them.

Every function takes the clock that tells seconds, so that a test can say what a time is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from pydantic import ConfigDict

from fcn_trt.timing import percentiles, rate_fps

__all__ = [
    "Clock",
    "Latency",
    "WarmUp",
    "interleave",
    "latency",
    "sustained_fps",
    "warm_up",
]

Clock: TypeAlias = Callable[[], float]
"""Tells seconds."""

STABLE_SHARE = 0.02
"""How near the medians of two windows in a row are when a machine is warm."""

WINDOW_RUNS = 3
WINDOW_S = 0.25
"""A window has at least so many runs, and lasts at least so long."""

FEWEST_WINDOWS = 2
"""With one there is nothing to compare; a slow network needs longer than it is given."""

LEAST_RUNS = 5
"""Runs of each call, however long one takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What is told of a series of times.

    Attributes:
        runs: How many times there are; p99 of less than a hundred is near the largest.
        p50_ms: Half of them are at most this, in milliseconds.
        p90_ms: Nine tenths are.
        p99_ms: All but a hundredth are.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """How a warm-up went.

    Attributes:
        runs: How many there were.
        duration_s: How long they took, in seconds.
        is_stable: Whether the medians of the last two windows were alike.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    runs: int
    duration_s: float
    is_stable: bool


def latency(seconds: Sequence[float]) -> Latency:
    """Sum up a series.

    Raises:
        ValueError: there is no time in it.
    """
    p50, p90, p99 = percentiles(seconds)
    return Latency(runs=len(seconds), p50_ms=p50 * 1000, p90_ms=p90 * 1000, p99_ms=p99 * 1000)


def warm_up(
    call: Callable[[], object], *, most_s: float, clock: Clock = time.perf_counter
) -> WarmUp:
    """Call something until the medians of two windows in a row are alike.

    Args:
        most_s: When to give up; the window that is open then is finished, and there are two.
    """
    begin = clock()
    runs, last, is_stable = 0, 0.0, False
    windows = 0
    while not is_stable and (windows < FEWEST_WINDOWS or clock() - begin < most_s):
        window = _window(call, clock)
        windows += 1
        runs += len(window)
        now = median(window)
        is_stable = abs(now - last) <= STABLE_SHARE * last
        last = now
    return WarmUp(runs=runs, duration_s=clock() - begin, is_stable=is_stable)


def interleave(
    calls: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    least_runs: int = LEAST_RUNS,
    rest: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Times of several calls in turns A B, B A, so that a drifting machine hits all alike.

    Args:
        seconds: How long all of them together.
        least_runs: Each is called at least so many times.
        rest: Called before each of them, and not timed.

    Returns:
        By name, equally many seconds each, in the order in which they were taken.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    names = tuple(calls)
    begin, rounds = clock(), 0
    while rounds < least_runs or clock() - begin < seconds:
        # Each turn begins with another one, so that none always has the same neighbour.
        first = rounds % len(names) if names else 0
        for name in (*names[first:], *names[:first]):
            rest()
            found[name].append(_time(calls[name], clock))
        rounds += 1
    return found


def sustained_fps(
    results: Iterable[object], *, batch: int = 1, clock: Clock = time.perf_counter
) -> tuple[float, int]:
    """How many results come in a second, from the first to the last.

    Args:
        results: Come as they are ready, `batch` of them at once.
        batch: Only the first of a batch is a moment; the others come with it.

    Returns:
        Results per second, 0.0 where there is one batch or none; and how many results there were.
    """
    stamps = [clock() for _ in results]
    return rate_fps(stamps[::batch]) * batch, len(stamps)


def _window(call: Callable[[], object], clock: Clock) -> list[float]:
    begin = clock()
    window: list[float] = []
    while len(window) < WINDOW_RUNS or clock() - begin < WINDOW_S:
        window.append(_time(call, clock))
    return window


def _time(call: Callable[[], object], clock: Clock) -> float:
    started = clock()
    call()
    return clock() - started
