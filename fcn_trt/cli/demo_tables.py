"""What the demo did, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcn_trt.cli.evaluate_tables import figures_table
from fcn_trt.cli.terminal import facts, loop_sentence, percent

if TYPE_CHECKING:
    from rich.table import Table

    from fcn_trt.demo.job import DemoReport

__all__ = ["demo_parts"]


def demo_parts(done: DemoReport) -> list[Table]:
    """What the demo did, how fast, how accurate, and where the pictures are."""
    evaluation = done.evaluation
    summary = facts(
        "fcn-trt demo",
        [
            ("network", f"fcn_r18-d8, {done.parameters / 1e6:.2f} M parameters: {done.network}"),
            ("engine", f"{done.bundle}; {done.description}"),
            ("made in", f"{done.export_s:.1f} s export, {done.build_s:.1f} s build"),
            ("speed", loop_sentence(done.loop)),
            (
                "accuracy",
                f"mean IoU {percent(evaluation.miou)} %, pixels "
                f"{percent(evaluation.pixel_accuracy)} % on {evaluation.images} unseen streets",
            ),
            ("same as PyTorch", f"{percent(done.agreement)} % of a frame's pixels"),
            ("video", str(done.video)),
            ("picture", f"{done.picture} (frame, prediction, exact labels)"),
        ],
    )
    return [summary, figures_table("per class", evaluation)]
