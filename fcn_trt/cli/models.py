"""What models there are, and what they cost."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import JsonOption, SizeOption, print_json
from fcn_trt.cli.models_tables import models_table, profile_table, weights_table
from fcn_trt.spec import parse_size

__all__ = ["models", "profile"]

LADDER = ("256x512", "512x1024", "1024x2048")
"""The sizes that costs are listed at: those of the published profiles."""


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
                "gmac": {size: round(c.gmac, 1) for size, c in zip(LADDER, costs, strict=True)},
                "weights": len(published_for(name)),
            }
            for name, arch in ARCHITECTURES.items()
            for costs in [[cost_of(arch, size=parse_size(size)) for size in LADDER]]
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
        print_json(
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
    terminal.show(profile_table(cost))
