"""The kernels are compiled for a GPU that need not be here: NVRTC works without any.

Source: NVIDIA NVRTC documentation, `nvrtcCompileProgram` and `nvrtcGetCUBIN`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from fcn_trt.errors import EngineError, MissingExtraError

__all__ = [
    "KERNEL_FILES",
    "compile_kernel",
    "compile_kernels",
    "kernel_sources_sha256",
    "known_capabilities",
]

KERNEL_FILES = ("preprocess.cubin", "decode.cubin", "overlay.cubin")
"""What `compile_kernels` makes: one file for each stage."""

_FOLDER = Path(__file__).parent / "kernels"


def compile_kernels(capability: str) -> dict[str, bytes]:
    """Compile every kernel for one GPU architecture.

    Args:
        capability: Compute capability, such as "8.7".

    Returns:
        Cubins by their file names, `KERNEL_FILES`.

    Raises:
        MissingExtraError: cuda-bindings is not installed, or finds no NVRTC.
        EngineError: NVRTC does not know the architecture, or does not take a source.
    """
    return {file: compile_kernel(Path(file).stem, capability) for file in KERNEL_FILES}


@functools.cache
def compile_kernel(name: str, capability: str) -> bytes:
    """Compile one source for one GPU architecture; a second time in a process costs nothing.

    Args:
        name: "preprocess", "decode" or "overlay".
        capability: As for `compile_kernels`.

    Returns:
        The cubin.

    Raises:
        MissingExtraError, EngineError: As for `compile_kernels`.
    """
    return compile_source((_FOLDER / f"{name}.cu").read_text(), f"{name}.cu", capability)


def kernel_sources_sha256() -> str:
    """SHA-256 over names and contents of all sources, 64 lower-case hex digits.

    A bundle carries it, so that kernels of an older source are seen.
    """
    digest = hashlib.sha256()
    for path in sorted(_FOLDER.glob("*.cu*")):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def known_capabilities() -> tuple[str, ...]:
    """Compute capabilities that this NVRTC compiles for.

    Raises:
        MissingExtraError: As for `compile_kernels`.
    """
    nvrtc = _load_nvrtc()
    known = _result(nvrtc, nvrtc.nvrtcGetSupportedArchs(), "list architectures")
    return tuple(f"{number // 10}.{number % 10}" for number in known)


def compile_source(source: str, file: str, capability: str) -> bytes:
    """Compile CUDA C++ that may include the kernels' own headers.

    Args:
        source: The code.
        file: What to call it in messages.
        capability: As for `compile_kernels`.

    Raises:
        MissingExtraError, EngineError: As for `compile_kernels`.
    """
    nvrtc = _load_nvrtc()
    architecture = _architecture(nvrtc, capability)
    headers = sorted(_FOLDER.glob("*.cuh"))
    program = _result(
        nvrtc,
        nvrtc.nvrtcCreateProgram(
            source.encode(),
            file.encode(),
            len(headers),
            [path.read_bytes() for path in headers],
            [path.name.encode() for path in headers],
        ),
        f"start on {file}",
    )
    try:
        return _cubin(nvrtc, program, file, architecture)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _load_nvrtc() -> ModuleType:
    try:
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        nvrtc.nvrtcVersion()  # the library itself is loaded by the first call
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError(
            f"CUDA kernels cannot be compiled here ({_first_line(str(error))}); install NVRTC with "
            "`pip install 'fcn-trt[tensorrt-rtx]'`; on a Jetson it comes with JetPack's CUDA"
        ) from error
    return nvrtc


def _architecture(nvrtc: Any, capability: str) -> int:
    """The capability as NVRTC counts it: 87 for "8.7"."""
    major, _, minor = capability.partition(".")
    if not (major.isdecimal() and len(minor) == 1 and minor.isdecimal() and capability.isascii()):
        raise ValueError(f"a compute capability is such as '8.7', not {capability!r}")
    if capability not in known_capabilities():
        version = "{}.{}".format(*_result(nvrtc, nvrtc.nvrtcVersion(), "tell its version"))
        names = ", ".join(known_capabilities())
        raise EngineError(
            f"NVRTC {version} cannot compile for compute capability {capability}, but for {names}; "
            "build for one of these, or install the cuda-bindings of the CUDA release that has it"
        )
    return int(major + minor)


def _cubin(nvrtc: Any, program: Any, file: str, architecture: int) -> bytes:
    options = [f"--gpu-architecture=sm_{architecture}".encode(), b"--std=c++17"]
    (code,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise EngineError(
            f"NVRTC does not compile {file} for sm_{architecture}: {_log(nvrtc, program) or code}; "
            "reinstall fcn-trt if its kernels were changed"
        )
    size = _result(nvrtc, nvrtc.nvrtcGetCUBINSize(program), f"give the size of {file}'s cubin")
    cubin = bytearray(size)
    _result(nvrtc, nvrtc.nvrtcGetCUBIN(program, cubin), f"give {file}'s cubin")
    return bytes(cubin)


def _log(nvrtc: Any, program: Any) -> str:
    """What NVRTC says, as one line."""
    size = _result(nvrtc, nvrtc.nvrtcGetProgramLogSize(program), "give the size of its log")
    log = bytearray(size)
    _result(nvrtc, nvrtc.nvrtcGetProgramLog(program, log), "give its log")
    return " ".join(bytes(log).rstrip(b"\0").decode(errors="replace").split())


def _result(nvrtc: Any, answer: tuple[Any, ...], work: str) -> Any:
    """The value of a call's answer, which is the status and at most one value."""
    status, *values = answer
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        (_, text) = nvrtc.nvrtcGetErrorString(status)
        raise EngineError(f"NVRTC cannot {work}: {text.decode()}")
    return values[0] if len(values) == 1 else tuple(values)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].rstrip(".") or "no reason given"
