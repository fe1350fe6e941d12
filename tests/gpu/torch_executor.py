"""A torch FP16 network in TensorRT's place. It lives in the tests only.

The pipeline around a network can be shown on a GPU that no TensorRT at hand executes on, with a
real network of real convolutions on the pipeline's own streams. This says nothing of TensorRT.

It can be captured into the pipeline's graph. A `torch.cuda.CUDAGraph` cannot be nested in one, but
torch's kernels on a stream that somebody else captures are recorded like any others, if torch
allocates nothing new meanwhile: so all of an executor's tensors come from a memory pool of its own,
which the runs before the capture have filled, and which nobody else's memory is ever taken from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fcn_trt.cuda.memory import DeviceArray
from fcn_trt.runtime.backend import ImageShape
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, Spec

__all__ = ["TorchEngine", "TorchExecutor"]


class TorchExecutor:
    """One module on one stream at a time, as `fcn_trt.runtime.executor.Executor` says.

    Args:
        module: In FP16 and channels_last, on the GPU; shared by all executors.
        spec: What its input and output are.
        images: (N, 3, H, W) of a batch.
    """

    def __init__(self, module: torch.nn.Module, spec: Spec, images: ImageShape) -> None:
        self._module: torch.nn.Module | None = module
        self._image_shape = images
        self._logits_shape = (images[0], len(spec.classes), *spec.logits_size_of(images[2:]))
        self._logits_type = np.dtype(spec.logits_type)
        self._pool: Any = torch.cuda.MemPool()
        self._streams: dict[int, Any] = {}
        self._tensors: dict[int, torch.Tensor] = {}

    def enqueue(self, inputs: Mapping[str, int], outputs: Mapping[str, int], stream: int) -> None:
        """Start the network on a stream; does not wait."""
        if self._module is None:
            raise RuntimeError("this executor is closed")
        image = self._tensor(inputs[INPUT_NAME], self._image_shape, np.dtype(np.float32))
        logits = self._tensor(outputs[OUTPUT_NAME], self._logits_shape, self._logits_type)
        with (
            torch.inference_mode(),
            torch.cuda.use_mem_pool(self._pool),
            torch.cuda.stream(self._stream(stream)),
        ):
            half = image.to(torch.float16, memory_format=torch.channels_last)
            logits.copy_(self._module(half))

    def close(self) -> None:
        """Free it; a second call does nothing. The pipeline waits for its streams before."""
        self._module = None
        self._tensors.clear()
        self._streams.clear()
        self._pool = None

    def _stream(self, handle: int) -> Any:
        if handle not in self._streams:
            self._streams[handle] = torch.cuda.ExternalStream(handle)
        return self._streams[handle]

    def _tensor(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
        """The pipeline's memory as a tensor, which is a view of it."""
        if address not in self._tensors:
            array = DeviceArray(shape=shape, dtype=dtype, address=address, owner=None)
            self._tensors[address] = torch.as_tensor(array, device="cuda")
        return self._tensors[address]


class TorchEngine:
    """Makes executors of one module.

    Args:
        module: From (N, 3, H, W) images to (N, C, h, w) logits.
        spec: What they are.
    """

    def __init__(self, module: torch.nn.Module, spec: Spec) -> None:
        half = module.to(device="cuda", dtype=torch.float16, memory_format=torch.channels_last)
        self._module: torch.nn.Module | None = half.eval()
        self._spec = spec

    def executor(self, images: ImageShape) -> TorchExecutor:
        """One more, with the same weights."""
        if self._module is None:
            raise RuntimeError("this engine is closed")
        # The weights were copied on torch's stream, which no stream of the pipeline waits for.
        torch.cuda.synchronize()
        return TorchExecutor(self._module, self._spec, images)

    def close(self) -> None:
        """Let the module go; a second call does nothing."""
        self._module = None
