"""How a network is asked to be quantised; light, so that a command can say it before any work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

__all__ = ["DEFAULT_METHOD", "FloatPrecision", "Method", "Quantisation", "QuantisedPrecision"]

Method: TypeAlias = Literal["entropy", "minmax", "percentile", "mse"]
"""How amax, the magnitude that becomes the largest code, is chosen; see amax.py."""

DEFAULT_METHOD: Method = "mse"
"""The one that kept most labels of CamVid, beside percentile; README, "INT8 and FP8"."""

QuantisedPrecision: TypeAlias = Literal["int8", "fp8"]

FloatPrecision: TypeAlias = Literal["fp16", "fp32"]
"""Types of what is not quantised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """What int8 and fp8 need beside the network.

    Attributes:
        calibration: Path of the cache that says how large its tensors get.
        method: How amax is chosen; None takes what the cache has.
        keep: Convolutions that stay in floating point, by the names of their nodes; "first" and
            "last" stand for the first and the last one.
        float_precision: Type of what is not quantised: fp16 for GPUs, fp32 for the CPU.
    """

    calibration: Path
    method: Method | None = None
    keep: frozenset[str] = frozenset()
    float_precision: FloatPrecision = "fp16"
