"""tests/cuda/test_kernels_overlay.py once more, unchanged, but on the GPU."""

from __future__ import annotations

import pytest

from tests.cuda import test_kernels_overlay as on_host
from tests.cuda.test_kernels_overlay import *  # noqa: F403  # all of its tests, whatever they are


@pytest.fixture(autouse=True)
def on_device(monkeypatch, run_on_device):
    monkeypatch.setattr(on_host, "run_on_host", run_on_device)
