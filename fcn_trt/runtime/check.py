"""Every step is held against what the network's source itself labels, there and then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from fcn_trt.errors import AgreementError
from fcn_trt.spec import QUANTISED, Check, CheckedStep, Frame, LabelMap, Precision

if TYPE_CHECKING:
    from fcn_trt.network.reference import Reference

__all__ = ["FLOORS", "Labeller", "check", "floor_of"]

FLOORS: Mapping[Precision, float] = {
    "fp32": 0.9995,
    "fp16": 0.99,
    "bf16": 0.99,
    "int8": 0.95,
    "fp8": 0.95,
}
"""Shares of pixels that have to be labelled as by the source, on frames such as a network sees."""

DRAWN_FLOOR = 0.85
"""The same of int8 and fp8 on drawn frames, which they were mostly not calibrated for.

A network calibrated on CamVid has 91.8 % in int8 and 95.2 % in fp8 there, and 99.0 % and 99.6 % on
CamVid; one calibrated on drawn streets has 96.6 % in int8.
"""

_REMEDIES: Mapping[CheckedStep, str] = {
    "export": "",
    "type": (
        "export it with --images of your own, calibrate on such images, or leave convolutions in "
        "float, which `fcn-trt sensitivity` names"
    ),
    "build": "its ONNX was altered, or this machine computes it otherwise, or too much is asked",
    "load": "build it again on this machine with `fcn-trt inspect BUNDLE --rebuild`",
}


class Labeller(Protocol):
    """A function that labels a frame."""

    def __call__(self, frame: Frame, /) -> LabelMap:
        """Return the label map, of the frame's size."""


def check(
    step: CheckedStep,
    reference: Reference,
    label: Labeller,
    *,
    name: str,
    precision: Precision,
    accept: float | None = None,
    reason: Callable[[float], str] = lambda _: "",
) -> Check:
    """Hold a step's result against the source.

    Args:
        reference: What the source labels.
        label: Labels a frame with the result.
        name: What to call it in messages.
        precision: What it computes in, which says how much is needed.
        accept: Share of the pixels that is enough; None is that of `FLOORS`.
        reason: Called with the share where it is too low: what is the likeliest difference.

    Raises:
        AgreementError: too many pixels have another label.
    """
    agreement = reference.agreement(label)
    found = Check(
        step=step,
        against=reference.source,
        kind=reference.kind,
        frames=len(reference.frames),
        agreement=agreement,
        floor=floor_of(reference, precision) if accept is None else accept,
        classes=reference.classes,
    )
    if agreement < (found.floor or 0.0):
        likeliest = reason(agreement) or _REMEDIES[step]
        options = "" if step == "load" else "; --accept SHARE takes less, --no-check checks nothing"
        raise AgreementError(
            f"{name} does not label as its source: {found.describe()}"
            f"{f'; {likeliest}' if likeliest else ''}{options}"
        )
    return found


def floor_of(reference: Reference, precision: Precision) -> float:
    """Return the share of pixels that has to be labelled as by the source."""
    return DRAWN_FLOOR if reference.is_drawn and precision in QUANTISED else FLOORS[precision]
