"""Ways in which a program that uses the pipeline ends; each is a process of its own.

    python -m tests.gpu.endings NAME

Nothing here is closed but by what the name says.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from fcn_trt.cuda.context import primary_context
from fcn_trt.cuda.nvrtc import compile_kernels
from fcn_trt.runtime.backend import Engine
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.runtime.tensorrt import DeviceBackend
from tests.gpu.executors import CopyEngine, copy_spec, make_spec, random_frame, segmenter_of

ENDINGS: dict[str, Callable[[], object]] = {}


def main() -> None:
    """Run one of them; the last line on stdout is "end"."""
    _kept.append(ENDINGS[sys.argv[1]]())
    sys.stdout.write("end\n")


_kept: list[object] = []
"""What is alive when the interpreter ends."""


def ending(work: Callable[[], object]) -> Callable[[], object]:
    """One of the ways."""
    ENDINGS[work.__name__] = work
    return work


def open_segmenter(**options: Any) -> Segmenter:
    """A segmenter around the executor that copies."""
    spec = copy_spec((64, 96))
    return _segmenter(spec, CopyEngine(spec, **options))


def _segmenter(spec: Any, engine: Engine) -> Segmenter:
    context = primary_context()
    cubins = compile_kernels(context.compute_capability)
    backend = DeviceBackend(context, spec, cubins=cubins, engine=engine, description="a test's")
    return segmenter_of(spec, backend)


def frames() -> Any:
    """Without an end."""
    return (random_frame((97, 131), seed) for seed in range(1 << 30))


@ending
def closed() -> object:
    """As it should be."""
    with open_segmenter() as segmenter:
        return segmenter.segment(next(frames()))


@ending
def open_at_exit() -> object:
    """Nobody closes it; it was used, and its graph is there."""
    segmenter = open_segmenter()
    for _ in range(5):
        segmenter.segment(next(frames()))
    return segmenter


@ending
def in_flight_at_exit() -> object:
    """Three frames are on their way."""
    segmenter = open_segmenter()
    stream = segmenter.stream(frames())
    for _ in range(10):
        next(stream)
    return segmenter, stream


@ending
def exception_in_flight() -> object:
    """The caller's own error leaves the segmenter while frames are on their way."""
    with open_segmenter() as segmenter:
        for index, _ in enumerate(segmenter.stream(frames())):
            if index == 7:
                raise LookupError("the caller's own")
    return None


@ending
def engine_fails() -> object:
    """The engine refuses a frame while others are on their way."""
    with open_segmenter(fails_at=2) as segmenter:
        return list(segmenter.stream(random_frame((97, 131), seed) for seed in range(10)))


@ending
def made_in_a_thread() -> object:
    """A worker makes it, uses it and ends; nobody closes it."""
    made: list[Segmenter] = []

    def work() -> None:
        made.append(open_segmenter())
        for _ in range(5):
            made[0].segment(next(frames()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    made[0].segment(next(frames()))
    return made


@ending
def closed_in_a_thread() -> object:
    """The main thread makes it, and a worker uses and closes it."""
    segmenter = open_segmenter()

    def work() -> None:
        with segmenter:
            for _ in range(5):
                segmenter.segment(next(frames()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return segmenter


@ending
def daemon_at_work() -> object:
    """A daemon thread still segments while the main thread closes and ends."""
    segmenter, started = open_segmenter(), threading.Event()

    def work() -> None:
        try:
            while True:
                segmenter.segment(next(frames()))
                started.set()
        except RuntimeError as error:
            # What the main thread closed meanwhile says so.
            if "closed" not in str(error):
                raise

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    started.wait(60)
    segmenter.close()
    thread.join(60)
    return segmenter


@ending
def torch_network() -> object:
    """As open_at_exit, with torch's network, whose library is unloaded then, too."""
    import torch

    from fcn_trt.model.architecture import architecture
    from fcn_trt.model.fcn import Fcn
    from tests.gpu.torch_executor import TorchEngine

    torch.manual_seed(0)
    module = Fcn(architecture("fcn_r18-d8"), 19, base_width=16)
    spec = make_spec((64, 128), classes=19, stride=8, logits_type="float16")
    segmenter = _segmenter(spec, TorchEngine(module, spec))
    for _ in range(5):
        segmenter.segment(next(frames()))
    return segmenter


if __name__ == "__main__":
    main()
