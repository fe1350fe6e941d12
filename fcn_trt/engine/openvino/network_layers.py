"""The layers of any ONNX file and what each of them costs by its shapes; nothing is compiled.

Only OpenVINO is needed, and no spec, so that a file from anywhere can be counted. Layers are those
that an engine runs by themselves: what is computed number by number goes with the layer before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn_trt.engine.openvino.builder import (
    CONVOLUTIONS,
    openvino_core,
    openvino_errors,
    operation_gmac,
)
from fcn_trt.errors import EngineError
from fcn_trt.network.file import whole_onnx
from fcn_trt.spec import Size, format_size

__all__ = ["NetworkFile", "NetworkLayer", "NetworkLayers", "operation_layer"]

KINDS = {"Convolution": "convolution", "MaxPool": "max pooling", "Concat": "concatenation"}
"""What operations are called here; one that has no name of ours keeps OpenVINO's."""

JOINING = frozenset({"Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum"})
"""Of two tensors; with a constant they are computed with the layer before."""

FUSED = JOINING | {
    *("Relu", "PRelu", "Clamp", "Sigmoid", "HSigmoid", "HSwish", "Swish", "Elu", "Gelu", "Mish"),
    *("Tanh", "BatchNormInference", "FakeQuantize", "Convert"),
    *("Reshape", "Squeeze", "Unsqueeze", "Result"),
}
"""Operations that are computed with the layer before, or move nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLayer:
    """A layer of a file, for one image.

    Attributes:
        name: Of its node.
        kind: What it does.
        outputs: Channels it writes.
        output_size: (height, width) of what it writes; (1, 1) where that is no plane.
        weights: Numbers in its kernel.
        macs: Multiply-accumulates.
        read: Activations it reads, in elements.
        written: Activations it writes, in elements.
    """

    name: str
    kind: str
    outputs: int
    output_size: Size
    weights: int
    macs: int
    read: int
    written: int

    @property
    def parameters(self) -> int:
        """Its weights, and a bias for each channel."""
        return self.weights + self.outputs if self.weights else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLayers:
    """All layers of a file at a size.

    Attributes:
        layers: In an order in which they can be computed.
        peak_activations: The most activations that are alive at once, in elements.
    """

    layers: tuple[NetworkLayer, ...]
    peak_activations: int


class NetworkFile:
    """An ONNX file that takes one image."""

    def __init__(self, path: Path) -> None:
        """Read a file.

        Raises:
            OnnxError: it is no ONNX file, or claims more than it carries.
            EngineError: OpenVINO cannot read it, or none of its inputs is an image.
        """
        self._path = path
        data = whole_onnx(path)
        with openvino_errors(f"read {path}"):
            self._model = openvino_core().read_model(data)
        images = [port for port in self._model.inputs if _channels_at(port) is not None]
        if len(images) != 1 or len(self._model.inputs) != 1:
            found = ", ".join(str(port.partial_shape) for port in self._model.inputs) or "none"
            raise EngineError(
                f"{path} takes {found}, but one input was expected, of an image of 1 or 3 "
                "channels; give a network that takes frames"
            )
        self._image = images[0]

    @property
    def size(self) -> Size | None:
        """(height, width) of its input; None where the file leaves it open."""
        height, width = (self._image.partial_shape[axis] for axis in self._axes())
        if height.is_dynamic or width.is_dynamic:
            return None
        return height.get_length(), width.get_length()

    def layers(self, size: Size) -> NetworkLayers:
        """Count its layers for one image.

        Args:
            size: (height, width) of the input in pixels.

        Raises:
            EngineError: it takes no input of this size.
        """
        shape = list(self._image.partial_shape)
        shape[0] = 1
        for axis, side in zip(self._axes(), size, strict=True):
            shape[axis] = side
        with openvino_errors(f"take {format_size(size)} through {self._path}"):
            model = self._model.clone()
            model.reshape({0: shape})
            return _counted(model)

    def _axes(self) -> tuple[int, int]:
        """Which dimensions of the input are its height and width."""
        return (2, 3) if _channels_at(self._image) == 1 else (1, 2)


def operation_layer(op: Any, read: int) -> NetworkLayer:
    """What an operation costs.

    Args:
        op: openvino.Node with static shapes.
        read: Activations it reads, in elements.
    """
    kind = op.get_type_name()
    name = "addition" if kind in JOINING else KINDS.get(kind, kind)
    shape = op.output(0).shape
    macs = weights = 0
    if kind in CONVOLUTIONS:
        weights, macs = math.prod(op.input_value(1).shape), round(1e9 * operation_gmac(op))
    elif kind == "MatMul":
        summed = op.input_value(0).shape[-2 if op.get_attributes()["transpose_a"] else -1]
        macs = math.prod(shape) * summed
    return NetworkLayer(
        name=op.get_friendly_name(),
        kind=name,
        outputs=shape[1] if len(shape) > 1 else 1,
        output_size=(shape[2], shape[3]) if len(shape) == 4 else (1, 1),
        weights=weights,
        macs=macs,
        read=read,
        written=_written(op),
    )


def _counted(model: Any) -> NetworkLayers:
    """The layers of a model of static shape, and how much of their results is alive at once."""
    layers: list[NetworkLayer] = []
    # By name of what depends on the image's values, and not on its shape alone: the name of what
    # made the tensor that it is in, which is another's where it is computed in place.
    made_by: dict[str, str] = {}
    elements: dict[str, int] = {}
    born: dict[str, int] = {}
    last: dict[str, int] = {}
    for op in model.get_ordered_ops():
        kind, name = op.get_type_name(), op.get_name()
        ports = [port.get_source_output() for port in op.inputs()]
        ports = [port for port in ports if port.get_node().get_name() in made_by]
        if kind == "ShapeOf" or not (ports or kind == "Parameter"):
            continue
        sources = [made_by[port.get_node().get_name()] for port in ports]
        if kind in FUSED and len(ports) == 1:
            made_by[name] = sources[0]
            continue
        made_by[name] = name
        elements[name] = _written(op)
        born[name] = last[name] = len(layers)
        last |= dict.fromkeys(sources, len(layers))
        if kind != "Parameter":
            layers.append(operation_layer(op, sum(math.prod(port.shape) for port in ports)))
    peak = max(
        (
            sum(elements[name] for name in elements if born[name] <= index <= last[name])
            for index in range(len(layers))
        ),
        default=0,
    )
    return NetworkLayers(layers=tuple(layers), peak_activations=peak)


def _written(op: Any) -> int:
    """Elements of its outputs; one that nobody reads, such as a pooling's indices, is not made."""
    return sum(math.prod(port.shape) for port in op.outputs() if port.get_target_inputs())


def _channels_at(port: Any) -> int | None:
    """Which dimension of an input has an image's channels; None where it is no image."""
    shape = port.partial_shape
    if shape.rank.is_dynamic or len(shape) != 4:
        return None
    for axis in (1, 3):
        if shape[axis].is_static and shape[axis].get_length() in (1, 3):
            return axis
    return None
