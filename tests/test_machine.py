"""What the machine is, with a fake driver: a shared library compiled from a few lines of C."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys

import pytest

from fcn_trt.machine import Gpu, Machine, installed_version, this_machine

FAKE_DRIVER = r"""
#include <stddef.h>
#include <string.h>

#ifndef STATUS
#define STATUS 0
#endif
#ifndef GPUS
#define GPUS 1
#endif

int cuInit(unsigned flags) { return STATUS; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetCount(int *count) { *count = GPUS; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return ordinal; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, "Orin", length);
    return device != 7;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 7989432320u; return device != 7; }
#ifndef NO_ATTRIBUTES
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 18 ? 1 : -1;
    return device != 7;
}
#endif
#ifndef NO_WORDS
int cuGetErrorString(int status, const char **text) {
    *text = status == 100 ? "no CUDA-capable device is detected" : NULL;
    return *text == NULL;
}
#endif
"""
ORIN = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n"
)
NVPMODEL = """# < POWER_MODEL ID=id_num NAME=mode_name >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< PM_CONFIG DEFAULT=1 >
"""
DRIVERS = [
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19", "535.104.05"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Rel", "560.35.03"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Rele", "540.4.0"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.142  Relea", "580.142"),
    ("something else", None),
]


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory):
    """Compile a fake driver; its macros make it fail in the ways that real ones do."""
    compiler = shutil.which("gcc")
    if compiler is None or platform.system() != "Linux":
        pytest.skip("needs gcc on Linux to compile the fake driver")

    def compiled(*macros):
        folder = tmp_path_factory.mktemp("fake_driver")
        (folder / "fake.c").write_text(FAKE_DRIVER)
        library = folder / "libfake_cuda.so"
        definitions = [f"-D{macro}" for macro in macros]
        command = [compiler, "-shared", "-fPIC", "-w", *definitions, "-o", library]
        subprocess.run([*command, folder / "fake.c"], check=True)
        return str(library)

    return compiled


@pytest.fixture
def look(tmp_path):
    """Look at a machine with these system files and no driver."""

    def at(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("device_tree", "device-tree")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return this_machine(tmp_path, driver_library="libnone.so")

    return at


class TestGpu:
    def test_fake_driver_describes_its_gpu(self, fake_driver, tmp_path):
        machine = this_machine(tmp_path, driver_library=fake_driver())
        assert machine.gpu == Gpu(
            name="Orin", compute_capability="8.7", memory_bytes=7989432320, integrated=True
        )
        assert (machine.gpu_problem, machine.cuda) == ("", "12.6")

    @pytest.mark.parametrize(
        ("macro", "problem"),
        [
            (
                "STATUS=100",
                "the NVIDIA driver's cuInit fails with 100: no CUDA-capable device is detected",
            ),
            ("STATUS=803", "the NVIDIA driver's cuInit fails with 803"),
            ("GPUS=0", "the NVIDIA driver finds no GPU"),
            ("NO_ATTRIBUTES", "the NVIDIA driver's library has no cuDeviceGetAttribute"),
        ],
    )
    def test_fake_driver_without_a_gpu_says_why(self, fake_driver, tmp_path, macro, problem):
        machine = this_machine(tmp_path, driver_library=fake_driver(macro))
        assert machine.gpu is None
        assert machine.gpu_problem == problem
        assert machine.cuda == "12.6"

    def test_fake_driver_that_cannot_explain_itself_gives_its_number(self, fake_driver, tmp_path):
        driver = fake_driver("STATUS=35", "NO_WORDS")
        machine = this_machine(tmp_path, driver_library=driver)
        assert machine.gpu_problem == "the NVIDIA driver's cuInit fails with 35"

    def test_missing_driver_is_told_from_a_missing_gpu(self, tmp_path):
        machine = this_machine(tmp_path, driver_library="libnone.so")
        assert (machine.gpu, machine.cuda) == (None, None)
        assert machine.gpu_problem.startswith("no NVIDIA driver: libnone.so: ")

    def test_file_that_is_no_library_is_a_missing_driver(self, tmp_path):
        (tmp_path / "libcuda.so.1").write_text("not an ELF file")
        machine = this_machine(tmp_path, driver_library=str(tmp_path / "libcuda.so.1"))
        assert machine.gpu_problem.startswith("no NVIDIA driver: ")

    @pytest.mark.parametrize(("text", "version"), DRIVERS)
    def test_driver_version_is_that_of_the_kernel_module(self, look, text, version):
        assert look(proc__driver__nvidia__version=text).driver == version


class TestJetson:
    def test_orin_is_known_by_its_files(self, look):
        machine = look(
            etc__nv_tegra_release=ORIN,
            proc__device_tree__model="NVIDIA Jetson Orin Nano Developer Kit\0",
        )
        assert (machine.jetson_linux, machine.jetpack) == ("36.4.3", "6.2")
        assert machine.board == "NVIDIA Jetson Orin Nano Developer Kit"
        assert machine.is_jetson

    def test_unknown_release_has_no_jetpack(self, look):
        machine = look(etc__nv_tegra_release="# R41 (release), REVISION: 0.1, GCID: 1\n")
        assert (machine.jetson_linux, machine.jetpack) == ("41.0.1", None)
        assert machine.is_jetson

    def test_damaged_release_is_no_jetson(self, look):
        assert look(etc__nv_tegra_release="R36\n").jetson_linux is None

    def test_other_machine_is_no_jetson(self, look):
        machine = look(proc__device_tree__model="Raspberry Pi 5 Model B Rev 1.0\0")
        assert not machine.is_jetson
        assert (machine.jetpack, machine.power_mode, machine.power_modes) == (None, None, {})

    def test_board_alone_tells_a_jetson_in_a_container(self):
        assert Machine(board="NVIDIA Jetson AGX Thor Developer Kit").is_jetson

    @pytest.mark.parametrize(
        ("status", "mode"),
        [("pmode:0000\n", "15W"), ("pmode:0002", "MAXN_SUPER"), ("pmode:0009", "mode 9")],
    )
    def test_power_mode_is_what_nvpmodel_wrote_down(self, look, tmp_path, status, mode):
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/nvpmodel.conf").write_text(NVPMODEL)
        machine = look(var__lib__nvpmodel__status=status)
        assert machine.power_mode == mode
        assert machine.power_modes == {0: "15W", 1: "25W", 2: "MAXN_SUPER"}

    def test_power_mode_never_changed_is_the_one_it_boots_in(self, look, tmp_path):
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/nvpmodel.conf").write_text(NVPMODEL)
        assert look().power_mode == "25W"


class TestLibraries:
    @staticmethod
    def install(folder, name, version):
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def test_versions_come_from_package_metadata(self, look):
        libraries = look().libraries
        assert libraries["openvino"] == installed_version("openvino")
        assert None not in libraries.values()

    @pytest.mark.parametrize(
        ("package", "module"),
        [
            ("tensorrt", "tensorrt"),
            ("tensorrt-cu12-bindings", "tensorrt"),
            ("tensorrt-cu13", "tensorrt"),
            ("tensorrt-rtx-cu12", "tensorrt_rtx"),
        ],
    )
    def test_library_is_known_by_any_of_its_packages(
        self, look, tmp_path, monkeypatch, package, module
    ):
        self.install(tmp_path / "packages", package, "10.3.0")
        # Only this folder, whatever else is installed where the tests run.
        monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
        assert look().libraries == {module: "10.3.0"}

    def test_package_with_the_module_counts_before_its_umbrella(self, look, tmp_path, monkeypatch):
        self.install(tmp_path / "packages", "tensorrt", "10.9.0")
        self.install(tmp_path / "packages", "tensorrt-cu12-bindings", "10.3.0")
        monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
        assert look().libraries["tensorrt"] == "10.3.0"

    def test_missing_package_has_no_version(self):
        assert installed_version("no-such-package") is None


def test_looking_loads_no_framework():
    heavy = ("tensorrt", "tensorrt_rtx", "pycuda", "torch", "openvino", "cv2", "numpy")
    code = (
        "import sys; from fcn_trt.machine import this_machine; this_machine(); "
        f"print([n for n in {heavy!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
