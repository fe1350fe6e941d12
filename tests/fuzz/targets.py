"""What is fuzzed: the readers of files that others made, each as a function of a file's bytes.

A function returns where the file is accepted and raises what its reader documents where it is not.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

from fcn_trt.errors import (
    BundleError,
    CalibrationError,
    CheckpointError,
    OnnxError,
    RecipeError,
    ResultFileError,
    SourceError,
)
from tests.fuzz.json_mutator import mutate_json, mutate_safetensors, sealed
from tests.fuzz.mutation import Mutate
from tests.fuzz.onnx_mutator import mutate_onnx
from tests.fuzz.pickle_mutator import mutate_checkpoint
from tests.fuzz.text_mutator import mutate_png, mutate_text

__all__ = ["TARGETS", "Target"]

Errors: TypeAlias = tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A reader.

    Attributes:
        read: Takes the bytes of a file.
        errors: What it documents; subclasses are not meant, but for those of `FcnTrtError`.
        modules: Of the package or beside it, in pure Python, whose coverage guides the fuzzer.
        mutate: Changes a file so that it still gets past the first check.
    """

    read: Callable[[bytes], object]
    errors: Errors
    modules: tuple[str, ...]
    mutate: Mutate


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """For one file at a time; in memory where that is possible, and gone with the process."""
    memory = Path("/dev/shm")  # noqa: S108  # a folder of its own in it
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None)


def _written(data: bytes, name: str) -> Path:
    path = Path(_folder().name) / name
    path.write_bytes(data)
    return path


def _checkpoint(data: bytes, *, name: str = "file.pth") -> None:
    from fcn_trt.model.checkpoint import load_checkpoint
    from fcn_trt.model.weights import WeightsFile

    digest = hashlib.sha256(data).hexdigest()
    load_checkpoint(WeightsFile(path=_written(data, name), sha256=digest, published=None))


def _onnx(data: bytes) -> None:
    from fcn_trt.network.import_onnx import import_onnx

    import_onnx(_written(data, "file.onnx"), size=(32, 32))


def _network(data: bytes) -> None:
    from fcn_trt.network.contract import load_network
    from fcn_trt.network.file import Network

    network = Network.read(_written(data, "file.onnx"))
    network.reference()
    load_network(network.path)


def _manifest(data: bytes) -> None:
    from fcn_trt.engine.manifest import MANIFEST_NAME, read_manifest

    read_manifest(_written(data, MANIFEST_NAME).parent)


def _recipe(data: bytes) -> None:
    from fcn_trt.pipeline.recipe import read_recipe

    read_recipe(_written(data, "file.toml"))


def _calibration(data: bytes) -> None:
    from fcn_trt.calibration.cache import read_calibration

    read_calibration(_written(data, "file.json"))


def _table(data: bytes) -> None:
    from fcn_trt.calibration.table import read_table

    read_table(_written(data, "file.cache"))


def _labels(data: bytes) -> None:
    from fcn_trt.labels import read_label_file

    read_label_file(_written(data, "file.txt"))


def _image(data: bytes) -> None:
    from fcn_trt.images import read_image

    read_image(_written(data, "file.png"))


def _result(data: bytes) -> None:
    from fcn_trt.bench.result_file import read_result

    read_result(_written(data, "file.json"))


_MODEL = ("fcn_trt.model", "fcn_trt.labels", "fcn_trt.input_format", "fcn_trt.foreign")
_NETWORK = ("fcn_trt.network", "fcn_trt.spec", "fcn_trt.labels", "fcn_trt.foreign")

TARGETS: dict[str, Target] = {
    "checkpoint": Target(
        read=_checkpoint,
        errors=(CheckpointError,),
        modules=_MODEL,
        mutate=mutate_checkpoint,
    ),
    "safetensors": Target(
        read=partial(_checkpoint, name="file.safetensors"),
        errors=(CheckpointError,),
        modules=_MODEL,
        mutate=mutate_safetensors,
    ),
    "onnx": Target(read=_onnx, errors=(OnnxError,), modules=_NETWORK, mutate=mutate_onnx),
    "network": Target(read=_network, errors=(OnnxError,), modules=_NETWORK, mutate=mutate_onnx),
    "manifest": Target(
        read=_manifest,
        errors=(BundleError,),
        modules=("fcn_trt.engine.manifest", "fcn_trt.engine.options", "fcn_trt.spec"),
        mutate=partial(mutate_json, finish=partial(sealed, sort_keys=True)),
    ),
    "recipe": Target(
        read=_recipe,
        errors=(RecipeError,),
        modules=("fcn_trt.pipeline", "fcn_trt.engine.options", "fcn_trt.labels", "tomllib"),
        mutate=mutate_text,
    ),
    "calibration": Target(
        read=_calibration,
        errors=(CalibrationError,),
        modules=("fcn_trt.calibration",),
        mutate=partial(mutate_json, finish=partial(sealed, sort_keys=False)),
    ),
    "table": Target(
        read=_table,
        errors=(CalibrationError,),
        modules=("fcn_trt.calibration",),
        mutate=mutate_text,
    ),
    "labels": Target(
        read=_labels, errors=(ValueError,), modules=("fcn_trt.labels",), mutate=mutate_text
    ),
    "image": Target(
        read=_image, errors=(SourceError,), modules=("fcn_trt.images",), mutate=mutate_png
    ),
    "result": Target(
        read=_result, errors=(ResultFileError,), modules=("fcn_trt.bench",), mutate=mutate_json
    ),
}
