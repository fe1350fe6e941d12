"""Typed ONNX to bundle, whatever the target; and a bundle built again for this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.manifest import Target
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.tensorrt.progress import OnPhase
from fcn_trt.errors import EngineError
from fcn_trt.machine import this_machine
from fcn_trt.network.file import Network
from fcn_trt.spec import Precision

__all__ = ["build_engine", "rebuild", "require_buildable"]


def build_engine(
    network: Network,
    out: Path,
    *,
    target: Target,
    options: BuildOptions,
    inputs_sha256: str = "",
    on_phase: OnPhase = lambda _: None,
) -> Bundle:
    """Compile a typed ONNX, prove its precision, and write the bundle.

    Args:
        options: Limits of the builder; openvino has none.
        inputs_sha256: Of everything that a recipe made the network from.

    Raises:
        OnnxError, MissingExtraError, EngineError, BundleError, OutputError: as the builders say.
    """
    if target == "openvino":
        from fcn_trt.engine.openvino.builder import build_openvino

        _require_unlimited(options)
        return build_openvino(network, out, inputs_sha256=inputs_sha256)
    from fcn_trt.engine.tensorrt.builder import build_tensorrt

    return build_tensorrt(
        network,
        out,
        target=target,
        options=options,
        inputs_sha256=inputs_sha256,
        on_phase=on_phase,
    )


def require_buildable(target: Target, precision: Precision, options: BuildOptions) -> None:
    """Refuse before long work what this machine cannot build after it.

    Raises:
        MissingExtraError: the target's library is not installed.
        EngineError: it does not compile that here.
    """
    if target == "openvino":
        from fcn_trt.engine.openvino.builder import require_computed

        _require_unlimited(options)
        require_computed(precision)
        return
    from fcn_trt.engine.tensorrt.device import find_device
    from fcn_trt.engine.tensorrt.library import load_library

    find_device(target, precision, options)
    load_library(target)


def _require_unlimited(options: BuildOptions) -> None:
    """Refuse limits for a target that has none."""
    if options != BuildOptions():
        raise EngineError("limits of the device are for TensorRT; leave them out for openvino")


def rebuild(bundle: Bundle, *, on_phase: OnPhase = lambda _: None) -> Bundle:
    """Build a bundle again from the typed ONNX inside, for this machine and what it has installed.

    Args:
        bundle: It is replaced when the new one is whole.

    Raises:
        OnnxError, MissingExtraError, EngineError, BundleError, OutputError: as the builders say.
    """
    manifest, options = bundle.manifest, bundle.manifest.options
    gpu = this_machine().gpu
    if manifest.target != "openvino":
        here = () if gpu is None else (gpu.compute_capability,)
        options = replace(options, compute_capabilities=here)
    # Without inputs_sha256: the recipe that it may have come from would make another one.
    return build_engine(
        bundle.network,
        bundle.path,
        target=manifest.target,
        options=options,
        on_phase=on_phase,
    )
