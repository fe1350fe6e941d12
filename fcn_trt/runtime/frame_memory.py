"""What frames go through on a GPU: memory on both sides, and the graph of the work on them."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass

from fcn_trt.cuda.context import DeviceContext
from fcn_trt.cuda.device_stages import FrameView
from fcn_trt.cuda.graph import Graph
from fcn_trt.cuda.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from fcn_trt.cuda.stream import Stream
from fcn_trt.files import Closing
from fcn_trt.spec import Size

__all__ = ["BufferPool", "FrameBuffers", "FrameMemory", "Pair"]

KEPT_SIZES = 4
"""Sizes of frames, such as those of several cameras, whose memory and graphs stay."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A buffer on the host and, if the device does not share its memory, one on the device.

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
        """Copy from the host to the device."""
        if self.device is not None:
            copy_to_device(self.address, self.host, self.device.size_bytes, stream)

    def download(self, stream: Stream) -> None:
        """Copy from the device to the host."""
        if self.device is not None:
            copy_to_host(self.host, self.address, self.device.size_bytes, stream)


@dataclass(frozen=True, slots=True)
class FrameMemory:
    """The buffers of one frame of a batch and of its results.

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
        return FrameView(address=self.frame.address, size=self.size, pitch_bytes=self.size[1] * 3)


@dataclass(slots=True)
class FrameBuffers:
    """The buffers and the graph of a batch of frames of certain sizes.

    Attributes:
        images: Memory of each frame.
        memory: Frees the buffers.
        opacity: Of the colours, in the last runs; None painted none.
        runs: How many had that opacity.
        graph: Of such a run; None before there is one.
    """

    images: list[FrameMemory]
    memory: ExitStack
    opacity: float | None = None
    runs: int = 0
    graph: Graph | None = None

    def set_opacity(self, opacity: float | None) -> None:
        """Paint with another opacity from now on, which a graph does not do."""
        if opacity != self.opacity:
            self.drop_graph()
            self.opacity, self.runs = opacity, 0

    def drop_graph(self) -> None:
        """Free the graph."""
        graph, self.graph = self.graph, None
        if graph is not None:
            graph.close()

    def close(self) -> None:
        """Free the graph, and then the memory that it uses."""
        self.drop_graph()
        self.memory.close()


class BufferPool(Closing):
    """The frame buffers of one slot; the least recently used are freed first.

    Attributes:
        none: Those of no frames.
    """

    def __init__(self, context: DeviceContext) -> None:
        self.none = FrameBuffers([], ExitStack())
        self._context = context
        self._kept: OrderedDict[tuple[tuple[Size, ...], bool], FrameBuffers] = OrderedDict()

    def find(self, sizes: tuple[Size, ...], *, painted: bool, stream: Stream) -> FrameBuffers:
        """Return the buffers for frames of these sizes; allocate them if there are none.

        Args:
            sizes: (height, width) of each frame.
            painted: Whether there is to be memory for their pictures.
            stream: On which they are used; waited for before any is freed.

        Raises:
            EngineError: the device has no memory for it.
        """
        buffers = self._kept.get((sizes, painted))
        if buffers is None:
            while len(self._kept) >= KEPT_SIZES:
                stream.synchronize()
                self._kept.popitem(last=False)[1].close()
            with ExitStack() as stack:
                images = [
                    FrameMemory.make(self._context, size, painted=painted, stack=stack)
                    for size in sizes
                ]
                buffers = self._kept[sizes, painted] = FrameBuffers(images, stack.pop_all())
        self._kept.move_to_end((sizes, painted))
        return buffers

    def drop_graphs(self) -> None:
        """Free the graphs."""
        for buffers in self._kept.values():
            buffers.drop_graph()

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        while self._kept:
            self._kept.popitem()[1].close()
