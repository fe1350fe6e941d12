"""The whole main job with nothing but this package: checkpoint, ONNX, engine, segmented video.

Where PyTorch is not installed it begins with the ONNX file, which lies beside the checkpoint.

The streets are none that the model was trained on, and their labels are exact, so the demo can say
how accurate it was.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import cv2
import numpy as np

from fcn_trt.calibration.images import RangeImages
from fcn_trt.engine.openvino.builder import computes
from fcn_trt.errors import OutputError
from fcn_trt.evaluation.measure import evaluate
from fcn_trt.evaluation.scenes import HeldOutScenes
from fcn_trt.evaluation.scores import Evaluation
from fcn_trt.files import write_atomic
from fcn_trt.labels import palette_array
from fcn_trt.network.file import Network
from fcn_trt.pipeline.plan import Compile, Export, Plan, Type, float_beside
from fcn_trt.pipeline.run import SILENT, Made, Watcher, run
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.runtime.video import segment_video
from fcn_trt.scene.scene import HELD_OUT_SEED
from fcn_trt.spec import QUANTISED, Check, Precision, Size
from fcn_trt.stages.overlay import colour
from fcn_trt.video.loop import LoopReport, Progress
from fcn_trt.video.scene_source import SceneSource

__all__ = ["NETWORK", "SIZE", "DemoReport", "packaged", "run_demo"]

SIZE: Size = (256, 512)
NETWORK = "network.onnx"
"""FP32 at `SIZE`; benchmarks/demo_model/network.py makes it from the checkpoint."""
VIDEO = "segmented.mp4"
VIDEO_SEED = HELD_OUT_SEED + 16
RATE_FPS = 15.0
EVALUATED_SCENES = 40
PICTURED_SCENES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """What the demo did.

    Attributes:
        precision: Type the convolutions computed in.
        description: What ran where.
        export_s: Checkpoint to typed ONNX, in seconds; None where that was in the package.
        build_s: ONNX to bundle, in seconds.
        loop: Frames, rate and latency of the video.
        evaluation: Accuracy on streets that training never saw, against exact labels.
        check: How far the engine labels as PyTorch does.
        network: The typed ONNX file.
        bundle: The engine.
        video: The segmented video.
        picture: Frames, predictions and exact labels side by side.
    """

    precision: Precision
    description: str
    export_s: float | None
    build_s: float
    loop: LoopReport
    evaluation: Evaluation
    check: Check
    network: Path
    bundle: Path
    video: Path
    picture: Path


def run_demo(
    out: Path,
    *,
    size: Size = SIZE,
    precision: Precision | None = None,
    frame_count: int = 150,
    on_step: Callable[[str], None] = lambda _: None,
    watcher: Watcher = SILENT,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> DemoReport:
    """Do the main job and measure it.

    Args:
        out: Folder for the ONNX, the bundle, the video and the picture; made if it is missing.
        size: (height, width) of the network's input and of the video.
        precision: What convolutions compute in; None takes bf16 where this CPU computes it, and
            fp32 without PyTorch.
        frame_count: Frames of the video.
        on_step: Called with a sentence as each step begins.
        watcher: Told how far the engine is.
        on_progress: Called after each frame of the video.

    Raises:
        ValueError: a side of `size` is less than 16 pixels, or frame_count less than 1.
        ModuleNotFoundError: another size or precision than the packaged network's is asked for,
            and the extra `export` is not installed.
        FcnTrtError: a step failed.
    """
    # First, because it refuses sizes that no street can be drawn at.
    source = SceneSource(VIDEO_SEED, size=size, frame_count=frame_count, rate_fps=RATE_FPS)
    with packaged(NETWORK) as given, packaged("weights.safetensors") as weights:
        export = _export(weights, size, precision)
        _make_folder(out)
        typed: Made | None = None
        if export is None:
            on_step("PyTorch is not installed: beginning with the ONNX file in this package")
            network = Network.read(given)
        else:
            chosen: Precision = precision or ("bf16" if computes("bf16") else "fp32")
            on_step(f"checkpoint -> {chosen} ONNX at {size[0]}x{size[1]}")
            plan = Plan(export=export, type=_typing(chosen, size))
            typed = run(plan, out / "fcn.onnx", watcher=watcher)
            network = typed.network
        on_step("ONNX -> OpenVINO engine bundle")
        built = run(Plan(source=network, compile=Compile()), out / "bundle", watcher=watcher)
    with source, Segmenter.load(built.path) as segmenter:
        on_step(f"a street of {frame_count} frames -> segmented video")
        video = out / VIDEO
        loop = segment_video(segmenter, source, [str(video)], on_progress=on_progress)
        on_step(f"{EVALUATED_SCENES} streets with exact labels -> accuracy, picture")
        scenes = HeldOutScenes(count=EVALUATED_SCENES, size=size)
        return DemoReport(
            precision=segmenter.spec.precision,
            description=segmenter.description,
            export_s=sum(step.duration_s for step in typed.steps) if typed else None,
            build_s=sum(step.duration_s for step in built.steps),
            loop=loop,
            evaluation=evaluate(segmenter.stream, scenes),
            check=built.bundle.manifest.checks[-1],
            network=typed.path if typed else built.network.path,
            bundle=built.path,
            video=video,
            picture=_picture(out / "demo.png", segmenter, size),
        )


def packaged(name: str) -> AbstractContextManager[Path]:
    """The path of a file of the demo, also where the package is not unpacked."""
    return resources.as_file(resources.files("fcn_trt.demo") / name)


def _export(weights: Path, size: Size, precision: Precision | None) -> Export | None:
    """The demo's first step; None where PyTorch is missing and the packaged network will do."""
    try:
        importlib.import_module("fcn_trt.model.load")
    except ModuleNotFoundError:
        if (size, precision or "fp32") != (SIZE, "fp32"):
            raise
        return None
    return Export(model=str(weights), size=size)


def _typing(precision: Precision, size: Size) -> Type:
    """How a precision is made where there are no images but drawn streets."""
    if precision not in QUANTISED:
        return Type(precision=precision)
    streets, rest = RangeImages.few(None, size), float_beside("openvino")
    return Type(precision=precision, calibration=streets, float_precision=rest)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        is_file = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a file is in its way" if is_file else error.strerror
        raise OutputError(f"{out} cannot be made: {reason}; choose another folder") from error


def _picture(path: Path, segmenter: Segmenter, size: Size) -> Path:
    """Write some streets: frame, overlay and exact labels from left to right."""
    palette = palette_array(segmenter.spec.palette)
    rows = [
        np.hstack([s.frame, segmenter.render(s.frame), colour(s.truth, palette)])
        for s in HeldOutScenes(count=PICTURED_SCENES, size=size)
    ]
    _, data = cv2.imencode(".png", np.vstack(rows))
    write_atomic(path, data.tobytes())
    return path
