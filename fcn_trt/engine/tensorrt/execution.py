"""A plan at work: execution contexts that enqueue it on a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.tensorrt.collector import collector_paused
from fcn_trt.engine.tensorrt.library import TensorRtLibrary, load_library
from fcn_trt.engine.tensorrt.plan import load_engine
from fcn_trt.engine.tensorrt.runtime_cache import RuntimeCache
from fcn_trt.errors import EngineError
from fcn_trt.spec import INPUT_NAME, Spec

if TYPE_CHECKING:
    from tensorrt_types import ICudaEngine, IExecutionContext

__all__ = ["EngineExecutor", "LoadedEngine"]


class EngineExecutor:
    """One execution context; it computes one batch at a time.

    Args:
        context: A fresh one.
        spec: The network; a dynamic one is fixed at the shape that it is optimised for.
        library: For messages.

    Raises:
        EngineError: the engine has another input.
    """

    def __init__(self, context: IExecutionContext, spec: Spec, library: TensorRtLibrary) -> None:
        self._context: IExecutionContext | None = context
        self._library = library
        self._addresses: dict[str, int] = {}
        shape = (spec.batch, 3, *spec.input_size)
        if not context.set_input_shape(INPUT_NAME, shape):
            raise EngineError(f"{library.name} refuses images of {shape}; build the bundle again")

    def enqueue(self, inputs: Mapping[str, int], outputs: Mapping[str, int], stream: int) -> None:
        """Start the network on a stream; see `fcn_trt.runtime.executor.Executor`."""
        context = self._context
        if context is None:
            raise RuntimeError("this executor is closed")
        for name, address in {**inputs, **outputs}.items():
            if self._addresses.get(name) != address:
                if not context.set_tensor_address(name, address):
                    raise EngineError(
                        f"{self._library.name} has no tensor {name!r}; build the bundle again"
                    )
                self._addresses[name] = address
        if not context.execute_async_v3(stream):
            raise EngineError(
                f"{self._library.name} cannot start the network; --debug shows what it logged"
            )

    def close(self) -> None:
        """Free the context; a second call does nothing."""
        self._context = None


class LoadedEngine:
    """A bundle's engine on the GPU; the CUDA context must be current where it is made and closed.

    Args:
        bundle: One that was built for this machine, see `preflight`.

    Raises:
        MissingExtraError: the library is not installed.
        EngineError: the library refuses the plan.
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._spec = manifest.spec
        self._engine: ICudaEngine | None = load_engine(bundle)
        if manifest.target == "openvino":
            raise EngineError(f"{bundle.path} is for openvino and holds no plan")
        self._library = load_library(manifest.target)
        self._cache = RuntimeCache.of(self._library, self._engine, bundle.plan_sha256)

    @property
    def library(self) -> str:
        """Name and release of the library."""
        return self._library.name

    def executor(self) -> EngineExecutor:
        """One more execution context.

        Raises:
            EngineError: the device has no memory for it.
        """
        if self._engine is None:
            raise RuntimeError("this engine is closed")
        with collector_paused():
            context = self._cache.context(self._engine)
        return EngineExecutor(context, self._spec, self._library)

    def close(self) -> None:
        """Free the engine, after its executors; a second call does nothing."""
        engine, self._engine = self._engine, None
        if engine is not None:
            self._cache.keep()
            self._cache.close()
