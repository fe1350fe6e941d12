"""TensorRT's own report of an engine's layers, reduced to the type of each convolution.

The report is JSON whose keys differ between releases: 10.x gives each tensor a text under
"Format/Datatype", 11.x splits it into "Format" and "Datatype". A fused layer names the ONNX nodes
it came from under "Metadata"; where that is missing, in its own name.

Source: TensorRT developer guide, "Engine Inspector"; 10.x to 11.x migration guide, "I/O Tensors".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fcn_trt.errors import EngineError
from fcn_trt.spec import INPUT_NAME, Spec

if TYPE_CHECKING:
    from tensorrt_types import ICudaEngine, TensorRt

__all__ = ["layer_report", "read_report"]

_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_COMPUTES = re.compile(r"conv|gemm|fprop|xmma", re.IGNORECASE)
"""In the type of a layer that convolves, or in its tactic where the type is only "fusion"; the
others move, reformat or add what a convolution made, and may name its node, too."""

_TYPES = (
    ("int8", re.compile(r"\bint8\b|\bi8", re.IGNORECASE)),
    ("fp8", re.compile(r"\bfp8\b|e4m3", re.IGNORECASE)),
    ("bf16", re.compile(r"\bbf16\b|bfloat16", re.IGNORECASE)),
    ("fp16", re.compile(r"\bfp16\b|\bhalf\b|float16", re.IGNORECASE)),
    ("fp32", re.compile(r"\bfp32\b|\bfloat\b|float32", re.IGNORECASE)),
)


def layer_report(trt: TensorRt, engine: ICudaEngine, spec: Spec) -> str:
    """The engine's own report of its layers, as JSON.

    Args:
        engine: Built with detailed profiling verbosity; otherwise layers are names only.

    Raises:
        EngineError: the device has no memory for it.
    """
    inspector = engine.create_engine_inspector()
    if spec.dynamic is not None:
        # Without a shape the report says "N/A due to dynamic shapes" instead of the types.
        context: Any = engine.create_execution_context()
        if context is None:
            raise EngineError(
                "the engine is built, but there is no memory to ask it about its layers"
            )
        context.set_input_shape(INPUT_NAME, (spec.batch, 3, *spec.input_size))
        inspector.execution_context = context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def read_report(text: str) -> dict[str, str]:
    """The types that stand in a layer report, by the names of the ONNX nodes.

    Args:
        text: The report as JSON.

    Raises:
        EngineError: it is no such report.
    """
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"the engine's layer report cannot be read ({error!r}); build again with -v"
        ) from error
    types: dict[str, str] = {}
    for layer in layers:
        # Without detailed verbosity, a layer is its name and nothing else.
        if isinstance(layer, Mapping) and _computes(layer):
            kind = _compute_type(layer)
            if kind is not None:
                for name in _onnx_nodes(layer):
                    types.setdefault(name, kind)
    return types


def _computes(layer: Mapping[str, Any]) -> bool:
    return any(_COMPUTES.search(str(layer.get(key, ""))) for key in ("LayerType", "TacticName"))


def _onnx_nodes(layer: Mapping[str, Any]) -> list[str]:
    """The ONNX nodes that a layer was made of."""
    named: list[str] = _ONNX_LAYER.findall(str(layer.get("Metadata", "")))
    return named or [part.strip() for part in str(layer.get("Name", "")).split(" + ")]


def _compute_type(layer: Mapping[str, Any]) -> str | None:
    """The type a layer multiplies in: of its weights, or of its first input.

    Weights and input have the same type in a strongly typed network, except behind Q/DQ, where the
    fused layer's input is the quantised one.
    """
    inputs = layer.get("Inputs") or [{}]
    first = inputs[0] if isinstance(inputs[0], Mapping) else {}
    weights = layer.get("Weights")
    for text in (
        weights.get("Type") if isinstance(weights, Mapping) else None,
        first.get("Datatype"),
        first.get("Format/Datatype"),
    ):
        found = next((name for name, pattern in _TYPES if pattern.search(str(text or ""))), None)
        if found is not None:
            return found
    return None
