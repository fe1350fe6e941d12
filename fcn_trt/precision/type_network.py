"""FP32 ONNX to typed ONNX, in the one way that a precision asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from fcn_trt.calibration.amax import Method
from fcn_trt.calibration.cache import calibration_sha256, read_calibration, require_made_for
from fcn_trt.errors import CalibrationError, OnnxError
from fcn_trt.network.contract import model_of, save_network, stamp
from fcn_trt.network.file import Network
from fcn_trt.precision.fp16_range import find_overflows, overflowing_nodes
from fcn_trt.precision.half import to_half
from fcn_trt.precision.qdq import convolution_names
from fcn_trt.precision.quantize import quantize_and_type
from fcn_trt.spec import QUANTISED, FloatPrecision, Frame, Precision, Spec

__all__ = ["Ranges", "find_ranges", "type_model", "type_network"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """What typing has to know of a network's tensors.

    Attributes:
        amaxes: By tensor, the magnitude that becomes the largest code; only of int8 and fp8.
        too_large: Names of the nodes that read or write what fp16 cannot hold.
    """

    amaxes: Mapping[str, float] = field(default_factory=dict)
    too_large: Set[str] = frozenset()


def type_network(
    network: Network,
    out: Path,
    precision: Precision,
    *,
    calibration: Path | None = None,
    method: Method | None = None,
    keep: Set[str] = frozenset(),
    float_precision: FloatPrecision = "fp16",
    images: Iterable[Frame] | None = None,
    on_image: Callable[[], None] = lambda: None,
    check: Callable[[onnx.ModelProto, Spec], Spec] = lambda _, spec: spec,
) -> Network:
    """Write the typed ONNX of an FP32 network.

    Args:
        calibration: Cache of int8 and fp8, which need it.
        method: How amax is chosen from it; None takes what the cache has.
        keep: Convolutions that int8 and fp8 leave in floating point, by the names of their nodes;
            "first" and "last" stand for the first and the last one.
        float_precision: Type of what int8 and fp8 do not quantise: fp16 for GPUs, fp32 for CPUs.
        images: Frames such as the network will see, each (H, W, 3) uint8 BGR, on which FP16 finds
            the activations that do not fit it, as it does beside INT8 and FP8 if their calibration
            was imported. None finds only weights that do not.
        check: Called before the file is written; gives the spec with what it found out of how the
            network labels, or raises.

    Returns:
        The file; the exceptions of its spec name the nodes that compute in another type.

    Raises:
        OnnxError: the network is damaged, not FP32, or cannot be typed so.
        CalibrationError: the calibration cannot be read, or is another network's.
        ValueError: there are no images, one has another shape or type, or there is no convolution
            of a name that is to be kept.
        EngineError: OpenVINO cannot run the network on the images.
        OutputError: the file cannot be written.
    """
    model, spec = model_of(network), network.spec
    if precision in QUANTISED and calibration is not None and spec.precision == "fp32":
        spec = replace(spec, calibration_sha256=calibration_sha256(calibration))
    elif precision not in ("fp16", "bf16", spec.precision):
        raise OnnxError(f"{network} is {spec.precision} and cannot become {precision}")
    ranges = find_ranges(
        network,
        model,
        precision,
        calibration=calibration,
        method=method,
        float_precision=float_precision,
        images=images,
        on_image=on_image,
    )
    typed, typed_spec = type_model(
        model, spec, precision, ranges, float_precision=float_precision, keep=keep
    )
    unfit = [name for name, kind in typed_spec.exceptions.items() if kind == "fp32"]
    if unfit and typed_spec.float_precision != "fp32":
        logger.info("%s does not fit fp16 at %s, which stay FP32", network, ", ".join(unfit))
    checked = check(typed, typed_spec)
    stamp(typed, checked)
    return save_network(typed, checked, out)


def find_ranges(
    network: Network,
    model: onnx.ModelProto,
    precision: Precision,
    *,
    calibration: Path | None,
    method: Method | None,
    float_precision: FloatPrecision,
    images: Iterable[Frame] | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> Ranges:
    """Find out what a precision has to know: from a calibration, or on images.

    Args:
        model: What the network's file holds; the others are as for `type_network`.

    Raises:
        CalibrationError, OnnxError, ValueError, EngineError: as for `type_network`.
    """
    if precision == "fp16" and network.spec.precision == "fp32" and images is not None:
        return Ranges(too_large=find_overflows(network, images, on_image=on_image).keys())
    if precision not in QUANTISED or precision == network.spec.precision or calibration is None:
        return Ranges()
    cache = read_calibration(calibration)
    require_made_for(cache, calibration, model, network.spec)
    too_large: Mapping[str, float] = {}
    if float_precision == "fp16" and cache.method != "imported":
        too_large = overflowing_nodes(model.graph, cache.maxima)
    elif float_precision == "fp16":
        if images is None:
            raise CalibrationError(
                f"{calibration} was imported and does not say what fp16 cannot hold; give "
                "images, or leave the rest in fp32"
            )
        too_large = find_overflows(network, images, on_image=on_image)
    return Ranges(amaxes=cache.amaxes(method, precision), too_large=too_large.keys())


def type_model(
    model: onnx.ModelProto,
    spec: Spec,
    precision: Precision,
    ranges: Ranges,
    *,
    float_precision: FloatPrecision = "fp16",
    keep: Set[str] = frozenset(),
) -> tuple[onnx.ModelProto, Spec]:
    """Type an FP32 network in memory.

    Args:
        model: FP32 network that keeps the contract; it is not changed, and handed back where there
            is nothing to do.
        ranges: From `find_ranges`.
        float_precision: As for `type_network`.
        keep: As for `type_network`.

    Raises:
        OnnxError: the network cannot be typed so.
        CalibrationError: the range of a tensor is not known.
        ValueError: there is no convolution of a name that is to be kept.
    """
    if precision in ("fp16", "bf16"):
        return to_half(model, spec, precision, keep=ranges.too_large)
    if precision not in QUANTISED or spec.precision == precision:
        return model, spec
    names = convolution_names(model.graph, "int8")
    ends = {"first": names[0], "last": names[-1]} if names else {}
    return quantize_and_type(
        model,
        spec,
        precision,
        ranges.amaxes,
        float_precision=float_precision,
        keep={ends.get(name, name) for name in keep},
        too_large=ranges.too_large,
    )
