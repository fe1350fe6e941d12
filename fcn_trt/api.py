"""The public functions of `fcn_trt`: the steps of a model and the ways to use its engine.

Each is thin over the plan, as the commands are, and raises the same errors, all of them
`fcn_trt.errors.FcnTrtError` besides ValueError for arguments that cannot be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fcn_trt.calibration.amax import CALIBRATION_IMAGES, DEFAULT_METHOD, Method
from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.manifest import Target
from fcn_trt.engine.options import BuildOptions
from fcn_trt.input_format import InputColour, InputFormat, Scale, three_channels
from fcn_trt.labels import find_label_set
from fcn_trt.model.weights import NO_TRUST, Trust
from fcn_trt.network.file import Network
from fcn_trt.pipeline.plan import Checking, Compile, Export, Plan, Type
from fcn_trt.pipeline.run import Watcher
from fcn_trt.pipeline.run import run as run_plan
from fcn_trt.spec import FloatPrecision, Frame, Precision, Result, Size

if TYPE_CHECKING:
    import rich.progress

    from fcn_trt.comparison.measure import Comparison
    from fcn_trt.engine.tensorrt.progress import BuildPhase
    from fcn_trt.evaluation.scores import Evaluation
    from fcn_trt.runtime.segmenter import Segmenter
    from fcn_trt.video.loop import LoopReport

__all__ = [
    "FilePath",
    "Progress",
    "build",
    "calibrate",
    "compare",
    "evaluate",
    "export",
    "load",
    "quantize",
    "run",
    "stream",
]

FilePath: TypeAlias = str | PathLike[str]

Progress: TypeAlias = bool | Callable[[str, int, int | None], None]
"""True shows a bar on stderr. A function is called with what is being done, how much of it is done,
and how much there is, None if unknown."""


def export(
    model: FilePath,
    *,
    size: Size,
    out: FilePath,
    weights: FilePath | None = None,
    trust: bool = False,
    weights_sha256: str | None = None,
    labels: FilePath | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: Scale | None = None,
    input_colour: InputColour | None = None,
    threshold: float | None = None,
    average: bool | None = None,
    ignore: int | None = None,
    images: FilePath | None = None,
    check: bool = True,
    accept: float | None = None,
    progress: Progress = False,
    batch: int = 1,
    output: str | None = None,
    min_size: Size | None = None,
    max_size: Size | None = None,
    min_batch: int | None = None,
    max_batch: int | None = None,
) -> Network:
    """Write a checkpoint, or an existing ONNX file, as FP32 ONNX that ends at its logits.

    Args:
        model: Path of a checkpoint that says what it is or of an .onnx file, or the name of an
            architecture or of published weights, as `fcn-trt models` lists them.
        size: (height, width) of the network's input in pixels.
        weights: Of an architecture: a checkpoint, a published name, or "random[:SEED]"; None takes
            the best published ones.
        trust: Whether a file that is only named as a published one, by 32 bits of its SHA-256, is
            to be taken as it, and pinned.
        weights_sha256: All 64 digits of the SHA-256 that the checkpoint must have.
        labels: A file with a line per class, ``name`` or ``name #rrggbb``, or the name of a known
            label set; None takes the checkpoint's own, or numbers them.
        mean: What was subtracted from each channel when it was trained, one number or three; None
            is the checkpoint's own, or ImageNet's.
        std: What then divided each channel.
        scale: What the brightest pixel was before that, 255 or 1; None is found out from the two.
        input_colour: Order of the network's channels, "rgb" or "bgr".
        threshold: Probability from which a network with one logit has found what it looks for.
        average: Whether to take the averaged weights where a checkpoint has both.
        ignore: Number in label files that means "no label" besides 255.
        images: Frames of your own on which the result is held against the source: a folder, a
            picture, a video; None takes drawn ones.
        check: Whether that is done.
        accept: Share of the pixels that has to have the source's label; None is 0.9995.
        progress: Shows how many frames are checked.
        batch: Images per inference.
        output: Output of an .onnx file to keep; None finds it.
        min_size: (height, width) of the smallest input that the network shall take. Without any of
            these four limits it takes `size` and `batch` only.
        max_size: (height, width) of the largest.
        min_batch: The fewest images per inference.
        max_batch: The most images per inference.

    Returns:
        The file, with its spec.

    Raises:
        PlanError: the model is unknown, or two arguments do not go together.
        WeightsError: weights cannot be found, downloaded or trusted.
        CheckpointError: the checkpoint is damaged, unsafe, or of no FCN that is known.
        OnnxError: the .onnx file is damaged or no FCN.
        SourceError: the images cannot be read.
        AgreementError: the result labels otherwise than the source.
        OutputError: the file cannot be written.
        ModuleNotFoundError: the extra `export` is not installed.
    """
    step = Export(
        model=str(model),
        size=size,
        weights=None if weights is None else str(weights),
        trust=Trust(is_given=trust, sha256=weights_sha256),
        batch=batch,
        labels=None if labels is None else find_label_set(str(labels)),
        input=InputFormat(
            mean=None if mean is None else three_channels(mean),
            std=None if std is None else three_channels(std),
            scale=scale,
            colour=input_colour,
        ),
        threshold=threshold,
        average=average,
        ignore=ignore,
        images=None if images is None else str(images),
        checking=Checking(is_on=check, accept=accept),
        output=output,
        min_size=min_size,
        max_size=max_size,
        min_batch=min_batch,
        max_batch=max_batch,
    )
    with _Progress(progress) as shown:
        watcher = Watcher(images_bar=shown.images)
        return run_plan(Plan(export=step), Path(out), watcher=watcher).network


def calibrate(
    network: Network | FilePath,
    *,
    images: FilePath | Collection[FilePath] = (),
    out: FilePath,
    streets: int = 0,
    method: Method = DEFAULT_METHOD,
    limit: int = CALIBRATION_IMAGES,
    progress: Progress = False,
) -> Path:
    """Measure how large a network's tensors get, for INT8 and FP8.

    What was stopped or killed goes on where it was when it is called again.

    Args:
        network: FP32 ONNX from `export`.
        images: Folder of images or video such as the network will see, or several; 64 to 200
            frames will do, which are spread evenly.
        out: The calibration cache to write, a JSON file.
        streets: Drawn streets to measure, too.
        method: How the largest code of each tensor is chosen.
        limit: Images of the folders at most, spread evenly.
        progress: Shows how many images were read.

    Returns:
        The cache's path, for `quantize`.

    Raises:
        ValueError: there are no images.
        OnnxError: the network is damaged or not FP32.
        SourceError: an image cannot be read.
        EngineError: OpenVINO cannot run the network.
        OutputError: the file cannot be written.
    """
    from fcn_trt.calibration.cache import write_calibration
    from fcn_trt.calibration.calibrate import calibrate as measure
    from fcn_trt.calibration.images import RangeImages
    from fcn_trt.calibration.state import user_folder
    from fcn_trt.files import require_folder_of

    require_folder_of(Path(out))
    found = _network(network)
    folders = (images,) if isinstance(images, str | PathLike) else tuple(images)
    frames = RangeImages(
        folders=tuple(map(Path, folders)),
        limit=limit,
        streets=streets,
        size=found.spec.input_size,
    )
    with _Progress(progress) as shown:
        cache = measure(
            found,
            frames,
            method=method,
            state_folder=user_folder(),
            on_begin=lambda done: shown.begin("calibrating", len(frames), done=done),
            on_image=shown.advance,
        )
    write_calibration(cache, Path(out))
    return Path(out)


def quantize(
    network: Network | FilePath,
    *,
    precision: Precision,
    out: FilePath,
    calibration: FilePath | None = None,
    method: Method | None = None,
    keep_float: Collection[str] = (),
    float_precision: FloatPrecision | None = None,
    images: FilePath | None = None,
    check: bool = True,
    accept: float | None = None,
    progress: Progress = False,
) -> Network:
    """Write an FP32 ONNX as one whose graph says what computes in which type.

    Args:
        network: FP32 ONNX from `export`.
        precision: What convolutions shall compute in: fp32, fp16, bf16, int8 or fp8.
        calibration: Cache from `calibrate`; int8 and fp8 need one, and no other takes it.
        method: How the largest code is chosen from the cache; None takes what it has.
        keep_float: Convolutions that int8 and fp8 leave in float, by the names of their nodes;
            "first" and "last" stand for the first and the last one.
        float_precision: Type of what int8 and fp8 leave in float; None is fp16, for GPUs. Take fp32
            for a CPU.
        images: Folder of images, or video, such as the network will see, on which fp16 finds out
            what it cannot hold; None takes drawn streets.
        check: Whether the result is held against the network's source.
        accept: Share of the pixels that has to have the source's label; None is 0.99 for fp16 and
            bf16, 0.95 for int8 and fp8.
        progress: Shows how many images were read.

    Returns:
        The file; `spec.exceptions` names the nodes that compute in another type than asked.

    Raises:
        PlanError: two arguments do not go together.
        OnnxError: the network is damaged, or typed already.
        CalibrationError: the calibration is damaged or of another network.
        SourceError, EngineError, OutputError: as the steps say.
        AgreementError: the result labels otherwise than the network's source.
    """
    step = Type(
        precision=precision,
        images=None if images is None else Path(images),
        calibration=None if calibration is None else Path(calibration),
        method=method,
        keep_float=frozenset(keep_float),
        float_precision=float_precision,
        checking=Checking(is_on=check, accept=accept),
    )
    with _Progress(progress) as shown:
        watcher = Watcher(images_bar=shown.images)
        return run_plan(
            Plan(source=_network(network), type=step), Path(out), watcher=watcher
        ).network


def build(
    source: Network | FilePath,
    *,
    out: FilePath | None = None,
    target: Target = "openvino",
    options: BuildOptions | None = None,
    trust: bool = False,
    weights_sha256: str | None = None,
    check: bool = True,
    accept: float | None = None,
    progress: Progress = False,
) -> Bundle:
    """Compile a typed ONNX, or all that a recipe says, into a bundle whose precision is proven.

    Args:
        source: ONNX from `export` or `quantize`, or path of a recipe (.toml), which says all else
            itself and does again only what changed.
        out: Folder of the bundle; a recipe names its own.
        target: What compiles and runs it: openvino, tensorrt or tensorrt-rtx.
        options: Limits of a TensorRT builder; None is its own.
        trust: As for `export`, of the checkpoint of a recipe.
        weights_sha256: As for `export`, of the checkpoint of a recipe.
        check: Whether the engine is held against the network's source.
        accept: Share of the pixels that has to have the source's label; None is as for `quantize`.
        progress: Shows how far the builder is.

    Returns:
        The bundle, for `load`, `stream`, `run`, `evaluate` and `compare`.

    Raises:
        RecipeError, PlanError: something does not go together.
        OnnxError: the ONNX file is damaged.
        EngineError: it cannot be compiled here, or compiles to another precision.
        AgreementError: the engine labels otherwise than the network's source.
        MissingExtraError: the target's library is not installed.
        BundleError: the folder holds files that are no bundle's.
        OutputError: the bundle cannot be written.
    """
    from fcn_trt.pipeline.recipe import build_recipe, is_recipe, read_recipe

    vouched = Trust(is_given=trust, sha256=weights_sha256)
    with _Progress(progress) as shown:
        watcher = Watcher(images_bar=shown.images, on_phase=shown.phase)
        if not isinstance(source, Network) and is_recipe(source):
            if target != "openvino" or options is not None or not check or accept is not None:
                raise ValueError("a recipe says everything itself; edit it, or build an ONNX file")
            folder = None if out is None else Path(out)
            recipe = read_recipe(Path(source))
            made = build_recipe(recipe, out=folder, trust=vouched, watcher=watcher)
        else:
            if vouched != NO_TRUST:
                raise ValueError("only a recipe has a checkpoint to trust; leave it out")
            if out is None:
                raise ValueError("an ONNX file needs the folder of the bundle: out=...")
            checking = Checking(is_on=check, accept=accept)
            step = Compile(target=target, options=options or BuildOptions(), checking=checking)
            plan = Plan(source=_network(source), compile=step)
            made = run_plan(plan, Path(out), watcher=watcher)
    return made.bundle


def load(bundle: Bundle | FilePath) -> Segmenter:
    """Load a bundle; use it in a `with` block, or close it.

    Args:
        bundle: From `build`, or its folder.

    Raises:
        BundleError: it is incomplete, altered, or for another machine.
        EngineError, MissingExtraError: it cannot run here.
    """
    from fcn_trt.runtime.segmenter import Segmenter

    return Segmenter.load(_folder(bundle))


def stream(
    bundle: Bundle | FilePath | Segmenter, source: str, *, view: bool = False, opacity: float = 0.5
) -> Iterator[Result]:
    """Segment a video as it comes.

    A file is segmented whole. Of a live source the newest frame is taken, and those that came in
    between are dropped. Everything is closed when the iterator ends or is closed.

    Args:
        bundle: From `build`, its folder, or a segmenter that is loaded already and stays open.
        source: A file, a folder, a glob, a camera such as "0", a URL such as "rtsp://...", a
            GStreamer pipeline, or "scene:SEED".
        view: Paint the classes over each frame, into the result's `view`.
        opacity: Share of the colours in it, between 0 and 1.

    Yields:
        Each frame with its label map; `captured_at` says when the source gave it.

    Raises:
        SourceError: the source cannot be opened or read.
        BundleError, EngineError, MissingExtraError: as for `load`.
    """
    from fcn_trt.runtime.segmenter import Segmenter
    from fcn_trt.video.channel import Reader
    from fcn_trt.video.source import open_source

    with ExitStack() as stack:
        frames = stack.enter_context(open_source(source))
        loaded = bundle if isinstance(bundle, Segmenter) else stack.enter_context(load(bundle))
        read = stack.enter_context(Reader(frames))
        read.start()
        stamps: deque[float] = deque()

        def feed() -> Iterator[Frame]:
            for captured_at, frame in read:
                stamps.append(captured_at)
                yield frame

        in_flight = 1 if frames.info.is_live else None
        for result in loaded.stream(feed(), in_flight=in_flight, copy=False):
            painted = loaded.render(*result, opacity=opacity) if view else None
            yield replace(result, captured_at=stamps.popleft(), view=painted)


def run(
    bundle: Bundle | FilePath | Segmenter,
    *,
    source: str,
    sinks: Sequence[str] = (),
    limit: int | None = None,
    opacity: float = 0.5,
    progress: Progress = False,
) -> LoopReport:
    """Segment a video into files, pictures, label maps or a window, until it ends.

    Args:
        bundle: From `build`, its folder, or a segmenter that is loaded already and stays open.
        source: As for `stream`.
        sinks: "FILE.mp4", "DIR/" for pictures, "labels:DIR" for label maps, or "window".
        limit: Frames at most; None takes all.
        opacity: Share of the colours, between 0 and 1.
        progress: Shows how many frames are done.

    Returns:
        Frames, rate, latency, and why it ended.

    Raises:
        SourceError: the source cannot be opened or read.
        SinkError: a sink cannot be written.
        LoopInterrupted: Ctrl-C; a KeyboardInterrupt that carries the report.
        BundleError, EngineError, MissingExtraError: as for `load`.
    """
    from fcn_trt.runtime.segmenter import Segmenter
    from fcn_trt.runtime.video import segment_video
    from fcn_trt.video.source import open_source

    with ExitStack() as stack:
        frames = stack.enter_context(open_source(source))
        loaded = bundle if isinstance(bundle, Segmenter) else stack.enter_context(load(bundle))
        shown = stack.enter_context(_Progress(progress))
        return segment_video(
            loaded,
            frames,
            sinks,
            limit=limit,
            opacity=opacity,
            on_progress=lambda now: shown.show("segmenting", now.frames, now.total),
        )


def evaluate(
    bundle: Bundle | FilePath | Segmenter,
    *,
    dataset: str,
    root: FilePath | None = None,
    label_map: Mapping[int, int] | None = None,
    limit: int | None = None,
    out: FilePath | None = None,
    progress: Progress = False,
) -> Evaluation:
    """Measure a bundle on labelled images, in the protocol of its model's family.

    Args:
        bundle: From `build`, its folder, or a segmenter that is loaded already and stays open.
        dataset: Name of a layout, such as "generic", "cityscapes" or "camvid"; "scene" draws its
            own images.
        root: Folder of the data set.
        label_map: Class of numbers in the label files of "generic", such as {255: 1} for masks; 255
            leaves a number out. The others are the classes themselves.
        limit: Images at most, spread evenly; None takes all.
        out: File of the result, from which a run that was stopped goes on; None keeps nothing.
        progress: Shows how many images are done.

    Returns:
        Mean IoU, accuracies and boundary F-score, over all and per class.

    Raises:
        ValueError: the data set is not known, needs a folder, or takes none.
        DatasetError: the data set has another layout, or the network predicts other classes.
        OutputError: `out` is something else, or cannot be written.
        BundleError, EngineError, MissingExtraError: as for `load`.
    """
    from fcn_trt.evaluation.measure import measure
    from fcn_trt.evaluation.request import EvaluationOptions, open_images, prepare_evaluation
    from fcn_trt.runtime.segmenter import Segmenter

    with ExitStack() as stack:
        loaded = bundle if isinstance(bundle, Segmenter) else stack.enter_context(load(bundle))
        folder = None if root is None else Path(root)
        images = open_images(dataset, folder, spec=loaded.spec, said=label_map)
        asked = EvaluationOptions(limit=limit)
        file = None if out is None else Path(out)
        plan = prepare_evaluation(loaded, images, options=asked, out=file)
        shown = stack.enter_context(_Progress(progress))
        shown.begin("evaluating", len(plan.indices), done=plan.record.resumed)
        measure(
            loaded,
            images,
            plan.protocol,
            plan.record,
            indices=plan.indices,
            on_image=shown.advance,
        )
        return plan.record.scores.evaluation()


def compare(
    first: Bundle | Network | FilePath,
    second: Bundle | Network | FilePath,
    *,
    images: FilePath,
    labels: FilePath | None = None,
    ignore: int | None = None,
    label_map: Mapping[int, int] | None = None,
    limit: int | None = None,
    size: Size | None = None,
    weights: str | None = None,
    progress: Progress = False,
) -> Comparison[None]:
    """Measure how alike two models label, each a checkpoint, an ONNX file or a bundle.

    Args:
        first: A bundle, an ONNX file of this package, a checkpoint, or the name of a model.
        second: The same.
        images: Folder of images, or a video.
        labels: Folder of their labels, a PNG of class indices for each; None compares without.
        ignore: A label that is left out, besides 255; None takes what the first one says.
        label_map: As for `evaluate`, of numbers in these files.
        limit: Images at most, spread evenly; None takes all.
        size: (height, width) of the input of checkpoints; None takes that of the other.
        weights: Of a name of a model.
        progress: Shows how many images are done.

    Returns:
        Shares of pixels with the same label, over all, near boundaries and per class, and the mean
        IoU of both where there are labels.

    Raises:
        ValueError: both are checkpoints and there is no size.
        SourceError, DatasetError: an image or its labels cannot be read.
        FcnTrtError: one cannot be opened, or the two have other classes.
    """
    from fcn_trt.comparison.images import ImageChoice
    from fcn_trt.comparison.measure import compare as measure
    from fcn_trt.comparison.predictor import open_predictors

    choice = ImageChoice(
        folder=Path(images),
        labels=None if labels is None else Path(labels),
        ignore=ignore,
        said=label_map,
        limit=limit,
    )
    choice.stills()  # what is missing there is said before engines are built
    names = (_name(first), _name(second))
    with (
        open_predictors(*names, size=size, weights=weights) as (a, b),
        _Progress(progress) as shown,
    ):
        found = choice.find(a.spec)
        shown.begin("comparing", len(found))
        return measure(a, b, found, draw=_no_picture, on_image=shown.advance)


def _no_picture(*_: object) -> None:
    """Keep nothing of the worst images besides their figures."""


def _network(network: Network | FilePath) -> Network:
    return network if isinstance(network, Network) else Network.read(Path(network))


def _folder(bundle: Bundle | FilePath) -> Path:
    return bundle.path if isinstance(bundle, Bundle) else Path(bundle)


def _name(model: Bundle | Network | FilePath) -> str:
    return str(model.path if isinstance(model, Bundle | Network) else model)


class _Progress(AbstractContextManager["_Progress"]):
    """A channel for progress: to a function, to a bar on stderr, or to nobody."""

    def __init__(self, wanted: Progress) -> None:
        self._call = None if isinstance(wanted, bool) else wanted
        self._bar: rich.progress.Progress | None = None
        if wanted is True:
            # Here, since a program that shows its own does without.
            from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

            from fcn_trt.console import PlainConsole, Words, progress

            columns = (Words(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._bar = progress(PlainConsole(stderr=True), *columns)
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._what, self._done, self._total = "", 0, 0

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, what: str, done: int, total: int | None) -> None:
        """Say how much is done of what there is."""
        if self._call is not None:
            self._call(what, done, total)
        elif self._bar is not None:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=total)
            self._bar.update(self._tasks[what], completed=done, total=total)

    def begin(self, what: str, total: int, *, done: int = 0) -> None:
        """Begin to count."""
        self._what, self._done, self._total = what, done, total
        self.show(what, done, total)

    def advance(self) -> None:
        """Count one."""
        self._done += 1
        self.show(self._what, self._done, self._total)

    def phase(self, phase: BuildPhase) -> None:
        """Show a phase of a TensorRT builder."""
        self.show(phase.name, phase.done, phase.total)

    @contextmanager
    def images(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """Count images, if there are any."""
        if total:
            self.begin(title, total)
        yield self.advance if total else lambda: None
