"""The check on sources with known mistakes, against the real bindings of every release."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

pytest.importorskip("mypy", reason="needs the tools: pip install 'fcn-trt[dev]'")
pytest.importorskip("pybind11_stubgen", reason="needs the tools: pip install 'fcn-trt[dev]'")

from tests.bindings import bindings
from tests.bindings.bindings import (
    CACHE,
    BindingsError,
    OtherPlatformError,
    UnreachableIndexError,
    stubs,
)
from tests.bindings.check import Report, check, main
from tests.bindings.releases import RELEASES, Release

OLDEST = RELEASES[0]
SOURCE = """
    from __future__ import annotations
    from typing import TYPE_CHECKING, Any

    if TYPE_CHECKING:
        from tensorrt_types import IBuilderConfig, ICudaEngine, IHostMemory, TensorRt

    def build(trt: TensorRt, network: bytes) -> IHostMemory:
        class Log(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                print(severity <= trt.ILogger.Severity.ERROR, message)

        builder = trt.Builder(Log())
        typed = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        trt.OnnxParser(typed, Log()).parse(network)
        profile = builder.create_optimization_profile()
        profile.set_shape("image", (1, 3, 64, 96), (2, 3, 64, 96), (4, 3, 64, 96))
        config = builder.create_builder_config()
        config.add_optimization_profile(profile)
        config.builder_optimization_level = 5
        limit_capabilities(trt, config)
        return builder.build_serialized_network(typed, config)

    def limit_capabilities(trt: TensorRt, config: IBuilderConfig) -> None:
        if hasattr(trt, "ComputeCapability") and hasattr(config, "set_compute_capability"):
            config.set_compute_capability(trt.ComputeCapability.SM89, 0)
        if not hasattr(config, "max_workspace_size"):
            return
        config.max_workspace_size = 1 << 30

    def width(engine: ICudaEngine) -> int:
        return engine.get_tensor_shape("image")[-1] + getattr(engine, "num_bindings", 0)

    def configure(trt: TensorRt, config: IBuilderConfig) -> None:
        config.set_flag(trt.BuilderFlag.FP16)  # gone: 11.4 RTX
        config.max_workspace_size = 1 << 30  # gone: 10.0 10.3 10.13 10.16 11.4 RTX
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache)  # gone: 10.0 10.3 10.13 10.16 11.4 RTX
        print(config.num_compute_capabilities)  # gone: 10.0 10.3 10.13 10.16 11.4
        if hasattr(config, "set_compute_capability"):
            config.num_compute_capabilities = 1  # gone: 10.0 10.3 10.13 10.16 11.4

        class Calibrator(trt.IInt8EntropyCalibrator2):  # gone: 11.4 RTX
            pass

        class Monitor(trt.IProgressMonitor):
            def phase_start(self, name: str, parent: str, steps: int) -> None: ...
            def phase_end(self, name: str) -> None: ...  # gone: 10.0 10.3 10.13 10.16 11.4 RTX
"""


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`SOURCE` as a file."""
    path = tmp_path_factory.mktemp("source") / "sample.py"
    path.write_text(dedent(SOURCE))
    return path


@pytest.fixture(scope="session")
def checked(source: Path) -> Callable[[Release], Report]:
    """Check `SOURCE` against a release, once."""
    reports: dict[str, Report] = {}

    def report(release: Release) -> Report:
        if release.name not in reports:
            try:
                reports[release.name] = check([source], release)
            except (UnreachableIndexError, OtherPlatformError) as error:
                pytest.skip(str(error))
        return reports[release.name]

    return report


def _lines_gone(release: Release) -> list[int]:
    """The lines of `SOURCE` that say of themselves that they are wrong for a release."""
    return [
        number
        for number, line in enumerate(SOURCE.splitlines(), start=1)
        for name in line.partition("# gone: ")[2].split()
        if release.name.startswith((f"TensorRT {name}.", f"TensorRT-{name} "))
    ]


# `make checks` has all of them, and `make test-all` what each lacks.
@pytest.mark.parametrize(
    "release",
    [
        release
        if release in (OLDEST, RELEASES[-1])
        else pytest.param(release, marks=pytest.mark.exhaustive)
        for release in RELEASES
    ],
    ids=lambda release: release.name,
)
def test_what_a_release_lacks_is_found_at_its_line_and_nothing_else(checked, release):
    report = checked(release)

    assert [finding.line for finding in report.findings] == _lines_gone(release)
    assert {"TensorRt.Builder", "Severity.ERROR", "IBuilderConfig.set_flag"} <= report.attributes


def test_a_removed_flag_is_reported_with_file_line_release_and_name(checked, source):
    first, *_ = checked(RELEASES[4]).findings

    assert str(first) == (
        f'{source}:{_lines_gone(RELEASES[4])[0]}: TensorRT 11.4.0.106: "type[BuilderFlag]" has no '
        'attribute "FP16"'
    )


def test_the_command_fails_and_prints_what_it_found(checked, source, capsys):
    found = checked(OLDEST).findings

    assert main([source], [OLDEST]) == 1
    *lines, summary = capsys.readouterr().out.splitlines()
    assert lines == [str(finding) for finding in found]
    assert summary.endswith(f"missing {len(found)}")


def test_the_command_fails_if_nothing_uses_tensorrt(checked, tmp_path, capsys):
    checked(OLDEST)  # which skips where the bindings cannot be had
    path = tmp_path / "other.py"
    path.write_text("import json\nprint(json.dumps)\n")

    assert main([path], [OLDEST]) == 1
    assert capsys.readouterr().out.startswith("TensorRT 10.0.1: nothing of it is used in")


def test_another_machine_is_told_that_nothing_was_checked(checked, source, monkeypatch, capsys):
    checked(OLDEST)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(bindings, "_recipe", lambda: "other")

    assert main([source], [OLDEST]) == 0
    assert capsys.readouterr().out.startswith("not checked here: the bindings of TensorRT 10.0.1")


def test_a_machine_without_gcc_is_told_so(checked, tmp_path, monkeypatch):
    checked(OLDEST)
    shutil.copytree(CACHE / "wheels", tmp_path / "wheels")
    monkeypatch.setenv("PATH", "")

    with pytest.raises(BindingsError, match="gcc is not installed"):
        stubs(OLDEST, tmp_path)


def test_a_machine_without_network_is_told_so(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")

    with pytest.raises(UnreachableIndexError, match="pip reaches no package index for tensorrt"):
        stubs(OLDEST, tmp_path)
