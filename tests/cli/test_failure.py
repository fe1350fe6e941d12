"""What nobody foresaw is one sentence and a report; what may be printed of it is text."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from fcn_trt.cli import app as app_module
from fcn_trt.cli import terminal
from fcn_trt.cli.failure import sentence_of
from fcn_trt.limits import MAX_BYTES, MAX_PIXELS


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


class Panic(BaseException):
    """As what Rust's libraries raise, which is no Exception."""


def panic() -> None:
    raise Panic("rtsp://eve:pa@ss@camera/1 \x1b[31m")


UNFORESEEN = {
    "KeyError": lambda: dict[str, int]()["a"],
    "RecursionError": recurse,
    "AttributeError": lambda: None.anything,  # type: ignore[attr-defined]
    "UnicodeEncodeError": lambda: "\udcff".encode(),
    "ValidationError": lambda: TypeAdapter(int).validate_python("x"),
    "JSONDecodeError": lambda: json.loads("{"),
    "ZeroDivisionError": lambda: 1 / 0,
    "Panic": panic,
}


@pytest.fixture
def fails(monkeypatch, cli):
    """Have `fcn-trt doctor` end as a function does."""

    def run(function, *arguments):
        monkeypatch.setattr("fcn_trt.doctor.examine", function)
        return cli("doctor", *arguments)

    return run


@pytest.mark.parametrize("kind", UNFORESEEN)
def test_unforeseen_is_one_sentence_and_a_private_report(fails, kind):
    done = fails(UNFORESEEN[kind])
    assert (done.status, done.out) == (1, "")
    start, found, path = done.sentence.partition("; please report it with ")
    assert start.startswith(f"this should not happen ({kind}")
    assert found
    report = Path(path)
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    text = report.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert "numpy" in text
    assert "arguments: ['doctor']" in text
    assert not [path for path in report.parent.iterdir() if path.suffix == ".part"]
    report.unlink()


def test_secrets_and_controls_are_not_in_it(fails):
    done = fails(panic, "--json", "--verbose")
    report = Path(done.sentence.partition("report it with ")[2])
    for text in (done.sentence, report.read_text(encoding="utf-8")):
        assert "rtsp://***@camera/1" in text
        assert not {"eve", "pa@ss"} & set(text.split())
        assert all(line.isprintable() for line in text.splitlines())
    report.unlink()


def test_report_goes_elsewhere_where_there_is_no_cache(fails, monkeypatch, tmp_path):
    tmp_path.joinpath("file").touch()
    tmp_path.joinpath("temp").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    done = fails(UNFORESEEN["KeyError"])
    assert f"with {tmp_path / 'temp'}/" in done.sentence
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert "what --debug shows" in fails(UNFORESEEN["KeyError"]).sentence


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_that_runs_out_has_its_own_sentence(fault):
    assert sentence_of(fault, []).startswith("the memory of this machine does not suffice")


def test_array_that_no_memory_holds_does_too():
    with pytest.raises(MemoryError) as found:
        np.zeros(1 << 60, np.uint8)
    assert "does not suffice" in sentence_of(found.value, [])


def test_debug_prints_the_trace_as_text(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    terminal.begin(is_verbose=False, is_traced=True)
    try:
        raise ValueError("a\x1b[2J\nerror: forged")
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert "ValueError: a\\x1b[2J\n    error: forged\n" in err
    assert "\x1b" not in err


HOSTILE = """
import logging, sys, threading, warnings
from fcn_trt.cli.app import main
name = "a\\x1b[2J\\n:: forged\\u202e\\x9b\\udcff"
def examine():
    logging.getLogger("library").warning("of %s", name)
    warnings.warn(name)
    try:
        raise KeyError(name)
    except KeyError:
        logging.getLogger("library").exception("caught")
    thread = threading.Thread(target=lambda: {}[name])
    thread.start()
    thread.join()
    class Unseen:
        def __del__(self):
            raise ValueError(name)
    Unseen()
    raise ValueError(name)
import fcn_trt.doctor
fcn_trt.doctor.examine = examine
sys.argv = ["fcn-trt", "doctor", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("options", [["-v"], ["-v", "--debug"]])
def test_logs_warnings_and_what_dies_unseen_are_text(options):
    command = [sys.executable, "-c", HOSTILE, *options]
    done = subprocess.run(command, capture_output=True, timeout=60)
    text = done.stderr.decode()
    assert done.returncode == 1
    assert text.count("\\x1b[2J") >= 6
    assert all(line.isprintable() for line in text.split("\n"))
    assert not any(line.startswith(":: forged") for line in text.split("\n"))


@pytest.mark.parametrize("where", ["before", "behind", "equals"])
def test_options_of_every_command_stand_anywhere(cli, monkeypatch, where):
    for limit in (MAX_PIXELS, MAX_BYTES):
        monkeypatch.setenv(limit.variable, "1")
    options = ["--max-pixels", "77", "--max-bytes", "78", "-v"]
    arguments = {
        "before": [*options, "models", "--weights"],
        "behind": ["models", *options, "--weights"],
        "equals": ["models", "--weights", "--max-bytes=78", "--max-pixels=77"],
    }[where]
    assert cli(*arguments).status == 0
    assert (MAX_PIXELS.value, MAX_BYTES.value) == (77, 78)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("models --max-pixels", "'--max-pixels': it needs a number"),
        ("--max-bytes x models", "--max-bytes is a whole number of bytes from 1 on, and not 'x'"),
        ("models --max-pixels 0", "--max-pixels is a whole number of pixels"),
        ("models --max-pixels=-1", "--max-pixels is a whole number of pixels"),
        (f"models --max-bytes {'9' * 5000}", "[...]"),
        (f"profile fcn_resnet50 --size {'9' * 5000}x3", "[...]"),
        (f"run b --source s --limit {'9' * 5000}", "Unable to parse input string as an integer"),
        (f"build x.onnx --out b --workspace {'9' * 5000}", "is no amount of memory"),
    ],
)
def test_limit_that_is_no_number_is_wrong_usage(cli, arguments, message):
    done = cli(*arguments.split())
    assert done.status == 2
    assert message in done.sentence
    assert len(done.sentence) < 1500


def test_limit_of_the_environment_is_checked_too(cli, monkeypatch):
    monkeypatch.setenv(MAX_PIXELS.variable, "many")
    done = cli("models", "--weights")
    assert done.status == 2
    assert "FCN_TRT_MAX_PIXELS is a whole number" in done.sentence


def test_options_of_every_command_are_in_the_help(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    shown = cli("--help").out
    for option in ("--max-pixels", "--max-bytes", "--debug", "--verbose"):
        assert option in shown


def test_what_follows_two_dashes_is_no_option():
    assert app_module._in_front(["run", "--", "-v"]) == ["run", "--", "-v"]


@pytest.mark.parametrize("source", ["9" * 5000, f"scene:{'9' * 5000}", f"scene:1:{'9' * 5000}x3"])
def test_endless_number_of_a_source_is_refused_in_few_words(cli, source):
    done = cli("run", "bundle", "--source", source)
    assert done.status == 1
    assert "source '" in done.sentence
    assert len(done.sentence) < 1500
