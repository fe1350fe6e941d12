"""A recipe to its bundle, step by step, each only if something that it depends on has changed.

    export   model and weights -> FP32 ONNX   kept in the user's cache
    type     FP32 ONNX -> typed ONNX          kept in the user's cache
    build    typed ONNX -> bundle             at the recipe's output

The bundle remembers the key of its build. While that is the key of the recipe and the bundle's
files are those that were built, nothing is done and no framework is imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_trt.engine.bundle import Bundle, load_bundle, refuse_foreign_files
from fcn_trt.engine.manifest import MANIFEST_NAME, read_manifest
from fcn_trt.errors import BundleError, EngineError, OnnxError, WeightsError
from fcn_trt.pipeline.inputs import RecipeInputs, Step, StepName, recipe_inputs
from fcn_trt.pipeline.store import NetworkCache
from fcn_trt.spec import Precision, Spec, read_spec

if TYPE_CHECKING:
    from fcn_trt.engine.tensorrt.progress import OnPhase
    from fcn_trt.pipeline.recipe import Recipe

__all__ = ["RecipeBuild", "StepReport", "Watcher", "build_recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What became of a step.

    Attributes:
        name: Which.
        made: Whether it was done; otherwise an earlier result was taken.
        reason: Why it was done, such as "size changed"; "" if it was not.
        duration_s: How long it took, in seconds.
        kept: Nodes that type gave another type than the recipe's, now or earlier, and that type.
        otherwise: Type of what is not quantised.
    """

    name: StepName
    made: bool
    reason: str = ""
    duration_s: float = 0.0
    kept: dict[str, Precision] = field(default_factory=dict)
    otherwise: str = ""

    def describe(self) -> str:
        """In words, such as "build: made in 1.2 s (size changed)"."""
        if not self.made:
            return f"{self.name}: reused"
        return f"{self.name}: made in {self.duration_s:.1f} s ({self.reason})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeBuild:
    """What became of a recipe.

    Attributes:
        bundle: Its bundle, whose files were checked.
        steps: export, type and build.
    """

    bundle: Bundle
    steps: tuple[StepReport, ...]

    @property
    def is_reused(self) -> bool:
        """Whether nothing had to be done."""
        return not any(step.made for step in self.steps)

    def describe(self) -> str:
        """One sentence."""
        if self.is_reused:
            return (
                f"nothing to do: {self.bundle.path} is up to date, its export, type and build "
                "depend on nothing that changed"
            )
        made = ", ".join(step.name for step in self.steps if step.made)
        reused = ", ".join(step.name for step in self.steps if not step.made)
        return f"{self.bundle.path} is built: made {made}{f'; reused {reused}' if reused else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """What is called while a recipe is built.

    Attributes:
        on_begin: As a step begins that has to be done, with its name and the reason.
        on_step: After each step, done or reused, in order.
        on_image: After each image on which fp16 is checked, with how many of how many that was.
        on_phase: As a TensorRT builder moves on.
    """

    on_begin: Callable[[StepName, str], None] = lambda _name, _reason: None
    on_step: Callable[[StepReport], None] = lambda _: None
    on_image: Callable[[int, int], None] = lambda _done, _total: None
    on_phase: OnPhase = lambda _: None


def build_recipe(recipe: Recipe, watcher: Watcher | None = None) -> RecipeBuild:
    """Do what a recipe says, as far as it was not done before.

    A process that is stopped or killed leaves no network and no bundle under a final name that is
    not whole.

    Args:
        recipe: From `read_recipe`.
        watcher: Told what is going on; None tells nobody.

    Raises:
        RecipeError: its model is unknown, or does not go with its other keys.
        MissingExtraError, WeightsError, CheckpointError, OnnxError, SourceError, EngineError,
            BundleError, OutputError, ValueError: as the steps say.
    """
    is_built = (recipe.output / MANIFEST_NAME).exists()
    if not is_built:
        _require_buildable(recipe)  # before weights are downloaded to find its inputs
    inputs = recipe_inputs(recipe)
    cache = NetworkCache.of_user()
    watcher = watcher or Watcher()
    found = _look_at_output(recipe.output, inputs.build, cache)
    if found.bundle is not None:
        return _reused(found.bundle, watcher)
    if is_built:
        _require_buildable(recipe)
    cache.make_folder()
    return _Work(recipe=recipe, inputs=inputs, cache=cache, watcher=watcher, found=found).run()


def _reused(bundle: Bundle, watcher: Watcher) -> RecipeBuild:
    """Report that nothing had to be done."""
    steps = tuple(
        StepReport(name=n, made=False, **_kept(bundle.manifest.spec) if n == "type" else {})
        for n in _NAMES
    )
    for step in steps:
        watcher.on_step(step)
    return RecipeBuild(bundle=bundle, steps=steps)


def _kept(spec: Spec) -> dict[str, Any]:
    """What a report of type says of the network that it made."""
    return {"kept": spec.exceptions, "otherwise": spec.float_precision or spec.precision}


def _require_buildable(recipe: Recipe) -> None:
    """Refuse before long work what cannot be built here after it."""
    from fcn_trt.engine.build import require_buildable

    refuse_foreign_files(recipe.output)
    try:
        require_buildable(recipe.target, recipe.precision, recipe.options)
    except EngineError as error:
        raise EngineError(f"{recipe.path} cannot be built here: {error}") from error


_NAMES: tuple[StepName, ...] = ("export", "type", "build")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    """What stands at a recipe's output.

    Attributes:
        bundle: The bundle of this very recipe; None if it has to be built.
        reason: Why, where no changed input says so.
        inputs: What the bundle there was made from; {} where that is not known.
    """

    bundle: Bundle | None = None
    reason: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)


def _look_at_output(path: Path, build: Step, cache: NetworkCache) -> _Output:
    if not (path / MANIFEST_NAME).exists():
        return _Output(reason="not built before")
    try:
        key = read_manifest(path).inputs_sha256
        if key == build.key:
            return _Output(bundle=load_bundle(path))
    except BundleError:
        return _Output(reason="the bundle there is incomplete, altered or of another format")
    earlier = cache.inputs(key) or {}
    return _Output(reason="the bundle there is made from something else", inputs=earlier)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """The steps that have to be done."""

    recipe: Recipe
    inputs: RecipeInputs
    cache: NetworkCache
    watcher: Watcher
    found: _Output
    reports: list[StepReport] = field(default_factory=list)

    def run(self) -> RecipeBuild:
        """Do them."""
        from fcn_trt.engine.build import build_engine

        typed = self._typed()
        step = self.inputs.build
        with self._making(step, self.found.reason):
            bundle = build_engine(
                typed,
                self.recipe.output,
                target=self.recipe.target,
                options=self.recipe.options,
                inputs_sha256=step.key,
                on_phase=self.watcher.on_phase,
            )
            self.cache.keep(step.key, step.all_inputs)
        return RecipeBuild(bundle=bundle, steps=tuple(self.reports))

    def _typed(self) -> Path:
        """The typed ONNX file."""
        step = self.inputs.typed
        found = self.cache.find(step.key)
        if found is not None:
            self._report(StepReport(name="export", made=False))
            self._report(StepReport(name="type", made=False, **_kept(read_spec(found))))
            return found
        network = self._exported()
        with self._making(step, self._reason_in_cache(step)):
            self._type(network, self.cache.path(step.key))
            self.cache.keep(step.key, step.all_inputs)
        return self.cache.path(step.key)

    def _exported(self) -> Path:
        """The FP32 ONNX file."""
        step = self.inputs.export
        found = self.cache.find(step.key)
        if found is not None:
            self._report(StepReport(name="export", made=False))
            return found
        with self._making(step, self._reason_in_cache(step)):
            self._export(self.cache.path(step.key))
            self.cache.keep(step.key, step.all_inputs)
        return self.cache.path(step.key)

    def _export(self, out: Path) -> None:
        # Imported here: it needs torch, which is not needed where the network is there already.
        from fcn_trt.pipeline.steps import export_network

        recipe, inputs = self.recipe, self.inputs
        spec = export_network(
            inputs.model,
            out,
            size=recipe.size,
            weights=inputs.weights,
            batch=recipe.batch,
            dynamic=recipe.dynamic,
            labels=recipe.labels,
            output=recipe.onnx_output,
        )
        if inputs.source_sha256 and spec.source_sha256 != inputs.source_sha256:
            raise WeightsError(
                f"the weights of {recipe.path} were written to while they were read; run it again"
            )

    def _type(self, network: Path, out: Path) -> None:
        from fcn_trt.calibration.images import RangeImages
        from fcn_trt.precision.type_network import type_network

        recipe, done = self.recipe, 0
        images = RangeImages.few(recipe.images, recipe.size)
        total = len(images)

        def count() -> None:
            nonlocal done
            done += 1
            self.watcher.on_image(done, total)

        type_network(
            network,
            out,
            recipe.precision,
            images=images,
            on_image=count,
            quantisation=recipe.quantisation,
        )

    def _reason_in_cache(self, step: Step) -> str:
        """Why a network has to be made whose inputs are not known to have changed."""
        is_there = self.cache.path(step.key).exists()
        return "damaged in the cache" if is_there else "not in the cache"

    @contextmanager
    def _making(self, step: Step, otherwise: str) -> Iterator[None]:
        """Report a step that is done in the block.

        Args:
            step: Which.
            otherwise: The reason, if no changed input is one.
        """
        changed = step.changed(self.found.inputs) if self.found.inputs else []
        reason = f"{', '.join(changed)} changed" if changed else otherwise
        self.watcher.on_begin(step.name, reason)
        started = time.perf_counter()
        with self._naming_recipe():
            yield
        duration_s = time.perf_counter() - started
        kept = _kept(read_spec(self.cache.path(step.key))) if step.name == "type" else {}
        self._report(
            StepReport(name=step.name, made=True, reason=reason, duration_s=duration_s, **kept)
        )

    @contextmanager
    def _naming_recipe(self) -> Iterator[None]:
        """Let errors about a network in the cache, which the user does not know, name the recipe.

        One that cannot be written keeps its path: there the user can make room.
        """
        try:
            yield
        except (EngineError, OnnxError) as error:
            says = str(error)
            for step in (self.inputs.export, self.inputs.typed):
                network = str(self.cache.path(step.key))
                says = says.replace(network, f"the network of {self.recipe.path}")
            raise type(error)(says) from error

    def _report(self, report: StepReport) -> None:
        self.reports.append(report)
        self.watcher.on_step(report)
