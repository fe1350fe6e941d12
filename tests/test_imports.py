"""What is loaded when, and that running bundles needs no export extra."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Sequence

import cv2
import numpy as np
import pytest

import fcn_trt
from tests.conftest import Done
from tests.processes import BLOCKED

HEAVY = (
    *("torch", "torchvision", "tensorrt", "pycuda", "onnx", "openvino", "cv2", "safetensors"),
    *("matplotlib", "fcn_trt.pipeline.plan"),
)
NEEDS_EXTRA = (
    *("fcn_trt.model.", "fcn_trt.network.", "fcn_trt.calibration.", "fcn_trt.precision."),
    "fcn_trt.sensitivity.picture",
    "fcn_trt.bench.pictures",
)
MODULES = [
    module.name
    for module in pkgutil.walk_packages(fcn_trt.__path__, "fcn_trt.")
    if module.name != "fcn_trt.__main__"
]


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


EACH = f"""
{BLOCKED}
import contextlib, io, json
from fcn_trt.cli.app import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["fcn-trt", *command]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""


def without_extra(*commands: Sequence[object]) -> list[Done]:
    """Command lines, one after the other, where nothing of the export extra can be imported."""
    done = python(EACH, json.dumps([[str(word) for word in command] for command in commands]))
    assert done.stderr == ""
    return [Done(*json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "module", ["fcn_trt", "fcn_trt.cli.app", "fcn_trt.doctor", "fcn_trt.cli.terminal"]
)
def test_import_loads_nothing_heavy(module):
    code = f"import sys, {module}; print([n for n in {HEAVY!r} if n in sys.modules])"
    assert python(code).stdout == "[]\n"


def test_every_module_imports():
    for name in MODULES:
        importlib.import_module(name)


def test_running_needs_no_module_of_the_export_extra():
    runtime = [name for name in MODULES if not name.startswith(NEEDS_EXTRA)]
    code = f"{BLOCKED}\nimport importlib\nfor name in {runtime!r}: importlib.import_module(name)"
    done = python(code)
    assert done.stderr == ""
    assert done.returncode == 0


def test_run_eval_inspect_and_help_work_without_the_export_extra(tiny_bundle, tmp_path):
    names = tiny_bundle.manifest.spec.classes
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / "a.png"), np.zeros((64, 96), dtype=np.uint8))
    (tmp_path / "classes.txt").write_text("\n".join(names))
    *works, helps = without_extra(
        ["run", tiny_bundle.path, "--source", "scene:1:64x96", "--limit", 2, "--json"],
        ["eval", tiny_bundle.path, "--dataset", "generic", "--root", tmp_path, "--json"],
        ["inspect", tiny_bundle.path, "--json"],
        ["compare", *[tiny_bundle.path] * 2, "--images", tmp_path / "images", "--json"],
        ["--help"],
    )
    assert len(works) == 4
    assert all(done.json for done in works)
    assert "Usage: fcn-trt" in helps.out


def test_fp32_bundle_is_built_without_the_export_extra(tiny_network, tmp_path):
    (done,) = without_extra(["build", tiny_network, "--out", tmp_path / "bundle"])
    assert done.status == 0, done.err
    assert (tmp_path / "bundle" / "manifest.json").is_file()


def test_recipe_that_begins_with_a_typed_network_needs_no_export_extra(tiny_network, tmp_path):
    """As on a Jetson without PyTorch, which takes the typed ONNX from a workstation."""
    recipe = tmp_path / "street.toml"
    recipe.write_text(
        'model = "fcn_r18-d8"\nsize = "64x96"\nprecision = "fp32"\ntarget = "openvino"\n'
    )
    first, second = without_extra(*[["build", recipe, "--network", tiny_network]] * 2)
    assert first.status == second.status == 0, first.err + second.err
    assert ":: nothing to do: " in second.err
    assert (tmp_path / "street" / "manifest.json").is_file()


def test_what_needs_the_export_extra_says_how_to_install_it(tiny_network, tmp_path, monkeypatch):
    commands = (
        "export fcn_r18-d8 --weights random --size 64x96 --out m.onnx",
        "calibrate {network} --scenes 1 --out c.json",
        "quantize {network} --precision bf16 --out m.onnx",
        "build {network} --precision fp32 --out bundle",
        "demo --size 64x128 --out out",
    )
    monkeypatch.chdir(tmp_path)
    found = without_extra(*[command.format(network=tiny_network).split() for command in commands])
    assert len(found) == len(commands)
    for done in found:
        assert (done.status, done.out) == (1, "")
        assert "needs the package " in done.err
        assert done.err.endswith(
            "; install the export extra with `pip install 'fcn-trt[export]'`\n"
        )
        assert done.err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []
