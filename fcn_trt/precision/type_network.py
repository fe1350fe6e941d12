"""FP32 ONNX to typed ONNX, in the one way that a precision asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import onnx

from fcn_trt.calibration.cache import calibration_sha256, read_calibration, require_made_for
from fcn_trt.errors import CalibrationError, OnnxError
from fcn_trt.network.contract import load_network, save_network
from fcn_trt.precision.fp16_range import find_overflows, overflowing_nodes
from fcn_trt.precision.half import to_half
from fcn_trt.precision.qdq import convolution_names
from fcn_trt.precision.quantize import quantize_and_type
from fcn_trt.precision.request import Quantisation
from fcn_trt.spec import Frame, Precision, QuantisedPrecision, Spec

__all__ = ["type_network"]

logger = logging.getLogger(__name__)


def type_network(
    network: Path,
    out: Path,
    precision: Precision,
    *,
    images: Iterable[Frame] | None = None,
    on_image: Callable[[], None] = lambda: None,
    quantisation: Quantisation | None = None,
) -> Spec:
    """Write the typed ONNX of an FP32 network.

    Args:
        network: FP32 ONNX that carries a spec.
        out: The ONNX file to write.
        precision: What convolutions shall compute in.
        images: Frames such as the network will see, each (H, W, 3) uint8 BGR, on which FP16 finds
            the activations that do not fit it, as it does beside INT8 and FP8 if their calibration
            was imported. None finds only weights that do not.
        on_image: Called after each of these images.
        quantisation: For "int8" and "fp8", and only for them.

    Returns:
        The new spec; its exceptions name the nodes that compute in another type.

    Raises:
        OnnxError: the network is damaged, not FP32, or cannot be typed so.
        CalibrationError: the calibration cannot be read, or is another network's.
        ValueError: there are no images, one has another shape or type, or there is no convolution
            of a name that is to be kept.
        EngineError: OpenVINO cannot run the network on the images.
        OutputError: the file cannot be written.
    """
    model, spec = load_network(network)
    typed: onnx.ModelProto
    if precision in ("fp16", "bf16"):
        keep: dict[str, float] = {}
        if precision == "fp16" and spec.precision == "fp32" and images is not None:
            keep = find_overflows(network, spec, images, on_image=on_image)
        typed, typed_spec = to_half(model, spec, precision, keep=keep.keys())
    elif precision == spec.precision:
        typed, typed_spec = model, spec
    elif precision in ("int8", "fp8") and quantisation is not None:
        typed, typed_spec = _quantised(
            network, model, spec, precision, quantisation, images=images, on_image=on_image
        )
    else:
        raise OnnxError(f"{network} is {spec.precision} and cannot become {precision}")
    unfit = [name for name, kind in typed_spec.exceptions.items() if kind == "fp32"]
    if unfit and typed_spec.float_precision != "fp32":
        logger.info("%s does not fit fp16 at %s, which stay FP32", network, ", ".join(unfit))
    save_network(typed, out)
    return typed_spec


def _quantised(
    network: Path,
    model: onnx.ModelProto,
    spec: Spec,
    precision: QuantisedPrecision,
    how: Quantisation,
    *,
    images: Iterable[Frame] | None,
    on_image: Callable[[], None],
) -> tuple[onnx.ModelProto, Spec]:
    """Insert Q/DQ and type the rest."""
    cache = read_calibration(how.calibration)
    require_made_for(cache, how.calibration, model, spec)
    too_large: dict[str, float] = {}
    if how.float_precision == "fp16" and cache.method != "imported":
        too_large = overflowing_nodes(model.graph, cache.maxima)
    elif how.float_precision == "fp16":
        if images is None:
            raise CalibrationError(
                f"{how.calibration} was imported and does not say what fp16 cannot hold; give "
                "images, or leave the rest in fp32"
            )
        too_large = find_overflows(network, spec, images, on_image=on_image)
    names = convolution_names(model.graph, "int8")
    ends = {"first": names[0], "last": names[-1]} if names else {}
    return quantize_and_type(
        model,
        replace(spec, calibration_sha256=calibration_sha256(how.calibration)),
        precision,
        cache.amaxes(how.method, precision),
        float_precision=how.float_precision,
        keep={ends.get(name, name) for name in how.keep},
        too_large=too_large.keys(),
    )
