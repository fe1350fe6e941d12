"""Ranges that another program chose become a calibration cache."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from fcn_trt.calibration.cache import CalibrationCache, TensorRange, network_sha256
from fcn_trt.calibration.calibrate import tensor_names
from fcn_trt.spec import Spec
from fcn_trt.version import __version__

__all__ = ["imported_calibration", "known_names"]


def known_names(graph: onnx.GraphProto) -> list[str]:
    """Every tensor of a network, constants included, which a table may name too."""
    constants = [tensor.name for tensor in graph.initializer]
    return [*tensor_names(graph), *constants, *(n for node in graph.node for n in node.output)]


def imported_calibration(
    model: onnx.ModelProto, spec: Spec, amaxes: Mapping[str, float], *, name: str, created: str
) -> CalibrationCache:
    """Make a cache of magnitudes without images.

    Args:
        model: The FP32 network.
        spec: Its spec.
        amaxes: By tensor, the magnitude that becomes the largest code.
        name: Where they come from, for people.
        created: The day that the cache states.
    """
    return CalibrationCache(
        model=spec.model,
        weights=spec.weights,
        network_sha256=network_sha256(model),
        mean=spec.mean,
        std=spec.std,
        input_size=spec.input_size,
        images=0,
        images_sha256="",
        images_name=name,
        method="imported",
        created=created,
        made_by=f"fcn_trt {__version__}",
        openvino="",
        tensors={
            tensor: TensorRange(amaxes[tensor], amaxes[tensor], None)
            for tensor in tensor_names(model.graph)
            if tensor in amaxes
        },
    )
