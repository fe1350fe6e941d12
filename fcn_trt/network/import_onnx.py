"""An existing ONNX file of a segmentation network becomes one that keeps our contract.

Whatever a file does before its network and behind its logits is cut where that leaves each pixel's
class as it is, becomes part of the spec where that says it, and is refused otherwise:

    plain_graph     the graph in plain terms, or a refusal
    graph_input     what is fed, normalised and reordered     -> mean and std
    graph_output    what is resized, squashed and compared    -> align_corners and classes
    source_network  the file as it is, to compare with

Source: onnx/models vision/object_detection_segmentation/fcn; what exporters of PyTorch, Keras and
ONNX Runtime's tools write.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from fcn_trt.errors import OnnxError
from fcn_trt.foreign import printable
from fcn_trt.input_format import InputFormat, Rgb
from fcn_trt.labels import LabelSet, binary_label_set, label_set_for
from fcn_trt.network.contract import (
    OPSET,
    declare_ends,
    finish_network,
    image_shape,
    logits_shape,
    opset_of,
)
from fcn_trt.network.file import read_onnx
from fcn_trt.network.file_input import file_input
from fcn_trt.network.graph import Names, Shape, keep_only
from fcn_trt.network.graph_input import cut_prefix, normalise_outside, read_prefix
from fcn_trt.network.graph_output import cut_tail, read_tail
from fcn_trt.network.load import first_line, parse_onnx
from fcn_trt.network.plain_graph import drop_copies, lift_constants, plain_model
from fcn_trt.network.sizes import tensor_sizes
from fcn_trt.network.source_network import SourceNetwork
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, ShapeRange, Size, Spec, format_size, parse_spec

__all__ = ["Imported", "import_onnx"]

logger = logging.getLogger(__name__)

_HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)

_STRIDES = (8, 16, 32, 4, 64, 2, 1)
"""In the order in which they are likely; at small sizes several fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """An imported file.

    Attributes:
        model: What became of it; it keeps the contract.
        spec: Of the model.
        source: The file as it was.
        is_half: Whether the file itself computes in FP16 or BF16 somewhere, and so labels a little
            otherwise.
    """

    model: onnx.ModelProto
    spec: Spec
    source: SourceNetwork
    is_half: bool


def import_onnx(
    path: Path,
    *,
    size: Size,
    batch: int = 1,
    dynamic: ShapeRange | None = None,
    output: str | None = None,
    labels: LabelSet | None = None,
    said: InputFormat | None = None,
    threshold: float | None = None,
) -> Imported:
    """Cut and fix an ONNX file so that it keeps the contract of network.py.

    Args:
        path: ONNX file with one image input.
        size: (height, width) of the input in pixels.
        batch: Images per inference.
        dynamic: Shapes that the network shall take; None fixes `size` and `batch`.
        output: Name of the output to keep; None takes "out", or the only one.
        labels: Its classes; None numbers them.
        said: How the file's own input is made from an image; what is not said is found in the
            graph, or is ImageNet's RGB.
        threshold: Probability from which a network with one logit has found what it looks for; None
            is 0.5. Other networks have none.

    Raises:
        ValueError: a side is less than 1, or `size` and `batch` are not within `dynamic`.
        OnnxError: the file is damaged, fixes a shape inside, or has labels that are no argmax of
            upsampled logits of an image.
    """
    data = read_onnx(path)
    model = parse_onnx(data, path)
    known = _known_spec(data, path, size, batch)
    digest = hashlib.sha256(data).hexdigest()
    del data
    with _sound(path):
        is_half = any(tensor.data_type in _HALVES for tensor in model.graph.initializer)
        image = file_input(model, path)
        chosen = _output_name(model, output, path)
        _keep_needed(model, chosen)
        source_data = model.SerializeToString()
        model = plain_model(model, chosen, path)
        own_size = image.size or size
        shape = image.shape(image.batch or batch, own_size)
        if image.kind == onnx.TensorProto.UINT8:
            read_prefix(model, image, path)  # says more than ONNX of what does not take it
        tensors = _tensors(model, shape, own_size, path)
        drop_copies(model, {name: kind for name, (kind, _) in tensors.items()})
        prefix = read_prefix(model, image, path)
        tail = read_tail(
            model,
            tensors,
            input_layout=image.layout,
            size=own_size,
            threshold=threshold,
            path=path,
        )
        logits = cut_tail(model, tail)
        outside = normalise_outside(
            image,
            prefix,
            said or InputFormat(),
            None if known is None else (known.mean, known.std),
            path,
        )
        mean, std = cut_prefix(model, image, prefix, outside)
        _rename(model.graph, {image.name: INPUT_NAME, logits: OUTPUT_NAME})
        model = _upgrade(model, path)
        lift_constants(model.graph)
        _name_nodes(model.graph)
        classes, found = _infer_logits(model, size, batch, path)
    if known is None:
        named = _label_set(classes, labels, tail.is_binary, path)
        stride = _stride(size, found, path)
        spec = _spec(path, digest, size, batch, stride, tail.align_corners, named, mean, std)
        if stride > 1 and not tail.is_upsampled:
            logger.info(
                "%s ends at stride %d: assuming that its logits are upsampled to the frame "
                "bilinearly, corners not aligned",
                *(path.name, stride),
            )
    else:
        spec = replace(known, mean=mean, std=std)
        if labels is not None:
            named = _label_set(classes, labels, False, path)
            spec = replace(spec, labels=named.name, classes=named.classes, palette=named.palette)
    spec = replace(spec, dynamic=dynamic)
    declare_ends(model.graph, image_shape(spec), logits_shape(spec))
    del model.metadata_props[:]  # nothing that a file says of itself is a proof
    source = SourceNetwork(
        path=path,
        data=source_data,
        image=image,
        outside=outside,
        output=chosen,
        reading=tail.reading,
        align_corners=spec.align_corners,
        asked_size=size,
    )
    return Imported(model=finish_network(model, spec), spec=spec, source=source, is_half=is_half)


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Say of what a damaged graph raises anywhere that it is one."""
    try:
        yield
    except OnnxError:
        raise
    except (
        *(ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError),
        ValueError,
    ) as error:
        raise OnnxError(
            f"{path} is not sound, as its nodes and tensors do not fit each other; export it again"
        ) from error


def _known_spec(data: bytes, path: Path, size: Size, batch: int) -> Spec | None:
    """The spec of a file that this package wrote, at the new size."""
    try:
        spec = parse_spec(data, path)
    except OnnxError:
        return None
    if spec.precision != "fp32":
        raise OnnxError(f"{path} is {spec.precision} already; start from the FP32 ONNX")
    return replace(spec, input_size=size, batch=batch, dynamic=None)


def _output_name(model: onnx.ModelProto, asked: str | None, path: Path) -> str:
    names: list[str] = [value.name for value in model.graph.output]
    if asked is None:
        asked = next((n for n in ("out", "logits") if n in names), names[0])
        if len(names) > 1 and asked not in ("out", "logits"):
            raise OnnxError(f"{path} has the outputs {', '.join(names)}; name one with --output")
    if asked not in names:
        raise OnnxError(f"{path} has no output {asked!r}; it has {', '.join(names)}")
    return asked


def _keep_needed(model: onnx.ModelProto, output: str) -> None:
    """Leave what makes an output and nothing else, as it is."""
    declared = [value for value in model.graph.output if value.name == output]
    keep_only(model.graph, output)
    del model.graph.output[:]
    model.graph.output.extend(declared)
    for name in ("value_info", "quantization_annotation", "metadata_props"):
        model.graph.ClearField(name)
    for name in ("metadata_props", "training_info", "configuration"):
        model.ClearField(name)


def _upgrade(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Bring the operators to the opset that this package writes."""
    version = opset_of(model)
    if version == OPSET:
        return model
    del model.graph.value_info[:]
    try:
        model = onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise OnnxError(
            f"{path} (opset {version}) cannot be brought to {OPSET}: {first_line(error)}; "
            "export it again with opset 17"
        ) from error
    # Forget the output's size: the converter writes down the one that the old input gave.
    for dim in model.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    return model


def _rename(graph: onnx.GraphProto, wanted: dict[str, str]) -> None:
    """Give tensors other names; those that have these already make room."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    names = Names((*taken, *wanted.values()))
    moved = {name: names.free(name) for name in wanted.values() if name in taken}
    renamed = moved | wanted
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = renamed.get(value.name, value.name)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own, by which a spec's exceptions refer to it."""
    names = Names(())
    for node in graph.node:
        node.name = names.free(node.name or node.output[0])


def _tensors(
    model: onnx.ModelProto, image: Shape, size: Size, path: Path
) -> dict[str, tuple[int, Shape]]:
    """(element type, shape) of each tensor that a graph makes of an image."""
    try:
        return tensor_sizes(model, image, opset_of(model), path)
    except OnnxError:
        raise
    except ValueError as error:
        raise OnnxError(
            f"{path} does not take an image of {format_size(size)}: {error}; export it with "
            "another input size, or with a fixed one"
        ) from error


def _infer_logits(model: onnx.ModelProto, size: Size, batch: int, path: Path) -> tuple[int, Size]:
    """(classes, (height, width)) of the logits at this input size."""
    _, shape = _tensors(model, (batch, 3, *size), size, path)[OUTPUT_NAME]
    if len(shape) != 4 or min(shape) < 1 or shape[0] != batch:
        raise OnnxError(
            f"{path} does not take an image of {size[0]}x{size[1]}, of which its logits would be "
            f"{shape}; export it with another input size, or with a fixed one"
        )
    return shape[1], (shape[2], shape[3])


def _label_set(count: int, asked: LabelSet | None, is_binary: bool, path: Path) -> LabelSet:
    try:
        return binary_label_set(asked) if is_binary else label_set_for(count, asked)
    except ValueError as error:
        raise OnnxError(f"{path} does not fit --labels: {error}") from error


def _spec(
    path: Path,
    source_sha256: str,
    size: Size,
    batch: int,
    stride: int,
    align_corners: bool,
    labels: LabelSet,
    mean: Rgb,
    std: Rgb,
) -> Spec:
    return Spec(
        model=printable(path.stem),
        family="onnx",
        weights=printable(path.name),
        labels=labels.name,
        classes=labels.classes,
        palette=labels.palette,
        mean=mean,
        std=std,
        input_size=size,
        batch=batch,
        stride=stride,
        align_corners=align_corners,
        precision="fp32",
        logits_type="float32",
        source_sha256=source_sha256,
        licence="",
    )


def _stride(size: Size, logits_size: Size, path: Path) -> int:
    strides: list[int] = [*_STRIDES, *range(1, max(size) + 1)]
    for stride in strides:
        if logits_size == (-(-size[0] // stride), -(-size[1] // stride)):
            return stride
    raise OnnxError(
        f"{path} makes logits of {logits_size} from an image of {size}, which are no fraction of "
        "it; export it with padded convolutions and its channels first"
    )
