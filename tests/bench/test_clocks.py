"""Clock rates and counters from files of a system, and from a program in nvidia-smi's place."""

from __future__ import annotations

from fcn_trt.bench.clocks import clocks_mhz, cpu_governor, throttle_events

NONE = "no-such-nvidia-smi"


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def program(tmp_path, script):
    path = tmp_path / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_nothing_is_told_of_a_system_that_tells_nothing(tmp_path):
    assert clocks_mhz(tmp_path, nvidia_smi=NONE) == {}
    assert cpu_governor(tmp_path) is None
    assert throttle_events(tmp_path) is None


def test_cores_of_a_jetson_and_its_gpu(tmp_path):
    for core, clock in enumerate((729600, 1510400)):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        write(tmp_path, f"{folder}/scaling_cur_freq", f"{clock}\n")
        write(tmp_path, f"{folder}/scaling_governor", "schedutil\n")
    write(tmp_path, "sys/class/devfreq/17000000.gpu/cur_freq", "1020000000\n")
    write(tmp_path, "sys/class/devfreq/15340000.vic/cur_freq", "115200000\n")
    write(tmp_path, "proc/cpuinfo", "cpu MHz\t\t: 1.0\n")
    assert clocks_mhz(tmp_path, nvidia_smi=NONE) == {"cpu": 1120.0, "gpu": 1020.0}
    assert cpu_governor(tmp_path) == "schedutil"


def test_governors_that_differ_are_all_named(tmp_path):
    for core, name in enumerate(("powersave", "performance", "powersave")):
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", name)
    assert cpu_governor(tmp_path) == "performance, powersave"


def test_without_cpufreq_cpuinfo_tells(tmp_path):
    write(tmp_path, "proc/cpuinfo", "cpu MHz\t\t: 2596.144\nx\ncpu MHz\t\t: 2600.0\n")
    assert clocks_mhz(tmp_path, nvidia_smi=NONE) == {"cpu": 2598.1}


def test_clock_of_a_card_comes_from_nvidia_smi(tmp_path):
    script = '[ "$1" = --query-gpu=clocks.sm ] && echo 1980'
    assert clocks_mhz(tmp_path, nvidia_smi=program(tmp_path, script)) == {"gpu": 1980.0}


def test_nvidia_smi_that_fails_or_does_not_know_is_not_believed(tmp_path):
    for script in ("echo 1980; exit 9", "echo '[N/A]'", "true"):
        assert clocks_mhz(tmp_path, nvidia_smi=program(tmp_path, script)) == {}
    (tmp_path / "nvidia-smi").write_bytes(b"\x7fELF no program")
    assert clocks_mhz(tmp_path, nvidia_smi=str(tmp_path / "nvidia-smi")) == {}


def test_counters_of_heat_current_and_quotas_are_summed(tmp_path):
    folder = "sys/devices/system/cpu/cpu0/thermal_throttle"
    write(tmp_path, f"{folder}/core_throttle_count", "3\n")
    write(tmp_path, f"{folder}/package_throttle_count", "4\n")
    write(tmp_path, "sys/class/hwmon/hwmon2/oc1_event_cnt", "5\n")
    write(tmp_path, "sys/fs/cgroup/cpu.stat", "usage_usec 1\nnr_throttled 30\nthrottled_usec 9\n")
    assert throttle_events(tmp_path) == 42
