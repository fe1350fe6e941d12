"""From a recipe or an ONNX file to an engine bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    CalibrationOption,
    ImagesOption,
    JsonOption,
    KeepOption,
    MethodOption,
    Typing,
    needing_export,
    parse_typing,
    print_json,
    type_network,
)
from fcn_trt.engine.manifest import Target
from fcn_trt.engine.options import BuildOptions, parse_bytes
from fcn_trt.engine.tensorrt.progress import BuildPhase
from fcn_trt.errors import EngineError

if TYPE_CHECKING:
    from fcn_trt.engine.bundle import Bundle
    from fcn_trt.pipeline.run import RecipeBuild, StepReport

__all__ = ["build"]


def _memory(text: str | None) -> int | None:
    """Parser of options that limit memory."""
    try:
        return None if text is None else parse_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def build(
    source: Annotated[
        Path, typer.Argument(help="RECIPE.toml, or an ONNX file from export or quantize.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the bundle; a recipe names its own.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="openvino, tensorrt or tensorrt-rtx.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, fp16, bf16, int8 or fp8; by default as the ONNX is typed."),
    ] = None,
    calibration: CalibrationOption = None,
    method: MethodOption = None,
    keep_float: KeepOption = None,
    images: ImagesOption = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(help="GPU to compile for, such as 8.6; may be repeated (tensorrt-rtx)."),
    ] = None,
    workspace: Annotated[
        Any, typer.Option(parser=_memory, metavar="SIZE", help="Most scratch memory, as 512MiB.")
    ] = None,
    tactic_memory: Annotated[
        Any, typer.Option(parser=_memory, metavar="SIZE", help="Most memory for trying tactics.")
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="0 builds fastest, 5 searches longest.")
    ] = None,
    version_compatible: Annotated[
        bool | None, typer.Option("--version-compatible", help="Also run on later releases.")
    ] = None,
    hardware_compatibility: Annotated[
        str | None, typer.Option(help="ampere_plus or same_compute_capability.")
    ] = None,
    strip: Annotated[
        bool | None, typer.Option("--strip", help="Leave the weights out of the plan.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile a recipe or an ONNX file, prove its precision, and write an engine bundle."""
    limits = {
        "compute_capabilities": tuple(compute_capability) if compute_capability else None,
        "workspace_bytes": workspace,
        "tactic_bytes": tactic_memory,
        "optimization_level": optimization_level,
        "version_compatible": version_compatible,
        "hardware_compatibility": hardware_compatibility,
        "strip": strip,
    }
    given = {name: value for name, value in limits.items() if value is not None}
    if source.is_dir():
        raise typer.BadParameter(
            f"{source} is a folder; give a RECIPE.toml or an ONNX file", param_hint="'SOURCE'"
        )
    if source.suffix.lower() == ".toml":
        if given or out or target or precision or images or calibration or method or keep_float:
            raise typer.BadParameter(
                "a recipe says everything itself; edit it, or build an ONNX file",
                param_hint="'SOURCE'",
            )
        done = _from_recipe(source)
        bundle = done.bundle
        facts = {"steps": [_step_facts(step) for step in done.steps]}
    else:
        facts = {}
        if out is None:
            raise typer.BadParameter("an ONNX file needs it", param_hint="'--out'")
        compiler = _target(target)
        asked = parse_typing(
            precision,
            images=images,
            calibration=calibration,
            method=method,
            keep=keep_float,
            default_float="fp32" if compiler == "openvino" else "fp16",
        )
        bundle = _from_network(source, out, compiler, asked, _options(given))
    if as_json:
        print_json({"bundle": bundle.path, "manifest": bundle.manifest, **facts})
    else:
        from fcn_trt.engine.preflight import obstacle

        terminal.show(terminal.inspection_table(bundle, obstacle(bundle)))


def _from_recipe(path: Path) -> RecipeBuild:
    """Do the steps of a recipe whose inputs changed, and say which those are."""
    from fcn_trt.pipeline.recipe import read_recipe
    from fcn_trt.pipeline.run import Watcher, build_recipe

    recipe = read_recipe(path)
    with terminal.build_bar() as bar:
        watcher = Watcher(
            on_begin=lambda name, reason: terminal.step(f"{name} ({reason})"),
            on_step=_say_step,
            on_image=lambda done, total: bar(
                BuildPhase(name="checking what fits fp16", parent=None, done=done, total=total)
            ),
            on_phase=bar,
        )
        done = needing_export(lambda: build_recipe(recipe, watcher))
    terminal.step(done.describe())
    return done


def _say_step(step: StepReport) -> None:
    """Say what became of a step; why it was made was said as it began."""
    terminal.step(f"{step.name}: {step.duration_s:.1f} s" if step.made else step.describe())
    terminal.kept(step.kept, step.otherwise)


def _step_facts(step: StepReport) -> dict[str, Any]:
    return {key: getattr(step, key) for key in ("name", "made", "reason", "duration_s")}


def _target(text: str | None) -> Target:
    known: dict[str | None, Target] = {name: name for name in get_args(Target)}
    known[None] = "openvino"
    if text not in known:
        raise typer.BadParameter(
            f"{text!r} is none of {', '.join(get_args(Target))}", param_hint="'--target'"
        )
    return known[text]


def _options(given: dict[str, Any]) -> BuildOptions:
    try:
        return BuildOptions(**given)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _from_network(
    network: Path,
    out: Path,
    target: Target,
    typing: Typing,
    options: BuildOptions,
) -> Bundle:
    """Type an ONNX file where that is asked for, and compile it."""
    from fcn_trt.engine.build import build_engine, require_buildable
    from fcn_trt.engine.bundle import refuse_foreign_files
    from fcn_trt.files import temporary_folder

    refuse_foreign_files(out)
    if typing.precision is not None:
        # Before the long work of typing.
        require_buildable(target, typing.precision, options)
    with temporary_folder() as folder:
        typed = network
        if typing.precision is not None:
            typed = folder / network.name
            type_network(network, typed, typing)
        try:
            with terminal.build_bar() as bar:
                bundle = build_engine(typed, out, target=target, options=options, on_phase=bar)
        except EngineError as error:
            # The user knows the file that was given, not the typed one in between.
            raise EngineError(str(error).replace(str(typed), str(network))) from error
    terminal.written(out, "the bundle")
    return bundle
