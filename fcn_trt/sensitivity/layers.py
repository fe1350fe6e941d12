"""The convolutions that can be quantised, and what each costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fcn_trt.engine.proof import convolution_gmac

if TYPE_CHECKING:
    import onnx

    from fcn_trt.spec import QuantisedPrecision

__all__ = ["Layer", "find_layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One convolution.

    Attributes:
        name: Of its ONNX node.
        gmac: 1e9 multiply-accumulates of one inference.
    """

    name: str
    gmac: float


def find_layers(graph: onnx.GraphProto, precision: QuantisedPrecision) -> tuple[Layer, ...]:
    """The convolutions that can be quantised, in the network's order.

    Args:
        graph: Of an FP32 network of static shape, with the shape of every tensor.
    """
    from fcn_trt.precision.qdq import convolution_names

    names = set(convolution_names(graph, precision))
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return tuple(
        Layer(
            name=node.name,
            gmac=convolution_gmac(
                shapes[node.input[0] if node.op_type == "ConvTranspose" else node.output[0]],
                weights[node.input[1]],
            ),
        )
        for node in graph.node
        if node.name in names
    )
