from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fcn_trt.arrays import FRAME, LABEL_MAP
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.stages.decode import decode
from fcn_trt.video.palette_png import encode_palette_png

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = "cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) makes one of a grey picture"
PLANES = "frame.transpose(1, 2, 0) moves the channels to the end"
SCALES = "(255 * frame).round().astype('uint8') scales one of 0 to 1"
PATH = "cv2.imread reads a picture, and fcn_trt.stream a video"

NO_FRAMES = {
    "none": (None, "None; cv2.imread gives None for a file that it cannot read"),
    "text": ("a.png", f"a str; {PATH}"),
    "path": (Path("a.png"), f"a pathlib.PosixPath; {PATH}"),
    "PIL": (
        Image.fromarray(PICTURE),
        "a PIL.Image.Image; make it an array with numpy.asarray(picture.convert('RGB'))[..., ::-1]",
    ),
    "list": (
        PICTURE.tolist(),
        "a list; make it an array with numpy.asarray, or pass several to segment_batch",
    ),
    "UMat": (cv2.UMat(3, 4, cv2.CV_8UC3), "a cv2.UMat; make it a numpy array"),
    "number": (np.uint8(3), "a numpy.uint8 () uint8; make it a numpy array"),
    "grey": (PICTURE[..., 0], f"(6, 8) uint8; {GREY}"),
    "grey with an axis": (PICTURE[..., :1], f"(6, 8, 1) uint8; {GREY}"),
    "alpha": (
        np.dstack([PICTURE, PICTURE[..., :1]]),
        "(6, 8, 4) uint8; frame[..., :3] is the colours without the fourth channel",
    ),
    "planes": (PICTURE.transpose(2, 0, 1), f"(3, 6, 8) uint8; {PLANES}"),
    "planes of float": (PICTURE.transpose(2, 0, 1) / 255, f"(3, 6, 8) float64; {PLANES}"),
    "two channels": (PICTURE[..., :2], "(6, 8, 2) uint8"),
    "several": (PICTURE[None], "(1, 6, 8, 3) uint8; segment_batch takes several"),
    "a row": (PICTURE[0], "(8, 3) uint8; where several frames are taken, one goes into a list"),
    "float": (PICTURE / 255, f"(6, 8, 3) float64; {SCALES}"),
    "half": (PICTURE.astype(np.float16), f"(6, 8, 3) float16; {SCALES}"),
    "16 bits": (
        PICTURE.astype(np.uint16),
        "(6, 8, 3) uint16; (frame / 257).round().astype('uint8') scales it",
    ),
    "int64": (
        PICTURE.astype(np.int64),
        "(6, 8, 3) int64; astype('uint8') makes it one if its values are 0 to 255",
    ),
    "objects": (
        PICTURE.astype(object),
        "(6, 8, 3) object; astype('uint8') makes it one if its values are 0 to 255",
    ),
    "empty": (PICTURE[:0], "(0, 8, 3) uint8; it is empty"),
}


@pytest.mark.parametrize("name", NO_FRAMES)
def test_what_is_no_frame_is_refused_with_what_it_is_and_what_makes_it_one(name):
    value, found = NO_FRAMES[name]
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the whole sentence is compared
        FRAME.check(value)
    sentence = f"a frame is (height, width, 3) uint8 BGR, but this one is {found}"
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    "remedy",
    [
        lambda: cv2.cvtColor(PICTURE[..., 0], cv2.COLOR_GRAY2BGR),
        lambda: np.asarray(Image.fromarray(PICTURE).convert("RGB"))[..., ::-1],
        lambda: (255 * (PICTURE / 255)).round().astype("uint8"),
        lambda: (PICTURE.astype(np.uint16) * 257 / 257).round().astype("uint8"),
        lambda: PICTURE.transpose(2, 0, 1).transpose(1, 2, 0),
    ],
    ids=["grey", "PIL", "float", "16 bits", "planes"],
)
def test_remedies_make_frames(remedy):
    FRAME.check(remedy())


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_tensor_of_torch_is_refused_by_its_name(dtype):
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(3, 6, 8, dtype=getattr(torch, dtype))
    found = rf"a torch.Tensor \(3, 6, 8\) torch.{dtype}; .* tensor.cpu\(\).numpy\(\), channels last"
    with pytest.raises(ValueError, match=found):
        FRAME.check(tensor)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (PICTURE, r"\(6, 8, 3\) uint8"),
        (PICTURE[..., 0] > 3, r"\(6, 8\) bool; astype\('uint8'\) makes it one"),
        (Image.fromarray(PICTURE[..., 0]), "a PIL.Image.Image; make it an array"),
        ([[0, 1]], "a list; "),
        (None, "None; "),
    ],
    ids=["colours", "bool", "PIL", "list", "none"],
)
def test_what_is_no_label_map_is_refused_wherever_one_enters(value, found):
    for enter in (LABEL_MAP.check, lambda it: encode_palette_png(it, PICTURE[0])):
        with pytest.raises(ValueError, match=r"a label map is .* uint8, but this one is " + found):
            enter(value)


@pytest.mark.parametrize(
    "view",
    [
        PICTURE[:, ::-1],
        PICTURE[..., ::-1],
        PICTURE[::2, 1::3],
        np.asfortranarray(PICTURE),
        np.broadcast_to(PICTURE[:1, :1], (6, 8, 3)),
        np.frombuffer(PICTURE.tobytes(), np.uint8).reshape(6, 8, 3),
        np.ma.masked_array(PICTURE),
    ],
    ids=["mirrored", "RGB", "strided", "fortran", "repeated", "read-only", "masked"],
)
def test_frame_may_lie_in_memory_as_it_likes(tiny_segmenter, view):
    plain = np.ascontiguousarray(view)
    label_map = tiny_segmenter.segment(plain)
    assert (tiny_segmenter.segment(view) == label_map).all()
    painted = tiny_segmenter.render(plain, label_map)
    assert (tiny_segmenter.render(view, label_map) == painted).all()
    ((frame, _),) = tiny_segmenter.stream([view])
    assert frame.flags.writeable
    assert (frame == plain).all()


@pytest.fixture(scope="module")
def tiny_segmenter(tiny_bundle):
    with Segmenter.load(tiny_bundle.path) as opened:
        yield opened


@pytest.mark.parametrize("name", ["none", "PIL", "list", "planes", "text"])
def test_frame_is_checked_wherever_one_enters(tiny_segmenter, name):
    value, _ = NO_FRAMES[name]
    label_map = np.zeros((6, 8), np.uint8)
    for enter in (
        tiny_segmenter.segment,
        tiny_segmenter.render,
        tiny_segmenter.time_stages,
        lambda it: tiny_segmenter.render(it, label_map),
        lambda it: tiny_segmenter.segment_batch([PICTURE, it]),
        lambda it: tiny_segmenter.logits([it]),
        lambda it: list(tiny_segmenter.stream([it, PICTURE])),
        lambda it: list(tiny_segmenter.stream([it], in_flight=1, copy=False)),
    ):
        with pytest.raises(ValueError, match=r"a frame is \(height, width, 3\) uint8 BGR, but"):
            enter(value)
    assert tiny_segmenter.segment(PICTURE).shape == (6, 8)


def test_one_frame_for_several_and_images_of_torch_are_refused(tiny_segmenter):
    for enter in (tiny_segmenter.segment_batch, tiny_segmenter.logits):
        with pytest.raises(ValueError, match="one goes into a list"):
            enter(PICTURE)
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"a batch of images is .* a torch.Tensor"):
        tiny_segmenter.network(torch.zeros(1, 3, 64, 96))
    with pytest.raises(ValueError, match=r"an array of logits is .* a torch.Tensor \(3, 4, 5\)"):
        decode(torch.zeros(3, 4, 5), (8, 10))
