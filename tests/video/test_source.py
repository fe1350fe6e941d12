from __future__ import annotations

import http.server
import logging
import os
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from fcn_trt.errors import SourceError
from fcn_trt.limits import MAX_PIXELS
from fcn_trt.video import capture_source
from fcn_trt.video.capture_source import CaptureSource, as_bgr, quiet_opencv
from fcn_trt.video.source import VideoInfo, open_source

SIZE = (48, 64)
HAS_GSTREAMER = cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)


@pytest.mark.parametrize("name", ["in.mp4", "in.avi", "in.mkv"])
def test_a_video_file_gives_all_its_frames_in_order(make_video, name):
    path = make_video(name, count=30, rate_fps=12.5)
    with open_source(str(path)) as source:
        frames = list(source)
        assert source.info == VideoInfo(
            size=SIZE, rate_fps=12.5, frame_count=30, is_live=False, name=str(path)
        )
    assert len(frames) == 30
    assert all(frame.shape == (*SIZE, 3) and frame.dtype == np.uint8 for frame in frames)
    greys = [float(frame.mean()) for frame in frames]
    assert greys == pytest.approx([2 * index for index in range(30)], abs=5)  # codec


def test_frames_that_were_given_are_not_written_to_again(make_video):
    with open_source(str(make_video(count=3))) as source:
        first, *_ = frames = list(source)
    assert len({frame.ctypes.data for frame in frames}) == 3
    assert first.mean() == pytest.approx(0, abs=2.5)


@pytest.mark.parametrize("name", ["in.mp4", "in.avi", "in.mkv"])
def test_a_video_of_too_many_pixels_is_refused_before_its_first_frame(
    make_video, name, monkeypatch
):
    path = str(make_video(name))
    monkeypatch.setattr(CaptureSource, "_read", lambda _: pytest.fail("a frame was decoded"))
    monkeypatch.setenv(MAX_PIXELS.variable, str(48 * 64 - 1))
    with pytest.raises(SourceError, match=rf"{name} is 64x48: at most 3071 pixels are read, and"):
        open_source(path)


def test_a_frame_that_is_larger_than_its_video_said_is_refused(monkeypatch):
    monkeypatch.setenv(MAX_PIXELS.variable, str(48 * 64 - 1))
    with pytest.raises(SourceError, match="cam is 64x48: at most 3071 pixels are read"):
        as_bgr(np.zeros((48, 64), np.uint8), name="cam")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("name", ["pipe.mp4", "pipe.png", "pipe"])
def test_a_pipe_and_a_device_are_no_video(tmp_path, name):
    os.mkfifo(tmp_path / name)
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / "zero.mp4"):
        with pytest.raises(SourceError, match=r"cannot be read: it is a .* and no reg"):
            open_source(str(path))


def test_a_closed_source_ends_and_closes_again(make_video):
    source = open_source(str(make_video()))
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []
    assert list(source) == []


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nothing.mp4", "source 'nothing.mp4' does not exist; give a video file"),
        ("nothing/", "source 'nothing/' does not exist"),
        ("x" * 5000, "does not exist"),
        ("nothing/*.png", r"no image matches 'nothing/\*\.png'; images end in \.bmp"),
        ("nothing/%06d.png", r"no image matches 'nothing/%06d\.png'"),
        ("99", "camera 99 cannot be opened; see which there are with `ls /dev/video"),
        ("/dev/video99", "camera /dev/video99 cannot be opened"),
        ("rtsp://127.0.0.1:9/x", "stream 'rtsp://127.0.0.1:9/x' cannot be opened; check the addr"),
    ],
)
def test_what_is_not_there_is_named(uri, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=message):
        open_source(uri)


@pytest.mark.skipif(HAS_GSTREAMER, reason="this OpenCV is built with GStreamer")
def test_a_pipeline_without_gstreamer_says_where_to_find_it():
    with pytest.raises(SourceError, match=r"built with GStreamer.*--system-site-packages"):
        open_source("videotestsrc ! appsink")


@pytest.mark.skipif(not HAS_GSTREAMER, reason="this OpenCV is built without GStreamer")
def test_a_pipeline_is_a_live_source():
    with open_source("videotestsrc num-buffers=3 ! videoconvert ! appsink") as source:
        assert source.info.is_live
        assert len(list(source)) == 3


@pytest.mark.parametrize("uri", ["in.mp4", "frames/*.png"])
def test_a_size_is_asked_of_cameras_only(uri):
    with pytest.raises(ValueError, match="is no camera"):
        open_source(uri, camera_size=SIZE)


def test_a_camera_that_is_not_there_is_named_before_it_is_asked_for_a_size():
    with pytest.raises(SourceError, match="camera 99 cannot be opened"):
        open_source("99", camera_size=SIZE, camera_rate_fps=30.0)


@pytest.mark.parametrize("content", [b"", b"not a video" * 1000])
def test_a_file_that_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "in.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"in\.mp4 is not a video that OpenCV can read"):
        open_source(str(path))


def test_a_video_cut_off_before_its_index_is_refused(make_video):
    with pytest.raises(SourceError, match=r"in\.mp4 is not a video that OpenCV can read"):
        open_source(str(make_video(keep=0.9)))


@pytest.mark.parametrize("name", ["in.avi", "in.mkv"])
def test_a_video_that_ends_early_gives_what_it_has_and_then_an_error(make_video, name):
    frames: list[np.ndarray] = []
    with (
        open_source(str(make_video(name, count=200, keep=0.4))) as source,
        pytest.raises(SourceError, match=r"cut off: \d+ of 200 frames could be read") as caught,
    ):
        frames.extend(source)
    assert f" {len(frames)} of 200" in str(caught.value)
    assert 20 < len(frames) < 180


def test_a_few_missing_frames_are_a_warning(make_video, caplog):
    with open_source(str(make_video("in.avi", count=200, keep=0.93))) as source:
        count = len(list(source))
    assert 175 <= count < 200
    assert f"{count} of 200 frames could be read" in caplog.text


def test_a_video_that_opens_but_gives_no_frame_is_refused_and_released(make_video, tmp_path):
    path = make_video("in.avi", count=20)
    data = bytearray(path.read_bytes())
    start = data.index(b"movi") + 4
    end = data.index(b"idx1")
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"in\.avi (opens, but no frame of it|is not a video)"):
        open_source(str(path))


def test_a_capture_without_frames_is_released(make_video):
    capture = cv2.VideoCapture(str(make_video(count=2)))
    while capture.grab():
        pass
    with pytest.raises(SourceError, match="worn out opens, but no frame of it can be decoded"):
        CaptureSource(capture, name="worn out")
    assert not capture.isOpened()


def test_a_camera_that_falls_silent_is_an_error(make_video):
    capture = cv2.VideoCapture(str(make_video(count=5)))
    with (
        CaptureSource(capture, name="camera 0", is_live=True, is_endless=True) as source,
        pytest.raises(SourceError, match="camera 0 fell silent after 5 frames"),
    ):
        list(source)
    assert source.info.frame_count is None


@pytest.mark.parametrize("image_count", [1, 3])
def test_a_folder_gives_its_images_in_natural_order(tmp_path, write_image, image_count):
    for value in (10, 9, 2)[:image_count]:
        write_image(tmp_path / f"frame{value}.png", np.full((4, 5, 3), value, dtype=np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    with open_source(str(tmp_path)) as source:
        assert source.info == VideoInfo(
            size=(4, 5),
            rate_fps=0.0,
            frame_count=image_count,
            is_live=False,
            name=str(tmp_path),
            files=tuple(tmp_path / f"frame{n}.png" for n in sorted((10, 9, 2)[:image_count])),
        )
        values = [int(frame[0, 0, 0]) for frame in source]
    assert values == sorted((10, 9, 2)[:image_count])


@pytest.mark.parametrize("pattern", ["f[1]/*.jpg", "*/b.jpg", "**/b.jpg", "b/%02d.jpg"])
def test_a_glob_gives_the_images_that_match(tmp_path, write_image, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "f1" / "b.jpg")
    write_image(tmp_path / "b" / "00.jpg")
    write_image(tmp_path / "b" / "c.png")
    with open_source(pattern) as source:
        assert len(list(source)) == 1


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path, write_image):
    write_image(tmp_path / "f[1]" / "a.png")
    with open_source(str(tmp_path / "f[1]")) as source:
        assert source.info.frame_count == 1


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", np.full((4, 5), 7, dtype=np.uint8)),
        ("alpha.png", np.full((4, 5, 4), 7, dtype=np.uint8)),
        ("deep.png", np.full((4, 5), 7 * 257, dtype=np.uint16)),
        ("photo.bmp", np.full((4, 5, 3), 7, dtype=np.uint8)),
        ("photo.TIF", np.full((4, 5, 3), 7, dtype=np.uint8)),
    ],
)
def test_every_image_becomes_bgr(tmp_path, write_image, name, image):
    path = write_image(tmp_path / name, image)
    with open_source(str(path)) as source:
        (frame,) = source
    assert frame.shape == (4, 5, 3)
    assert frame.dtype == np.uint8
    assert (frame == 7).all()


def test_images_of_several_sizes_keep_them(tmp_path, write_image):
    for index, size in enumerate([(4, 5), (6, 7)]):
        write_image(tmp_path / f"{index}.png", np.zeros((*size, 3), dtype=np.uint8))
    with open_source(str(tmp_path)) as source:
        assert source.info.size == (4, 5)
        assert [frame.shape[:2] for frame in source] == [(4, 5), (6, 7)]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"holds no image; images end in \.bmp, \.jfif"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("name", ["b.png", "b.jpg"])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.6])
def test_a_damaged_image_in_a_folder_is_named_when_its_turn_comes(
    tmp_path, write_image, name, keep, capfd
):
    write_image(tmp_path / "a.png")
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    path = write_image(tmp_path / name, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with open_source(str(tmp_path)) as source:
        frames = iter(source)
        next(frames)
        with pytest.raises(SourceError, match=rf"{name} is not a whole image; remove it"):
            next(frames)


def jpeg(size=SIZE, *, progressive=False, restart=0):
    """Noise as a JPEG; noise has many bytes FF in its scan."""
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive), cv2.IMWRITE_JPEG_RST_INTERVAL]
    return cv2.imencode(".jpg", noise, [*options, restart])[1].tobytes()


def with_thumbnail(data):
    """The JPEG with a small whole one inside an APP1 segment, as EXIF has it."""
    inside = b"Exif\0\0" + jpeg((8, 8))
    return data[:2] + b"\xff\xe1" + (len(inside) + 2).to_bytes(2, "big") + inside + data[2:]


JPEGS = [
    jpeg(),
    jpeg(progressive=True),
    jpeg(restart=1),
    with_thumbnail(jpeg()),
    with_thumbnail(jpeg(progressive=True)),
]


@pytest.mark.parametrize("data", JPEGS)
@pytest.mark.parametrize(
    "tail", [b"", b"\0" * 9, b"\xff\xda ftypmp42", jpeg(), jpeg()[:-50], b"\xff\xd8\xff"]
)
def test_a_jpeg_may_have_bytes_after_its_end(tmp_path, data, tail):
    path = tmp_path / "motion.jpg"
    path.write_bytes(data + tail)
    with open_source(str(path)) as source:
        (frame,) = source
    assert frame.shape == (*SIZE, 3)


@pytest.mark.parametrize("data", JPEGS)
def test_a_jpeg_that_was_cut_anywhere_is_refused(tmp_path, data, capfd):
    path = tmp_path / "cut.jpg"
    for length in (*range(2, len(data) - 1, 97), len(data) - 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(SourceError, match=r"cut\.jpg is not a whole image"):
            open_source(str(path))


def test_an_image_that_goes_away_is_named(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    path = write_image(tmp_path / "b.png")
    with open_source(str(tmp_path)) as source:
        path.unlink()
        with pytest.raises(SourceError, match=r"b\.png cannot be read: No such file"):
            list(source)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # chmod does not stop root
    with pytest.raises(SourceError, match="cannot be read: Permission denied"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_frames_of_any_channels_become_bgr(shape):
    frame = as_bgr(np.full(shape, 9, dtype=np.uint8), name="camera 0")
    assert frame.shape == (4, 5, 3)
    assert (frame == 9).all()


@pytest.mark.parametrize(
    "image", [np.zeros((4, 5), dtype=np.uint16), np.zeros((4, 5, 2), dtype=np.uint8)]
)
def test_frames_of_another_kind_are_refused_with_their_shape(image):
    with pytest.raises(SourceError, match=r"camera 0 gives frames of uint\d+ \(4, 5.*expected"):
        as_bgr(image, name="camera 0")


def test_a_file_that_does_not_say_how_many_frames_it_has_just_ends(tmp_path, caplog):
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    path = tmp_path / "in.mjpeg"
    path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes() * 10)
    with open_source(str(path)) as source:
        assert source.info.frame_count is None
        assert len(list(source)) == 10
    assert not caplog.records


def test_silence_ends_with_its_block():
    cv2_logging = getattr(cv2.utils, "logging", cv2)
    before = cv2_logging.getLogLevel()
    with quiet_opencv():
        assert cv2_logging.getLogLevel() == 0
    assert cv2_logging.getLogLevel() == before


@contextmanager
def http_server(respond):
    """Serve one answer to every GET on a free port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with suppress(OSError):  # the reader may have gone
                respond(self)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def send_file(path):
    def respond(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(path.stat().st_size))
        handler.end_headers()
        handler.wfile.write(path.read_bytes())

    return respond


def send_jpegs(count, then=lambda: None):
    """An IP camera: JPEG after JPEG in one answer that has no length."""
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()

    def respond(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame")
        handler.end_headers()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        for _ in range(count):
            handler.wfile.write(head.encode() + jpeg + b"\r\n")
        then()

    return respond


def test_a_file_behind_a_url_has_an_end_and_is_not_live(make_video):
    path = make_video("in.mkv", count=30)
    with http_server(send_file(path)) as url, open_source(f"{url}/in.mkv") as source:
        assert not source.info.is_live
        assert source.info.frame_count == 30
        assert len(list(source)) == 30


def test_an_ip_camera_is_live_and_its_end_is_a_warning(caplog):
    with (
        http_server(send_jpegs(40)) as url,
        open_source(f"{url}/camera.mjpg") as source,
        caplog.at_level(logging.WARNING),
    ):
        assert source.info.is_live
        assert source.info.frame_count is None
        count = len(list(source))
    assert 30 <= count <= 40
    assert f"ended after {count} frames" in caplog.text


def test_closing_does_not_wait_for_a_read_that_hangs(monkeypatch, caplog):
    monkeypatch.setattr(capture_source, "CLOSE_TIMEOUT_S", 0.1)
    go_on = threading.Event()
    frames: list[np.ndarray] = []
    with http_server(send_jpegs(40, then=lambda: go_on.wait(10))) as url:
        source = open_source(f"{url}/camera.mjpg")
        reader = threading.Thread(target=lambda: frames.extend(source), daemon=True)
        reader.start()
        reader.join(0.3)
        assert reader.is_alive()
        source.close()
        assert "hangs in a read and was left open" in caplog.text
        go_on.set()
        reader.join(5)
        assert not reader.is_alive()
    source.close()
