import numpy as np
import pytest

from fcn_trt.errors import SourceError
from fcn_trt.files import sha256
from fcn_trt.video.source import open_source
from fcn_trt.video.stills import find_stills

COUNT = 30


def all_frames(path):
    with open_source(str(path)) as source:
        return list(source)


def same(stills, frames):
    """Whether each still is the frame of its place."""
    return [np.array_equal(s.read(), f) for s, f in zip(stills, frames, strict=True)]


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_frames_of_a_video_are_spread_evenly_over_all_of_it(make_video, name):
    path = make_video(name, count=COUNT)
    stills = find_stills([path], 4)
    assert [still.name for still in stills] == [f"{name} frame {place}" for place in (0, 7, 15, 22)]
    frames = all_frames(path)
    assert all(same(stills, [frames[place] for place in (0, 7, 15, 22)]))


def test_frames_can_be_read_in_any_order_and_again(make_video):
    path = make_video(count=COUNT)
    stills, frames = find_stills([path], None), all_frames(path)
    assert len(stills) == COUNT
    places = (29, 0, 3, 3, 28)
    assert all(same([stills[place] for place in places], [frames[place] for place in places]))


def test_folders_images_and_videos_are_one_sequence(make_video, write_image, tmp_path):
    folder = tmp_path / "in"
    for name in ("10.png", "9.png"):
        write_image(folder / name)
    paths = [folder, make_video("a.mp4", count=2), write_image(tmp_path / "b.png")]
    names = ["9.png", "10.png", "a.mp4 frame 0", "a.mp4 frame 1", "b.png"]
    assert [still.name for still in find_stills(paths, None)] == names
    assert [still.name for still in find_stills(paths, 2)] == ["9.png", "a.mp4 frame 0"]
    assert {still.read().shape for still in find_stills(paths, None)} == {(48, 64, 3)}


def test_the_hash_tells_frames_and_videos_apart(make_video, write_image, tmp_path):
    first = find_stills([make_video("a.mp4", count=3)], None)
    again = find_stills([make_video("b.mp4", count=3)], None)
    other = find_stills([make_video("c.mp4", count=4)], 3)
    image = find_stills([write_image(tmp_path / "d.png")], None)
    assert [still.sha256() for still in first] == [still.sha256() for still in again]
    assert len({still.sha256() for still in [*first, *other, *image]}) == 7
    assert image[0].sha256() == sha256(tmp_path / "d.png")


def test_a_video_that_was_cut_off_is_refused_as_it_is_counted(make_video):
    path = make_video("a.avi", count=90, keep=0.5)
    with pytest.raises(SourceError, match=r"a\.avi is damaged or cut off: \d+ of 90 frames could"):
        find_stills([path], 3)


def test_a_video_that_becomes_shorter_is_refused(make_video):
    path = make_video("a.mp4", count=9)
    stills = find_stills([path], None)
    make_video("a.mp4", count=3)
    assert same(stills[2:3], all_frames(path)[2:])
    with pytest.raises(SourceError, match=r"a\.mp4 has no frame 8 any more"):
        stills[8].read()
    assert len(find_stills([path], None)) == 3


def test_what_is_neither_is_refused(tmp_path):
    with pytest.raises(SourceError, match="gone cannot be read: No such file"):
        find_stills([tmp_path / "gone"], 1)
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(SourceError, match=r"notes\.txt is not a video that OpenCV can read"):
        find_stills([tmp_path / "notes.txt"], 1)
