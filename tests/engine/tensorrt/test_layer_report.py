"""Reports as TensorRT writes them; keys and texts are those of its releases, values are ours."""

import json

import pytest

from fcn_trt.engine.tensorrt.layer_report import read_report
from fcn_trt.errors import EngineError

NAMES = ("stem.0", "layer1.conv1", "layer1.conv2")


def types(*layers):
    return read_report(json.dumps({"Layers": layers}))


def cask(name, *, text, weights=None, metadata=None):
    """A convolution as 10.x reports it."""
    layer = {
        "Name": name,
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Dimensions": [1, 8, 8, 8], "Format/Datatype": text}],
        "TacticName": "sm80_xmma_fprop_implicit_gemm",
    }
    if weights is not None:
        layer["Weights"] = {"Type": weights, "Count": 64}
    if metadata is not None:
        layer["Metadata"] = metadata
    return layer


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Row major linear FP32", "fp32"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("BFloat16", "bf16"),
        ("FP8", "fp8"),
    ],
)
def test_type_is_read_from_the_text_of_10(text, kind):
    assert types(cask("stem.0", text=text))["stem.0"] == kind


def test_type_is_read_from_the_keys_of_11():
    layer = {
        "Name": "stem.0",
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Format": "Channel major, 8 wide", "Datatype": "Half"}],
        "Metadata": "[ONNX Layer: stem.0]",
    }
    assert types(layer)["stem.0"] == "fp16"


def test_weights_tell_before_the_input_does():
    """A fused layer may read floats and quantise them itself."""
    assert types(cask("stem.0", text="Row major linear FP32", weights="Int8"))["stem.0"] == "int8"


@pytest.mark.parametrize("separator", ["\x1e", "\x1f"])
def test_fused_layer_counts_for_each_node_it_was_made_of(separator):
    metadata = separator.join(f"[ONNX Layer: {name}]" for name in (*NAMES, "layer1.relu"))
    fused = cask("__myl_ConvConv_0", text="Half", metadata=metadata)
    assert types(fused) == dict.fromkeys((*NAMES, "layer1.relu"), "fp16")


def test_fused_layer_without_metadata_is_found_by_its_name():
    assert types(cask("stem.0 + stem.2", text="Half"))["stem.0"] == "fp16"


def test_fusion_is_a_convolution_where_its_tactic_says_so():
    layer = {
        "Name": "__myl_Conv_myl0_1",
        "LayerType": "fusion",
        "TacticName": "sm80_xmma_gemm_i8i8_i8i32_f32_tn",
        "Metadata": "[ONNX Layer: stem.0]",
        "Inputs": [{"Format/Datatype": "Int8"}],
    }
    assert types(layer)["stem.0"] == "int8"


def test_layer_that_only_moves_what_a_convolution_made_does_not_count():
    layer = {
        "Name": "stem.0 copy",
        "LayerType": "Reformat",
        "Metadata": "[ONNX Layer: stem.0]",
        "Inputs": [{"Format/Datatype": "Float"}],
        "TacticName": "0x00000000000003e8",
    }
    assert types(layer, cask("stem.0", text="Half"))["stem.0"] == "fp16"


def test_name_that_only_begins_alike_does_not_count():
    assert "layer1.conv1" not in types(cask("layer1.conv10", text="Half"))


@pytest.mark.parametrize(
    "layer",
    [
        "stem.0",  # how a report without detailed verbosity looks
        cask("stem.0", text="N/A due to dynamic shapes"),
        {"Name": "stem.0", "LayerType": "CaskConvolution"},
    ],
)
def test_convolution_whose_type_is_not_said_is_not_reported(layer):
    assert types(layer) == {}


@pytest.mark.parametrize("text", ["", "{}", "[]", "not JSON"])
def test_text_that_is_no_report_is_refused(text):
    with pytest.raises(EngineError, match="the engine's layer report cannot be read"):
        read_report(text)
