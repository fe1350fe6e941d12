"""From FP32 ONNX and images to a calibration cache, and from there to TensorRT's and back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from fcn_trt.calibration.amax import CALIBRATION_IMAGES, DEFAULT_METHOD, Method
from fcn_trt.cli import terminal
from fcn_trt.cli.common import JsonOption, bad_option, parse_method, print_json
from fcn_trt.errors import CalibrationError, OutputError
from fcn_trt.files import require_folder_of, write_atomic
from fcn_trt.foreign import open_regular

if TYPE_CHECKING:
    from fcn_trt.calibration.cache import CalibrationCache

__all__ = ["calibrate"]

TENSORRT = "10.3.0"
"""Of JetPack 6.1 and 6.2, and of DeepStream 7.1."""


def calibrate(
    source: Annotated[
        Path, typer.Argument(help="FP32 ONNX file from `fcn-trt export`, or a cache (.json).")
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    images: Annotated[
        list[Path] | None,
        typer.Option(
            help="Images such as the network will see: a folder or a video; can be repeated."
        ),
    ] = None,
    scenes: Annotated[int, typer.Option(min=0, help="Drawn streets to measure, too.")] = 0,
    method: Annotated[
        str | None, typer.Option(help=f"{', '.join(get_args(Method))}; {DEFAULT_METHOD}.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"Images at most, spread evenly; {CALIBRATION_IMAGES}."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--import", help="TensorRT's calibration table to import.")
    ] = None,
    export: Annotated[
        str | None, typer.Option(help="Write a cache as a table: trt or deepstream.")
    ] = None,
    tensorrt: Annotated[
        str | None, typer.Option(help=f"TensorRT that reads the table; {TENSORRT}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how large a network's tensors get, for INT8 and FP8; goes on where it was stopped."""
    given = {
        "--images": images,
        "--scenes": scenes or None,
        "--method": method,
        "--limit": limit,
        "--import": table,
        "--export": export,
        "--tensorrt": tensorrt,
    }
    mode = _check_usage(source, {name for name, value in given.items() if value is not None})
    asked = parse_method(method) or DEFAULT_METHOD
    if export not in (None, "trt", "deepstream"):
        raise bad_option("--export", f"{export!r} is neither trt nor deepstream")
    _check_out(out, source, table)
    if mode == "export":
        found = _export(source, out, tensorrt or TENSORRT)
    elif mode == "method":
        found = _change(source, out, asked)
    elif mode == "import":
        found = _import(source, cast(Path, table), out)
    else:
        count = limit or CALIBRATION_IMAGES
        found = _measure(source, out, images or [], scenes, asked, count)
    _tell(found, out, as_json=as_json)
    if export == "deepstream":
        terminal.step(f"in nvinfer's [property] set network-mode=1 and int8-calib-file={out}")


def _check_out(out: Path, source: Path, table: Path | None) -> None:
    """Refuse to write over what is read, or over a file that is neither a cache nor a table."""
    require_folder_of(out)
    if out.resolve() in {path.resolve() for path in (source, table) if path is not None}:
        raise bad_option("--out", f"{out} is read; write another file")
    if out.suffix == ".json" and out.is_file() and not _is_cache(out):
        raise OutputError(f"{out} is there and no calibration cache; give another --out")


def _is_cache(path: Path) -> bool:
    """Whether a file begins as a calibration cache does."""
    try:
        with open_regular(path) as file:
            return b'"network_sha256"' in file.read(1 << 16)
    except OSError:
        return False


_ALLOWED = {
    "export": {"--export", "--tensorrt"},
    "method": {"--method"},
    "import": {"--import"},
    "measure": {"--images", "--scenes", "--method", "--limit"},
}
"""The options that each use of the command takes."""


def _check_usage(source: Path, given: set[str]) -> str:
    """Which use of the command the options make."""
    is_cache = source.suffix == ".json"
    if "--export" in given:
        mode = "export"
    elif is_cache:
        mode = "method"
    else:
        mode = "import" if "--import" in given else "measure"
    if wrong := sorted(given - _ALLOWED[mode]):
        beside = ", ".join(sorted(_ALLOWED[mode] & given)) or "these options"
        raise bad_option(wrong[0], f"{source} with {beside} does not take {' or '.join(wrong)}")
    if mode == "export" and not is_cache:
        raise bad_option("--export", f"{source} is no calibration cache (.json)")
    if mode == "method" and not given:
        raise bad_option("SOURCE", "a cache needs --method or --export")
    if mode == "measure" and not given & {"--images", "--scenes"}:
        raise bad_option("--images", "give --images DIR or VIDEO, or --scenes N")
    return mode


def _measure(
    network: Path, out: Path, folders: list[Path], scenes: int, method: Method, limit: int
) -> CalibrationCache:
    from fcn_trt import api
    from fcn_trt.calibration.cache import read_calibration
    from fcn_trt.calibration.images import RangeImages

    named = RangeImages(folders=tuple(folders), streets=scenes, size=(1, 1)).name
    with ExitStack() as stack:
        bars: list[Callable[[], None]] = []

        def show(what: str, done: int, total: int | None) -> None:
            if not bars:
                terminal.step(f"{what} {network} on {total} images: {named}")
                if done:
                    terminal.step(f"resumed after {done} of {total} images")
                bars.append(stack.enter_context(terminal.count_bar(what, total or 0, done=done)))
            else:
                bars[0]()

        path = api.calibrate(
            network,
            images=folders,
            out=out,
            streets=scenes,
            method=method,
            limit=limit,
            progress=show,
        )
    return read_calibration(path)


def _change(source: Path, out: Path, method: Method) -> CalibrationCache:
    from fcn_trt.calibration.cache import read_calibration, write_calibration

    cache = read_calibration(source).with_method(method)
    write_calibration(cache, out)
    return cache


def _export(source: Path, out: Path, version: str) -> CalibrationCache:
    from fcn_trt.calibration.cache import read_calibration
    from fcn_trt.calibration.table import format_table, table_of

    cache = read_calibration(source)
    algorithm: Any = "MinMaxCalibration" if cache.method == "minmax" else "EntropyCalibration2"
    write_atomic(out, format_table(table_of(cache.amaxes(), version, algorithm)).encode())
    return cache


def _import(network: Path, table: Path, out: Path) -> CalibrationCache:
    from fcn_trt.calibration.cache import write_calibration
    from fcn_trt.calibration.calibrate import measured_tensors, today
    from fcn_trt.calibration.table import (
        imported_calibration,
        known_names,
        read_table,
        require_names,
    )
    from fcn_trt.network.contract import load_network

    model, spec = load_network(network)
    found = read_table(table)
    require_names(found, known_names(model.graph), table)
    missing = [name for name in measured_tensors(model.graph) if name not in found.amaxes]
    if missing:
        raise CalibrationError(
            f"{table} does not say how large {missing[0]!r} gets, which a convolution or an "
            "addition reads; it is of another network, so calibrate this one on images"
        )
    cache = imported_calibration(
        model, spec, found.amaxes, name=f"TensorRT {found.version}, {table.name}", created=today()
    )
    write_calibration(cache, out)
    return cache


def _tell(cache: CalibrationCache, out: Path, *, as_json: bool) -> None:
    fine = sum(tensor.histogram is not None for tensor in cache.tensors.values())
    if as_json:
        print_json(
            {
                "calibration": out,
                "model": cache.model,
                "tensors": len(cache.tensors),
                "histograms": fine,
                "images": cache.images,
                "method": cache.method,
            }
        )
    else:
        terminal.show(
            terminal.facts(
                f"calibration of {cache.model}",
                [
                    ("tensors", f"{len(cache.tensors)}, {fine} of them with a histogram"),
                    ("images", f"{cache.images} ({cache.images_name})"),
                    ("method", cache.method),
                    ("file", str(out)),
                ],
            )
        )
