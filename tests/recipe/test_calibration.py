"""The caches in calibration/: small, explained, and those that the recipes need."""

import re
from pathlib import Path

import pytest

from fcn_trt.recipe import read_recipe

ROOT = Path(__file__).parents[2]
CACHES = sorted((ROOT / "calibration").glob("*.json"))
RECIPES = [read_recipe(path) for path in sorted((ROOT / "engines").glob("*.toml"))]
QUANTISED = [recipe for recipe in RECIPES if recipe.quantisation]


def test_there_is_a_cache_for_each_recipe_that_needs_one_and_no_other():
    needed = {recipe.quantisation.calibration.resolve() for recipe in QUANTISED}
    assert needed == set(CACHES)


@pytest.mark.parametrize("path", CACHES, ids=lambda path: path.name)
def test_cache_is_small_and_its_table_says_where_it_comes_from(path):
    pytest.importorskip("onnx")
    from fcn_trt.export.calibration_cache import read_calibration

    assert path.stat().st_size < 2_000_000
    cache = read_calibration(path)
    (row,) = re.findall(rf"^\| {re.escape(path.name)} .*$", _readme(), re.MULTILINE)
    assert cache.images_name in row
    assert cache.created in row
    assert f"OpenVINO {cache.openvino}" in row
    users = {recipe.path.stem for recipe in QUANTISED if _uses(recipe, path)}
    assert users == set(re.findall(r"`(\w+_(?:int8|fp8))`", row))


@pytest.mark.parametrize("recipe", QUANTISED, ids=lambda recipe: recipe.path.stem)
def test_cache_is_of_the_network_of_its_recipe(recipe, tmp_path):
    pytest.importorskip("torch")
    from fcn_trt.export.pipeline import export_network, type_network

    model = str(recipe.path.parent / recipe.model)
    export_network(model, tmp_path / "n.onnx", size=recipe.size)
    typed = tmp_path / "q.onnx"
    how = recipe.quantisation
    spec = type_network(tmp_path / "n.onnx", typed, recipe.precision, quantisation=how)
    assert (spec.precision, spec.exceptions) == (recipe.precision, {})


def _readme() -> str:
    return (ROOT / "calibration" / "README.md").read_text(encoding="utf-8")


def _uses(recipe, cache: Path) -> bool:
    return recipe.quantisation.calibration.resolve() == cache
