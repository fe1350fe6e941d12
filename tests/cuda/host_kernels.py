"""The CUDA kernels' sources, unchanged, compiled for the host by the C++ compiler."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import fcn_trt.cuda
from fcn_trt.cuda.stage_launches import SIGNATURES, Launch

__all__ = ["HostKernel", "host_kernel", "host_library", "kernel_names", "run_on_host"]

KERNELS = Path(fcn_trt.cuda.__file__).parent / "kernels"
HOST = Path(__file__).parent / "host"
OPTIONS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-Wno-unknown-pragmas")
ARGUMENT_TYPES = {"P": ctypes.c_void_p, "i": ctypes.c_int, "I": ctypes.c_uint, "f": ctypes.c_float}
"""By letter of PyCUDA's `Function.prepare`, which is that of `struct`."""


class HostKernel:
    """One kernel of a library that `host_library` made."""

    def __init__(self, library: Path, kernel: str) -> None:
        self._run = getattr(ctypes.CDLL(str(library)), f"host_{kernel}")
        self._run.restype = ctypes.c_char_p

    def launch(self, grid, block, *arguments, signature: str) -> None:
        """Run all threads, one after the other.

        Args:
            grid: (x, y, z) blocks.
            block: (x, y, z) threads.
            arguments: Numbers; pointers are addresses of host memory.
            signature: One letter per argument, as in PyCUDA's `Function.prepare`.

        Raises:
            RuntimeError: a thread did what a GPU stops at.
        """
        assert len(arguments) == len(signature), f"{len(arguments)} arguments for {signature!r}"
        values = [ARGUMENT_TYPES[t](v) for t, v in zip(signature, arguments, strict=True)]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        problem = self._run((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), pointers)
        if problem is not None:
            raise RuntimeError(problem.decode())


def run_on_host(launch: Launch) -> None:
    """Run what `DeviceStages` would launch; its addresses are those of host memory."""
    kernel, signature = host_kernel(launch.kernel), SIGNATURES[launch.kernel]
    kernel.launch(launch.grid, launch.block, *launch.arguments, signature=signature)


@functools.cache
def host_kernel(kernel: str) -> HostKernel:
    """A kernel by its own name, from whichever source defines it."""
    for source in sorted(KERNELS.glob("*.cu")):
        if kernel in kernel_names(source.read_text()):
            return HostKernel(host_library(source.stem), kernel)
    raise LookupError(f"no source in {KERNELS} has a kernel {kernel}")


def host_library(name: str) -> Path:
    """Compile kernels/<name>.cu as a shared library with one `host_<kernel>` for each kernel."""
    return compile_for_host((KERNELS / f"{name}.cu").read_text(), name)


def compile_for_host(source: str, name: str) -> Path:
    """Compile a kernel source, which is compiled again only if anything in it has changed."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler, to compile the CUDA kernels for the host")
    exports = "".join(f"HOST_KERNEL({kernel})\n" for kernel in kernel_names(source))
    text = f'#line 1 "{name}.cu"\n{source}\n{exports}'
    headers = [path.read_bytes() for path in sorted([*HOST.iterdir(), *KERNELS.glob("*.cuh")])]
    content = hashlib.sha256(b"\0".join([text.encode(), *headers])).hexdigest()
    library = Path(_folder().name) / f"{name}-{content[:16]}.so"
    if not library.exists():
        command = [compiler, *OPTIONS, f"-I{HOST}", f"-I{KERNELS}", "-x", "c++", "-"]
        made = library.with_suffix(".part")
        done = subprocess.run(
            [*command, "-o", str(made)], input=text, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        made.replace(library)
    return library


def kernel_names(source: str) -> list[str]:
    """The kernels that a source defines."""
    return re.findall(r'extern "C" __global__ void (?:__launch_bounds__\(.*?\)\s*)?(\w+)\(', source)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """One folder per process, gone at its end."""
    return tempfile.TemporaryDirectory(prefix="host_kernels")
