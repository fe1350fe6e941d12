"""An executor that keeps the whole GPU busy for a given time, in a network's place.

Whether the work around a network hides behind it does not depend on what the network computes, but
on how much of the GPU it leaves: this one leaves nothing. It fills every multiprocessor with as
many threads as fit, so that nobody's kernels run beside it.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from fcn_trt.cuda.context import DeviceContext
from fcn_trt.cuda.driver import load_driver, require_success
from fcn_trt.cuda.nvrtc import compile_source
from fcn_trt.cuda.stream import Event, Stream
from fcn_trt.runtime.backend import ImageShape
from fcn_trt.spec import OUTPUT_NAME

__all__ = ["LoadEngine", "LoadExecutor"]

SOURCE = """
extern "C" __global__ void __launch_bounds__(1024) load(float* never, int rounds, float factor) {
    float a = threadIdx.x, b = blockIdx.x;
    for (int i = 0; i < rounds; ++i) {
        a = a * factor + b;
        b = b * factor + a;
    }
    // The compiler cannot know that nobody gets here, so it keeps the loop.
    if (a == 1.5f && b == 2.5f) *never = a;
}
"""
THREADS = 1024
FIRST_ROUNDS = 20_000


class LoadExecutor:
    """Copies logits that were made before, then computes for nothing; see `Executor`."""

    def __init__(self, engine: LoadEngine) -> None:
        self._engine = engine

    def enqueue(self, inputs: Mapping[str, int], outputs: Mapping[str, int], stream: int) -> None:
        """Start it; does not wait or allocate."""
        del inputs
        self._engine.copy_logits(outputs[OUTPUT_NAME], stream)
        self._engine.launch(stream)

    def close(self) -> None:
        """Nothing is its own."""


class LoadEngine:
    """Makes executors of a given duration.

    Args:
        context: The GPU.
        logits_address: What each run answers.
        logits_bytes: How long that is.
        duration_ms: Of one run, as near as it can be set.

    Raises:
        EngineError: the driver refuses.
    """

    def __init__(
        self, context: DeviceContext, logits_address: int, logits_bytes: int, *, duration_ms: float
    ) -> None:
        self._context = context
        self._logits_address, self._logits_bytes = logits_address, logits_bytes
        self._rounds = FIRST_ROUNDS
        graphs = load_driver().graphs
        with context.active():
            cubin = compile_source(SOURCE, "load.cu", context.compute_capability)
            made = require_success(graphs.cuModuleLoadData(cubin), "load the kernel")
            self._module: Any = made
            found = graphs.cuModuleGetFunction(made, b"load")
            self._function = require_success(found, "find the kernel")
            self._blocks = _resident_blocks(self._function)
            self._tune(duration_ms)

    def executor(self, images: ImageShape) -> LoadExecutor:
        """One more; it answers the same to all images."""
        del images
        return LoadExecutor(self)

    def close(self) -> None:
        """Unload the kernel; a second call does nothing."""
        module, self._module = self._module, None
        if module is not None:
            with self._context.active():
                require_success(load_driver().graphs.cuModuleUnload(module), "unload the kernel")

    def copy_logits(self, target: int, stream: int) -> None:
        """Answer what was given."""
        graphs = load_driver().graphs
        copied = graphs.cuMemcpyDtoDAsync(
            target, self._logits_address, self._logits_bytes, graphs.CUstream(stream)
        )
        require_success(copied, "copy the logits")

    def launch(self, stream: int) -> None:
        """Keep the GPU busy."""
        graphs = load_driver().graphs
        values = (self._logits_address, self._rounds, 0.999)
        types = (ctypes.c_void_p, ctypes.c_int, ctypes.c_float)
        launched = graphs.cuLaunchKernel(
            self._function,
            *(self._blocks, 1, 1),
            *(THREADS, 1, 1),
            0,
            graphs.CUstream(stream),
            (values, types),
            0,
        )
        require_success(launched, "launch the kernel")

    def _tune(self, duration_ms: float) -> None:
        """Find the rounds that take so long; the first guess is far off, the second near."""
        with ExitStack() as stack:
            stream = Stream(self._context)
            stack.callback(stream.close)
            start, end = (Event(self._context, timing=True) for _ in range(2))
            stack.callback(start.close)
            stack.callback(end.close)

            def run_ms() -> float:
                start.record(stream)
                self.launch(stream.handle)
                end.record(stream)
                end.synchronize()
                return end.elapsed_ms(start)

            for _ in range(3):
                found = statistics.median(run_ms() for _ in range(9))
                self._rounds = max(1, round(self._rounds * duration_ms / found))


def _resident_blocks(function: Any) -> int:
    """As many blocks as the GPU holds at once."""
    graphs = load_driver().graphs
    device = require_success(graphs.cuCtxGetDevice(), "find the GPU")
    number = graphs.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
    processors = require_success(graphs.cuDeviceGetAttribute(number, device), "count processors")
    occupancy = graphs.cuOccupancyMaxActiveBlocksPerMultiprocessor(function, THREADS, 0)
    return int(processors) * int(require_success(occupancy, "find how many blocks fit"))
