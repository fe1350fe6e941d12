"""Options that several commands share, and what they all do around their one call."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from fcn_trt.calibration.amax import METHODS, Method
from fcn_trt.cli import terminal
from fcn_trt.engine.manifest import Target
from fcn_trt.errors import AgreementError, PlanError
from fcn_trt.labels import LabelSet, find_label_set
from fcn_trt.spec import NO_LABEL, FloatPrecision, Precision, Size, parse_size

if TYPE_CHECKING:
    from fcn_trt.model.weights import Trust
    from fcn_trt.pipeline.plan import Checking, Plan, Type
    from fcn_trt.pipeline.run import Made

__all__ = [
    "AcceptOption",
    "BundleArgument",
    "CalibrationOption",
    "IgnoreOption",
    "ImagesOption",
    "JsonOption",
    "KeepOption",
    "LabelMapOption",
    "LabelsOption",
    "MethodOption",
    "NoCheckOption",
    "OptionalSize",
    "RebuildOption",
    "SizeOption",
    "TrustOption",
    "WeightsHashOption",
    "as_usage",
    "bad_option",
    "in_words_of_options",
    "missing_sentence",
    "parse_checking",
    "parse_label_map",
    "parse_label_set",
    "parse_method",
    "parse_precision",
    "parse_size_of",
    "parse_target",
    "parse_trust",
    "parse_type",
    "parse_word",
    "plain",
    "print_json",
    "rebuild_here",
    "refuse",
    "require_labels",
    "run_plan",
]


def bad_option(option: str, reason: str) -> typer.BadParameter:
    """What is raised where an option, such as "--size", or an argument is wrong."""
    return typer.BadParameter(reason, param_hint=f"'{option}'")


@contextmanager
def as_usage(option: str | None = None) -> Iterator[None]:
    """Refuse a value that something inside does not take as wrong usage."""
    try:
        yield
    except ValueError as error:
        hint = None if option is None else f"'{option}'"
        raise typer.BadParameter(str(error), param_hint=hint) from error


def _size(text: str | Size) -> Size:
    """Parser of size options; typer hands a default through it, too."""
    with as_usage():
        return parse_size(text) if isinstance(text, str) else text


SizeOption = Annotated[
    Any, typer.Option("--size", parser=_size, metavar="HxW", help="Height x width in pixels.")
]
OptionalSize = Annotated[
    Any, typer.Option(parser=_size, metavar="HxW", help="Makes the shape dynamic.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
RebuildOption = Annotated[
    bool,
    typer.Option(
        "--rebuild", help="First build a bundle that does not run here again, from its own ONNX."
    ),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="Folder or video such as the network will see, to find what fp16 cannot hold.",
    ),
]
LabelsOption = Annotated[
    Path | None, typer.Option(help="Folder of their labels: a PNG of class indices for each.")
]
IgnoreOption = Annotated[
    int | None,
    typer.Option(min=0, max=NO_LABEL, help="Label left out besides 255, such as CamVid's 11."),
]
LabelMapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label-map",
        metavar="NUMBER=CLASS",
        help="Class of a number in label files, such as 255=1; 7=255 leaves it out; repeatable.",
    ),
]
CalibrationOption = Annotated[
    Path | None, typer.Option(help="Calibration cache of int8 and fp8, from `fcn-trt calibrate`.")
]
MethodOption = Annotated[
    str | None, typer.Option(help=f"{', '.join(get_args(Method))}; by default as in the cache.")
]
AcceptOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of pixels that must be labelled as by the source."),
]
NoCheckOption = Annotated[
    bool, typer.Option("--no-check", help="Do not hold the result against its source.")
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-float",
        help="Convolution to leave in floating point: its node's name, first or last; repeatable.",
    ),
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Take a file that is named as a published one as that.")
]
WeightsHashOption = Annotated[
    str | None,
    typer.Option("--weights-sha256", help="SHA-256 that the checkpoint must have, all 64 digits."),
]
BundleArgument = Annotated[Path, typer.Argument(help="Folder of the engine bundle.")]


_NUMBER_IS_CLASS = re.compile(r"([0-9]{1,5})=([0-9]{1,5})")

OPTIONS = {
    "float_precision": "float",
    "compute_capabilities": "compute_capability",
    "workspace_bytes": "workspace",
    "tactic_bytes": "tactic_memory",
    "options": "target",
    "average": "ema",
}
"""The options of a plan's fields, where they are called something else."""


def _option(field: str) -> str:
    return f"--{OPTIONS.get(field, field).replace('_', '-')}"


def refuse(reason: str, **given: object) -> None:
    """Refuse the first of some options that was given.

    Args:
        reason: Why.
        given: By the field or the option's name with underscores, its value; None is not given.
    """
    for name, value in given.items():
        if value is not None:
            raise bad_option(_option(name), reason)


@contextmanager
def in_words_of_options() -> Iterator[None]:
    """Refuse what does not go together in a plan as wrong usage, by the options' names."""
    try:
        yield
    except PlanError as error:
        raise bad_option(_option(error.field), error.reason) from error


def parse_type(
    precision: str | None,
    *,
    images: Path | None = None,
    calibration: Path | None = None,
    method: str | None = None,
    keep: list[str] | None = None,
    float_precision: str | None = None,
    checking: Checking | None = None,
) -> Type | None:
    """What --precision asks for, checked with what goes with it before any work begins.

    Args:
        precision: As given; None leaves a network as it is.
        checking: From `parse_checking`.
    """
    asked = parse_precision(precision)
    given = {
        "images": images,
        "calibration": calibration,
        "method": parse_method(method),
        "keep_float": frozenset(keep or ()),
        "float_precision": parse_word(float_precision, get_args(FloatPrecision), "--float"),
    }
    if asked is None:
        refuse("it needs --precision", **{name: value or None for name, value in given.items()})
        return None
    with in_words_of_options():
        from fcn_trt.pipeline.plan import CHECKED, Type

        return Type(precision=asked, checking=checking or CHECKED, **cast(Any, given))


def parse_label_set(text: str | None) -> LabelSet | None:
    """The classes that --labels names."""
    with as_usage("--labels"):
        return None if text is None else find_label_set(text)


def parse_label_map(given: list[str] | None) -> dict[int, int] | None:
    """The classes of the numbers that --label-map names."""
    if given is None:
        return None
    found = [_NUMBER_IS_CLASS.fullmatch(text) for text in ",".join(given).split(",")]
    pairs = [(int(match[1]), int(match[2])) for match in found if match]
    if len(dict(pairs)) < len(found) or any(max(pair) > 65535 for pair in pairs):
        raise bad_option(
            "--label-map",
            f"{','.join(given)!r} is no list such as 255=1,254=2 of numbers up to 65535, each once",
        )
    return dict(pairs)


def parse_checking(accept: float | None, no_check: bool) -> Checking:
    """What --accept and --no-check ask for."""
    from fcn_trt.pipeline.plan import Checking

    with in_words_of_options():
        return Checking(is_on=not no_check, accept=accept)


def parse_trust(trust: bool, weights_sha256: str | None) -> Trust:
    """What --trust and --weights-sha256 vouch for."""
    from fcn_trt.model.weights import Trust

    with in_words_of_options():
        return Trust(is_given=trust, sha256=weights_sha256)


def require_labels(labels: Path | None, **given: object) -> None:
    """Refuse options that need --labels where there are none; `given` is as for `refuse`."""
    if labels is None:
        refuse("it needs --labels", **given)


def parse_precision(text: str | None) -> Precision | None:
    """What --precision asks for."""
    return cast("Precision | None", parse_word(text, get_args(Precision), "--precision"))


def parse_method(text: str | None) -> Method | None:
    """What --method asks for."""
    return cast("Method | None", parse_word(text, METHODS, "--method"))


def parse_target(text: str | None) -> Target:
    """What --target asks for."""
    return cast(Target, parse_word(text, get_args(Target), "--target") or "openvino")


def parse_word(text: str | None, known: tuple[str, ...], option: str) -> str | None:
    """One of some words, or nothing."""
    if text is not None and text not in known:
        raise bad_option(option, f"{text!r} is none of {', '.join(known)}")
    return text


def parse_size_of(text: str, option: str) -> Size:
    """The size that an option asks for, as (height, width) in pixels."""
    with as_usage(option):
        return parse_size(text)


def run_plan(plan: Plan, out: Path) -> Made:
    """Run what the options of a command ask for, and say how far it is and what was kept.

    Args:
        out: The ONNX file or the folder of the bundle.
    """
    from fcn_trt.pipeline.run import run

    with terminal.watch(says_steps=False) as watcher:
        return run(plan, out, watcher=watcher)


def rebuild_here(bundle: Path) -> None:
    """Build a bundle again for this machine, unless it runs here as it is."""
    from fcn_trt.engine.bundle import load_bundle
    from fcn_trt.engine.preflight import obstacle
    from fcn_trt.pipeline.run import rebuild
    from fcn_trt.runtime.segmenter import Segmenter

    found = load_bundle(bundle)
    stands = obstacle(found)
    if stands is None and found.manifest.is_pending:
        try:
            with Segmenter.load(bundle):
                return
        except AgreementError:
            reason = "it labels otherwise than its source"
    elif stands is None or not stands.is_cured_by_rebuild:
        terminal.step(
            "nothing to rebuild: " + ("it runs here" if stands is None else stands.reason)
        )
        return
    else:
        reason = stands.reason.partition(": ")[0]
    terminal.step(f"building again: {reason}")
    with terminal.watch(says_steps=False) as watcher:
        rebuild(found, watcher=watcher)


EXPORT = (
    *("torch", "torchvision", "onnx", "onnxruntime"),
    *("ml_dtypes", "google", "safetensors", "matplotlib"),
)
"""What the extra `export` brings."""


def missing_sentence(error: ImportError) -> str:
    """What to install for a module that is not there."""
    name = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and name == "cv2":
        # A Jetson has JetPack's, which no extra brings.
        return "this command needs OpenCV's package cv2; `fcn-trt doctor` says what helps"
    if isinstance(error, ModuleNotFoundError) and name in EXPORT:
        return (
            f"this command needs the package {name}; install the export extra with "
            "`pip install 'fcn-trt[export]'`"
        )
    return f"a library is missing or broken here ({error}); `fcn-trt doctor` says what helps"


def print_json(value: Any) -> None:
    """Print a result for machines: paths as text, what is not a number as null, all in ASCII."""
    typer.echo(json.dumps(plain(value), allow_nan=False).replace("\x7f", "\\u007f"))


def plain(value: Any) -> Any:
    """Turn a result into what JSON has; a dataclass becomes its fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
