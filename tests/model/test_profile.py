import pytest
import torch

from fcn_trt.model.architecture import ARCHITECTURES, architecture
from fcn_trt.model.fcn import Fcn
from fcn_trt.model.profile import profile


@pytest.mark.parametrize(
    ("size", "gflops"),
    [((256, 512), 216.42), ((512, 1024), 865.69), ((1024, 2048), 3462.77)],
)
def test_cost_is_that_of_the_published_table(size, gflops):
    cost = profile(architecture("pad_fcn_resnet101"), size=size)
    assert cost.gflops == pytest.approx(gflops, rel=0.003)
    assert cost.parameters == pytest.approx(51.95e6, rel=0.003)


@pytest.mark.parametrize(
    ("model", "parameters"), [("fcn_resnet50", 35_322_218), ("fcn_resnet101", 54_314_346)]
)
def test_parameters_are_torchvision_s(model, parameters):
    assert profile(architecture(model), size=(64, 64)).parameters_with_auxiliary == parameters


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_sums_are_those_of_the_stages_and_of_the_module(model):
    arch = architecture(model)
    cost = profile(arch, size=(96, 160), num_classes=5)
    assert [stage.name for stage in cost.stages] == [
        *("stem", "layer1", "layer2", "layer3", "layer4", "head")
    ]
    assert cost.gmac == sum(stage.gmac for stage in cost.stages)
    assert cost.gflops == 2 * cost.gmac
    with torch.device("meta"):
        module = Fcn(arch, 5)
    assert cost.parameters == sum(p.numel() for p in module.parameters())
    assert all(stage.weight_bytes == 4 * stage.parameters for stage in cost.stages)
    stride = arch.stride
    assert cost.stages[-1].output_size == (96 // stride, 160 // stride)


def test_macs_are_those_that_torch_counts():
    """torch's own counter, on a real forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    arch = architecture("fcn_r18-d8")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Fcn(arch, 19).eval()(torch.zeros(1, 3, 65, 97))
    assert profile(arch, size=(65, 97)).gflops == pytest.approx(counter.get_total_flops() / 1e9)


def test_activations_are_what_the_convolutions_write():
    stem = profile(architecture("fcn_resnet50"), size=(64, 128)).stages[0]
    assert stem.output_size == (32, 64)
    assert stem.activation_bytes == 4 * 64 * 32 * 64
    assert stem.gmac == pytest.approx(7 * 7 * 3 * 64 * 32 * 64 / 1e9)
