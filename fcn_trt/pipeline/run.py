"""A plan is run: the one place that orders export, type and build.

With a store, a step is done only if something that it depends on has changed: networks in between
are kept in the user's cache, and the bundle remembers the key of its build. While that is the key
of the plan and the bundle's files are those that were built, nothing is done and no framework is
imported. Without a store everything is done, and what lies in between goes with the run.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.manifest import MANIFEST_NAME
from fcn_trt.errors import EngineError, OnnxError, PlanError
from fcn_trt.files import sha256, temporary_folder, write_atomic
from fcn_trt.machine import this_machine
from fcn_trt.network.file import Network
from fcn_trt.pipeline.plan import (
    Checking,
    Compile,
    ImagesBar,
    Job,
    Plan,
    Step,
    StepName,
)
from fcn_trt.pipeline.store import KeyedStep, Standing, Store, keyed_steps
from fcn_trt.spec import Check, Precision, Spec

if TYPE_CHECKING:
    from fcn_trt.engine.tensorrt.progress import OnPhase

__all__ = ["Made", "StepReport", "Watcher", "rebuild", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What became of a step.

    Attributes:
        name: Which.
        made: Whether it was done; otherwise an earlier result was taken.
        reason: Why it was done, such as "size changed"; "" if it was not, or nothing is kept.
        duration_s: How long it took, in seconds.
        kept: Nodes that type gave another type than was asked for, now or earlier, and that type.
        otherwise: Type of what is not quantised.
        check: How far its result labels as the network's source does; None where an earlier version
            made it.
    """

    name: StepName
    made: bool
    reason: str = ""
    duration_s: float = 0.0
    kept: dict[str, Precision] = field(default_factory=dict)
    otherwise: str = ""
    check: Check | None = None

    def describe(self) -> str:
        """In words, such as "build: made in 1.2 s (size changed)"."""
        if not self.made:
            return f"{self.name}: reused"
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.name}: made in {self.duration_s:.1f} s{reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a run made.

    Attributes:
        result: The ONNX file or the bundle that the plan ends with; its files were checked.
        steps: What became of each step of the plan.
    """

    result: Network | Bundle
    steps: tuple[StepReport, ...]

    @property
    def bundle(self) -> Bundle:
        """The result of a plan that ends with a bundle.

        Raises:
            ValueError: it ends with an ONNX file.
        """
        if not isinstance(self.result, Bundle):
            raise ValueError(  # noqa: TRY004  # it is about the plan, not about a type
                f"{self.result} is an ONNX file; name a target to compile it for"
            )
        return self.result

    @property
    def network(self) -> Network:
        """The ONNX file: the result itself, or the typed one inside the bundle."""
        return self.result.network if isinstance(self.result, Bundle) else self.result

    @property
    def path(self) -> Path:
        """Where the result is."""
        return self.result.path

    @property
    def spec(self) -> Spec:
        """What the result is."""
        return self.network.spec

    @property
    def is_reused(self) -> bool:
        """Whether nothing had to be done."""
        return not any(step.made for step in self.steps)

    def describe(self) -> str:
        """One sentence."""
        names = [step.name for step in self.steps]
        if self.is_reused:
            first, last = ", ".join(names[:-1]), names[-1]
            return (
                f"nothing to do: {self.path} is up to date, its "
                f"{f'{first} and {last} depend' if first else f'{last} depends'} on nothing that "
                "changed"
            )
        made = ", ".join(step.name for step in self.steps if step.made)
        reused = ", ".join(step.name for step in self.steps if not step.made)
        verb = "built" if isinstance(self.result, Bundle) else "written"
        return f"{self.path} is {verb}: made {made}{f'; reused {reused}' if reused else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """What is called while a plan is run.

    Attributes:
        on_begin: As a step begins that has to be done, with its name and the reason.
        on_step: After each step, done or reused, in order.
        images_bar: Shows how many images were read, where a step reads some.
        on_phase: As a TensorRT builder moves on.
    """

    on_begin: Callable[[StepName, str], None] = lambda _name, _reason: None
    on_step: Callable[[StepReport], None] = lambda _: None
    images_bar: ImagesBar = lambda _title, _total: nullcontext(lambda: None)
    on_phase: OnPhase = lambda _: None


SILENT = Watcher()


def run(
    plan: Plan,
    out: Path,
    *,
    store: Store | None = None,
    watcher: Watcher = SILENT,
    name: str = "",
) -> Made:
    """Do what a plan says, as far as it was not done before.

    A process that is stopped or killed leaves no network and no bundle under a final name that is
    not whole.

    Args:
        out: The ONNX file to write, or the folder of the bundle, by what the plan ends with.
        store: Where networks in between are kept and looked for; None keeps nothing.
        name: What to call the plan's networks in messages; "" is the file or model it begins with.

    Raises:
        PlanError: its model is unknown, or a file that it names cannot be read.
        AgreementError: a step labels otherwise than the source.
        MissingExtraError, WeightsError, CheckpointError, OnnxError, CalibrationError, SourceError,
            EngineError, BundleError, OutputError, ValueError: as the steps say.
    """
    name = name or plan.title
    is_new = store is None or not (out / MANIFEST_NAME).exists()
    if is_new:
        _check(plan, out, name)  # before weights are downloaded to find what it is of
    if store is None:
        with temporary_folder() as folder:
            return _Work(plan, out, folder, watcher=watcher, name=name).run()
    keyed = keyed_steps(plan)
    found = Standing()
    if plan.compile is not None:
        found = store.standing(out, keyed[-1].key)
    if found.bundle is not None:
        return _reused(found.bundle, keyed, watcher)
    if not is_new:
        _check(plan, out, name)
    store.make_folder()
    work = _KeptWork(plan, out, store.folder, watcher=watcher, name=name)
    return work.keep(store, keyed, found)


def rebuild(bundle: Bundle, *, watcher: Watcher = SILENT) -> Bundle:
    """Build a bundle again from the typed ONNX inside, for this machine and what it has installed.

    The recipe that it may have come from would make another one, so that it has no key any more.

    Args:
        bundle: It is replaced when the new one is whole.

    Raises:
        PlanError, OnnxError, MissingExtraError, EngineError, BundleError, OutputError: as `run`.
    """
    target, options = bundle.manifest.target, bundle.manifest.options
    if target != "openvino":
        gpu = this_machine().gpu
        options = replace(
            options, compute_capabilities=() if gpu is None else (gpu.compute_capability,)
        )
    step = Compile(target=target, options=options, checking=_as_before(bundle))
    plan = Plan(source=bundle.network, compile=step)
    return run(plan, bundle.path, watcher=watcher).bundle


def _as_before(bundle: Bundle) -> Checking:
    """How a bundle was checked when it was built, and what was accepted then."""
    last = bundle.manifest.checks[-1] if bundle.manifest.checks else None
    if last is not None and last.state == "off":
        return Checking(is_on=False)
    return Checking(accept=last.floor if last else None)


def _check(plan: Plan, out: Path, name: str) -> None:
    """Refuse before long work what cannot be built or written after it."""
    try:
        plan.steps[-1].check(out, plan.precision)
    except EngineError as error:
        raise EngineError(f"{name} cannot be built here: {error}") from error


def _reused(bundle: Bundle, keyed: list[KeyedStep], watcher: Watcher) -> Made:
    """Report that nothing had to be done."""
    made = Made(result=bundle, steps=tuple(_report(step.name, bundle) for step in keyed))
    for step in made.steps:
        watcher.on_step(step)
    return made


def _report(
    name: StepName,
    result: Bundle | Network,
    *,
    made: bool = False,
    reason: str = "",
    duration_s: float = 0.0,
) -> StepReport:
    """What became of a step; of type also what it kept in another type."""
    spec = (result.network if isinstance(result, Bundle) else result).spec
    chain = result.manifest.chain if isinstance(result, Bundle) else spec.checks
    return StepReport(
        name=name,
        made=made,
        reason=reason,
        duration_s=duration_s,
        kept=spec.exceptions if name == "type" else {},
        otherwise=(spec.float_precision or spec.precision) if name == "type" else "",
        check=next((found for found in reversed(chain) if found.step == name), None),
    )


class _Work:
    """The steps of a plan, of which all have to be done.

    Args:
        out: Where its result goes.
        folder: Where networks in between go.
        name: What to call networks in between in messages.
    """

    def __init__(self, plan: Plan, out: Path, folder: Path, *, watcher: Watcher, name: str) -> None:
        self.plan = plan
        self.out = out
        self.folder = folder
        self.watcher = watcher
        self.name = name
        self.reports: list[StepReport] = []

    def run(self) -> Made:
        """Do them all."""
        result: Network | Bundle | None = self.plan.source
        for step in self.plan.steps:
            is_last = step is self.plan.steps[-1]
            out = self.out if is_last else self.folder / f"{step.name}.onnx"
            result = self._do(step, result, out)
        return self._made(result)

    def _do(
        self,
        step: Step,
        before: Network | Bundle | None,
        out: Path,
        *,
        key: str = "",
        reason: str = "",
    ) -> Network | Bundle:
        """Do one step, and report it."""
        job = Job(
            target=self.plan.target,
            key=key,
            name=self.name,
            images_bar=self.watcher.images_bar,
            on_phase=self.watcher.on_phase,
        )
        self.watcher.on_begin(step.name, reason)
        started = time.perf_counter()
        with self._naming():
            result = step.run(before if isinstance(before, Network) else None, out, job)
        took_s = time.perf_counter() - started
        self._tell(_report(step.name, result, made=True, reason=reason, duration_s=took_s))
        return result

    def _tell(self, report: StepReport) -> None:
        self.reports.append(report)
        self.watcher.on_step(report)

    def _made(self, result: Network | Bundle | None) -> Made:
        if result is None:
            raise PlanError("model", "there is nothing to do")
        return Made(result=result, steps=tuple(self.reports))

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Let errors about a network in between, which the user does not know, name the plan.

        One that cannot be written keeps its path: there the user can make room.
        """
        try:
            yield
        except (EngineError, OnnxError) as error:
            between = re.escape(str(self.folder)) + r"/[0-9a-z]+\.onnx"
            raise type(error)(re.sub(between, lambda _: self.name, str(error))) from error


class _KeptWork(_Work):
    """The steps of a plan, of which those are done whose result is not kept."""

    def keep(self, store: Store, keyed: list[KeyedStep], found: Standing) -> Made:
        """Do what is left of them, and keep what they make.

        Args:
            store: What is kept.
            keyed: The steps with their keys.
            found: What stands at the output.
        """
        result: Network | Bundle | None
        result, left = self._begin(store, keyed)
        for step, key in zip(self.plan.steps[left:], keyed[left:], strict=True):
            path = self.out if step is self.plan.compile else store.path(key.key)
            otherwise = found.reason
            if step is not self.plan.compile:
                otherwise = "damaged in the cache" if path.exists() else "not in the cache"
            changed = key.changed(found.inputs) if found.inputs else []
            reason = f"{', '.join(changed)} changed" if changed else otherwise
            result = self._do(step, result, path, key=key.key, reason=reason)
            store.keep(key, result if isinstance(result, Network) else None)
        if isinstance(result, Network):
            result = self._deliver(result)
        return self._made(result)

    def _begin(self, store: Store, keyed: list[KeyedStep]) -> tuple[Network | None, int]:
        """The last network that is kept, and the number of the first step to do after it."""
        for number in range(len(keyed), 0, -1):
            network = store.find(keyed[number - 1].key)
            if network is not None:
                for step in keyed[:number]:
                    self._tell(_report(step.name, network))
                return network, number
        return self.plan.source, 0

    def _deliver(self, network: Network) -> Network:
        """Put a network that is kept where it is asked for, unless it is there."""
        if not self.out.is_file() or sha256(self.out) != network.sha256:
            write_atomic(self.out, network.read_bytes())
        return Network(path=self.out, spec=network.spec, sha256=network.sha256)
