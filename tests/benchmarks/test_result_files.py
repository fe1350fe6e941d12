"""Every committed result says what it was measured on, and how to measure it again."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from benchmarks.schema import schema
from fcn_trt.bench.result_file import read_result
from fcn_trt.errors import ResultFileError

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCHEMA = FOLDER / "schema.json"
RESULTS = sorted(set(FOLDER.glob("*.json")) - {SCHEMA})


def test_committed_schema_is_that_of_the_code():
    remedy = "run `python -m benchmarks.schema > benchmarks/schema.json`"
    assert json.loads(SCHEMA.read_text()) == json.loads(schema()), remedy


def test_there_are_results():
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_result_is_of_the_one_form(path):
    jsonschema.validate(json.loads(path.read_text()), json.loads(SCHEMA.read_text()))
    found = read_result(path)
    assert found.command.startswith(("python -m benchmarks.", "fcn-trt ", "make "))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
@pytest.mark.parametrize("environment", [None, {}])
def test_result_without_its_environment_is_refused(path, environment, tmp_path):
    content = json.loads(path.read_text())
    content.pop("environment", None)
    if environment is not None:
        content["environment"] = environment
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(SCHEMA.read_text()))
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(ResultFileError, match="environment"):
        read_result(tmp_path / "r.json")
