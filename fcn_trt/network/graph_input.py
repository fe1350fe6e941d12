"""The input end of a foreign graph: what it is fed, and what it does to that before its network.

Many files normalise their input themselves, reverse its channels, or take it with the channels
last. The nodes that do so are not read one by one: they are run on a few pixels, and where what
they compute is a factor and a sum for each channel, the spec says both and they are cut. What is
no part of a spec, the order of the channels and a grey image, goes into the first convolution.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from fcn_trt.errors import OnnxError
from fcn_trt.input_format import InputFormat, Rgb
from fcn_trt.model.architecture import IMAGENET_MEAN, IMAGENET_STD
from fcn_trt.network.contract import opset_of
from fcn_trt.network.file_input import GREY, FileInput, Normalisation
from fcn_trt.network.graph import Array, GraphView, keep_only, point_convolution
from fcn_trt.network.sizes import Sizes, called

__all__ = ["Prefix", "cut_prefix", "normalise_outside", "read_prefix"]

logger = logging.getLogger(__name__)

_PER_PIXEL = {
    *("Add", "BatchNormalization", "Cast", "Concat", "Div", "Gather", "Identity", "Mul", "Neg"),
    *("Slice", "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
}
"""Operators that can be part of a normalisation; with constants, what they compute is affine."""

_ARITHMETIC = {"Add", "Clip", "Div", "Mul", "Sub"}

_LAYERS = {"AveragePool", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "Relu"}

MAX_PREFIX_NODES = 64
"""Nodes that a normalisation has at most; what more there are stays in the network."""

MAX_PROBED = 1 << 20
"""Numbers that a node of it makes at most of the few pixels that it is run on."""

_PROBE = {"N": 2, "H": 5, "W": 7}
"""Sides that differ from each other and from the number of channels, to be told apart by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The nodes between the input and the network proper.

    Attributes:
        tensor: What they make of the input, and the network reads.
        layout: Of that tensor.
        order: For each of its channels, the channel of the input that it comes from.
        scale: For each of its channels, what that is multiplied by; above 0.
        shift: For each of its channels, what is added then.
        largest: The largest mean or standard deviation in what the nodes before or behind that
            tensor do to the input; None if they do not normalise it.
    """

    tensor: str
    layout: str
    order: tuple[int, ...]
    scale: Array
    shift: Array
    largest: float | None


def read_prefix(model: onnx.ModelProto, image: FileInput, path: Path) -> Prefix:
    """Find the last tensor that is the input, normalised per channel, which nothing bypasses.

    Raises:
        OnnxError: the input is UINT8, and is computed with as such.
    """
    view = GraphView(model.graph)
    found = [
        (tensor, *affine)
        for tensor, nodes in reversed(list(_cuts(view, image, opset_of(model))))
        if (affine := _affine(model, nodes, tensor, image)) is not None
    ]
    cut = next((each for each in found if _is_scaling(each[1], image.channels)), None)
    if cut is None:
        first = next(node for node in view.readers[image.name] if node.op_type != "Shape")
        raise OnnxError(
            f"{path} has an input of UINT8 that no Cast makes floats of before node "
            f"{called(first)}; export it with an input of floats"
        )
    tensor, matrix, shift, layout = cut
    order = matrix.argmax(axis=1)
    _, last_matrix, last_shift, _ = found[0]
    largest = _largest_number(last_matrix, last_shift)
    return Prefix(
        tensor=tensor,
        layout=layout,
        order=tuple(map(int, order)),
        scale=matrix[np.arange(len(matrix)), order],
        shift=shift,
        largest=_largest_constant(view, image.name) if largest is None else largest,
    )


def _is_scaling(matrix: Array, channels: int) -> bool:
    """Whether each channel is made of one of its own, by a factor above 0."""
    if matrix.shape != (channels, channels) or matrix.min() < 0:
        return False
    counts = [np.count_nonzero(matrix, axis=axis) for axis in (0, 1)]
    return bool((np.array(counts) == 1).all())


def _largest_number(matrix: Array, shift: Array) -> float | None:
    """The largest mean or standard deviation in an affine step; None if it changes no value."""
    if not shift.any() and np.isin(matrix, (0, 1)).all():
        return None
    gain = matrix.sum(axis=1)
    used = gain != 0
    return float(np.abs([shift[used] / gain[used], 1 / gain[used]]).max(initial=0))


def _largest_constant(view: GraphView, tensor: str) -> float | None:
    """The same of what is not affine, such as a resize before the normalisation, by its constants.

    None if nothing is computed with constants before the first layer.
    """
    found: list[float] = []
    while True:
        readers = [n for n in view.readers.get(tensor, ()) if n.op_type != "Shape"]
        if len(readers) != 1 or readers[0].op_type in _LAYERS:
            return max(found, default=None)
        node = readers[0]
        for value in map(view.value, node.input if node.op_type in _ARITHMETIC else ()):
            if value is not None and value.any():
                size = float(np.abs(value).max())
                found.append(1 / size if node.op_type == "Mul" else size)
        tensor = node.output[0]


def _cuts(
    view: GraphView, image: FileInput, opset: int
) -> Iterator[tuple[str, list[onnx.NodeProto]]]:
    """Tensors that all reads of the input go through, each with the nodes before it.

    A Shape does not count: it reads no pixel.
    """
    sizes = Sizes(opset, view.graph.initializer)
    kind = view.graph.input[0].type.tensor_type.elem_type
    sizes.declare(image.name, kind, image.shape(_PROBE["N"], (_PROBE["H"], _PROBE["W"])))
    tensors: dict[str, None] = {image.name: None}
    inside: list[onnx.NodeProto] = []
    names: set[str] = set()
    outputs = {value.name for value in view.graph.output}
    yield image.name, []
    for node in view.graph.node:
        variables = view.variables(node)
        if (
            not variables
            or node.op_type not in _PER_PIXEL
            or not tensors.keys() >= {*variables}
            or not _can_be_probed(node, sizes)
        ):
            continue
        if len(inside) == MAX_PREFIX_NODES:
            return
        inside.append(node)
        names.add(node.output[0])
        tensors |= dict.fromkeys(node.output)
        read_outside = [
            tensor
            for tensor in tensors
            if tensor in outputs
            or any(
                reader.op_type != "Shape" and reader.output[0] not in names
                for reader in view.readers.get(tensor, ())
            )
        ]
        if len(read_outside) == 1:
            yield read_outside[0], list(inside)


def _can_be_probed(node: onnx.NodeProto, sizes: Sizes) -> bool:
    """Whether a node makes something of a few pixels, and not much; noted if it does."""
    try:
        made = sizes.infer(node)
    except ValueError:
        return False
    for name, (kind, shape) in made.items():
        if min(shape, default=0) < 0 or math.prod(shape) > MAX_PROBED:
            return False
        sizes.declare(name, kind, shape)
    return True


def _affine(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], tensor: str, image: FileInput
) -> tuple[Array, Array, str] | None:
    """What nodes make of each pixel: (matrix, shift, layout of the result); None if it is else."""
    run = _runner(model, nodes, tensor, image)
    rng = np.random.default_rng(0)
    count = image.channels
    shape = (_PROBE["N"], count, _PROBE["H"], _PROBE["W"])
    probes = [np.zeros(shape), rng.integers(0, 256, shape)]
    for channel in range(count):
        one = np.zeros(shape)
        one[:, channel] = 255
        probes.append(one)
    results = [run(probe) for probe in probes]
    zero = results[0]
    sides = {side: letter for letter, side in _PROBE.items()}
    if any(result is None for result in results) or zero is None or zero.ndim != 4:
        return None
    layout = "".join(sides.get(side, "C") for side in zero.shape)
    if sorted(layout) != sorted("NCHW"):
        return None
    axes = [layout.index(letter) for letter in "NCHW"]
    zero, noise, *ones = (
        np.transpose(r, axes).astype(np.float64) for r in results if r is not None
    )
    shift = zero[0, :, 0, 0]
    matrix = np.stack([(one[0, :, 0, 0] - shift) / 255 for one in ones], axis=1)
    expected = np.einsum("kc,nchw->nkhw", matrix, probes[1]) + shift[:, None, None]
    close = np.abs(noise - expected).max() <= 1e-5 * max(1, np.abs(noise).max())
    return (matrix, shift, layout) if close and (zero == shift[:, None, None]).all() else None


def _runner(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], tensor: str, image: FileInput
) -> Callable[[Array], Array | None]:
    """What nodes make of an image (N, C, H, W); None where they do not take it."""
    kind = next(v for v in model.graph.input if v.name == image.name).type.tensor_type.elem_type
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    axes = ["NCHW".index(letter) for letter in image.layout]
    if not nodes:
        return lambda pixels: np.transpose(pixels, axes) if kind == np.float32 else None
    from onnx.reference import ReferenceEvaluator  # slow to load, and many files need none

    make = onnx.helper
    read = {name for node in nodes for name in node.input}
    constants = [t for t in model.graph.initializer if t.name in read]
    ends = [
        make.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None)
        for name in (image.name, tensor)
    ]
    graph = make.make_graph(nodes, "prefix", ends[:1], ends[1:], constants)
    evaluator = ReferenceEvaluator(make.make_model(graph, opset_imports=model.opset_import))

    def run(pixels: Array) -> Array | None:
        feed = np.ascontiguousarray(np.transpose(pixels, axes)).astype(kind)
        try:
            result = np.asarray(evaluator.run(None, {image.name: feed})[0])
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            return None  # constants of a fixed size
        return result if result.dtype == np.float32 else None

    return run


def normalise_outside(
    image: FileInput, prefix: Prefix, said: InputFormat, known: tuple[Rgb, Rgb] | None, path: Path
) -> Normalisation:
    """What the file's input is fed: what was said, what the file says, or what is usual.

    Args:
        image: The file's input.
        prefix: What the file does to it.
        said: By the user.
        known: (mean, std) by a spec in the file.
        path: Of the file.

    Raises:
        OnnxError: something else than pixels of 0 to 255 was said of a UINT8 input.
    """
    plain: Rgb = (0.0, 0.0, 0.0)
    whole: Rgb = (1.0, 1.0, 1.0)
    is_bytes = image.kind == onnx.TensorProto.UINT8
    is_bgr = said.colour == "bgr" or (said.colour is None and _is_imagenet_bgr(prefix))
    order = "grey" if image.channels == 1 else "BGR" if is_bgr else "RGB"
    numbers = said.normalisation() or known
    if is_bytes and numbers not in (None, (plain, whole)):
        raise OnnxError(
            f"{path} takes UINT8, which are pixels of 0 to 255; leave --mean, --std and --scale out"
        )
    if numbers is None:
        if is_bytes or (prefix.largest is not None and prefix.largest > 1.5):
            numbers, text = (plain, whole), "pixels of 0 to 255"
        elif prefix.largest is not None:
            numbers, text = (plain, (255.0, 255.0, 255.0)), "pixels of 0 to 1"
        else:
            numbers = (IMAGENET_MEAN, IMAGENET_STD)
            text = "pixels normalised with ImageNet's mean and standard deviation"
        inside = " and normalises them itself" if prefix.largest is not None else ""
        logger.info(
            "nothing was said of the input of %s: assuming that it takes %s %s%s",
            *(path.name, order, text, inside),
        )
    return Normalisation(mean=numbers[0], std=numbers[1], is_bgr=is_bgr)


def _is_imagenet_bgr(prefix: Prefix) -> bool:
    """Whether what is subtracted from the input is ImageNet's mean in the order B, G, R."""
    if len(prefix.order) != 3 or not prefix.shift.any():
        return False
    mean = np.empty(3)
    mean[list(prefix.order)] = -prefix.shift / prefix.scale
    wanted = np.array(IMAGENET_MEAN[::-1])
    return any(np.allclose(mean, wanted / scale, rtol=0.02) for scale in (1, 255))


def cut_prefix(
    model: onnx.ModelProto, image: FileInput, prefix: Prefix, outside: Normalisation
) -> tuple[Rgb, Rgb]:
    """Make a graph read normalised RGB (N, 3, H, W) instead of what its file takes.

    Args:
        model: Its graph is changed.
        image: The file's input.
        prefix: What is cut.
        outside: What the file's input is fed.

    Returns:
        (mean, std) per channel R, G, B of pixels of 0 to 255 of what it reads now.
    """
    rgb = (2, 1, 0) if outside.is_bgr else (0, 1, 2)
    mean, std = np.array(outside.mean), np.array(outside.std)
    if image.channels == 1:
        mixed = np.array([GREY])
        std = std / prefix.scale
        mean = mean - prefix.shift * std
    else:
        reads = [rgb[channel] for channel in prefix.order]
        mixed = np.eye(3)[reads]
        std[reads] = std[reads] / prefix.scale
        mean[reads] = mean[reads] - prefix.shift * std[reads]
    _read_image(model, image, prefix, mixed)
    if prefix.largest is None:
        return outside.mean, outside.std
    return _rgb(mean), _rgb(std)


def _rgb(values: npt.NDArray[np.float64]) -> Rgb:
    # The graph's constants are float32, which hold seven digits.
    red, green, blue = (float(f"{value:.7g}") for value in values)
    return red, green, blue


def _read_image(
    model: onnx.ModelProto, image: FileInput, prefix: Prefix, mixed: npt.NDArray[np.float64]
) -> None:
    """Let the readers of the prefix's tensor read the image, its channels mixed by a matrix."""
    graph = model.graph
    view = GraphView(graph)
    readers = [n for n in view.readers[prefix.tensor] if n.op_type != "Shape"]
    added: list[onnx.NodeProto] = []
    tensor = image.name
    if mixed.shape != (3, 3) or (mixed != np.eye(3)).any():
        weight = view.own_weight(readers[0]) if len(readers) == 1 else None
        if weight is not None and prefix.layout == "NCHW":
            view.set_weight(readers[0], np.einsum("oihw,ic->ochw", weight, mixed))
        else:
            tensor = view.names.free(f"{image.name}.mixed")
            added.append(point_convolution(view, image.name, tensor, mixed))
    if prefix.layout != "NCHW":
        added.append(_transposed(tensor, view.names.free(f"{tensor}.last"), prefix.layout))
        tensor = added[-1].output[0]
    replaced = {prefix.tensor: tensor}
    if prefix.tensor != image.name and image.layout != "NCHW":
        # What still reads the input wants to know its shape.
        added.append(_transposed(image.name, view.names.free(f"{image.name}.shape"), image.layout))
        replaced[image.name] = added[-1].output[0]
    for node in graph.node:
        node.input[:] = [replaced.get(name, name) for name in node.input]
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    sides = [None, 3, None, None]
    del graph.input[:]
    graph.input.append(
        onnx.helper.make_tensor_value_info(image.name, onnx.TensorProto.FLOAT, sides)
    )
    keep_only(graph, graph.output[0].name)


def _transposed(source: str, name: str, layout: str) -> onnx.NodeProto:
    """A node that brings (N, C, H, W) to another layout."""
    order = ["NCHW".index(letter) for letter in layout]
    return onnx.helper.make_node("Transpose", [source], [name], name=name, perm=order)
