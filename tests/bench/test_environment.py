"""What a figure was measured on: this machine, and made-up ones."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from fcn_trt import __version__
from fcn_trt.bench.environment import checkout_commit, this_environment

X86 = """processor\t: 0
model name\t: Intel(R) Xeon(R) Gold 6430
flags\t\t: fpu avx2 avx512f avx512_vnni amx_int8 avx512_vnni_not
"""
ARM = """processor\t: 0
Features\t: fp asimd asimddp i8mm
CPU implementer\t: 0x41
CPU variant\t: 0x0
CPU part\t: 0xd42
"""


@pytest.fixture
def commit(tmp_path):
    """A checkout with a package `p` in it, and a function that runs git there."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")

    def git(*arguments):
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    (tmp_path / "fcn_trt").mkdir()
    (tmp_path / "fcn_trt" / "__init__.py").write_text("a = 1\n")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "r.json").write_text("{}")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "a")
    return git


def test_this_machine_and_what_is_installed():
    found = this_environment()
    assert found.cpu
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.system == platform.platform()
    assert found.versions["python"] == platform.python_version()
    assert found.versions["numpy"] == np.__version__
    assert found.versions["opencv"].startswith(cv2.__version__)
    assert found.versions["openvino"][:2] == "20"
    assert found.fcn_trt == __version__
    measured = dt.datetime.fromisoformat(found.measured_at or "")
    age = dt.datetime.now(dt.timezone.utc) - measured
    assert dt.timedelta(seconds=-1) <= age < dt.timedelta(minutes=5)


def test_looking_imports_no_framework():
    code = (
        "import sys; from fcn_trt.bench.environment import this_environment; this_environment();"
        "print([n for n in ('torch', 'openvino', 'cv2', 'onnx', 'tensorrt') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_x86_is_told_by_its_name_and_the_sets_that_count(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(X86)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:       8000000 kB\nMemFree: 1 kB\n")
    found = this_environment(tmp_path)
    assert found.cpu == "Intel(R) Xeon(R) Gold 6430"
    assert found.instruction_sets == ("avx2", "avx512f", "avx512_vnni", "amx_int8")
    assert found.memory_bytes == 8_192_000_000
    assert found.cpu_governor is None


def test_arm_without_a_name_is_told_by_its_numbers(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(ARM)
    found = this_environment(tmp_path)
    assert found.cpu.endswith("(implementer 0x41, part 0xd42, variant 0x0)")
    assert found.instruction_sets == ("asimd", "asimddp", "i8mm")


def test_what_a_system_does_not_tell_is_none(tmp_path):
    found = this_environment(tmp_path)
    assert found.cpu
    assert found.instruction_sets is None
    assert found.memory_bytes is None
    assert found.board is None
    assert found.power_mode is None


def test_commit_of_a_clean_checkout(commit, tmp_path):
    found = checkout_commit(tmp_path / "fcn_trt")
    assert found == commit("rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", found or "")


@pytest.mark.parametrize("name", ["fcn_trt/__init__.py", "fcn_trt/new.py", "benchmarks/new.py"])
def test_other_code_than_the_commits_is_said(commit, tmp_path, name):
    (tmp_path / name).write_text("a = 2\n")
    assert checkout_commit(tmp_path / "fcn_trt") == f"{commit('rev-parse', 'HEAD')}+changed"


def test_result_that_is_written_anew_is_no_change_of_code(commit, tmp_path):
    (tmp_path / "benchmarks" / "r.json").write_text("[]")
    assert checkout_commit(tmp_path / "fcn_trt") == commit("rev-parse", "HEAD")


def test_package_installed_into_a_foreign_checkout_has_no_commit(commit, tmp_path):
    installed = tmp_path / "venv" / "site-packages" / "fcn_trt"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert checkout_commit(installed) is None


def test_package_outside_any_checkout_has_no_commit(tmp_path):
    (tmp_path / "fcn_trt").mkdir()
    assert checkout_commit(tmp_path / "fcn_trt") is None
