"""How much memory a network needs while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from fcn_trt.model.layers import Layer

__all__ = ["peak_activations"]


def peak_activations(counted: Sequence[Layer]) -> int:
    """The most activations that are alive at once, in elements.

    What a layer reads and writes is alive, and so is what a later layer still needs: the input of
    a residual block until its addition, and that of a head until its concatenation.

    Args:
        counted: The layers of a network in the order of the data.
    """
    return max(_peak(list(block)) for _, block in groupby(counted, key=_block))


def _block(layer: Layer) -> str:
    """The residual block of a layer, or its stage where it is in none."""
    parts = layer.name.split(".")
    return ".".join(parts[:3]) if layer.stage.startswith("layer") else layer.stage


def _peak(block: list[Layer]) -> int:
    # The last layer of a block that needs its input, besides the first.
    last = max(
        (i for i, layer in enumerate(block) if layer.kind in ("addition", "concatenation")),
        default=0,
    )
    most = 0
    for index, layer in enumerate(block):
        alive = layer.read + layer.written
        if 0 < index < last:
            # A projection reads the input itself, while the branch waits for it.
            is_projection = "downsample" in layer.name
            alive += block[index - 1].written if is_projection else block[0].read
        most = max(most, alive)
    return most
