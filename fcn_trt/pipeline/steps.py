"""The way of a model, one call per file: checkpoint -> Fcn -> FP32 ONNX -> typed ONNX."""

from __future__ import annotations

from pathlib import Path

from fcn_trt.files import require_folder_of
from fcn_trt.model.checkpoint import LoadedModel
from fcn_trt.model.load import load_model
from fcn_trt.network.contract import save_network
from fcn_trt.network.import_onnx import import_onnx
from fcn_trt.network.to_onnx import to_onnx
from fcn_trt.spec import ShapeRange, Size, Spec

__all__ = ["export_model", "export_network"]


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
