"""engines/*.toml: what to build a bundle from, for which device, and within which limits.

A recipe is read strictly: an unknown key, a value of another type and a combination that cannot be
built are each refused with the key and what it allows. Paths in it are relative to its folder.

It may begin with a checkpoint, with an FP32 ONNX or with a typed one, and it may end after any
step: without `target` with a typed ONNX, without `precision` besides with an FP32 ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path

from fcn_trt.engine.options import BuildOptions
from fcn_trt.errors import OnnxError, PlanError, RecipeError
from fcn_trt.input_format import InputFormat
from fcn_trt.labels import LabelSet, find_label_set, named_label_set
from fcn_trt.model.architecture import ARCHITECTURES
from fcn_trt.model.weights import NO_TRUST, Trust, published_names
from fcn_trt.network.file import Network
from fcn_trt.pipeline.plan import Checking, Compile, Export, Plan, StepName, Type
from fcn_trt.pipeline.recipe_file import (
    DeviceTable,
    DynamicTable,
    RecipeTable,
    invalid,
    missing,
    read_table,
)
from fcn_trt.pipeline.run import SILENT, Made, Watcher, run
from fcn_trt.pipeline.store import Store

__all__ = ["Recipe", "build_recipe", "is_recipe", "read_recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One bundle to build, or one ONNX file to write.

    Attributes:
        path: The recipe's own file.
        export: Its first step; None where the size is left to the .onnx file that it begins with.
        type: Its second step, if it names a precision.
        compile: Its third step, if it names a target.
        model: Path of the .onnx file that it begins with; None where it begins with a checkpoint.
        device: What it is for, in words.
        output: Folder of the bundle, or file of the network.
    """

    path: Path
    export: Export | None
    type: Type | None
    compile: Compile | None
    model: Path | None
    device: str
    output: Path

    def plan(self, network: Path | None = None) -> Plan:
        """What it says, beginning where its model or a network given instead of it does.

        Args:
            network: An ONNX file of this package, such as a typed one from another machine, to
                begin with; None takes the recipe's own model.

        Raises:
            RecipeError: the network is not what the recipe makes, or steps do not go together.
            OnnxError: it cannot be read.
        """
        begin = self._own(self.model) if network is None else Network.read(network)
        with _in_words_of(self.path):
            if begin is None:
                if self.export is None:
                    raise PlanError("size", f"{self.model} is to be imported and needs one")
                return Plan(export=self.export, type=self.type, compile=self.compile)
            again = self._export_again(begin) if network is None else None
            if again is not None:
                return Plan(export=again, type=self.type, compile=self.compile)
            self._check(begin)
            is_typed = self.type is None or self.type.precision == begin.spec.precision
            step = None if is_typed else self.type
            return Plan(source=begin, type=step, compile=self.compile)

    def trusting(self, trust: Trust) -> Recipe:
        """The same with what the user vouches for of its checkpoint.

        Raises:
            PlanError: it begins with no checkpoint, or names another hash.
        """
        if trust == NO_TRUST:
            return self
        if self.export is None or self.model is not None:
            raise PlanError(trust.field, "it is about a checkpoint, and not an .onnx file")
        own = self.export.trust.sha256
        if None not in (own, trust.sha256) and own != trust.sha256:
            raise PlanError("weights_sha256", f"it says {own}, and {trust.sha256} was asked for")
        both = Trust(is_given=trust.is_given, sha256=trust.sha256 or own)
        return replace(self, export=replace(self.export, trust=both))

    @staticmethod
    def _own(model: Path | None) -> Network | None:
        """The model, if it is an ONNX file as this package wrote it."""
        try:
            found = None if model is None else Network.read(model)
        except OnnxError:
            return None  # a foreign one, which is imported, or none, as the import will say
        return found if found is not None and found.is_whole else None

    def _export_again(self, begin: Network) -> Export | None:
        """The export of an FP32 network to another shape; None where it has the recipe's."""
        spec, step = begin.spec, self.export
        if step is None or spec.precision != "fp32":
            return None
        here = (spec.input_size, spec.batch, spec.dynamic)
        shape = (step.size, step.batch, step.dynamic)
        kept = ("model", "size", "batch", "min_size", "max_size", "min_batch", "max_batch")
        plain = Export(**{name: getattr(step, name) for name in kept}, checking=step.checking)
        return None if here == shape and step == plain else step

    def _check(self, begin: Network) -> None:
        """Refuse to begin with a network that is not what the recipe makes."""
        spec, step = begin.spec, self.export
        if self.type is not None and spec.precision not in ("fp32", self.type.precision):
            raise PlanError(
                "precision",
                f"{begin} is {spec.precision} already; name that, or begin with the FP32 ONNX",
            )
        if step is None:
            return
        named = step.model in ARCHITECTURES
        for field, theirs, ours in (
            ("model", spec.model, step.model if named else spec.model),
            ("size", spec.input_size, step.size),
            ("batch", spec.batch, step.batch),
            ("dynamic", spec.dynamic, step.dynamic),
        ):
            if theirs != ours:
                raise PlanError(field, f"it says {_text(ours)}, but {begin} has {_text(theirs)}")
        if step.weights in published_names() and spec.weights != step.weights:
            raise PlanError("weights", f"it says {step.weights}, but {begin} has {spec.weights}")


def _text(value: object) -> str:
    """A size as people write it, and anything else as it is."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def build_recipe(
    recipe: Recipe,
    *,
    network: Path | None = None,
    stop: StepName | None = None,
    out: Path | None = None,
    trust: Trust = NO_TRUST,
    store: Store | None = None,
    watcher: Watcher = SILENT,
) -> Made:
    """Do what a recipe says, as far as it was not done before.

    Args:
        recipe: From `read_recipe`.
        network: An ONNX file to begin with instead of the recipe's model.
        stop: The last step to do; None does all.
        out: What to write instead of the recipe's own output.
        trust: What the user vouches for of its checkpoint, besides what it says itself.
        store: Where networks in between are kept; None takes the user's cache.

    Raises:
        RecipeError: its model is unknown, or does not go with its other keys.
        MissingExtraError, WeightsError, CheckpointError, OnnxError, SourceError, EngineError,
            BundleError, OutputError, ValueError: as the steps say.
    """
    with _in_words_of(recipe.path):
        plan = recipe.trusting(trust).plan(network)
        if stop is not None:
            plan = replace(
                plan,
                compile=None if stop in ("export", "type") else plan.compile,
                type=None if stop == "export" else plan.type,
            )
        return run(
            plan,
            out or recipe.output,
            store=store or Store.of_user(),
            watcher=watcher,
            name=f"the network of {recipe.path}",
        )


def is_recipe(path: str | PathLike[str]) -> bool:
    """Whether a name is that of a recipe's file."""
    return Path(path).suffix.lower() == ".toml"


def read_recipe(path: Path) -> Recipe:
    """Read a recipe and check all that can be checked without its model.

    Raises:
        RecipeError: it cannot be read, or a key of it is unknown, missing or not valid.
    """
    table = read_table(path)
    is_onnx = Path(table.model).suffix == ".onnx"
    _check_ends(path, table, is_onnx=is_onnx)
    with _in_words_of(path):
        compiled = None
        if table.target is not None:
            compiled = Compile(
                target=table.target,
                options=_options(path, table.device),
                checking=_checking(table),
            )
            if table.precision is not None:
                compiled.require_type(table.precision)
        typed = None if table.precision is None else _type(path, table)
        exported = None if table.size is None else _export(path, table)
    suffix = "" if compiled else ".onnx"
    return Recipe(
        path=path,
        export=exported,
        type=typed,
        compile=compiled,
        model=path.parent / table.model if is_onnx else None,
        device=table.device.name,
        output=path.parent / (table.output or f"{path.stem}{suffix}"),
    )


def _check_ends(path: Path, table: RecipeTable, *, is_onnx: bool) -> None:
    """Refuse a recipe whose beginning and end leave something open."""
    if not is_onnx and table.size is None:
        raise missing(path, "size")
    if not is_onnx and table.target is not None and table.precision is None:
        raise missing(path, "precision")
    if is_onnx and table.weights_sha256 is not None:
        raise invalid(path, "weights_sha256", "it is about a checkpoint, and not an .onnx file")
    if table.target is None and table.device != DeviceTable(name=table.device.name):
        raise invalid(path, "device", "its limits are those of a target; name one")
    if table.output is not None and (table.output.endswith(".onnx") != (table.target is None)):
        ends = "a bundle, which is a folder" if table.target else "an ONNX file"
        raise invalid(path, "output", f"{table.output!r} does not fit {ends}")


def _export(path: Path, table: RecipeTable) -> Export:
    if table.size is None:
        raise missing(path, "size")
    return Export(
        model=_path(path, table.model, lambda text: text in ARCHITECTURES),
        size=table.size,
        weights=table.weights and _path(path, table.weights, _is_random),
        trust=Trust(sha256=table.weights_sha256),
        batch=table.batch,
        labels=_labels(path, table),
        input=_input(path, table),
        threshold=table.threshold,
        average=table.ema,
        ignore=table.ignore,
        images=str(path.parent / table.images) if table.images and table.check else None,
        # What a quantised network may lose says nothing of the FP32 that it is made of.
        checking=_checking(table)
        if table.precision in (None, "fp32")
        else Checking(is_on=table.check),
        output=table.onnx_output,
        **{f.name: getattr(table.dynamic, f.name, None) for f in fields(DynamicTable)},
    )


def _labels(path: Path, table: RecipeTable) -> LabelSet | None:
    if table.labels is None:
        return None
    try:
        if isinstance(table.labels, str):
            return find_label_set(table.labels, path.parent)
        colours = [colour or None for colour in table.labels.values()]
        return named_label_set(list(table.labels), colours)
    except ValueError as error:
        raise invalid(path, "labels", str(error)) from error


def _input(path: Path, table: RecipeTable) -> InputFormat:
    try:
        return InputFormat(
            mean=table.mean, std=table.std, scale=table.scale, colour=table.input_colour
        )
    except ValueError as error:
        raise invalid(path, "mean", str(error)) from error


def _path(recipe: Path, text: str, is_name: Callable[[str], bool]) -> str:
    """A name as it is, and anything else as a path from the recipe's folder."""
    if is_name(text) or text in published_names():
        return text
    return str(recipe.parent / text)


def _is_random(text: str) -> bool:
    return text == "random" or text.startswith("random:")


def _checking(table: RecipeTable) -> Checking:
    return Checking(is_on=table.check, accept=table.accept)


def _type(path: Path, table: RecipeTable) -> Type:
    if table.precision is None:
        raise missing(path, "precision")
    return Type(
        precision=table.precision,
        images=path.parent / table.images if table.images and table.precision == "fp16" else None,
        calibration=path.parent / table.calibration if table.calibration else None,
        method=table.method,
        keep_float=frozenset(table.keep_float or ()),
        checking=_checking(table),
    )


_OPTIONS = {
    "compute_capability": "compute_capabilities",
    "workspace": "workspace_bytes",
    "tactic_memory": "tactic_bytes",
}
"""What keys of [device] are called in `BuildOptions`, where that is something else."""

_KEYS = {
    "options": "device",
    "compute_capabilities": "device.compute_capability",
    "output": "onnx_output",
    "average": "ema",
    **{name: f"dynamic.{name}" for name in ("min_size", "max_size", "min_batch", "max_batch")},
}
"""The keys of a plan's fields, where they are called something else."""


def _options(path: Path, device: DeviceTable) -> BuildOptions:
    given = {
        _OPTIONS.get(f.name, f.name): value
        for f in fields(DeviceTable)
        if f.name != "name" and (value := getattr(device, f.name)) is not None
    }
    try:
        return BuildOptions(**given)
    except ValueError as error:
        raise RecipeError(f"{path} is not valid in [device]: {error}") from error


@contextmanager
def _in_words_of(path: Path) -> Iterator[None]:
    """Say what does not go together in a plan with the recipe's keys."""
    try:
        yield
    except PlanError as error:
        raise invalid(path, _KEYS.get(error.field, error.field), error.reason) from error
