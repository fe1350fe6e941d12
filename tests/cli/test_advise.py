"""`fcn-trt advise` as a user and as a script see it."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from fcn_trt.advice.devices import devices
from fcn_trt.cli import terminal
from fcn_trt.model.architecture import architecture
from fcn_trt.model.profile import profile

ORIN = ("advise", "--device", "orin-nano-super", "--fps", "30")


def test_advice_is_a_table_with_what_to_do_and_what_to_doubt(cli):
    done = cli(*ORIN)
    assert done.status == 0
    assert done.out.startswith("Jetson Orin Nano 8GB, Super mode: estimates for 30 frames/s")
    lines = [line.split() for line in done.out.splitlines()]
    assert sum(bool(line) and line[0].startswith("fcn_") for line in lines) == 12
    first, plain, measure, doubt, more = done.err.splitlines()[-5:]
    assert first.startswith(":: first choice: fcn_d6_r50-d16 at 512x1024 in int8: estimated 5")
    assert plain.startswith(":: without a calibration: fcn_r18-d8 at 512x1024 in fp16")
    assert measure == (
        ":: measure it on the device: fcn-trt bench fcn_d6_r50-d16 --size 512x1024 "
        "--precision int8 --target tensorrt"
    )
    assert doubt.startswith(":: why to doubt it: no TensorRT measurement of an FCN on orin-nano-su")
    assert more == ":: --explain says what the estimates rest on"
    assert re.search(r":: \d more; --limit \d+ shows them all", done.err)


def test_no_published_miou_stands_beside_a_size_that_it_was_not_published_for(cli):
    done = cli(*ORIN, "--limit", 100)
    assert "mIoU" not in done.out
    assert not re.search(r"\b7\d\.\d\d?\b", done.out + done.err)
    known = cli("advise", "--device", "thor", "--fps", "1")
    rows = [line.split() for line in known.out.splitlines() if line.strip().startswith("fcn_")]
    assert {len(row) for row in rows} == {7}
    assert all((row[5] == "-") == (row[1] != "1024x2048") for row in rows)
    assert rows[0][0::5] == ["fcn_d6_r101-d16", "78.46"]


def test_explanation_says_what_the_estimates_rest_on(cli):
    done = cli(*ORIN, "--explain")
    assert ":: these are estimates, not measurements" in done.err
    assert ":: fitted on published measurements: median error" in done.err
    assert ":: order: what fits before what may fit" in done.err
    assert "and for no other size: fcn_d6_r101-d16 78.46 %" in done.err
    assert "--explain says" not in done.err


def test_advice_for_a_script_has_every_candidate(cli):
    found = cli(*ORIN, "--json").json
    assert found["device"]["name"] == "orin-nano-super"
    assert len(found["candidates"]) == 96
    assert "fcn_resnet50" in found["left_out"]
    first = found["candidates"][0]
    assert first["low_fps"] < first["estimated_fps"] < first["high_fps"]
    assert (first["model"], first["size"], first["precision"], first["verdict"]) == (
        *("fcn_d6_r50-d16", [512, 1024], "int8", "fits"),
    )
    assert (first["miou"], first["needs_calibration"]) == (None, True)
    for row in found["candidates"]:
        is_known = row["size"] == [1024, 2048] and row["precision"] in ("fp32", "fp16", "bf16")
        assert (row["miou"] is not None) == is_known
    (known,) = (row for row in found["published"] if row["model"] == "fcn_d6_r101-d16")
    assert (known["miou"], known["dataset"]) == (78.46, "cityscapes")
    assert (known["measured_on"], known["published_at"]) == ("Cityscapes val", "1024x2048")
    assert found["measure"].startswith("fcn-trt bench fcn_d6_r50-d16 --size 512x1024 ")
    assert any("compute capability 8.7" in doubt for doubt in found["doubts"])
    assert found["ranges"]["published_share"] == 0.8
    factor = found["ranges"]["factors"][first["precision"]]
    assert first["high_fps"] / first["estimated_fps"] == pytest.approx(factor)
    assert found["errors"]["tensorrt"]["rows"] == 32
    assert any("estimates, not measurements" in remark for remark in found["remarks"])


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        (ORIN, r" +fcn_d6_r50-d16 +512x1024 +int8 +56 +37-83 +fits *"),
        (
            ("advise", "--device", "thor", "--fps", "1"),
            r"fcn_d6_r101-d16: size 1024x2048, type fp16, fps \d+, range\s+"
            r"\d+-\d+, mIoU 78.46, verdict fits",
        ),
    ],
)
def test_numbers_are_whole_in_60_columns(monkeypatch, cli, arguments, row):
    stream = io.StringIO()
    console = Console(file=stream, width=60, force_terminal=True, color_system=None)
    monkeypatch.setattr(terminal, "stdout", console)
    assert cli(*arguments).status == 0
    assert max(map(len, stream.getvalue().splitlines())) <= 60
    assert re.search(row, stream.getvalue())


def test_own_network_is_advised_on_with_why_to_doubt_it(cli, tiny_network):
    asked = ("advise", "--network", tiny_network, "--device", "orin-nano-super", "--fps", "30")
    done = cli(*asked)
    assert done.status == 0, done.err
    title = "tiny.onnx on Jetson Orin Nano 8GB, Super mode: estimates for 30 frames/s"
    assert " ".join(done.out.split()).startswith(title)
    rows = [line.split() for line in done.out.splitlines() if re.match(r"\s+\d+x\d+ ", line)]
    assert rows[0][:2] == ["64x96", "fp16"]
    assert ":: first choice: tiny.onnx at 64x96 in fp16: estimated " in done.err
    assert ":: why to doubt it: no TensorRT measurement of an FCN on orin-nano-super" in done.err
    assert f":: measure it on the device: fcn-trt build {tiny_network} --target tens" in done.err
    found = cli(*asked, "--json").json
    assert len(found["candidates"]) == 4 * 4
    assert found["published"] == []
    first = found["candidates"][0]
    assert first["low_fps"] < first["estimated_fps"] < first["high_fps"]
    assert found["doubts"]


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
    assert "mIoU" not in done.out
    at_520 = cli(*ORIN, "--dataset", "coco_voc", "--size", "520x693", "--precision", "fp16")
    assert "60.50" in at_520.out


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
            "--device t4 --fps 30 --min-miou 70 --size 256x512",
            "mean IoUs on Cityscapes val are published at 1024x2048 and for types that are not qu",
        ),
        (
            "--device t4 --fps 30 --network nothing.onnx",
            "nothing.onnx cannot be read: No such file or directory",
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
            "--device t4 --fps 30 --explain --json",
            "Invalid value for '--explain': it changes nothing with --json",
        ),
        (
            "--device t4 --fps 30 --network x.onnx --dataset voc",
            "Invalid value for '--dataset': no mIoU of your own network is published",
        ),
        (
            "--device t4 --layers fcn_r18-d8 --network x.onnx",
            "Invalid value for '--network': it changes nothing with --layers",
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
