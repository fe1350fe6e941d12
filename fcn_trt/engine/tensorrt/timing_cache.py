"""What TensorRT measured for one build, kept for the next on the same device and release."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_trt.engine.tensorrt.library import TensorRtLibrary
from fcn_trt.errors import OutputError
from fcn_trt.files import cache_folder, write_atomic
from fcn_trt.machine import Gpu

if TYPE_CHECKING:
    from tensorrt_types import IBuilderConfig

__all__ = ["keep_timing_cache", "timing_cache_path", "use_timing_cache"]

_log = logging.getLogger(__name__)


def timing_cache_path(library: TensorRtLibrary, gpu: Gpu) -> Path:
    """Where the timings of a device and a release are.

    Raises:
        OutputError: the user's cache cannot be written.
    """
    device = re.sub(r"[^A-Za-z0-9]+", "-", f"{gpu.name} sm{gpu.compute_capability}").strip("-")
    return cache_folder("timing") / f"{library.target}-{library.version}-{device}.cache"


def use_timing_cache(config: IBuilderConfig, library: TensorRtLibrary, gpu: Gpu) -> None:
    """Start a build from what earlier ones timed; from nothing where that cannot be used."""
    try:
        known = timing_cache_path(library, gpu).read_bytes()
    except FileNotFoundError:
        known = b""
    except OSError as error:
        _log.warning("building without earlier timings, which takes longer: %s", error)
        known = b""
    cache: Any = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        _log.warning("building without earlier timings: %s refuses them", library.name)
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def keep_timing_cache(config: IBuilderConfig, library: TensorRtLibrary, gpu: Gpu) -> None:
    """Keep a build's timings; of two builds at once, those of the later one."""
    try:
        write_atomic(timing_cache_path(library, gpu), bytes(config.get_timing_cache().serialize()))
    except OutputError as error:
        _log.warning("the next build will take as long as this one: %s", error)
