from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fcn_trt.errors import OnnxError
from fcn_trt.network.contract import load_network
from fcn_trt.network.file import Network, content_sha256
from fcn_trt.network.load import load_onnx


@pytest.fixture
def beside(tiny_network, tmp_path):
    """The tiny network, saved again with its weights in another file."""
    path = tmp_path / "n.onnx"
    onnx.save(
        onnx.load(tiny_network),
        path,
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    return path


def changed(path):
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)


def test_network_with_its_weights_beside_it_is_the_same_network(beside, tiny_network):
    found, before = Network.read(beside), Network.read(tiny_network)
    assert found.spec == before.spec
    whole = onnx.load_from_string(found.read_bytes())
    assert whole == load_network(tiny_network)[0]
    assert load_network(beside)[0] == whole


def test_other_weights_beside_it_are_another_network(beside):
    found, content = Network.read(beside), content_sha256(beside)
    changed(beside.parent / "w.bin")
    assert Network.read(beside).sha256 != found.sha256
    assert content_sha256(beside) != content
    with pytest.raises(OnnxError, match=r"n\.onnx was written to since it was read; run it again"):
        found.read_bytes()


def test_file_that_is_replaced_between_check_and_use_is_refused(tiny_network, tmp_path):
    path = tmp_path / "n.onnx"
    path.write_bytes(tiny_network.read_bytes())
    found = Network.read(path)
    path.write_bytes(tiny_network.read_bytes() + b"\x30\x01")
    with pytest.raises(OnnxError, match=r"n\.onnx was written to since it was read"):
        found.read_bytes()


def external(path, location, *, count=1, side=6, **entries):
    """A file whose tensors are said to be elsewhere."""
    tensor = numpy_helper.from_array(np.zeros(6, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.dims[0] = side
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["w0"], ["y"])],
            "g",
            [],
            [onnx.helper.make_tensor_value_info("y", 1, None)],
        )
    )
    for index in range(count):
        tensor.name = f"w{index}"
        made.graph.initializer.append(tensor)
    path.write_bytes(made.SerializeToString())
    return path


ELSEWHERE = ["/dev/zero", "../up.bin", "sub/../n.bin", "fifo", "link", "", ".", "a\0b", "x" * 5000]


@pytest.mark.parametrize("location", ELSEWHERE)
def test_what_is_no_file_of_its_own_folder_is_not_read(location, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("up.bin", "own/n.bin"):
        (tmp_path / name).write_bytes(bytes(24))
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to(tmp_path / "up.bin")
    path = external(folder / "m.onnx", location)
    for read in (load_onnx, content_sha256):
        with pytest.raises(OnnxError, match="which is no file in its own folder"):
            read(path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"offset": "8"}, r"have 32 bytes in 'n\.bin', which has 24"),
        ({"count": 2}, r"have 48 bytes in 'n\.bin', which has 24"),
        ({"count": 10_000}, r"have 240000 bytes in 'n\.bin', which has 24"),
        ({"side": 5 << 28}, r"at most 4294967296 bytes are read, .* \(--max-bytes raises that\)"),
        ({"side": 1 << 29}, "and ONNX takes 2147483647 in one file"),
        ({"side": 1 << 40}, "at most 4294967296 bytes are read"),
    ],
)
def test_other_file_that_does_not_hold_what_is_claimed_is_refused(options, reason, tmp_path):
    (tmp_path / "n.bin").write_bytes(bytes(24))
    path = external(tmp_path / "m.onnx", "n.bin", **options)
    with pytest.raises(OnnxError, match=rf"m\.onnx cannot be read as ONNX: .*{reason}"):
        load_onnx(path)


def test_huge_file_with_holes_is_not_read(tmp_path):
    with (tmp_path / "n.bin").open("wb") as file:
        file.truncate(60 << 30)
    path = external(tmp_path / "m.onnx", "n.bin", offset=str(50 << 30))
    assert load_onnx(path).graph.initializer[0].raw_data == bytes(24)
    with pytest.raises(OnnxError, match=r"n\.bin cannot be read: at most 4294967296 bytes"):
        content_sha256(path)


def twice(kind):
    def change(model):
        values = getattr(model if kind == "opset_import" else model.graph, kind)
        values.append(values[0])

    return change


@pytest.mark.parametrize("kind", ["initializer", "output", "input", "opset_import"])
def test_names_that_are_there_twice_are_refused(kind, tiny_network, tmp_path):
    model = onnx.load(tiny_network)
    twice(kind)(model)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(OnnxError, match=r"it has the .* 2 times; fetch or export it again"):
        load_onnx(tmp_path / "m.onnx")
