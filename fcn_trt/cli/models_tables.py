"""What models there are and what they cost, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fcn_trt.cli.terminal import table

if TYPE_CHECKING:
    from rich.table import Table

    from fcn_trt.model.profile import Profile

__all__ = ["models_table", "profile_table", "weights_table"]


def models_table(models: list[dict[str, Any]]) -> Table:
    """What every model costs; the name tells the family and the stride."""
    sizes = list(models[0]["gmac"])
    return table(
        "Models, with GMAC at three sizes, and how many weights are published",
        ["model", "parameters", *sizes, "weights"],
        [
            [m["model"], f"{m['parameters']:,}", *map(str, m["gmac"].values()), str(m["weights"])]
            for m in models
        ],
    )


def weights_table(published: list[dict[str, Any]]) -> Table:
    """Published weights and how good they are."""
    return table(
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
            "x".join(map(str, stage.output_size)),
            f"{stage.weight_bytes / 1e6:.1f}",
            f"{stage.activation_bytes / 1e6:.1f}",
        ]
        for stage in cost.stages
    ]
    rows.append(["all", f"{cost.parameters:,}", f"{cost.gmac:.2f}", "", "", ""])
    rows.append(["with auxiliary head", f"{cost.parameters_with_auxiliary:,}", "", "", "", ""])
    size = "x".join(map(str, cost.size))
    return table(
        f"{cost.model} at {size}: {cost.gflops:.2f} GFLOPs (2 x GMAC)",
        ["stage", "parameters", "GMAC", "output", "weight MB", "written MB"],
        rows,
    )
