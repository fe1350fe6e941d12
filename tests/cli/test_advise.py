"""`fcn-trt advise` as a user and as a script see it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fcn_trt.advice.devices import devices
from fcn_trt.model.architecture import architecture
from fcn_trt.model.profile import profile

ORIN = ("advise", "--device", "orin-nano-super", "--fps", "30")


def test_advice_is_a_table_with_what_it_is_worth(cli):
    done = cli(*ORIN)
    assert done.status == 0
    assert done.out.startswith("Estimates for Jetson Orin Nano 8GB, Super mode, asked for 30 frame")
    lines = [line.split() for line in done.out.splitlines()]
    assert sum(bool(line) and line[0].startswith("fcn_") for line in lines) == 12
    assert all(line.startswith(":: ") for line in done.err.splitlines())
    assert ":: first choice: fcn_d6_r101-d16 at 256x512" in done.err
    assert "1024x2048, FP32" in done.out
    assert ":: these are estimates, not measurements" in done.err
    assert "more fit or may fit; --limit" in done.err


def test_advice_for_a_script_has_every_candidate(cli):
    found = cli(*ORIN, "--json").json
    assert found["device"]["name"] == "orin-nano-super"
    assert len(found["candidates"]) == 96
    assert found["dataset"] == "cityscapes"
    assert "fcn_resnet50" in found["left_out"]
    first = found["candidates"][0]
    assert first["low_fps"] < first["estimated_fps"] < first["high_fps"]
    assert (first["model"], first["miou"], first["verdict"]) == ("fcn_d6_r101-d16", 78.46, "fits")
    assert first["measured_on"] == "Cityscapes val"
    assert first["published_at"] == "1024x2048"
    assert first["miou_cautions"] == ["expect less at 256x512", "int8 changes it"]
    assert found["ranges"]["published_share"] == 0.8
    factor = found["ranges"]["factors"][first["precision"]]
    assert first["high_fps"] / first["estimated_fps"] == pytest.approx(factor)
    assert found["errors"]["tensorrt"]["rows"] == 32
    assert any("estimates, not measurements" in remark for remark in found["remarks"])


def test_limit_size_and_precision_narrow_the_table(cli):
    done = cli(
        *ORIN, "--size", "384x640", "--size", "512x1024", "--precision", "int8", "--limit", 3
    )
    rows = [line.split() for line in done.out.splitlines() if line.strip().startswith("fcn_")]
    assert len(rows) == 3
    assert {row[1] for row in rows} <= {"384x640", "512x1024"}
    assert {row[2] for row in rows} == {"int8"}


def test_data_set_is_the_one_that_is_asked_for(cli):
    found = cli(*ORIN, "--dataset", "coco_voc", "--json").json
    assert {row["model"] for row in found["candidates"]} == {"fcn_resnet50", "fcn_resnet101"}
    done = cli(*ORIN, "--dataset", "coco_voc")
    assert "mIoU on COCO val2017, VOC classes" in done.out.splitlines()[0]
    assert "a short side of 520, FP32" in done.out


def test_device_that_is_not_supported_is_said_to_be(cli):
    done = cli("advise", "--device", "xavier-nx", "--fps", "5")
    assert "not supported" in done.out
    steps = done.err.splitlines()
    (said,) = (i for i, line in enumerate(steps) if line.startswith(":: xavier-nx is not supp"))
    (first,) = (i for i, line in enumerate(steps) if line.startswith(":: first choice"))
    assert said < first
    found = cli("advise", "--device", "xavier-nx", "--fps", "5", "--json").json
    assert found["device"]["supported"] is False
    assert {row["verdict"] for row in found["candidates"]} == {"not supported"}


def test_where_nothing_fits_the_command_says_what_would_help(cli):
    done = cli("advise", "--device", "orin-nano", "--fps", "5000", "--precision", "int8")
    assert done.status == 0
    assert "too slow" in done.out
    assert ":: nothing is estimated to reach 5000 frames/s" in done.err
    assert ":: at 128x256 it is estimated at " in done.err


def test_devices_are_listed_with_doubts_and_notes(cli):
    done = cli("advise", "--devices")
    assert all(entry.name in done.out for entry in devices())
    assert "2.09?" in done.out
    assert ":: nano: TensorRT 8 is the last for it" in done.err
    found = cli("advise", "--devices", "--json").json["devices"]
    assert [entry["name"] for entry in found] == [entry.name for entry in devices()]
    assert all(entry["source"] for entry in found)


def test_published_profile_stands_beside_ours(cli):
    lines = [line.split() for line in cli("advise", "--published").out.splitlines()]
    for size, fps, gflops in (
        ("256x512", "43.32", "216.42"),
        ("512x1024", "12.06", "865.69"),
        ("1024x2048", "3.06", "3462.77"),
    ):
        (line,) = (found for found in lines if found[:3] == ["ResNet-101", size, fps])
        height, width = map(int, size.split("x"))
        cost = profile(architecture("pad_fcn_resnet101"), size=(height, width))
        assert line[5:] == [gflops, f"{cost.gflops:.2f}", "51.95", "51.95"]
        assert float(line[4]) == pytest.approx(float(line[3]) / float(line[2]), abs=0.01)


def test_published_rows_stand_beside_their_estimates(cli):
    done, found = cli("advise", "--published"), cli("advise", "--published", "--json").json
    assert len(found["rows"]) == 67
    for row in found["rows"]:
        assert row["ratio"] == pytest.approx(row["estimated_fps"] / row["published_fps"])
        assert any(row["name"] in line for line in done.out.splitlines())
    assert found["summary"]["anchors"]["median"] < 0.25
    assert found["summary"]["all"]["median"] < 0.25
    median = f"{100 * found['summary']['anchors']['median']:.1f} %"
    assert f"median error of the estimated rate {median} on the 35 rows" in done.out
    assert f"{100 * found['summary']['all']['worst']:.1f} %" in done.out
    assert ":: jetson-inference: the network alone: TensorRT FP16" in done.err
    assert found["efficiencies"]["compute"].keys() == {
        f"{stack}/{unit}" for stack in ("pytorch", "tensorrt") for unit in ("lanes", "tensor cores")
    }


def test_layers_of_a_model_are_shown_with_what_bounds_them(cli):
    asked = ("advise", "--device", "agx-orin", "--layers", "fcn_r50-d8", "--size", "256x512")
    done, found = cli(*asked), cli(*asked, "--json").json
    assert done.out.startswith("Jetson AGX Orin 64GB: fcn_r50-d8 at 256x512 in fp16: estimated ")
    assert sum(layer["gmac"] for layer in found["layers"]) == pytest.approx(98.8, abs=0.05)
    assert sum(layer["estimated_ms"] for layer in found["layers"]) == pytest.approx(
        found["estimated_ms"]
    )
    bounds = {layer["name"]: layer["bound_by"] for layer in found["layers"]}
    assert bounds["decode_head.convs.0.conv"] == "compute"
    assert bounds["backbone.maxpool"] == "memory"
    assert all(name in done.out for name in bounds)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--device orin --fps 30", "unknown device 'orin'; known are nano, tx2, xavier-nx, "),
        (
            "--device t4 --fps 30 --min-miou 80",
            "no model publishes a mean IoU of 80 % on Cityscapes val; the best is",
        ),
        (
            "--device t4 --fps 30 --precision fp8",
            "t4 does not compute in fp8, only in fp32, fp16, ",
        ),
        (
            "--device t4 --fps 30 --dataset kitti",
            "no mean IoU is published on a data set 'kitti'; known are cityscapes, ade20k, ",
        ),
        ("--device t4 --layers fcn_r34-d8", "unknown model 'fcn_r34-d8'; `fcn-trt models` lists"),
    ],
)
def test_what_cannot_be_estimated_is_one_sentence(cli, arguments, sentence):
    done = cli("advise", *arguments.split())
    assert done.status == 1
    assert done.sentence.startswith(sentence)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--fps 30", "Invalid value for '--device': `fcn-trt advise --devices` lists the names"),
        ("--device t4", "Invalid value for '--fps': a rate above 0 is needed, such as 30"),
        ("--device t4 --fps 0", "Invalid value for '--fps': a rate above 0 is needed"),
        ("--device t4 --fps inf", "Invalid value for '--fps': a rate above 0 is needed"),
        ("--device t4 --fps nan", "Invalid value for '--fps': a rate above 0 is needed"),
        (
            "--device t4 --fps 30 --size 512",
            "Invalid value for '--size': size '512' is not HEIGHTx",
        ),
        ("--device t4 --fps 30 --precision fp4", "Invalid value for '--precision': 'fp4' is none"),
        ("--devices --published", "Invalid value for '--devices': it changes nothing with --pub"),
        ("--devices --fps 30", "Invalid value for '--fps': it changes nothing with --devices"),
        ("--devices --layers x", "Invalid value for '--layers': it changes nothing with --devices"),
        ("--published --device t4", "Invalid value for '--device': it changes nothing with --publ"),
        (
            "--device t4 --layers fcn_r18-d8 --fps 30",
            "Invalid value for '--fps': it changes nothing with --layers",
        ),
        (
            "--device t4 --layers fcn_r18-d8 --min-miou 0",
            "Invalid value for '--min-miou': it changes nothing with --layers",
        ),
        (
            "--device t4 --layers fcn_r18-d8 --dataset voc",
            "Invalid value for '--dataset': it changes nothing with --layers",
        ),
        (
            "--device t4 --fps 30 --limit 3 --json",
            "Invalid value for '--limit': it changes nothing with --json",
        ),
        (
            "--device t4 --layers fcn_r18-d8 --precision fp16 --precision int8",
            "Invalid value for '--precision': --layers shows one",
        ),
    ],
)
def test_wrong_usage_is_one_sentence(cli, arguments, sentence):
    done = cli("advise", *arguments.split())
    assert done.status == 2
    assert done.sentence.startswith(sentence)


@pytest.mark.parametrize(
    "call",
    [
        "advise.advise(device='agx-orin', fps=30.0, limit=5)",
        "advise.advise(published=True)",
        "models.models()",
        "models.profile('fcn_resnet50', size=(512, 1024))",
    ],
)
def test_no_framework_is_needed(call):
    """On a device without the export extra, where torch, onnx and the rest cannot be imported."""
    code = f"""
import sys
for name in ("torch", "onnx", "openvino", "cv2", "matplotlib", "scipy", "safetensors"):
    sys.modules[name] = None
from fcn_trt.cli import advise, models
{call}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 5
