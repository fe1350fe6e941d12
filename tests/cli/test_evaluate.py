"""`fcn-trt eval` as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fcn_trt.engine.openvino.builder import build_openvino
from fcn_trt.labels import label_set
from tests.plans import as_network

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)
STD = np.array([58.395, 57.12, 57.375], dtype=np.float32)


@pytest.fixture
def dataset(tmp_path, make_frame):
    """Labelled images of the tiny model's classes, as the generic layout has them."""

    def write(count, size=(64, 96), *, highest=2):
        root = tmp_path / "data"
        for kind in ("images", "labels"):
            (root / kind).mkdir(parents=True)
        (root / "classes.txt").write_text("class_0\nclass_1\nclass_2\n")
        for index in range(count):
            labels = np.random.default_rng(index).integers(0, highest + 1, size, dtype=np.uint8)
            cv2.imwrite(str(root / "images" / f"{index:03d}.png"), make_frame(size, seed=index))
            cv2.imwrite(str(root / "labels" / f"{index:03d}.png"), labels)
        return root

    return write


def of_generic(bundle, root, *more):
    return ["eval", bundle.path, "--dataset", "generic", "--root", root, *more]


def test_figures_are_the_same_for_people_and_machines(cli, tiny_bundle, dataset):
    root = dataset(3)
    found = cli(*of_generic(tiny_bundle, root, "--json")).json
    assert (found["images"], found["dataset"]["of"], found["finished"]) == (3, 3, True)
    assert "scores" not in found
    done = cli(*of_generic(tiny_bundle, root))
    rows = [line.split() for line in done.out.splitlines()]
    shown = {name: f"{100 * found[name]:.2f}" for name in ("miou", "mean_accuracy", "boundary_f")}
    assert ["mean", shown["miou"], shown["mean_accuracy"], shown["boundary_f"]] in rows
    assert ["all", "pixels", f"{100 * found['pixel_accuracy']:.2f}"] in rows
    for name in ("class_0", "class_1", "class_2"):
        each = ("per_class", "accuracy_per_class", "boundary_f_per_class")
        assert [name, *(f"{100 * found[key][name]:.2f}" for key in each)] in rows
    assert ":: protocol run: each image resized to the engine's input" in done.err


def test_class_that_never_occurs_is_a_dash_and_null(
    cli, make_model, write_network, dataset, tmp_path
):
    model = make_model()
    with torch.no_grad():
        model.module.decode_head.conv_seg.bias[1] = 1e6  # so that it wins everywhere
    bundle = build_openvino(
        as_network(write_network(model, tmp_path / "m.onnx")), tmp_path / "bundle"
    )
    root = dataset(2, highest=0)
    found = cli(*of_generic(bundle, root, "--json")).json
    assert found["per_class"] == {"class_0": 0.0, "class_1": 0.0, "class_2": None}
    rows = [line.split() for line in cli(*of_generic(bundle, root)).out.splitlines()]
    assert ["class_2", "-", "-", "-"] in rows


def test_result_and_picture_are_written_and_a_second_run_has_nothing_to_do(
    cli, tiny_bundle, dataset, tmp_path
):
    root, out, picture = dataset(3), tmp_path / "r.json", tmp_path / "c.png"
    command = of_generic(tiny_bundle, root, "--out", out, "--confusion", picture, "--json")
    first = cli(*command)
    content = json.loads(out.read_bytes())
    assert {name: value for name, value in content.items() if name != "scores"} == first.json
    assert f"wrote the result to {out}" in first.err
    assert picture.read_bytes().startswith(b"\x89PNG")
    second = cli(*command)
    assert second.json == first.json
    assert f":: {out} has 3 of 3 images already" in second.err
    assert "wrote the result" not in second.err
    before = out.read_bytes()
    more = cli(*command, "--flip")
    assert more.status == 1
    assert more.sentence == (
        f"{out} is there already and has a result of another protocol; choose another name, or "
        "remove it"
    )
    assert out.read_bytes() == before


def test_limit_takes_images_spread_over_the_data_set(cli, tiny_bundle, dataset):
    done = cli(*of_generic(tiny_bundle, dataset(5), "--limit", 2, "--json")).json
    found = done["dataset"]
    assert len(found.pop("files_sha256")) == 64
    assert found == {"name": "generic", "split": None, "images": 2, "of": 5}


def test_split_is_in_the_title_and_the_result(cli, tiny_bundle, dataset):
    root = dataset(2)
    (root / "val").mkdir()
    for kind in ("images", "labels"):
        (root / kind).rename(root / "val" / kind)
    command = of_generic(tiny_bundle, root, "--split", "val")
    assert cli(*command, "--json").json["dataset"]["split"] == "val"
    assert "on 2 images of generic val" in " ".join(cli(*command).out.split())
    assert "of generic val" in " ".join(cli(*of_generic(tiny_bundle, root)).out.split())


def test_file_that_changed_and_kept_its_size_is_not_passed_over(
    cli, tiny_bundle, dataset, tmp_path
):
    root, out = dataset(2), tmp_path / "r.json"
    path, uncompressed = root / "labels" / "001.png", [cv2.IMWRITE_PNG_COMPRESSION, 0]
    labels = np.zeros((64, 96), dtype=np.uint8)
    cv2.imwrite(str(path), labels, uncompressed)
    size = path.stat().st_size
    command = of_generic(tiny_bundle, root, "--out", out, "--json")
    assert cli(*command).status == 0
    cv2.imwrite(str(path), labels + 1, uncompressed)
    assert path.stat().st_size == size
    done = cli(*command)
    assert (done.status, "has a result of other images; choose" in done.sentence) == (1, True)


def test_table_is_there_before_the_picture_is_drawn(tiny_bundle, dataset, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = of_generic(tiny_bundle, dataset(1), "--confusion", tmp_path / "c.png")
    command = [sys.executable, "-m", "fcn_trt", *map(str, arguments)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    assert done.stdout.index("class_2") < done.stdout.index("wrote the picture")


def test_unknown_label_is_said_without_options_of_other_commands(cli, tiny_bundle, dataset):
    done = cli(*of_generic(tiny_bundle, dataset(1, highest=4)))
    assert done.sentence.endswith(
        "leaves out 255; its pixels must be class indices; --label-map NUMBER=CLASS says which "
        "class another number is"
    )


def test_masks_of_0_and_255_are_evaluated_as_is_said(cli, tiny_bundle, dataset, caplog):
    root = dataset(2, highest=1)
    command = of_generic(tiny_bundle, root, "--json")
    plain = cli(*command)
    assert "1 of 3 classes occur in no label that was read: class_2; their" in caplog.text
    for path in (root / "labels").iterdir():
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert labels is not None
        cv2.imwrite(str(path), labels * np.uint8(255))
    refused = cli(*command)
    assert (refused.status, "such as --label-map 255=1 for 'class_1'" in refused.sentence) == (1, 1)
    found = cli(*command, "--label-map", "255=1").json
    assert found["confusion"] == plain.json["confusion"]
    left_out = cli(*command, "--label-map", "255=255,7=2").json
    assert left_out["miou"] < found["miou"]


@pytest.mark.parametrize("text", ["255", "255=road", "1=2,1=0", "70000=1", "-1=0", ""])
def test_label_map_that_is_none_is_wrong_usage(cli, tiny_bundle, tmp_path, text):
    done = cli(*of_generic(tiny_bundle, tmp_path, "--label-map", text))
    assert (done.status, "is no list such as 255=1,254=2 of numbers" in done.err) == (2, True)


def test_numbers_that_are_known_take_no_label_map(cli, tiny_bundle, tmp_path):
    command = ["eval", tiny_bundle.path, "--dataset", "camvid", "--root", tmp_path]
    done = cli(*command, "--label-map", "255=1")
    assert (done.status, "the numbers of camvid are known" in done.err) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_interrupted_run_is_gone_on_with(cli, tiny_bundle, dataset, tmp_path):
    root, out = dataset(24, size=(160, 240)), tmp_path / "r.json"
    arguments = [*of_generic(tiny_bundle, root, "--slide", 40, "--slide-stride", 20, "--out", out)]
    command = [sys.executable, "-m", "fcn_trt", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not out.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    part = json.loads(out.read_bytes())
    assert 0 < part["images"] < 24
    done = cli(*arguments, "--json")
    assert f":: {out} has {part['images']} of 24 images already" in done.err
    assert (done.json["finished"], done.json["images"]) == (True, 24)


def test_windows_scales_and_mirroring_are_what_the_result_says(cli, tiny_bundle, dataset):
    root = dataset(1)
    found = cli(*of_generic(tiny_bundle, root, "--slide", 49, "--ms-flip", "--json")).json[
        "protocol"
    ]
    assert found["slide"] == {"crop": [49, 49], "stride": [33, 33]}
    assert (found["scales"], found["flip"]) == ([0.5, 0.75, 1.0, 1.25, 1.5, 1.75], True)
    more = ("--slide", "48x64", "--slide-stride", 16, "--scales", "1,0.5")
    found = cli(*of_generic(tiny_bundle, root, *more, "--json")).json["protocol"]
    assert found["slide"] == {"crop": [48, 64], "stride": [16, 16]}
    assert (found["scales"], found["flip"]) == ([1.0, 0.5], False)


@pytest.fixture
def city(make_model, write_network, tmp_path, make_frame):
    """A model of 19 classes as a bundle, its module, and a Cityscapes folder of two images."""

    def make(model):
        loaded = replace(make_model(model, classes=19), labels=label_set("cityscapes"))
        network = write_network(loaded, tmp_path / "m.onnx", size=(64, 128))
        bundle = build_openvino(as_network(network), tmp_path / "bundle")
        root = tmp_path / "cityscapes"
        for index, town in enumerate(("aachen", "ulm")):
            name = f"{town}_000000_000019"
            images, labels = root / "leftImg8bit" / "val" / town, root / "gtFine" / "val" / town
            for folder in (images, labels):
                folder.mkdir(parents=True)
            cv2.imwrite(str(images / f"{name}_leftImg8bit.png"), make_frame((96, 192), seed=index))
            ids = np.random.default_rng(index).integers(0, 34, (12, 24), dtype=np.uint8)
            ids = cv2.resize(ids, (192, 96), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(labels / f"{name}_gtFine_labelIds.png"), ids)
        return bundle, loaded.module, root

    return make


TRAIN_IDS = {
    id_: index
    for index, id_ in enumerate(
        (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    )
}
"""cityscapesScripts helpers/labels.py: label ids that are evaluated, in the order of train ids."""


def accuracy_by_hand(module, root):
    """Share of the labelled pixels that torch gets right in MMSegmentation's way: the image within
    1024x2048, the whole of it at once, logits to that size, then to the image's own."""
    right = labelled = 0
    for path in sorted(root.glob("leftImg8bit/val/*/*.png")):
        labels = (
            str(path).replace("leftImg8bit", "gtFine", 1).replace("leftImg8bit", "gtFine_labelIds")
        )
        ids = cv2.imread(labels, cv2.IMREAD_GRAYSCALE)
        truth = np.array([TRAIN_IDS.get(index, 255) for index in range(256)])[ids]
        large = cv2.resize(cv2.imread(str(path)), (2048, 1024), interpolation=cv2.INTER_LINEAR)
        image = torch.from_numpy(((large[..., ::-1] - MEAN) / STD).transpose(2, 0, 1)[None].copy())
        with torch.no_grad():
            logits = module(image.float())
        for size in ((1024, 2048), (96, 192)):
            logits = torch.nn.functional.interpolate(logits, size, mode="bilinear")
        label_map = logits[0].argmax(0).numpy()
        right += np.count_nonzero((label_map == truth) & (truth != 255))
        labelled += np.count_nonzero(truth != 255)
    return right / labelled


def test_family_s_own_protocol_is_the_default_where_there_is_one(cli, city):
    bundle, module, root = city("fcn_r18-d8")
    command = ["eval", bundle.path, "--dataset", "cityscapes", "--root", root, "--json"]
    done = cli(*command)
    assert (
        ":: protocol mmsegmentation: each image within 1024x2048 at its ratio, compared" in done.err
    )
    assert done.json["protocol"]["source"].startswith("mmseg 1.2.2 ")
    assert done.json["pixel_accuracy"] == pytest.approx(accuracy_by_hand(module, root), abs=1e-3)
    assert cli(*command, "--protocol", "family").json["miou"] == done.json["miou"]
    run = cli(*command, "--protocol", "run")
    assert ":: protocol run: " in run.err
    assert run.json["protocol"]["resize"] == "engine"
    assert run.json["miou"] != done.json["miou"]


def test_family_without_a_protocol_is_said(cli, tiny_bundle, dataset):
    done = cli(*of_generic(tiny_bundle, dataset(1), "--protocol", "family"))
    assert done.status == 1
    assert "mmsegmentation publishes no accuracy of fcn_r18-d8 on generic" in done.sentence


def test_run_that_was_killed_goes_on_to_the_same_bytes(cli, tiny_bundle, dataset, tmp_path):
    root = dataset(24, size=(160, 240))
    arguments = [*of_generic(tiny_bundle, root), "--slide", 40, "--slide-stride", 20]
    killed, whole = tmp_path / "killed.json", tmp_path / "whole.json"
    command = [sys.executable, "-m", "fcn_trt", *map(str, arguments), "--out", str(killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not killed.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    part = json.loads(killed.read_bytes())
    assert not part["finished"]
    assert 0 < part["images"] < 24
    assert cli(*arguments, "--out", whole).status == 0
    done = cli(*arguments, "--out", killed)
    assert f":: {killed} has {part['images']} of 24 images already" in done.err
    assert without_times(killed) == without_times(whole)
    assert json.loads(killed.read_bytes())["elapsed_s"] > part["elapsed_s"]


def without_times(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    kept = [line for line in lines if not line.startswith((' "measured"', ' "elapsed_s"'))]
    assert len(kept) == len(lines) - 2
    return kept


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--protocol mine", "'--protocol': 'mine' is none of family, run; see"),
        ("--slide-stride 3", "'--slide-stride': it needs --slide"),
        ("--slide 48 --slide-stride 49", "'--slide-stride': 49 leaves pixels out between windows"),
        ("--slide huge", "'--slide': size 'huge' is not HEIGHTxWIDTH"),
        ("--slide 0", "'--slide': size '0x0' has a side that is not between"),
        ("--scales 1,two", "'--scales': '1,two' is not a list such as 0.5,1,1.5"),
        ("--scales 0,1", "'--scales': '0,1' is not a list"),
        ("--scales 0.001", "is not a list such as 0.5,1,1.5, each from 0.1 to 8"),
        ("--out a/../c.png --confusion c.png", "'--out': it is the name of --confusion, too"),
        ("--ms-flip --flip", "'--ms-flip': it has its own --scales and --flip"),
        ("--ms-flip --scales 1", "'--ms-flip': it has its own --scales and --flip"),
        ("--confusion c.jpg", "'--confusion': c.jpg does not end in .png"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(cli, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    done = cli("eval", "b", "--dataset", "camvid", "--root", "r", *more.split())
    assert done.status == 2
    assert message in done.sentence
    assert list(tmp_path.iterdir()) == []


def test_scene_has_no_split(cli):
    done = cli("eval", "b", "--dataset", "scene", "--split", "train")
    assert (done.status, "'--split': scene has no parts" in done.sentence) == (2, True)


@pytest.mark.parametrize("option", ["--out", "--confusion"])
def test_what_cannot_be_written_is_said_before_work(cli, tmp_path, option):
    path = tmp_path / "gone" / "x.png"
    done = cli("eval", "no-bundle", "--dataset", "scene", option, path)
    assert done.status == 1
    assert done.sentence.startswith(f"{path} cannot be written: No such file or directory")


@pytest.mark.parametrize(
    ("option", "path", "message"),
    [
        ("--out", "/dev/full", "/dev/full is no regular file, and would be replaced; choose"),
        ("--out", "", ". is a folder; give the name of a file"),
        ("--confusion", "/proc/self/c.png", "/proc/self/c.png cannot be written: "),
    ],
)
def test_what_is_no_place_for_a_file_is_said_before_work(cli, option, path, message):
    pytest.importorskip("matplotlib")
    done = cli("eval", "no-bundle", "--dataset", "scene", option, path)
    assert (done.status, done.sentence.startswith(message)) == (1, True)


def test_folder_is_no_picture(cli, tmp_path):
    path = tmp_path / "c.png"
    path.mkdir()
    done = cli("eval", "no-bundle", "--dataset", "scene", "--confusion", path)
    assert done.sentence == f"{path} is a folder; give the name of a file"


def test_file_that_is_no_result_is_kept(cli, tmp_path):
    path = tmp_path / "notes.json"
    path.write_text("{}")
    done = cli("eval", "no-bundle", "--dataset", "scene", "--out", path)
    assert done.status == 1
    assert "is there already and is no result of `fcn-trt eval`" in done.sentence
    assert path.read_text() == "{}"


def test_evaluation_of_streets_can_be_gone_on_with(cli, make_model, write_network, tmp_path):
    model = replace(make_model(classes=11), labels=label_set("camvid"))
    bundle = build_openvino(
        as_network(write_network(model, tmp_path / "m.onnx")), tmp_path / "bundle"
    )
    out = tmp_path / "r.json"
    command = ["eval", bundle.path, "--dataset", "scene", "--limit", 3, "--out", out, "--json"]
    first = cli(*command).json
    assert first["dataset"].items() >= {"name": "scene", "images": 3, "of": 40}.items()
    assert cli(*command).json == first
