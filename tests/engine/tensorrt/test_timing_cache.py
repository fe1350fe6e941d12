"""Timings that are read and kept, with a builder's real settings and a made-up GPU.

TensorRT-RTX keeps an empty cache in them, takes any other, and warns that it times nothing; that
TensorRT starts from what it kept is tested in tests/gpu.
"""

import logging

import pytest

from fcn_trt.cache import read_kept, write_kept
from fcn_trt.engine.tensorrt.caches import (
    keep_timing_cache,
    timing_cache_path,
    use_timing_cache,
)
from fcn_trt.engine.tensorrt.library import Log, load_library
from fcn_trt.machine import Gpu

pytestmark = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")

ORIN = Gpu(name="Orin (nvgpu)", compute_capability="8.7", memory_bytes=8 << 30, integrated=True)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user's cache that is empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def library(rtx):
    return load_library("tensorrt-rtx")


@pytest.fixture
def settings(rtx):
    """Make an IBuilderConfig."""
    builder = rtx.Builder(Log().logger(rtx))
    return builder.create_builder_config


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="fcn_trt")
    return lambda: [record.getMessage() for record in caplog.records]


def test_file_is_named_after_library_release_and_device(library, home):
    name = f"tensorrt-rtx-{library.version}-Orin-nvgpu-sm8-7.cache"
    assert timing_cache_path(library, ORIN) == home / "fcn_trt" / "timing" / name


def test_first_build_starts_from_nothing_and_says_nothing(library, settings, warnings):
    config = settings()
    use_timing_cache(config, library, ORIN)
    assert config.get_timing_cache() is not None
    assert warnings() == []


def test_timings_are_kept_whole_for_the_next_build(library, settings, warnings):
    first = settings()
    use_timing_cache(first, library, ORIN)
    keep_timing_cache(first, library, ORIN)
    path = timing_cache_path(library, ORIN)
    assert read_kept(path) == bytes(first.get_timing_cache().serialize()) != b""
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    second = settings()
    use_timing_cache(second, library, ORIN)
    keep_timing_cache(second, library, ORIN)
    assert read_kept(path) == bytes(first.get_timing_cache().serialize())
    assert warnings() == []


@pytest.mark.parametrize("damaged", [b"no timings", b"ptrtd\0\0\0", bytes(200)])
def test_damaged_timings_do_not_stop_a_build(library, settings, damaged):
    write_kept(timing_cache_path(library, ORIN), damaged)
    config = settings()
    use_timing_cache(config, library, ORIN)
    assert config.get_timing_cache() is not None


def test_timings_that_cannot_be_read_are_done_without(library, settings, warnings):
    timing_cache_path(library, ORIN).mkdir()
    config = settings()
    use_timing_cache(config, library, ORIN)
    assert config.get_timing_cache() is not None
    (said,) = warnings()
    assert "is not used: it is a folder and no regular file" in said


def test_timings_that_cannot_be_kept_are_no_error(library, settings, warnings):
    timing_cache_path(library, ORIN).mkdir()
    config = settings()
    use_timing_cache(config, library, ORIN)
    keep_timing_cache(config, library, ORIN)
    said = warnings()[-1]
    assert said.startswith("the next build will take as long as this one: ")
    assert "cannot be written: Is a directory" in said


def test_home_that_cannot_be_written_means_building_without(
    library, settings, warnings, monkeypatch, tmp_path
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    config = settings()
    use_timing_cache(config, library, ORIN)
    keep_timing_cache(config, library, ORIN)
    assert config.get_timing_cache() is not None
    first, second = warnings()
    assert first.startswith("building without earlier timings, which takes longer: ")
    assert second.startswith("the next build will take as long as this one: ")
    assert all(
        "file is no folder; set XDG_CACHE_HOME to a folder that can be written" in said
        for said in (first, second)
    )
