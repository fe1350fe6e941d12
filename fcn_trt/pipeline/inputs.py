"""What each step of a recipe depends on, as hashes of content: never times, never paths.

    export   model, weights, size, batch, dynamic, labels; torch and onnx
    type     the network of export; precision; for fp16 the images, the OpenCV that reads or draws
             them and the OpenVINO that runs them; for int8 and fp8 the calibration, how it is used
             and what is left in float
    build    the network of type; target, its library, its GPU, limits

Each also depends on those files of this package that it runs.

A step's key is the SHA-256 of its inputs and of the key of the step before, so that it changes
exactly when the result may.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fcn_trt.engine.manifest import TARGET_MODULES
from fcn_trt.errors import RecipeError
from fcn_trt.files import sha256
from fcn_trt.machine import DISTRIBUTIONS, installed_version, this_machine
from fcn_trt.model.architecture import ARCHITECTURES
from fcn_trt.model.weights import RandomWeights, WeightsFile, published_names, resolve_weights
from fcn_trt.pipeline.code import build_code, export_code, type_code
from fcn_trt.pipeline.recipe import Recipe
from fcn_trt.precision.request import Quantisation
from fcn_trt.version import __version__

__all__ = ["RecipeInputs", "Step", "StepName", "recipe_inputs"]

StepName: TypeAlias = Literal["export", "type", "build"]

_CODE = "fcn_trt's code"
"""What the code of every step is called to people; in inputs "of" and the step follow."""

_OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)

_EXTERNAL = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])", re.DOTALL)
"""StringStringEntryProto of key "location", and the length of its value (onnx.proto3,
TensorProto.external_data): the file that holds a tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a recipe, before it is done.

    Attributes:
        name: Which.
        inputs: What its result depends on, by name, in values that JSON has; no two steps of a
            recipe share a name for different things.
        before: The step whose result it takes.
    """

    name: StepName
    inputs: dict[str, Any]
    before: Step | None

    @property
    def key(self) -> str:
        """SHA-256 of everything that the result depends on."""
        before = self.before.key if self.before else ""
        text = json.dumps([self.name, before, self.inputs], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def all_inputs(self) -> dict[str, Any]:
        """Its inputs and those of the steps before."""
        return (self.before.all_inputs if self.before else {}) | self.inputs

    def changed(self, earlier: dict[str, Any]) -> list[str]:
        """Names of the inputs, those of the steps before included, that were others earlier.

        One that was not there at all came with another that is named, as fp16 brings its images.
        """
        found = [k for k, value in self.all_inputs.items() if earlier.get(k, value) != value]
        return list(dict.fromkeys(_CODE if k.startswith(_CODE) else k for k in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeInputs:
    """The steps of a recipe, and the files that it names.

    Attributes:
        model: As `export_network` takes it.
        weights: As `export_network` takes it.
        source_sha256: Of the checkpoint; "" for random weights and for an .onnx file.
        export: The first step.
        typed: The second.
        build: The third.
    """

    model: str
    weights: str | None
    source_sha256: str
    export: Step
    typed: Step
    build: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where the weights come from; `name` and `content` stand for that in keys."""

    name: str
    model: str
    weights: str | None
    source_sha256: str
    content: str


def recipe_inputs(recipe: Recipe) -> RecipeInputs:
    """Find everything that a recipe depends on; no framework is imported for it.

    Raises:
        RecipeError: its model is unknown, or does not go with its other keys.
        WeightsError: its weights cannot be found, downloaded or trusted.
        SourceError: its images cannot be read.
    """
    source = _source(recipe)
    export = _step("export", _export_inputs(recipe, source), None)
    typed = _step("type", _type_inputs(recipe), export)
    return RecipeInputs(
        model=source.model,
        weights=source.weights,
        source_sha256=source.source_sha256,
        export=export,
        typed=typed,
        build=_step("build", _build_inputs(recipe), typed),
    )


def _step(name: StepName, inputs: dict[str, Any], before: Step | None) -> Step:
    # Through JSON, so that what is compared with a record from disk has lists and no tuples.
    return Step(name=name, inputs=json.loads(json.dumps(inputs)), before=before)


def _source(recipe: Recipe) -> _Source:
    if recipe.model in ARCHITECTURES:
        return _weights_source(recipe)
    if recipe.weights is not None:
        raise RecipeError(
            f"{recipe.path} is not valid at weights: {recipe.model!r} is no architecture and "
            "carries its own; leave the key out"
        )
    if recipe.model in published_names():
        return _checkpoint_source(recipe.model)
    path = recipe.path.parent / recipe.model
    if not path.is_file():
        raise RecipeError(
            f"{recipe.path} is not valid at model: {recipe.model!r} is no architecture, no "
            f"published weights, and {path} is no file; `fcn-trt models` lists both"
        )
    if path.suffix == ".onnx":
        content = _onnx_content(recipe, path)
        return _Source(
            name="ONNX file", model=str(path), weights=None, source_sha256="", content=content
        )
    return _checkpoint_source(str(path))


def _weights_source(recipe: Recipe) -> _Source:
    """An architecture's weights: the best published, those of a name or a seed, or a file."""
    text = recipe.weights
    is_path = text is not None and text not in published_names() and not _is_random(text)
    if text is not None and is_path:
        text = str(recipe.path.parent / text)
    found = resolve_weights(text, recipe.model)
    if isinstance(found, RandomWeights):
        content = f"random {found.seed}"
        return _Source(
            name=recipe.model, model=recipe.model, weights=text, source_sha256="", content=content
        )
    return _Source(
        name=recipe.model,
        model=recipe.model,
        weights=str(found.path),
        source_sha256=found.sha256,
        content=_content(found),
    )


def _is_random(text: str) -> bool:
    return text == "random" or text.startswith("random:")


def _checkpoint_source(model: str) -> _Source:
    """A checkpoint that says what it is, by its path or published name."""
    found = resolve_weights(model, None)
    if isinstance(found, RandomWeights):
        raise RecipeError(f"{model} is no checkpoint")
    return _Source(
        name="checkpoint",
        model=model,
        weights=None,
        source_sha256=found.sha256,
        content=_content(found),
    )


def _content(file: WeightsFile) -> str:
    """A checkpoint in a key; its name too, because the network carries it."""
    return f"{file.path.name} {file.sha256}"


def _onnx_content(recipe: Recipe, path: Path) -> str:
    """An ONNX file in a key, with the files that hold its large tensors."""
    try:
        data = path.read_bytes()
        names = sorted(set(_external_files(data)))
        digests = [sha256(_beside(recipe, path, name)) for name in names]
    except OSError as error:
        raise RecipeError(
            f"{recipe.path} is not valid at model: {error.filename} cannot be read: "
            f"{error.strerror}"
        ) from error
    return " ".join([path.name, hashlib.sha256(data).hexdigest(), *digests])


def _beside(recipe: Recipe, path: Path, name: str) -> Path:
    """A file that an ONNX file names, which must not lead out of its folder, nor to a device."""
    folder = path.parent.resolve()
    try:
        found = (folder / name).resolve()
    except (ValueError, RuntimeError):  # a null byte, or links in a circle
        found = folder
    if folder not in found.parents or (found.exists() and not found.is_file()):
        raise RecipeError(
            f"{recipe.path} is not valid at model: {path} keeps tensors in {name!r}, which is no "
            "file in its own folder; save it again with its tensors inside"
        )
    return found


def _external_files(model: bytes) -> Iterator[str]:
    """Names of the files beside an ONNX file that hold its tensors."""
    for found in _EXTERNAL.finditer(model):
        low, *high = found[1]
        length = low if not high else (low & 0x7F) | high[0] << 7
        yield model[found.end() : found.end() + length].decode(errors="replace")


def _export_inputs(recipe: Recipe, source: _Source) -> dict[str, Any]:
    libraries = ("onnx",) if source.name == "ONNX file" else ("torch", "onnx")
    return {
        "fcn_trt": __version__,
        f"{_CODE} of export": export_code(),
        **{name: installed_version(name) for name in libraries},
        "model": source.name,
        "weights": source.content,
        "labels": recipe.labels,
        "onnx_output": recipe.onnx_output,
        "size": recipe.size,
        "batch": recipe.batch,
        "dynamic": asdict(recipe.dynamic) if recipe.dynamic else None,
    }


def _type_inputs(recipe: Recipe) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "precision": recipe.precision,
        f"{_CODE} of type": type_code(recipe.precision),
    }
    if recipe.quantisation is not None:
        return inputs | _quantisation_inputs(recipe, recipe.quantisation)
    if recipe.precision != "fp16":
        return inputs
    return inputs | {
        "images": _images_content(recipe.images) if recipe.images else "streets",
        "opencv": _version(_OPENCV),
        "openvino": _version(DISTRIBUTIONS["openvino"]),
    }


def _quantisation_inputs(recipe: Recipe, how: Quantisation) -> dict[str, Any]:
    try:
        content = sha256(how.calibration)
    except OSError as error:
        raise RecipeError(
            f"{recipe.path} is not valid at calibration: {how.calibration} cannot be read: "
            f"{error.strerror}; `fcn-trt calibrate` makes one"
        ) from error
    return {
        "calibration": content,
        "method": how.method,
        "keep_float": sorted(how.keep),
        "float_precision": how.float_precision,
    }


def _images_content(folder: Path) -> str:
    # Imported here: it needs OpenCV, which most recipes do without until they build.
    from fcn_trt.calibration.images import RangeImages

    digest = hashlib.sha256()
    for path in RangeImages.few(folder, (1, 1)).paths:
        digest.update(bytes.fromhex(sha256(path)))
    return digest.hexdigest()


def _build_inputs(recipe: Recipe) -> dict[str, Any]:
    library = TARGET_MODULES[recipe.target]
    gpu = this_machine().gpu if recipe.target == "tensorrt" else None
    return {
        "target": recipe.target,
        f"{_CODE} of build": build_code(recipe.target),
        library: _version(DISTRIBUTIONS[library]),
        "GPU": f"{gpu.name} {gpu.compute_capability}" if gpu else None,
        **asdict(recipe.options),
    }


def _version(distributions: Iterable[str]) -> str | None:
    """Version of the first that is installed."""
    return next((v for name in distributions if (v := installed_version(name))), None)
