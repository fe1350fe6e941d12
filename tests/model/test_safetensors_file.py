import json
import struct

import pytest
import torch
from safetensors.torch import save

from fcn_trt.model import safetensors_file
from fcn_trt.model.inert_pickle import DamagedError
from fcn_trt.model.safetensors_file import read_safetensors

TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DEEP = 100_000


def packed(header, numbers=bytes(8)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def test_tensors_are_what_was_saved():
    matrix = torch.arange(12.0).reshape(3, 4)
    names = ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2")
    tensors = {name: matrix.to(getattr(torch, name)) for name in names}
    tensors |= {"count": torch.tensor(3), "empty": torch.empty(0, 2), "flag": torch.tensor([True])}
    found, metadata = read_safetensors(save(tensors, {"model": "m"}))
    assert metadata == {"model": "m"}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert f"torch.{found[name].dtype}" == str(tensor.dtype)
        assert found[name].shape == tuple(tensor.shape)
        if tensor.is_floating_point():
            assert torch.equal(found[name].read(), tensor.float())


@pytest.mark.parametrize(
    "header",
    [
        *({"a": {**TENSOR, "shape": shape}} for shape in ([3], [1], [-2], [2, 2.0], [[2]], "2", 2)),
        *({"a": {**TENSOR, "shape": shape}} for shape in ([1] * 9 + [2], [True, 2], [1 << 70])),
        *({"a": {**TENSOR, "data_offsets": at}} for at in ([0, 4], [4, 8], [8, 0], [0, 16], [0])),
        *({"a": {**TENSOR, "data_offsets": at}} for at in ([-8, 8], ["0", 8], None, [0, 1 << 70])),
        *({"a": {**TENSOR, "dtype": dtype}} for dtype in ("F31", "f32", None, 7)),
        {"a": TENSOR, "b": TENSOR},  # in the same place
        {"a": {**TENSOR, "data_offsets": [0, 0], "shape": [0]}},  # and bytes of no tensor
        *({"a": None}, {"a": []}, [], {"__metadata__": [], "a": TENSOR}),
        {"__metadata__": {"licence": ["x"]}, "a": TENSOR},
        b'{"a":' + json.dumps(TENSOR).encode() + b',"a":' + json.dumps(TENSOR).encode() + b"}",
        b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 9000 + b'],"data_offsets":[0,8]}}',
        *(b"{", b"\xff{}", b"{}x", b""),
    ],
)
def test_header_of_another_form_is_damage(header):
    with pytest.raises(DamagedError, match=r"its (header|metadata)"):
        read_safetensors(packed(header))


def test_size_of_the_header_is_bounded(monkeypatch):
    data = packed({"a": TENSOR})
    read_safetensors(data)
    monkeypatch.setattr(safetensors_file, "MAX_HEADER_BYTES", 20)
    with pytest.raises(DamagedError, match="has over 20 bytes"):
        read_safetensors(data)


@pytest.mark.parametrize(
    ("dtype", "elements", "name"), [("F4", 16, "float4_e2m1fn_x2"), ("F6_E2M3", 32, "float6")]
)
def test_floats_of_less_than_a_byte_say_what_they_are(dtype, elements, name):
    said = {"dtype": dtype, "shape": [elements], "data_offsets": [0, elements * int(dtype[1]) // 8]}
    tensors, _ = read_safetensors(packed({"a": said}, bytes(said["data_offsets"][1])))
    assert f"is {name}" in str(tensors["a"].fault)
    assert "save the weights as float32" in str(tensors["a"].fault)
