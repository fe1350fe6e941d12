"""What only the user knows is said at export, and every step afterwards knows it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fcn_trt.engine.bundle import load_bundle
from fcn_trt.files import sha256
from fcn_trt.model.weights import published_for
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import read_spec

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

SIZE = "64x96"
OWN = ("background", "road", "crop row", "obstacle")
LABELS = "background\nroad #804080\ncrop row #00c040\nobstacle #E02020\n"


@pytest.fixture(scope="module")
def weights(make_model, tmp_path_factory):
    """A checkpoint with four classes of the user's own, as torch.save wrote it."""
    path = tmp_path_factory.mktemp("own") / "my.pth"
    torch.save(make_model(classes=4, seed=2).module.state_dict(), path)
    return path


@pytest.fixture
def here(weights, tmp_path, monkeypatch, make_frame):
    """A folder with the checkpoint, its labels, and labelled frames."""
    shutil.copy(weights, tmp_path / "my.pth")
    (tmp_path / "labels.txt").write_text(LABELS)
    for name in ("images", "labels"):
        (tmp_path / "labelled" / name).mkdir(parents=True)
    (tmp_path / "labelled" / "classes.txt").write_text(LABELS)
    for seed in range(2):
        cv2.imwrite(str(tmp_path / "labelled" / "images" / f"{seed}.png"), make_frame(seed=seed))
        labels = np.random.default_rng(seed).integers(0, 5, (64, 96), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "labelled" / "labels" / f"{seed}.png"), labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(cli, *options, model="fcn_r18-d8"):
    return cli("export", model, "--weights", "my.pth", "--size", SIZE, "--out", "m.onnx", *options)


def test_own_classes_go_all_the_way(cli, here, make_frame):
    said = export(cli, "--labels", "labels.txt", "--ignore", 4, "--images", "labelled/images").err
    assert (
        ":: export: 100.00 % as PyTorch on 2 frames (frames of images, 4 classes; at least 99.95"
        in said
    )
    calibrated = cli("calibrate", "m.onnx", "--images", "labelled/images", "--out", "c.json")
    assert calibrated.status == 0
    options = ["--precision", "int8", "--calibration", "c.json", "--accept", 0.5]
    assert cli("build", "m.onnx", *options, "--out", "b").status == 0
    spec = load_bundle(here / "b").manifest.spec
    assert spec.classes == OWN
    assert spec.palette == ("#000000", "#804080", "#00c040", "#e02020")
    assert [check.step for check in spec.checks] == ["export", "type"]
    found = cli("eval", "b", "--dataset", "generic", "--root", "labelled", "--json").json
    assert all(name in json.dumps(found) for name in OWN)
    with Segmenter.load(here / "b") as segmenter:
        frame = make_frame(seed=0)
        view = segmenter.render(frame, np.full((64, 96), 3, np.uint8), opacity=1.0)
    assert view[0, 0].tolist() == [0x20, 0x20, 0xE0]


def test_number_of_classes_is_no_name_and_what_is_assumed_is_said(cli, here):
    said = export(cli).err
    assert ":: my.pth does not say how its input was normalised; taking ImageNet's mean" in said
    assert "--labels" in said
    assert read_spec(here / "m.onnx").classes == ("class_0", "class_1", "class_2", "class_3")


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        ("--mean 0.5 --std 0.5", (127.5,) * 3, (127.5,) * 3),
        ("--mean 0.1,0.2,0.3 --std 1 --input-colour bgr", (76.5, 51.0, 25.5), (255.0,) * 3),
        ("--scale 1", (0.0,) * 3, (255.0,) * 3),
        ("--mean 100 --std 50 --scale 255", (100.0,) * 3, (50.0,) * 3),
    ],
)
def test_how_the_input_was_made_is_said(cli, here, options, mean, std):
    assert export(cli, *options.split()).status == 0
    spec = read_spec(here / "m.onnx")
    assert spec.mean == pytest.approx(mean)
    assert spec.std == pytest.approx(std)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--labels nix.txt", "neither a file of class names nor a known label set"),
        ("--labels voc", "voc has 21 classes, but the network has 4"),
        ("--mean 1,2", "neither a number nor three"),
        ("--mean 0 --std 1", "say which: scale 1 or scale 255"),
        ("--std 2", "mean and std go together; mean is missing"),
        ("--scale 2", "'2' is none of 1, 255"),
        ("--input-colour grey", "'grey' is none of rgb, bgr"),
        ("--threshold 1.5", "1.5 is not between 0 and 1"),
        ("--threshold 0.4", "--threshold"),
        ("--ema", "--ema"),
        ("--no-check --accept 0.5", "nothing is checked"),
        ("--no-check --images labelled", "leave one of the two out"),
        ("--images nowhere", "does not exist"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(cli, here, options, message):
    found = export(cli, *options.split())
    assert found.status in (1, 2)
    assert message in found.err
    assert not (here / "m.onnx").exists()


def test_accept_is_recorded(cli, here):
    export(cli, "--accept", 0.25)
    assert read_spec(here / "m.onnx").checks[0].floor == 0.25


class TestRecipe:
    """The same keys in a recipe."""

    def build(self, cli, here, text):
        head = 'model = "fcn_r18-d8"\nweights = "my.pth"\nsize = "64x96"\n'
        (here / "r.toml").write_text(head + text)
        return cli("build", "r.toml")

    def test_labels_in_a_table(self, cli, here):
        table = 'background = ""\nroad = "#804080"\n"crop row" = "#00c040"\nobstacle = "#e02020"\n'
        text = (
            f'mean = 0\nstd = 64\nscale = 255\ninput_colour = "bgr"\nignore = 4\n[labels]\n{table}'
        )
        assert self.build(cli, here, text).status == 0
        spec = read_spec(here / "r.onnx")
        assert (spec.classes, spec.ignore) == (OWN, 4)
        assert (spec.mean, spec.std) == ((0.0,) * 3, (64.0,) * 3)

    def test_labels_in_a_file_beside_it(self, cli, here):
        assert self.build(cli, here, 'labels = "labels.txt"\ncheck = false\n').status == 0
        spec = read_spec(here / "r.onnx")
        assert spec.classes == OWN
        assert spec.checks[0].describe() == "export: not checked, as --no-check asked"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('labels = "nix.txt"', "not valid at labels: 'nix.txt' is neither a file"),
            ("mean = [1, 2]", "not valid at mean: "),
            ('mean = "grey"', "not valid at mean: 'grey' is neither a number nor three"),
            ("mean = 0\nstd = 1", "scale 1 or scale 255"),
            ("scale = 2", "not valid at scale: 2 is none of 1, 255"),
            ("accept = 2.0", "not valid at accept"),
            ("check = false\naccept = 0.5", "not valid at accept: nothing is checked"),
        ],
    )
    def test_what_cannot_be_names_its_key(self, cli, here, text, message):
        assert message in self.build(cli, here, text + "\n").sentence


class TestTrust:
    @pytest.fixture
    def digest(self, here, monkeypatch):
        """SHA-256 of the checkpoint, whose first 32 bits are now those of a published one."""
        digest = sha256(Path("my.pth"))
        entry = replace(published_for("fcn_r18-d8")[0], name="theirs", sha256_prefix=digest[:8])
        monkeypatch.setattr("fcn_trt.model.weights.registry", lambda: (entry,))
        monkeypatch.setenv("XDG_DATA_HOME", str(Path.cwd() / "data"))
        return digest

    def test_it_is_said_what_a_file_is_only_named_as(self, cli, digest):
        done = export(cli)
        assert ":: my.pth is named as theirs by the first 32 bits of its SHA-256" in done.err
        assert "with weights my.pth to" in done.err

    @pytest.mark.parametrize("option", [["--trust"], ["--weights-sha256"]])
    def test_trusted_file_is_taken_as_the_published_one(self, cli, digest, option):
        hashes = [digest] if option == ["--weights-sha256"] else []
        done = export(cli, *option, *hashes, "--labels", "labels.txt")
        assert f":: my.pth is taken as theirs on your word; its SHA-256, {digest}" in done.err
        assert "with weights theirs to" in done.err

    def test_hash_that_is_none_or_another_is_refused(self, cli, digest):
        done = export(cli, "--weights-sha256", "abc")
        assert (done.status, "'--weights-sha256': 'abc' is not the 64" in done.sentence) == (
            2,
            True,
        )
        done = export(cli, "--weights-sha256", "a" * 64)
        assert (done.status, f"{'a' * 64} was asked for" in done.sentence) == (1, True)

    @pytest.mark.parametrize("option", [["--trust"], ["--weights-sha256", "a" * 64]])
    def test_only_recipes_have_a_checkpoint_to_build_of(self, cli, here, option):
        done = cli("build", "x.onnx", "--out", "b", *option)
        assert done.status == 2
        assert f"'{option[0]}': only a recipe takes it" in done.sentence
