import argparse
import os
import random
import re
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fcn_trt.errors import CheckpointError
from fcn_trt.model.checkpoint_meta import CheckpointMeta
from fcn_trt.model.safe_load import read_checkpoint


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickle_that_would_run_code_is_refused_by_its_name(legacy, tmp_path):
    path, proof = tmp_path / "last.pth", tmp_path / "it-ran"
    content = {"state_dict": {"weight": torch.ones(1)}, "hook": Attack(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"wants to run \w+\.system while it is read"):
        read_checkpoint(path)
    assert not proof.exists()


def test_whole_pickled_module_is_refused_with_the_way_out(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"torch\.nn\..*Linear.*save only its state_dict"):
        read_checkpoint(tmp_path / "model.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_pth_is_refused_at_every_length(legacy, tmp_path):
    whole, path = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save({"a": torch.ones(100)}, whole, _use_new_zipfile_serialization=not legacy)
    data = whole.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_altered_pth_is_read_or_refused_and_never_crashes(legacy, tmp_path):
    # torch's unpickler raises a dozen kinds of exception on bytes like these.
    whole, path = tmp_path / "whole.pth", tmp_path / "altered.pth"
    content = {"meta": {"CLASSES": ("a", "b")}, "state_dict": {"a": torch.ones(2, 3)}}
    torch.save(content, whole, _use_new_zipfile_serialization=not legacy)
    data, dice, refused = whole.read_bytes(), random.Random(0), 0
    for _ in range(600):
        altered = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            altered[dice.randrange(len(altered))] = dice.randrange(256)
        path.write_bytes(altered)
        try:
            read_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 100


def test_truncated_safetensors_is_refused_at_every_length(tmp_path):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_file({"a": torch.ones(20)}, whole)
    data = whole.read_bytes()
    for length in range(1, len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"cut\.safetensors is damaged or truncated"):
            read_checkpoint(path)


def test_text_file_is_no_checkpoint(tmp_path):
    path = tmp_path / "readme.pth"
    path.write_text("# How to download the weights\n")
    with pytest.raises(CheckpointError, match=r"readme\.pth is a text and no PyTorch checkpoint"):
        read_checkpoint(path)


def test_list_of_tensors_is_no_checkpoint(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"list\.pth holds a list, not a dict of tensors"):
        read_checkpoint(tmp_path / "list.pth")


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state", "anything"])
def test_tensors_are_found_in_every_container(key, tmp_path):
    tensors = {"module.conv.weight": torch.ones(2, dtype=torch.float16), "steps": torch.tensor(3)}
    torch.save({key: tensors} if key else tensors, tmp_path / "last.pth")
    found = read_checkpoint(tmp_path / "last.pth")
    assert found.meta == CheckpointMeta()
    assert {name: t.dtype for name, t in found.tensors.items()} == {
        "conv.weight": "float16",
        "steps": "int64",
    }


def test_float16_safetensors_become_float32_and_keep_their_metadata(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_file({"a": torch.tensor([0.5], dtype=torch.float16)}, path, metadata={"model": "m"})
    found = read_checkpoint(path)
    assert found.meta == CheckpointMeta(model="m")
    assert found.tensors["a"].read().dtype is torch.float32
    assert found.tensors["a"].read().item() == 0.5


@pytest.mark.parametrize("name", ["tiny.pth", "tiny.SAFETENSORS", "tiny"])
def test_safetensors_are_read_under_any_name(name, tmp_path):
    save_file({"a": torch.ones(2), "steps": torch.tensor(3)}, tmp_path / name)
    found = read_checkpoint(tmp_path / name).tensors
    assert {name: t.dtype for name, t in found.items()} == {"a": "float32", "steps": "int64"}


def test_pth_under_the_name_of_safetensors_is_read(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "last.safetensors")
    assert list(read_checkpoint(tmp_path / "last.safetensors").tensors) == ["a"]


def test_meta_that_is_no_dict_is_left_alone(tmp_path):
    torch.save({"meta": 5, "state_dict": {"a": torch.ones(1)}}, tmp_path / "last.pth")
    assert read_checkpoint(tmp_path / "last.pth").meta == CheckpointMeta()


@pytest.mark.parametrize(
    ("extras", "trained_by"),
    [
        ({"lr_scheduler": {}}, "pytorch-auto-drive"),
        ({"lr_scheduler": {}, "epoch": 3, "args": argparse.Namespace(lr=0.1)}, "torchvision"),
        ({}, ""),
    ],
)
def test_training_script_is_told_from_what_it_packs(extras, trained_by, tmp_path):
    content = {"model": {"a": torch.ones(1)}, "optimizer": {}, **extras}
    torch.save(content, tmp_path / "last.pth")
    assert read_checkpoint(tmp_path / "last.pth").meta.trained_by == trained_by


def test_numpy_values_beside_the_tensors_are_read(tmp_path):
    curves = {"loss": np.ones(3), "count": np.ones(3, np.int64), "best": np.float64(0.5)}
    torch.save({"state_dict": {"a": torch.ones(1)}, "curves": curves}, tmp_path / "last.pth")
    assert list(read_checkpoint(tmp_path / "last.pth").tensors) == ["a"]


class HistoryBuffer:
    """Pickles as mmengine's does: arrays, and its methods by way of getattr."""

    def __init__(self):
        self.log_history = np.ones(3)

    def mean(self):
        raise AssertionError("must not be called")

    def __getstate__(self):
        return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean}}


HistoryBuffer.__module__ = "mmengine.logging.history_buffer"


def test_curves_of_mmengine_are_read_without_mmengine(tmp_path, monkeypatch):
    module = types.ModuleType(HistoryBuffer.__module__)
    monkeypatch.setattr(module, "HistoryBuffer", HistoryBuffer, raising=False)
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, HistoryBuffer.__module__, module)
        hub = {"log_scalars": {"train/loss": HistoryBuffer()}}
        torch.save({"state_dict": {"a": torch.ones(1)}, "message_hub": hub}, tmp_path / "last.pth")
    data = (tmp_path / "last.pth").read_bytes()
    assert b"getattr" in data
    assert b"mmengine" in data
    assert list(read_checkpoint(tmp_path / "last.pth").tensors) == ["a"]


class AttackByGetattr:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return getattr, (self.path, "touch")


def test_getattr_in_a_file_gets_nothing(tmp_path):
    content = {"state_dict": {"a": torch.ones(1)}, "hook": AttackByGetattr("x")}
    torch.save(content, tmp_path / "last.pth")
    assert list(read_checkpoint(tmp_path / "last.pth").tensors) == ["a"]


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="needs torch 2.8 or later")
def test_floats_that_torch_does_not_convert_are_refused(tmp_path):
    tensor = torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    save_file({"a.weight": tensor}, tmp_path / "tiny.safetensors")
    with pytest.raises(CheckpointError, match=r"is float4_e2m1fn_x2 .* as float32"):
        read_checkpoint(tmp_path / "tiny.safetensors").tensors["a.weight"].read()


def test_more_numbers_than_memory_holds_are_refused(tmp_path):
    tensor = torch.ones((), dtype=torch.float16).expand(1 << 50)
    torch.save({"a.weight": tensor}, tmp_path / "last.pth")
    with pytest.raises(CheckpointError, match=r"float16 of shape \(11258999.* stores 1 numbers"):
        read_checkpoint(tmp_path / "last.pth").tensors["a.weight"].read()
