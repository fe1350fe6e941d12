"""The caches in calibration/: small, explained, and those that the recipes need."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_trt.pipeline.plan import Checking
from fcn_trt.pipeline.recipe import read_recipe
from fcn_trt.pipeline.run import run

ROOT = Path(__file__).parents[2]
CACHES = sorted((ROOT / "calibration").glob("*.json"))
RECIPES = [read_recipe(path) for path in sorted((ROOT / "engines").glob("*.toml"))]
QUANTISED = [
    (recipe, recipe.type.calibration)
    for recipe in RECIPES
    if recipe.type is not None and isinstance(recipe.type.calibration, Path)
]


def test_there_is_a_cache_for_each_recipe_that_needs_one_and_no_other():
    needed = {cache.resolve() for _, cache in QUANTISED}
    assert needed == set(CACHES)


@pytest.mark.parametrize("path", CACHES, ids=lambda path: path.name)
def test_cache_is_small_and_its_table_says_where_it_comes_from(path):
    pytest.importorskip("onnx")
    from fcn_trt.calibration.cache import read_calibration

    assert path.stat().st_size < 2_000_000
    cache = read_calibration(path)
    (row,) = re.findall(rf"^\| {re.escape(path.name)} .*$", _readme(), re.MULTILINE)
    assert cache.images_name in row
    assert cache.created in row
    assert f"OpenVINO {cache.openvino}" in row
    users = {r.path.stem for r, cache in QUANTISED if cache.resolve() == path}
    assert users == set(re.findall(r"`(\w+_(?:int8|fp8))`", row))


@pytest.mark.parametrize("recipe", [r for r, _ in QUANTISED], ids=lambda r: r.path.stem)
def test_cache_is_of_the_network_of_its_recipe(recipe, tmp_path):
    pytest.importorskip("torch")
    plan, off = recipe.plan(), Checking(is_on=False)
    assert plan.export is not None
    assert plan.type is not None
    unchecked = {
        "export": replace(plan.export, checking=off),
        "type": replace(plan.type, checking=off),
    }
    plan = replace(plan, **unchecked, compile=None)
    spec = run(plan, tmp_path / "q.onnx").spec
    assert spec.precision == plan.precision
    assert len(spec.exceptions) == {"int8": 0, "fp8": 4}[spec.precision]  # of 26


def _readme() -> str:
    return (ROOT / "calibration" / "README.md").read_text(encoding="utf-8")
