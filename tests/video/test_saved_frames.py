import cv2
import numpy as np
import pytest

from fcn_trt.errors import SourceError
from fcn_trt.video.saved_frames import save_frames
from fcn_trt.video.source import open_source


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({}, [*range(10)]),
        ({"every": 4}, [0, 4, 8]),
        ({"every": 4, "limit": 2}, [0, 4]),
        ({"count": 3}, [0, 3, 6]),
        ({"count": 99}, [*range(10)]),
    ],
)
def test_frames_are_saved_under_their_places(make_video, tmp_path, options, places):
    path, out = make_video("100%d drive.mp4", count=10), tmp_path / "out"
    seen: list[int] = []
    assert save_frames(str(path), out, on_frame=lambda: seen.append(1), **options) == len(places)
    assert files_in(out) == [f"100%d drive_{place:06d}.png" for place in places]
    assert len(seen) == len(places)
    with open_source(str(path)) as source:
        wanted = list(source)
    for place in places:
        saved = cv2.imread(str(out / f"100%d drive_{place:06d}.png"))
        np.testing.assert_array_equal(saved, wanted[place])


def test_frames_of_what_is_no_file_are_numbered(tmp_path):
    assert save_frames("scene:1:48x64", tmp_path, every=2, limit=2, suffix=".jpg") == 2
    assert files_in(tmp_path) == ["frame_000000.jpg", "frame_000002.jpg"]


def test_only_a_videos_file_can_be_spread_over(tmp_path):
    with pytest.raises(SourceError, match="scene cannot be read: No such file"):
        save_frames("scene", tmp_path / "out", count=3)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(SourceError, match=r"a\.png is no video, whose frames can be spread"):
        save_frames(str(tmp_path / "a.png"), tmp_path / "out", count=3)
    assert not (tmp_path / "out").exists()
