"""What the benchmarks share: interleaved runs, medians, and what they ran on."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fcn_trt.bench import series
from fcn_trt.bench.environment import this_environment
from fcn_trt.bench.result_file import write_result

RESULTS = Path(__file__).parent
"""Where results lie that are committed."""


def interleave(
    calls: Mapping[str, Callable[[], Any]],
    *,
    runs: int,
    warm_up: int = 1,
    seconds: float = 0.0,
    rest_s: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds of each call in turns, after turns that do not count.

    Args:
        calls: By name.
        runs: How often each is called at least.
        warm_up: Turns that do not count.
        seconds: How long all of them together at least.
        rest_s: Seconds before each call in which nothing is done.
    """
    for _ in range(warm_up):
        for call in calls.values():
            call()
    rest = partial(time.sleep, rest_s)
    return series.interleave(calls, seconds=seconds, least_runs=runs, rest=rest)


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, p10 and p90 in milliseconds."""
    p10, p90 = np.percentile(seconds, (10, 90)) * 1000
    return {"median_ms": median(seconds) * 1000, "p10_ms": float(p10), "p90_ms": float(p90)}


def ratios(slow: list[float], fast: list[float]) -> dict[str, float]:
    """How many times as fast, pair by pair: median, smallest and largest."""
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return {"median": median(each), "min": min(each), "max": max(each)}


def command_line(module: str, arguments: Sequence[str]) -> str:
    """The command that was run, to make a file of results again.

    Args:
        module: Such as "benchmarks.peers".
        arguments: What followed it. Where the results went is left out, and of other files the
            folder: they lie elsewhere on another machine.
    """
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith("--out="):
            kept.append(Path(word).name if "/" in word else word)
    return shlex.join(["python", "-m", module, *kept])


def save(path: Path, results: Any, *, command: str) -> None:
    """Write results with what they were measured on, and how to measure them again.

    Args:
        path: The file; its stem says what was measured.
        results: One or several.
        command: Makes the file again.
    """
    write_result(
        path,
        benchmark=path.stem,
        command=command,
        environment=this_environment(),
        results=results,
    )
    print(f"wrote {path}")
