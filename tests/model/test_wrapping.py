import logging
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from fcn_trt.errors import CheckpointError
from fcn_trt.model.checkpoint import load_checkpoint
from fcn_trt.model.safe_load import read_checkpoint


@pytest.fixture(scope="module")
def network():
    """Two layers of an FCN, with batch normalisation between."""
    torch.manual_seed(0)
    stem = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    backbone = torch.nn.ModuleDict({"stem": stem})
    head = torch.nn.ModuleDict({"conv_seg": torch.nn.Conv2d(2, 3, 1)})
    return torch.nn.ModuleDict({"backbone": backbone, "decode_head": head})


@pytest.fixture(scope="module")
def weights(network):
    return network.state_dict()


@pytest.fixture
def average(weights):
    return {name: t + 1 if t.is_floating_point() else t for name, t in weights.items()}


def prefixed(weights, prefix):
    return OrderedDict((prefix + name, tensor) for name, tensor in weights.items())


def read(content, path, **options):
    torch.save(content, path / "m.pth")
    return read_checkpoint(path / "m.pth", **options).tensors


def same(found, weights):
    return found.keys() == weights.keys() and all(
        torch.equal(found[name].read(), tensor)
        if tensor.is_floating_point()
        else found[name].shape == tensor.shape
        for name, tensor in weights.items()
    )


class TestOneSet:
    @pytest.mark.parametrize(
        "prefix",
        [
            *("module.", "_orig_mod.", "model.", "net.", "network.", "segmentor."),
            *("module._orig_mod.", "_orig_mod.module.", "module.module.", "model._orig_mod.model."),
            *("_forward_module.model.", "ema_model.module.", "net.model."),
        ],
    )
    def test_prefixes_of_wrappers_are_taken_off_and_said(self, prefix, weights, tmp_path, caplog):
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            assert same(read(prefixed(weights, prefix), tmp_path), weights)
        assert f"without {prefix} before each name" in caplog.text

    @pytest.mark.parametrize(
        "keys",
        [
            *(["state_dict"], ["model"], ["model_state_dict"], ["model_state"], ["net"]),
            *(["network"], ["weights"], ["ema"], ["params_ema"], ["model", "state_dict"]),
            *(["checkpoint", "model"], ["fcn"], ["a", "b", "c"]),
        ],
    )
    def test_weights_are_found_at_any_depth(self, keys, weights, tmp_path):
        content = weights
        for key in reversed(keys):
            content = {key: content, "epoch": 3, "optimizer": {"state": {0: {"m": torch.ones(2)}}}}
        assert same(read(content, tmp_path), weights)

    def test_nothing_is_said_of_what_is_plain(self, weights, tmp_path, caplog):
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            read({"state_dict": weights, "epoch": 1}, tmp_path)
            read(weights, tmp_path)
        assert caplog.text == ""

    def test_unusual_key_is_said(self, weights, tmp_path, caplog):
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            read({"model_state_dict": weights}, tmp_path)
        assert "m.pth: taking the weights under model_state_dict" in caplog.text

    def test_lightning_with_its_loss_is_unwrapped(self, weights, tmp_path):
        content = prefixed(weights, "model.") | {"criterion.weight": torch.ones(3)}
        found = read({"pytorch-lightning_version": "2.1", "state_dict": content}, tmp_path)
        assert same(found, {**weights, "criterion.weight": torch.ones(3)})

    def test_name_that_some_weights_have_is_no_prefix(self, weights, tmp_path):
        content = prefixed(weights, "model.") | {"other.weight": torch.ones(3)}
        assert same(read(content, tmp_path), content)

    def test_averaged_model_is_unwrapped(self, network, weights, tmp_path):
        content = AveragedModel(network).state_dict()
        assert "n_averaged" in content
        for asked in (None, True, False):
            assert same(read(content, tmp_path, average=asked), weights)

    def test_wrapped_parts_are_unwrapped(self, weights, tmp_path):
        content = {
            name.replace("stem", "_orig_mod.stem._checkpoint_wrapped_module"): tensor
            for name, tensor in weights.items()
        }
        assert same(read(content, tmp_path), weights)

    def test_safetensors_of_data_parallel_are_unwrapped(self, weights, tmp_path):
        save_file(dict(prefixed(weights, "module.")), tmp_path / "m.safetensors")
        assert same(read_checkpoint(tmp_path / "m.safetensors").tensors, weights)

    def test_other_tensors_are_no_weights(self, weights, tmp_path):
        content = {
            "class_weights": torch.ones(3),
            "loss": torch.tensor(0.1),
            "rng_state": torch.ones(4),
            "model": weights,
            "args": Namespace(lr=0.1),
            "scheduler": {"table": {"lr.weight": torch.ones(2)}},
        }
        assert same(read(content, tmp_path), weights)

    def test_several_networks_are_refused_by_their_keys(self, weights, average, tmp_path):
        content = {"first": weights, "second": average}
        with pytest.raises(CheckpointError, match=r"m\.pth holds several sets .*first, second\).*"):
            read(content, tmp_path)

    def test_network_of_a_known_key_is_taken_and_the_other_said(
        self, weights, average, tmp_path, caplog
    ):
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            assert same(read({"teacher": average, "student": weights}, tmp_path), weights)
        assert "under student and not those under teacher" in caplog.text

    def test_dict_that_holds_itself_ends(self, weights, tmp_path):
        content = {"model": weights}
        content["again"] = content
        assert same(read(content, tmp_path), weights)


def sibling(key, wrap=lambda average: average, **more):
    return lambda own, average: {"model": own, key: wrap(average), **more}


def parameters(tensors):
    return {name: t for name, t in tensors.items() if "running" not in name and t.dim()}


TWO_SETS = {
    "model_ema": sibling("model_ema", lambda average: prefixed(average, "module.")),
    "ema": sibling("ema", epoch=9),
    "ema_state_dict": sibling("ema_state_dict"),
    "ema.module": sibling("ema", lambda average: {"module": average, "decay": 0.9}),
    "swa_model": sibling("swa_model", lambda average: {**average, "n_averaged": torch.tensor(3)}),
    "state_dict_ema": lambda own, average: {"state_dict": own, "state_dict_ema": average},
    "checkpoint.ema": lambda own, average: {"checkpoint": {"model": own, "ema": average}},
    "ema_*": lambda own, average: {
        "state_dict": own
        | {"ema_" + n.replace(".", "_"): tensor for n, tensor in parameters(average).items()}
    },
    "lightning": lambda own, average: {
        "state_dict": prefixed(own, "model.") | prefixed(average, "ema_model.module.")
    },
    "LitEma": lambda own, average: {
        "state_dict": prefixed(own, "model.")
        | {"model_ema." + n.replace(".", ""): t for n, t in parameters(average).items()}
        | {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(5)}
    },
}


class TestTwoSets:
    @pytest.mark.parametrize("kind", TWO_SETS)
    def test_average_is_taken_if_asked_for(self, kind, weights, average, tmp_path, caplog):
        content = TWO_SETS[kind](weights, average)
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            found = read(content, tmp_path, average=True)
        expected = {**weights, **(parameters(average) if kind in ("ema_*", "LitEma") else average)}
        assert same(found, expected)
        assert "taking the average" in caplog.text

    @pytest.mark.parametrize("kind", TWO_SETS)
    def test_weights_are_taken_and_the_average_is_said(
        self, kind, weights, average, tmp_path, caplog
    ):
        content = TWO_SETS[kind](weights, average)
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            assert same(read(content, tmp_path), weights)
        (said,) = [m for m in caplog.messages if "--ema" in m]
        assert "average (" + {"lightning": "ema_*", "LitEma": "ema_*"}.get(kind, kind) in said

    def test_no_ema_says_nothing(self, weights, average, tmp_path, caplog):
        content = {"model": weights, "model_ema": average}
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            assert same(read(content, tmp_path, average=False), weights)
        assert caplog.text == ""

    @pytest.mark.parametrize("asked", [None, True, False])
    def test_mmengine_saves_the_average_as_state_dict(
        self, asked, weights, average, tmp_path, caplog
    ):
        content = {
            "meta": {"mmengine_version": "0.10.7"},
            "state_dict": average,
            "ema_state_dict": {**prefixed(weights, "module."), "steps": torch.tensor(9)},
        }
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            found = read(content, tmp_path, average=asked)
        assert same(found, weights if asked is False else average)
        assert ("taking state_dict (--no-ema takes the other)" in caplog.text) == (asked is None)

    @pytest.mark.parametrize("key", ["model", None])
    def test_average_that_is_not_there_is_refused(self, key, weights, tmp_path):
        content = {key: weights} if key else weights
        with pytest.raises(CheckpointError, match=r"m\.pth holds no average .*leave --ema out"):
            read(content, tmp_path, average=True)

    def test_average_of_another_network_is_none(self, weights, tmp_path):
        content = {"model": weights, "ema": {"other.weight": torch.ones(2)}}
        assert same(read(content, tmp_path), weights)
        with pytest.raises(CheckpointError, match="holds no average"):
            read(content, tmp_path, average=True)


def test_average_of_a_whole_network_is_loaded(tiny, saved):
    own, average = tiny(classes=3), tiny(classes=3)
    average.decode_head.conv_seg.weight.data += 1
    file = saved(
        {"model": own.state_dict(), "model_ema": prefixed(average.state_dict(), "module.")}
    )
    for asked, module in ((None, own), (True, average)):
        loaded = load_checkpoint(file, "fcn_r18-d8", average=asked).module
        assert torch.equal(loaded.decode_head.conv_seg.weight, module.decode_head.conv_seg.weight)


def test_reference_script_of_torchvision_with_an_average_is_known(tiny, saved):
    weights = tiny("fcn_resnet50", classes=3, auxiliary=True).state_dict()
    content = {
        "model": weights,
        "model_ema": prefixed(weights, "module."),
        "optimizer": {},
        "lr_scheduler": {},
        "epoch": 9,
        "args": Namespace(model="fcn_resnet50"),
    }
    assert load_checkpoint(saved(content)).module.arch.name == "fcn_resnet50"
