"""Typed ONNX to bundle, whatever the target."""

from __future__ import annotations

from pathlib import Path

from fcn_trt.engine.bundle import Bundle, CheckBundle
from fcn_trt.engine.manifest import Target
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.tensorrt.progress import OnPhase
from fcn_trt.errors import EngineError
from fcn_trt.network.file import Network
from fcn_trt.spec import Precision

__all__ = ["build_engine", "require_buildable"]


def build_engine(
    network: Network,
    out: Path,
    *,
    target: Target,
    options: BuildOptions,
    inputs_sha256: str = "",
    check: CheckBundle = lambda _: (),
    on_phase: OnPhase = lambda _: None,
) -> Bundle:
    """Compile a typed ONNX, prove its precision, and write the bundle.

    Args:
        options: Limits of the builder; openvino has none.
        check: As for `write_bundle`.
        inputs_sha256: Of everything that a recipe made the network from.

    Raises:
        OnnxError, MissingExtraError, EngineError, BundleError, OutputError: as the builders say.
    """
    if target == "openvino":
        from fcn_trt.engine.openvino.builder import build_openvino

        _require_unlimited(options)
        return build_openvino(network, out, inputs_sha256=inputs_sha256, check=check)
    from fcn_trt.engine.tensorrt.builder import build_tensorrt

    return build_tensorrt(
        network,
        out,
        target=target,
        options=options,
        inputs_sha256=inputs_sha256,
        check=check,
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
