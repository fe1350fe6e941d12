from __future__ import annotations

import json

import pytest

from fcn_trt.errors import OutputError
from fcn_trt.sensitivity.record import Record
from fcn_trt.sensitivity.result import Score

LAYERS = ("a", "b", "c")
SCORES = {
    frozenset[str](): Score(agreement=99.1, miou=66.123456789),
    frozenset("b"): Score(agreement=99.2, miou=None),
    frozenset("ac"): Score(agreement=99.3, miou=1 / 3),
    frozenset("abc"): Score(agreement=100.0, miou=0.0),
}


def test_measurements_are_read_back_exactly(tmp_path):
    path = tmp_path / "r.json"
    record = Record("key", LAYERS, path)
    assert record.resumed == 0
    for count, (kept, score) in enumerate(SCORES.items(), start=1):
        assert kept not in record
        record.add(kept, score)
        again = Record("key", LAYERS, path)
        assert again.resumed == count
        assert again[kept] == score
    written = json.loads(path.read_text())
    assert written["result"] is None
    sets = [
        {k: v for k, v in m.items() if k in ("kept", "quantised")} for m in written["measurements"]
    ]
    assert sets == [{"kept": []}, {"kept": ["b"]}, {"quantised": ["b"]}, {"quantised": []}]
    record.write({"model": "m"})
    assert json.loads(path.read_text())["result"] == {"model": "m"}
    assert Record("key", LAYERS, path).resumed == len(SCORES)


def test_measurements_of_something_else_are_not_used(tmp_path):
    path = tmp_path / "r.json"
    Record("key", LAYERS, path).add(frozenset("a"), Score(agreement=99.0, miou=None))
    other = Record("other", LAYERS, path)
    assert other.resumed == 0
    assert frozenset("a") not in other


def test_record_without_a_file_keeps_what_it_is_told():
    record = Record("key", LAYERS, None)
    record.add(frozenset("a"), Score(agreement=99.0, miou=None))
    assert record[frozenset("a")].agreement == 99.0


@pytest.mark.parametrize(
    "content", ["", "[1]", "{}", '{"format": 1, "key": "key", "measurements": [{"kept": []}]}']
)
def test_file_of_something_else_is_not_lost(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(OutputError, match=r"no result of `fcn-trt sensitivity`; choose"):
        Record("key", LAYERS, path)
    assert path.read_text() == content
