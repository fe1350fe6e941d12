"""Images of one shape that are prepared already: to the GPU, through the network, logits back."""

from __future__ import annotations

import logging
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from fcn_trt.cuda.context import DeviceContext
from fcn_trt.cuda.stream import Stream
from fcn_trt.errors import EngineError
from fcn_trt.files import Closing
from fcn_trt.runtime.backend import Executor, ImageShape
from fcn_trt.runtime.frame_memory import Pair
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, Logits, Size, Spec

__all__ = ["PreparedImages"]

_log = logging.getLogger(__name__)


class PreparedImages(Closing):
    """A runner of the network alone on batches of one shape; used by one thread at a time.

    Args:
        executor: Computes images of the shape; it is closed here.
        shape: (N, 3, H, W) of a batch.

    Raises:
        EngineError: the device has no memory for it; then the executor is closed, too.
    """

    def __init__(
        self, context: DeviceContext, spec: Spec, executor: Executor, shape: ImageShape
    ) -> None:
        self._context, self._executor, self._shape = context, executor, shape
        self._logits_type = np.dtype(spec.logits_type)
        self._logits_shape = (shape[0], len(spec.classes), *spec.logits_size_of(shape[2:]))
        self._memory = ExitStack()
        with ExitStack() as failed:
            failed.callback(self.close)
            self._stream = Stream(context)
            self._memory.callback(self._stream.close)
            logits_bytes = int(np.prod(self._logits_shape)) * self._logits_type.itemsize
            self._images = Pair.make(context, int(np.prod(shape)) * 4, self._memory)
            self._logits = Pair.make(context, logits_bytes, self._memory)
            failed.pop_all()

    @property
    def size(self) -> Size:
        """(height, width) of the images."""
        return self._shape[2:]

    def run(self, images: npt.NDArray[np.float32]) -> Logits:
        """Run images through the network and return their logits; waits.

        Args:
            images: (n, 3, H, W) float32, with n at most the batch; what is missing is zeros.

        Returns:
            (n, C, h, w) float32.

        Raises:
            EngineError: the network failed.
        """
        batch = self._images.host.array.view(np.float32).reshape(self._shape)
        np.copyto(batch[: len(images)], images)
        batch[len(images) :] = 0
        inputs, outputs = {INPUT_NAME: self._images.address}, {OUTPUT_NAME: self._logits.address}
        try:
            self._images.upload(self._stream)
            with self._context.active():
                self._executor.enqueue(inputs, outputs, self._stream.handle)
            self._logits.download(self._stream)
        finally:  # the memory must not be written or freed while the GPU uses it
            self._stream.synchronize()
        found = self._logits.host.array.view(self._logits_type).reshape(self._logits_shape)
        logits: Logits = found[: len(images)].astype(np.float32)
        return logits

    def stop(self) -> None:
        """Free the executor, which must go before its engine; hides no other error."""
        try:
            self._stream.synchronize()
        except (EngineError, RuntimeError) as error:
            _log.warning("while closing: %s", str(error))
        self._executor.close()

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        self._executor.close()
        self._memory.close()
