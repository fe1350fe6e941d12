"""The GPU backend on a fake driver: kernels compiled for the host, the network by OpenVINO.

Everything between a frame and its label map is computed for real, in the order in which streams
and graphs would run it. That a GPU does the same is shown by tests/gpu alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fcn_trt.cuda.context import primary_context
from fcn_trt.cuda.nvrtc import KERNEL_FILES
from fcn_trt.engine.openvino.builder import compile_free_shape, compile_network
from fcn_trt.runtime.backend import ImageShape
from fcn_trt.runtime.tensorrt import SLOTS, DeviceBackend
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, read_spec
from tests.cuda.fake_driver import FakeGpu
from tests.cuda.host_kernels import host_library
from tests.plans import as_network

__all__ = ["HostEngine", "HostExecutor", "open_fake_device"]


class HostEngine:
    """Stands in for a TensorRT engine: its executors put OpenVINO's work on the fake's streams."""

    def __init__(self, gpu: FakeGpu, network: Path, kind: type[HostExecutor] | None = None) -> None:
        self.kind = kind or HostExecutor
        self.gpu = gpu
        self.network = network
        self.spec = read_spec(network)
        self.model = compile_network(as_network(network, self.spec)).model
        self.executors: list[HostExecutor] = []
        self.is_closed = False

    def executor(self, images: ImageShape) -> HostExecutor:
        self.executors.append(self.kind(self, images))
        return self.executors[-1]

    def close(self) -> None:
        assert all(executor.is_closed for executor in self.executors), "the engine goes last"
        assert not self.executors or self.gpu.thread().driver, "no context is current"
        self.is_closed = True


class HostExecutor:
    """See `HostEngine`."""

    def __init__(self, engine: HostEngine, images: ImageShape) -> None:
        self.engine, self.images = engine, images
        own = images == (engine.spec.batch, 3, *engine.spec.input_size)
        model = engine.model if own else compile_free_shape(as_network(engine.network, engine.spec))
        self.request: Any = model.create_infer_request()
        self.is_closed = False

    def enqueue(self, inputs: Mapping[str, int], outputs: Mapping[str, int], stream: int) -> None:
        assert not self.is_closed
        spec = self.engine.spec
        image = _array(inputs[INPUT_NAME], self.images)
        shape = (self.images[0], len(spec.classes), *spec.logits_size_of(self.images[2:]))
        logits = _array(outputs[OUTPUT_NAME], shape, spec.logits_type)

        def run() -> None:
            logits[...] = self.request.infer([image])[0]

        addresses = (inputs[INPUT_NAME], outputs[OUTPUT_NAME])
        self.engine.gpu.enqueue(stream, "enqueue", run, addresses)

    def close(self) -> None:
        self.is_closed = True


def open_fake_device(
    gpu: FakeGpu, network: Path, *, slots: int = SLOTS, engine: HostEngine | None = None
) -> DeviceBackend:
    """The backend for a network, on the fake."""
    engine = engine or HostEngine(gpu, network)
    cubins = {file: _host_cubin(file) for file in KERNEL_FILES}
    return DeviceBackend(
        primary_context(),
        engine.spec,
        cubins=cubins,
        engine=engine,
        slots=slots,
        description="a fake GPU",
    )


def _host_cubin(file: str) -> bytes:
    return b"host:" + str(host_library(Path(file).stem)).encode()


def _array(address: int, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray[Any, Any]:
    """Memory of the fake device, which is the host's."""
    size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_uint8 * size_bytes).from_address(address)
    return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
