"""Tests that need a GPU skip with the reason without one; FCN_TRT_REQUIRE=gpu makes that fail.

What only some GPUs can do, such as run TensorRT-RTX's engines, is skipped on the others either way.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from fcn_trt.engine.options import RTX_CAPABILITIES
from fcn_trt.engine.tensorrt.library import TensorRtTarget
from fcn_trt.errors import FcnTrtError
from fcn_trt.machine import Machine, this_machine

if TYPE_CHECKING:
    from fcn_trt.cuda.context import DeviceContext
    from fcn_trt.cuda.device_stages import DeviceStages
    from fcn_trt.cuda.stream import Stream
    from fcn_trt.runtime.backend import Engine
    from fcn_trt.runtime.tensorrt import DeviceBackend
    from fcn_trt.spec import Spec
    from tests.gpu.arrays import Arrays
    from tests.gpu.on_device import DeviceRun


def _skip(reason: str) -> NoReturn:
    if os.environ.get("FCN_TRT_REQUIRE") == "gpu":
        pytest.fail(f"FCN_TRT_REQUIRE=gpu, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def machine() -> Machine:
    """This machine, which has a GPU."""
    found = this_machine()
    if found.gpu is None:
        _skip(f"needs a GPU: {found.gpu_problem}")
    return found


@pytest.fixture(scope="session")
def device(machine: Machine) -> DeviceContext:
    """The GPU's primary context, not active; released when the interpreter ends."""
    from fcn_trt.cuda.context import primary_context

    try:
        return primary_context()
    except FcnTrtError as error:
        _skip(str(error))


@pytest.fixture
def cuda(device: DeviceContext) -> Iterator[ModuleType]:
    """PyCUDA's driver with the primary context current."""
    driver: Any = importlib.import_module("pycuda.driver")
    with device.active():
        yield driver


@pytest.fixture(scope="session")
def cubins(device: DeviceContext) -> dict[str, bytes]:
    """The kernels for this GPU."""
    from fcn_trt.cuda.nvrtc import compile_kernels

    try:
        return compile_kernels(device.compute_capability)
    except FcnTrtError as error:
        _skip(str(error))


@pytest.fixture
def stages(device: DeviceContext, cubins: dict[str, bytes]) -> Iterator[DeviceStages]:
    """The kernels, loaded."""
    from fcn_trt.cuda.device_stages import DeviceStages

    loaded = DeviceStages(device, cubins)
    yield loaded
    loaded.close()


@pytest.fixture
def stream(device: DeviceContext) -> Iterator[Stream]:
    """A stream of this test's own."""
    from fcn_trt.cuda.stream import Stream

    made = Stream(device)
    yield made
    made.close()


@pytest.fixture
def arrays(device: DeviceContext, stream: Stream) -> Iterator[Arrays]:
    """Moves numpy arrays to the GPU and back, and frees them at the end."""
    from tests.gpu.arrays import Arrays

    made = Arrays(device, stream)
    yield made
    made.close()


@pytest.fixture
def run_on_device(
    device: DeviceContext, cubins: dict[str, bytes], stream: Stream
) -> Iterator[DeviceRun]:
    """Takes the place of `run_on_host` in the kernels' tests."""
    from tests.gpu.on_device import DeviceRun

    made = DeviceRun(device, cubins, stream)
    yield made
    made.close()


@pytest.fixture(scope="session")
def torch(machine: Machine) -> ModuleType:
    """torch, which sees the GPU."""
    found: Any = pytest.importorskip("torch", reason="needs torch, which is in the extra `export`")
    if not found.cuda.is_available():
        pytest.skip(f"torch {found.__version__} was built without CUDA or does not see the GPU")
    found.cuda.init()
    module: ModuleType = found
    return module


@pytest.fixture
def make_backend(
    device: DeviceContext, cubins: dict[str, bytes]
) -> Iterator[Callable[..., DeviceBackend]]:
    """The pipeline around an executor of the tests; closed at the end."""
    from fcn_trt.runtime.tensorrt import DeviceBackend

    with ExitStack() as stack:

        def make(spec: Spec, engine: Engine, *, slots: int = 3) -> DeviceBackend:
            made = DeviceBackend(
                device, spec, cubins=cubins, engine=engine, slots=slots, description="a test's"
            )
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture(scope="session")
def sanitizer(device: DeviceContext) -> Path:
    """NVIDIA's compute-sanitizer."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
    found = shutil.which("compute-sanitizer", path=places)
    if found is None:
        pytest.skip("needs compute-sanitizer, of the CUDA toolkit, on PATH or in /usr/local/cuda")
    return Path(found)


@pytest.fixture(scope="session", params=["tensorrt", "tensorrt-rtx"])
def target(request: pytest.FixtureRequest, machine: Machine) -> TensorRtTarget:
    """Each library that is installed and takes this GPU."""
    from fcn_trt.engine.tensorrt.library import load_library

    chosen: TensorRtTarget = request.param
    try:
        load_library(chosen)
    except FcnTrtError as error:
        pytest.skip(str(error))
    if machine.gpu is None:
        _skip("needs a GPU")
    capability = machine.gpu.compute_capability
    if chosen == "tensorrt-rtx" and capability not in RTX_CAPABILITIES:
        pytest.skip(
            f"TensorRT-RTX does not run on compute capability {capability} ({machine.gpu.name})"
        )
    return chosen
