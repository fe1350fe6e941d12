"""Which of this package's own files each step of a recipe runs, as one hash.

A constant that is edited changes what a step makes as much as a key of the recipe does, and the
version of the package stays as it is while somebody works on it.
"""

from __future__ import annotations

from fcn_trt.hashes import package_sha256
from fcn_trt.spec import Precision

__all__ = ["build_code", "export_code", "type_code"]

_TYPING = ("export/half.py", "export/fp16_range.py")
"""Files of the export folder that only typing runs."""

_QUANTISING = (
    "export/amax.py",
    "export/calibration_cache.py",
    "export/histogram.py",
    "export/network_sha256.py",
    "export/packed_histogram.py",
    "export/qdq_places.py",
    "export/quantisation.py",
    "export/quantize.py",
)
"""Files of the export folder that only int8 and fp8 run."""

_ELSEWHERE = (
    "export/calibrate.py",
    "export/calibration_state.py",
    "export/calibration_table.py",
    "export/imported.py",
    "export/product_network.py",
    "export/torch_process.py",
)
"""Files of the export folder that no recipe runs."""

_RANGE = ("engine/tensor_values.py", "stages/preprocess.py", "range_images.py")
"""What finds on images what fp16 cannot hold, beside `_TYPING`."""


def export_code() -> str:
    """SHA-256 of what makes an FP32 network of a model."""
    others = (*_TYPING, *_QUANTISING, *_ELSEWHERE)
    return package_sha256("export/*.py", "export/*.json", "spec.py", "labels.*", leave_out=others)


def type_code(precision: Precision, *, streets: bool) -> str:
    """SHA-256 of what types a network.

    Args:
        precision: What it is typed to.
        streets: Whether fp16 is checked on drawn streets, and not on a folder of images.
    """
    files = [*_TYPING, "export/network.py"]
    if precision in ("int8", "fp8"):
        files += _QUANTISING
    if precision == "fp16":
        files += [*_RANGE, "demo/*.py" if streets else "video/image_source.py"]
    return package_sha256(*files)


def build_code() -> str:
    """SHA-256 of what makes a bundle of a typed network."""
    return package_sha256("engine/**/*.py")
