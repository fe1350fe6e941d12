"""What the convolutions of an engine compute in: counted, and held against what was asked.

An engine that silently became FP32 still runs and is only slow, so no build ends without this.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fcn_trt.engine.manifest import Proof
from fcn_trt.errors import EngineError
from fcn_trt.spec import Spec

__all__ = ["Convolution", "convolution_gmac", "prove"]

NAMED_LAYERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution of a compiled network.

    Attributes:
        name: Of its ONNX node.
        precision: Type it computes in, such as "fp16".
        gmac: 1e9 multiply-accumulates of one inference.
    """

    name: str
    precision: str
    gmac: float


def convolution_gmac(output: Sequence[int], kernel: Sequence[int]) -> float:
    """1e9 multiply-accumulates of one convolution.

    Args:
        output: Its output's shape, (N, C_out, H, W); of a transposed one its input's.
        kernel: Its weights' shape, (C_out, C_in / groups, kH, kW); of a transposed one
            (C_in, C_out / groups, kH, kW).
    """
    return math.prod(output) * math.prod(kernel[1:]) / 1e9


def prove(
    convolutions: Iterable[Convolution],
    spec: Spec,
    *,
    source: Literal["engine", "network"],
    builder: str,
) -> Proof:
    """Count convolutions by type, and check that each is of the type that the spec prescribes.

    Args:
        convolutions: All of the network.
        source: Where their types were read.
        builder: What compiled them, for the message.

    Raises:
        EngineError: one has another type, or there is none.
    """
    found = list(convolutions)
    wrong = [c for c in found if c.precision != spec.exceptions.get(c.name, spec.precision)]
    if wrong:
        named = ", ".join(f"{c.name} ({c.precision})" for c in wrong[:NAMED_LAYERS])
        others = f" and {len(wrong) - NAMED_LAYERS} more" if len(wrong) > NAMED_LAYERS else ""
        raise EngineError(
            f"{spec.precision} was asked for, but {builder} computes {len(wrong)} of {len(found)} "
            f"convolutions in another type: {named}{others}; choose another precision"
        )
    if not found:
        raise EngineError(f"{builder} found no convolution in {spec.model}; export it again")
    counts = dict(Counter(c.precision for c in found).most_common())
    gmac = {kind: sum(c.gmac for c in found if c.precision == kind) for kind in counts}
    return Proof(
        source=source,
        convolutions=counts,
        gmac={kind: round(value, 6) for kind, value in gmac.items()},
    )
