"""Which of this package's own files each step of a recipe runs, as one hash."""

from __future__ import annotations

from fcn_trt.code import code_sha256
from fcn_trt.engine.manifest import Target
from fcn_trt.spec import Precision

__all__ = ["build_code", "export_code", "type_code"]


def export_code() -> str:
    """SHA-256 of what makes an FP32 network of a model."""
    return code_sha256("fcn_trt.pipeline.steps")


def type_code(precision: Precision) -> str:
    """SHA-256 of what types a network."""
    images = ["fcn_trt.calibration.images"] if precision == "fp16" else []
    return code_sha256("fcn_trt.precision.type_network", *images)


def build_code(target: Target) -> str:
    """SHA-256 of what makes a bundle of a typed network."""
    family = "openvino" if target == "openvino" else "tensorrt"
    return code_sha256(f"fcn_trt.engine.{family}.builder")
