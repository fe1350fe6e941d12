"""Options that several commands share, and what they all do around their one call."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fcn_trt import report
from fcn_trt.errors import MissingExtraError
from fcn_trt.spec import Precision, Size, Spec, parse_size, read_spec

__all__ = [
    "BundleArgument",
    "ImagesOption",
    "JsonOption",
    "OptionalSize",
    "RebuildOption",
    "SizeOption",
    "needing_export",
    "parse_precision",
    "plain",
    "print_json",
    "rebuild_here",
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
BundleArgument = Annotated[Path, typer.Argument(help="Folder of the engine bundle.")]


def parse_precision(text: str | None, images: Path | None = None) -> Precision | None:
    """What --precision asks for, checked with its --images before any work begins."""
    known: dict[str | None, Precision | None] = {None: None}
    known |= {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16"}
    if text not in known:
        raise typer.BadParameter(
            f"{text!r} is none of fp32, fp16, bf16", param_hint="'--precision'"
        )
    if images is not None and text != "fp16":
        raise typer.BadParameter(
            "only --precision fp16 is checked on images", param_hint="'--images'"
        )
    return known[text]


def type_network(network: Path, out: Path, precision: Precision, images: Path | None) -> Spec:
    """Write the typed ONNX of an FP32 one, and say what was kept in FP32.

    Args:
        network: FP32 ONNX that carries a spec.
        out: The ONNX file to write.
        precision: "fp32", "fp16" or "bf16".
        images: Folder of images on which fp16 is checked; None takes drawn streets.
    """

    def call() -> Spec:
        from fcn_trt.export.pipeline import type_network as write_typed
        from fcn_trt.range_images import RangeImages

        if precision != "fp16":
            return write_typed(network, out, precision)
        frames = RangeImages(folder=images, size=read_spec(network).input_size)
        report.step(f"{network} -> fp16, checked on {frames.name}")
        with report.count_bar("checking what fits fp16", len(frames)) as bar:
            return write_typed(network, out, precision, images=frames, on_image=bar)

    spec = needing_export(call)
    report.kept_in_fp32(spec.exceptions)
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
    report.step(f"building again: {stands.reason.partition(': ')[0]}")
    with report.build_bar() as bar:
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
