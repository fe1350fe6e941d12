"""The real NVRTC, which needs no GPU."""

from __future__ import annotations

import importlib
import re
import struct
import sys

import pytest

from fcn_trt.cuda.nvrtc import (
    KERNEL_FILES,
    compile_kernel,
    compile_kernels,
    compile_source,
    kernel_sources_sha256,
)
from fcn_trt.cuda.stage_launches import SIGNATURES
from fcn_trt.errors import EngineError, MissingExtraError
from tests.cuda.host_kernels import KERNELS, kernel_names

CAPABILITIES = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "11.0", "12.0")
CUDA_MACHINE = 190  # EM_CUDA, of the ELF header


@pytest.fixture(autouse=True)
def nvrtc():
    """NVRTC, or the reason why there is none."""
    try:
        module = importlib.import_module("cuda.bindings.nvrtc")
        module.nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs NVRTC, which has wheels for x86-64 Linux and Windows: {error}")
    return module


@pytest.fixture
def always_compiled(monkeypatch):
    """Take no kernel from what this run of the tests has compiled already."""
    monkeypatch.setattr("fcn_trt.cuda.nvrtc.compile_source", compile_source)
    compile_kernel.cache_clear()


FREQUENT = ("7.5", "8.7", "12.0")
"""The oldest, Orin, and the newest; `make test-all` compiles for all."""


@pytest.mark.parametrize(
    "capability",
    [c if c in FREQUENT else pytest.param(c, marks=pytest.mark.exhaustive) for c in CAPABILITIES],
)
def test_all_kernels_compile(capability):
    cubins = compile_kernels(capability)
    assert tuple(cubins) == KERNEL_FILES
    for cubin in cubins.values():
        assert cubin.startswith(b"\x7fELF")
        assert struct.unpack_from("<H", cubin, 18) == (CUDA_MACHINE,)
    for kernel in SIGNATURES:
        assert kernel.encode() in cubins[f"{kernel.partition('_')[0]}.cubin"]


@pytest.mark.usefixtures("always_compiled")
def test_the_same_source_makes_the_same_cubin():
    first = compile_kernel("overlay", "8.7")
    compile_kernel.cache_clear()
    assert compile_kernel("overlay", "8.7") == first
    assert compile_kernel("overlay", "8.7") != compile_kernel("overlay", "8.9")


def test_signatures_are_those_of_the_sources():
    letters = {"int": "i", "unsigned": "I", "float": "f"}
    found = {}
    for path in KERNELS.glob("*.cu"):
        source = path.read_text()
        for name in kernel_names(source):
            parameters = re.search(rf"\b{name}\((.*?)\)", source, re.DOTALL)
            assert parameters is not None
            found[name] = "".join(
                "P" if "*" in parameter else letters[parameter.split()[0]]
                for parameter in parameters[1].split(",")
            )
    assert found == SIGNATURES


def test_old_gpu_is_refused_in_one_sentence():
    message = (
        r"^NVRTC \d+\.\d+ cannot compile for compute capability 5\.3, but for 7\.5, .*12\.\d; "
        r"build for one of these, or install the cuda-bindings of the CUDA release that has it$"
    )
    with pytest.raises(EngineError, match=message):
        compile_kernel("overlay", "5.3")


@pytest.mark.parametrize("capability", ["", "8", "87", "8.7.1", "sm_87", "8.x", "8.10"])
def test_what_is_no_capability_is_refused(capability):
    with pytest.raises(ValueError, match=r"a compute capability is such as '8\.7', not"):
        compile_kernel("overlay", capability)


def test_source_that_does_not_compile_is_refused_with_nvrtcs_log():
    source = '#include <device.cuh>\nextern "C" __global__ void broken() { nothing = 1; }'
    with pytest.raises(EngineError) as caught:
        compile_source(source, "broken.cu", "8.7")
    message = str(caught.value)
    assert message.startswith("NVRTC does not compile broken.cu for sm_87: broken.cu(2): error:")
    assert 'identifier "nothing" is undefined' in message
    assert "\n" not in message


def test_hash_is_of_names_and_contents(tmp_path, monkeypatch):
    before = kernel_sources_sha256()
    assert re.fullmatch("[0-9a-f]{64}", before)
    for path in KERNELS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("fcn_trt.cuda.nvrtc._FOLDER", tmp_path)
    assert kernel_sources_sha256() == before
    (tmp_path / "device.cuh").write_text("// another")
    assert kernel_sources_sha256() != before
    (tmp_path / "device.cuh").unlink()
    (tmp_path / "devise.cuh").write_bytes((KERNELS / "device.cuh").read_bytes())
    assert kernel_sources_sha256() != before


@pytest.mark.usefixtures("always_compiled")
def test_missing_bindings_are_one_sentence_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    message = r"cannot be compiled here \(.*\); install NVRTC with `pip install 'fcn-trt\["
    with pytest.raises(MissingExtraError, match=message):
        compile_kernel("overlay", "8.7")
