"""The command line. Each command is one call into the package, and how its result is said.

Results go to stdout, people-text and progress to stderr. Exit status: 0 done; 1 an error that the
user can act on, in one sentence; 2 wrong usage; 130 Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

import typer

from fcn_trt import __version__, report
from fcn_trt.errors import FcnTrtError, MissingExtraError
from fcn_trt.labels import palette_array
from fcn_trt.spec import Precision, Size, parse_size

__all__ = ["main"]

app = typer.Typer(
    name="fcn-trt",
    help="FCN segmentation on live video: checkpoint, typed ONNX, engine bundle, label maps.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

T = TypeVar("T")

USAGE_ERROR = cast(type[Exception], typer.BadParameter.__base__)
"""click's UsageError; a newer typer carries a click of its own and does not export this class."""

LADDER = ("256x512", "512x1024", "1024x2048")
"""The sizes that costs are listed at: those of the published profiles."""


def _size(text: str | Size) -> Size:
    """Parser of size options; typer hands a default through it, too."""
    try:
        return parse_size(text) if isinstance(text, str) else text
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _precision(text: str | None) -> Precision | None:
    """What --precision asks for; checked before any work begins."""
    known: dict[str | None, Precision | None] = {None: None, "fp32": "fp32", "bf16": "bf16"}
    if text not in known:
        raise typer.BadParameter(f"{text!r} is neither fp32 nor bf16", param_hint="'--precision'")
    return known[text]


SizeOption = Annotated[
    Any, typer.Option("--size", parser=_size, metavar="HxW", help="Height x width in pixels.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
BundleArgument = Annotated[Path, typer.Argument(help="Folder of the engine bundle.")]


def main() -> None:
    """Run a command and end the process with its exit status."""
    # FFmpeg writes its own trouble to stderr; ours is the one sentence that says what to do.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    if threading.current_thread() is threading.main_thread():
        # A service that is stopped ends as by Ctrl-C: what was written so far can be opened.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        status = app(args=arguments, standalone_mode=False, prog_name="fcn-trt")
    except USAGE_ERROR as error:
        report.error(_usage_sentence(error))
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except (FcnTrtError, ValueError, OSError) as error:
        if debug:
            raise
        report.error(str(error))
        status = 1
    except ImportError as error:
        if debug:
            raise
        report.error(
            f"a library is missing or broken here ({error}); `fcn-trt doctor` says what helps"
        )
        status = 1
    if status == 130:
        report.interrupted()
    sys.exit(status or 0)


def _usage_sentence(error: Any) -> str:
    """What click says about wrong usage, and where the right usage stands."""
    command = error.ctx.command_path if error.ctx else "fcn-trt"
    return f"{error.format_message().rstrip('.')}; see `{command} --help`"


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options before the command; --debug, anywhere, shows where an error comes from."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def _needing_export(call: Callable[[], T]) -> T:
    """Import what needs torch and onnx, or say how to install them."""
    try:
        return call()
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"this command needs the package {error.name}; install the export extra with "
            "`pip install 'fcn-trt[export]'`"
        ) from error


def _print_json(value: Any) -> None:
    """Print a result for machines: paths as text, what is not a number as null."""
    typer.echo(json.dumps(_plain(value), allow_nan=False))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for what is made.")] = Path("demo_out"),
    size: SizeOption = "256x512",
    precision: Annotated[
        str | None, typer.Option(help="fp32 or bf16; bf16 by default where this CPU computes it.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Length of the video.")] = 150,
    as_json: JsonOption = False,
) -> None:
    """Do the whole main job with nothing but this package."""
    asked = _precision(precision)
    from fcn_trt.demo.job import run_demo

    with report.loop_bar("segmenting") as bar:
        done = _needing_export(
            lambda: run_demo(
                out,
                size=size,
                precision=asked,
                frame_count=frames,
                on_step=report.step,
                on_progress=bar,
            )
        )
    if as_json:
        _print_json(done)
    else:
        for part in report.demo_parts(done):
            report.show(part)


@app.command()
def models(
    weights: Annotated[bool, typer.Option("--weights", help="List published weights.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List every model: parameters, GMAC at three sizes, published weights."""
    known, profiles, published = _needing_export(_import_models)
    if weights:
        listed = [dataclasses.asdict(entry) for entry in published.registry()]
    else:
        listed = [
            {
                "model": name,
                "family": arch.family,
                "stride": arch.stride,
                "parameters": costs[0].parameters,
                "gmac": {size: round(c.gmac, 1) for size, c in zip(LADDER, costs, strict=True)},
                "weights": len(published.published_for(name)),
            }
            for name, arch in known.ARCHITECTURES.items()
            for costs in [[profiles.profile(arch, size=parse_size(size)) for size in LADDER]]
        ]
    if as_json:
        _print_json({"weights" if weights else "models": listed})
    else:
        report.show(report.weights_table(listed) if weights else report.models_table(listed))


def _import_models() -> tuple[Any, Any, Any]:
    from fcn_trt.export import architecture, profile, weights

    return architecture, profile, weights


@app.command()
def profile(
    model: Annotated[str, typer.Argument(help="Name of a model, as `fcn-trt models` lists them.")],
    size: SizeOption = "512x1024",
    as_json: JsonOption = False,
) -> None:
    """Count parameters, GMAC and bytes, per stage."""
    known, profiles, _ = _needing_export(_import_models)
    cost = profiles.profile(known.architecture(model), size=size)
    if as_json:
        _print_json(
            {
                "model": cost.model,
                "size": cost.size,
                "parameters": cost.parameters,
                "parameters_with_auxiliary": cost.parameters_with_auxiliary,
                "gmac": cost.gmac,
                "gflops": cost.gflops,
                "stages": cost.stages,
            }
        )
        return
    report.show(report.profile_table(cost))


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(help="Name of a model, a checkpoint that says what it is, or an .onnx.")
    ],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    size: SizeOption,
    weights: Annotated[
        str | None,
        typer.Option(help="Checkpoint, published name, or random[:SEED]; the best published one."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per inference.")] = 1,
    labels: Annotated[str | None, typer.Option(help="Label set, instead of the own one.")] = None,
    output: Annotated[str | None, typer.Option(help="Output of an .onnx to keep.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint, or an existing ONNX file, as FP32 ONNX that ends at its logits."""

    def run() -> Any:
        from fcn_trt.export.pipeline import export_network

        return export_network(
            model, out, size=size, weights=weights, batch=batch, labels=labels, output=output
        )

    spec = _needing_export(run)
    if as_json:
        _print_json({"network": out, "spec": spec.to_dict()})
    else:
        report.written(out, f"{spec.model} with weights {spec.weights}")


@app.command()
def build(
    network: Annotated[Path, typer.Argument(help="ONNX file from `fcn-trt export`.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    target: Annotated[str, typer.Option(help="openvino.")] = "openvino",
    precision: Annotated[
        str | None, typer.Option(help="fp32 or bf16; by default as the ONNX is typed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile an ONNX file, prove its precision, and write an engine bundle."""
    if target != "openvino":
        raise typer.BadParameter(f"{target!r} is not openvino", param_hint="'--target'")
    asked = _precision(precision)
    from fcn_trt.engine.openvino import build_openvino
    from fcn_trt.files import temporary_folder

    with temporary_folder() as folder:
        if asked is not None:
            typed = folder / network.name

            def run() -> None:
                from fcn_trt.export.pipeline import type_network

                type_network(network, typed, asked)

            _needing_export(run)
            network = typed
        bundle = build_openvino(network, out)
    if as_json:
        _print_json({"bundle": bundle.path, "manifest": bundle.manifest})
    else:
        report.written(out, "the bundle")
        report.show(report.inspection_table(bundle))


@app.command()
def run(
    bundle: BundleArgument,
    source: Annotated[
        str,
        typer.Option(help="Video, camera, folder, glob, URL, GStreamer, or scene[:SEED[:HxW]]."),
    ],
    sink: Annotated[
        list[str] | None,
        typer.Option(help="FILE.mp4, DIR/, labels:DIR, window or none; may be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Share of the colours.")] = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Segment live video."""
    from fcn_trt.runtime.segmenter import Segmenter
    from fcn_trt.video.loop import LoopInterrupted, run_loop
    from fcn_trt.video.sink import open_sink

    with ExitStack() as stack:
        frames = stack.enter_context(_open_source(source))
        segmenter = stack.enter_context(Segmenter.load(bundle))
        sinks = [
            stack.enter_context(
                open_sink(
                    uri,
                    render=partial(segmenter.render, opacity=opacity),
                    palette=palette_array(segmenter.spec.palette),
                    rate_fps=frames.info.rate_fps,
                )
            )
            for uri in sink or ["none"]
        ]
        report.step(segmenter.description)
        live = frames.info.is_live
        process = partial(segmenter.stream, in_flight=1) if live else segmenter.stream
        try:
            with report.loop_bar(frames.info.name) as bar:
                done = run_loop(frames, process, sinks, on_progress=bar, limit=limit)
        except LoopInterrupted as stop:
            done = stop.report
    if as_json:
        _print_json(done)
    else:
        report.show(report.loop_sentence(done))
    if done.stop == "interrupted":
        sys.exit(130)  # no typer.Exit: the sentence above has said it already


def _open_source(uri: str) -> Any:
    """Sources of `fcn_trt.video`, and the synthetic scene."""
    if uri == "scene" or uri.startswith("scene:"):
        from fcn_trt.demo.scene import open_scene

        return open_scene(uri)
    from fcn_trt.video.source import open_source

    return open_source(uri)


@app.command("eval")
def evaluate(
    bundle: BundleArgument,
    dataset: Annotated[str, typer.Option(help="camvid, generic, or scene (needs no --root).")],
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure mean IoU and pixel accuracy on labelled images."""
    from fcn_trt.demo.held_out import HeldOutScenes
    from fcn_trt.evaluate.datasets import DatasetName, open_dataset
    from fcn_trt.evaluate.protocol import check_classes
    from fcn_trt.evaluate.protocol import evaluate as measure
    from fcn_trt.runtime.segmenter import Segmenter

    known = (*get_args(DatasetName), "scene")
    if dataset not in known:
        raise typer.BadParameter(
            f"{dataset!r} is none of {', '.join(known)}", param_hint="'--dataset'"
        )
    if (dataset == "scene") != (root is None):
        needs = "takes none" if root else "needs the folder of the data set"
        raise typer.BadParameter(f"{dataset} {needs}", param_hint="'--root'")
    with Segmenter.load(bundle) as segmenter:
        size = segmenter.spec.input_size
        images = open_dataset(dataset, root) if root else HeldOutScenes(size=size)
        check_classes(images, segmenter.spec.classes)
        report.step(segmenter.description)
        with report.count_bar("evaluating", len(images)) as bar:
            result = measure(segmenter.stream, images, on_image=bar)
    if as_json:
        _print_json(result)
    else:
        report.show(report.evaluation_table(f"{bundle} on {result.images} images", result))


@app.command()
def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Say what a bundle is, after checking its files."""
    from fcn_trt.engine.bundle import load_bundle

    found = load_bundle(bundle)
    if as_json:
        _print_json(found.manifest)
    else:
        report.show(report.inspection_table(found))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can do, and what helps where something is missing."""
    from fcn_trt.doctor import examine

    findings = examine()
    if as_json:
        _print_json({"findings": findings})
    else:
        report.show(report.findings_table(findings))
