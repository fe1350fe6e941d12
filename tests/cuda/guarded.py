"""Memory that shows what a kernel wrote beyond its end or left as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Guarded"]

GUARD_BYTES = 256
PATTERN = 0xA5


class Guarded:
    """An array between two guards, at any alignment.

    Attributes:
        array: What a kernel may write; filled with a pattern.
        address: Of its first byte: a multiple of 64, plus shift.
    """

    def __init__(self, shape, dtype=np.uint8, *, shift: int = 0) -> None:
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        self._whole = np.full(size + 2 * GUARD_BYTES + 64 + shift, PATTERN, np.uint8)
        self._start = GUARD_BYTES + -(self._whole.ctypes.data + GUARD_BYTES) % 64 + shift
        self._stop = self._start + size
        bytes_ = self._whole[self._start : self._stop]
        self.address = bytes_.ctypes.data
        self.array: npt.NDArray[Any] = np.ndarray(shape, dtype, bytes_.data)

    def checked(self) -> npt.NDArray[Any]:
        """The array, once it is sure that nothing around it was written."""
        outside = np.concatenate([self._whole[: self._start], self._whole[self._stop :]])
        assert (outside == PATTERN).all(), "bytes outside of the array were overwritten"
        return self.array
