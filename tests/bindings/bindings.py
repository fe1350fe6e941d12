"""Type stubs of TensorRT releases that are not installed, made from their real bindings.

The wheel of the Python bindings is 1 MB and holds the real extension module; only NVIDIA's C++
libraries behind it are missing. A library that defines the few C functions it links to, and returns
nothing from them, makes the module importable, with every class, member and signature of that
release. pybind11-stubgen then writes down what is there. Nothing can be built or run with it.

Everything is kept in a cache folder: the wheels, and the stubs by what they were made from.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fcn_trt.files import atomic_folder, sha256
from tests.bindings import stub_source
from tests.bindings.releases import Release

__all__ = ["CACHE", "BindingsError", "OtherPlatformError", "UnreachableIndexError", "stubs"]

CACHE = Path(__file__).parents[2] / ".bindings"
TIMEOUT_S = 120

_C_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)


class BindingsError(Exception):
    """The bindings of a release cannot be had, so nothing can be said about it."""


class UnreachableIndexError(BindingsError):
    """pip reaches no package index."""


class OtherPlatformError(BindingsError):
    """No wheel is known for this machine or Python; the check is one for another."""


def stubs(release: Release, cache: Path = CACHE) -> Path:
    """A folder with `tensorrt_types.pyi`, as the package imports it while types are checked.

    It holds every class of the release, and `TensorRt`: the module as a value, so that
    `trt.BuilderFlag` of an argument `trt: TensorRt` is known to exist or not.

    Args:
        release: Which.
        cache: What was made before is taken from here, and what is made now is kept here.

    Raises:
        UnreachableIndexError: the wheel is not in the cache, and pip reaches no index.
        OtherPlatformError: no wheel is known for this machine or Python.
        BindingsError: a tool is missing, or the wheel is another one.
    """
    folder = cache / f"{release.wheel.replace('==', '-')}-{_python_tag()}-{_recipe()}"
    if not folder.is_dir():
        wheel = _download(release, cache / "wheels")
        with tempfile.TemporaryDirectory() as unpacked, atomic_folder(folder) as made:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked)
            _compile_libraries(release, Path(unpacked))
            _write_stubs(release, Path(unpacked), made)
    return folder


def _python_tag() -> str:
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def _recipe() -> str:
    """What the stubs are made with, as a short hash: our code and pybind11-stubgen."""
    digest = hashlib.sha256(importlib.metadata.version("pybind11-stubgen").encode())
    for source in (__file__, stub_source.__file__):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:12]


def _download(release: Release, folder: Path) -> Path:
    """The wheel for this Python, with the SHA-256 that is known of it."""
    expected = release.sha256.get(_python_tag())
    if expected is None or (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise OtherPlatformError(
            f"the bindings of {release.name} are known for {', '.join(release.sha256)} on Linux "
            f"x86_64, and this is {_python_tag()} on {sys.platform} {platform.machine()}; run the "
            "check there"
        )
    folder.mkdir(parents=True, exist_ok=True)
    pattern = f"{release.wheel.replace('-', '_').replace('==', '-')}-{_python_tag()}-*.whl"
    for wheel in folder.glob(pattern):
        if sha256(wheel) == expected:
            return wheel
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        requirements = Path(temporary, "requirements.txt")
        requirements.write_text(f"{release.wheel} --hash=sha256:{expected}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
        command += ["--retries=1", "--timeout=15", f"--dest={temporary}"]
        result = _run([*command, f"--requirement={requirements}"])
        if result.returncode != 0:
            reason = _last_line(result.stderr)
            if "connection" in result.stderr.lower():
                raise UnreachableIndexError(
                    f"pip reaches no package index for {release.wheel}: {reason}; check the network"
                )
            raise BindingsError(
                f"pip cannot download {release.wheel} with SHA-256 {expected}: {reason}; correct "
                "tests/bindings/releases.py"
            )
        (downloaded,) = Path(temporary).glob("*.whl")
        return downloaded.replace(folder / downloaded.name)


def _compile_libraries(release: Release, folder: Path) -> None:
    """Put libraries without content where the extension module looks for NVIDIA's."""
    gcc = shutil.which("gcc")
    if gcc is None:
        raise BindingsError(
            "gcc is not installed, which compiles what stands in for NVIDIA's libraries; install "
            "it, such as with `apt install gcc libc6-dev`"
        )
    source = folder / "nothing.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _C_FUNCTIONS))
    for library in release.libraries:
        result = _run([gcc, "-shared", "-fPIC", "-o", str(folder / library), str(source)])
        if result.returncode != 0:
            raise BindingsError(f"gcc cannot compile a library: {_last_line(result.stderr)}")


def _write_stubs(release: Release, unpacked: Path, out: Path) -> None:
    """Import the module in processes of their own, and write what is in it."""
    _read_bindings(
        release, unpacked, "-m", "pybind11_stubgen", "--ignore-all-errors", release.module
    )
    package = release.module.partition(".")[0]
    names = _read_bindings(release, unpacked, "-c", f"import {package}; print(*dir({package}))")
    raw = (unpacked / "stubs" / release.module.replace(".", "/")).with_suffix(".pyi")
    classes = stub_source.mended(raw.read_text())
    (out / f"{stub_source.CLASSES}.pyi").write_text(stub_source.classes_source(classes))
    (out / f"{stub_source.TYPES}.pyi").write_text(
        stub_source.types_source(classes, sorted(names.split()))
    )


def _read_bindings(release: Release, unpacked: Path, *arguments: str) -> str:
    """What Python prints where the bindings can be imported."""
    paths = {"LD_LIBRARY_PATH": str(unpacked), "PYTHONPATH": str(unpacked)}
    result = _run([sys.executable, *arguments], cwd=unpacked, environment=os.environ | paths)
    if result.returncode != 0:
        raise OtherPlatformError(
            f"the bindings of {release.name} cannot be read: {_last_line(result.stderr)}"
        )
    return result.stdout


def _run(
    command: list[str], *, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            cwd=cwd,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise BindingsError(f"{command[0]} took longer than {TIMEOUT_S} s; try again") from error


def _last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "no reason given")
