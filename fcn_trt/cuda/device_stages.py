"""The stages on the GPU, launched on a stream.

They do what the host's `fcn_trt.stages` of the same names do, on addresses instead of arrays, in
the order of a stream, and wait for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Concatenate, ParamSpec

from fcn_trt.cuda.context import DeviceContext
from fcn_trt.cuda.launch import Kernel, Kernels
from fcn_trt.cuda.nvrtc import KERNEL_FILES
from fcn_trt.cuda.stage_launches import (
    SIGNATURES,
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

__all__ = ["DeviceStages", "FrameView", "palette_table"]


_Given = ParamSpec("_Given")


def _launches(
    describe: Callable[_Given, Launch],
) -> Callable[Concatenate[DeviceStages, Stream, _Given], None]:
    """A method that puts on a stream what `describe` makes of its other arguments."""

    def launch(
        stages: DeviceStages, stream: Stream, /, *args: _Given.args, **kwargs: _Given.kwargs
    ) -> None:
        made = describe(*args, **kwargs)
        stages._kernels[made.kernel].launch(stream, made.grid, made.block, *made.arguments)

    launch.__doc__ = describe.__doc__
    return launch


class DeviceStages(Closing):
    """The kernels of one bundle, loaded on one GPU.

    Methods may be called from any thread; they only put work on a stream. Each takes the stream and
    then what the function of its name in `stage_launches` takes; it raises what that raises, and
    EngineError where the driver refuses.
    """

    def __init__(self, context: DeviceContext, cubins: Mapping[str, bytes]) -> None:
        """Load them.

        Args:
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

    preprocess = _launches(preprocess_launch)
    decode = _launches(decode_launch)
    overlay = _launches(overlay_launch)

    def close(self) -> None:
        """Unload the kernels; again does nothing."""
        self._stack.close()
