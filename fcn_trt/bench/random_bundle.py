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

from fcn_trt.cache import cache_folder
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.engine.manifest import Target
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.preflight import obstacle
from fcn_trt.errors import BundleError, EngineError
from fcn_trt.machine import this_machine
from fcn_trt.model.architecture import architecture
from fcn_trt.pipeline.plan import Compile, Export, Plan, Type
from fcn_trt.pipeline.run import Watcher, run
from fcn_trt.pipeline.store import keyed_steps
from fcn_trt.spec import QUANTISED, Precision, Size

__all__ = ["LIMIT_BYTES", "RandomNetwork", "compile_here", "quick_type", "random_bundle"]

LIMIT_BYTES = 4 << 30
"""Beyond this the bundles go that were not used for longest."""

_STREETS = 2


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

    def plan(self) -> Plan:
        """How its bundle is made.

        Raises:
            EngineError: there is no GPU to run it.
        """
        return Plan(
            export=Export(model=self.model, size=self.size, weights="random"),
            type=quick_type(self.precision, self.size),
            compile=compile_here(self.target),
        )


def quick_type(precision: Precision, size: Size) -> Type:
    """Typing that is good for a network's speed and says nothing of its accuracy.

    Args:
        size: (height, width) of the network's input in pixels.
    """
    if precision not in QUANTISED:
        return Type(precision=precision)
    from fcn_trt.calibration.images import RangeImages

    streets = RangeImages(streets=_STREETS, size=size)
    return Type(precision=precision, calibration=streets, method="minmax")


def compile_here(target: Target) -> Compile:
    """Compile for this machine's GPU alone, which has to be there, as the bundle is run at once.

    Raises:
        EngineError: there is none.
    """
    if target == "openvino":
        return Compile(target=target)
    machine = this_machine()
    if machine.gpu is None:
        raise EngineError(
            f"{target} was asked for, but there is no GPU to run it: {machine.gpu_problem}; choose "
            "openvino"
        )
    options = BuildOptions(compute_capabilities=(machine.gpu.compute_capability,))
    return Compile(target=target, options=options)


def random_bundle(
    network: RandomNetwork, *, on_step: Callable[[str], None] = lambda _: None
) -> Path:
    """The bundle of a model with random weights, built now or kept from an earlier time.

    Returns:
        Its folder in the user's cache.

    Raises:
        ValueError: there is no model of that name.
        ModuleNotFoundError: torch or onnx is not installed.
        OnnxError, CalibrationError, EngineError, MissingExtraError, OutputError: as the steps say.
    """
    architecture(network.model)
    folder = cache_folder("bench")
    plan = network.plan()
    bundle = folder / keyed_steps(plan)[-1].key
    if _is_usable(bundle):
        with suppress(OSError):  # a cache that can only be read is still read
            bundle.touch()
        return bundle
    size = "x".join(map(str, network.size))
    title = f"{network.model} at {size} with random weights in {network.precision}"
    run(plan, bundle, watcher=Watcher(on_begin=lambda step, _: on_step(f"{step} of {title}")))
    _forget_oldest(folder, keep=bundle)
    return bundle


def _is_usable(bundle: Path) -> bool:
    """Whether a bundle is there, whole, and runs here."""
    try:
        return obstacle(load_bundle(bundle)) is None
    except BundleError:
        return False


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
