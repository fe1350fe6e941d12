"""What a whole video run keeps of the engine's own throughput, measured in turns.

    python -m benchmarks.video [TARGET ...] [--video FILE.mp4] [--sink out.mp4]

"engine" is the network alone: inference requests back to back, two in flight, on one input that
stands in memory. "run" is what `fcn-trt run` does: read and decode the file, preprocess, infer,
decode, draw, encode and write a video. A TARGET is a bundle, a recipe, or MODEL@PRECISION, which
has random weights.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from benchmarks.measure import RESULTS, save
from fcn_trt.bench.random_bundle import RandomNetwork, random_bundle
from fcn_trt.bench.steadiness import steadiness, this_moment
from fcn_trt.demo.held_out import HELD_OUT_SEED
from fcn_trt.demo.scene import SceneSource
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.engine.openvino import compile_network
from fcn_trt.labels import palette_array
from fcn_trt.recipe import read_recipe
from fcn_trt.recipe.steps import build_recipe
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import Precision
from fcn_trt.video.loop import run_loop
from fcn_trt.video.seams import Source
from fcn_trt.video.sink import open_sink
from fcn_trt.video.source import open_source

ENGINES = Path(__file__).parents[1] / "engines"
TARGETS = (
    *(f"fcn_resnet50@{precision}" for precision in ("fp32", "bf16", "int8")),
    *(f"fcn_r18-d8@{precision}" for precision in ("fp32", "bf16", "int8")),
    *(str(ENGINES / name) for name in ("demo_cpu.toml", "demo_cpu_int8.toml")),
)
SIZE = (256, 512)
FEWEST_FRAMES = 20


def main() -> None:
    """Print both rates and their ratio, and write video.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", nargs="*", default=TARGETS)
    parser.add_argument("--video", help="source; by default a synthetic street")
    parser.add_argument("--sink", default="out.mp4", help="out.mp4 or none")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each turn, about")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "video.json")
    options = parser.parse_args()
    command = "python -m benchmarks.video"
    command += f" --video {Path(options.video).name}" if options.video else ""
    results = []
    for target in options.target:
        results.append(_measure(target, options))
        save(options.out, results, command=command)


def _measure(target: str, options: argparse.Namespace) -> dict[str, Any]:
    """One target."""
    bundle = _bundle(target)
    engine, turns = _Engine(bundle), []
    with Segmenter.load(bundle) as segmenter:
        print(f"{target}: {segmenter.description}", flush=True)
        frames = max(FEWEST_FRAMES, round(options.seconds * engine.rate(FEWEST_FRAMES)))
        _run(segmenter, options, frames)
        before = this_moment()
        for _ in range(options.runs):
            engine_fps, run_fps = engine.rate(frames), _run(segmenter, options, frames)
            turns.append({"engine_fps": engine_fps, "run_fps": run_fps})
        after = this_moment()
        spec = segmenter.spec
    shares = [turn["run_fps"] / turn["engine_fps"] for turn in turns]
    found = steadiness(shares, before=before, after=after, cores=os.cpu_count() or 1)
    for sentence in (f"the run keeps {median(shares):.1%} of the engine's rate", *found.remarks):
        print(f"  {sentence}", flush=True)
    return {
        "model": spec.model,
        "weights": spec.weights,
        "precision": spec.precision,
        "input_size": spec.input_size,
        "source": Path(options.video).name if options.video else "street scene",
        "sink": options.sink,
        "frames": frames,
        "turns": turns,
        "kept": median(shares),
        "remarks": found.remarks,
    }


def _bundle(target: str) -> Path:
    """The folder of a target's bundle, which is built if it must be."""
    if target.endswith(".toml"):
        return build_recipe(read_recipe(Path(target))).bundle.path
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
        compiled = compile_network(bundle.network, spec).model
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


def _run(segmenter: Segmenter, options: argparse.Namespace, frames: int) -> float:
    """Frames per second of a whole run."""
    with (
        _source(options.video, segmenter, frames) as source,
        tempfile.TemporaryDirectory() as folder,
    ):
        sink = open_sink(
            options.sink if options.sink == "none" else str(Path(folder) / options.sink),
            render=segmenter.render,
            palette=palette_array(segmenter.spec.palette),
            rate_fps=source.info.rate_fps,
        )
        return run_loop(source, segmenter.stream, [sink], limit=frames).rate_fps


def _source(video: str | None, segmenter: Segmenter, frames: int) -> Source:
    if video:
        return open_source(video)
    return SceneSource(HELD_OUT_SEED, size=segmenter.spec.input_size, frame_count=frames)


if __name__ == "__main__":
    main()
