"""`fcn-trt sensitivity` as a user and as a script see it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

RECIPE = """# Tiny.
model = "tiny.onnx"
size = "64x96"
precision = "int8"  # small
calibration = "c.json"
target = "openvino"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_frame, own_process, tiny_network) -> Path:
    """images/, labels/, a calibration c.json, and the result.json of a first run."""
    path: Path = tmp_path_factory.mktemp("sensitivity")
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (path / kind).mkdir()
    for index in range(2):
        cv2.imwrite(str(path / "images" / f"{index}.png"), make_frame(seed=index))
        truth = rng.choice(np.array([0, 1, 2, 9], dtype=np.uint8), size=(64, 96))
        cv2.imwrite(str(path / "labels" / f"{index}.png"), truth)
    done = own_process(
        *("calibrate", tiny_network, "--images", path / "images", "--method", "minmax"),
        *("--out", path / "c.json"),
    )
    assert done.status == 0, done.err
    done = own_process(*_arguments(tiny_network, path), "--out", path / "result.json", "--json")
    assert done.status == 0, done.err
    (path / "printed.json").write_text(done.out)
    return path


@pytest.fixture
def result(folder, tmp_path) -> Path:
    """A copy of the result, to go on from."""
    return Path(shutil.copy(folder / "result.json", tmp_path / "result.json"))


@pytest.fixture
def ask(cli, tiny_network, folder) -> Callable[..., Any]:
    def run(*more: object) -> Any:
        return cli(*_arguments(tiny_network, folder), *more)

    return run


def _arguments(network: Path, folder: Path) -> list[object]:
    return [
        *("sensitivity", network, "--calibration", folder / "c.json"),
        *("--images", folder / "images", "--labels", folder / "labels", "--ignore", 9),
        *("--limit", 1, "--max-drop", 100),
    ]


def test_json_is_the_result_that_is_written(folder):
    printed = json.loads((folder / "printed.json").read_text())
    assert printed == json.loads((folder / "result.json").read_text())["result"]
    assert printed["model"] == "fcn_r18-d8"
    assert printed["images"] == 1
    assert printed["question"]["bound"] == {"max_drop": 100, "min_agreement": None}
    assert printed["reference"]["agreement"] == 100
    assert printed["chosen"]["kept"] == []
    assert printed["chosen"]["quantised_share"] == 100
    assert [len(point["kept"]) for point in printed["points"]] == [0, 1, 2, 4]
    gains = [effect["gain"] for effect in printed["effects"]]
    assert gains == sorted(gains, reverse=True)


def test_tables_and_picture_are_for_people(ask, result, tmp_path):
    done = ask("--out", result, "--picture", tmp_path / "p.png")
    assert done.status == 0
    assert "Convolutions of fcn_r18-d8 on 1 images" in done.out
    assert "backbone.layer2.0.downsample.0" in done.out
    assert "gain in float" in done.out
    assert done.out.endswith(
        "nothing has to stay in float: all quantised keeps the bound, at most 100 points of mean "
        "IoU less than FP32\n"
    )
    assert f"networks that {result} has" in done.err
    assert f"wrote the picture to {tmp_path / 'p.png'}" in done.err
    assert np.asarray(cv2.imread(str(tmp_path / "p.png"))).shape == (750, 1200, 3)


def test_set_is_written_into_the_recipe(ask, folder, result, tmp_path, tiny_network, cli):
    shutil.copy(folder / "c.json", tmp_path)
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE + 'keep_float = ["old"]\n')
    assert ask("--out", result, "--recipe", recipe).status == 0
    assert recipe.read_text() == RECIPE  # nothing has to stay in float
    # Agreement of the best convolution's network, as measured, is a bound that needs it.
    best = json.loads(result.read_text())["result"]["effects"][0]
    arguments = _arguments(tiny_network, folder)[:-2]
    done = cli(
        *arguments,
        *("--min-agreement", best["score"]["agreement"], "--out", result, "--recipe", recipe),
    )
    assert done.status == 0
    line = f'keep_float = ["{best["name"]}"]\n'
    assert recipe.read_text() == RECIPE.replace("# small\n", f"# small\n{line}")
    assert f"keep in float: {best['name']} (bound: at least " in done.out


def test_recipe_that_could_not_take_the_key_is_refused_before_the_work(ask, result, tmp_path):
    recipe = tmp_path / "r.toml"
    text = RECIPE.replace("int8", "fp32").replace('calibration = "c.json"\n', "")
    recipe.write_text(text)
    before = result.read_bytes()
    done = ask("--out", result, "--recipe", recipe)
    assert done.status == 1
    assert done.sentence.startswith(f"{recipe} is for fp32, but int8 is measured; ")
    assert recipe.read_text() == text
    assert result.read_bytes() == before


def test_bound_that_nothing_keeps_is_an_error_behind_the_tables(
    cli, tiny_network, folder, tmp_path
):
    # Every set of this file agrees in 99 % of the pixels, but all in float agree wholly.
    path = tmp_path / "r.json"
    content = json.loads((folder / "result.json").read_text())
    names = [effect["name"] for effect in content["result"]["effects"]]
    score = {"agreement": 99.0, "miou": 20.0}
    ordered = [
        {"kept": []} | score,
        *({"kept": names[:count]} | score for count in range(1, len(names))),
        *({"kept": [name]} | score for name in names),
        *({"quantised": [name]} | score for name in names),
    ]
    path.write_text(json.dumps(content | {"measurements": ordered}))
    shutil.copy(folder / "c.json", tmp_path)
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE)
    done = cli(
        *_arguments(tiny_network, folder)[:-2],
        *("--min-agreement", 100, "--out", path, "--recipe", recipe),
    )
    assert done.status == 1
    assert "gain in float" in done.out
    *_, last = done.err.splitlines()
    assert last.startswith(
        "error: fcn_r18-d8 in int8 keeps the bound, at least 100 % of the pixels"
    )
    assert recipe.read_text() == RECIPE


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--precision", "fp16"], "'--precision': 'fp16' is none of int8, fp8"),
        (["--method", "best"], "'--method': 'best' is none of entropy, minmax"),
        (["--float", "int8"], "'--float': 'int8' is none of fp16, fp32"),
        (["--min-agreement", "99"], "'--min-agreement': choose it or --max-drop"),
        (["--picture", "p.jpg"], "'--picture': p.jpg does not end in .png"),
    ],
)
def test_wrong_usage_is_named(ask, more, says):
    done = ask(*more)
    assert done.status == 2
    assert says in done.sentence


@pytest.mark.parametrize(
    ("more", "option"), [(["--ignore", 9], "--ignore"), (["--max-drop", 1], "--max-drop")]
)
def test_what_needs_labels_says_so(cli, tiny_network, folder, more, option):
    done = cli(
        *("sensitivity", tiny_network, "--calibration", folder / "c.json"),
        *("--images", folder / "images", *more),
    )
    assert done.status == 2
    assert f"'{option}': it needs --labels" in done.sentence


def test_calibration_of_another_network_is_refused(
    cli, make_model, write_network, folder, tmp_path
):
    other = write_network(make_model(seed=1), tmp_path / "other.onnx")
    done = cli(*_arguments(other, folder))
    assert done.status == 1
    assert f"{folder / 'c.json'} was made for another network" in done.sentence


def test_places_that_cannot_be_written_are_refused_before_the_work(ask, tmp_path):
    for option, name in (("--out", "r.json"), ("--picture", "p.png")):
        done = ask(option, tmp_path / "missing" / name)
        assert done.status == 1
        assert "make its folder, or choose another place" in done.sentence
    (tmp_path / "mine.json").write_text("[]")
    assert "is no result of `fcn-trt sensitivity`" in ask("--out", tmp_path / "mine.json").sentence
