"""Texts and names that others chose, through the commands that show them."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from typing import Any

import cv2
import pytest

from fcn_trt.cli import terminal
from fcn_trt.cli.evaluate import figures_table
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.evaluation.scores import Scores

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp.\u2066\u200b\u2028\r"
FORGED = "\n│ precision proven │ 18 int8 (100.0 % of GMAC); read from the engine │\nerror: forged"
TEXT = f"a{ESCAPES}{FORGED}$\\frac{{[red]"
NAME = "a\x1b[2J\nb\u202e"
"""Of a file; Linux takes any bytes but / and 0."""
NO_UTF8 = "\udcff" if sys.platform == "linux" else ""


def require_plain(done) -> None:
    """Every line is printable text, none is forged, and nothing is a trace."""
    for text in (done.out, done.err):
        text.encode()
        assert all(line.isprintable() for line in text.split("\n"))
        assert "Traceback" not in text
        assert "should not happen" not in text
        assert not any(line.startswith(("error: forged", "b")) for line in text.split("\n"))
        assert sum("│ precision proven" in line[:30] for line in text.split("\n")) <= 1


@pytest.fixture
def hostile_bundle(tiny_bundle, tmp_path):
    """The tiny bundle, whose manifest says hostile things; its network is as it was."""
    folder = tmp_path / f"{NAME}{NO_UTF8}"
    shutil.copytree(tiny_bundle.path, folder)
    bundle = load_bundle(folder)
    spec = bundle.manifest.spec
    told: dict[str, Any] = dict.fromkeys(("model", "weights", "licence", "labels"), TEXT)
    manifest = replace(
        bundle.manifest,
        spec=replace(spec, **told, classes=tuple(f"{TEXT}{i}" for i in range(3))),
        device=TEXT,
        built_by=TEXT,
        target_version=TEXT,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


@pytest.mark.parametrize("option", [[], ["--json"], ["-v"]])
def test_inspect_shows_a_hostile_manifest_as_text(cli, hostile_bundle, option):
    done = cli("inspect", hostile_bundle, *option)
    require_plain(done)
    assert done.status == 0
    if not option:
        assert r"a\x1b[2J" in done.out


def test_run_and_its_errors_show_names_as_text(cli, hostile_bundle, make_frame, tmp_path):
    image = tmp_path / f"{NAME}{NO_UTF8}.png"
    image.write_bytes(cv2.imencode(".png", make_frame())[1].tobytes())
    done = cli("run", hostile_bundle, "--source", image, "--sink", tmp_path / f"{NAME}{NO_UTF8}.x")
    require_plain(done)
    assert done.status == 1
    image.write_bytes(b"no image")
    require_plain(cli("run", hostile_bundle, "--source", image))


def test_evaluation_shows_class_names_as_text(cli, make_model, tmp_path, make_frame):
    torch = pytest.importorskip("torch")
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "classes.txt").write_text("a\nb\nc\n")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        picture = make_frame() if kind == "images" else make_frame()[:, :, 0] % 3
        cv2.imwrite(str(folder / kind / "a.png"), picture)
    names = [f"[red]road[/red]{ESCAPES}", "$\\frac{", "sky\n│ all"]
    content = {"state_dict": make_model().module.state_dict()}
    torch.save(content | {"meta": {"model": "fcn_r18-d8", "CLASSES": names}}, tmp_path / "n.pth")
    options = ["--size", "64x96", "--no-check", "--out"]
    require_plain(cli("export", tmp_path / "n.pth", *options, tmp_path / "n.onnx"))
    require_plain(cli("build", tmp_path / "n.onnx", "--no-check", "--out", tmp_path / "b"))
    done = cli("eval", tmp_path / "b", "--dataset", "generic", "--root", folder)
    require_plain(done)
    assert done.status == 1  # a file of classes holds no such names
    assert r"[red]road[/red]\x1b[2J" in done.sentence


def test_tables_of_an_evaluation_show_class_names_as_text(cli, capsys):
    classes = ("$\\frac{", f"[red]road[/red]{ESCAPES}", "sky\n│ all")
    terminal.show(figures_table(TEXT, Scores(classes).evaluation()))
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.split("\n"))
    assert r"[red]road[/red]\x1b[2J" in out
    assert not any(line.strip().startswith("│ all") for line in out.split("\n"))


@pytest.mark.skipif(sys.platform != "linux", reason="its names are bytes")
@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_compare_writes_of_names_that_are_no_utf8(cli, tiny_bundle, make_frame, tmp_path, suffix):
    folder = tmp_path / NO_UTF8
    folder.mkdir()
    bundle = folder / NAME
    bundle.symlink_to(tiny_bundle.path)
    (folder / f"{NAME}.png").write_bytes(cv2.imencode(".png", make_frame())[1].tobytes())
    report = folder / f"r{NO_UTF8}{suffix}"
    done = cli("compare", bundle, bundle, "--images", folder, "--report", report)
    require_plain(done)
    assert done.status == 0
    assert r"\udcff" in report.read_text(encoding="utf-8")


def test_checkpoint_s_keys_and_words_are_shown_as_text(cli, make_model, tmp_path):
    torch = pytest.importorskip("torch")
    state = make_model().module.state_dict()
    path = tmp_path / f"{NAME}{NO_UTF8}.pth"
    for content in (
        {f"{TEXT}{index}": tensor for index, tensor in enumerate(state.values())},
        {"state_dict": state | {TEXT: torch.zeros(1)}, "meta": {"model": "fcn_r18-d8"}},
        {"state_dict": state, "meta": {"model": TEXT}},
        {"state_dict": state, "meta": {"model": "fcn_r18-d8", "labels": TEXT}},
        {"state_dict": state, "meta": {"model": "fcn_r18-d8", "CLASSES": [TEXT, "b", "c"]}},
        {"state_dict": state, "meta": {"model": "fcn_r18-d8", "licence": TEXT}},
    ):
        with path.open("wb") as file:
            torch.save(content, file)
        options = ["--size", "64x96", "--no-check", "--out", tmp_path / f"{NAME}.onnx"]
        require_plain(cli("export", path, *options))


@pytest.mark.parametrize(
    "text",
    [
        f'"{NAME.encode("unicode_escape").decode()}" = 1',
        'model = "a\\u001b[2J\\u202e"\nsize = "64x96"\nprecision = "fp32"',
        'model = "fcn_r18-d8"\nsize = "64x96\\u001b"\nprecision = "fp32"',
        "model = \x1b",
    ],
)
def test_recipe_s_keys_and_values_are_shown_as_text(cli, tmp_path, text):
    path = tmp_path / f"{NAME}.toml"
    path.write_bytes(os.fsencode(text))
    done = cli("build", path)
    require_plain(done)
    assert done.status == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", TEXT, "--size", "64x96", "--out", "x.onnx"],
        ["inspect", TEXT],
        [TEXT],
        ["build", "x.onnx", "--out", "b", "--target", TEXT],
        ["run", "b", "--source", TEXT],
        ["run", "b", "--source", "x", TEXT],
        ["models", f"--{TEXT}"],
        ["profile", TEXT],
        ["advise", "--device", TEXT],
        ["compare", TEXT, TEXT, "--images", TEXT],
        ["bench", TEXT],
        ["eval", TEXT, "--dataset", TEXT, "--root", TEXT],
    ],
    ids=lambda words: words[0][:7],
)
def test_wrong_words_are_shown_as_text(cli, arguments):
    done = cli(*arguments)
    require_plain(done)
    assert done.status in (1, 2)
