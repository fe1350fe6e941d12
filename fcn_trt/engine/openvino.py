"""Typed ONNX to a network that OpenVINO runs on the CPU.

OpenVINO computes an FP32 graph in BF16 wherever the CPU can, unless it is told otherwise. So the
precision hint is always set from the graph's own type, and what was compiled is read back.

Source: OpenVINO, "CPU device", inference_precision and the runtime model's runtimePrecision.
"""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import openvino as ov

from fcn_trt.engine.bundle import Bundle, Compiled, refuse_foreign_files, write_bundle
from fcn_trt.errors import EngineError, OutputError
from fcn_trt.files import cache_folder, sha256
from fcn_trt.manifest import describe_precision
from fcn_trt.spec import Precision, Spec, read_spec

__all__ = [
    "build_openvino",
    "compile_network",
    "computes_bf16",
    "cpu_name",
    "openvino_core",
    "openvino_errors",
    "openvino_version",
    "proven_precision",
]

logger = logging.getLogger(__name__)

_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "u8": "int8", "i8": "int8"}


def build_openvino(network: Path, out: Path) -> Bundle:
    """Compile a typed ONNX on this CPU, prove its precision, and write the bundle.

    Args:
        network: ONNX that carries a spec.
        out: Folder of the bundle.

    Raises:
        OnnxError: the file is damaged or carries no spec.
        EngineError: OpenVINO cannot compile it, or compiles it to another precision.
        BundleError: the folder holds files that are no bundle's.
        OutputError: the bundle cannot be written.
    """
    refuse_foreign_files(out)
    spec = read_spec(network)
    compiled = compile_network(network, spec)
    found = Compiled(
        target="openvino",
        target_version=openvino_version(),
        device=cpu_name(),
        compute_capability=None,
        precision_proven=proven_precision(compiled),
    )
    return write_bundle(out, network=network, spec=spec, compiled=found)


def compile_network(network: Path, spec: Spec) -> Any:
    """Compile for this CPU; a second time for the same file comes from the user's cache.

    Args:
        network: The typed ONNX file.
        spec: Its spec.

    Returns:
        openvino.CompiledModel whose convolutions compute in the type that the graph prescribes.

    Raises:
        EngineError: OpenVINO cannot compile it, or compiles it to another precision.
    """
    if spec.precision not in _HINTS:
        raise EngineError(
            f"{network} is {spec.precision}, which the openvino target does not compute; it takes "
            f"{' and '.join(_HINTS)}"
        )
    config = {
        "INFERENCE_PRECISION_HINT": _HINTS[spec.precision],
        "PERFORMANCE_HINT": "LATENCY",
        **_cache_option(network),
    }
    with openvino_errors(f"compile {network}"):
        compiled = openvino_core().compile_model(network, "CPU", config)
    proven = proven_precision(compiled)
    if set(proven) != {spec.precision}:
        raise EngineError(
            f"{network} is {spec.precision}, but OpenVINO computes its convolutions on this CPU "
            f"({cpu_name()}) as {describe_precision(proven)}; build it with --precision fp32"
        )
    return compiled


def _cache_option(network: Path) -> dict[str, str]:
    """Where compiled blobs are kept; nowhere on a device whose home cannot be written.

    One folder per content: OpenVINO itself tells files apart by path, size and a time stamp of
    whole seconds, and would run the old weights of a network that was just rebuilt.
    """
    try:
        return {"CACHE_DIR": str(cache_folder("openvino", sha256(network)))}
    except OutputError as error:
        logger.warning("compiling without a cache, so each start compiles anew: %s", error)
        return {}


def proven_precision(compiled: Any) -> dict[str, int]:
    """Convolutions of a compiled network by the type they compute in, such as {"fp32": 57}."""
    counts: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if info["layerType"].value == "Convolution":
            kind = info["runtimePrecision"].value
            counts[_NAMES.get(kind, kind)] += 1
    return dict(sorted(counts.items()))


@contextmanager
def openvino_errors(work: str) -> Iterator[None]:
    """Say what OpenVINO could not do, with the last line of its own reason.

    Args:
        work: What is done in the block, such as "compile m.onnx".

    Raises:
        EngineError: OpenVINO raised in the block.
    """
    try:
        yield
    except RuntimeError as error:
        last = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise EngineError(f"OpenVINO {openvino_version()} cannot {work}: {last}") from error


@cache
def openvino_core() -> Any:
    """The one openvino.Core of this process.

    On Linux each Core's CPU plugin puts down a signal stack of its own and, when it goes, puts the
    one before it back, even if that is freed by now (2026.4, src/plugins/intel_cpu/src/plugin.cpp,
    SigAltStackSetup). After two Cores that did not go in reverse order, Ctrl-C is a segmentation
    fault.
    """
    return ov.Core()


def computes_bf16() -> bool:
    """Whether this CPU computes BF16, so that a BF16 network is faster than an FP32 one."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def openvino_version() -> str:
    """Its release, such as "2026.4.1", without the build it came from."""
    return str(ov.__version__).partition("-")[0]


def cpu_name() -> str:
    """What OpenVINO calls this CPU."""
    name = openvino_core().get_property("CPU", "FULL_DEVICE_NAME")
    return str(name).strip() or platform.machine()
