"""`fcn-trt compare` as a user and as a script see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_trt.evaluation.datasets import open_dataset
from fcn_trt.evaluation.measure import evaluate
from fcn_trt.runtime.segmenter import Segmenter


@pytest.fixture
def folders(tmp_path: Path, make_frame) -> Path:
    """images/ and labels/ with six images of different sizes."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for index in range(6):
        size = (60 + index, 90)
        Image.fromarray(make_frame(size, seed=index)).save(tmp_path / "images" / f"{index}.png")
        truth = rng.choice(np.array([0, 1, 2, 9], dtype=np.uint8), size=size)
        Image.fromarray(truth).save(tmp_path / "labels" / f"{index}.png")
    return tmp_path


@pytest.fixture(scope="session")
def other_network(make_model, write_network, tmp_path_factory) -> Path:
    """The tiny model at another size, so that some labels differ."""
    path: Path = write_network(
        make_model(), tmp_path_factory.mktemp("other") / "other.onnx", size=(32, 48)
    )
    return path


def test_json_has_what_eval_says_of_both(cli, tiny_bundle, other_network, folders):
    done = cli(
        *("compare", tiny_bundle.path, other_network, "--json"),
        *("--images", folders / "images", "--labels", folders / "labels", "--ignore", 9),
    )
    found = done.json
    assert found["images"] == 6
    assert found["boundary_radius_px"] == 3
    assert 0.2 < found["near_boundary"] < found["pixels"] < found["elsewhere"] < 1
    assert found["remarks"] == ["The inputs have different sizes: 64x96 in A, 32x48 in B."]
    assert done.err.count(":: ") == 3
    assert [found[letter]["kind"] for letter in "ab"] == ["bundle", "onnx"]
    assert found["a"]["input_size"] == [64, 96]
    pixels = [image["pixels"] for image in found["worst"]]
    assert pixels == sorted(pixels)
    assert len(pixels) == 6
    (folders / "classes.txt").write_text("\n".join(found["per_class"]))
    for path in (folders / "labels").iterdir():
        truth = np.asarray(Image.open(path)).copy()
        truth[truth == 9] = 255
        Image.fromarray(truth).save(path)
    with Segmenter.load(tiny_bundle.path) as segmenter:
        expected = evaluate(segmenter.stream, open_dataset("generic", folders))
    accuracy = found["accuracy"]["a"]
    assert accuracy["miou"] == expected.miou
    assert accuracy["pixel_accuracy"] == expected.pixel_accuracy
    assert accuracy["per_class"] == expected.per_class
    drop = 100 * (accuracy["miou"] - found["accuracy"]["b"]["miou"])
    assert found["miou_drop_points"] == pytest.approx(drop)


def test_tables_are_for_people(cli, tiny_bundle, tiny_network, folders):
    done = cli("compare", tiny_bundle.path, tiny_network, "--images", folders / "images")
    assert done.status == 0
    assert done.out.startswith(f"A: {tiny_bundle.path}\nB: {tiny_network}\n")
    assert "Labels on 6 images" in done.out
    assert "within 3 pixels of a boundary" in done.out
    assert "class_2" in done.out
    assert "mean IoU" not in done.out
    assert "least agreement" not in done.out  # they agree


@pytest.mark.parametrize("name", ["page.html", "page.md"])
def test_missed_thresholds_are_named_after_the_report_is_written(
    cli, tiny_bundle, other_network, folders, name
):
    done = cli(
        *("compare", tiny_bundle.path, other_network, "--images", folders / "images"),
        *("--labels", folders / "labels", "--ignore", 9, "--limit", 2),
        *("--report", folders / name, "--min-agreement", 99.99, "--min-boundary", 0),
        *("--max-miou-drop", 0),
    )
    assert done.status == 1
    assert "Labels on 2 images" in done.out
    *_, last = done.err.splitlines()
    assert last.startswith(f"error: {other_network} differs too much from {tiny_bundle.path}: ")
    assert "pixel agreement " in last
    assert " %, --min-agreement 99.99" in last
    assert "--min-boundary" not in last
    text = (folders / name).read_text(encoding="utf-8")
    assert "failed" in text
    assert "passed" in text


def test_kept_thresholds_end_well(cli, tiny_bundle, tiny_network, folders):
    done = cli(
        *("compare", tiny_network, tiny_bundle.path, "--images", folders / "images", "--json"),
        *("--labels", folders / "labels", "--ignore", 9, "--min-agreement", 100),
        *("--min-boundary", 100, "--max-miou-drop", 0),
    )
    assert [verdict["passed"] for verdict in done.json["thresholds"]] == [True] * 3


def test_checkpoint_is_compared_at_the_size_of_the_other_side(
    cli, make_model, write_network, folders
):
    torch = pytest.importorskip("torch")
    model, meta = make_model(), {"model": "fcn_r18-d8"}
    torch.save({"state_dict": model.module.state_dict(), "meta": meta}, folders / "t.pth")
    network = write_network(model, folders / "t.onnx")
    done = cli(
        *("compare", folders / "t.pth", network, "--images", folders / "images", "--json"),
        *("--min-agreement", 99.9),
    )
    assert done.json["a"]["kind"] == "torch"
    assert done.json["a"]["input_size"] == [64, 96]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("x.onnx y.onnx", "Missing option '--images'"),
        ("x.onnx y.onnx --images . --size 64x96", "'--size': ONNX files and bundles have their"),
        ("x.pth y.pth --images .", "'--size': two checkpoints need it"),
        (
            "x.onnx y.onnx --images . --weights w",
            "'--weights': neither A nor B is a model",
        ),
        ("x.onnx y.onnx --images . --report p.pdf", "p.pdf does not end in .html or .md"),
        ("x.onnx y.onnx --images . --ignore 11", "'--ignore': it needs --labels"),
        ("x.onnx y.onnx --images . --max-miou-drop 1", "'--max-miou-drop': it needs --labels"),
        ("x.onnx y.onnx --images . --min-agreement 101", "'--min-agreement': Input should"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(cli, options, message):
    done = cli("compare", *options.split())
    assert done.status == 2
    assert message in done.sentence


def test_what_is_wrong_is_one_sentence_and_status_1(cli, tiny_network, folders):
    image, empty = folders / "images", folders / "empty"
    empty.mkdir()
    for options, message in (
        (["missing.onnx", tiny_network, "--images", image], "missing.onnx cannot be read"),
        (["missing.onnx", tiny_network, "--images", empty / "no"], "no cannot be read"),
        ([tiny_network, tiny_network, "--images", empty], "holds no image"),
        (
            [tiny_network, tiny_network, "--images", image, "--report", empty / "no/p.html"],
            "p.html cannot be written: No such file or directory; make its folder",
        ),
    ):
        done = cli("compare", *options)
        assert done.status == 1
        assert message in done.err.splitlines()[-1]


def test_camvid_labels_in_their_own_numbers(cli, shared_data, tmp_path):
    val = shared_data / "camvid" / "val"
    pytest.importorskip("torch")
    weights = Path(__file__).parents[2] / "fcn_trt" / "demo" / "weights.safetensors"
    assert cli("export", weights, "--size", "180x240", "--out", tmp_path / "d.onnx").status == 0
    done = cli(
        *("compare", weights, tmp_path / "d.onnx", "--images", val / "images", "--json"),
        *("--labels", val / "labels", "--ignore", 11, "--limit", 6),
        *("--min-agreement", 99.99, "--max-miou-drop", 0.01),
    )
    assert done.json["accuracy"]["a"]["miou"] > 0.4
    assert done.json["images"] == 6
