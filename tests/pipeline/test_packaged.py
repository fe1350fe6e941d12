import pytest

from fcn_trt.errors import OutputError, RecipeError
from fcn_trt.pipeline import packaged
from fcn_trt.pipeline.packaged import copy_recipe, packaged_recipes
from fcn_trt.pipeline.recipe import read_recipe

ROOT = packaged.PACKAGE.parent


def test_all_recipes_of_the_repository_are_listed():
    found = packaged_recipes()
    assert set(found) == {path.stem for path in (ROOT / "engines").glob("*.toml")}
    assert len(found) > 20
    assert next(iter(found)).startswith("demo_")


def test_what_a_recipe_needs_is_said():
    found = packaged_recipes()
    assert found["demo_cpu_int8"].needs == ["fcn-trt[export]"]
    assert found["demo_rtx"].needs == ["fcn-trt[export,tensorrt-rtx]"]
    assert found["orin-nano_256x512"].needs == [
        "fcn-trt[export,tensorrt]",
        "weights fcn_r18-d8_512x1024_80k_cityscapes",
        "a GPU of 8.7",
    ]


@pytest.mark.parametrize("name", packaged_recipes())
def test_copy_can_be_built_where_it_is(name, tmp_path):
    out = tmp_path / "mine"
    written = copy_recipe(name, out)
    assert written[0] == out / f"{name}.toml"
    assert sorted(out.iterdir()) == sorted(written)
    copy, own = read_recipe(written[0]), read_recipe(packaged_recipes()[name].path)
    assert (copy.device, copy.compile) == (own.device, own.compile)
    assert copy.output.parent == out
    named = [copy.export.model if copy.export else "", getattr(copy.type, "calibration", None)]
    paths = [
        str(path) for path in named if path is not None and str(path).startswith(str(tmp_path))
    ]
    assert sorted(paths) == sorted(map(str, written[1:]))
    assert copy_recipe(name, out) == written  # again, over the same


def test_copy_is_the_recipe_but_for_the_paths(tmp_path):
    recipe, *beside = copy_recipe("demo_cpu_int8", tmp_path)
    own = (ROOT / "engines" / "demo_cpu_int8.toml").read_text()
    assert recipe.read_text() == own.replace("../fcn_trt/demo/", "").replace("../calibration/", "")
    assert {path.name for path in beside} == {"weights.safetensors", "demo.json"}
    assert (tmp_path / "demo.json").read_bytes() == (ROOT / "calibration/demo.json").read_bytes()


def test_an_edited_copy_is_not_overwritten(tmp_path):
    recipe, *_ = copy_recipe("cpu_256x512", tmp_path)
    recipe.write_text("mine")
    with pytest.raises(OutputError, match=r"cpu_256x512\.toml is there and is another; give anoth"):
        copy_recipe("cpu_256x512", tmp_path)
    assert recipe.read_text() == "mine"


def test_unknown_recipe_is_named_with_those_there_are(tmp_path):
    with pytest.raises(RecipeError, match=r"no recipe 'orin'; there are demo_cpu, .*thor_512x1024"):
        copy_recipe("orin", tmp_path)
    assert not list(tmp_path.iterdir())
