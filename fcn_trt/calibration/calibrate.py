"""The ranges of a network's tensors on real images: calibration, in memory that does not grow.

What is known after each batch is kept in a state, and the state now and then in the user's cache,
so that a calibration that was killed goes on where it was. Histograms do not depend on how the
images were split, so that it ends with the same bytes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx

from fcn_trt.calibration.amax import Method
from fcn_trt.calibration.cache import CalibrationCache, network_sha256
from fcn_trt.calibration.histogram import Histogram
from fcn_trt.calibration.state import CalibrationState, StateSaver, load_state
from fcn_trt.calibration.tensor_values import TensorValues, batches
from fcn_trt.engine.openvino.builder import openvino_version
from fcn_trt.errors import EngineError, OnnxError
from fcn_trt.network.contract import model_of
from fcn_trt.network.file import Network
from fcn_trt.spec import INPUT_NAME, Frame, Spec
from fcn_trt.version import __version__

__all__ = ["CalibrationImages", "calibrate", "measured_tensors", "tensor_names", "today"]

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 5.0
"""A state has a few megabytes; what is lost by a kill is this long."""


class CalibrationImages(Protocol):
    """Frames with hashes, each decoded when its turn comes; `RangeImages` is one."""

    @property
    def title(self) -> str:
        """What they are, for people on any machine."""
        ...

    def sha256(self, index: int) -> str:
        """Of an image, 64 hex digits."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Frame: ...


def calibrate(
    network: Network,
    images: CalibrationImages,
    *,
    method: Method,
    created: str = "",
    state_folder: Path | None = None,
    save_every_s: float = SAVE_EVERY_S,
    on_begin: Callable[[int], None] = lambda _: None,
    on_image: Callable[[], None] = lambda: None,
) -> CalibrationCache:
    """Measure the tensors of a network.

    Args:
        images: Frames such as the network will see, each (H, W, 3) uint8 BGR.
        method: How amax is chosen from the histograms.
        created: The day that the cache states; "" is today. A calibration that goes on keeps its
            own.
        state_folder: Where it can go on after it was killed; None keeps nothing.
        save_every_s: Seconds from one save of the state to the next.
        on_begin: Called once, before the first image, with the number of images that are done.
        on_image: Called after each other image.

    Returns:
        The cache. Tensors that nobody quantises have their largest magnitude only.

    Raises:
        ValueError: there are no images, or one has another shape or type.
        OnnxError: the network is damaged or not FP32.
        EngineError: OpenVINO cannot run it, or a tensor does not stay finite.
        SourceError: an image cannot be read.
        OutputError: the state cannot be written.
    """
    model, spec = model_of(network), network.spec
    if spec.precision != "fp32":
        raise OnnxError(
            f"{network} is {spec.precision}, but calibration needs the FP32 network from "
            "`fcn-trt export`"
        )
    if not len(images):
        raise ValueError(f"there are no images to calibrate {spec.model} on")
    wanted, order = measured_tensors(model.graph), tensor_names(model.graph)
    content = network_sha256(model)
    del model  # its weights are needed no more
    hashes = [images.sha256(index) for index in range(len(images))]
    key = _key(content, hashes, spec)
    path = None if state_folder is None else state_folder / f"{key}.state"
    earlier = path and load_state(path, key, spec.model)
    state = earlier or CalibrationState(created=created or today())
    on_begin(state.done)
    run = _Run(TensorValues(network, wanted), network)
    state = _measure_all(run, images, state, on_image, StateSaver(path, key, save_every_s))
    if path is not None:
        path.unlink(missing_ok=True)
    return CalibrationCache(
        model=spec.model,
        weights=spec.weights,
        network_sha256=content,
        mean=spec.mean,
        std=spec.std,
        input_size=spec.input_size,
        images=len(images),
        images_sha256=hashlib.sha256(bytes.fromhex("".join(hashes))).hexdigest(),
        images_name=images.title,
        method="minmax",
        created=state.created,
        made_by=f"fcn_trt {__version__}",
        openvino=openvino_version(),
        tensors={name: state.range(name) for name in order if name in state.maxima},
    ).with_method(method)


def today() -> str:
    """The day in UTC; SOURCE_DATE_EPOCH sets it, as in https://reproducible-builds.org.

    Raises:
        ValueError: that is no number of seconds.
    """
    now = dt.datetime.now(dt.timezone.utc)
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        try:
            now = dt.datetime.fromtimestamp(int(epoch), dt.timezone.utc)
        except (ValueError, OverflowError, OSError) as error:
            raise ValueError(
                f"SOURCE_DATE_EPOCH is {epoch!r}, but it must be seconds since 1970; unset it"
            ) from error
    return now.date().isoformat()


def measured_tensors(graph: onnx.GraphProto) -> list[str]:
    """The activations that a convolution or an addition of two activations reads, in order."""
    fed = set(tensor_names(graph))
    read: dict[str, None] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            read |= dict.fromkeys(name for name in node.input[:1] if name in fed)
        elif node.op_type == "Add" and fed.issuperset(node.input):
            read |= dict.fromkeys(node.input)
    return list(read)


def tensor_names(graph: onnx.GraphProto) -> list[str]:
    """The tensors that depend on the image, in the order in which they are computed."""
    fed = {INPUT_NAME: None}
    for node in graph.node:
        if any(name in fed for name in node.input):
            fed |= dict.fromkeys(name for name in node.output if name)
    return list(fed)


@dataclass(frozen=True, slots=True)
class _Run:
    """A network that is measured."""

    values: TensorValues
    network: Network

    def measure(
        self, tensor: npt.NDArray[np.float32], count: int
    ) -> tuple[dict[str, float], dict[str, Histogram]]:
        """Maxima and histograms of a batch, of which only the first images count."""
        histograms: dict[str, Histogram] = {}

        def add(name: str, values: npt.NDArray[np.float32]) -> None:
            histograms[name] = Histogram()
            try:
                histograms[name].add(values[:count])
            except ValueError as error:
                raise self._not_finite(name) from error

        maxima = self.values.measure(tensor, add)
        for name, value in maxima.items():
            if not math.isfinite(value):
                raise self._not_finite(name)
        return maxima | {name: h.maximum for name, h in histograms.items()}, histograms

    def _not_finite(self, name: str) -> EngineError:
        return EngineError(
            f"{self.network} cannot be calibrated: its tensor {name!r} becomes infinite or not a "
            "number; check its weights with `fcn-trt eval`"
        )


def _measure_all(
    run: _Run,
    images: CalibrationImages,
    state: CalibrationState,
    on_image: Callable[[], None],
    saver: StateSaver,
) -> CalibrationState:
    frames = (images[place] for place in range(state.done, len(images)))
    try:
        for tensor, count in batches(frames, run.network.spec):
            state = state.after(count, *run.measure(tensor, count))
            saver.save(state, due_only=True)
            for _ in range(count):
                on_image()
    except KeyboardInterrupt:
        if saver.save(state, due_only=False):
            logger.warning(
                "stopped after %d of %d images; the same calibration goes on after them",
                state.done,
                len(images),
            )
        raise
    return state


def _key(network: str, images: Sequence[str], spec: Spec) -> str:
    """Of all that the ranges depend on."""
    parts = [network, images, spec.mean, spec.std, spec.input_size, spec.batch]
    return hashlib.sha256(json.dumps([*parts, openvino_version()]).encode()).hexdigest()
