"""One bundle on this machine: each stage alone, the whole way, and many frames in flight."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pydantic import ConfigDict

from fcn_trt.bench.frame_files import time_image_decode, time_video_decode, write_frame_files
from fcn_trt.bench.memory import peak_resident_bytes, restart_peak
from fcn_trt.bench.series import (
    Clock,
    Latency,
    WarmUp,
    interleave,
    latency,
    sustained_fps,
    warm_up,
)
from fcn_trt.bench.steadiness import Steadiness, steadiness, this_moment
from fcn_trt.engine.bundle import Bundle, load_bundle
from fcn_trt.engine.manifest import Target
from fcn_trt.engine.openvino.network_cost import NetworkCost, network_cost
from fcn_trt.engine.preflight import require_runs_here
from fcn_trt.errors import BundleError, EngineError, OnnxError
from fcn_trt.files import temporary_folder
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import Frame, Precision, Size

__all__ = ["Measurement", "Memory", "beyond_network_share", "measure_bundle"]

NETWORK, OVERLAY = "network", "overlay"
"""Stages that `Segmenter.time_stages` tells; the others lie around the network."""

DECODE_SHARE = 0.2
"""Of the time for each way, what decoding files gets: it needs little to be exact."""

_LEAST_BATCHES = 5
"""Sent through with frames in flight, however long one takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory that was used at most; None where the system does not tell.

    Attributes:
        loading_bytes: Resident while the engine was loaded, Python and all libraries included.
        running_bytes: Resident while it ran.
        device_bytes: That the GPU has less after all runs than before loading; None without a GPU.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    loading_bytes: int | None
    running_bytes: int | None
    device_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured of one bundle.

    Attributes:
        model: Name of the architecture.
        weights: What they are.
        network_sha256: Of the typed ONNX, or of the engine where the bundle carries none.
        target: What runs it.
        engine: What runs where and in which precision, for people.
        precision: Type that its convolutions were asked to compute in.
        gmac_by_type: 1e9 multiply-accumulates of one inference, by the type they were proven in.
        input_size: (height, width) of the network's input.
        frame_size: (height, width) of the frames.
        batch: Images per inference.
        cost: By its shapes; None where they cannot be read.
        warm_up: Of frame to label map.
        image_decode: From a JPEG file to its frame.
        video_decode: From a video file to its next frame; None where this OpenCV reads none.
        stages: Each alone, in the order in which a frame passes.
        label_map: From a frame to its label map.
        picture: From a frame to the frame with its classes painted over it.
        beyond_network: Share of the time from frame to label map that is not the network's.
        throughput_fps: Label maps a second with frames in flight.
        throughput_frames: How many they were.
        memory: What was used at most.
        steadiness: Of `label_map`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    model: str
    weights: str
    network_sha256: str
    target: Target
    engine: str
    precision: Precision
    gmac_by_type: dict[str, float]
    input_size: Size
    frame_size: Size
    batch: int
    cost: NetworkCost | None
    warm_up: WarmUp
    image_decode: Latency
    video_decode: Latency | None
    stages: dict[str, Latency]
    label_map: Latency
    picture: Latency
    beyond_network: float
    throughput_fps: float
    throughput_frames: int
    memory: Memory
    steadiness: Steadiness


def measure_bundle(path: Path, *, frame_size: Size | None, seconds: float) -> Measurement:
    """Measure a bundle in this process, whose memory is part of what is measured.

    Args:
        frame_size: (height, width) of the frames; None takes the network's input size.
        seconds: How long each way is measured, and how long it is warmed up at most.

    Raises:
        BundleError: the bundle is incomplete, altered, or cannot run here.
        EngineError: the engine cannot be loaded or fails.
        ValueError: frame_size is too small to draw.
        SinkError: the files to decode cannot be written.
    """
    bundle = load_bundle(path)
    require_runs_here(bundle)
    spec = bundle.manifest.spec
    size = frame_size or spec.input_size
    with temporary_folder() as folder:
        files = write_frame_files(folder, size)
        image_decode = time_image_decode(files, seconds=DECODE_SHARE * seconds)
        video_decode = time_video_decode(files, seconds=DECODE_SHARE * seconds)
    free = _free_on_device(bundle)
    is_own_peak = restart_peak()
    with Segmenter.load(path) as segmenter:
        loading = peak_resident_bytes() if is_own_peak else None
        frames = itertools.cycle(files.frames)
        warm = warm_up(lambda: segmenter.segment(next(frames)), most_s=seconds)
        segmenter.render(files.frames[0])
        segmenter.time_stages(files.frames[0])
        is_own_peak = restart_peak()
        before = this_moment()
        times, stages = _time_ways(segmenter, frames, seconds=seconds)
        after = this_moment()
        source = _frames_for(files.frames, seconds=seconds, batch=spec.batch)
        fps, count = sustained_fps(segmenter.stream(source, copy=False), batch=spec.batch)
        left = _free_on_device(bundle)
        running = peak_resident_bytes() if is_own_peak else None
        return Measurement(
            model=spec.model,
            weights=spec.weights,
            network_sha256=_sha256(bundle),
            target=bundle.manifest.target,
            engine=segmenter.description,
            precision=spec.precision,
            gmac_by_type=bundle.manifest.precision_proven.gmac,
            input_size=spec.input_size,
            frame_size=size,
            batch=spec.batch,
            cost=_cost(bundle),
            warm_up=warm,
            image_decode=image_decode,
            video_decode=video_decode,
            stages={name: latency(taken) for name, taken in stages.items()},
            label_map=latency(times["label_map"]),
            picture=latency(times["picture"]),
            beyond_network=beyond_network_share(stages),
            throughput_fps=fps,
            throughput_frames=count,
            memory=Memory(
                loading_bytes=loading,
                running_bytes=running,
                device_bytes=None if free is None or left is None else max(0, free - left),
            ),
            steadiness=steadiness(
                times["label_map"], before=before, after=after, cores=os.cpu_count() or 1
            ),
        )


def beyond_network_share(stages: Mapping[str, Sequence[float]]) -> float:
    """Share of the time from frame to label map that is not the network's.

    Args:
        stages: By name, seconds of each frame, as `Segmenter.time_stages` tells them.

    Returns:
        The median of the frames; the overlay, which no label map needs, is left out.
    """
    label_map = [times for name, times in stages.items() if name != OVERLAY]
    wholes = [sum(times) for times in zip(*label_map, strict=True)]
    shares = [1 - network / whole for network, whole in zip(stages[NETWORK], wholes, strict=True)]
    return float(median(shares))


def _time_ways(
    segmenter: Segmenter, frames: Iterator[Frame], *, seconds: float
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of the three ways in turns, and of the stages, by name."""
    stages: dict[str, list[float]] = {}

    def time_stages() -> None:
        for name, taken in segmenter.time_stages(next(frames)).items():
            stages.setdefault(name, []).append(taken)

    calls: dict[str, Callable[[], object]] = {
        "label_map": lambda: segmenter.segment(next(frames)),
        "stages": time_stages,
        "picture": lambda: segmenter.render(next(frames)),
    }
    return interleave(calls, seconds=len(calls) * seconds), stages


def _frames_for(
    frames: Sequence[Frame],
    *,
    seconds: float,
    batch: int,
    clock: Clock = time.perf_counter,
) -> Iterator[Frame]:
    """Frames over and over for so long, in whole batches, and enough to have some in flight."""
    begin = clock()
    for index, frame in enumerate(itertools.cycle(frames)):
        is_whole = index % batch == 0
        if is_whole and index >= _LEAST_BATCHES * batch and clock() - begin >= seconds:
            return
        yield frame


def _sha256(bundle: Bundle) -> str:
    try:
        return bundle.network.sha256
    except BundleError:
        return bundle.plan_sha256


def _cost(bundle: Bundle) -> NetworkCost | None:
    """By the network's shapes; a bundle may carry no network, and OpenVINO may not read it."""
    try:
        return network_cost(bundle.network)
    except (BundleError, EngineError, OnnxError):
        return None


def _free_on_device(bundle: Bundle) -> int | None:
    """Bytes that are free on the GPU that runs a bundle; None for one that runs on the CPU."""
    if bundle.manifest.target == "openvino":
        return None
    from fcn_trt.cuda.context import primary_context

    return primary_context().memory_bytes()[0]
