"""A bundle of a model with random weights, kept in the user's cache: its speed is that of any.

What is quantised is calibrated on two drawn streets, since how fast a network is does not follow
from how well it predicts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fcn_trt.engine.build import build_engine, require_buildable
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.engine.manifest import Target
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.preflight import obstacle
from fcn_trt.errors import BundleError, EngineError
from fcn_trt.files import cache_folder, combined_sha256, temporary_folder
from fcn_trt.machine import installed_version, this_machine
from fcn_trt.precision.request import Quantisation
from fcn_trt.spec import FloatPrecision, Precision, Size, read_spec

__all__ = ["LIMIT_BYTES", "RandomNetwork", "quick_quantisation", "random_bundle"]

LIMIT_BYTES = 4 << 30
"""Beyond this the bundles go that were not used for longest."""

_STREETS = 2
_WEIGHTS = "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomNetwork:
    """What to build.

    Attributes:
        model: Name of an architecture.
        size: (height, width) of the input in pixels.
        precision: What convolutions compute in.
        target: What compiles and runs it.
    """

    model: str
    size: Size
    precision: Precision
    target: Target

    @property
    def float_precision(self) -> FloatPrecision:
        """What is left in float beside int8 and fp8, as in a recipe."""
        return "fp32" if self.target == "openvino" else "fp16"

    @property
    def key(self) -> str:
        """Hash of all that the bundle follows from."""
        from fcn_trt.pipeline.code import build_code, export_code, type_code

        machine = this_machine()
        gpu = machine.gpu
        versions = {
            name: installed_version(name) for name in ("torch", "torchvision", "onnx", "openvino")
        }
        return combined_sha256(
            map(
                str,
                (
                    *(self.model, self.size, self.precision, self.target, self.float_precision),
                    *(sorted(versions.items(), key=str), sorted(machine.libraries.items())),
                    *(gpu and gpu.name, gpu and gpu.compute_capability, machine.driver),
                    *(export_code(), type_code(self.precision), build_code(self.target)),
                ),
            )
        )


def random_bundle(
    network: RandomNetwork, *, on_step: Callable[[str], None] = lambda _: None
) -> Path:
    """The bundle of a model with random weights, built now or kept from an earlier time.

    Args:
        network: What to build.
        on_step: Told what is done, in words.

    Returns:
        Its folder in the user's cache.

    Raises:
        ValueError: there is no model of that name.
        ModuleNotFoundError: torch or onnx is not installed.
        OnnxError, CalibrationError, EngineError, MissingExtraError, OutputError: as the steps say.
    """
    from fcn_trt.model.architecture import architecture

    architecture(network.model)
    folder = cache_folder("bench")
    bundle = folder / network.key
    if _is_usable(bundle):
        with suppress(OSError):  # a cache that can only be read is still read
            bundle.touch()
        return bundle
    options = _options(network.target)
    require_buildable(network.target, network.precision, options)
    _build(network, bundle, options, on_step)
    _forget_oldest(folder, keep=bundle)
    return bundle


def _is_usable(bundle: Path) -> bool:
    """Whether a bundle is there, whole, and runs here."""
    try:
        return obstacle(load_bundle(bundle)) is None
    except BundleError:
        return False


def _options(target: Target) -> BuildOptions:
    """For this machine's GPU alone, which has to be there, as the bundle is run at once."""
    if target == "openvino":
        return BuildOptions()
    machine = this_machine()
    if machine.gpu is None:
        raise EngineError(
            f"{target} was asked for, but there is no GPU to run it: {machine.gpu_problem}; choose "
            "openvino"
        )
    return BuildOptions(compute_capabilities=(machine.gpu.compute_capability,))


def _build(
    network: RandomNetwork, bundle: Path, options: BuildOptions, on_step: Callable[[str], None]
) -> None:
    from fcn_trt.pipeline.steps import export_network
    from fcn_trt.precision.type_network import type_network

    size = "x".join(map(str, network.size))
    with temporary_folder() as folder:
        plain, typed = folder / "fp32.onnx", folder / "typed.onnx"
        on_step(f"exporting {network.model} at {size} with random weights")
        export_network(network.model, plain, size=network.size, weights=_WEIGHTS)
        how = None
        if network.precision in ("int8", "fp8"):
            on_step(f"calibrating it on {_STREETS} drawn streets")
            how = quick_quantisation(
                plain, folder / "calibration.json", float_precision=network.float_precision
            )
        type_network(plain, typed, network.precision, quantisation=how)
        on_step(f"building it for {network.target} in {network.precision}")
        build_engine(typed, bundle, target=network.target, options=options)


def quick_quantisation(
    network: Path, cache: Path, *, float_precision: FloatPrecision
) -> Quantisation:
    """Ranges that are good for a network's speed and say nothing of its accuracy.

    Args:
        network: FP32 ONNX that carries a spec.
        cache: Where the calibration cache is written.
        float_precision: Of what is not quantised.
    """
    from fcn_trt.calibration.cache import write_calibration
    from fcn_trt.calibration.calibrate import calibrate
    from fcn_trt.calibration.images import RangeImages

    streets = RangeImages(streets=_STREETS, size=read_spec(network).input_size)
    write_calibration(calibrate(network, streets, method="minmax", created="-"), cache)
    return Quantisation(calibration=cache, float_precision=float_precision)


def _forget_oldest(folder: Path, *, keep: Path) -> None:
    """Delete the bundles that go beyond the limit."""
    found = []
    for bundle in folder.iterdir():
        with suppress(OSError):  # another process was faster
            size = sum(file.stat().st_size for file in bundle.iterdir())
            found.append((bundle.stat().st_mtime, size, bundle))
    total = 0
    for _, size, bundle in sorted(found, reverse=True):
        total += size
        if total > LIMIT_BYTES and bundle != keep:
            shutil.rmtree(bundle, ignore_errors=True)
