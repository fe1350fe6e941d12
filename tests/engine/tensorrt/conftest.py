"""The real TensorRT-RTX, whose builder needs no GPU."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def rtx() -> ModuleType:
    """The module `tensorrt_rtx`."""
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        pytest.skip(f"needs TensorRT-RTX, which has wheels for x86-64 Linux and Windows: {error}")
