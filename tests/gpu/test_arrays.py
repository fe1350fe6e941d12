"""Frames that torch holds on the GPU already, in every layout and on torch's own streams."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.gpu.executors import CopyEngine, copy_spec, random_frame, segmenter_of

SIZE = (96, 130)


@pytest.fixture
def segmenter(make_backend):
    spec = copy_spec((64, 96))
    return segmenter_of(spec, make_backend(spec, CopyEngine(spec)))


def pixels_of(layout):
    """(array that a camera gives, the BGR frame that it stands for)."""
    frame = random_frame(SIZE, 1)
    if layout == "nv12":
        pixels = np.random.default_rng(2).integers(0, 256, (144, 130), dtype=np.uint8)
        return pixels, cv2.cvtColor(pixels, cv2.COLOR_YUV2BGR_NV12)
    if layout == "bgrx":
        return np.dstack([frame, np.full(SIZE, 200, np.uint8)]), frame
    return frame, frame


@pytest.mark.parametrize("layout", ["bgr", "bgrx", "nv12"])
def test_array_has_the_labels_of_the_same_frame_on_the_host(arrays, segmenter, layout):
    from fcn_trt.cuda.memory import DeviceArray

    pixels, frame = pixels_of(layout)
    out = DeviceArray(
        shape=SIZE, dtype=np.dtype(np.uint8), address=arrays.room(SIZE, np.uint8), owner=arrays
    )
    source = DeviceArray(
        shape=pixels.shape, dtype=pixels.dtype, address=arrays.upload(pixels), owner=arrays
    )
    segmenter.segment_array(source, out)
    found = arrays.download(out.address, SIZE, np.uint8)
    np.testing.assert_array_equal(found, segmenter.segment(frame))


@pytest.mark.parametrize("layout", ["bgr", "bgrx", "nv12"])
def test_torch_frame_has_the_labels_of_the_same_frame_on_the_host(torch, segmenter, layout):
    pixels, frame = pixels_of(layout)
    expected = segmenter.segment(frame)
    source = torch.from_numpy(pixels).cuda()
    out = torch.full(SIZE, 254, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    for _ in range(3):
        segmenter.segment_array(source, out)
        np.testing.assert_array_equal(out.cpu().numpy(), expected)
        out.fill_(254)
        torch.cuda.synchronize()
    np.testing.assert_array_equal(segmenter.segment(frame), expected)


def test_work_on_a_stream_that_the_array_names_comes_first(torch, segmenter):
    from fcn_trt.cuda.memory import DeviceArray

    frame = random_frame(SIZE, 3)
    expected = segmenter.segment(frame)
    ready = torch.from_numpy(frame).cuda()
    late = torch.zeros_like(ready)
    out = torch.zeros(SIZE, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(300_000_000)  # cycles: more than 0.1 s on any GPU
        late.copy_(ready)
    array = DeviceArray(
        shape=(*SIZE, 3),
        dtype=np.dtype(np.uint8),
        address=late.data_ptr(),
        owner=late,
        stream=side.cuda_stream,
    )
    assert not side.query(), "the copy was over before it was waited for"
    segmenter.segment_array(array, out)
    np.testing.assert_array_equal(out.cpu().numpy(), expected)


def test_frame_may_be_made_on_a_stream_that_was_waited_for(torch, segmenter):
    frame = random_frame(SIZE, 4)
    expected = segmenter.segment(frame)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        source = torch.from_numpy(frame).cuda()
        out = torch.empty(SIZE, dtype=torch.uint8, device="cuda")
        side.synchronize()
        segmenter.segment_array(source, out)
        np.testing.assert_array_equal(out.cpu().numpy(), expected)


def test_torch_array_of_another_shape_or_layout_is_refused(torch, segmenter):
    frame = torch.zeros((*SIZE, 3), dtype=torch.uint8, device="cuda")
    out = torch.zeros(SIZE, dtype=torch.uint8, device="cuda")
    with pytest.raises(ValueError, match="the label map of this frame is"):
        segmenter.segment_array(frame, out[:, :-1].contiguous())
    with pytest.raises(ValueError, match="not C-contiguous"):
        segmenter.segment_array(frame.flip(0).transpose(0, 1), out)
    with pytest.raises(ValueError, match="is uint8"):
        segmenter.segment_array(frame.float(), out)
    with pytest.raises(TypeError, match="__cuda_array_interface__"):
        segmenter.segment_array(frame.cpu().numpy(), out)


def test_torch_goes_on_beside_the_pipeline(torch, segmenter):
    """Both use one primary context; neither disturbs the other's current stream or memory."""
    frame = random_frame(SIZE, 5)
    expected = segmenter.segment(frame)
    matrix = torch.rand((512, 512), device="cuda", dtype=torch.float64)
    product = matrix @ matrix
    for _ in range(20):
        assert torch.equal(matrix @ matrix, product)
        np.testing.assert_array_equal(segmenter.segment(frame), expected)
