import re
from dataclasses import replace

import pytest

from fcn_trt.advice.devices import device, devices


def test_every_jetson_and_the_measured_gpus_are_known():
    names = [entry.name for entry in devices()]
    assert len(set(names)) == len(names)
    orin = ["orin-nano-4gb", "orin-nano", "orin-nano-super", "orin-nx-8gb", "orin-nx", "agx-orin"]
    assert {"nano", "tx2", "xavier-nx", "agx-xavier", *orin, "agx-orin-32gb"} < set(names)
    assert {"thor", "thor-t4000", "rtx-2080-ti", "t4", "v100", "h200"} < set(names)


@pytest.mark.parametrize("entry", devices(), ids=lambda entry: entry.name)
def test_figures_are_whole_and_sourced(entry):
    assert len(entry.source) > 10
    assert re.fullmatch(r"\d+\.\d", entry.compute_capability)
    assert entry.memory_gb > 0
    assert entry.bandwidth_gb_s > 0
    assert set(entry.unsure) <= {*entry.tops, "bandwidth"}
    tops = entry.tops
    assert tops["fp32"] < tops["fp16"]
    assert tops.get("bf16", tops["fp16"]) == tops["fp16"]
    if entry.name != "v100":  # its tensor cores know no integers
        assert tops.get("int8", float("inf")) > 1.9 * tops["fp16"]
    has_fp8 = float(entry.compute_capability) >= 8.9
    assert ("fp8" in tops) == has_fp8
    assert ("bf16" in tops) == (float(entry.compute_capability) >= 8)


@pytest.mark.parametrize(
    ("name", "sparse_tops", "within"),
    # What NVIDIA sells: INT8 with sparsity, twice the dense rate; Orin's without its DLAs.
    [
        ("orin-nano-4gb", 20, 0.03),
        ("orin-nano", 40, 0.03),
        ("orin-nano-super", 67, 0.01),
        ("agx-orin", 170, 0.01),
        ("orin-nx-super", 77, 0.01),
        ("agx-orin-32gb", 107, 0.01),
    ],
)
def test_orin_peaks_are_half_of_the_sparse_ones(name, sparse_tops, within):
    assert 2 * device(name).tops["int8"] == pytest.approx(sparse_tops, rel=within)


def test_devices_that_nothing_is_built_for_say_so_and_why():
    without = {entry.name: entry.note for entry in devices() if not entry.supported}
    assert without.keys() == {"nano", "tx2", "xavier-nx", "agx-xavier"}
    assert all(note and "TensorRT 8 is the last for it" in note for note in without.values())
    assert device("orin-nano").supported


def test_units_are_those_of_the_architecture():
    def units(name):
        entry = device(name)
        return {precision: entry.unit(precision) for precision in entry.tops}

    assert units("nano") == {"fp32": "lanes", "fp16": "lanes"}
    assert units("v100") == {"fp32": "lanes", "fp16": "tensor cores", "int8": "lanes"}
    tensor_cores = {"fp16": "tensor cores", "int8": "tensor cores"}
    assert units("agx-xavier") == {"fp32": "lanes"} | tensor_cores
    assert replace(device("nano"), compute_capability="10.0").unit("fp16") == "tensor cores"


def test_unknown_device_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown device 'orin'; known are nano, tx2, ") as error:
        device("orin")
    assert all(entry.name in str(error.value) for entry in devices())
