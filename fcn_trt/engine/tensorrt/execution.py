"""A plan at work: execution contexts that enqueue it on a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.tensorrt.caches import RuntimeCache
from fcn_trt.engine.tensorrt.collector import collector_paused
from fcn_trt.engine.tensorrt.library import Log, TensorRtLibrary
from fcn_trt.engine.tensorrt.plan import library_of, load_engine
from fcn_trt.errors import EngineError
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, Spec

if TYPE_CHECKING:
    from tensorrt_types import ICudaEngine, IExecutionContext

__all__ = ["EngineExecutor", "LoadedEngine"]


class EngineExecutor:
    """One execution context; it computes one batch at a time.

    Args:
        context: A fresh one.
        images: (N, 3, H, W), at which a dynamic one is fixed.
        library: For messages.
        log: What the library says.

    Raises:
        EngineError: the engine does not take these images, or has other ends than the spec says.
    """

    def __init__(
        self,
        context: IExecutionContext,
        spec: Spec,
        images: tuple[int, int, int, int],
        library: TensorRtLibrary,
        log: Log,
    ) -> None:
        self._context: IExecutionContext | None = context
        self._library, self._log = library, log
        self._addresses: dict[str, int] = {}
        logits = (images[0], len(spec.classes), *spec.logits_size_of(images[2:]))
        if not context.set_input_shape(INPUT_NAME, images):
            raise self._refused(f"images of {images}")
        found = tuple(context.get_tensor_shape(OUTPUT_NAME))
        if found != logits:
            raise EngineError(
                f"the engine makes logits of {found} and its manifest says {logits}; build the "
                "bundle again"
            )

    def enqueue(self, inputs: Mapping[str, int], outputs: Mapping[str, int], stream: int) -> None:
        """Start the network on a stream; see `fcn_trt.runtime.backend.Executor`."""
        context = self._context
        if context is None:
            raise RuntimeError("this executor is closed")
        self._log.clear()
        with collector_paused():
            for name, address in {**inputs, **outputs}.items():
                if self._addresses.get(name) != address:
                    if not context.set_tensor_address(name, address):
                        raise self._refused(f"memory for its tensor {name!r}")
                    self._addresses[name] = address
            if not context.execute_async_v3(stream):
                raise self._refused("to start the network")

    def close(self) -> None:
        """Free the context; a second call does nothing."""
        with collector_paused():
            self._context = None

    def _refused(self, what: str) -> EngineError:
        return EngineError(
            f"{self._library.name} refuses {what}: {self._log.reason()}; build the bundle again if "
            "that does not pass"
        )


class LoadedEngine:
    """A bundle's engine on the GPU; the CUDA context must be current where it is made and closed.

    Args:
        bundle: One that was built for this machine, see `preflight`.

    Raises:
        MissingExtraError: the library is not installed.
        EngineError: the library refuses the plan, or it has other types than the pipeline.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._spec = bundle.manifest.spec
        self._log = Log()
        self._library = library_of(bundle)
        engine = load_engine(bundle, self._log)
        self._engine: ICudaEngine | None = engine
        _check_types(self._library, engine, self._spec)
        with collector_paused():
            self._cache = RuntimeCache.of(self._library, engine, bundle.plan_sha256)

    @property
    def library(self) -> str:
        """Name and release of the library."""
        return self._library.name

    def executor(self, images: tuple[int, int, int, int]) -> EngineExecutor:
        """One more execution context; see `fcn_trt.runtime.backend.Engine`."""
        if self._engine is None:
            raise RuntimeError("this engine is closed")
        self._log.clear()
        with collector_paused():
            context = self._cache.context(self._engine, self._log)
            return EngineExecutor(context, self._spec, images, self._library, self._log)

    def close(self) -> None:
        """Free the engine, after its executors; a second call does nothing."""
        engine, self._engine = self._engine, None
        if engine is not None:
            with collector_paused():
                self._cache.close()
                del engine


def _check_types(library: TensorRtLibrary, engine: ICudaEngine, spec: Spec) -> None:
    """Refuse an engine whose ends have other types: the memory around it would be too small."""
    trt = library.trt
    types = {"float32": trt.DataType.FLOAT, "float16": trt.DataType.HALF}
    for name, expected in ((INPUT_NAME, "float32"), (OUTPUT_NAME, spec.logits_type)):
        found = engine.get_tensor_dtype(name)
        if found != types[expected]:
            raise EngineError(
                f"the engine's tensor {name!r} is {found} and must be {expected}; build the bundle "
                "again"
            )
