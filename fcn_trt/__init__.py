"""FCN semantic segmentation on live video: checkpoint, typed ONNX, engine bundle, label maps.

Importing this package loads neither torch, onnx, openvino, tensorrt nor pycuda; each is imported
by the function that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcn_trt.runtime.segmenter import Segmenter

__all__ = ["Segmenter"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load `Segmenter` when it is first asked for (PEP 562): the command line starts without it."""
    if name == "Segmenter":
        from fcn_trt.runtime.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module 'fcn_trt' has no attribute {name!r}")
