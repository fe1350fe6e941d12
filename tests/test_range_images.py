import cv2
import numpy as np
import pytest

from fcn_trt.errors import SourceError
from fcn_trt.range_images import MOST_IMAGES, STREETS, RangeImages

SIZE = (32, 64)


@pytest.fixture
def folder(tmp_path):
    """A folder of grey images, each as light as its number says."""

    def write(count):
        for number in range(count):
            image = np.full((4, 6, 3), number, dtype=np.uint8)
            cv2.imwrite(str(tmp_path / f"{number}.png"), image)
        return tmp_path

    return write


def test_without_a_folder_they_are_streets_of_the_networks_size():
    images = RangeImages(folder=None, size=SIZE)
    frames = list(images)
    assert images.name == "8 drawn streets"
    assert len(frames) == len(images) == STREETS
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((*SIZE, 3), "uint8")}
    assert len({frame.tobytes() for frame in frames}) == STREETS
    assert images.paths() == []


def test_streets_are_the_same_each_time():
    images = RangeImages(folder=None, size=SIZE)
    for first, second in zip(images, images, strict=True):
        assert np.array_equal(first, second)


def test_images_of_a_folder_keep_their_size_and_their_natural_order(folder):
    images = RangeImages(folder=folder(11), size=SIZE)
    frames = list(images)
    assert images.name == str(images.folder)
    assert len(images) == 11
    assert [int(frame[0, 0, 0]) for frame in frames] == list(range(11))
    assert {frame.shape for frame in frames} == {(4, 6, 3)}


@pytest.mark.parametrize(
    ("count", "taken", "step"),
    [
        (MOST_IMAGES, MOST_IMAGES, 1),
        (MOST_IMAGES + 1, MOST_IMAGES // 2 + 1, 2),
        (2 * MOST_IMAGES, MOST_IMAGES, 2),
        (3 * MOST_IMAGES, MOST_IMAGES, 3),
    ],
)
def test_of_many_images_some_are_taken_spread_evenly(folder, count, taken, step):
    images = RangeImages(folder=folder(count), size=SIZE)
    assert len(images) == len(images.paths()) == taken <= MOST_IMAGES
    assert [int(path.stem) for path in images.paths()] == list(range(0, count, step))


def test_images_are_decoded_when_their_turn_comes(folder):
    path = folder(2)
    (path / "1.png").write_text("no image")
    frames = iter(RangeImages(folder=path, size=SIZE))
    assert next(frames).shape == (4, 6, 3)
    with pytest.raises(SourceError, match=r"1\.png is not a whole image; remove it or fetch it"):
        next(frames)


@pytest.mark.parametrize("use", [len, list])
def test_folder_without_images_is_refused(tmp_path, use):
    with pytest.raises(SourceError, match=r"folder .* holds no image; images end in \.bmp"):
        use(RangeImages(folder=tmp_path, size=SIZE))


def test_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SourceError, match="gone cannot be read: No such file or directory"):
        len(RangeImages(folder=tmp_path / "gone", size=SIZE))
