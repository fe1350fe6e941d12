"""Options that several commands share, and what they all do around their one call."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

import typer

from fcn_trt.calibration.amax import Method
from fcn_trt.cli import terminal
from fcn_trt.errors import MissingExtraError
from fcn_trt.precision.request import Quantisation
from fcn_trt.spec import NO_LABEL, FloatPrecision, Precision, Size, Spec, parse_size, read_spec

__all__ = [
    "BundleArgument",
    "CalibrationOption",
    "IgnoreOption",
    "ImagesOption",
    "JsonOption",
    "KeepOption",
    "LabelsOption",
    "MethodOption",
    "OptionalSize",
    "RebuildOption",
    "SizeOption",
    "Typing",
    "needing_export",
    "parse_method",
    "parse_precision",
    "parse_typing",
    "plain",
    "print_json",
    "rebuild_here",
    "require_labels",
    "type_network",
]

T = TypeVar("T")


def _size(text: str | Size) -> Size:
    """Parser of size options; typer hands a default through it, too."""
    try:
        return parse_size(text) if isinstance(text, str) else text
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


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
        "--images", help="Images such as the network will see, to find what fp16 cannot hold."
    ),
]
LabelsOption = Annotated[
    Path | None, typer.Option(help="Folder of their labels: a PNG of class indices for each.")
]
IgnoreOption = Annotated[
    int | None,
    typer.Option(min=0, max=NO_LABEL, help="Label left out besides 255, such as CamVid's 11."),
]
CalibrationOption = Annotated[
    Path | None, typer.Option(help="Calibration cache of int8 and fp8, from `fcn-trt calibrate`.")
]
MethodOption = Annotated[
    str | None, typer.Option(help=f"{', '.join(get_args(Method))}; by default as in the cache.")
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-float",
        help="Convolution to leave in floating point: its node's name, first or last; repeatable.",
    ),
]
BundleArgument = Annotated[Path, typer.Argument(help="Folder of the engine bundle.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing:
    """How a network is asked to be typed.

    Attributes:
        precision: What convolutions compute in; None leaves the network as it is.
        images: Folder of images on which fp16 is checked; None takes drawn streets.
        quantisation: Of int8 and fp8.
    """

    precision: Precision | None
    images: Path | None = None
    quantisation: Quantisation | None = None


def parse_typing(
    precision: str | None,
    *,
    images: Path | None = None,
    calibration: Path | None = None,
    method: str | None = None,
    keep: list[str] | None = None,
    float_precision: str | None = None,
    default_float: FloatPrecision = "fp16",
) -> Typing:
    """What --precision asks for, checked with what goes with it before any work begins.

    Args:
        precision: As given; None leaves a network as it is.
        images: As given.
        calibration: As given.
        method: As given.
        keep: As given.
        float_precision: As given.
        default_float: Type of what is not quantised, where none is given.
    """
    asked = parse_precision(precision)
    is_quantised = asked in ("int8", "fp8")
    for option, given, is_used, reason in (
        ("--images", images, asked == "fp16", "only --precision fp16 is checked on images"),
        ("--calibration", calibration, is_quantised, "only int8 and fp8 are calibrated"),
        ("--method", method, is_quantised, "only int8 and fp8 are calibrated"),
        ("--keep-float", keep or None, is_quantised, "only int8 and fp8 leave something in float"),
        ("--float", float_precision, is_quantised, "only int8 and fp8 leave something in float"),
    ):
        if given is not None and not is_used:
            raise typer.BadParameter(reason, param_hint=f"'{option}'")
    if not is_quantised:
        return Typing(precision=asked, images=images)
    if calibration is None:
        raise typer.BadParameter(
            f"{asked} needs a cache from `fcn-trt calibrate`", param_hint="'--calibration'"
        )
    if float_precision not in (None, "fp16", "fp32"):
        raise typer.BadParameter(
            f"{float_precision!r} is neither fp16 nor fp32", param_hint="'--float'"
        )
    how = Quantisation(
        calibration=calibration,
        method=parse_method(method),
        keep=frozenset(keep or ()),
        float_precision=cast("FloatPrecision | None", float_precision) or default_float,
    )
    return Typing(precision=asked, quantisation=how)


def require_labels(labels: Path | None, **given: object) -> None:
    """Refuse options that need --labels where there are none.

    Args:
        labels: As given.
        given: By the option's name with underscores, its value; None is not given.
    """
    wrong = [name for name, value in given.items() if value is not None]
    if labels is None and wrong:
        option = f"--{wrong[0].replace('_', '-')}"
        raise typer.BadParameter("it needs --labels", param_hint=f"'{option}'")


def parse_precision(text: str | None) -> Precision | None:
    """What --precision asks for."""
    if text is not None and text not in get_args(Precision):
        raise typer.BadParameter(
            f"{text!r} is none of {', '.join(get_args(Precision))}", param_hint="'--precision'"
        )
    return cast("Precision | None", text)


def parse_method(text: str | None) -> Method | None:
    """What --method asks for."""
    if text is not None and text not in get_args(Method):
        raise typer.BadParameter(
            f"{text!r} is none of {', '.join(get_args(Method))}", param_hint="'--method'"
        )
    return cast("Method | None", text)


def type_network(network: Path, out: Path, typing: Typing) -> Spec:
    """Write the typed ONNX of an FP32 one, and say what was kept in another type.

    Args:
        network: FP32 ONNX that carries a spec.
        out: The ONNX file to write.
        typing: What it shall be.
    """

    def call() -> Spec:
        from fcn_trt.calibration.images import RangeImages
        from fcn_trt.precision.type_network import type_network as write_typed

        precision = typing.precision or "fp32"
        frames = RangeImages.few(typing.images, read_spec(network).input_size)
        if precision != "fp16":
            how = typing.quantisation
            return write_typed(network, out, precision, images=frames, quantisation=how)
        terminal.step(f"{network} -> fp16, checked on {frames.name}")
        with terminal.count_bar("checking what fits fp16", len(frames)) as bar:
            return write_typed(network, out, precision, images=frames, on_image=bar)

    spec = needing_export(call)
    terminal.kept(spec.exceptions, spec.float_precision or spec.precision)
    return spec


def rebuild_here(bundle: Path) -> None:
    """Build a bundle again for this machine, unless it runs here as it is."""
    from fcn_trt.engine.build import rebuild
    from fcn_trt.engine.bundle import load_bundle
    from fcn_trt.engine.preflight import obstacle

    found = load_bundle(bundle)
    stands = obstacle(found)
    if stands is None or not stands.is_cured_by_rebuild:
        return
    terminal.step(f"building again: {stands.reason.partition(': ')[0]}")
    with terminal.build_bar() as bar:
        rebuild(found, on_phase=bar)


def needing_export(call: Callable[[], T]) -> T:
    """Import what needs torch and onnx, or say how to install them."""
    try:
        return call()
    except ModuleNotFoundError as error:
        if error.name == "cv2":  # a Jetson has JetPack's, which no extra brings
            raise MissingExtraError(
                "this command needs OpenCV's package cv2; `fcn-trt doctor` says what helps"
            ) from error
        raise MissingExtraError(
            f"this command needs the package {error.name}; install the export extra with "
            "`pip install 'fcn-trt[export]'`"
        ) from error


def print_json(value: Any) -> None:
    """Print a result for machines: paths as text, what is not a number as null."""
    typer.echo(json.dumps(plain(value), allow_nan=False))


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
