"""An environment that every test can have at once."""

from __future__ import annotations

import pytest

from fcn_trt.bench.environment import Environment, this_environment


@pytest.fixture(scope="session")
def environment() -> Environment:
    """Of this machine."""
    return this_environment()
