from __future__ import annotations

import ast
import itertools
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fcn_trt
from fcn_trt.bench.result_file import read_result
from fcn_trt.calibration.cache import read_calibration
from fcn_trt.calibration.table import read_table
from fcn_trt.engine.manifest import read_manifest
from fcn_trt.errors import FcnTrtError, LimitError
from fcn_trt.evaluation.label_files import class_numbers, read_truth
from fcn_trt.evaluation.layouts import read_text
from fcn_trt.files import sha256
from fcn_trt.foreign import parse_json, printable, quoted, read_limited, shortened, without_secrets
from fcn_trt.images import read_image
from fcn_trt.labels import read_label_file
from fcn_trt.limits import MAX_BYTES
from fcn_trt.pipeline.recipe import read_recipe
from fcn_trt.spec import read_spec
from fcn_trt.video.capture_source import open_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


@pytest.fixture
def not_regular(tmp_path: Path) -> dict[str, Path]:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    server.close()
    named = {kind: tmp_path / kind for kind in ("pipe", "link", "folder", "socket")}
    return named | {"device": Path("/dev/zero")}


@pytest.mark.parametrize("read", [read_limited, sha256])
def test_only_regular_files_are_read(not_regular, read):
    for kind, path in not_regular.items():
        with pytest.raises(OSError, match="no regular file") as found:
            read(path)
        assert ("named pipe" if kind == "link" else kind) in str(found.value.strerror)


@pytest.mark.parametrize("read", [read_limited, sha256])
def test_size_is_looked_at_before_the_bytes(tmp_path, read, monkeypatch):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(60_000_000_000)
    with pytest.raises(OSError, match=r"60000000000 \(--max-bytes raises that\)"):
        read(path)


def test_limit_of_one_file(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_limited(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="at most 4 bytes are read, and it has 5"):
        read_limited(tmp_path / "a", 4)


def test_what_grows_while_it_is_read(tmp_path):
    path = Path("/proc/self/maps")  # says that it has no bytes
    with pytest.raises(OSError, match="at most 10 bytes"):
        read_limited(path, 10)


def test_a_limit_is_raised_by_the_environment_and_by_an_option(monkeypatch):
    monkeypatch.setenv(MAX_BYTES.variable, "7")
    assert MAX_BYTES.value == 7
    MAX_BYTES.set("9")
    assert MAX_BYTES.value == 9
    for wrong in ("", "-1", "0", "1e9", "٣", "9" * 40):
        with pytest.raises(LimitError, match="--max-bytes"):
            MAX_BYTES.set(wrong)
    monkeypatch.setenv(MAX_BYTES.variable, "many")
    with pytest.raises(LimitError, match=MAX_BYTES.variable):
        _ = MAX_BYTES.value


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 100_000, b"\xff", "{", "1" * 5000, "NaN", "-Infinity", "1e999", str(2**63)),
        *("[0" + ",0" * 100_001 + "]", b"[0" + b",0" * 100_001 + b"]", '{"a":' * 50_000),
    ],
    ids=itertools.count(),
)
def test_no_json(text):
    with pytest.raises(ValueError):  # noqa: PT011  # of any of its kinds
        parse_json(text)


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "\x1b]0;x\x07", "\x9b31m", "a\nb", "a\rb", "\u202e", "\u2028", "\udc80"]
)
def test_what_a_terminal_would_act_on_is_escaped(hostile):
    shown = printable(f"x{hostile}y")
    assert shown.isprintable()
    assert "\\" in shown
    shown.encode()


_FRAME = np.zeros((5, 7, 3), np.uint8)


_READERS: dict[str, Callable[[Path], object]] = {
    "result.json": read_result,
    "table.cache": read_table,
    "calibration.json": read_calibration,
    "names.txt": lambda path: read_text(path, "expected names"),
    "recipe.toml": read_recipe,
    "labels.txt": read_label_file,
    "m.onnx": read_spec,
    "frame.png": read_image,
    "truth.png": lambda path: read_truth((path, path), _FRAME, class_numbers("own", 2)),
    "manifest.json": lambda path: read_manifest(path.parent),
    "video.mp4": open_file,
}


@pytest.mark.parametrize("name", _READERS)
def test_every_reader_refuses_a_pipe_a_device_and_a_large_file_in_a_sentence(tmp_path, name):
    read, path = _READERS[name], tmp_path / name
    for make in (os.mkfifo, lambda p: p.symlink_to("/dev/zero"), _sparse, _no_utf8):
        make(path)
        with pytest.raises((FcnTrtError, ValueError)) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        path.unlink()


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(60_000_000_000)


def _no_utf8(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00[" * 1000)


_METHODS = (
    *(".open", ".read_text", ".read_bytes", ".fromfile", ".memmap", ".imread", ".fdopen"),
    ".VideoCapture",
)
_READS = {"open", "safe_open", *(f"{n}.load" for n in ("np", "json", "tomllib", "torch", "onnx"))}
_MAY_READ = {
    "foreign.py": {"os.open", "os.fdopen"},
    "files.py": {"os.open", "path.open"},  # what it writes itself
    "model/download.py": {"_opener().open", "path.open"},  # what is downloaded
    "network/reference.py": {"Image.open"},  # of bytes
    "video/capture_source.py": {"cv2.VideoCapture"},  # opens by name only
    "video/video_sink.py": {"cv2.VideoCapture"},  # what it wrote itself
    "machine.py": {"path.read_text"},  # the system's
    "pipeline/packaged.py": {"path.read_bytes", "recipe.path.read_text"},  # the package's own
    "code.py": {"path.read_bytes"},  # the package's own, as the next
    "cuda/nvrtc.py": {"path.read_bytes"},
}
_NETWORKS = {"network", "self", "bundle.network"}
"""Whose `read_bytes` is `Network.read_bytes`."""
_RESOURCES = re.compile(r"resources\.files\(|_FOLDER / f")


def _reads(path: Path) -> set[str]:
    """Calls in a module that open a file by themselves, but for the package's own resources."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            is_read = called in _READS or called.endswith(_METHODS)
            if is_read and not _RESOURCES.search(called):
                found.add(called)
    return {call for call in found if call.rpartition(".")[0] not in _NETWORKS}


def test_nobody_else_opens_files():
    """A file that somebody else may have made is opened by `fcn_trt.foreign` and by nobody else."""
    package = Path(fcn_trt.__file__).parent
    found = {
        path.relative_to(package).as_posix(): reads
        for path in sorted(package.rglob("*.py"))
        if (reads := _reads(path))
    }
    assert found == _MAY_READ


def test_numbers_of_64_bits_are_json():
    text = f"[{-(2**63)}, {2**63 - 1}, 1e308, -0.0]"
    assert parse_json(text) == parse_json(text.encode()) == [-(2**63), 2**63 - 1, 1e308, 0.0]


def test_a_value_in_a_sentence_is_short():
    assert quoted("a\nb") == r"'a\nb'"
    assert quoted(["x" * 10_000] * 3) == "['" + "x" * 75 + "..."
    assert shortened("x" * 81) == "x" * 77 + "..."
    assert shortened("x" * 80) == "x" * 80


def test_names_of_all_languages_are_printed():
    for name in ("Straße", "道路", "дорога", "Fußgänger", "طريق", "🚗", "a b_c-[d]"):
        assert printable(name) == name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://a:b@host/x", "rtsp://***@host/x"),
        ("rtsp://a:b/c?d@host/x", "rtsp://***@host/x"),
        ("['RTSPS://a:b@c@host']", "['RTSPS://***@host']"),
        ("rtspsrc user-id=eve user-pw=secret ! x", "rtspsrc user-id=eve user-pw=*** ! x"),
        ("http://h/x?token=12&y", "http://h/x?token=***"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_secret_is_left_out(text, shown):
    assert without_secrets(text) == shown
