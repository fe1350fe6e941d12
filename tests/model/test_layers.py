"""Layers that are counted against the module itself, with every layer hooked."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from fcn_trt.model.architecture import ARCHITECTURES, Architecture, Head, architecture
from fcn_trt.model.fcn import Fcn
from fcn_trt.model.layers import auxiliary_parameters, layers

UNDILATED = Architecture(
    name="fcn_resnet18_stride32",
    family="torchvision",
    depth=18,
    stem="7x7",
    strides=(1, 2, 2, 2),
    dilations=(1, 1, 1, 1),
    head=Head(convs=1),
    align_corners=False,
)
"""jetson-inference's: no dilation, so that a logit stands for 32x32 pixels."""


def hooked(module, size):
    """By name, the module, what it reads and what it writes, from a pass without data."""
    found = {}

    def hook(name):
        return lambda layer, inputs, output: found.update(
            {name: (layer, tuple(inputs[0].shape), tuple(output.shape))}
        )

    handles = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            # Changes no shape, and without data takes four fifths of the time.
            layer.forward = lambda features: features
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            handles.append(layer.register_forward_hook(hook(name)))
    with torch.device("meta"):
        image = torch.empty(1, 3, *size)
    module.eval()(image)
    for handle in handles:
        handle.remove()
    return found


@cache
def published(model):
    """A module without data, once for all sizes."""
    with torch.device("meta"):
        return Fcn(architecture(model), 19)


def assert_is_the_module_s(counted, module, size):
    found = hooked(module, size)
    own = {layer.name: layer for layer in counted if layer.kind in ("convolution", "max pooling")}
    assert own.keys() == found.keys()
    assert [name for name in own if "downsample" not in name] == [
        name for name in found if "downsample" not in name
    ]
    for name, (layer, read, written) in found.items():
        mine = own[name]
        assert (mine.inputs, *mine.input_size) == read[1:]
        assert (mine.outputs, *mine.output_size) == written[1:]
        assert mine.read == torch.Size(read).numel()
        assert mine.written == torch.Size(written).numel()
        window = (mine.kernel, mine.stride, mine.dilation)
        theirs = (layer.kernel_size, layer.stride, layer.dilation)
        if isinstance(layer, nn.MaxPool2d):
            assert window == theirs
        else:
            assert tuple((side, side) for side in window) == theirs
            assert mine.groups == layer.groups
            assert mine.weights == layer.weight.numel()
            assert mine.macs == layer.weight[0].numel() * torch.Size(written).numel()
            assert mine.is_normalised == (layer.bias is None)
    assert sum(layer.parameters for layer in counted) == sum(p.numel() for p in module.parameters())


MORE_SIZES = ((64, 96), (769, 769), (33, 1))


@pytest.mark.parametrize(
    "size", [(65, 97), *(pytest.param(size, marks=pytest.mark.exhaustive) for size in MORE_SIZES)]
)
@pytest.mark.parametrize("model", ARCHITECTURES)
def test_layers_are_those_of_the_module(model, size):
    counted = layers(architecture(model), size=size, num_classes=19)
    assert_is_the_module_s(counted, published(model), size)


@pytest.mark.parametrize("size", [(256, 512), (320, 320), (47, 31)])
def test_undilated_network_is_counted_too(size):
    with torch.device("meta"):
        module = Fcn(UNDILATED, 21)
    counted = layers(UNDILATED, size=size, num_classes=21)
    assert_is_the_module_s(counted, module, size)
    assert counted[-1].output_size == tuple(-(-side // 32) for side in size)


def test_undilated_network_has_the_parameters_of_jetson_inference():
    counted = layers(UNDILATED, size=(256, 512), num_classes=21)
    assert sum(layer.parameters for layer in counted) == 11_769_301
    assert sum(layer.macs for layer in counted) / 1e9 == pytest.approx(4.8, abs=0.02)


@pytest.mark.parametrize("base_width", [8, 16])
def test_width_is_the_module_s(base_width):
    arch = replace(architecture("fcn_d6_r50-d16"), head=Head(convs=3, dilation=2, concat=True))
    with torch.device("meta"):
        module = Fcn(arch, 4, base_width=base_width)
    counted = layers(arch, size=(65, 97), num_classes=4, base_width=base_width)
    assert_is_the_module_s(counted, module, (65, 97))


@pytest.mark.parametrize("model", ["fcn_resnet50", "fcn_r18-d8", "fcn_d6_r101-d16"])
def test_auxiliary_head_is_the_module_s(model):
    arch = architecture(model)
    with torch.device("meta"):
        module = Fcn(arch, 7, auxiliary=True)
    own = [p for name, p in module.named_parameters() if name.startswith("auxiliary_head.")]
    assert auxiliary_parameters(arch, num_classes=7) == sum(p.numel() for p in own) > 0


def test_what_is_no_convolution_moves_elements_and_computes_nothing():
    counted = layers(architecture("fcn_r50-d8"), size=(64, 96), num_classes=19)
    kinds = {layer.kind: layer for layer in counted}
    assert [layer.kind for layer in counted].count("addition") == 3 + 4 + 6 + 3
    addition, joined = kinds["addition"], kinds["concatenation"]
    assert (addition.name, addition.macs, addition.parameters) == ("backbone.layer4.2", 0, 0)
    assert (addition.read, addition.written) == (2 * 2048 * 8 * 12, 2048 * 8 * 12)
    assert joined.read == joined.written == (2048 + 512) * 8 * 12
    assert joined.weights == 0


def test_normalisation_and_activation_follow_as_in_the_module():
    """Each batch normalisation once, each ReLU once: torch's own count of calls."""
    arch = architecture("fcn_r18-d8")
    with torch.device("meta"):
        module = Fcn(arch, 19).eval()
        calls = {nn.BatchNorm2d: 0, nn.ReLU: 0}
        for layer in module.modules():
            if type(layer) in calls:
                layer.register_forward_hook(
                    lambda layer, *_: calls.update({type(layer): calls[type(layer)] + 1})
                )
        module(torch.empty(1, 3, 64, 96))
    counted = layers(arch, size=(64, 96), num_classes=19)
    assert sum(layer.is_normalised for layer in counted) == calls[nn.BatchNorm2d]
    assert sum(layer.is_activated for layer in counted) == calls[nn.ReLU]
