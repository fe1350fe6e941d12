"""The way of a model, one call per file: checkpoint -> Fcn -> FP32 ONNX -> typed ONNX."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import onnx

from fcn_trt.errors import CalibrationError, OnnxError
from fcn_trt.export.architecture import ARCHITECTURES, architecture
from fcn_trt.export.calibration_cache import (
    calibration_sha256,
    read_calibration,
    require_made_for,
)
from fcn_trt.export.checkpoint import LoadedModel, load_checkpoint, random_model
from fcn_trt.export.fp16_range import find_overflows, overflowing_nodes
from fcn_trt.export.half import to_half
from fcn_trt.export.import_onnx import import_onnx
from fcn_trt.export.network import load_network, save_network
from fcn_trt.export.profile import default_labels
from fcn_trt.export.qdq_places import convolution_names
from fcn_trt.export.quantisation import Quantisation, QuantisedPrecision
from fcn_trt.export.quantize import quantize_and_type
from fcn_trt.export.to_onnx import to_onnx
from fcn_trt.export.weights import RandomWeights, published_names, resolve_weights
from fcn_trt.files import require_folder_of
from fcn_trt.labels import label_set
from fcn_trt.spec import Frame, Precision, ShapeRange, Size, Spec

__all__ = ["export_model", "export_network", "load_model", "type_network"]

logger = logging.getLogger(__name__)


def export_network(
    model: str,
    out: Path,
    *,
    size: Size,
    weights: str | None = None,
    batch: int = 1,
    dynamic: ShapeRange | None = None,
    labels: str | None = None,
    output: str | None = None,
) -> Spec:
    """Write the FP32 ONNX of a model.

    Args:
        model: Name of an architecture or of published weights, path of a checkpoint that says what
            it is, or path of an .onnx file to import.
        out: The ONNX file to write.
        size: (height, width) of the input in pixels.
        weights: As for `resolve_weights`; only with the name of an architecture.
        batch: Images per inference.
        dynamic: Shapes that the network shall take; None fixes `size` and `batch`.
        labels: Label set; None takes the checkpoint's own.
        output: Output of an imported ONNX file to keep.

    Raises:
        ValueError: the model is unknown, or options contradict each other.
        WeightsError, CheckpointError, OnnxError, OutputError: as the steps say.
    """
    require_folder_of(out)
    if not model.endswith(".onnx"):
        loaded = load_model(model, weights, labels)
        return export_model(loaded, out, size=size, batch=batch, dynamic=dynamic)
    if weights is not None:
        raise ValueError("an .onnx file carries its weights; leave --weights out")
    network, spec = import_onnx(
        Path(model), size=size, batch=batch, dynamic=dynamic, output=output, labels=labels
    )
    save_network(network, out)
    return spec


def export_model(
    model: LoadedModel,
    out: Path,
    *,
    size: Size,
    batch: int = 1,
    dynamic: ShapeRange | None = None,
) -> Spec:
    """Write the FP32 ONNX of a model that is loaded already.

    Args:
        model: From `load_model`.
        out: The ONNX file to write.
        size: (height, width) of the input in pixels.
        batch: Images per inference.
        dynamic: Shapes that the network shall take; None fixes `size` and `batch`.

    Raises:
        ValueError: `size` and `batch` are not within `dynamic`.
        OnnxError, OutputError: as the steps say.
    """
    network, spec = to_onnx(model, size=size, batch=batch, dynamic=dynamic)
    save_network(network, out)
    return spec


def load_model(model: str, weights: str | None = None, labels: str | None = None) -> LoadedModel:
    """Load a model by its name or from a checkpoint that says what it is.

    Args:
        model: Name of an architecture or of published weights, or path of a checkpoint.
        weights: As for `resolve_weights`; only with the name of an architecture.
        labels: Label set; None takes the checkpoint's own.

    Raises:
        ValueError: the model is unknown, or options contradict each other.
        WeightsError, CheckpointError: as the steps say.
    """
    is_file = model not in ARCHITECTURES and (Path(model).is_file() or Path(model).suffix)
    if is_file or model in published_names():
        if weights is not None:
            raise ValueError(f"{model} is a checkpoint itself; leave --weights out")
        file = resolve_weights(model, None)
        if isinstance(file, RandomWeights):
            raise ValueError("random weights need the name of a model")
        return load_checkpoint(file, labels=labels)
    arch = architecture(model)
    found = resolve_weights(weights, model)
    if isinstance(found, RandomWeights):
        return random_model(arch, found, label_set(labels or default_labels(arch)))
    return load_checkpoint(found, model, labels=labels)


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
