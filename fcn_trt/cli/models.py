"""What models there are, and what they cost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import JsonOption, SizeOption, print_json
from fcn_trt.spec import LADDER, format_size

if TYPE_CHECKING:
    from rich.table import Table

    from fcn_trt.model.profile import Profile

__all__ = ["models", "models_table", "profile"]


def models(
    weights: Annotated[bool, typer.Option("--weights", help="List published weights.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List every model: parameters, GMAC at three sizes, published weights."""
    from fcn_trt.model.architecture import ARCHITECTURES
    from fcn_trt.model.profile import profile as cost_of
    from fcn_trt.model.weights import published_for, registry

    if weights:
        listed = [dataclasses.asdict(entry) for entry in registry()]
    else:
        listed = [
            {
                "model": name,
                "family": arch.family,
                "stride": arch.stride,
                "parameters": costs[0].parameters,
                "gmac": {format_size(cost.size): round(cost.gmac, 1) for cost in costs},
                "weights": len(published_for(name)),
            }
            for name, arch in ARCHITECTURES.items()
            for costs in [[cost_of(arch, size=size) for size in LADDER]]
        ]
    if as_json:
        print_json({"weights" if weights else "models": listed})
    else:
        terminal.show(weights_table(listed) if weights else models_table(listed))


def profile(
    model: Annotated[str, typer.Argument(help="Name of a model, as `fcn-trt models` lists them.")],
    size: SizeOption = "512x1024",
    as_json: JsonOption = False,
) -> None:
    """Count parameters, GMAC and bytes, per stage."""
    from fcn_trt.model.architecture import architecture
    from fcn_trt.model.profile import profile as cost_of

    cost = cost_of(architecture(model), size=size)
    if as_json:
        keys = ("model", "size", "parameters", "parameters_with_auxiliary", "gmac", "gflops")
        print_json({key: getattr(cost, key) for key in (*keys, "stages")})
    else:
        terminal.show(profile_table(cost))


def models_table(models: list[dict[str, Any]]) -> Table:
    """What every model costs; the name tells the family and the stride."""
    sizes = list(models[0]["gmac"])
    return terminal.table(
        "Models, with GMAC at three sizes, and how many weights are published",
        ["model", "parameters", *sizes, "weights"],
        [
            [m["model"], f"{m['parameters']:,}", *map(str, m["gmac"].values()), str(m["weights"])]
            for m in models
        ],
    )


def weights_table(published: list[dict[str, Any]]) -> Table:
    """Published weights and how good they are."""
    return terminal.table(
        "Published weights (--weights NAME); mIoU in percent, as published",
        ["name", "crop", "mIoU", "on"],
        [[w["name"], w["crop"], str(w["miou"]), w["measured_on"]] for w in published],
    )


def profile_table(cost: Profile) -> Table:
    """What a model costs, per stage."""
    rows = [
        [
            stage.name,
            f"{stage.parameters:,}",
            f"{stage.gmac:.2f}",
            format_size(stage.output_size),
            f"{stage.weight_bytes / 1e6:.1f}",
            f"{stage.activation_bytes / 1e6:.1f}",
        ]
        for stage in cost.stages
    ]
    rows.append(["all", f"{cost.parameters:,}", f"{cost.gmac:.2f}", "", "", ""])
    rows.append(["with auxiliary head", f"{cost.parameters_with_auxiliary:,}", "", "", "", ""])
    return terminal.table(
        f"{cost.model} at {format_size(cost.size)}: {cost.gflops:.2f} GFLOPs (2 x GMAC)",
        ["stage", "parameters", "GMAC", "output", "weight MB", "written MB"],
        rows,
    )
