"""How fast bundles and models are on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    JsonOption,
    bad_option,
    missing_sentence,
    parse_precision,
    parse_size_of,
    parse_target,
    print_json,
    refuse,
)
from fcn_trt.engine.manifest import Target
from fcn_trt.errors import EngineError
from fcn_trt.files import require_folder_of
from fcn_trt.spec import LADDER, Precision, Size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fcn_trt.bench.ceiling import Ceiling
    from fcn_trt.bench.ladder import Job, Outcome
    from fcn_trt.bench.result_file import ResultFile

__all__ = ["bench"]

SECONDS = 5.0
"""How long each way through a network is measured."""

CEILING_S = 2.0
"""How long each product of matrices is measured, and copying; before all networks and after."""


def bench(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET...",
            help="Bundles, recipes; a model's name stands for it with random weights.",
        ),
    ],
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HxW", help="Inputs of models; repeatable; 256x512, 512x1024, 1024x2048."
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="Types of models; repeatable; fp32 (on GPUs fp16) and int8."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="What runs models: openvino, tensorrt or tensorrt-rtx.")
    ] = None,
    frame: Annotated[
        str | None, typer.Option(metavar="HxW", help="Size of the frames; the network's input.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="How long each way through a network is measured.")
    ] = SECONDS,
    out: Annotated[
        Path | None, typer.Option(help="Write the results as JSON, after each one.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Folder for latency.png and roofline.png.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency, throughput and memory, per stage and end to end."""
    from fcn_trt.bench.ladder import jobs_of

    _check_usage(targets, size=size, precision=precision, target=target)
    frame_size = parse_size_of(frame, "--frame") if frame else None
    jobs = jobs_of(
        targets,
        sizes=[parse_size_of(text, "--size") for text in size or ()] or LADDER,
        precisions=[cast(Precision, parse_precision(text)) for text in precision or ()],
        target=parse_target(target),
    )
    if out is not None:
        require_folder_of(out)
    if plots is not None:
        import fcn_trt.bench.pictures  # noqa: F401  # what is missing is said before long work
    outcomes, ceilings, found = _measure(jobs, frame_size=frame_size, seconds=seconds, out=out)
    if out is not None:
        terminal.written(out, "the results")
    if plots is not None:
        from fcn_trt.bench.pictures import write_pictures

        for path in write_pictures(outcomes, plots):
            terminal.written(path, "a plot")
    _tell(outcomes, ceilings, found, as_json=as_json)


def _measure(
    jobs: Sequence[Job], *, frame_size: Size | None, seconds: float, out: Path | None
) -> tuple[list[Outcome], dict[Target, Ceiling], ResultFile]:
    """Measure each, and write all that is known after each; ceilings before and after all."""
    from fcn_trt.bench.environment import this_environment
    from fcn_trt.bench.ladder import Outcome, ceilings_of, held_against, run_job, types_of
    from fcn_trt.bench.result_file import to_result, write_result
    from fcn_trt.cli.bench_tables import bench_sentence

    environment = this_environment()
    types = types_of(jobs)
    ceilings = ceilings_of(types, seconds=CEILING_S, on_step=terminal.step)
    outcomes: list[Outcome] = []
    content: dict[str, Any] = {
        "benchmark": "bench",
        "command": shlex.join(["fcn-trt", *sys.argv[1:]]),
        "environment": environment,
        "results": outcomes,
    }
    for job in jobs:
        try:
            outcome = run_job(
                job,
                ceilings=ceilings,
                frame_size=frame_size,
                seconds=seconds,
                on_step=terminal.step,
            )
        except ModuleNotFoundError as error:
            # A package that is missing keeps only those from being measured that need it.
            outcome = Outcome(name=job.name, problem=missing_sentence(error))
        outcomes.append(outcome)
        if outcome.measurement is None:
            terminal.step(f"{job.name} could not be measured: {outcome.problem}")
        else:
            terminal.step(bench_sentence(outcome.measurement))
        if out is not None:
            write_result(out, **content)
    again = ceilings_of(types, seconds=CEILING_S, on_step=terminal.step)
    ceilings = {target: found.best_with(again[target]) for target, found in ceilings.items()}
    content["results"] = outcomes = held_against(outcomes, ceilings)
    if out is not None:
        write_result(out, **content)
    return outcomes, ceilings, to_result(**content)


def _tell(
    outcomes: list[Outcome], ceilings: Mapping[Target, Ceiling], found: ResultFile, *, as_json: bool
) -> None:
    """Print the results on stdout, and fail where one is missing."""
    from fcn_trt.cli.bench_tables import bench_parts

    if as_json:
        print_json(found)
    else:
        for part in bench_parts(outcomes, ceilings, found.environment):
            terminal.show(part)
    failed = [outcome for outcome in outcomes if outcome.problem]
    if failed:
        raise EngineError(
            f"{len(failed)} of {len(outcomes)} could not be measured, the first of them "
            f"{failed[0].name}: {failed[0].problem}"
        )


def _check_usage(targets: list[str], **given: object) -> None:
    """Refuse names of nothing, and options that would change nothing."""
    from fcn_trt.model.architecture import ARCHITECTURES
    from fcn_trt.pipeline.recipe import is_recipe

    models = [text for text in targets if not Path(text).is_dir() and not is_recipe(text)]
    for text in models:
        if text not in ARCHITECTURES:
            raise bad_option(
                "TARGET...",
                f"{text!r} is neither a bundle's folder, nor a recipe, nor one of the models that "
                "`fcn-trt models` lists",
            )
    if not models:
        refuse(
            "a bundle or recipe has its own; name a model, or leave it out",
            **{name: value or None for name, value in given.items()},
        )
