"""What is measured of which targets, and what a measurement means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fcn_trt.bench.ceiling import Ceiling
from fcn_trt.bench.ladder import (
    NO_CEILING,
    Job,
    achieved,
    ceilings_of,
    held_against,
    jobs_of,
    run_job,
    types_of,
)
from fcn_trt.bench.random_bundle import RandomNetwork
from fcn_trt.bench.series import Latency
from fcn_trt.engine.manifest import Target
from fcn_trt.machine import this_machine

CEILING = Ceiling(gmac_per_s={"fp32": 100.0, "int8": 400.0}, copy_gb_per_s=20.0, left_out={})
GPU_CEILING = Ceiling(gmac_per_s={"fp16": 4e4, "int8": 8e4}, copy_gb_per_s=2e3, left_out={})
CEILINGS: dict[Target, Ceiling] = {"openvino": CEILING, "tensorrt": GPU_CEILING}


def network(size, precision, target="openvino"):
    return RandomNetwork(model="fcn_resnet50", size=size, precision=precision, target=target)


def test_model_climbs_the_ladder_in_each_type_and_a_bundle_stays_as_it_is(tmp_path):
    jobs = jobs_of(["fcn_resnet50", str(tmp_path)], precisions=["bf16", "int8"])
    assert [job.source for job in jobs] == [
        network((256, 512), "bf16"),
        network((256, 512), "int8"),
        network((512, 1024), "bf16"),
        network((512, 1024), "int8"),
        network((1024, 2048), "bf16"),
        network((1024, 2048), "int8"),
        tmp_path,
    ]
    assert jobs[0].name == "fcn_resnet50 256x512 bf16 openvino"
    assert jobs[-1].name == str(tmp_path)


@pytest.mark.parametrize(
    ("target", "first"), [("openvino", "fp32"), ("tensorrt", "fp16"), ("tensorrt-rtx", "fp16")]
)
def test_without_types_a_model_is_measured_in_float_and_int8(target, first):
    jobs = jobs_of(["fcn_resnet50"], sizes=[(32, 32)], target=target)
    assert [job.source for job in jobs] == [
        network((32, 32), first, target),
        network((32, 32), "int8", target),
    ]


def types(*sources):
    return types_of(Job(name="", source=source) for source in sources)


def test_ceilings_are_needed_of_the_types_that_the_cpu_will_compute_in(tiny_bundle, tmp_path):
    size = (32, 32)
    # Some convolutions may stay in FP32.
    assert types(network(size, "int8")) == {"openvino": ["int8", "fp32"]}
    assert types(network(size, "fp8"), network(size, "bf16")) == {"openvino": ["fp32", "bf16"]}
    assert types(tmp_path) == {}
    assert types(tiny_bundle.path, tiny_bundle.path) == {"openvino": ["fp32"]}


def test_ceilings_are_needed_of_each_target_in_its_own_types(tiny_bundle, tmp_path):
    size = (32, 32)
    assert types(
        network(size, "int8", "tensorrt"),
        tiny_bundle.path,
        network(size, "fp8", "tensorrt-rtx"),
        network(size, "fp16", "tensorrt"),
        network(size, "bf16", "tensorrt"),
    ) == {
        "tensorrt": ["int8", "fp16", "bf16"],
        "openvino": ["fp32"],
        "tensorrt-rtx": ["fp8", "fp16"],
    }


def test_recipe_for_a_gpu_needs_the_type_of_what_is_not_quantised(tmp_path):
    (tmp_path / "cache.json").touch()
    path = tmp_path / "gpu.toml"
    path.write_text(
        'model = "fcn_r18-d8"\nweights = "random"\nsize = "64x96"\nprecision = "int8"\n'
        'target = "tensorrt"\ncalibration = "cache.json"\n'
    )
    assert types(path) == {"tensorrt": ["int8", "fp16"]}


def test_each_target_is_measured_once_and_without_a_gpu_its_own_says_why(tiny_bundle):
    jobs = [
        Job(name="", source=source)
        for source in (
            tiny_bundle.path,
            network((32, 32), "fp16", "tensorrt"),
            network((64, 64), "fp16", "tensorrt"),
            tiny_bundle.path,
        )
    ]
    if this_machine().gpu is not None:
        pytest.skip("this machine has a GPU, whose ceiling tests/gpu/test_ceiling.py measures")
    steps: list[str] = []
    found = ceilings_of(types_of(jobs), seconds=0.05, on_step=steps.append)
    assert steps == [
        "measuring products of matrices in fp32, and copies of memory, for openvino",
        "measuring products of matrices in fp16, and copies of memory, for tensorrt",
    ]
    assert found.keys() == {"openvino", "tensorrt"}
    assert found["openvino"].gmac_per_s.keys() == {"fp32"}
    gpu = found["tensorrt"]
    assert (gpu.gmac_per_s, gpu.copy_gb_per_s) == ({}, None)
    assert gpu.left_out["gpu"].startswith("there is no GPU to measure: ")


def test_recipe_is_built_and_measured(tiny_network, tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(
        f'model = "{tiny_network}"\nsize = "64x96"\nprecision = "fp32"\ntarget = "openvino"\n'
    )
    (job,) = jobs_of([str(path)])
    assert types_of([job]) == {"openvino": ["fp32"]}
    steps: list[str] = []
    found = run_job(job, ceilings=CEILINGS, frame_size=None, seconds=0.1, on_step=steps.append)
    assert found.problem == ""
    assert steps == [f"building {path}", f"measuring {path}"]
    assert (tmp_path / "tiny" / "manifest.json").exists()


@pytest.fixture(scope="module")
def outcome(tiny_bundle):
    return run_job(
        Job(name="tiny", source=tiny_bundle.path), ceilings=CEILINGS, frame_size=None, seconds=0.1
    )


def at(outcome, network_ms, **changes):
    """The measurement with a network that takes so long."""
    found = outcome.measurement
    stage = Latency(runs=9, p50_ms=network_ms, p90_ms=99.0, p99_ms=99.0)
    return replace(found, stages={**found.stages, "network": stage}, **changes)


def test_real_bundle_is_measured_and_held_against_the_ceiling(outcome):
    assert outcome.problem == ""
    assert outcome.measurement.model == "fcn_r18-d8"
    found = outcome.achieved
    network_s = outcome.measurement.stages["network"].p50_ms / 1000
    assert found.gmac_per_s == pytest.approx(found.gmac / network_s)
    assert found.ceiling_share == pytest.approx(found.gmac_per_s / 100)
    cost = outcome.measurement.cost
    assert found.mac_per_byte == pytest.approx(1e9 * cost.gmac / cost.moved_bytes)
    assert found.ceiling == CEILING


def test_rate_and_share_are_of_the_network_alone(outcome):
    found = achieved(at(outcome, 50.0, gmac_by_type={"fp32": 2.0}), CEILINGS)
    assert (found.gmac, found.gmac_per_s) == pytest.approx((2.0, 40.0))
    assert (found.ceiling_gmac_per_s, found.ceiling_share) == pytest.approx((100.0, 0.4))


def test_ceiling_that_is_beaten_by_more_than_chance_was_disturbed(outcome):
    for gmac, beats in ((5.2, False), (5.3, True)):
        found = achieved(at(outcome, 50.0, gmac_by_type={"fp32": gmac}), CEILINGS)
        assert found.beats_ceiling == beats
    assert not achieved(at(outcome, 50.0, gmac_by_type={"bf16": 9.0}), CEILINGS).beats_ceiling


def test_mixed_types_are_held_against_both_ceilings(outcome):
    mixed = {"int8": 8.0, "fp32": 2.0}
    found = achieved(at(outcome, 80.0, gmac_by_type=mixed), CEILINGS)
    # 8 / 400 s and 2 / 100 s are the least that it can take: 0.04 s, which is 250 GMAC/s.
    assert found.ceiling_gmac_per_s == pytest.approx(250.0)
    assert found.ceiling_share == pytest.approx(0.5)


def test_what_a_gpu_does_is_held_against_the_gpus_own_ceiling(outcome):
    mixed = {"int8": 160.0, "fp16": 80.0}
    found = achieved(at(outcome, 8.0, gmac_by_type=mixed, target="tensorrt"), CEILINGS)
    # 160 / 80000 s and 80 / 40000 s are the least that it can take: 4 ms of 8.
    assert found.ceiling_share == pytest.approx(0.5)
    assert found.ceiling_gmac_per_s == pytest.approx(60000.0)
    assert found.ceiling == GPU_CEILING


def test_type_and_target_without_a_ceiling_have_no_share(outcome):
    found = achieved(at(outcome, 50.0, gmac_by_type={"bf16": 2.0}), CEILINGS)
    assert (found.ceiling_gmac_per_s, found.ceiling_share) == (None, None)
    assert found.gmac_per_s == pytest.approx(40.0)
    rtx = achieved(at(outcome, 50.0, gmac_by_type={"fp32": 2.0}, target="tensorrt-rtx"), CEILINGS)
    assert (rtx.ceiling_share, rtx.ceiling) == (None, NO_CEILING)


def test_network_whose_shapes_cannot_be_read_has_no_place_on_the_roofline(outcome):
    found = achieved(at(outcome, 50.0, cost=None), CEILINGS)
    assert found.mac_per_byte is None


def test_what_was_measured_is_held_against_what_is_known_later(outcome):
    faster = replace(CEILING, gmac_per_s={"fp32": 200.0})
    bad = replace(outcome, measurement=None, achieved=None, problem="it is broken")
    found, same = held_against([outcome, bad], {"openvino": faster})
    assert found.achieved is not None
    assert found.achieved.ceiling == faster
    assert found.achieved.ceiling_share == pytest.approx(outcome.achieved.ceiling_share / 2)
    assert found.measurement == outcome.measurement
    assert same == bad


def test_what_fails_is_an_outcome_with_its_reason(tmp_path):
    job = Job(name="x", source=Path(tmp_path))
    found = run_job(job, ceilings=CEILINGS, frame_size=None, seconds=0.1)
    assert found.measurement is None
    assert found.achieved is None
    assert "is no bundle" in found.problem
