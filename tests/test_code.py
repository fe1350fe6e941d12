"""The code that a module runs, against another reader of imports, on the package as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import grimp
import pytest

from fcn_trt import code
from fcn_trt.code import code_files, code_sha256, libraries

PACKAGE = code.PACKAGE


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(
        "fcn_trt",
        cache_dir=None,
        exclude_type_checking_imports=True,
        include_external_packages=True,
    )


@pytest.mark.parametrize(
    "module",
    [
        "fcn_trt.network.to_onnx",
        "fcn_trt.network.import_onnx",
        "fcn_trt.precision.type_network",
        "fcn_trt.engine.tensorrt.builder",
        "fcn_trt.engine.openvino.builder",
        "fcn_trt.evaluation.measure",
        "fcn_trt.sensitivity.analyse",
        "fcn_trt.cli.app",
    ],
)
def test_files_are_those_of_another_reader_of_imports(graph, module):
    modules = {module, *graph.find_upstream_modules(module)}
    own = {name for name in modules if name.partition(".")[0] == "fcn_trt"}
    packages = {name.rpartition(".")[0] for name in own}  # Python runs them on the way
    packages |= {name.rpartition(".")[0] for name in packages} - {""}
    found = {name_of(path) for path in code_files(module) if path.suffix == ".py"}
    assert found == own | packages | {"fcn_trt.version"}  # which every import reads
    external = {name.partition(".")[0] for name in modules - own}
    assert external <= libraries(module)


def test_data_belongs_to_the_module_that_reads_it():
    files = {path.relative_to(PACKAGE).as_posix() for path in code_files("fcn_trt.cuda.nvrtc")}
    assert {"cuda/kernels/decode.cu", "cuda/kernels/device.cuh"} <= files
    assert PACKAGE / "labels.json" in code_files("fcn_trt.labels")
    assert PACKAGE / "model/weights.json" not in code_files("fcn_trt.labels")


def test_every_data_file_of_the_package_belongs_to_a_module_or_is_said_here():
    everywhere = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    read = code_files(*map(name_of, PACKAGE.rglob("*.py")))
    left = {path.relative_to(PACKAGE).as_posix() for path in everywhere - set(read)}
    # The demo's models are hashed as any; nothing reads the others.
    assert left == {
        *("demo/weights.safetensors", "demo/network.onnx", "demo/MODEL_CARD.md"),
        *("demo/example.jpg", "README.md", "py.typed"),
    }


def test_names_and_content_count_and_the_order_does_not(tmp_path, monkeypatch):
    copy = tmp_path / "fcn_trt"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", copy)
    modules = ("fcn_trt.stages.decode", "fcn_trt.timing")
    before = code_sha256(*modules)
    assert code_sha256(*reversed(modules)) == before
    (copy / "timing.py").rename(copy / "times.py")
    renamed = code_sha256(modules[0], "fcn_trt.times")
    with (copy / "times.py").open("a") as file:
        file.write("# edited")
    assert len({before, renamed, code_sha256(modules[0], "fcn_trt.times")}) == 3


def test_imports_for_annotations_do_not_count(tmp_path, monkeypatch):
    (tmp_path / "fcn_trt").mkdir()
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "fcn_trt")
    for name, text in {
        "__init__": "",
        "a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fcn_trt import b",
        "b": "",
        "c": "def f():\n    try:\n        from fcn_trt.b import x\n    except ImportError: pass",
    }.items():
        (tmp_path / "fcn_trt" / f"{name}.py").write_text(text)
    assert [path.stem for path in code_files("fcn_trt.a")] == ["__init__", "a"]
    assert [path.stem for path in code_files("fcn_trt.c")] == ["__init__", "b", "c"]
    assert libraries("fcn_trt.a") == {"typing"}


def test_module_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match=r"there is no module 'fcn_trt\.stage\.decode'"):
        code_sha256("fcn_trt.timing", "fcn_trt.stage.decode")
    with pytest.raises(ValueError, match=r"there is no module 'fcn_trt\.stage'"):
        code_sha256("fcn_trt.stage", alone=True)
