"""FCN semantic segmentation on live video: checkpoint, typed ONNX, engine bundle, label maps.

Importing this package loads neither torch, onnx, openvino, tensorrt nor pycuda; each is imported
by the function that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fcn_trt.version import __version__

if TYPE_CHECKING:
    from fcn_trt.runtime.segmenter import Segmenter

__all__ = ["Segmenter", "__version__"]

_HOMES = {"Segmenter": "fcn_trt.runtime.segmenter"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562): the command line starts without."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fcn_trt' has no attribute {name!r}")
