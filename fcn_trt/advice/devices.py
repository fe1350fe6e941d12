"""Devices: what they can compute and move at most, and where the figures are from.

The figures stand in devices.json: dense peaks without sparsity and without DLA, in 1e12 operations
per second, two for each multiply-accumulate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, TypeAlias

from fcn_trt.spec import Precision

__all__ = ["Device", "Unit", "device", "devices"]

Unit: TypeAlias = Literal["lanes", "tensor cores"]
"""What computes: the lanes of each processor, one number at a time, or its tensor cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device, as its maker describes it.

    Attributes:
        name: As --device takes it.
        title: As it is sold.
        compute_capability: Of its GPU.
        memory_gb: Memory in 1e9 bytes; a Jetson shares it with everything else.
        bandwidth_gb_s: Peak of its memory in 1e9 bytes per second.
        tops: By precision, dense peak in 1e12 operations per second.
        source: Where the figures are from, and how they were derived.
        unsure: Names of figures that are derived or from memory, not read from a data sheet.
        note: What else is to be known before it is chosen.
        supported: Whether this package builds engines for it.
    """

    name: str
    title: str
    compute_capability: str
    memory_gb: float
    bandwidth_gb_s: float
    tops: Mapping[Precision, float]
    source: str
    unsure: tuple[str, ...] = ()
    note: str | None = None
    supported: bool = True

    def unit(self, precision: Precision) -> Unit:
        """What computes a convolution of this precision here.

        Source: CUDA C++ Programming Guide, arithmetic instructions: tensor cores from 7.0 on, for
        8-bit integers from 7.2 on.
        """
        capability = tuple(map(int, self.compute_capability.split(".")))
        if precision == "fp32":
            return "lanes"
        first = (7, 2) if precision == "int8" else (7, 0)
        return "tensor cores" if capability >= first else "lanes"


@cache
def devices() -> tuple[Device, ...]:
    """Every device that is known, Jetsons first."""
    text = resources.files("fcn_trt.advice").joinpath("devices.json").read_text(encoding="utf-8")
    return tuple(
        Device(**entry | {"unsure": tuple(entry.get("unsure", ()))}) for entry in json.loads(text)
    )


def device(name: str) -> Device:
    """The device of a name.

    Raises:
        ValueError: the name is not known.
    """
    known = {entry.name: entry for entry in devices()}
    if name not in known:
        raise ValueError(f"unknown device {name!r}; known are {', '.join(known)}")
    return known[name]
