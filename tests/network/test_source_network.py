"""A user's file, run as it is."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from fcn_trt.errors import OnnxError
from fcn_trt.network.contract import save_network
from fcn_trt.network.import_onnx import import_onnx
from tests.network.user_files import FRAMES, SIZE, UserFile, agreement, our_labels, up

DYNAMIC = {"dynamic_axes": {"input": {0: "n", 2: "h", 3: "w"}, "output": {0: "n", 2: "h", 3: "w"}}}


def full(net, x):
    return torch.nn.functional.interpolate(net(x), size=x.shape[2:], mode="bilinear")


def batch_of_two(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2


def test_file_of_a_fixed_batch_is_given_as_many(tmp_path):
    case = UserFile(wrapped=full, export=DYNAMIC)
    path = case.write(tmp_path / "user.onnx")
    theirs = case.labels(path)
    model = onnx.load(path)
    batch_of_two(model)
    onnx.save(model, path)
    found = import_onnx(path, size=SIZE)
    assert agreement([found.source.label_map(frame) for frame in FRAMES], theirs) == 1
    assert agreement(our_labels(found, [SIZE] * len(theirs)), theirs) == 1


def test_frames_are_brought_to_the_size_that_the_file_fixes(tmp_path):
    case = UserFile(wrapped=full)
    path = case.write(tmp_path / "user.onnx")
    source = import_onnx(path, size=(24, 32)).source
    assert source.size == SIZE
    theirs = case.labels(path)
    large = [cv2.resize(f, (112, 80), interpolation=cv2.INTER_NEAREST) for f in FRAMES]
    assert agreement([source.label_map(frame) for frame in FRAMES], theirs) == 1
    assert [source.label_map(frame).shape for frame in large] == [SIZE] * len(large)


def test_file_of_any_size_gets_the_one_that_is_asked_for(tmp_path):
    path = UserFile(wrapped=full, export=DYNAMIC).write(tmp_path / "user.onnx")
    source = import_onnx(path, size=(24, 32)).source
    assert source.size is None
    assert source.label_map(FRAMES[0]).shape == (24, 32)


@pytest.mark.parametrize("align_corners", [False, True])
def test_file_that_ends_at_its_logits_is_upsampled(align_corners, tmp_path):
    ends_early = UserFile(wrapped=lambda n, x: n(x)).take(tmp_path / "user.onnx").source
    whole = UserFile(wrapped=lambda n, x: up(n(x), align_corners=align_corners))
    whole.write(tmp_path / "whole.onnx")
    source = replace(ends_early, align_corners=align_corners)
    theirs = whole.labels(tmp_path / "whole.onnx")
    assert agreement([source.label_map(frame) for frame in FRAMES], theirs) >= 0.9995


def test_one_of_several_outputs_is_read(tmp_path):
    case = UserFile(
        wrapped=lambda n, x: (up(n(x)), up(-n(x))), export={"output_names": ["aux", "main"]}
    )
    path = tmp_path / "user.onnx"
    case.write(path)
    sources = [import_onnx(path, size=SIZE, output=name).source for name in ("aux", "main")]
    first, second = ([s.label_map(frame) for frame in FRAMES] for s in sources)
    assert agreement(first, case.labels(path)) == 1
    assert (np.stack(first) != np.stack(second)).mean() > 0.9


def test_weights_beside_the_file_are_found(tmp_path):
    case = UserFile(wrapped=full)
    path = case.write(tmp_path / "user.onnx")
    theirs = case.labels(path)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    source = import_onnx(path, size=SIZE).source
    assert agreement([source.label_map(frame) for frame in FRAMES], theirs) == 1


def test_our_own_file_is_read_as_its_spec_says(tmp_path):
    found = UserFile(wrapped=lambda n, x: up(n(x / 9), align_corners=True)).take(
        tmp_path / "user.onnx"
    )
    save_network(found.model, found.spec, tmp_path / "ours.onnx")
    again = import_onnx(tmp_path / "ours.onnx", size=SIZE)
    assert again.spec == found.spec
    ours, source = ([s.label_map(f) for f in FRAMES] for s in (found.source, again.source))
    assert agreement(source, ours) >= 0.9995


def test_file_that_onnx_runtime_cannot_run_is_named(tmp_path):
    path = UserFile(wrapped=full).write(tmp_path / "user.onnx")
    source = import_onnx(path, size=SIZE).source
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if t.name == "net.0.weight")
    weight.CopyFrom(numpy_helper.from_array(np.zeros((8, 4, 3, 3), np.float32), weight.name))
    source = replace(source, data=model.SerializeToString())
    with pytest.raises(OnnxError, match=r"user\.onnx cannot be run by ONNX Runtime, to compare"):
        source.label_map(FRAMES[0])
