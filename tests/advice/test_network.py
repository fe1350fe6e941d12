import pytest

from fcn_trt.advice.network import peak_activations
from fcn_trt.model.architecture import architecture
from fcn_trt.model.layers import layers


def part(name, *, size=(64, 96), stage):
    counted = layers(architecture(name), size=size, num_classes=19)
    return [layer for layer in counted if layer.stage == stage]


def test_stem_needs_what_one_layer_reads_and_writes():
    # 32 channels in, 64 out, at half of 64x96.
    assert peak_activations(part("fcn_r50-d8", stage="stem")) == (32 + 64) * 32 * 48


def test_block_keeps_its_input_for_the_addition():
    blocks = part("fcn_r50-d8", stage="layer1")
    second = [layer for layer in blocks if layer.name.startswith("backbone.layer1.1")]
    # 256 in; conv3 of 64 to 256 channels, with the input waiting, is less than the sum of two.
    assert peak_activations(second[:3] + second[3:]) == 3 * 256 * 16 * 24
    assert peak_activations(second[:1]) == (256 + 64) * 16 * 24


def test_strided_branch_waits_for_the_projection():
    first = [
        layer
        for layer in part("fcn_r50-d8", stage="layer2")
        if layer.name.startswith("backbone.layer2.0")
    ]
    # conv2 reads 128 at 16x24 and writes 128 at 8x12, while the 256 of the input wait: more than
    # the projection with the 512 of the branch, or the addition of 512 and 512.
    wanted = (128 + 256) * 16 * 24 + 128 * 8 * 12
    projection = 256 * 16 * 24 + (512 + 512) * 8 * 12
    assert peak_activations(first) == max(wanted, projection) == projection


def test_head_keeps_the_features_for_the_concatenation():
    # 2048 and 512 joined into 2560, at an eighth.
    assert peak_activations(part("fcn_r50-d8", stage="head")) == 2 * 2560 * 8 * 12
    assert peak_activations(part("fcn_resnet50", stage="head")) == (2048 + 512) * 8 * 12


@pytest.mark.parametrize("name", ["fcn_r18-d8", "fcn_d6_r50-d16", "fcn_resnet101"])
def test_network_needs_what_its_neediest_block_needs(name):
    counted = layers(architecture(name), size=(64, 96), num_classes=19)
    stages = dict.fromkeys(layer.stage for layer in counted)
    assert peak_activations(counted) == max(
        peak_activations([layer for layer in counted if layer.stage == stage]) for stage in stages
    )
