"""Bundles of models with random weights, kept for the next time."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.bench import random_bundle as module
from fcn_trt.bench.random_bundle import RandomNetwork, random_bundle
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.errors import EngineError
from fcn_trt.machine import this_machine
from fcn_trt.pipeline.store import keyed_steps

NETWORK = RandomNetwork(model="fcn_r18-d8", size=(32, 64), precision="int8", target="openvino")


@pytest.fixture(scope="module")
def built(user_cache):
    """The bundle of `NETWORK`, and what was told while it was built."""
    steps: list[str] = []
    return random_bundle(NETWORK, on_step=steps.append), steps


def test_bundle_is_what_was_asked_for(built, user_cache):
    path, steps = built
    assert user_cache in path.parents
    manifest = load_bundle(path).manifest
    assert manifest.spec.model == "fcn_r18-d8"
    assert manifest.spec.input_size == (32, 64)
    assert manifest.spec.weights == "random (seed 0)"
    assert manifest.precision_asked == "int8"
    assert manifest.precision_proven.convolutions.keys() == {"int8"}
    assert manifest.target == "openvino"
    assert manifest.spec.float_precision == "fp32"
    assert steps == [
        f"{step} of fcn_r18-d8 at 32x64 with random weights in int8"
        for step in ("export", "type", "build")
    ]


def test_bundle_that_is_there_is_taken(built):
    path, _ = built
    created = (path / "manifest.json").read_bytes()
    steps: list[str] = []
    assert random_bundle(NETWORK, on_step=steps.append) == path
    assert steps == []
    assert (path / "manifest.json").read_bytes() == created


def test_damaged_bundle_is_built_again(built):
    path, _ = built
    (path / "network.onnx").write_bytes(b"x")
    steps: list[str] = []
    assert random_bundle(NETWORK, on_step=steps.append) == path
    assert steps
    load_bundle(path)


@pytest.mark.parametrize(
    "change",
    [{"model": "fcn_r50-d8"}, {"size": (64, 32)}, {"precision": "fp8"}],
)
def test_anything_else_has_another_key(change):
    assert key_of(replace(NETWORK, **change)) != key_of(NETWORK)
    assert len(key_of(NETWORK)) == 64


def key_of(network):
    return keyed_steps(network.plan())[-1].key


def test_unknown_model_is_refused():
    with pytest.raises(ValueError, match="fcn_r17"):
        random_bundle(replace(NETWORK, model="fcn_r17"))


def test_what_cannot_be_built_here_is_refused_before_any_work():
    from fcn_trt.engine.openvino.builder import computes

    if computes("fp16"):
        pytest.skip("needs a CPU without FP16")
    steps: list[str] = []
    with pytest.raises(EngineError, match="fp16 was asked for"):
        random_bundle(replace(NETWORK, precision="fp16"), on_step=steps.append)
    assert steps == []


def test_gpu_that_is_missing_is_said_before_any_work():
    machine = this_machine()
    if machine.gpu is not None:
        pytest.skip("needs a machine without a GPU")
    steps: list[str] = []
    with pytest.raises(EngineError) as error:
        random_bundle(replace(NETWORK, target="tensorrt-rtx"), on_step=steps.append)
    assert str(error.value) == (
        f"tensorrt-rtx was asked for, but there is no GPU to run it: {machine.gpu_problem}; choose "
        "openvino"
    )
    assert steps == []


def test_oldest_go_beyond_the_limit(tmp_path, monkeypatch):
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "engine").write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    monkeypatch.setattr(module, "LIMIT_BYTES", 250)
    module._forget_oldest(tmp_path, keep=tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle"}
    monkeypatch.setattr(module, "LIMIT_BYTES", 50)
    module._forget_oldest(tmp_path, keep=tmp_path / "middle")
    assert {path.name for path in tmp_path.iterdir()} == {"middle"}
