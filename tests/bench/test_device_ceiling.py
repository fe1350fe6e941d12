"""A GPU's ceiling as far as no GPU is needed: real builds, a rate on the CPU, copies on the fake.

That a GPU computes the products, and how fast, is shown by tests/gpu/test_ceiling.py alone.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import pytest

from fcn_trt.bench import device_ceiling as module
from fcn_trt.bench.ceiling import LEAST_ROUNDS
from fcn_trt.bench.device_ceiling import (
    device_copy_gb_per_s,
    engine_gmac_per_s,
    measure_device_ceiling,
)
from fcn_trt.errors import EngineError
from fcn_trt.machine import Gpu, this_machine
from fcn_trt.runtime.segmenter import Segmenter
from tests.cuda.fake_driver import installed_fake


@pytest.fixture
def fake(monkeypatch):
    with installed_fake(monkeypatch, memory_bytes=1 << 20) as gpu:
        yield gpu


@pytest.fixture
def ampere(monkeypatch):
    """This machine with a GPU that has no FP8, which is there for the builder alone."""
    gpu = Gpu(name="A GPU", compute_capability="8.6", memory_bytes=1 << 33, integrated=False)
    here = replace(this_machine(), gpu=gpu)
    if this_machine().gpu is not None:
        pytest.skip("this machine has a GPU, whose ceiling tests/gpu/test_ceiling.py measures")
    monkeypatch.setattr(module, "this_machine", lambda: here)


def test_rate_of_an_engine_is_all_of_its_work_in_its_shortest_time(tiny_bundle, monkeypatch):
    real, times = Segmenter.time_stages, []

    def watched(self, frame):
        stages = real(self, frame)
        times.append(stages["network"])
        return stages

    monkeypatch.setattr(Segmenter, "time_stages", watched)
    rate = engine_gmac_per_s(tiny_bundle.path, seconds=0.05)
    assert len(times) > LEAST_ROUNDS
    gmac = sum(tiny_bundle.manifest.precision_proven.gmac.values())
    assert rate == pytest.approx(gmac / min(times[1:]))


def test_shortest_run_counts_but_never_the_first():
    times = [0.001, 0.5, 0.25, 0.75]
    assert len(times) == LEAST_ROUNDS + 1
    assert module._least(lambda: times.pop(0), 0.0) == 0.25
    assert times == []


def test_copy_counts_what_is_read_and_written_and_one_copy_at_a_time(fake):
    # The fake's clock ticks 1 ms from one mark to the next, and 4 copies lie between.
    found = device_copy_gb_per_s(seconds=0, size_bytes=4096)
    assert found == pytest.approx(4 * 2 * 4096 / 1e-3 / 1e9)
    assert fake.names().count("cuMemcpyDtoDAsync") == (1 + LEAST_ROUNDS) * (1 + 4)


def test_copy_takes_an_eighth_of_little_memory(fake):
    found = device_copy_gb_per_s(seconds=0)
    assert found == pytest.approx(4 * 2 * (1 << 17) / 1e-3 / 1e9)


@pytest.mark.parametrize(
    "routine", ["cuMemAlloc", "cuEventCreate", "cuMemsetD8Async", "cuMemcpyDtoDAsync"]
)
def test_copy_that_fails_leaves_nothing_on_the_gpu(fake, routine):
    fake.fail(routine, "OUT_OF_MEMORY")
    with pytest.raises(EngineError, match="out of memory"):
        device_copy_gb_per_s(seconds=0, size_bytes=64)
    assert fake.leaks() == []


@pytest.mark.parametrize(
    "size",
    [{"width": 64, "layers": 2, "size": (16, 32)}, pytest.param({}, marks=pytest.mark.exhaustive)],
    ids=["small", "as measured"],
)
def test_products_are_built_for_the_gpu_and_what_it_lacks_is_left_out_with_the_reason(
    rtx, ampere, monkeypatch, size
):
    pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")
    from fcn_trt.network import matrix_products

    write = partial(matrix_products.write_product_network, **size)
    monkeypatch.setattr(matrix_products, "write_product_network", write)
    found = measure_device_ceiling(["fp16", "int8", "fp8", "fp16"], "tensorrt-rtx", seconds=0.05)
    assert (found.gmac_per_s, found.copy_gb_per_s) == ({}, None)
    assert found.left_out.keys() == {"fp16", "int8", "fp8", "copies"}
    assert found.left_out["fp8"].startswith("fp8 needs a GPU of compute capability 8.9 or more")
    # Built, and refused only where it is to be run.
    for precision in ("fp16", "int8"):
        assert "bundle cannot run here: built for sm_86 with" in found.left_out[precision]


def test_without_the_export_extra_the_rates_are_left_out_with_the_command(rtx, ampere, monkeypatch):
    monkeypatch.delitem(sys.modules, "fcn_trt.network.matrix_products", raising=False)
    monkeypatch.delitem(sys.modules, "fcn_trt.pipeline.steps", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    found = measure_device_ceiling(["fp16"], "tensorrt-rtx", seconds=0.05)
    assert found.left_out["fp16"] == (
        "measuring it needs the package onnx; install the export extra with "
        "`pip install 'fcn-trt[export]'`"
    )


def test_without_a_gpu_nothing_is_measured_and_the_reason_is_told():
    if this_machine().gpu is not None:
        pytest.skip("this machine has a GPU")
    found = measure_device_ceiling(["fp16"], "tensorrt", seconds=0.05)
    assert (found.gmac_per_s, found.copy_gb_per_s, found.remarks) == ({}, None, ())
    assert found.left_out["gpu"] == f"there is no GPU to measure: {this_machine().gpu_problem}"
