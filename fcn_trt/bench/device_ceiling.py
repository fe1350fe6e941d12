"""What the GPU can do at most, measured: products of matrices, and copies within its memory.

The products go the way of every network, from ONNX through the builder to a segmenter, so that a
network's rate and its ceiling are of the same library, the same types and the same clock.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from fcn_trt.bench.ceiling import COPIES, LEAST_ROUNDS, SECONDS, Ceiling
from fcn_trt.bench.measurement import NETWORK
from fcn_trt.bench.random_bundle import quick_type
from fcn_trt.bench.steadiness import disturbances, this_moment
from fcn_trt.cuda.context import DeviceContext, primary_context
from fcn_trt.cuda.memory import DeviceBuffer, copy_on_device
from fcn_trt.cuda.stream import Event, Stream
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.tensorrt.library import TensorRtTarget
from fcn_trt.errors import FcnTrtError
from fcn_trt.files import temporary_folder
from fcn_trt.machine import this_machine
from fcn_trt.pipeline.plan import Compile, Plan
from fcn_trt.pipeline.run import run
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import Precision

__all__ = ["device_copy_gb_per_s", "engine_gmac_per_s", "measure_device_ceiling"]

_COPY_BYTES = 1 << 30
"""Much more than caches hold; less where an eighth of the free memory is less."""

_COPIES = 4
"""Between two marks, so that what a mark costs weighs little."""


def measure_device_ceiling(
    precisions: Iterable[Precision], target: TensorRtTarget, *, seconds: float = SECONDS
) -> Ceiling:
    """Measure what the GPU can do.

    Args:
        precisions: Types to multiply in; one that this GPU does not compute, or that cannot be
            built here, is left out.
        seconds: How long each is measured, and copying.
    """
    machine = this_machine()
    if machine.gpu is None:
        reason = f"there is no GPU to measure: {machine.gpu_problem}"
        return Ceiling(gmac_per_s={}, copy_gb_per_s=None, left_out={"gpu": reason})
    options = BuildOptions(compute_capabilities=(machine.gpu.compute_capability,))
    calls: dict[str, Callable[[], float]] = {
        precision: partial(_product_gmac_per_s, precision, target, options, seconds)
        for precision in precisions
    }
    calls[COPIES] = partial(device_copy_gb_per_s, seconds=seconds)
    rates: dict[str, float] = {}
    left_out: dict[str, str] = {}
    before = this_moment()
    for name, call in calls.items():
        try:
            rates[name] = call()
        except FcnTrtError as error:  # noqa: PERF203  # the others are measured all the same
            left_out[name] = str(error)
        except ModuleNotFoundError as error:
            left_out[name] = (
                f"measuring it needs the package {error.name}; install the export extra with "
                "`pip install 'fcn-trt[export]'`"
            )
    copies = rates.pop(COPIES, None)
    return Ceiling(
        gmac_per_s=rates,
        copy_gb_per_s=copies,
        left_out=left_out,
        remarks=disturbances(before, this_moment(), cores=os.cpu_count() or 1),
    )


def engine_gmac_per_s(bundle: Path, *, seconds: float) -> float:
    """The highest rate of a network alone: 1e9 multiply-accumulates a second.

    Raises:
        BundleError, EngineError: as for `Segmenter.load`.
    """
    with Segmenter.load(bundle) as segmenter:
        size = segmenter.spec.input_size
        frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        least_s = _least(lambda: segmenter.time_stages(frame)[NETWORK], seconds)
        return sum(segmenter.manifest.precision_proven.gmac.values()) / least_s


def device_copy_gb_per_s(*, seconds: float = SECONDS, size_bytes: int | None = None) -> float:
    """1e9 bytes a second, those read and those written, of a copy within the GPU's memory.

    Args:
        size_bytes: Of what is copied; None takes 1 GiB, or an eighth of the free memory where that
            is less.

    Raises:
        MissingExtraError: PyCUDA or cuda-bindings is missing.
        EngineError: there is no GPU, or its memory is full.
    """
    context = primary_context()
    if size_bytes is None:
        free_bytes, _ = context.memory_bytes()
        size_bytes = max(1, min(_COPY_BYTES, free_bytes // 8))
    with ExitStack() as stack:
        timed = _timed_copy(context, size_bytes, stack)
        return 2 * size_bytes / 1e9 / _least(timed, seconds)


def _product_gmac_per_s(
    precision: Precision, target: TensorRtTarget, options: BuildOptions, seconds: float
) -> float:
    """1e9 multiply-accumulates a second of products in one type; see `measure_device_ceiling`."""
    from fcn_trt.network.matrix_products import write_product_network

    step = Compile(target=target, options=options)
    with temporary_folder() as folder:
        step.check(folder / "bundle", precision)
        network = write_product_network(folder / "fp32.onnx")
        typing = quick_type(precision, network.spec.input_size)
        run(Plan(source=network, type=typing, compile=step), folder / "bundle")
        return engine_gmac_per_s(folder / "bundle", seconds=seconds)


def _least(timed: Callable[[], float], seconds: float) -> float:
    """The shortest of many runs, each of which tells its own seconds; a first one warms up."""
    timed()
    least_s, begin, rounds = math.inf, time.perf_counter(), 0
    while rounds < LEAST_ROUNDS or time.perf_counter() - begin < seconds:
        least_s = min(least_s, timed())
        rounds += 1
    return max(least_s, 1e-9)


def _timed_copy(context: DeviceContext, size_bytes: int, stack: ExitStack) -> Callable[[], float]:
    """Copies between two buffers, which the stack frees; tells the GPU's seconds of one."""
    stream = stack.enter_context(Stream(context))
    source = stack.enter_context(DeviceBuffer(context, size_bytes))
    target = stack.enter_context(DeviceBuffer(context, size_bytes))
    start = stack.enter_context(Event(context, timing=True))
    end = stack.enter_context(Event(context, timing=True))
    source.fill_zero(stream)
    stack.callback(stream.synchronize)  # nothing is freed while it is copied
    copy = partial(copy_on_device, target.address, source.address, size_bytes, stream)

    def timed() -> float:
        with context.active():
            # While the GPU is busy with this one, the processor queues those that are timed.
            copy()
            start.record(stream)
            for _ in range(_COPIES):
                copy()
            end.record(stream)
            end.synchronize()
            return end.elapsed_ms(start) / 1000 / _COPIES

    return timed
