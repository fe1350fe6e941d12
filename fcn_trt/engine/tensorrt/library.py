"""The one place that knows which TensorRT is installed, and in what its releases differ.

`tensorrt` 10.0 to 11.x and `tensorrt_rtx` have nearly the same Python interface, so everything
that builds or loads engines takes the imported library as a value, `trt`. Where a release lacks a
name, that name stands here behind `hasattr`; `make bindings` checks every other one against the
real bindings of the releases that it lists.

Source: NVIDIA TensorRT 10.x to 11.x migration guide; the bindings themselves.
"""

from __future__ import annotations

import importlib
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fcn_trt.engine.manifest import TARGET_MODULES, TARGET_NAMES
from fcn_trt.engine.options import SUPPORTED_TENSORRT, is_supported_tensorrt
from fcn_trt.errors import EngineError, MissingExtraError

if TYPE_CHECKING:
    from tensorrt_types import (
        Builder,
        IBuilderConfig,
        ICudaEngine,
        ILogger,
        INetworkDefinition,
        TensorRt,
    )

__all__ = [
    "Log",
    "TensorRtLibrary",
    "TensorRtTarget",
    "limit_capabilities",
    "load_library",
    "scratch_bytes",
    "strongly_typed_network",
]

TensorRtTarget: TypeAlias = Literal["tensorrt", "tensorrt-rtx"]

_LEAST_CAPABILITY = 75
"""Members of ComputeCapability below this are no capabilities: NONE and CURRENT."""
_NOISE = re.compile(r"catchCudaError|cudaError 35|Unable to determine GPU memory usage")
"""What the library also logs wherever there is no GPU, whatever went wrong."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtLibrary:
    """An imported library.

    Attributes:
        target: Which.
        trt: The module.
        version: Its release, such as "10.3.0" or "1.7.1.116".
    """

    target: TensorRtTarget
    trt: TensorRt
    version: str

    @property
    def name(self) -> str:
        """Name and release, for people."""
        return f"{TARGET_NAMES[self.target]} {self.version}"


def load_library(target: TensorRtTarget) -> TensorRtLibrary:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        MissingExtraError: it is not installed, or its own libraries are missing.
        EngineError: this package does not support its release.
    """
    try:
        trt: Any = importlib.import_module(TARGET_MODULES[target])
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"{TARGET_NAMES[target]} cannot be loaded ({error}); `fcn-trt doctor` says how to "
            "install it"
        ) from error
    library = TensorRtLibrary(target=target, trt=trt, version=str(trt.__version__))
    if target == "tensorrt" and not is_supported_tensorrt(library.version):
        raise EngineError(
            f"{library.name} is installed, but this package takes {SUPPORTED_TENSORRT}; on a "
            "Jetson that is JetPack 6.1 or later"
        )
    return library


@dataclass(slots=True)
class Log:
    """What the library says: into Python's logging, and its errors kept for our own messages.

    The library may call from any of its threads.
    """

    errors: list[str] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)

    def logger(self, trt: TensorRt) -> ILogger:
        """A logger of the library's own class; it must outlive what it is given to."""
        log = self

        class Logger(trt.ILogger):
            def __init__(self) -> None:
                # pybind11: the C++ part has to be made by name, not through super().
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                log.record(message, is_error=severity <= trt.ILogger.Severity.ERROR)

        return Logger()

    def record(self, message: str, *, is_error: bool) -> None:
        """Keep one message."""
        if is_error:
            (self.noise if _NOISE.search(message) else self.errors).append(message.strip())
        _log.debug("%s", message)

    def clear(self) -> None:
        """Forget what earlier work went wrong with."""
        self.errors.clear()
        self.noise.clear()

    def reason(self) -> str:
        """The first error, which the later ones follow from, on one line."""
        first = [*self.errors, *self.noise, "it gave no reason"][0]
        return " ".join(first.split())[:400]


def strongly_typed_network(trt: TensorRt, builder: Builder) -> INetworkDefinition:
    """An empty network whose types are those of the ONNX graph and nothing else.

    The flag is 1 in 10.x and 0, ignored, in 11.x and RTX, where every network is so.
    """
    return builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def limit_capabilities(
    trt: TensorRt, config: IBuilderConfig, compute_capabilities: tuple[str, ...]
) -> None:
    """Say which GPUs TensorRT-RTX compiles for; TensorRT compiles for the one it finds.

    Raises:
        EngineError: the library has no such compute capability.
    """
    if not (
        hasattr(trt, "ComputeCapability")
        and hasattr(config, "num_compute_capabilities")
        and hasattr(config, "set_compute_capability")
    ):
        raise EngineError("this library compiles for the GPU it finds and cannot be told others")
    known = {
        f"{value // 10}.{value % 10}": member
        for member in trt.ComputeCapability.__members__.values()
        if (value := int(member)) >= _LEAST_CAPABILITY
    }
    for text in compute_capabilities:
        if text not in known:
            raise EngineError(
                f"TensorRT-RTX does not compile for compute capability {text}; it knows "
                f"{', '.join(known)} (Jetsons and data-centre GPUs are for --target tensorrt)"
            )
    config.num_compute_capabilities = len(compute_capabilities)
    for index, text in enumerate(compute_capabilities):
        config.set_compute_capability(known[text], index)


def scratch_bytes(engine: ICudaEngine) -> int:
    """Device memory that one execution context of an engine needs.

    Raises:
        EngineError: the release does not say it where this package looks.
    """
    if hasattr(engine, "device_memory_size_v2"):  # from 10.3 on
        return int(engine.device_memory_size_v2)
    if hasattr(engine, "device_memory_size"):
        return int(engine.device_memory_size)
    raise EngineError("this release of TensorRT does not say how much memory an engine needs")
