"""How a network is asked to be quantised; light, so that a command can say it before any work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fcn_trt.calibration.amax import Method
from fcn_trt.spec import FloatPrecision

__all__ = ["Quantisation"]


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
