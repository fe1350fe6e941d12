"""What a builder is allowed and asked to do. Precision is no option: the ONNX graph carries it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pydantic import ConfigDict

from fcn_trt.limits import is_whole_number
from fcn_trt.spec import Precision

__all__ = [
    "LEAST_CAPABILITY",
    "RTX_CAPABILITIES",
    "SUPPORTED_TENSORRT",
    "TENSORRT_MAJORS",
    "BuildOptions",
    "HardwareCompatibility",
    "is_supported_tensorrt",
    "parse_bytes",
    "parse_capability",
    "require_capability",
]

HardwareCompatibility: TypeAlias = Literal["none", "ampere_plus", "same_compute_capability"]

LEAST_CAPABILITY: dict[Precision, str] = {"bf16": "8.0", "fp8": "8.9"}
"""First compute capability with the type; the others need no more than TensorRT 10 itself."""

RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""GPUs that TensorRT-RTX knows: GeForce and RTX cards, no Jetson and none for data centres."""

TENSORRT_MAJORS = range(10, 12)
"""Major versions of TensorRT that this package takes; TensorRT-RTX has its own."""

SUPPORTED_TENSORRT = f"{TENSORRT_MAJORS.start}.0 to {TENSORRT_MAJORS.stop - 1}.x"
"""Releases of TensorRT that this package takes, in words."""

_MOST_BYTES = (1 << 63) - 1
"""What the libraries take: limits are 64-bit integers with a sign there."""

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Limits and promises of one build; the manifest keeps them, so that a rebuild is the same.

    The openvino target has none of these and takes the defaults only.

    Attributes:
        compute_capabilities: GPUs to compile for, such as ("8.6", "8.9"). Empty is this machine's
            for tensorrt, and every one that has the network's type for tensorrt-rtx.
        workspace_bytes: Most that a layer may use for scratch, or None for all memory. On a Jetson
            this is memory that the CPU shares.
        tactic_bytes: Most that trying out an implementation may use while building, or None for
            the library's own limit.
        optimization_level: 0 builds fastest, 5 searches longest.
        version_compatible: The engine also runs on later releases of the same major version.
        hardware_compatibility: Other GPUs that the engine also runs on.
        strip: Leave the weights out of the plan; loading puts them back from the ONNX file.
        timing_cache: Keep what was timed for the next build on the same device.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    compute_capabilities: tuple[str, ...] = ()
    workspace_bytes: int | None = None
    tactic_bytes: int | None = None
    optimization_level: int = 3
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    strip: bool = False
    timing_cache: bool = True

    def __post_init__(self) -> None:
        capabilities = [parse_capability(text) for text in self.compute_capabilities]
        if len(set(capabilities)) < len(capabilities):
            raise ValueError(
                f"compute_capabilities {', '.join(self.compute_capabilities)} names one twice; "
                "name each once"
            )
        for name in ("workspace_bytes", "tactic_bytes"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"{name} is {limit}; it must be at least 1, or left out")
            if limit is not None and limit > _MOST_BYTES:
                raise ValueError(f"{name} is {limit}; it must be less than 2**63, or left out")
        if not 0 <= self.optimization_level <= 5:
            raise ValueError(f"optimization_level is {self.optimization_level}; it is 0 to 5")
        if self.hardware_compatibility not in get_args(HardwareCompatibility):
            raise ValueError(
                f"hardware_compatibility is {self.hardware_compatibility!r}; it is one of "
                f"{', '.join(get_args(HardwareCompatibility))}"
            )


def is_supported_tensorrt(version: str) -> bool:
    """Whether this package takes a release of TensorRT; "" is none."""
    major = version.partition(".")[0]
    return major.isdecimal() and int(major) in TENSORRT_MAJORS


def parse_bytes(text: str) -> int:
    """Read an amount of memory, such as "512MiB", "2 GiB" or a bare number of bytes.

    Raises:
        ValueError: the text has another form, or is not at least 1 byte.
    """
    match = re.fullmatch(r"(\d{1,18})\s*(B|KiB|MiB|GiB)?", text.strip(), re.ASCII)
    amount = int(match[1]) * _UNITS[match[2] or "B"] if match else 0
    if amount < 1:
        raise ValueError(f"{text!r} is no amount of memory, such as 512MiB or 2GiB")
    return amount


def parse_capability(text: str) -> tuple[int, int]:
    """Read a compute capability written with a point, such as "8.7".

    Returns:
        (major, minor), which compare in the right order.

    Raises:
        ValueError: the text has another form.
    """
    parts = text.split(".")
    if len(parts) != 2 or not all(map(is_whole_number, parts)):
        raise ValueError(f"compute capability {text!r} is not MAJOR.MINOR, such as 8.7")
    return int(parts[0]), int(parts[1])


def require_capability(precision: Precision, capability: str) -> None:
    """Check that GPUs of a compute capability have a type.

    Args:
        precision: Type that convolutions compute in.

    Raises:
        ValueError: they have not.

    Source: CUDA C++ Programming Guide, arithmetic throughput; TensorRT-RTX 1.7's own refusals.
    """
    least = LEAST_CAPABILITY.get(precision)
    if least is not None and parse_capability(capability) < parse_capability(least):
        raise ValueError(
            f"{precision} needs a GPU of compute capability {least} or more, but {capability} was "
            "asked for; choose fp16"
        )
