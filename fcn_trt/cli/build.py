"""From a recipe or an ONNX file to an engine bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    AcceptOption,
    CalibrationOption,
    ImagesOption,
    JsonOption,
    KeepOption,
    MethodOption,
    NoCheckOption,
    TrustOption,
    WeightsHashOption,
    as_usage,
    bad_option,
    in_words_of_options,
    parse_checking,
    parse_target,
    parse_trust,
    parse_type,
    parse_word,
    print_json,
    refuse,
    run_plan,
)
from fcn_trt.engine.options import BuildOptions, parse_bytes

if TYPE_CHECKING:
    from fcn_trt.model.weights import Trust
    from fcn_trt.pipeline.plan import StepName
    from fcn_trt.pipeline.run import Made

__all__ = ["build"]


def _memory(text: str | None) -> int | None:
    """Parser of options that limit memory."""
    with as_usage():
        return None if text is None else parse_bytes(text)


def build(
    source: Annotated[
        Path, typer.Argument(help="RECIPE.toml, or an ONNX file from export or quantize.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the bundle; a recipe names its own.")
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="ONNX file to begin a recipe with, such as a typed one from elsewhere."),
    ] = None,
    stop: Annotated[
        str | None, typer.Option(help="Last step of a recipe: export or type; --out is its ONNX.")
    ] = None,
    trust: TrustOption = False,
    weights_sha256: WeightsHashOption = None,
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
    accept: AcceptOption = None,
    no_check: NoCheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compile a recipe or an ONNX file, prove its precision, and write an engine bundle."""
    from fcn_trt.engine.bundle import Bundle
    from fcn_trt.network.file import Network
    from fcn_trt.pipeline.plan import Compile, Plan
    from fcn_trt.pipeline.recipe import is_recipe

    limits: dict[str, Any] = {
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
        raise bad_option("SOURCE", f"{source} is a folder; give a RECIPE.toml or an ONNX file")
    if is_recipe(source):
        typing = (precision, images, calibration, method, keep_float)
        if given or target or no_check or accept is not None or any(typing):
            raise bad_option(
                "SOURCE", "a recipe says everything itself; edit it, or build an ONNX file"
            )
        last = cast("StepName | None", parse_word(stop, ("export", "type"), "--stop"))
        made = _from_recipe(source, network, last, out, parse_trust(trust, weights_sha256))
    else:
        only = {"network": network, "stop": stop, "trust": trust or None}
        refuse("only a recipe takes it", **only, weights_sha256=weights_sha256)
        if out is None:
            raise bad_option("--out", "an ONNX file needs it")
        checking = parse_checking(accept, no_check)
        asked = parse_type(
            precision,
            images=images,
            calibration=calibration,
            method=method,
            keep=keep_float,
            checking=checking,
        )
        with in_words_of_options():
            chosen = parse_target(target)
            with as_usage():
                options = BuildOptions(**given)
            step = Compile(target=chosen, options=options, checking=checking)
            plan = Plan(source=Network.read(source), type=asked, compile=step)
        made = run_plan(plan, out)
        terminal.written(out, "the bundle")
    keys = ("name", "made", "reason", "duration_s")
    facts = {"steps": [{key: getattr(step, key) for key in keys} for step in made.steps]}
    if not isinstance(made.result, Bundle):
        if as_json:
            print_json({"network": made.path, "spec": made.spec.to_dict(), **facts})
        else:
            terminal.written(made.path, "the network")
    elif as_json:
        print_json({"bundle": made.path, "manifest": made.bundle.manifest, **facts})
    else:
        from fcn_trt.engine.preflight import obstacle

        terminal.show(terminal.inspection_table(made.bundle, obstacle(made.bundle)))


def _from_recipe(
    path: Path, network: Path | None, stop: StepName | None, out: Path | None, trust: Trust
) -> Made:
    """Do the steps of a recipe whose inputs changed, and say which those are."""
    from fcn_trt.pipeline.recipe import build_recipe, read_recipe

    recipe = read_recipe(path)
    if stop is not None and out is None:
        raise bad_option("--out", "--stop needs it, for the ONNX file")
    with terminal.watch(says_steps=True) as watcher:
        made = build_recipe(
            recipe, network=network, stop=stop, out=out, trust=trust, watcher=watcher
        )
    terminal.step(made.describe())
    return made
