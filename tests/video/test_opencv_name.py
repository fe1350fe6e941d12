import os
import sys

import numpy as np
import pytest

from fcn_trt.errors import SourceError
from fcn_trt.spec import Result
from fcn_trt.video.opencv_name import opencv_name
from fcn_trt.video.scene_source import open_scene
from fcn_trt.video.source import open_source
from fcn_trt.video.video_sink import VideoFileSink

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its names are bytes")

NAMES = ("a\udcff.mp4", "\udcff\udc80/\x1b[2J\udcff.avi", "ö\udcfe.mp4")


@pytest.mark.parametrize("name", NAMES)
def test_video_of_any_name_is_written_and_read(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    scene = open_scene("scene:3:64x96")
    frames = iter(scene)
    with VideoFileSink(path, render=lambda frame, _: frame, rate_fps=10) as sink:
        for index in range(3):
            sink.write(
                Result(frame=next(frames), label_map=np.zeros((64, 96), np.uint8), index=index)
            )
    with open_source(str(path)) as source:
        assert len(list(source)) == 3
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["rtsp://\udcff/x", "/dev/video\udcff", "videotestsrc ! \udcff"])
def test_what_is_no_file_is_refused(name):
    with pytest.raises(SourceError, match=r"is not UTF-8, and OpenCV|GStreamer"):
        open_source(name)


def test_ordinary_name_is_the_file_s_own(tmp_path):
    with opencv_name(tmp_path / "ö.mp4") as name:
        assert name == os.fspath(tmp_path / "ö.mp4")


def test_temporary_folder_of_such_a_name_is_refused(tmp_path, monkeypatch):
    (tmp_path / "\udcff").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "\udcff"))
    with pytest.raises(SourceError, match="is not UTF-8"), opencv_name(tmp_path / "\udcff.mp4"):
        pass
