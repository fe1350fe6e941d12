"""The memory of one frame on its way through the GPU, on both sides."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from fcn_trt.cuda.context import DeviceContext
from fcn_trt.cuda.device_stages import FrameView
from fcn_trt.cuda.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from fcn_trt.cuda.stream import Stream
from fcn_trt.spec import Size

__all__ = ["FrameMemory", "Pair"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Memory of the host and, if the device does not share it, of the device.

    Attributes:
        host: Page-locked.
        device: None on an integrated GPU, whose kernels use the host's.
        address: Where kernels find it.
    """

    host: PinnedBuffer
    device: DeviceBuffer | None
    address: int

    @classmethod
    def make(cls, context: DeviceContext, size_bytes: int, stack: ExitStack) -> Pair:
        """Allocate both; the stack frees them."""
        host = PinnedBuffer(context, size_bytes)
        stack.callback(host.close)
        if host.device_address is not None:
            return cls(host, None, host.device_address)
        device = DeviceBuffer(context, size_bytes)
        stack.callback(device.close)
        return cls(host, device, device.address)

    def upload(self, stream: Stream) -> None:
        """From the host to the device."""
        if self.device is not None:
            copy_to_device(self.address, self.host, self.device.size_bytes, stream)

    def download(self, stream: Stream) -> None:
        """From the device to the host."""
        if self.device is not None:
            copy_to_host(self.host, self.address, self.device.size_bytes, stream)


@dataclass(frozen=True, slots=True)
class FrameMemory:
    """Where one frame of a batch and what becomes of it lie.

    Attributes:
        size: (height, width) of the frame.
        frame: (H, W, 3) uint8 BGR.
        label_map: (H, W) uint8.
        view: (H, W, 3) uint8 BGR, the frame with its colours; None where none are painted.
    """

    size: Size
    frame: Pair
    label_map: Pair
    view: Pair | None

    @classmethod
    def make(
        cls, context: DeviceContext, size: Size, *, painted: bool, stack: ExitStack
    ) -> FrameMemory:
        """Allocate it; the stack frees it."""
        pixels = size[0] * size[1]
        return cls(
            size=size,
            frame=Pair.make(context, pixels * 3, stack),
            label_map=Pair.make(context, pixels, stack),
            view=Pair.make(context, pixels * 3, stack) if painted else None,
        )

    @property
    def on_device(self) -> FrameView:
        """The frame, for kernels."""
        pitch = self.size[1] * 3
        return FrameView(
            address=self.frame.address, size=self.size, pitch_bytes=pitch, layout="bgr"
        )
