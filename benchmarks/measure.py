"""What the benchmarks share: interleaved runs, medians, and what they ran on."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np


def interleave(
    calls: Mapping[str, Callable[[], Any]], *, runs: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call, taken in turns A B A B, so that a drifting machine hits both alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + runs):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, p10 and p90 in milliseconds."""
    p10, p90 = np.percentile(seconds, (10, 90)) * 1000
    return {"median_ms": median(seconds) * 1000, "p10_ms": float(p10), "p90_ms": float(p90)}


def ratios(slow: list[float], fast: list[float]) -> dict[str, float]:
    """How many times as fast, pair by pair: median, smallest and largest."""
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return {"median": median(each), "min": min(each), "max": max(each)}


def machine() -> dict[str, Any]:
    """What a figure was measured on."""
    import cv2
    import openvino as ov
    import torch

    from fcn_trt.engine.openvino import openvino_core

    return {
        "cpu": openvino_core().get_property("CPU", "FULL_DEVICE_NAME"),
        "cores": os.cpu_count(),
        "load_average_1min": os.getloadavg()[0],
        "system": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "openvino": ov.__version__,
            "torch": torch.__version__,
        },
    }


def save(path: Path, results: Any) -> None:
    """Write results with the machine they were measured on."""
    path.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
    print(f"wrote {path}")
