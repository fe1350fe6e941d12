"""What TensorRT keeps between builds and loads: timings of tactics, and compiled kernels."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_trt.cache import cache_folder, read_kept, write_kept
from fcn_trt.engine.tensorrt.library import Log, TensorRtLibrary
from fcn_trt.errors import EngineError, OutputError
from fcn_trt.machine import Gpu

if TYPE_CHECKING:
    from tensorrt_types import IBuilderConfig, ICudaEngine, IExecutionContext

__all__ = ["RuntimeCache", "keep_timing_cache", "timing_cache_path", "use_timing_cache"]

_log = logging.getLogger(__name__)


def timing_cache_path(library: TensorRtLibrary, gpu: Gpu) -> Path:
    """Where the timings of a device and a release are.

    Raises:
        CacheError: others can write the user's cache.
        OutputError: it cannot be written.
    """
    device = re.sub(r"[^A-Za-z0-9]+", "-", f"{gpu.name} sm{gpu.compute_capability}").strip("-")
    return cache_folder("timing") / f"{library.target}-{library.version}-{device}.cache"


def use_timing_cache(config: IBuilderConfig, library: TensorRtLibrary, gpu: Gpu) -> None:
    """Start a build from what earlier ones timed; from nothing where that cannot be used."""
    try:
        known = read_kept(timing_cache_path(library, gpu))
    except OutputError as error:
        _log.warning("building without earlier timings, which takes longer: %s", error)
        known = b""
    cache: Any = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        _log.warning("building without earlier timings: %s refuses them", library.name)
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def keep_timing_cache(config: IBuilderConfig, library: TensorRtLibrary, gpu: Gpu) -> None:
    """Keep a build's timings; of two builds at once, those of the later one."""
    try:
        write_kept(timing_cache_path(library, gpu), bytes(config.get_timing_cache().serialize()))
    except OutputError as error:
        _log.warning("the next build will take as long as this one: %s", error)


class RuntimeCache:
    """Makes execution contexts that share what was compiled for them.

    Args:
        config: Of the engine, with the cache in it; None where the library has none.
        cache: The library's own cache; None where it has none.
        path: Where it is kept; None keeps nothing.
    """

    def __init__(
        self, library: TensorRtLibrary, config: Any, cache: Any, path: Path | None
    ) -> None:
        self._library, self._config, self._cache, self._path = library, config, cache, path

    @classmethod
    def of(cls, library: TensorRtLibrary, engine: ICudaEngine, plan_sha256: str) -> RuntimeCache:
        """The cache of a plan; empty where there is none yet, or none that the library takes."""
        if library.target != "tensorrt-rtx" or not hasattr(engine, "create_runtime_config"):
            return cls(library, None, None, None)
        config: Any = engine.create_runtime_config()
        cache = config.create_runtime_cache()
        path = _path(library, plan_sha256)
        known = read_kept(path) if path else b""
        if known and not cache.deserialize(known):
            _log.warning("starting without what was compiled before: %s refuses it", library.name)
        config.set_runtime_cache(cache)
        if hasattr(library.trt, "DynamicShapesKernelSpecializationStrategy"):
            # A graph would keep the general kernel that stands in until the special one is there.
            strategies: Any = library.trt.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        return cls(library, config, cache, path)

    def context(self, engine: ICudaEngine, log: Log) -> IExecutionContext:
        """One more execution context.

        Raises:
            EngineError: the device has no memory for it.
        """
        config = () if self._config is None else (self._config,)
        context: Any = engine.create_execution_context(*config)
        if context is None:
            raise EngineError(
                f"{self._library.name} cannot make an execution context: {log.reason()}; close "
                "other programs that use the GPU, or build with a smaller --workspace"
            )
        return context

    def close(self) -> None:
        """Write down what was compiled, and let go of the library's objects.

        What cannot be kept costs the next start time and nothing else.
        """
        cache, path = self._cache, self._path
        self._config = self._cache = None
        if cache is None or path is None:
            return
        content: Any = cache.serialize()
        if content is None:
            _log.warning(
                "the next start takes as long as this one: %s keeps nothing", self._library.name
            )
            return
        data = bytes(content)
        try:
            if data != read_kept(path):
                write_kept(path, data)
        except OutputError as error:
            _log.warning("the next start takes as long as this one: %s", error)


def _path(library: TensorRtLibrary, plan_sha256: str) -> Path | None:
    try:
        return cache_folder("runtime") / f"{library.target}-{library.version}-{plan_sha256}.cache"
    except OutputError as error:
        _log.warning("what is compiled for this start cannot be kept: %s", error)
        return None
