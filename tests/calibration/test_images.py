import hashlib

import cv2
import numpy as np
import pytest

from fcn_trt.calibration.images import MOST_IMAGES, STREETS, RangeImages
from fcn_trt.errors import SourceError

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
    images = RangeImages.few(None, SIZE)
    frames = list(images)
    assert images.name == "8 drawn streets"
    assert len(frames) == len(images) == STREETS
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((*SIZE, 3), "uint8")}
    assert len({frame.tobytes() for frame in frames}) == STREETS
    assert images.stills == []


def test_streets_are_the_same_each_time():
    images = RangeImages.few(None, SIZE)
    for first, second in zip(images, images, strict=True):
        assert np.array_equal(first, second)


def test_images_of_a_folder_keep_their_size_and_their_natural_order(folder):
    images = RangeImages.few(folder(11), SIZE)
    frames = list(images)
    assert images.name == str(images.folders[0])
    assert len(images) == 11
    assert [int(frame[0, 0, 0]) for frame in frames] == list(range(11))
    assert {frame.shape for frame in frames} == {(4, 6, 3)}


@pytest.mark.parametrize("count", [MOST_IMAGES, MOST_IMAGES + 1, 2 * MOST_IMAGES, 150])
def test_of_many_images_some_are_taken_spread_evenly(folder, count):
    images = RangeImages.few(folder(count), SIZE)
    numbers = [int(still.name.removesuffix(".png")) for still in images.stills]
    assert len(images) == len(numbers) == MOST_IMAGES
    assert numbers == [place * count // MOST_IMAGES for place in range(MOST_IMAGES)]
    assert max(np.diff(numbers)) - min(np.diff(numbers)) <= 1


def test_several_folders_and_streets_are_one_sequence(folder, tmp_path):
    (tmp_path / "other").mkdir()
    cv2.imwrite(str(tmp_path / "other" / "a.png"), np.full((4, 6, 3), 77, np.uint8))
    images = RangeImages(folders=(folder(3), tmp_path / "other"), limit=None, streets=2, size=SIZE)
    frames = list(images)
    assert [frame.shape for frame in frames] == [(4, 6, 3)] * 4 + [(*SIZE, 3)] * 2
    assert [int(frame[0, 0, 0]) for frame in frames[:4]] == [0, 1, 2, 77]
    assert np.array_equal(images[-1], frames[5])
    assert [frame.shape for frame in images[3:5]] == [(4, 6, 3), (*SIZE, 3)]
    with pytest.raises(IndexError):
        images[6]
    assert images.name == f"{tmp_path} and {tmp_path / 'other'} and 2 drawn streets"
    assert images.title == f"{images.folders[0].name} and other and 2 drawn streets"


def test_hash_is_of_the_file_or_of_the_pixels(folder, tmp_path):
    images = RangeImages(folders=(folder(2),), streets=2, size=SIZE)
    file = (tmp_path / "1.png").read_bytes()
    assert images.sha256(1) == hashlib.sha256(file).hexdigest()
    assert images.sha256(3) == hashlib.sha256(images[3].tobytes()).hexdigest()
    assert len({images.sha256(place) for place in range(4)}) == 4


def test_other_streets_are_drawn_from_another_seed_on():
    images = RangeImages(streets=3, size=SIZE)
    later = RangeImages(streets=2, first_street=images.first_street + 1, size=SIZE)
    assert [later.sha256(place) for place in range(2)] == [images.sha256(p) for p in (1, 2)]


def test_images_are_decoded_when_their_turn_comes(folder):
    path = folder(2)
    (path / "1.png").write_text("no image")
    frames = iter(RangeImages.few(path, SIZE))
    assert next(frames).shape == (4, 6, 3)
    with pytest.raises(SourceError, match=r"1\.png is not a whole image; remove it or fetch it"):
        next(frames)


@pytest.mark.parametrize("use", [len, list])
def test_folder_without_images_is_refused(tmp_path, use):
    with pytest.raises(SourceError, match=r"folder .* holds no image; images end in \.bmp"):
        use(RangeImages.few(tmp_path, SIZE))


def test_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SourceError, match="gone cannot be read: No such file or directory"):
        len(RangeImages.few(tmp_path / "gone", SIZE))
