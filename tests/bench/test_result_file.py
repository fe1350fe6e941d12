"""The one form of committed results: what is written is read, and what is not whole is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

import jsonschema
import pytest

from benchmarks.schema import schema
from fcn_trt.bench.result_file import read_result, write_result
from fcn_trt.errors import FcnTrtError, OutputError, ResultFileError


@dataclass(frozen=True)
class Row:
    ms: float
    size: tuple[int, int]


@pytest.fixture
def path(tmp_path, environment):
    found = tmp_path / "r.json"
    write_result(
        found,
        benchmark="b",
        command="python -m b",
        environment=environment,
        results=[Row(ms=1.5, size=(2, 3)), {"ms": float("nan"), "row": Row(ms=2, size=(1, 1))}],
    )
    return found


def test_what_is_written_is_read(path, environment):
    found = read_result(path)
    assert (found.format, found.benchmark, found.command) == (1, "b", "python -m b")
    assert found.environment == environment
    assert found.results == [
        {"ms": 1.5, "size": [2, 3]},
        {"ms": None, "row": {"ms": 2.0, "size": [1, 1]}},
    ]
    assert path.read_text().endswith("}\n")


def test_one_result_needs_no_list(path, environment):
    write_result(path, benchmark="b", command="c", environment=environment, results={"a": 1})
    assert read_result(path).results == [{"a": 1}]


def test_schema_takes_what_is_written(path):
    jsonschema.validate(json.loads(path.read_text()), json.loads(schema()))


def changed(content, key, value):
    if value is None:
        del content[key]
    else:
        content[key] = value


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("environment", None, "environment: field required"),
        ("environment", {}, "environment.cpu: field required"),
        ("format", 2, "format"),
        ("benchmark", "", "benchmark"),
        ("command", "", "command"),
        ("command", None, "command: field required"),
        ("results", [], "results"),
        ("results", [1], "results.0"),
        ("machine", {}, "machine: unexpected keyword argument"),
    ],
)
def test_another_form_is_refused_by_schema_and_reader(path, key, value, word):
    content = json.loads(path.read_text())
    changed(content, key, value)
    path.write_text(json.dumps(content))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(schema()))
    with pytest.raises(ResultFileError, match="is no file of results of format 1") as error:
        read_result(path)
    assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("; measure again with the benchmark that wrote it")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, None) for key in ("cpu", "cores", "system", "versions", "commit", "power_mode")],
        ("cpu", ""),
        ("cores", 0),
        ("cores", "2"),
        ("versions", {}),
        ("versions", {"numpy": 2}),
        ("computer", "fast"),
    ],
)
def test_environment_that_is_not_whole_is_refused(path, key, value):
    content = json.loads(path.read_text())
    changed(content["environment"], key, value)
    path.write_text(json.dumps(content))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(schema()))
    with pytest.raises(ResultFileError, match=rf"environment\.{key}"):
        read_result(path)


def test_what_was_not_recorded_may_be_null(path, environment):
    content = json.loads(path.read_text())
    for key in asdict(environment).keys() - {"cpu", "cores", "system", "versions"}:
        content["environment"][key] = None
    path.write_text(json.dumps(content))
    jsonschema.validate(content, json.loads(schema()))
    assert read_result(path).environment.commit is None


def test_damaged_and_missing_files_are_one_sentence(path, tmp_path):
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FcnTrtError, match="is no file of results of format 1: the file: "):
        read_result(path)
    with pytest.raises(ResultFileError, match="cannot be read: No such file"):
        read_result(tmp_path / "none.json")


def test_nothing_is_written_that_would_be_refused(tmp_path, environment):
    for results in ([], [1]):
        with pytest.raises(ResultFileError, match="the result of b is no file of results"):
            write_result(
                tmp_path / "r.json",
                benchmark="b",
                command="c",
                environment=environment,
                results=results,
            )
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="cannot be written"):
        write_result(
            tmp_path / "no" / "r.json",
            benchmark="b",
            command="c",
            environment=environment,
            results={},
        )


def test_one_command_prints_the_schema():
    command = [sys.executable, "-m", "benchmarks.schema"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == schema()
    jsonschema.Draft202012Validator.check_schema(json.loads(schema()))
