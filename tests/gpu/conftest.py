"""Tests that need a GPU skip with the reason without one; FCN_TRT_REQUIRE=gpu makes that fail."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NoReturn

import pytest

from fcn_trt.engine.tensorrt.library import TensorRtTarget
from fcn_trt.errors import FcnTrtError
from fcn_trt.machine import Machine, this_machine
from fcn_trt.options import RTX_CAPABILITIES


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
def cuda(machine: Machine) -> Iterator[ModuleType]:
    """PyCUDA's driver with the primary context current."""
    try:
        driver: Any = importlib.import_module("pycuda.driver")
    except ImportError as error:
        _skip(f"needs PyCUDA: {error}")
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    try:
        yield driver
    finally:
        context.pop()


@pytest.fixture(scope="session", params=["tensorrt", "tensorrt-rtx"])
def target(request: pytest.FixtureRequest, machine: Machine) -> TensorRtTarget:
    """Each library that is installed and takes this GPU."""
    from fcn_trt.engine.tensorrt.library import load_library

    chosen: TensorRtTarget = request.param
    try:
        load_library(chosen)
    except FcnTrtError as error:
        _skip(str(error))
    if machine.gpu is None:
        _skip("needs a GPU")
    capability = machine.gpu.compute_capability
    if chosen == "tensorrt-rtx" and capability not in RTX_CAPABILITIES:
        _skip(f"TensorRT-RTX does not run on compute capability {capability} ({machine.gpu.name})")
    return chosen
