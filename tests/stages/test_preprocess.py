import numpy as np
import pytest

from fcn_trt.stages.preprocess import (
    bgrx_to_frame,
    nv12_to_frame,
    preprocess,
    preprocess_into,
)

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
RAW = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_colours_come_out_as_red_green_blue():
    frame = np.empty((4, 6, 3), np.uint8)
    frame[...] = (10, 20, 30)  # BGR
    tensor = preprocess(frame, (4, 6), **RAW)
    assert tensor.shape == (3, 4, 6)
    assert tensor.dtype == np.float32
    assert [set(plane.ravel()) for plane in tensor] == [{30.0}, {20.0}, {10.0}]


def test_frame_of_the_networks_size_is_only_normalised():
    transforms = pytest.importorskip("torchvision.transforms.v2.functional")
    torch = pytest.importorskip("torch")
    frame = noise((37, 53))
    rgb = torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1)
    expected = transforms.normalize(rgb.double(), list(MEAN), list(STD)).numpy()
    tensor = preprocess(frame, (37, 53), mean=MEAN, std=STD)
    np.testing.assert_allclose(tensor, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("frame_size", "size"),
    [
        ((97, 131), (64, 96)),
        ((33, 47), (64, 96)),
        ((480, 640), (256, 512)),
        ((1, 1), (5, 7)),
        ((64, 96), (1, 1)),
        ((9, 200), (64, 96)),
    ],
)
def test_other_sizes_are_resized_as_torch_does_without_antialiasing(frame_size, size):
    torch = pytest.importorskip("torch")
    frame = noise(frame_size)
    rgb = torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1)[None].double()
    expected = torch.nn.functional.interpolate(rgb, size=size, mode="bilinear", antialias=False)
    difference = preprocess(frame, size, **RAW) - expected[0].numpy()
    # Half a grey level for rounding to whole ones, and what OpenCV's fixed-point arithmetic cuts
    # off on the way there (8-bit INTER_LINEAR); noise is the worst case.
    assert np.abs(difference).max() < 0.5 + 0.3


def test_resized_pixels_are_whole_grey_levels():
    tensor = preprocess(noise((97, 131)), (64, 96), **RAW)
    assert np.array_equal(tensor, np.rint(tensor))


def test_frame_may_be_a_view_of_a_larger_one():
    whole = noise((60, 80))
    view = whole[5:45:2, 3:63:3, ::-1]
    expected = preprocess(np.ascontiguousarray(view), (16, 24), mean=MEAN, std=STD)
    np.testing.assert_array_equal(preprocess(view, (16, 24), mean=MEAN, std=STD), expected)


def test_frame_is_left_as_it_is_and_memory_of_the_caller_is_filled():
    frame = noise((20, 30))
    copy = frame.copy()
    tensor = np.full((2, 3, 8, 12), np.nan, np.float32)
    preprocess_into(tensor[1], frame, mean=MEAN, std=STD)
    np.testing.assert_array_equal(frame, copy)
    np.testing.assert_array_equal(tensor[1], preprocess(frame, (8, 12), mean=MEAN, std=STD))
    assert np.isnan(tensor[0]).all()


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (np.zeros((4, 6), np.uint8), r"\(4, 6\) uint8"),
        (np.zeros((4, 6, 4), np.uint8), r"\(4, 6, 4\) uint8"),
        (np.zeros((1, 4, 6, 3), np.uint8), r"\(1, 4, 6, 3\) uint8"),
        (np.zeros((4, 6, 3), np.float32), r"\(4, 6, 3\) float32"),
        (np.zeros((0, 6, 3), np.uint8), r"\(0, 6, 3\) uint8"),
        (None, "None"),
    ],
    ids=["grey", "with alpha", "batch", "float", "empty", "none"],
)
def test_what_is_no_colour_frame_is_refused_with_its_shape_and_type(frame, found):
    message = rf"a frame is \(height, width, 3\) uint8 BGR, but this one is {found}"
    with pytest.raises(ValueError, match=message):
        preprocess(frame, (4, 6), **RAW)


def test_fourth_byte_of_bgrx_is_dropped():
    bgrx = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    np.testing.assert_array_equal(bgrx_to_frame(bgrx), bgrx[..., :3])


@pytest.mark.parametrize(
    ("yuv", "bgr"),
    [
        ((16, 128, 128), (0, 0, 0)),
        ((235, 128, 128), (255, 255, 255)),
        ((126, 128, 128), (128, 128, 128)),
        ((81, 90, 240), (0, 0, 255)),
        ((145, 54, 34), (0, 255, 0)),
        ((41, 240, 110), (255, 0, 0)),
    ],
    ids=["black", "white", "grey", "red", "green", "blue"],
)
def test_nv12_has_the_colours_of_bt601(yuv, bgr):
    """The well-known values of colour bars, each rounded to whole ones."""
    nv12 = np.empty((6, 6), np.uint8)
    nv12[:4] = yuv[0]
    nv12[4:, 0::2], nv12[4:, 1::2] = yuv[1:]
    frame = nv12_to_frame(nv12)
    assert frame.shape == (4, 6, 3)
    assert np.abs(frame.astype(int) - bgr).max() <= 2


def test_each_four_pixels_of_nv12_share_a_colour():
    nv12 = np.full((6, 4), 126, np.uint8)
    nv12[4:] = 128
    nv12[5, 2:] = (90, 240)  # the lower right of 2x2 blocks
    frame = nv12_to_frame(nv12)
    is_red = frame[..., 2] > 200
    np.testing.assert_array_equal(is_red[2:, 2:], np.ones((2, 2), bool))
    assert is_red.sum() == 4


@pytest.mark.parametrize("shape", [(5, 4), (6, 5), (6, 4, 1), (0, 4), (6, 0)])
def test_what_is_no_nv12_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=r"NV12 is \(1\.5 x height, width\) .* this one is \("):
        nv12_to_frame(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="float32"):
        nv12_to_frame(np.zeros((6, 4), np.float32))


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6), (0, 6, 4)])
def test_what_is_no_bgrx_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=r"BGRx is \(height, width, 4\) .* this one is \("):
        bgrx_to_frame(np.zeros(shape, np.uint8))
