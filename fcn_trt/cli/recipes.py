"""The recipes that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import JsonOption, bad_option, print_json
from fcn_trt.spec import format_size

if TYPE_CHECKING:
    from rich.table import Table

    from fcn_trt.pipeline.packaged import PackagedRecipe

__all__ = ["recipes"]


def recipes(
    name: Annotated[str | None, typer.Argument(help="Recipe to copy; none lists all.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to copy it into, with the files that it uses.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the recipes in this package, or copy one to edit and build."""
    from fcn_trt.pipeline.packaged import copy_recipe, packaged_recipes

    if (name is None) != (out is None):
        raise bad_option("NAME" if name is None else "--out", "a copy needs both a NAME and --out")
    if name is not None and out is not None:
        recipe, *beside = copy_recipe(name, out)
        if as_json:
            print_json({"recipe": recipe, "beside": beside})
        else:
            terminal.written(recipe, "the recipe")
            terminal.step(f"build it with `fcn-trt build {recipe}`")
        return
    listed = list(packaged_recipes().values())
    if as_json:
        print_json({"recipes": [_facts(recipe) for recipe in listed]})
    else:
        terminal.show(_table(listed))


def _facts(recipe: PackagedRecipe) -> dict[str, object]:
    table = recipe.table
    return {
        "name": recipe.name,
        "device": table.device.name,
        "size": table.size,
        "precision": table.precision,
        "target": table.target,
        "needs": recipe.needs,
    }


def _table(listed: list[PackagedRecipe]) -> Table:
    """What each is for, and what it needs."""
    rows = [
        [
            recipe.name,
            table.device.name,
            format_size(table.size) if table.size else "",
            str(table.precision),
            ", ".join(recipe.needs),
        ]
        for recipe in listed
        for table in [recipe.table]
    ]
    made = terminal.table(
        "Recipes; `fcn-trt recipes NAME --out DIR` copies one",
        ["name", "device", "size", "precision", "needs"],
        rows,
    )
    for column in (made.columns[1], made.columns[4]):
        column.justify = "left"
    return made
