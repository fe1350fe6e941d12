"""What the doctor says of made-up machines, with the packages and files that they would have."""

from __future__ import annotations

import builtins
import platform
import subprocess
import sys
import time
from dataclasses import replace

import cv2
import pytest

from fcn_trt.doctor import examine
from fcn_trt.machine import Gpu, Machine

ARM_CPU = """processor\t: 0
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp bf16
CPU implementer\t: 0x41
"""
INTEL_CPU = "processor : 0\nflags : fpu sse avx2 avx512f avx512_vnni amx_tile\n"

ORIN = Machine(
    gpu=Gpu(name="Orin", compute_capability="8.7", memory_bytes=7989432320, integrated=True),
    cuda="12.6",
    driver="540.4.0",
    board="NVIDIA Jetson Orin Nano Developer Kit Super",
    jetson_linux="36.4.3",
    jetpack="6.2",
    power_mode="MAXN_SUPER",
    power_modes={0: "15W", 1: "25W", 2: "MAXN_SUPER", 3: "7W"},
    libraries={"tensorrt": "10.3.0", "pycuda": "2026.1", "cuda-bindings": "12.9.10"},
)
DESKTOP = Machine(
    gpu=Gpu(
        name="NVIDIA GeForce RTX 4070",
        compute_capability="8.9",
        memory_bytes=12 << 30,
        integrated=False,
    ),
    cuda="13.0",
    driver="580.142",
    libraries={
        "tensorrt_rtx": "1.7.1.116",
        "tensorrt": "11.4.0.106",
        "pycuda": "2026.1",
        "cuda-bindings": "13.5.0",
    },
)
NO_GPU = Machine(
    gpu_problem="no NVIDIA driver: libcuda.so.1: cannot open shared object file",
    libraries={"tensorrt_rtx": "1.7.1.116"},
)
H200 = replace(DESKTOP.gpu, name="NVIDIA H200", compute_capability="9.0") if DESKTOP.gpu else None
WITHOUT_GSTREAMER = pytest.mark.skipif(
    "YES" in cv2.getBuildInformation().partition("GStreamer:")[2][:40],
    reason="needs an OpenCV without GStreamer, such as pip's",
)


@pytest.fixture
def system(tmp_path):
    """Put files where the system has them; returns the root."""

    def put(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return put


@pytest.fixture
def found(tmp_path):
    """Examine a machine; returns the findings by part."""

    def look(machine=NO_GPU):
        return {finding.part: finding for finding in examine(tmp_path, machine)}

    return look


@pytest.fixture
def system_python(tmp_path, monkeypatch):
    """A folder of the system's own Python with these modules, seen by this environment or not."""

    def make(*modules, seen=False):
        folder = tmp_path / "usr/lib/python3.10/dist-packages"
        for module in modules:
            (folder / module).mkdir(parents=True)
        if seen:
            monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])

    return make


@pytest.fixture
def pip_installed(tmp_path, monkeypatch):
    """Packages that pip put into an environment's site-packages, by their metadata."""

    def install(**versions):
        folder = tmp_path / "environment/site-packages"
        for name, version in versions.items():
            info = folder / f"{name}-{version}.dist-info"
            info.mkdir(parents=True)
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            (info / "METADATA").write_text(text)
        monkeypatch.syspath_prepend(str(folder))

    return install


def refuse_import(monkeypatch, module, error):
    load = builtins.__import__

    def refuse(name, *arguments):
        if name == module:
            raise error
        return load(name, *arguments)

    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", refuse)


class TestAnyMachine:
    def test_this_one_is_described_as_it_is(self):
        findings = {finding.part: finding for finding in examine()}
        assert findings["Python"].found.startswith(f"{platform.python_version()} on ")
        assert platform.machine() in findings["CPU"].found
        assert findings["OpenVINO"].ok
        assert "FP32" in findings["OpenVINO"].found
        assert "FFMPEG" in findings["OpenCV"].found
        assert findings["export extra"].found.startswith("torch ")
        assert findings["cache"].found.endswith("fcn_trt")
        assert findings["target openvino"].found == "builds and runs here"

    def test_a_look_takes_no_more_than_a_few_seconds(self):
        examine()
        start = time.perf_counter()
        examine()
        assert time.perf_counter() - start < 5

    def test_a_look_loads_neither_tensorrt_nor_pycuda_nor_torch(self):
        heavy = ("tensorrt", "tensorrt_rtx", "pycuda", "torch", "onnx")
        code = (
            "import sys; from fcn_trt.doctor import examine; examine(); "
            f"print([n for n in {heavy!r} if n in sys.modules])"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.stdout == "[]\n", done.stderr

    @pytest.mark.parametrize("machine", [Machine(), NO_GPU, DESKTOP, ORIN])
    def test_what_is_missing_comes_with_what_helps(self, found, machine):
        for finding in found(machine).values():
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
    def test_vector_units_are_read_from_the_cpu_s_flags(self, found, system, text, vectors):
        system(proc__cpuinfo=text)
        assert found()["CPU"].found.endswith(f"cores, {platform.machine()}, {vectors}")

    def test_machine_without_cpuinfo_is_examined_all_the_same(self, found):
        assert found()["CPU"].found.endswith(", no vectors")

    def test_machine_is_looked_at_where_none_is_given(self, system):
        line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release\n"
        root = system(proc__driver__nvidia__version=line)
        findings = {finding.part: finding for finding in examine(root)}
        assert findings["NVIDIA driver"].found == "560.35.03"

    def test_missing_export_extra_names_what_is_missing(self, found, monkeypatch):
        monkeypatch.setattr(sys, "path", [])
        extra = found()["export extra"]
        assert (
            extra.found == "torch missing, torchvision missing, onnx missing, safetensors missing"
        )
        assert (extra.ok, extra.advice) == (False, "pip install 'fcn-trt[export]'")


class TestGpu:
    def test_gpu_is_described_with_what_it_computes(self, found):
        findings = found(DESKTOP)
        assert findings["GPU"].found == "NVIDIA GeForce RTX 4070, 12.0 GiB"
        assert findings["compute capability"].found == "8.9: computes fp32, fp16, bf16, int8, fp8"
        assert findings["NVIDIA driver"].found == "580.142"
        assert findings["CUDA"].found == "up to 13.0"

    def test_orin_shares_its_memory_and_has_no_fp8(self, found):
        findings = found(ORIN)
        assert findings["GPU"].found == "Orin, 7.4 GiB, shared with the CPU"
        assert findings["compute capability"].found == "8.7: computes fp32, fp16, bf16, int8"

    def test_turing_has_no_bf16(self, found):
        turing = Machine(
            gpu=Gpu(name="T4", compute_capability="7.5", memory_bytes=16 << 30, integrated=False)
        )
        assert found(turing)["compute capability"].found == "7.5: computes fp32, fp16, int8"

    def test_missing_driver_is_no_fault_without_a_gpu(self, found):
        gpu = found(NO_GPU)["GPU"]
        assert gpu.found == NO_GPU.gpu_problem
        assert gpu.advice.startswith("none is needed for --target openvino")
        assert found(NO_GPU)["PyCUDA"].advice == "none is needed without a GPU"

    def test_driver_that_fails_comes_with_what_helps_against_it(self, found):
        broken = Machine(gpu_problem="the NVIDIA driver's cuInit fails with 803", cuda="12.4")
        findings = found(broken)
        assert findings["GPU"].found.endswith("cuInit fails with 803")
        assert "reboot" in findings["GPU"].advice
        assert (findings["NVIDIA driver"].found, findings["NVIDIA driver"].ok) == (
            "of unknown version",
            True,
        )

    def test_gpu_without_pycuda_is_told_how_it_is_compiled(self, found):
        advice = found(replace(ORIN, libraries={}))["PyCUDA"].advice
        assert advice.startswith("PATH=/usr/local/cuda/bin:$PATH pip install 'fcn-trt[cuda]'")
        desktop = found(replace(DESKTOP, libraries={"tensorrt_rtx": "1.7.1.116"}))
        assert desktop["cuda-bindings"].advice == "pip install 'fcn-trt[cuda]'"

    def test_cuda_bindings_newer_than_the_driver_are_found_out(self, found):
        finding = found(replace(ORIN, libraries={"cuda-bindings": "13.5.0"}))["cuda-bindings"]
        assert finding.found == "13.5.0, but the driver is for CUDA 12.6"
        assert (finding.ok, finding.advice) == (False, "pip install 'cuda-bindings<13'")
        older = replace(DESKTOP, libraries={"cuda-bindings": "12.9.10"})
        assert found(older)["cuda-bindings"].ok


class TestTensorRt:
    @pytest.mark.parametrize("version", ["10.0.1", "10.3.0", "11.4.0.106"])
    def test_supported_release_is_taken(self, found, version):
        finding = found(replace(DESKTOP, libraries={"tensorrt": version}))["TensorRT"]
        assert (finding.found, finding.ok, finding.advice) == (version, True, "")

    @pytest.mark.parametrize("version", ["8.6.2.3", "9.3.0", "12.0.0"])
    def test_other_release_is_refused_with_the_range(self, found, version):
        finding = found(replace(DESKTOP, libraries={"tensorrt": version}))["TensorRT"]
        assert finding.found == f"{version}, but only 10.0 to 11.x are supported"
        assert (finding.ok, finding.advice) == (False, "pip install 'tensorrt>=10.0,<12'")

    @pytest.mark.parametrize(
        ("architecture", "advice"),
        [
            ("x86_64", "pip install 'fcn-trt[tensorrt]'"),
            ("aarch64", "pip install 'tensorrt>=10.0,<12'"),
        ],
    )
    def test_missing_one_comes_from_pip_on_a_server(self, found, monkeypatch, architecture, advice):
        monkeypatch.setattr(platform, "machine", lambda: architecture)
        assert found(replace(DESKTOP, libraries={}))["TensorRT"].advice == advice

    @pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"])
    def test_rtx_runs_on_its_own_gpus(self, found, capability):
        assert DESKTOP.gpu
        machine = replace(DESKTOP, gpu=replace(DESKTOP.gpu, compute_capability=capability))
        assert found(machine)["TensorRT-RTX"].advice == ""
        assert found(machine)["target tensorrt-rtx"].ok

    def test_rtx_beside_another_gpu_says_which_it_is_for(self, found):
        advice = found(replace(DESKTOP, gpu=H200))["TensorRT-RTX"].advice
        assert "runs on compute capability 7.5, 8.0, 8.6, 8.9, 12.0, 12.1 only" in advice

    def test_rtx_is_not_recommended_to_a_jetson(self, found):
        assert found(ORIN)["TensorRT-RTX"].advice.startswith("none is needed")
        assert "pip install" in found(Machine())["TensorRT-RTX"].advice


class TestJetson:
    def test_good_one_gets_no_advice_but_for_opencv(self, found):
        findings = found(ORIN)
        assert findings["JetPack"].found == (
            "6.2, Jetson Linux 36.4.3, NVIDIA Jetson Orin Nano Developer Kit Super"
        )
        for part in ("JetPack", "power mode", "TensorRT", "PyCUDA", "target tensorrt"):
            assert (findings[part].ok, findings[part].advice) == (True, "")

    def test_other_machine_is_none(self, found):
        assert found(DESKTOP)["JetPack"].found == "no Jetson"
        assert "power mode" not in found(DESKTOP)

    @pytest.mark.parametrize("release", ["32.7.1", "35.6.0", "36.3.0"])
    def test_jetpack_with_tensorrt_8_is_to_be_upgraded(self, found, release):
        old = replace(ORIN, jetson_linux=release, jetpack=None, libraries={"tensorrt": "8.6.2"})
        findings = found(old)
        assert findings["JetPack"].found.startswith(f"unknown, Jetson Linux {release}, ")
        assert not findings["JetPack"].ok
        assert "JetPack 6.1 or later" in findings["JetPack"].advice
        assert findings["TensorRT"].advice == "upgrade to JetPack 6.1 or later"

    @pytest.mark.parametrize("release", ["36.4.0", "36.5.0", "38.2.0", "39.2.1"])
    def test_later_jetpack_is_taken(self, found, release):
        assert found(replace(ORIN, jetson_linux=release))["JetPack"].ok

    def test_container_without_a_release_file_is_still_a_jetson(self, found):
        finding = found(replace(ORIN, jetson_linux=None, jetpack=None))["JetPack"]
        assert finding.found.startswith("unknown, without /etc/nv_tegra_release, NVIDIA Jetson")
        assert finding.ok

    @pytest.mark.parametrize(
        ("modes", "mode", "command"),
        [
            (ORIN.power_modes, "15W", "sudo nvpmodel -m 2 (MAXN_SUPER)"),
            ({0: "MAXN", 1: "15W", 2: "30W", 3: "50W"}, "50W", "sudo nvpmodel -m 0 (MAXN)"),
            ({0: "15W", 1: "7W"}, "7W", "sudo nvpmodel -m 0 (15W)"),
        ],
    )
    def test_slower_power_mode_comes_with_the_fastest_one(self, found, modes, mode, command):
        finding = found(replace(ORIN, power_mode=mode, power_modes=modes))["power mode"]
        assert finding.found == f"{mode}, of {', '.join(modes.values())}"
        assert finding.advice == f"for full speed: {command}, then sudo jetson_clocks"

    def test_unknown_power_mode_says_how_to_ask(self, found):
        finding = found(replace(ORIN, power_mode=None, power_modes={}))["power mode"]
        assert (finding.found, finding.ok) == ("missing", False)
        assert "sudo nvpmodel -q" in finding.advice

    def test_environment_that_hides_jetpack_s_tensorrt_is_found_out(self, found, system_python):
        system_python("tensorrt", "tensorrt-10.3.0.dist-info")
        finding = found(replace(ORIN, libraries={}))["TensorRT"]
        assert finding.advice == (
            "JetPack's is in /usr/lib/python3.10/dist-packages: make the environment with "
            "python3.10 -m venv --system-site-packages"
        )

    def test_jetson_without_tensorrt_takes_it_from_apt_not_from_pypi(self, found):
        advice = found(replace(ORIN, libraries={}))["TensorRT"].advice
        assert advice.startswith("sudo apt-get install python3-libnvinfer")
        assert "pip install" not in advice

    def test_pip_s_tensorrt_is_found_out(self, found, system_python, pip_installed):
        system_python("tensorrt", seen=True)
        pip_installed(tensorrt="10.9.0", tensorrt_cu12_bindings="10.9.0")
        finding = found(replace(ORIN, libraries={"tensorrt": "10.9.0"}))["TensorRT"]
        assert finding.found == "10.9.0 from pip, which need not fit this Jetson's driver"
        assert not finding.ok
        assert finding.advice == (
            "pip uninstall -y tensorrt-cu12-bindings tensorrt; then JetPack's is in "
            "/usr/lib/python3.10/dist-packages and is seen then"
        )

    def test_pip_s_tensorrt_is_right_elsewhere(self, found, pip_installed):
        pip_installed(tensorrt="11.4.0.106")
        assert found(DESKTOP)["TensorRT"].ok


class TestOpenCv:
    @WITHOUT_GSTREAMER
    def test_pip_s_that_hides_jetpack_s_is_found_out(self, found, system_python, pip_installed):
        system_python("cv2")
        pip_installed(opencv_python_headless="4.11.0")
        finding = found(ORIN)["OpenCV"]
        assert not finding.ok
        assert "from pip hides JetPack's, which has GStreamer: pip uninstall -y " in finding.advice
        assert "opencv-python-headless; then JetPack's is in /usr/lib/python3.10/" in finding.advice
        assert finding.advice.endswith("python3.10 -m venv --system-site-packages")

    @WITHOUT_GSTREAMER
    def test_jetson_without_any_other_takes_it_from_apt(self, found):
        assert "sudo apt-get install nvidia-opencv" in found(ORIN)["OpenCV"].advice

    @WITHOUT_GSTREAMER
    def test_jetpack_s_own_without_gstreamer_is_not_recommended_again(
        self, found, system_python, monkeypatch
    ):
        system_python("cv2", seen=True)
        monkeypatch.setattr("fcn_trt.doctor.opencv.OPENCV_DISTRIBUTIONS", ())
        assert found(ORIN)["OpenCV"].advice.startswith("sudo apt-get install nvidia-opencv")

    @WITHOUT_GSTREAMER
    def test_gstreamer_is_optional_elsewhere(self, found):
        finding = found(DESKTOP)["OpenCV"]
        assert finding.ok
        assert finding.advice.startswith("only for GStreamer pipelines: ")

    @pytest.mark.parametrize(
        ("error", "advice"),
        [
            (
                ImportError("libGL.so.1: cannot open shared object file"),
                "on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0",
            ),
            (
                ImportError("numpy.core.multiarray failed to import"),
                "this OpenCV was compiled for NumPy 1: pip install 'numpy<2'",
            ),
            (
                AttributeError("_ARRAY_API not found"),
                "this OpenCV was compiled for NumPy 1: pip install 'numpy<2'",
            ),
        ],
    )
    def test_one_that_cannot_be_loaded_is_a_finding(self, found, monkeypatch, error, advice):
        refuse_import(monkeypatch, "cv2", error)
        finding = found()["OpenCV"]
        assert finding.found == f"cannot be loaded: {error}"
        assert (finding.ok, finding.advice) == (False, advice)

    @pytest.mark.parametrize(
        ("machine", "architecture", "advice"),
        [
            (DESKTOP, "x86_64", "pip install opencv-python"),
            (DESKTOP, "aarch64", "pip install 'fcn-trt[opencv]'"),
            (
                ORIN,
                "aarch64",
                "JetPack's is in /usr/lib/python3.10/dist-packages: make the environment with "
                "python3.10 -m venv --system-site-packages",
            ),
        ],
    )
    def test_missing_one_is_installed_as_the_machine_needs(
        self, found, system_python, monkeypatch, machine, architecture, advice
    ):
        system_python("cv2")
        monkeypatch.setattr(platform, "machine", lambda: architecture)
        refuse_import(monkeypatch, "cv2", ModuleNotFoundError("No module named 'cv2'", name="cv2"))
        assert found(machine)["OpenCV"].advice == advice


class TestOpenVino:
    def test_one_that_cannot_be_loaded_is_a_finding(self, found, monkeypatch):
        refuse_import(monkeypatch, "openvino", ImportError("libtbb.so: no such file"))
        finding = found()["OpenVINO"]
        assert finding.found == "cannot be loaded: libtbb.so: no such file"
        assert (finding.ok, finding.advice) == (
            False,
            "pip install --force-reinstall openvino",
        )
        assert found()["target openvino"].found == "neither builds nor runs here: no OpenVINO"

    def test_one_without_a_cpu_device_is_a_finding(self, found, monkeypatch):
        class Core:
            """Stands in for a broken installation; nothing of OpenVINO is computed with it."""

            available_devices = ("GPU",)

        monkeypatch.setattr("fcn_trt.engine.openvino.builder.openvino_core", Core)
        finding = found()["OpenVINO"]
        assert finding.found.endswith("but it has no CPU device here")
        assert not finding.ok


class TestTargets:
    @pytest.mark.parametrize(
        ("machine", "target", "says"),
        [
            (NO_GPU, "openvino", "builds and runs here"),
            (
                NO_GPU,
                "tensorrt",
                "neither builds nor runs here: no TensorRT 10.0 to 11.x, no GPU, no cuda-bindings",
            ),
            (NO_GPU, "tensorrt-rtx", "neither builds nor runs here: no cuda-bindings"),
            (
                replace(NO_GPU, libraries=DESKTOP.libraries),
                "tensorrt-rtx",
                "builds here, but does not run: no GPU",
            ),
            (DESKTOP, "tensorrt", "builds and runs here"),
            (DESKTOP, "tensorrt-rtx", "builds and runs here"),
            (ORIN, "tensorrt", "builds and runs here"),
            (
                ORIN,
                "tensorrt-rtx",
                "neither builds nor runs here: no TensorRT-RTX",
            ),
            (
                replace(ORIN, libraries={"tensorrt": "10.3.0", "cuda-bindings": "12.9.10"}),
                "tensorrt",
                "builds here, but does not run: no PyCUDA",
            ),
            (
                replace(ORIN, libraries=ORIN.libraries | {"tensorrt": "8.6.2"}),
                "tensorrt",
                "neither builds nor runs here: no TensorRT 10.0 to 11.x",
            ),
            (
                replace(DESKTOP, gpu=H200),
                "tensorrt-rtx",
                "builds here, but does not run: no compute capability 7.5 to 12.1",
            ),
        ],
    )
    def test_each_says_whether_it_builds_and_runs(self, found, machine, target, says):
        assert found(machine)[f"target {target}"].found == says
