"""Frames and label maps that travel inside an ONNX file."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest

from fcn_trt.errors import OnnxError
from fcn_trt.network.contract import finish_network, load_network, stamp
from fcn_trt.network.file import Network
from fcn_trt.network.reference import MAX_BYTES, Reference, read_reference, shrink_to_fit
from fcn_trt.precision.type_network import type_network
from fcn_trt.spec import Precision
from tests.plans import as_network, save

SIZE = (32, 48)
PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16")


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def reference():
    frames = [noise(SIZE, seed) for seed in range(3)]
    return Reference.of(
        lambda frame: frame[:, :, 0] % 3,
        frames,
        SIZE,
        source="PyTorch",
        kind="photos",
        is_drawn=False,
    )


def test_it_comes_back_as_it_was(reference):
    back = Reference.from_json(reference.to_json())
    assert (back.source, back.kind, back.is_drawn) == ("PyTorch", "photos", False)
    np.testing.assert_array_equal(back.frames, reference.frames)
    np.testing.assert_array_equal(back.label_maps, reference.label_maps)


def test_agreement_is_the_share_of_equal_pixels(reference):
    assert reference.agreement(lambda frame: frame[:, :, 0] % 3) == 1.0
    wrong = iter([True, False, False])

    def label(frame):
        labels = frame[:, :, 0] % 3
        if next(wrong):
            labels[:16] += 1
        return labels

    assert reference.agreement(label) == pytest.approx(1 - 0.5 / 3)


def test_it_travels_through_every_step(reference, tiny_network, tmp_path):
    model, spec = load_network(tiny_network)
    stamp(model, spec, reference)
    finish_network(model, spec)
    save(model, tmp_path / "m.onnx")
    for precision in PRECISIONS:
        typed = type_network(as_network(tmp_path / "m.onnx"), tmp_path / "t.onnx", precision)
        found = Network.read(typed.path).reference()
        assert found is not None
        np.testing.assert_array_equal(found.label_maps, reference.label_maps)


def test_network_without_one_says_so(tiny_network):
    assert as_network(tiny_network).reference() is None


@pytest.mark.parametrize("size", [(64, 96), (512, 1024), (1, 3000)])
def test_frames_that_cannot_be_compressed_are_made_smaller(size):
    frames = shrink_to_fit([noise(size, seed) for seed in range(3)], size)
    reference = Reference.of(
        lambda frame: frame[:, :, 0] // 16, frames, size, source="x", kind="y", is_drawn=True
    )
    assert len(reference.to_json()) < 4_000_000
    assert all(frame.shape[1] * 8 > size[1] for frame in frames)
    assert MAX_BYTES < 3_000_000


@pytest.mark.parametrize(
    "change",
    [
        {"frames": []},
        {"frames": ["!!!!"]},
        {"frames": 3},
        {"label_maps": ["aGVsbG8="]},
        {"label_maps": []},
        {"source": None},
        {"is_drawn": "false"},
        {"more": 1},
    ],
)
def test_what_was_damaged_is_refused(reference, tiny_network, tmp_path, change):
    text = json.dumps(json.loads(reference.to_json()) | change)
    model, spec = load_network(tiny_network)
    stamp(model, spec, reference)
    model.metadata_props[1].value = text
    with pytest.raises(OnnxError, match=r"the reference in m\.onnx is damaged .*export it again"):
        read_reference(model.SerializeToString(), "m.onnx")


def test_more_frames_than_are_ever_kept_are_refused(reference):
    content = json.loads(reference.to_json())
    for name in ("frames", "label_maps"):
        content[name] *= 20
    with pytest.raises(ValueError, match="or too many"):
        Reference.from_json(json.dumps(content))


def test_labels_like_noise_leave_fewer_frames(monkeypatch):
    monkeypatch.setattr("fcn_trt.network.reference.MAX_BYTES", 2_900_000 // 32)
    size = (192, 384)
    kept = shrink_to_fit([noise(size, seed) for seed in range(3)], size)
    labels = np.random.default_rng(0).integers(0, 21, size, dtype=np.uint8)
    found = Reference.of(lambda _: labels, kept, size, source="x", kind="y", is_drawn=False)
    assert 1 <= len(found.frames) < 3
    assert len(Reference.from_json(found.to_json()).frames) == len(found.frames)


def test_picture_that_would_fill_the_memory_is_not_decoded(reference):
    content = json.loads(reference.to_json())
    png = bytearray(base64.b64decode(content["frames"][0]))
    png[16:24] = (60000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(bytes(png[12:29])).to_bytes(4, "big")
    content["frames"][0] = base64.b64encode(bytes(png)).decode()
    with pytest.raises(ValueError, match="an image in it is 60000x60000"):
        Reference.from_json(json.dumps(content))
