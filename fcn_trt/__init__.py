"""FCN semantic segmentation on live video: checkpoint, typed ONNX, engine bundle, label maps.

    network = fcn_trt.export("my.pth", size=(512, 1024), out="my.onnx")
    cache = fcn_trt.calibrate(network, images="frames", out="my.json")
    typed = fcn_trt.quantize(network, precision="int8", calibration=cache, out="my_int8.onnx")
    bundle = fcn_trt.build(typed, target="openvino", out="engines/my")
    for result in fcn_trt.stream(bundle, "drive.mp4"):
        result.frame, result.label_map

Importing this package loads neither torch, onnx, openvino, tensorrt nor pycuda; each is imported
by the function that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fcn_trt.version import __version__

if TYPE_CHECKING:
    from fcn_trt.api import (
        build,
        calibrate,
        compare,
        evaluate,
        export,
        load,
        quantize,
        run,
        stream,
    )
    from fcn_trt.engine.bundle import Bundle
    from fcn_trt.engine.options import BuildOptions
    from fcn_trt.errors import FcnTrtError
    from fcn_trt.network.file import Network
    from fcn_trt.runtime.segmenter import Segmenter
    from fcn_trt.spec import Result, ShapeRange, Spec

__all__ = [
    "BuildOptions",
    "Bundle",
    "FcnTrtError",
    "Network",
    "Result",
    "Segmenter",
    "ShapeRange",
    "Spec",
    "__version__",
    "build",
    "calibrate",
    "compare",
    "evaluate",
    "export",
    "load",
    "quantize",
    "run",
    "stream",
]

_HOMES = {
    "BuildOptions": "fcn_trt.engine.options",
    "Bundle": "fcn_trt.engine.bundle",
    "FcnTrtError": "fcn_trt.errors",
    "Network": "fcn_trt.network.file",
    "Result": "fcn_trt.spec",
    "Segmenter": "fcn_trt.runtime.segmenter",
    "ShapeRange": "fcn_trt.spec",
    "Spec": "fcn_trt.spec",
}
"""Where public names are that are not in `fcn_trt.api`."""


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562): the command line starts without."""
    if name not in __all__:
        raise AttributeError(f"module 'fcn_trt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "fcn_trt.api")), name)


def __dir__() -> list[str]:
    """The public names, whether or not they are loaded yet."""
    return sorted(__all__)
