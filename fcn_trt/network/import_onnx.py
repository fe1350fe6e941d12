"""An existing ONNX file of an FCN becomes one that keeps our contract.

The ONNX Model Zoo's FCNs (opset 11) have dynamic axes, an auxiliary output and a full-size Resize
in the graph. The branch of `out` is kept, everything behind its logits is cut, the shapes are fixed
or get the range that was asked for. What the Resize did is not lost: its coordinate mode becomes
the spec's align_corners.

Source: onnx/models vision/object_detection_segmentation/fcn; ONNX operator Resize-11.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import onnx

from fcn_trt.errors import OnnxError
from fcn_trt.files import sha256
from fcn_trt.input_format import InputFormat
from fcn_trt.labels import LabelSet, label_set_for
from fcn_trt.model.architecture import IMAGENET_MEAN, IMAGENET_STD
from fcn_trt.network.contract import (
    OPSET,
    declare_ends,
    finish_network,
    image_shape,
    load_onnx,
    logits_shape,
    replace_content,
)
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, ShapeRange, Size, Spec, read_spec

__all__ = ["import_onnx"]

_BEHIND_LOGITS = {"Resize", "Upsample", "Identity", "Cast", "Softmax", "LogSoftmax", "ArgMax"}
"""None of these changes which class wins a pixel, apart from how Resize samples."""

_QUANTISED = re.compile(r"QLinear\w+|\w+Integer|(Dynamic)?QuantizeLinear|DequantizeLinear")

_STRIDES = (8, 16, 32, 4, 64, 2, 1)
"""In the order in which they are likely; at small sizes several fit."""

_ALIGN_CORNERS = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}


def import_onnx(
    path: Path,
    *,
    size: Size,
    batch: int = 1,
    dynamic: ShapeRange | None = None,
    output: str | None = None,
    labels: LabelSet | None = None,
    said: InputFormat = InputFormat(),
    threshold: float | None = None,
) -> tuple[onnx.ModelProto, Spec]:
    """Cut and fix an ONNX file so that it keeps the contract of network.py.

    Args:
        path: ONNX file with one image input (N, 3, H, W) of RGB normalised with ImageNet's mean
            and standard deviation.
        size: (height, width) of the input in pixels.
        batch: Images per inference.
        dynamic: Shapes that the network shall take; None fixes `size` and `batch`.
        output: Name of the output to keep; None takes "out", or the only one.
        labels: Its classes; None numbers them.
        said: How the file's own input is made from an image; what is not said is found in the graph,
            else ImageNet's RGB.
        threshold: Probability from which a network with one logit has found what it looks for; None
            is 0.5. Other networks have none.

    Returns:
        The new model and its spec.

    Raises:
        ValueError: a side is less than 1, or `size` and `batch` are not within `dynamic`.
        OnnxError: the file is damaged, quantised, not an FCN, or fixes a shape inside.
    """
    model = load_onnx(path)
    known = _known_spec(path, size, batch, labels)
    image = _image_name(model, path)
    logits, align_corners = _find_logits(model, _output_name(model, output, path), path)
    _drop_identities(model.graph)
    _keep_only(model.graph, logits)
    if quantised := [n.op_type for n in model.graph.node if _QUANTISED.fullmatch(n.op_type)]:
        raise OnnxError(f"{path} is quantised ({quantised[0]}); import the float32 file instead")
    model = _upgrade(model, path)
    _rename(model.graph, {image: INPUT_NAME, logits: OUTPUT_NAME})
    _lift_constants(model.graph)
    _name_nodes(model.graph)
    classes, found = _infer_logits(model, size, batch, path)
    spec = known or _spec(path, size, batch, classes, found, align_corners, labels)
    spec = replace(spec, dynamic=dynamic)
    declare_ends(model.graph, image_shape(spec), logits_shape(spec))
    return finish_network(model, spec), spec


def _image_name(model: onnx.ModelProto, path: Path) -> str:
    """The one input that is no weight."""
    constants = {tensor.name for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in constants]
    if len(images) != 1:
        raise OnnxError(f"{path} has {len(images)} inputs, but an FCN has one image")
    tensor = images[0].type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT or len(tensor.shape.dim) != 4:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise OnnxError(
            f"{path} has an input of {len(tensor.shape.dim)} dimensions of {kind}, but it must be "
            "(N, 3, H, W) FLOAT; export the FP32 model"
        )
    return str(images[0].name)


def _output_name(model: onnx.ModelProto, asked: str | None, path: Path) -> str:
    names: list[str] = [value.name for value in model.graph.output]
    if asked is None:
        asked = next((n for n in ("out", "logits") if n in names), names[0])
        if len(names) > 1 and asked not in ("out", "logits"):
            raise OnnxError(f"{path} has the outputs {', '.join(names)}; name one with --output")
    if asked not in names:
        raise OnnxError(f"{path} has no output {asked!r}; it has {', '.join(names)}")
    return asked


def _find_logits(model: onnx.ModelProto, output: str, path: Path) -> tuple[str, bool]:
    """Walk back from the output to the logits: their name, and whether they align corners."""
    producers = {name: node for node in model.graph.node for name in node.output}
    name, align_corners = output, False
    while (node := producers.get(name)) is not None and node.op_type in _BEHIND_LOGITS:
        if node.op_type in ("Resize", "Upsample"):
            align_corners = _resize_aligns_corners(node, path)
        name = node.input[0]
    if node is None:
        raise OnnxError(f"{path} computes nothing between its input and {output!r}")
    return name, align_corners


def _resize_aligns_corners(node: onnx.NodeProto, path: Path) -> bool:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    mode = attributes.get("mode", b"nearest").decode()
    coordinates: str = attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    if node.op_type == "Upsample":
        coordinates = "asymmetric"  # all that Upsample-9 could do
    if mode != "linear" or coordinates not in _ALIGN_CORNERS:
        raise OnnxError(
            f"{path} resizes its logits with mode {mode} and {coordinates} coordinates at node "
            f"{node.name!r}; bilinear with half_pixel or align_corners is what FCNs do"
        )
    return _ALIGN_CORNERS[coordinates]


def _drop_identities(graph: onnx.GraphProto) -> None:
    """Let readers of an Identity read what it copies; exporters share weights through them."""
    copies = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity"}
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        for index, name in enumerate(node.input):
            while name in copies and name not in outputs:
                name = copies[name]
            node.input[index] = name


def _keep_only(graph: onnx.GraphProto, output: str) -> None:
    """Delete every node and constant that `output` does not need."""
    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    replace_content(graph, reversed(kept), constants)
    del graph.output[:]
    graph.output.append(
        onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [None] * 4)
    )


def _upgrade(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Bring the operators to the opset that this package writes."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if version == OPSET:
        return model
    del model.graph.value_info[:]
    try:
        model = onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise OnnxError(
            f"{path} (opset {version}) cannot be brought to {OPSET}: {error}"
        ) from error
    # Forget the output's size: the converter writes down the one that the old input gave.
    for dim in model.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    return model


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into initializers, the one place where weights are looked for."""
    constants = [
        n for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"
    ]
    for node in constants:
        tensor = node.attribute[0].t
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own, by which a spec's exceptions refer to it."""
    taken: set[str] = set()
    for node in graph.node:
        name = node.name or node.output[0]
        while name in taken:
            name += "_"
        node.name = name
        taken.add(name)


def _infer_logits(model: onnx.ModelProto, size: Size, batch: int, path: Path) -> tuple[int, Size]:
    """(classes, (height, width)) of the logits at this input size."""
    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    image = next(v for v in trial.graph.input if v.name == INPUT_NAME)
    for dim, side in zip(image.type.tensor_type.shape.dim, (batch, 3, *size), strict=True):
        dim.dim_value = side
    del trial.graph.value_info[:]
    try:
        trial = onnx.shape_inference.infer_shapes(trial, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise OnnxError(
            f"{path} does not take an image of {size[0]}x{size[1]}: {str(error).splitlines()[0]}"
        ) from error
    shape = tuple(d.dim_value for d in trial.graph.output[0].type.tensor_type.shape.dim)
    if len(shape) != 4 or min(shape) < 1 or shape[0] != batch:
        raise OnnxError(f"{path} has logits of shape {shape}; (N, C, h, w) was expected")
    return shape[1], (shape[2], shape[3])


def _known_spec(path: Path, size: Size, batch: int, labels: LabelSet | None) -> Spec | None:
    """The spec of a file that this package wrote, at the new size and with the labels asked for."""
    try:
        spec = read_spec(path)
    except OnnxError:
        return None
    if spec.precision != "fp32":
        raise OnnxError(f"{path} is {spec.precision} already; start from the FP32 ONNX")
    spec = replace(spec, input_size=size, batch=batch, dynamic=None)
    if labels is None:
        return spec
    chosen = _labels(len(spec.classes), labels, path)
    return replace(spec, labels=chosen.name, classes=chosen.classes, palette=chosen.palette)


def _labels(count: int, asked: str | None, path: Path) -> LabelSet:
    try:
        return label_set_for(count, asked)
    except ValueError as error:
        raise OnnxError(f"{path} does not fit --labels: {error}") from error


def _spec(
    path: Path,
    size: Size,
    batch: int,
    classes: int,
    logits_size: Size,
    align_corners: bool,
    labels: LabelSet | None,
) -> Spec:
    chosen = _labels(classes, labels, path)
    return Spec(
        model=path.stem,
        family="onnx",
        weights=path.name,
        labels=chosen.name,
        classes=chosen.classes,
        palette=chosen.palette,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        input_size=size,
        batch=batch,
        stride=_stride(size, logits_size, path),
        align_corners=align_corners,
        precision="fp32",
        logits_type="float32",
        source_sha256=sha256(path),
        licence="",
    )


def _stride(size: Size, logits_size: Size, path: Path) -> int:
    strides: list[int] = [*_STRIDES, *range(1, max(size) + 1)]
    for stride in strides:
        if logits_size == (-(-size[0] // stride), -(-size[1] // stride)):
            return stride
    raise OnnxError(
        f"{path} makes logits of {logits_size} from an image of {size}: no whole stride"
    )
