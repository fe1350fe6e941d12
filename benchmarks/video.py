"""What a whole video run keeps of the engine's own throughput, measured in turns.

    python -m benchmarks.video [BUNDLE] [--video FILE.mp4] [--sink out.mp4]

"engine" is the network alone: inference requests back to back, two in flight, on one input that
stands in memory. "run" is what `fcn-trt run` does: read and decode the file, preprocess, infer,
decode, draw, encode and write a video.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import save
from fcn_trt.demo.held_out import HELD_OUT_SEED
from fcn_trt.demo.scene import SceneSource
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.engine.openvino import compile_network
from fcn_trt.labels import palette_array
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.video.loop import run_loop
from fcn_trt.video.seams import Source
from fcn_trt.video.sink import open_sink
from fcn_trt.video.source import open_source


def main() -> None:
    """Print both rates and their ratio, and write video_BUNDLE_PRECISION.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("demo_out/bundle"))
    parser.add_argument("--video", help="source; by default a synthetic street")
    parser.add_argument("--sink", default="out.mp4", help="out.mp4 or none")
    parser.add_argument("--frames", type=int, default=200, help="frames of each turn")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    engine = _Engine(options.bundle)
    rows = []
    with Segmenter.load(options.bundle) as segmenter:
        print(segmenter.description)
        for turn in range(options.runs + 1):
            engine_fps = engine.rate(options.frames)
            run_fps = _run(segmenter, options)
            if turn:  # the first is warm-up
                rows.append({"engine_fps": engine_fps, "run_fps": run_fps})
                print(f"engine {engine_fps:6.2f}  run {run_fps:6.2f}  {run_fps / engine_fps:.3f}")
        spec = segmenter.spec
    kept = median(row["run_fps"] / row["engine_fps"] for row in rows)
    print(f"the run keeps {100 * kept:.1f} % of the engine's throughput (median)")
    about = {"model": spec.model, "precision": spec.precision, "input_size": spec.input_size}
    source = Path(options.video).name if options.video else "street scene"
    result = about | {"source": source, "sink": options.sink, "turns": rows, "kept": kept}
    name = f"video_{options.bundle.name}_{spec.precision}.json"
    save(Path(__file__).with_name(name), result)


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


def _run(segmenter: Segmenter, options: argparse.Namespace) -> float:
    with _source(options, segmenter) as source, tempfile.TemporaryDirectory() as folder:
        sink = open_sink(
            options.sink if options.sink == "none" else str(Path(folder) / options.sink),
            render=segmenter.render,
            palette=palette_array(segmenter.spec.palette),
            rate_fps=source.info.rate_fps,
        )
        return run_loop(source, segmenter.stream, [sink], limit=options.frames).rate_fps


def _source(options: argparse.Namespace, segmenter: Segmenter) -> Source:
    if options.video:
        return open_source(options.video)
    return SceneSource(HELD_OUT_SEED, size=segmenter.spec.input_size, frame_count=options.frames)


if __name__ == "__main__":
    main()
