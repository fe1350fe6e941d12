"""Anything that can be compared, opened as frames to label maps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from fcn_trt.errors import FcnTrtError
from fcn_trt.files import temporary_folder
from fcn_trt.spec import Process, Size, Spec

if TYPE_CHECKING:
    from fcn_trt.model.checkpoint import LoadedModel

__all__ = ["Kind", "Predictor", "kind_of", "open_predictors", "require_same_classes"]

Kind: TypeAlias = Literal["torch", "onnx", "bundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A checkpoint, an ONNX file or a bundle, ready to run.

    Attributes:
        name: As the user gave it.
        kind: A checkpoint or a model's name, an ONNX file, or a bundle.
        description: What runs where and in which precision, for people.
        spec: What the network is.
        process: Segments frames.
    """

    name: str
    kind: Kind
    description: str
    spec: Spec
    process: Process


def kind_of(name: str) -> Kind:
    """What a name stands for: a folder is a bundle, an .onnx is one, the rest is a model."""
    if Path(name).is_dir():
        return "bundle"
    return "onnx" if name.lower().endswith(".onnx") else "torch"


@contextmanager
def open_predictors(
    first: str, second: str, *, size: Size | None = None, weights: str | None = None
) -> Iterator[tuple[Predictor, Predictor]]:
    """Open both predictors of a comparison.

    An ONNX file is built for OpenVINO in a temporary folder and runs as bundles do. A checkpoint
    runs in PyTorch, prepared as it was trained, at the input size of the other predictor.

    Args:
        first: A bundle's folder, an ONNX file that carries a spec, or what `load_model` takes.
        second: The same.
        size: Input size of checkpoints, as (height, width) in pixels; None takes that of the other
            predictor. ONNX files and bundles have their own.
        weights: As for `load_model`, of a predictor that is the name of an architecture.

    Raises:
        ValueError: both are checkpoints and there is no size, or one is unknown.
        FcnTrtError: a predictor cannot be opened, or the two have other classes.
    """
    names = (first, second)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        # Engines first, because a checkpoint takes its size from one.
        opened: dict[int, Predictor] = {}
        for index, name in enumerate(names):
            if kind_of(name) != "torch":
                opened[index] = _open_engine(stack, name, folder / f"network_{index}")
        for index, name in enumerate(names):
            if index not in opened:
                other = opened.get(1 - index)
                wanted = size or (other.spec.input_size if other else None)
                opened[index] = _open_torch(name, wanted, weights)
        require_same_classes(opened[0], opened[1])
        yield opened[0], opened[1]


def require_same_classes(first: Predictor, second: Predictor) -> None:
    """Refuse two predictors whose label maps do not mean the same.

    Raises:
        FcnTrtError: the names of their classes or the order differ.
    """
    here, there = first.spec.classes, second.spec.classes
    if here == there:
        return
    if len(here) != len(there):
        difference = f"the first has {len(here)} classes and the second {len(there)}"
    else:
        where = next(i for i, (a, b) in enumerate(zip(here, there, strict=True)) if a != b)
        difference = f"class {where} is {here[where]!r} in the first and {there[where]!r} in the"
        difference += " second"
    raise FcnTrtError(
        f"{first.name} and {second.name} cannot be compared: {difference}; both need the same "
        "names in the same order, which --labels of `fcn-trt export` gives"
    )


def _open_engine(stack: ExitStack, name: str, folder: Path) -> Predictor:
    """A bundle, or an ONNX file that becomes one."""
    from fcn_trt.network.file import Network
    from fcn_trt.pipeline.plan import Checking, Compile, Plan
    from fcn_trt.pipeline.run import run
    from fcn_trt.runtime.segmenter import Segmenter

    kind = kind_of(name)
    if kind == "onnx":
        step = Compile(target="openvino", checking=Checking(is_on=False))  # that is what follows
        run(Plan(source=Network.read(Path(name)), compile=step), folder)
    segmenter = stack.enter_context(Segmenter.load(folder if kind == "onnx" else name))
    return Predictor(
        name=name,
        kind=kind,
        description=segmenter.description,
        spec=segmenter.spec,
        process=segmenter.stream,
    )


def _open_torch(name: str, size: Size | None, weights: str | None) -> Predictor:
    """A checkpoint or a model, in PyTorch."""
    from fcn_trt.model.load import load_model
    from fcn_trt.model.torch_process import torch_process
    from fcn_trt.model.weights import find_model
    from fcn_trt.network.to_onnx import model_spec

    if len(Path(name).parts) > 1 and not Path(name).exists():  # so it is no model's name
        raise FcnTrtError(f"{name} is neither a bundle's folder nor a file; nothing is there")
    model: LoadedModel = load_model(find_model(name, weights))
    if size is None:
        raise ValueError("two checkpoints have no input size; give one, such as --size 512x1024")
    spec = model_spec(model, size=size, batch=1)
    return Predictor(
        name=name,
        kind="torch",
        description=f"PyTorch on {os.cpu_count()} CPU cores, float32",
        spec=spec,
        process=torch_process(model, size),
    )
