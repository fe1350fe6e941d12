"""How well a bundle predicts, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcn_trt.cli.terminal import percent, table

if TYPE_CHECKING:
    from rich.table import Table

    from fcn_trt.evaluation.scores import Evaluation

__all__ = ["figures_table"]


def figures_table(title: str, found: Evaluation) -> Table:
    """IoU, accuracy and boundary F-score: their means, and of each class, in percent."""
    rows = [
        ["mean", percent(found.miou), percent(found.mean_accuracy), percent(found.boundary_f)],
        ["all pixels", "", percent(found.pixel_accuracy), ""],
        *(
            [
                f"  {name}",
                percent(iou),
                percent(found.accuracy_per_class[name]),
                percent(found.boundary_f_per_class[name]),
            ]
            for name, iou in found.per_class.items()
        ),
    ]
    return table(title, ["%", "IoU", "accuracy", "boundary F"], rows)
