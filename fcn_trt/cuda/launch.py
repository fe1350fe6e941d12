"""Compiled kernels: loaded from a cubin, launched with prepared signatures."""

from __future__ import annotations

from typing import Any

from fcn_trt.cuda.context import DeviceContext, DeviceObject
from fcn_trt.cuda.driver import cuda_errors, load_driver
from fcn_trt.cuda.stream import Stream

__all__ = ["Kernel", "Kernels"]

_TYPES = frozenset("PbBhHiIlLqQfd")


class Kernels(DeviceObject):
    """The kernels of one cubin."""

    noun = "set of kernels"

    def __init__(self, context: DeviceContext, cubin: bytes) -> None:
        """Load it.

        Args:
            context: The GPU, of the compute capability that the cubin was compiled for.
            cubin: What NVRTC made.

        Raises:
            EngineError: it is damaged or for another GPU.
        """
        cuda = load_driver().cuda
        self._functions: dict[Kernel, Any] = {}
        work = f"load kernels on {context.name} (compute capability {context.compute_capability})"
        super().__init__(context, lambda: cuda.module_from_buffer(cubin), work=work)

    def function(self, name: str, signature: str) -> Kernel:
        """Find a kernel.

        Args:
            name: As in the source, without mangling.
            signature: One letter of the module `struct` per argument; P is an address.

        Raises:
            ValueError: the signature has another letter.
            EngineError: there is no such kernel.
        """
        if not _TYPES.issuperset(signature):
            raise ValueError(
                f"the signature {signature!r} of kernel {name} has letters outside "
                f"{''.join(sorted(_TYPES))}"
            )
        kernel = Kernel(self, name=name, signature=signature)
        with self.context.active(), cuda_errors(f"find kernel {name}"):
            self._functions[kernel] = self.raw.get_function(name).prepare(signature)
        return kernel

    def prepared(self, kernel: Kernel) -> Any:
        """PyCUDA's function of a kernel of this set.

        Raises:
            RuntimeError: the set is closed.
        """
        _ = self.raw
        return self._functions[kernel]

    def close(self) -> None:
        """Unload it; again does nothing."""
        # Each of PyCUDA's functions keeps its module loaded.
        self._functions.clear()
        super().close()


class Kernel:
    """One kernel; it lives as long as the set it is from.

    Attributes:
        name: As in the source.
        signature: One letter of the module `struct` per argument.
    """

    def __init__(self, kernels: Kernels, *, name: str, signature: str) -> None:
        """`Kernels.function` makes it."""
        self.name = name
        self.signature = signature
        self._kernels = kernels

    def launch(
        self,
        stream: Stream,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        *arguments: int | float,
    ) -> None:
        """Launch it in the stream's order.

        Args:
            grid: (x, y, z) blocks.
            block: (x, y, z) threads of a block.
            arguments: As the signature says; addresses are integers.

        Raises:
            ValueError: there are more or fewer arguments than the signature has.
            EngineError: the driver refuses.
        """
        if len(arguments) != len(self.signature):
            raise ValueError(
                f"kernel {self.name} takes {len(self.signature)} arguments, not {len(arguments)}"
            )
        kernels = self._kernels
        with kernels.context.active(), cuda_errors(f"launch kernel {self.name}"):
            kernels.prepared(self).prepared_async_call(grid, block, stream.raw, *arguments)
