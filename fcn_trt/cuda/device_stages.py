"""The stages on the GPU, launched on a stream.

They do what the host's `fcn_trt.stages` of the same names do, on addresses instead of arrays, in
the order of a stream, and wait for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import numpy.typing as npt

from fcn_trt.cuda.context import DeviceContext
from fcn_trt.cuda.launch import Kernel, Kernels
from fcn_trt.cuda.nvrtc import KERNEL_FILES
from fcn_trt.cuda.stage_launches import (
    SIGNATURES,
    Channels,
    FrameView,
    Launch,
    decode_launch,
    overlay_launch,
    palette_table,
    preprocess_launch,
)
from fcn_trt.cuda.stream import Stream
from fcn_trt.errors import EngineError
from fcn_trt.files import Closing
from fcn_trt.spec import Size

__all__ = ["DeviceStages", "FrameView", "palette_table"]


class DeviceStages(Closing):
    """The kernels of one bundle, loaded on one GPU.

    Methods may be called from any thread; they only put work on a stream.
    """

    def __init__(self, context: DeviceContext, cubins: Mapping[str, bytes]) -> None:
        """Load them.

        Args:
            context: The GPU.
            cubins: By file name, as `compile_kernels` makes them.

        Raises:
            EngineError: one is missing, or does not fit this GPU or this release of the package.
        """
        missing = [file for file in KERNEL_FILES if file not in cubins]
        if missing:
            raise EngineError(f"{', '.join(missing)} is missing; build the bundle again")
        self._kernels: dict[str, Kernel] = {}
        with ExitStack() as stack:
            sets: dict[str, Kernels] = {}
            for file in KERNEL_FILES:
                sets[file] = Kernels(context, cubins[file])
                stack.callback(sets[file].close)
            for name, signature in SIGNATURES.items():
                file = f"{name.partition('_')[0]}.cubin"
                self._kernels[name] = sets[file].function(name, signature)
            self._stack = stack.pop_all()

    def preprocess(
        self,
        stream: Stream,
        frame: FrameView,
        tensor_address: int,
        size: Size,
        *,
        mean: Channels,
        std: Channels,
        dtype: npt.DTypeLike,
    ) -> None:
        """Resize, reorder and normalise one frame into one image of the network's input.

        Args:
            frame: What to read.
            tensor_address: Of (3, height, width) values that are overwritten.
            size: (height, width) of the network's input.
            mean: Per channel R, G, B, on pixels of 0 to 255.
            std: Per channel R, G, B, on pixels of 0 to 255.
            dtype: float32 or float16.

        Raises:
            ValueError: an argument is not valid.
            EngineError: the driver refuses.
        """
        made = preprocess_launch(frame, tensor_address, size, mean=mean, std=std, dtype=dtype)
        self._launch(stream, made)

    def decode(
        self,
        stream: Stream,
        logits_address: int,
        logits_shape: tuple[int, int, int],
        dtype: npt.DTypeLike,
        size: Size,
        label_address: int,
        *,
        align_corners: bool,
        confidence_address: int = 0,
        unknown_below: int = 0,
    ) -> None:
        """Upsample logits to the frame and take the best class of each pixel.

        Args:
            logits_address: Of the logits of one image.
            logits_shape: (C, h, w), C at most 256.
            dtype: float32 or float16.
            size: (height, width) of the frame.
            label_address: Of (height, width) bytes that are overwritten.
            align_corners: Whether the corners of both grids coincide, instead of their edges.
            confidence_address: Of (height, width) bytes for the winner's softmax, or 0 for none.
            unknown_below: Pixels of less confidence become 255; 0 to 255.

        Raises:
            ValueError: an argument is not valid.
            EngineError: the driver refuses.
        """
        made = decode_launch(
            logits_address,
            logits_shape,
            dtype,
            size,
            label_address,
            align_corners=align_corners,
            confidence_address=confidence_address,
            unknown_below=unknown_below,
        )
        self._launch(stream, made)

    def overlay(
        self,
        stream: Stream,
        frame: FrameView | None,
        label_address: int,
        size: Size,
        palette_address: int,
        view_address: int,
        *,
        opacity: float,
    ) -> None:
        """Blend a label map's colours over its frame.

        Args:
            frame: The frame, or None for the colours alone.
            label_address: Of (height, width) labels.
            size: (height, width) of labels and view.
            palette_address: Of what `palette_table` makes; a multiple of 4.
            view_address: Of (height, width, 3) bytes, BGR, that are overwritten.
            opacity: Share of the colour, between 0 and 1.

        Raises:
            ValueError: an argument is not valid.
            EngineError: the driver refuses.
        """
        made = overlay_launch(
            frame, label_address, size, palette_address, view_address, opacity=opacity
        )
        self._launch(stream, made)

    def close(self) -> None:
        """Unload the kernels; again does nothing."""
        self._stack.close()

    def _launch(self, stream: Stream, made: Launch) -> None:
        self._kernels[made.kernel].launch(stream, made.grid, made.block, *made.arguments)
