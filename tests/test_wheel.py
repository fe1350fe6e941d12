"""What a wheel and a source distribution hold, as hatch would write them."""

import re
from pathlib import Path

import pytest

NEEDS = "needs the tools: pip install 'fcn-trt[dev]'"
wheel = pytest.importorskip("hatchling.builders.wheel", reason=NEEDS)
sdist = pytest.importorskip("hatchling.builders.sdist", reason=NEEDS)

ROOT = Path(__file__).parents[1]


def files_of(builder):
    return {file.distribution_path for file in builder.recurse_included_files()}


@pytest.fixture(scope="module")
def in_wheel():
    return files_of(wheel.WheelBuilder(str(ROOT)))


def test_wheel_holds_the_package_and_nothing_beside_it(in_wheel):
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "fcn_trt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"fcn_trt/demo/network.onnx", "fcn_trt/py.typed", "fcn_trt/labels.json"} <= package
    recipes = {f"fcn_trt/recipes/engines/{path.name}" for path in ROOT.glob("engines/*.toml")}
    assert in_wheel == package | recipes | {"fcn_trt/recipes/calibration/demo.json"}


def test_sources_hold_what_is_needed_to_test():
    found = files_of(sdist.SdistBuilder(str(ROOT)))
    assert {"Makefile", "CHANGELOG.md", "tests/conftest.py", ".ci/constraints.txt"} <= found
    assert {"engines/demo_cpu.toml", "calibration/demo.json", "benchmarks/peers.json"} <= found
    assert not {path for path in found if path.endswith((".pyc", ".pth"))}


def test_page_of_an_index_leads_nowhere_that_is_not_there():
    text = wheel.WheelBuilder(str(ROOT)).metadata.core.readme
    assert text.startswith("# fcn_trt\n")
    assert "# Changelog" in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert all(link.startswith("https://") for link in links), links
    assert "![" not in text
