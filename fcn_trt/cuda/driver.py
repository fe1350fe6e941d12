"""PyCUDA and cuda-bindings: loaded when first needed, their errors told in one sentence.

PyCUDA owns contexts, memory, streams, events and modules. It has no CUDA graphs; those come from
cuda-bindings, on the handles of PyCUDA's streams.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from fcn_trt.errors import EngineError, MissingExtraError
from fcn_trt.forks import require_unforked

__all__ = ["Driver", "cuda_errors", "load_driver", "require_success"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The two libraries; neither has type stubs.

    Attributes:
        cuda: The module pycuda.driver.
        graphs: The module cuda.bindings.driver.
    """

    cuda: Any
    graphs: Any


@functools.cache
def load_driver() -> Driver:
    """Import both libraries, once per process.

    Raises:
        MissingExtraError: one is not installed, or the GPU's driver is not.
    """
    try:
        return Driver(
            cuda=importlib.import_module("pycuda.driver"),
            graphs=importlib.import_module("cuda.bindings.driver"),
        )
    except ImportError as error:
        raise MissingExtraError(
            f"running on a GPU needs PyCUDA, cuda-bindings and the GPU's driver ({error}); install "
            "them with `pip install 'fcn-trt[cuda]'`, and `fcn-trt doctor` says what else helps"
        ) from error


class cuda_errors:  # noqa: N801  # it is called like a function
    """Turn PyCUDA's errors into EngineError; they name the driver's call and explain.

    After a fork nothing is done any more, and the error says that.

    A class, because a generator's frames would keep the traceback that is dropped here.

    Args:
        work: What was done, for "cannot ...".
    """

    __slots__ = ("_cuda", "_work")

    def __init__(self, work: str) -> None:
        self._work = work
        self._cuda = load_driver().cuda

    def __enter__(self) -> None:
        require_unforked("CUDA", self._work)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # PyCUDA frees a stream with its last reference: nothing may hold the refused call's frame.
        del trace
        if error is None or not isinstance(error, self._cuda.Error):
            return
        # A kernel's compile log comes with line ends and the zeros that end a C string.
        told = " ".join(str(error).replace("\0", " ").split())
        raise EngineError(f"cannot {self._work}: {told}") from error.with_traceback(None)


def require_success(result: tuple[Any, ...], work: str) -> Any:
    """Take the value out of what a function of cuda-bindings returned.

    Args:
        result: The status, then the values.
        work: What was done, for "cannot ...".

    Returns:
        The first value; None where there is none.

    Raises:
        EngineError: the status is not CUDA_SUCCESS; it names and explains the status.
    """
    status, *values = result
    if int(status) != 0:
        raise EngineError(f"cannot {work}: {_explain(status)}")
    return values[0] if values else None


def _explain(status: Any) -> str:
    graphs = load_driver().graphs
    told = (graphs.cuGetErrorName(status)[1], graphs.cuGetErrorString(status)[1])
    known = [text.decode() for text in told if text]
    return ": ".join(known) or f"unknown CUDA error {int(status)}"
