"""The key is set, and nothing else in the file changes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from fcn_trt.errors import RecipeError
from fcn_trt.pipeline.recipe import read_recipe
from fcn_trt.sensitivity.recipe_key import check_recipe, set_keep_float, write_keep_float

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HEAD = """# A recipe.

model = "fcn_r18-d8"
size = "64x96"  # small
# Why int8.
precision = "int8" # and nothing else
"""
TAIL = """calibration = "c.json"
target = "openvino"

# What it is for.
[device]
name = "a device"
"""
RECIPE = Path("r.toml")


def test_new_key_stands_behind_precision_and_all_else_stays():
    found = set_keep_float(HEAD + TAIL, ["a.b", "c"], RECIPE)
    assert found == HEAD + 'keep_float = ["a.b", "c"]\n' + TAIL


@pytest.mark.parametrize(
    "old",
    [
        'keep_float = ["old"]\n',
        '  "keep_float"=[ "old", \'older\' ]\n',
        'keep_float = [\n  "old",  # because\n  # and\n  "[device]",\n]\n',
    ],
)
@pytest.mark.parametrize("place", ["before", "behind"])
def test_old_key_is_replaced_where_it_stands(old, place):
    first, last = (HEAD, old + TAIL) if place == "behind" else (old + HEAD, TAIL)
    new = 'keep_float = ["a"]\n'
    wanted = HEAD + new + TAIL if place == "behind" else new + HEAD + TAIL
    assert set_keep_float(first + last, ["a"], RECIPE) == wanted


def test_comment_behind_the_old_value_stays():
    old = 'keep_float = ["#1"]  # chosen # by hand\n'
    found = set_keep_float(HEAD + old + TAIL, ["#2"], RECIPE)
    assert found == HEAD + 'keep_float = ["#2"]  # chosen # by hand\n' + TAIL
    assert set_keep_float(found, [], RECIPE) == HEAD + "# chosen # by hand\n" + TAIL


def test_no_names_remove_the_key():
    assert set_keep_float(HEAD + 'keep_float = ["a"]\n' + TAIL, [], RECIPE) == HEAD + TAIL
    assert set_keep_float(HEAD + TAIL, [], RECIPE) == HEAD + TAIL


def test_long_list_has_a_line_for_each_name():
    names = [f"backbone.layer{index}.0.conv{index}" for index in range(8)]
    found = set_keep_float(HEAD + TAIL, names, RECIPE)
    listed = "".join(f'  "{name}",\n' for name in names)
    assert found == f"{HEAD}keep_float = [\n{listed}]\n{TAIL}"
    assert set_keep_float(found, ["a"], RECIPE) == HEAD + 'keep_float = ["a"]\n' + TAIL


@pytest.mark.parametrize("name", ["/a:b c", 'a"b\\', "tab\t\x7f\x01", "naïve \U0001d518", "]\n["])
def test_any_name_is_read_back(name):
    found = tomllib.loads(set_keep_float(HEAD + TAIL, [name], RECIPE))
    assert found["keep_float"] == [name]
    assert list(found) == [*tomllib.loads(HEAD), "keep_float", "calibration", "target", "device"]


def test_ends_of_line_stay_as_they_are():
    text = (HEAD + TAIL).replace("\n", "\r\n")
    found = set_keep_float(text, ["a"], RECIPE)
    assert found == (HEAD + 'keep_float = ["a"]\n' + TAIL).replace("\n", "\r\n")
    assert set_keep_float('precision = "int8"', ["a"], RECIPE) == (
        'precision = "int8"\nkeep_float = ["a"]\n'
    )


def test_text_that_looks_like_the_key_is_not_taken_for_it():
    trap = '[device]\nname = """\nkeep_float = ["x"]\nprecision = "int8"\n"""\nkeep_float = ["y"]\n'
    text = 'other = """\nprecision = "fp16"\n"""\n' + HEAD + trap
    found = set_keep_float(text, ["a"], RECIPE)
    assert found == text.replace(HEAD, HEAD + 'keep_float = ["a"]\n')


def test_file_without_a_place_for_the_key_is_refused():
    with pytest.raises(
        RecipeError, match=r'r\.toml is laid out .*write keep_float = \["a"\] there'
    ):
        set_keep_float('model = "m"\n', ["a"], RECIPE)
    with pytest.raises(RecipeError, match=r"r\.toml is not a TOML file"):
        set_keep_float("model = \n", ["a"], RECIPE)


def test_recipe_is_read_with_the_key(tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(HEAD + TAIL)
    write_keep_float(recipe, ["backbone.stem.0"])
    assert recipe.read_text() == HEAD + 'keep_float = ["backbone.stem.0"]\n' + TAIL
    step = read_recipe(recipe).type
    assert step is not None
    assert step.keep_float == {"backbone.stem.0"}
    write_keep_float(recipe, [])
    assert recipe.read_text() == HEAD + TAIL
    assert list(tmp_path.iterdir()) == [recipe]


def test_recipe_that_the_key_does_not_fit_is_left_alone(tmp_path):
    recipe = tmp_path / "r.toml"
    text = HEAD.replace("int8", "fp32") + TAIL.replace('calibration = "c.json"\n', "")
    recipe.write_text(text)
    with pytest.raises(RecipeError, match=r"r\.toml is not valid at keep_float: ") as refused:
        write_keep_float(recipe, ["a"])
    assert str(recipe) in str(refused.value)
    assert recipe.read_text() == text
    assert list(tmp_path.iterdir()) == [recipe]


class TestCheck:
    @pytest.fixture
    def calibration(self, tmp_path) -> Path:
        path: Path = tmp_path / "c.json"
        path.write_text("{}")
        return path

    def check(self, recipe: Path, calibration: Path) -> None:
        check_recipe(recipe, ["a"], precision="int8", calibration=calibration)

    def test_nothing_changes(self, tmp_path, calibration):
        recipe = tmp_path / "r.toml"
        recipe.write_text(HEAD + TAIL)
        self.check(recipe, calibration)
        assert recipe.read_text() == HEAD + TAIL
        with pytest.raises(RecipeError, match="cannot be read"):
            self.check(tmp_path / "missing.toml", calibration)
        recipe.write_bytes(b"\xff")
        with pytest.raises(RecipeError, match="not a TOML file"):
            self.check(recipe, calibration)

    def test_recipe_of_another_precision_is_refused(self, tmp_path, calibration):
        recipe = tmp_path / "r.toml"
        recipe.write_text(HEAD.replace("int8", "fp8") + TAIL)
        with pytest.raises(RecipeError, match="is for fp8, but int8 is measured; choose --precis"):
            self.check(recipe, calibration)

    def test_recipe_without_a_precision_is_refused(self, tmp_path, calibration):
        recipe = tmp_path / "r.toml"
        recipe.write_text('model = "fcn_r18-d8"\nsize = "64x96"\n')
        with pytest.raises(RecipeError, match="gives no precision, without which keep_float"):
            self.check(recipe, calibration)

    @pytest.mark.parametrize("content", ["[]", None])
    def test_recipe_with_another_calibration_is_refused(self, tmp_path, calibration, content):
        recipe, other = tmp_path / "r.toml", tmp_path / "other.json"
        recipe.write_text(HEAD + TAIL.replace("c.json", "other.json"))
        if content is not None:
            other.write_text(content)
        with pytest.raises(RecipeError, match=r"has the calibration .*other\.json, whose content"):
            self.check(recipe, calibration)


def test_a_recipe_of_lines_that_only_look_like_the_key_takes_no_time():
    text = (
        'precision = "int8"\nmodel = """\n'
        + "keep_float = [\n" * 5000
        + '"""\nkeep_float = ["a"]\n'
    )
    began = time.perf_counter()
    with pytest.raises(RecipeError, match="is laid out so that keep_float cannot be set in it"):
        set_keep_float(text, ["b"], Path("r.toml"))
    assert time.perf_counter() - began < 10
