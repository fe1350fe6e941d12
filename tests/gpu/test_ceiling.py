"""What this GPU does at most: products in each of its types, and copies within its memory."""

from __future__ import annotations

from typing import get_args

import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")
pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")
pytest.importorskip("openvino", reason="INT8 and FP8 are calibrated by OpenVINO")

from fcn_trt.bench.device_ceiling import device_copy_gb_per_s, measure_device_ceiling
from fcn_trt.bench.ladder import Job, ceilings_of, run_job, types_of
from fcn_trt.bench.random_bundle import RandomNetwork
from fcn_trt.engine.options import LEAST_CAPABILITY, parse_capability
from fcn_trt.spec import Precision

SECONDS = 0.2


def test_products_are_measured_in_each_type_that_the_gpu_has(device, machine, target):
    asked: tuple[Precision, ...] = get_args(Precision)
    here = parse_capability(machine.gpu.compute_capability)
    has = {k for k in asked if here >= parse_capability(LEAST_CAPABILITY.get(k, "7.5"))}
    found = measure_device_ceiling(asked, target, seconds=SECONDS)
    assert found.gmac_per_s.keys() == has, found.left_out
    assert min(found.gmac_per_s.values()) > 0
    assert found.copy_gb_per_s is not None
    assert found.copy_gb_per_s > 0
    assert found.left_out.keys() == set(asked) - has


def test_copies_leave_the_memory_as_free_as_it_was(device):
    free_bytes, _ = device.memory_bytes()
    assert device_copy_gb_per_s(seconds=SECONDS) > 0
    assert device.memory_bytes()[0] == free_bytes


def test_network_is_held_against_the_gpus_ceiling(device, target):
    network = RandomNetwork(model="fcn_r18-d8", size=(256, 512), precision="int8", target=target)
    job = Job(name="r18", source=network)
    ceilings = ceilings_of(types_of([job]), seconds=SECONDS)
    assert ceilings[target].gmac_per_s.keys() == {"int8", "fp16"}
    found = run_job(job, ceilings=ceilings, frame_size=None, seconds=0.5)
    assert found.problem == ""
    assert found.achieved is not None
    assert found.achieved.ceiling == ceilings[target]
    assert found.achieved.ceiling_share is not None
