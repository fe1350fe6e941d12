import builtins
import importlib.metadata
import platform
import sys

import pytest

from fcn_trt.doctor import examine

ARM_CPU = """processor\t: 0
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp bf16
CPU implementer\t: 0x41
"""
INTEL_CPU = "processor : 0\nflags : fpu sse avx2 avx512f avx512_vnni amx_tile\n"
ORIN = """# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed
# KERNEL_VARIANT: oot
"""
DRIVERS = [
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19", "535.104.05"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Rel", "560.35.03"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Rele", "540.4.0"),
]


@pytest.fixture
def found(tmp_path):
    """Examine a machine with these system files; returns what was found by its name."""

    def look(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return {finding.part: finding for finding in examine(tmp_path)}

    return look


def test_this_machine_is_described_as_it_is():
    findings = {finding.part: finding for finding in examine()}
    assert findings["Python"].found.startswith(f"{platform.python_version()} on ")
    assert platform.machine() in findings["CPU"].found
    assert findings["OpenVINO"].ok
    assert "FP32" in findings["OpenVINO"].found
    assert "FFMPEG" in findings["OpenCV"].found
    assert findings["export extra"].found.startswith("torch ")
    assert findings["cache"].found.endswith("fcn_trt")


def test_what_is_missing_comes_with_what_helps(found):
    for finding in found().values():
        assert finding.ok or finding.advice
        assert "\n" not in finding.found + finding.advice


@pytest.mark.parametrize(
    ("text", "vectors"),
    [
        (ARM_CPU, "NEON, NEON BF16"),
        (INTEL_CPU, "AVX2, AVX-512, VNNI, AMX"),
        ("hart : 0\nisa : rv64\n", "no vectors"),
        ("flags :\n", "no vectors"),
    ],
)
def test_vector_units_are_read_from_the_cpu_s_flags(found, text, vectors):
    cpu = found(proc__cpuinfo=text)["CPU"]
    assert cpu.found.endswith(f"cores, {platform.machine()}, {vectors}")


def test_machine_without_cpuinfo_is_examined_all_the_same(found):
    assert found()["CPU"].found.endswith(", no vectors")


def test_jetson_is_known_by_its_release(found):
    assert found()["Jetson Linux"].found == "no Jetson"
    release = found(etc__nv_tegra_release=ORIN)["Jetson Linux"].found
    assert release.startswith("R36 (release), REVISION: 4.3, GCID: 38968081, ")
    assert "\n" not in release


@pytest.mark.parametrize(("text", "version"), DRIVERS)
def test_driver_is_known_by_its_kernel_module(found, text, version):
    driver = found(proc__driver__nvidia__version=text)["NVIDIA driver"]
    assert (driver.found, driver.ok) == (version, True)


@pytest.mark.parametrize(
    ("library", "expected"),
    [("libcuda.so.1", ("libcuda.so.1", True)), (None, ("missing", False))],
)
def test_driver_of_a_container_is_known_by_its_library(found, monkeypatch, library, expected):
    monkeypatch.setattr("ctypes.util.find_library", {"cuda": library}.get)
    driver = found()["NVIDIA driver"]
    assert (driver.found, driver.ok) == expected


def test_packages_are_found_by_their_metadata(found, monkeypatch):
    def version(name):
        if name in ("tensorrt", "torch"):
            return "10.3.0"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    findings = found()
    assert (findings["TensorRT"].found, findings["TensorRT"].advice) == ("10.3.0", "")
    extra = findings["export extra"]
    assert extra.found == "torch 10.3.0, torchvision missing, onnx missing, safetensors missing"
    assert (extra.ok, extra.advice) == (False, "pip install 'fcn-trt[export]'")
    assert findings["PyCUDA"].advice.startswith("pip install 'fcn-trt[tensorrt]'")


@pytest.mark.parametrize(
    ("module", "part", "advice"),
    [
        ("cv2", "OpenCV", "on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"),
        ("openvino", "OpenVINO", "pip install --force-reinstall openvino"),
    ],
)
def test_library_that_cannot_be_loaded_is_a_finding(found, monkeypatch, module, part, advice):
    load = builtins.__import__

    def refuse(name, *arguments):
        if name == module:
            raise ImportError("libGL.so.1: cannot open shared object file")
        return load(name, *arguments)

    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", refuse)
    finding = found()[part]
    assert finding.found == "cannot be loaded: libGL.so.1: cannot open shared object file"
    assert (finding.ok, finding.advice) == (False, advice)


def test_openvino_without_a_cpu_device_is_a_finding(found, monkeypatch):
    class Core:
        """Stands in for a broken installation; nothing of OpenVINO is computed with it."""

        available_devices = ("GPU",)

    monkeypatch.setattr("fcn_trt.engine.openvino.openvino_core", Core)
    finding = found()["OpenVINO"]
    assert finding.found.endswith("but it has no CPU device here")
    assert not finding.ok
