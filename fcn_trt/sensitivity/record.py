"""What was measured so far, in a file that is written after each network, to go on from later.

A measurement is used again only if everything that it follows from is the same: network, ranges,
images, labels, options, this package's code, OpenVINO and the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fcn_trt.errors import OutputError
from fcn_trt.files import write_atomic
from fcn_trt.foreign import parse_json, read_limited
from fcn_trt.sensitivity.result import Score
from fcn_trt.type_adapter import type_adapter

__all__ = ["FORMAT", "Record"]

FORMAT = 1

MAX_BYTES = 64 << 20
"""Of measurements; one of them has a line for each layer."""


class Record:
    """Scores by the set of convolutions that were kept in float.

    Args:
        key: Hash of everything that the scores follow from.
        layers: Names of all convolutions.
        path: The file; what it holds of the same key is read. None keeps nothing.

    Raises:
        OutputError: the file is no record, and would be lost.
    """

    def __init__(self, key: str, layers: Iterable[str], path: Path | None) -> None:
        self.key = key
        self.path = path
        self._layers = tuple(layers)
        self._scores = self._load()
        self.resumed = len(self._scores)

    def __contains__(self, keep: frozenset[str]) -> bool:
        return keep in self._scores

    def __getitem__(self, keep: frozenset[str]) -> Score:
        return self._scores[keep]

    def add(self, keep: frozenset[str], score: Score) -> None:
        """Note a measurement, on disk too.

        Raises:
            OutputError: the file cannot be written.
        """
        self._scores[keep] = score
        self.write(None)

    def write(self, result: dict[str, Any] | None) -> None:
        """Write the file.

        Args:
            result: What follows from all measurements, in what JSON has; None as long as some are
                missing.

        Raises:
            OutputError: it cannot be written.
        """
        if self.path is None:
            return
        content = {
            "format": FORMAT,
            "key": self.key,
            "result": result,
            "measurements": [
                {**self._named(keep), "agreement": score.agreement, "miou": score.miou}
                for keep, score in self._scores.items()
            ],
        }
        write_atomic(self.path, (json.dumps(content, indent=1) + "\n").encode(), durable=False)

    def _named(self, keep: frozenset[str]) -> dict[str, list[str]]:
        """A set by its members, or by those that are missing, where they are fewer."""
        kept = [name for name in self._layers if name in keep]
        quantised = [name for name in self._layers if name not in keep]
        return {"kept": kept} if len(kept) <= len(quantised) else {"quantised": quantised}

    def _load(self) -> dict[frozenset[str], Score]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            content = parse_json(read_limited(self.path, MAX_BYTES), most_values=MAX_BYTES)
            if content["format"] != FORMAT or content["key"] != self.key:
                return {}
            read = type_adapter(Score).validate_python
            return {
                self._kept(found): read({name: found[name] for name in ("agreement", "miou")})
                for found in content["measurements"]
            }
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise OutputError(
                f"{self.path} is there already and is no result of `fcn-trt sensitivity`; choose "
                "another name, or remove it"
            ) from error

    def _kept(self, found: dict[str, Any]) -> frozenset[str]:
        if "kept" in found:
            return frozenset(map(str, found["kept"]))
        return frozenset(self._layers) - frozenset(map(str, found["quantised"]))
