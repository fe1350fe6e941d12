"""A short run for compute-sanitizer: every kernel on awkward sizes, then the pipeline.

compute-sanitizer --tool memcheck python -m tests.gpu.sanitized
"""

from __future__ import annotations

import sys
from contextlib import closing

import numpy as np

from fcn_trt.cuda.context import DeviceContext, primary_context
from fcn_trt.cuda.device_stages import DeviceStages, FrameView
from fcn_trt.cuda.memory import DeviceBuffer
from fcn_trt.cuda.nvrtc import compile_kernels
from fcn_trt.cuda.stream import Stream
from fcn_trt.runtime.tensorrt import DeviceBackend
from tests.gpu.executors import CopyEngine, copy_spec, random_frame, segmenter_of

SIZES = ((1, 1), (3, 5), (37, 53), (64, 96), (97, 131))
"""Frames; each buffer is exactly as long as its content, so that one byte more is seen."""


def main() -> None:
    """Run it; the last line on stdout is "end"."""
    context = primary_context()
    cubins = compile_kernels(context.compute_capability)
    with DeviceStages(context, cubins) as stages, closing(Stream(context)) as stream:
        for size in SIZES:
            run_kernels(context, stages, stream, size)
    run_pipeline(context, cubins)
    sys.stdout.write("end\n")


def run_kernels(
    context: DeviceContext, stages: DeviceStages, stream: Stream, size: tuple[int, int]
) -> None:
    """Each kernel once for a frame of this size."""
    height, width = size
    shape = (21, 1 + height // 8, 1 + width // 8)
    logits_bytes = 4 * shape[0] * shape[1] * shape[2]
    lengths = (3 * height * width, height * width, height * width, 3 * height * width)
    sizes_bytes = (*lengths, 3 * 33 * 47 * 4, logits_bytes, 1024)
    buffers = [DeviceBuffer(context, size_bytes) for size_bytes in sizes_bytes]
    for buffer in buffers:
        buffer.fill_zero(stream)
    pixels, labels, confidence, view, tensor, logits, palette = (b.address for b in buffers)
    frame = FrameView(address=pixels, size=size, pitch_bytes=3 * width, layout="bgr")
    normal = {"mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)}
    for dtype in (np.float32, np.float16):
        stages.preprocess(stream, frame, tensor, (33, 47), dtype=dtype, **normal)
        for align_corners in (False, True):
            for sure in (0, confidence):
                stages.decode(
                    stream,
                    logits,
                    shape,
                    dtype,
                    size,
                    labels,
                    align_corners=align_corners,
                    confidence_address=sure,
                )
    for painted in (frame, None):
        stages.overlay(stream, painted, labels, size, palette, view, opacity=0.5)
    stream.synchronize()
    for buffer in buffers:
        buffer.close()


def run_pipeline(context: DeviceContext, cubins: dict[str, bytes]) -> None:
    """Three slots, two sizes, with and without graphs."""
    spec = copy_spec((64, 96))
    backend = DeviceBackend(
        context, spec, cubins=cubins, engine=CopyEngine(spec), description="a test's"
    )
    with segmenter_of(spec, backend) as segmenter:
        for size in ((97, 131), (64, 96)):
            for _ in segmenter.stream(random_frame(size, seed) for seed in range(12)):
                pass
            segmenter.render(random_frame(size, 0))


if __name__ == "__main__":
    main()
