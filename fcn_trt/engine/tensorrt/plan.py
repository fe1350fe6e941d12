"""A plan on the GPU it was built for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fcn_trt.engine.bundle import PLAN_NAME, Bundle
from fcn_trt.engine.tensorrt.collector import collector_paused
from fcn_trt.engine.tensorrt.library import Log, TensorRtLibrary, load_library
from fcn_trt.errors import EngineError
from fcn_trt.network.file import Network

if TYPE_CHECKING:
    from tensorrt_types import ICudaEngine

__all__ = ["deserialise", "library_of", "load_engine"]


def library_of(bundle: Bundle) -> TensorRtLibrary:
    """The library that runs a bundle's plan.

    Raises:
        MissingExtraError: it is not installed.
        EngineError: the bundle holds no plan.
    """
    target = bundle.manifest.target
    if target == "openvino":
        raise EngineError(f"{bundle.path} is for openvino and holds no plan; build it for tensorrt")
    return load_library(target)


def load_engine(bundle: Bundle, log: Log | None = None) -> ICudaEngine:
    """Load a bundle's engine onto the GPU; its weights come from the ONNX file if it has none.

    Args:
        bundle: One that was built for this machine, see `preflight`.
        log: Where the library's errors are kept, also those of what is made from the engine.

    Returns:
        The engine; it keeps what it needs of the library alive.

    Raises:
        MissingExtraError: the library is not installed.
        BundleError: a file of the bundle was altered.
        EngineError: the library refuses the plan.
    """
    library, log, options = library_of(bundle), log or Log(), bundle.manifest.options
    with collector_paused():
        plan = bundle.read(PLAN_NAME)
        engine = deserialise(library, plan, log, host_code=options.version_compatible)
        if options.strip:
            _refit(library, engine, bundle.network, log)
        return engine


def deserialise(library: TensorRtLibrary, plan: bytes, log: Log, *, host_code: bool) -> ICudaEngine:
    """Make an engine of a plan, with the collector paused.

    Args:
        log: Where the library's errors are kept.
        host_code: Whether a version-compatible plan may bring its own runtime.

    Raises:
        EngineError: the library refuses it.
    """
    log.clear()
    runtime = library.trt.Runtime(log.logger(library.trt))
    if host_code:
        runtime.engine_host_code_allowed = True
    engine: Any = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(
            f"{library.name} refuses the plan: {log.reason()}; build the bundle again"
        )
    return engine


def _refit(library: TensorRtLibrary, engine: ICudaEngine, network: Network, log: Log) -> None:
    """Put the weights back into an engine that was built without them."""
    trt = library.trt
    logger = log.logger(trt)
    refitter = trt.Refitter(engine, logger)
    parser = trt.OnnxParserRefitter(refitter, logger)
    if not parser.refit_from_bytes(network.read_bytes()) or not refitter.refit_cuda_engine():
        raise EngineError(
            f"{library.name} cannot put the weights of {network} back: {log.reason()}; build the "
            "bundle again"
        )
