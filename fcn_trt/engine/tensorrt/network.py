"""A typed ONNX file as TensorRT reads it, before anything is compiled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fcn_trt.engine.proof import Convolution, convolution_gmac
from fcn_trt.errors import EngineError
from fcn_trt.spec import Spec

if TYPE_CHECKING:
    from tensorrt_types import (
        IConvolutionLayer,
        ILayer,
        ILogger,
        INetworkDefinition,
        ITensor,
        OnnxParser,
        ParserError,
        TensorRt,
    )

    from fcn_trt.engine.tensorrt.library import TensorRtLibrary

__all__ = ["network_convolutions", "parse_network"]

_PRECISIONS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}


def parse_network(
    library: TensorRtLibrary,
    network: INetworkDefinition,
    logger: ILogger,
    data: bytes,
    path: Path,
) -> None:
    """Read an ONNX file into an empty network.

    Args:
        logger: Of the library's own class.
        path: What to call the file in messages.

    Raises:
        EngineError: the library does not take it; the node is named.
    """
    parser: OnnxParser = library.trt.OnnxParser(network, logger)
    # What is no ONNX at all parses without an error, into a network without outputs.
    if not parser.parse(data) or network.num_outputs == 0:
        raise EngineError(f"{path} cannot become an engine: {_reason(parser, library.name)}")


def _reason(parser: OnnxParser, name: str) -> str:
    """The parser's first error as a sentence that names the node."""
    if parser.num_errors == 0:
        return f"{name} finds no network in it; export it again"
    error: ParserError = parser.get_error(0)
    operator, node = error.node_operator(), error.node_name()
    described = " ".join(str(error.desc()).split())
    code = str(getattr(error.code(), "name", error.code()))
    if code.startswith("UNSUPPORTED_NODE") or described == "false":
        return (
            f"{name} does not take the operator {operator} of node {node!r} ({code}, "
            f"{error.func()}); replace it, or export the model with `fcn-trt export`"
        )
    return f"{name} stops at node {node!r} ({operator}): {described}; export it again"


def network_convolutions(
    trt: TensorRt, network: INetworkDefinition, spec: Spec
) -> list[Convolution]:
    """The convolutions as the library typed them, before it compiles anything.

    A network of dynamic shape is counted at the shape that it is optimised for.
    """
    image = network.get_input(0)
    declared = image.shape
    image.shape = (spec.batch, 3, *spec.input_size)
    try:
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        makers: dict[str, ILayer] = {layer.get_output(0).name: layer for layer in layers}
        return [
            _convolution(trt, layer, makers)
            for layer in layers
            if layer.type in (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION)
        ]
    finally:
        image.shape = declared


def _convolution(trt: TensorRt, layer: ILayer, makers: dict[str, ILayer]) -> Convolution:
    """One convolution; behind a DequantizeLinear it computes in the type that was quantised to."""
    image: ITensor = layer.get_input(0)
    source, maker = image, makers.get(image.name)
    if maker is not None and maker.type == trt.LayerType.DEQUANTIZE:
        source = maker.get_input(0)
    kind = source.dtype.name
    # The bindings give the base class; this is how they let a layer be seen as what it is.
    transposed = layer.type == trt.LayerType.DECONVOLUTION
    layer.__class__ = trt.IDeconvolutionLayer if transposed else trt.IConvolutionLayer
    convolution: IConvolutionLayer = layer  # the other class has the same properties
    pixels, others = convolution.get_output(0).shape, image.shape[1]
    if transposed:
        pixels, others = image.shape, convolution.num_output_maps
    kernel = (0, others // convolution.num_groups, *convolution.kernel_size_nd)
    return Convolution(
        name=convolution.name,
        precision=_PRECISIONS.get(kind, kind),
        gmac=convolution_gmac(pixels, kernel),
    )
