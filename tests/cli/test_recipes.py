import pytest


def test_recipes_are_listed(cli):
    found = {recipe["name"]: recipe for recipe in cli("recipes", "--json").json["recipes"]}
    assert found["demo_cpu"] == {
        "name": "demo_cpu",
        "device": "any CPU",
        "size": [256, 512],
        "precision": "fp32",
        "target": "openvino",
        "needs": ["fcn-trt[export]"],
    }
    done = cli("recipes")
    assert done.status == 0
    assert all(name in done.out for name in found)


def test_recipe_is_copied(cli, tmp_path):
    done = cli("recipes", "demo_cpu", "--out", tmp_path / "mine")
    assert (done.status, done.out) == (0, "")
    assert f"`fcn-trt build {tmp_path}/mine/demo_cpu.toml`" in done.err
    assert cli("recipes", "demo_cpu", "--out", tmp_path / "mine", "--json").json == {
        "recipe": f"{tmp_path}/mine/demo_cpu.toml",
        "beside": [f"{tmp_path}/mine/weights.safetensors"],
    }


@pytest.mark.parametrize("arguments", [("demo_cpu",), ("--out", "mine")])
def test_copy_needs_a_name_and_a_folder(cli, arguments):
    done = cli("recipes", *arguments)
    assert done.status == 2
    assert "a copy needs both a NAME and --out" in done.sentence
