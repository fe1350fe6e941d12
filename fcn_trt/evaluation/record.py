"""The result of an evaluation, in a file that is written as it grows, to go on from later.

What was measured is used again only if everything that it follows from is the same: engine,
protocol, images, this package's code, the libraries and the processor.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import platform
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL

from fcn_trt.code import code_sha256
from fcn_trt.engine.bundle import NETWORK_NAME, PLAN_NAME
from fcn_trt.engine.manifest import Manifest
from fcn_trt.errors import OutputError
from fcn_trt.evaluation.protocol import Protocol
from fcn_trt.evaluation.sample import IndexedImages
from fcn_trt.evaluation.scores import Scores
from fcn_trt.files import combined_sha256, require_folder_of, write_atomic
from fcn_trt.foreign import parse_json, read_limited
from fcn_trt.spec import LabelMap
from fcn_trt.version import __version__

__all__ = ["FORMAT", "Record", "about", "check_record", "key_of", "require_writable"]

FORMAT = 1

MAX_BYTES = 64 << 20
"""Of a result; one of 256 classes has 2 MB."""

SAVE_S = 0.5
"""Seconds between two writes at least; what is lost if the process is killed."""

_CODE = ("fcn_trt.evaluation.measure", "fcn_trt.runtime.segmenter")
"""What a measurement runs."""

_DRAWING_CODE = "fcn_trt.evaluation.scenes"
"""What draws the images of `scene`."""

_ANOTHER = {
    "engine": "another engine",
    "protocol": "another protocol",
    "dataset": "other images",
    "machine": "another machine, or another version of what runs the engine",
    "libraries": "other versions of the libraries",
    "code": "other code of this package",
}
"""What a measurement follows from, by what is said of a result where that differs."""


def about(
    manifest: Manifest,
    protocol: Protocol,
    dataset: IndexedImages,
    *,
    indices: tuple[int, ...],
    ran_on: str,
) -> dict[str, Any]:
    """Describe what a result is of, as JSON values.

    Args:
        indices: Which of them are measured.
        ran_on: The engine's library, its version, the processor and the precision.

    Raises:
        DatasetError: a file of the data set is gone.
    """
    spec = manifest.spec
    engine = PLAN_NAME if PLAN_NAME in manifest.files else NETWORK_NAME
    return {
        "model": {
            "name": spec.model,
            "family": spec.family,
            "weights": spec.weights,
            "weights_sha256": spec.source_sha256,
            "precision": spec.precision,
            "float_precision": spec.float_precision,
            "calibration_sha256": spec.calibration_sha256,
            "input_size": list(spec.input_size),
            "batch": spec.batch,
        },
        "engine": {
            "target": manifest.target,
            "target_version": manifest.target_version,
            "file": engine,
            "sha256": manifest.files[engine].sha256,
            "ran_on": ran_on,
        },
        "protocol": json.loads(json.dumps(protocol.to_dict())),
        "dataset": {
            "name": dataset.name,
            "split": dataset.split,
            "images": len(indices),
            "of": len(dataset),
            "files_sha256": combined_sha256(dataset.key_parts(indices)),
        },
        "versions": {
            "fcn_trt": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "pillow": PIL.__version__,
        },
    }


def key_of(facts: dict[str, Any]) -> dict[str, str]:
    """Hash all the facts of `about` that a measurement follows from, by kind."""
    engine = dict(facts["engine"])
    machine = engine.pop("ran_on")
    kinds = {
        "engine": [facts["model"], engine],
        "protocol": facts["protocol"],
        "dataset": facts["dataset"],
        "machine": machine,
        "libraries": facts["versions"],
    }
    key = {kind: combined_sha256([json.dumps(value)]) for kind, value in kinds.items()}
    drawing = [_DRAWING_CODE] if facts["dataset"]["name"] == "scene" else []
    return {**key, "code": code_sha256(*_CODE, *drawing)}


def check_record(path: Path) -> None:
    """Refuse before long work a file that could not be written after it, or would be lost.

    Raises:
        OutputError: its folder is missing, or the file is there and no result of an evaluation.
    """
    require_writable(path)
    _read(path)


class Record:
    """A record of what was measured so far.

    `resumed` is how many images the file had, and `was_finished` whether these are all.

    Args:
        key: From `key_of`.
        facts: From `about`.
        classes: Their names, in index order.
        path: The file; what it holds of the same key is read. None keeps nothing.

    Raises:
        OutputError: the file is no such record or one of another key, and would be lost.
    """

    def __init__(
        self,
        key: dict[str, str],
        facts: dict[str, Any],
        classes: tuple[str, ...],
        path: Path | None,
    ) -> None:
        self.key = key
        self.scores = Scores(classes)
        self._facts = facts
        self._path = path
        self._before_s = 0.0
        self._ended = ""
        self._resume()
        self.resumed = self.scores.images
        self.was_finished = bool(self._ended)
        self._started = self._written = time.perf_counter()

    def add(self, label_map: LabelMap, truth: LabelMap) -> None:
        """Note one image, after a while on disk too.

        Raises:
            OutputError: the file cannot be written.
        """
        self.scores.update(label_map, truth)
        if time.perf_counter() - self._written > SAVE_S:
            self._write()

    def finish(self) -> None:
        """Write down that nothing is missing.

        Raises:
            OutputError: the file cannot be written.
        """
        if not self._ended:
            self._ended = _now()
            self._before_s += time.perf_counter() - self._started
            self._write()

    def content(self) -> dict[str, Any]:
        """Return the result so far as JSON values; null is what could not be measured."""
        elapsed_s = self._before_s + (0 if self._ended else time.perf_counter() - self._started)
        return {
            "format": FORMAT,
            "key": self.key,
            "finished": bool(self._ended),
            "measured": self._ended or _now(),
            "elapsed_s": round(elapsed_s, 3),
            **self._facts,
            **_without_nan(asdict(self.scores.evaluation())),
            "scores": self.scores.to_json(),
        }

    def _write(self) -> None:
        if self._path is not None:
            pairs = (
                f" {json.dumps(name)}: {json.dumps(value, allow_nan=False)}"
                for name, value in self.content().items()
            )
            text = "{\n" + ",\n".join(pairs) + "\n}\n"  # one line each, matrices too
            write_atomic(self._path, text.encode(), durable=bool(self._ended))
        self._written = time.perf_counter()

    def _resume(self) -> None:
        """Take over what the file has."""
        found = None if self._path is None else _read(self._path)
        if found is None or self._path is None:
            return
        if found["key"] != self.key:
            raise OutputError(
                f"{self._path} is there already and has a result of "
                f"{_difference(found['key'], self.key)}; choose another name, or remove it"
            )
        try:
            self.scores = Scores.from_json(self.scores.classes, found["scores"])
            self._before_s = float(found["elapsed_s"])
            self._ended = str(found["measured"]) if found["finished"] is True else ""
        except (KeyError, TypeError, ValueError) as error:
            raise _foreign(self._path) from error


def _difference(key: Any, wanted: dict[str, str]) -> str:
    """Say in words what differs in what a result is of."""
    have = key if isinstance(key, dict) else {}
    words = [word for kind, word in _ANOTHER.items() if have.get(kind) != wanted[kind]]
    return f"{', '.join(words[:-1])} and {words[-1]}" if words[1:] else "".join(words)


def _read(path: Path) -> dict[str, Any] | None:
    """Read the file's content; None where there is none yet."""
    if not path.exists():
        return None
    try:
        found = parse_json(read_limited(path, MAX_BYTES), most_values=MAX_BYTES)
    except (OSError, ValueError) as error:
        raise _foreign(path) from error
    if not isinstance(found, dict) or not {"format", "key", "scores"} <= found.keys():
        raise _foreign(path)
    return found


def _now() -> str:
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")


def _foreign(path: Path) -> OutputError:
    return OutputError(
        f"{path} is there already and is no result of `fcn-trt eval`; choose another name, or "
        "remove it"
    )


def _without_nan(value: Any) -> Any:
    """Replace NaN by null, as JSON has none: it could not be measured."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def require_writable(path: Path) -> None:
    """Refuse before long work what could not be written after it.

    Raises:
        OutputError: the folder is missing or cannot be written in, or `path` is a folder or a
            device.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is no regular file, and would be replaced; choose another name")
    require_folder_of(path)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}; choose another place"
        ) from error
