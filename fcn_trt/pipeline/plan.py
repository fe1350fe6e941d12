"""What becomes of a model: three steps, each one call into the folder of its name.

    Export    checkpoint or foreign ONNX -> FP32 ONNX    model, network
    Type      FP32 ONNX -> typed ONNX                    calibration, precision
    Compile   typed ONNX -> bundle                       engine

A step knows what goes with what, what its result depends on, and how to run; all three have the
methods of `Step`. A plan is some of them in this order, made by a recipe, by the options of a
command, or in Python; `run` is the one place that runs it.

What a result depends on is hashes of content, never times and never paths: what was asked for, what
is read, the code of this package that runs, and the versions of the libraries that this imports.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

from fcn_trt.calibration.amax import DEFAULT_METHOD, Method
from fcn_trt.code import code_sha256, libraries
from fcn_trt.engine.bundle import refuse_foreign_files
from fcn_trt.engine.manifest import TARGET_MODULES, Target
from fcn_trt.engine.options import RTX_CAPABILITIES, BuildOptions, require_capability
from fcn_trt.errors import PlanError, WeightsError
from fcn_trt.files import combined_sha256, require_folder_of, sha256
from fcn_trt.input_format import InputFormat, is_number
from fcn_trt.labels import LabelSet
from fcn_trt.machine import (
    DISTRIBUTIONS,
    OPENCV_DISTRIBUTIONS,
    installed_version,
    this_machine,
)
from fcn_trt.model.weights import NO_TRUST, ModelSource, Trust, find_model
from fcn_trt.network.file import Network, content_sha256
from fcn_trt.spec import (
    NO_LABEL,
    QUANTISED,
    Check,
    FloatPrecision,
    Precision,
    ShapeRange,
    Size,
    Spec,
)
from fcn_trt.version import __version__

if TYPE_CHECKING:
    import onnx

    from fcn_trt.calibration.images import RangeImages
    from fcn_trt.engine.bundle import Bundle
    from fcn_trt.engine.tensorrt.progress import OnPhase
    from fcn_trt.model.checkpoint import LoadedModel
    from fcn_trt.pipeline.checks import Source
    from fcn_trt.runtime.check import Labeller

__all__ = [
    "CHECKED",
    "CODE",
    "Checking",
    "Compile",
    "Export",
    "ImagesBar",
    "Job",
    "Plan",
    "Step",
    "StepName",
    "Type",
    "float_beside",
]

StepName: TypeAlias = Literal["export", "type", "build"]

CODE = "fcn_trt's code"
"""What the code of every step is called to people; in inputs "of" and the step follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checking:
    """How a step's result is held against what the network's source labels.

    Attributes:
        is_on: Whether it is; what was not is recorded.
        accept: Share of the pixels that is enough; None is what its precision keeps at least.

    Raises:
        PlanError: the share is none, or nothing is checked.
    """

    is_on: bool = True
    accept: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.is_on, bool):
            raise PlanError("check", f"{self.is_on!r} is neither True nor False")
        if self.accept is not None and not self.is_on:
            raise PlanError("accept", "nothing is checked; leave it or the other out")
        if self.accept is not None and not (is_number(self.accept) and 0 <= self.accept <= 1):
            raise PlanError("accept", f"{self.accept!r} is not between 0 and 1")


CHECKED = Checking()


@dataclass(frozen=True, kw_only=True)
class Export:
    """A checkpoint, a model's name or a foreign ONNX file becomes FP32 ONNX.

    Attributes:
        model: Name of an architecture or of published weights, or path of a checkpoint that says
            what it is or of an .onnx file.
        size: (height, width) of the input in pixels.
        weights: Of an architecture: a path, a published name, or "random[:SEED]"; None takes the
            best published ones.
        trust: What the user vouches for of the checkpoint.
        batch: Images per inference.
        labels: Classes and colours; None takes the checkpoint's own, or numbers them.
        input: What is known of how its input was made; what is not said is the checkpoint's own, or
            ImageNet's.
        threshold: Probability from which a network with one logit has found what it looks for; None
            is 0.5.
        average: Whether to take the averaged weights (EMA) where a checkpoint has both; None takes
            the others, and says so.
        ignore: Number in label files that means "no label" besides 255, or None.
        output: Output of an .onnx file to keep; None finds it.
        min_size: (height, width) of the smallest input that the network shall take. Without any of
            the four limits it takes `size` and `batch` only; with one, they are the others.
        max_size: Of the largest.
        min_batch: The fewest images.
        max_batch: The most.
        images: Frames of the user's own on which it is checked: a folder, a picture, a video; None
            takes drawn ones.
        checking: How it is checked.

    Raises:
        PlanError: two of these do not go together.
    """

    name: ClassVar[StepName] = "export"

    model: str
    size: Size
    weights: str | None = None
    trust: Trust = NO_TRUST
    batch: int = 1
    labels: LabelSet | None = None
    input: InputFormat = InputFormat()
    threshold: float | None = None
    average: bool | None = None
    ignore: int | None = None
    output: str | None = None
    min_size: Size | None = None
    max_size: Size | None = None
    min_batch: int | None = None
    max_batch: int | None = None
    images: str | None = None
    checking: Checking = CHECKED

    def __post_init__(self) -> None:
        if self.images is not None and not self.checking.is_on:
            raise PlanError("images", "they are what it is checked on; leave one of the two out")
        if self.is_import and self.weights is not None:
            raise PlanError("weights", "an .onnx file carries its weights; leave them out")
        if self.is_import and self.trust != NO_TRUST:
            raise PlanError(self.trust.field, "it is about a checkpoint, and not an .onnx file")
        if self.output is not None and not self.is_import:
            raise PlanError("output", "only an .onnx model has outputs to choose; leave it out")
        if self.average is not None and self.is_import:
            raise PlanError("average", "an .onnx file has one set of weights; leave it out")
        if self.threshold is not None and not (
            is_number(self.threshold) and 0 < self.threshold < 1
        ):
            raise PlanError("threshold", f"{self.threshold!r} is not between 0 and 1")
        if self.ignore is not None and not (
            type(self.ignore) is int and 0 <= self.ignore <= NO_LABEL
        ):
            raise PlanError("ignore", f"{self.ignore!r} is not a whole number of 0 to {NO_LABEL}")
        if self.dynamic is not None:
            _check_dynamic(self.dynamic, self.size, self.batch)

    @property
    def dynamic(self) -> ShapeRange | None:
        """The shapes that the network shall take; None fixes `size` and `batch`."""
        limits = (self.min_size, self.max_size, self.min_batch, self.max_batch)
        if limits == (None,) * 4:
            return None
        try:
            return ShapeRange(
                min_size=self.min_size or self.size,
                max_size=self.max_size or self.size,
                min_batch=self.min_batch or self.batch,
                max_batch=self.max_batch or self.batch,
            )
        except ValueError as error:
            raise PlanError("dynamic", str(error)) from error

    @property
    def is_import(self) -> bool:
        """Whether the model is an .onnx file."""
        return self.model.endswith(".onnx")

    @cached_property
    def source(self) -> ModelSource:
        """The architecture, if it is named, and its weights, downloaded where they have to be.

        Raises:
            PlanError: the model is unknown, or carries weights of its own beside those given.
            WeightsError: its weights cannot be found, downloaded or trusted.
        """
        return find_model(self.model, self.weights, self.trust)

    def load(self) -> LoadedModel:
        """The torch module of a checkpoint, with its weights.

        Raises:
            PlanError, WeightsError: as for `source`.
            CheckpointError: the checkpoint does not fit.
        """
        from fcn_trt.model.load import load_model

        return load_model(
            self.source,
            labels=self.labels,
            said=self.input,
            threshold=self.threshold,
            average=self.average,
        )

    def check(self, out: Path, _precision: Precision) -> None:
        """Refuse before long work what could not be written after it."""
        require_folder_of(out)

    def inputs(self, _target: Target | None) -> dict[str, Any]:
        """What the result depends on, by name, in values that JSON has."""
        module = "import_onnx" if self.is_import else "to_onnx"
        modules = [f"fcn_trt.network.{module}"]
        modules += ["fcn_trt.pipeline.checks"]
        modules += [] if self.is_import else ["fcn_trt.model.load"]
        same = ("output", "size", "batch", "threshold", "average", "ignore")
        asked = {name: getattr(self, name) for name in same} | {"input": asdict(self.input)}
        asked["labels"] = asdict(self.labels) if self.labels else None
        content = (
            {"model": "ONNX file", "weights": content_sha256(Path(self.model))}
            if self.is_import
            else {"model": self.source.architecture or "checkpoint", "weights": self.source.content}
        )
        asked |= {"check of export": asdict(self.checking), "frames": self._frames_content()}
        dynamic = asdict(self.dynamic) if self.dynamic else None
        return {"fcn_trt": __version__, **content, **asked, "dynamic": dynamic} | _code(
            self.name, modules
        )

    def _frames_content(self) -> str | None:
        """What the frames are that it is checked on."""
        if self.images is None:
            return None
        path = Path(self.images)
        if path.is_file():
            return sha256(path)
        if not path.is_dir():
            raise PlanError(
                "images",
                f"{self.images} is no file and no folder, so that nothing tells "
                "whether it changed; name one",
            )
        from fcn_trt.pipeline.checks import reference_images

        return combined_sha256(map(sha256, reference_images(path)))

    def run(self, _before: Network | None, out: Path, job: Job) -> Network:
        """Write the FP32 ONNX.

        Raises:
            PlanError: the model is unknown.
            WeightsError, CheckpointError, OnnxError, SourceError, OutputError, ValueError: as the
                folders say.
            AgreementError: it labels otherwise than its source.
        """
        from fcn_trt.network.contract import save_network, stamp
        from fcn_trt.pipeline.checks import check_export

        model, spec, source = self._import() if self.is_import else self._export()
        reference, found = check_export(
            model,
            spec,
            source,
            name=self.model,
            images=self.images,
            checking=self.checking,
            bar=job.images_bar,
        )
        # An ONNX of ours knows what to ignore, and how far it was proven itself.
        ignore = spec.ignore if self.ignore is None else self.ignore
        spec = replace(spec, ignore=ignore, checks=(*spec.checks, found))
        stamp(model, spec, reference)
        return save_network(model, spec, out)

    def _export(self) -> tuple[onnx.ModelProto, Spec, Source | str]:
        """A checkpoint as ONNX, and the module that it comes from."""
        from fcn_trt.model.torch_process import torch_process
        from fcn_trt.network.to_onnx import to_onnx
        from fcn_trt.pipeline.checks import Source

        loaded = self.load()
        if self.source.sha256 and loaded.source_sha256 != self.source.sha256:
            raise WeightsError(
                f"the weights of {self.model} were written to while they were read; run it again"
            )
        model, spec = to_onnx(loaded, size=self.size, batch=self.batch, dynamic=self.dynamic)
        if not self.source.sha256:
            return model, spec, "since random weights label nothing"
        process = torch_process(loaded, self.size)
        return model, spec, Source("PyTorch", lambda frame: next(process([frame])).label_map)

    def _import(self) -> tuple[onnx.ModelProto, Spec, Source | str]:
        """A foreign ONNX file as ours, and the file itself."""
        from fcn_trt.network.import_onnx import import_onnx
        from fcn_trt.pipeline.checks import Source

        imported = import_onnx(
            Path(self.model),
            size=self.size,
            batch=self.batch,
            dynamic=self.dynamic,
            output=self.output,
            labels=self.labels,
            said=self.input,
            threshold=self.threshold,
        )
        precision: Precision = "fp16" if imported.is_half else "fp32"
        source = Source(
            f"{Path(self.model).name} in ONNX Runtime",
            imported.source.label_map,
            size=imported.source.size,
            precision=precision,
        )
        return imported.model, imported.spec, source


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """An FP32 ONNX becomes one whose graph says what computes in which type.

    Attributes:
        precision: What convolutions shall compute in.
        images: Folder of images, or video, such as the network will see, on which fp16 is checked;
            None takes drawn streets.
        calibration: Of int8 and fp8, which need it: the path of a cache, or the images to measure
            one on now; it is then written beside the network.
        method: How amax is chosen from the cache; None takes what it has.
        keep_float: Convolutions that int8 and fp8 leave in float, by the names of their nodes;
            "first" and "last" stand for the first and the last one.
        float_precision: Type of what int8 and fp8 do not quantise; None takes what suits the
            plan's target.
        checking: How it is checked.

    Raises:
        PlanError: two of these do not go together.
    """

    name: ClassVar[StepName] = "type"

    precision: Precision
    images: Path | None = None
    calibration: Path | RangeImages | None = None
    method: Method | None = None
    keep_float: frozenset[str] = frozenset()
    float_precision: FloatPrecision | None = None
    checking: Checking = CHECKED

    def __post_init__(self) -> None:
        for name, (precisions, reason) in _GOES_WITH.items():
            if getattr(self, name) and self.precision not in precisions:
                raise PlanError(name, f"{reason}; leave it out")
        if self.precision in QUANTISED and self.calibration is None:
            raise PlanError(
                "calibration",
                f"{self.precision} needs a cache from `fcn-trt calibrate`; give one, or choose "
                "fp16",
            )

    def check(self, out: Path, _precision: Precision) -> None:
        """Refuse before long work what could not be written after it."""
        require_folder_of(out)

    def inputs(self, target: Target | None) -> dict[str, Any]:
        """What the result depends on besides the network, by name, in values that JSON has.

        Raises:
            PlanError: the calibration cannot be read.
            SourceError: the images cannot be read.
        """
        modules = ["fcn_trt.precision.type_network", "fcn_trt.pipeline.checks"]
        inputs: dict[str, Any] = {"precision": self.precision}
        if self.precision in QUANTISED:
            if isinstance(self.calibration, Path):
                inputs["calibration"] = _file_sha256("calibration", self.calibration)
            elif self.calibration is not None:
                inputs["calibration"] = self.calibration.content_sha256()
                modules += ["fcn_trt.calibration.calibrate", "fcn_trt.calibration.images"]
            inputs |= {
                "method": self.method,
                "keep_float": sorted(self.keep_float),
                "float_precision": self.float_precision or float_beside(target),
            }
        elif self.precision == "fp16":
            modules += ["fcn_trt.calibration.images"]
            inputs["images"] = "streets" if self.images is None else _images_sha256(self.images)
        inputs["check of type"] = asdict(self.checking)
        return inputs | _code(self.name, modules)

    def run(self, before: Network | None, out: Path, job: Job) -> Network:
        """Write the typed ONNX.

        Raises:
            OnnxError, CalibrationError, SourceError, EngineError, OutputError, ValueError: as
                precision and calibration say.
            AgreementError: it labels otherwise than its source.
        """
        from fcn_trt.calibration.images import RangeImages
        from fcn_trt.precision.type_network import type_network

        network, calibration = _given(before), self.calibration
        if isinstance(calibration, RangeImages):
            calibration = self._calibrate(network, calibration, out, job.images_bar)
        # Of int8 and fp8 an imported calibration alone needs them, as it says little about fp16.
        images = RangeImages.few(self.images, network.spec.input_size)
        is_checked = self.precision == "fp16" and network.spec.precision == "fp32"
        count = len(images) if is_checked else 0
        check = functools.partial(self._checked, name=job.name or str(network), bar=job.images_bar)
        with job.images_bar(f"checking what fits fp16 on {images.name}", count) as on_image:
            return type_network(
                network,
                out,
                self.precision,
                calibration=calibration,
                method=self.method,
                keep=self.keep_float,
                float_precision=self.float_precision or float_beside(job.target),
                images=images,
                on_image=on_image,
                check=check,
            )

    def _checked(self, model: onnx.ModelProto, spec: Spec, *, name: str, bar: ImagesBar) -> Spec:
        """The spec with how far the network labels as its source."""
        from fcn_trt.pipeline.checks import check_typed

        found = check_typed(model, spec, name=name, checking=self.checking, bar=bar)
        return replace(spec, checks=(*spec.checks, found))

    def _calibrate(
        self, network: Network, images: RangeImages, out: Path, images_bar: ImagesBar
    ) -> Path:
        from fcn_trt.calibration.cache import write_calibration
        from fcn_trt.calibration.calibrate import calibrate

        path = out.with_suffix(".calibration.json")
        with images_bar(f"calibrating on {images.name}", len(images)) as on_image:
            cache = calibrate(
                network, images, method=self.method or DEFAULT_METHOD, on_image=on_image
            )
        write_calibration(cache, path)
        return path


_GOES_WITH: Mapping[str, tuple[tuple[Precision, ...], str]] = {
    "images": (("fp16",), "only fp16 is checked on images"),
    "calibration": (QUANTISED, "only int8 and fp8 are calibrated"),
    "method": (QUANTISED, "only int8 and fp8 are calibrated"),
    "keep_float": (QUANTISED, "only int8 and fp8 leave something in float"),
    "float_precision": (QUANTISED, "only int8 and fp8 leave something in float"),
}
"""What goes with which precisions, and why with no other."""


def float_beside(target: Target | None) -> FloatPrecision:
    """What int8 and fp8 leave in float on a target: fp16, but on CPUs, which not all compute it."""
    return "fp32" if target == "openvino" else "fp16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compile:
    """A typed ONNX becomes a bundle.

    Attributes:
        target: What compiles and runs it.
        options: Limits of the builder; openvino has none.
        checking: How it is checked.

    Raises:
        PlanError: the target does not have what the options ask for.
    """

    name: ClassVar[StepName] = "build"

    target: Target = "openvino"
    options: BuildOptions = field(default_factory=BuildOptions)
    checking: Checking = CHECKED

    def __post_init__(self) -> None:
        asked = self.options.compute_capabilities
        if self.target == "openvino" and self.options != BuildOptions():
            raise PlanError(
                "options", "limits of the device are for TensorRT; leave them out for openvino"
            )
        if self.target == "tensorrt" and len(asked) > 1:
            raise PlanError(
                "compute_capabilities",
                f"tensorrt compiles for the one GPU it runs on, and {len(asked)} are given",
            )
        strange = [text for text in asked if text not in RTX_CAPABILITIES]
        if self.target == "tensorrt-rtx" and strange:
            raise PlanError(
                "compute_capabilities",
                f"TensorRT-RTX does not compile for {strange[0]}; it knows "
                f"{', '.join(RTX_CAPABILITIES)} (Jetsons are for the target tensorrt)",
            )

    def require_type(self, precision: Precision) -> None:
        """Refuse a type that the GPUs asked for do not compute.

        Raises:
            PlanError: one does not.
        """
        try:
            for text in self.options.compute_capabilities:
                require_capability(precision, text)
        except ValueError as error:
            raise PlanError("precision", str(error)) from error

    def check(self, out: Path, precision: Precision) -> None:
        """Refuse before long work what this machine cannot build after it.

        Raises:
            BundleError: the folder holds files that are no bundle's.
            MissingExtraError: the target's library is not installed.
            EngineError: it does not compile that here.
        """
        from fcn_trt.engine.build import require_buildable

        refuse_foreign_files(out)
        require_buildable(self.target, precision, self.options)

    def inputs(self, _target: Target | None) -> dict[str, Any]:
        """What the result depends on besides the network, by name, in values that JSON has."""
        library = TARGET_MODULES[self.target]
        family = "openvino" if self.target == "openvino" else "tensorrt"
        runtime = "openvino" if self.target == "openvino" else "segmenter"
        gpu = this_machine().gpu if self.target == "tensorrt" else None
        return {
            "target": self.target,
            "GPU": f"{gpu.name} {gpu.compute_capability}" if gpu else None,
            **asdict(self.options),
            # Loaded by their names, which no import shows; NVRTC compiles the kernels.
            library: _version(library),
            "nvrtc": _version("nvrtc") if family == "tensorrt" else None,
            "check of build": asdict(self.checking),
        } | _code(
            self.name,
            [
                f"fcn_trt.engine.{family}.builder",
                f"fcn_trt.runtime.{runtime}",
                "fcn_trt.pipeline.checks",
            ],
        )

    def run(self, before: Network | None, out: Path, job: Job) -> Bundle:
        """Compile, prove the precision, and write the bundle.

        Raises:
            OnnxError, MissingExtraError, EngineError, BundleError, OutputError: as engine says.
            AgreementError: it labels otherwise than its source.
        """
        from fcn_trt.engine.build import build_engine

        network = _given(before)
        return build_engine(
            network,
            out,
            target=self.target,
            options=self.options,
            inputs_sha256=job.key,
            check=functools.partial(
                self._checked, name=job.name or str(network), bar=job.images_bar
            ),
            on_phase=job.on_phase,
        )

    def _checked(self, bundle: Bundle, *, name: str, bar: ImagesBar) -> tuple[Check, ...]:
        """How far a bundle labels as its network's source."""
        from fcn_trt.pipeline.checks import check_engine

        opened: AbstractContextManager[Labeller] | None
        if self.target == "openvino":  # which depends on no kernels
            from fcn_trt.runtime import openvino

            opened = openvino.labelling(bundle)
        else:
            from fcn_trt.runtime import segmenter

            opened = segmenter.labelling(bundle)
        return (check_engine(bundle, opened, name=name, checking=self.checking, bar=bar),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Some of the three steps in their order: where it begins, and how far it goes.

    Attributes:
        source: The ONNX file that it begins with; None where it begins with `export`.
        export: The first step.
        type: The second; None leaves the types as they are.
        compile: The third; None ends with an ONNX file.

    Raises:
        PlanError: it has no beginning, or two, or its steps do not go together.
    """

    source: Network | None = None
    export: Export | None = None
    type: Type | None = None
    compile: Compile | None = None

    def __post_init__(self) -> None:
        if (self.source is None) == (self.export is None):
            raise PlanError("model", "a plan begins with an ONNX file or with what is exported")
        if not self.steps:
            raise PlanError("model", "there is nothing to do")
        if self.compile is not None:
            self.compile.require_type(self.precision)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, in order."""
        return tuple(step for step in (self.export, self.type, self.compile) if step)

    @property
    def title(self) -> str:
        """What it begins with, for messages."""
        return str(self.source) if self.source else self.export.model if self.export else ""

    @property
    def target(self) -> Target | None:
        """What its network will be compiled for, where that is known."""
        return self.compile.target if self.compile else None

    @property
    def precision(self) -> Precision:
        """What convolutions compute in at its end."""
        if self.type is not None:
            return self.type.precision
        return self.source.spec.precision if self.source else "fp32"


class Step(Protocol):
    """What all three steps can do."""

    @property
    def name(self) -> StepName:
        """Which it is."""

    def check(self, out: Path, precision: Precision, /) -> None:
        """Refuse before long work what cannot be made or written after it.

        Args:
            out: What will be written, if this is the last step.
            precision: What convolutions will compute in.
        """

    def inputs(self, target: Target | None, /) -> dict[str, Any]:
        """What the result depends on besides the step before, in values that JSON has.

        Args:
            target: What the network will be compiled for, where that is known.
        """

    def run(self, before: Network | None, out: Path, job: Job, /) -> Network | Bundle:
        """Make the result.

        Args:
            before: What the step before made, or the plan begins with.
            out: The file or folder to write.
            job: How it is run.
        """


ImagesBar: TypeAlias = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Begins to show, under a title, how many of so many images were read, if there are any; it gives
what is called after each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How a step is run.

    Attributes:
        target: What the network will be compiled for, where that is known.
        key: Hash of everything that the result is made from; "" where nothing is kept.
        name: What to call the network in messages; "" is its own file.
        images_bar: Shows how many images were read, where a step reads some.
        on_phase: Called as a TensorRT builder moves on.
    """

    target: Target | None = None
    key: str = ""
    name: str = ""
    images_bar: ImagesBar = lambda _title, _total: nullcontext(lambda: None)
    on_phase: OnPhase = lambda _: None


def _given(before: Network | None) -> Network:
    if before is None:
        raise PlanError("model", "a network is typed or compiled, but none was made before")
    return before


def _check_dynamic(allowed: ShapeRange, size: Size, batch: int) -> None:
    """Refuse a range that the shape which is optimised for does not lie in."""
    for name, low, high in (
        ("min_size", allowed.min_size, size),
        ("max_size", size, allowed.max_size),
        ("min_batch", (allowed.min_batch,), (batch,)),
        ("max_batch", (batch,), (allowed.max_batch,)),
    ):
        if any(least > most for least, most in zip(low, high, strict=True)):
            what, own = name.partition("_")[2], low if name.startswith("max") else high
            value = "x".join(map(str, own))
            raise PlanError(
                name,
                f"the network's own {what}, {value}, which the engine is optimised for, lies "
                "outside",
            )


def _code(step: StepName, modules: list[str]) -> dict[str, Any]:
    """The code that a step runs, this file included, and the versions of what that imports."""
    others = sorted(libraries(*modules) - set(sys.stdlib_module_names) - _NO_MATTER)
    versions = {name: _version(name) for name in others}
    own = code_sha256("fcn_trt.pipeline.plan", alone=True)  # what calls them
    return {f"{CODE} of {step}": f"{own} {code_sha256(*modules)}"} | versions


_NO_MATTER = {"platformdirs", "pydantic"}
"""Libraries that no result follows from: they find folders, and check what is read."""


_DISTRIBUTIONS = {
    **DISTRIBUTIONS,
    "nvrtc": ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"),
    "cv2": OPENCV_DISTRIBUTIONS,
    "google": ("protobuf",),
}
"""Packages that bring a module, where it is not called as the one that does."""


@functools.cache  # a module that is loaded stays what it is, whatever is installed meanwhile
def _version(module: str) -> str | None:
    """Version of the first package that brings a module; None where none is installed."""
    return installed_version(*_DISTRIBUTIONS.get(module, (module,)))


def _file_sha256(what: str, path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise PlanError(
            what, f"{path} cannot be read: {error.strerror}; `fcn-trt calibrate` makes one"
        ) from error


def _images_sha256(folder: Path) -> str:
    # Imported here: it needs OpenCV, which most plans do without until they run.
    from fcn_trt.calibration.images import RangeImages

    return RangeImages.few(folder, (1, 1)).content_sha256()
