"""The fake in place of PyCUDA and cuda-bindings: bookkeeping only, no GPU, and said so."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from tests.cuda.fake_bindings import Bindings
from tests.cuda.fake_gpu import FakeGpu
from tests.cuda.fake_pycuda import PyCuda
from tests.cuda.fake_state import FakeDriverMisuse

__all__ = ["FakeDriverMisuse", "FakeGpu", "fake_modules", "installed_fake"]


OWN = ("gpu", "told", "state_of", "current")
"""What the two classes have that the modules have not."""


@contextmanager
def installed_fake(
    monkeypatch: pytest.MonkeyPatch,
    *,
    capability: tuple[int, int] = (8, 7),
    is_integrated: bool = False,
    memory_bytes: int = 1 << 31,
) -> Iterator[FakeGpu]:
    """Put the fake in place of both libraries; at the end nothing may be held or was done wrong."""
    from fcn_trt.cuda.context import release_contexts
    from fcn_trt.cuda.driver import load_driver

    gpu = FakeGpu(capability=capability, is_integrated=is_integrated, memory_bytes=memory_bytes)
    release_contexts()
    load_driver.cache_clear()
    with monkeypatch.context() as patch:
        for name, module in fake_modules(gpu).items():
            patch.setitem(sys.modules, name, module)
        try:
            yield gpu
            # Before the contexts go: they close what was forgotten.
            assert not gpu.leaks(), f"not closed: {gpu.leaks()}"
        finally:
            release_contexts()
            load_driver.cache_clear()
    gpu.assert_clean()


def fake_modules(gpu: FakeGpu) -> dict[str, ModuleType]:
    """Both libraries on one fake GPU, by the names they are imported by."""
    sources = {"pycuda.driver": PyCuda(gpu), "cuda.bindings.driver": Bindings(gpu)}
    return {name: _module(name, source) for name, source in sources.items()}


def _module(name: str, source: object) -> ModuleType:
    module = ModuleType(name)
    names = [n for n in dir(source) if not n.startswith("_") and n not in OWN]
    vars(module).update({n: getattr(source, n) for n in names})
    return module
