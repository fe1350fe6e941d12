"""What a whole video run keeps of the engine's own throughput, measured in turns.

    python -m benchmarks.video [TARGET ...] [--video FILE.mp4] [--sink out.mp4]

Without --video it is one of drawn streets, which is written first.

"engine" is the network alone: inference requests back to back, two in flight, on one input that
stands in memory. "run" is what `fcn-trt run` does: read and decode the file, preprocess, infer,
decode, draw, encode and write a video. A TARGET is a bundle, a recipe, or MODEL@PRECISION, which
has random weights.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from benchmarks.measure import RESULTS, command_line, save
from fcn_trt.bench.random_bundle import RandomNetwork, random_bundle
from fcn_trt.bench.steadiness import steadiness, this_moment
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.engine.openvino.builder import compile_network
from fcn_trt.labels import palette_array
from fcn_trt.pipeline.recipe import build_recipe, read_recipe
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.scene.scene import HELD_OUT_SEED
from fcn_trt.spec import Frame, Precision, Result
from fcn_trt.video.loop import run_loop
from fcn_trt.video.scene_source import SceneSource
from fcn_trt.video.sink import open_sink
from fcn_trt.video.source import open_source

ENGINES = Path(__file__).parents[1] / "engines"
TARGETS = (
    *(f"fcn_resnet50@{precision}" for precision in ("fp32", "bf16", "int8")),
    *(f"fcn_r18-d8@{precision}" for precision in ("fp32", "bf16", "int8")),
    *(str(ENGINES / name) for name in ("demo_cpu.toml", "demo_cpu_int8.toml")),
)
SIZE = (256, 512)
VIDEO_SIZE, VIDEO_FRAMES, VIDEO_RATE_FPS = (432, 768), 377, 12.5
"""As car-detection.mp4 of intel-iot-devkit/sample-videos."""
FEWEST_FRAMES = 20


def main() -> None:
    """Print both rates and their ratio, and write video.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", nargs="*", default=TARGETS)
    parser.add_argument("--video", help="source; by default drawn streets")
    parser.add_argument("--sink", default="out.mp4", help="out.mp4 or none")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn, about")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "video.json")
    options = parser.parse_args()
    command = command_line("benchmarks.video", sys.argv[1:])
    results = []
    with tempfile.TemporaryDirectory() as folder:
        video = Path(options.video or _streets(Path(folder)))
        for target in options.target:
            results.append(_measure(target, video, options))
            save(options.out, results, command=command)


def _measure(target: str, video: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One target."""
    bundle = _bundle(target)
    engine, turns = _Engine(bundle), []
    with Segmenter.load(bundle) as segmenter:
        print(f"{target}: {segmenter.description}", flush=True)
        frames = round(options.seconds * engine.rate(FEWEST_FRAMES))
        frames = min(max(FEWEST_FRAMES, frames), VIDEO_FRAMES)
        _run(segmenter, video, options.sink, frames)
        before = this_moment()
        for _ in range(options.runs):
            engine_fps, run_fps = engine.rate(frames), _run(segmenter, video, options.sink, frames)
            turns.append({"engine_fps": engine_fps, "run_fps": run_fps})
        after = this_moment()
        spec = segmenter.spec
    shares = [turn["run_fps"] / turn["engine_fps"] for turn in turns]
    times = [1 / turn["run_fps"] for turn in turns]
    found = steadiness(times, before=before, after=after, cores=os.cpu_count() or 1)
    for sentence in (f"the run keeps {median(shares):.1%} of the engine's rate", *found.remarks):
        print(f"  {sentence}", flush=True)
    return {
        "model": spec.model,
        "weights": spec.weights,
        "precision": spec.precision,
        "input_size": spec.input_size,
        "source": video.name,
        "sink": options.sink,
        "frames": frames,
        "turns": turns,
        "kept": median(shares),
        "remarks": found.remarks,
    }


def _bundle(target: str) -> Path:
    """The folder of a target's bundle, which is built if it must be."""
    if target.endswith(".toml"):
        return build_recipe(read_recipe(Path(target))).path
    if Path(target).is_dir():
        return Path(target)
    model, _, precision = target.partition("@")
    network = RandomNetwork(
        model=model, size=SIZE, precision=cast(Precision, precision), target="openvino"
    )
    return random_bundle(network)


class _Engine:
    """The compiled network alone."""

    def __init__(self, path: Path) -> None:
        bundle = load_bundle(path)
        spec = bundle.manifest.spec
        compiled = compile_network(bundle.network).model
        self.requests: list[Any] = [compiled.create_infer_request() for _ in range(2)]
        image = np.random.default_rng(0).standard_normal((spec.batch, 3, *spec.input_size))
        for request in self.requests:
            request.get_input_tensor().data[:] = image

    def rate(self, count: int) -> float:
        """Inferences per second."""
        started = time.perf_counter()
        for index in range(count):
            request = self.requests[index % 2]
            request.wait()
            request.start_async()
        for request in self.requests:
            request.wait()
        return count / (time.perf_counter() - started)


def _run(segmenter: Segmenter, video: Path, sink: str, frames: int) -> float:
    """Frames per second of a whole run."""
    with open_source(str(video)) as source, tempfile.TemporaryDirectory() as folder:
        opened = open_sink(
            sink if sink == "none" else str(Path(folder) / sink),
            render=segmenter.render,
            palette=palette_array(segmenter.spec.palette),
            rate_fps=source.info.rate_fps,
        )
        return run_loop(source, segmenter.stream, [opened], limit=frames).rate_fps


def _streets(folder: Path) -> Path:
    """A video of drawn streets, long enough for every run."""
    path = folder / "streets.mp4"
    street = SceneSource(HELD_OUT_SEED, size=VIDEO_SIZE, frame_count=VIDEO_FRAMES)
    palette = np.zeros((1, 3), dtype=np.uint8)
    with street as source:
        sink = open_sink(
            str(path), render=lambda frame, _: frame, palette=palette, rate_fps=VIDEO_RATE_FPS
        )
        run_loop(source, _unlabelled, [sink])
    return path


def _unlabelled(frames: Iterable[Frame]) -> Iterator[Result]:
    for index, frame in enumerate(frames):
        labels = np.zeros(frame.shape[:2], dtype=np.uint8)
        yield Result(frame=frame, label_map=labels, index=index)


if __name__ == "__main__":
    main()
