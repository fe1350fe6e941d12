"""The JSON Schema of files of results; what `fcn-trt bench` found is told to its last field.

python -m benchmarks.schema > benchmarks/schema.json
"""

from __future__ import annotations

import json
import sys

from pydantic import TypeAdapter

from fcn_trt.bench.ladder import Outcome
from fcn_trt.bench.result_file import ResultFile

__all__ = ["schema"]

_VERSION = "https://json-schema.org/draft/2020-12/schema"


def schema() -> str:
    """The schema as text that ends in a line feed."""
    whole, outcome = (TypeAdapter(kind).json_schema() for kind in (ResultFile, Outcome))
    parts = whole.pop("$defs") | outcome.pop("$defs") | {"Outcome": outcome}
    bench = {"properties": {"benchmark": {"const": "bench"}}}
    rows = {"properties": {"results": {"items": {"$ref": "#/$defs/Outcome"}}}}
    found = {
        "$schema": _VERSION,
        **whole,
        "title": "A file of results of fcn_trt",
        "if": bench,
        "then": rows,
        "$defs": dict(sorted(parts.items())),
    }
    return json.dumps(found, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
