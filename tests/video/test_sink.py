from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fcn_trt.errors import SinkError
from fcn_trt.video import video_sink, window_sink
from fcn_trt.video.sink import Result, open_sink
from fcn_trt.video.source import open_source
from fcn_trt.video.window_sink import WindowSink

SIZE = (48, 64)
PALETTE = np.array([[0, 0, 0], [0, 128, 255]], dtype=np.uint8)


def render(frame, label_map):
    return np.where(label_map[..., None] == 1, PALETTE[1], frame)


def result(index=0, size=SIZE):
    label_map = np.zeros(size, dtype=np.uint8)
    label_map[:, : size[1] // 2] = 1
    frame = np.full((*size, 3), 200, dtype=np.uint8)
    return Result(index=index, frame=frame, label_map=label_map)


def sink_of(uri, rate_fps=25.0, draw=render, images=()):
    return open_sink(str(uri), render=draw, palette=PALETTE, rate_fps=rate_fps, images=images)


def files_in(folder: Path):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out.mkv", "OUT.MP4"])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_video_holds_every_overlay(tmp_path, name, count):
    with sink_of(tmp_path / name, rate_fps=12.5) as sink:
        for index in range(count):
            sink.write(result(index))
        assert not (tmp_path / name).exists()
    assert files_in(tmp_path) == [name]
    with open_source(str(tmp_path / name)) as source:
        assert source.info.rate_fps == 12.5
        frames = list(source)
    assert len(frames) == count
    assert frames[-1][:, :16].mean(axis=(0, 1)) == pytest.approx(PALETTE[1], abs=12)
    assert frames[-1][:, 48:].mean(axis=(0, 1)) == pytest.approx([200] * 3, abs=12)


RATES = (1, 1.001, 7.3333, 23.976, 29.97003, 59.94006, 65.5351, 65.536, 119.9873, 143.9856, 240)


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out.mkv"])
@pytest.mark.parametrize("rate_fps", RATES)
def test_every_rate_can_be_written(tmp_path, name, rate_fps):
    with sink_of(tmp_path / name, rate_fps=rate_fps) as sink:
        for index in range(5):
            sink.write(result(index))
    with open_source(str(tmp_path / name)) as source:
        assert source.info.rate_fps == pytest.approx(rate_fps, rel=1e-3)
        assert len(list(source)) == 5


def losing(monkeypatch, *indices):
    """Let OpenCV's writer drop these frames without a word."""

    class Losing:
        def __init__(self, *arguments):
            self.writer, self.count = cv2_writer(*arguments), 0

        def __getattr__(self, name):
            return getattr(self.writer, name)

        def write(self, view):
            if self.count not in indices:
                self.writer.write(view)
            self.count += 1

        fourcc = cv2.VideoWriter.fourcc

    cv2_writer = cv2.VideoWriter
    monkeypatch.setattr(cv2, "VideoWriter", Losing)


def stating(monkeypatch, state):
    """Let OpenCV say another number of frames than the file holds."""

    class Stating:
        def __init__(self, *arguments):
            self.capture = cv2_capture(*arguments)

        def __getattr__(self, name):
            return getattr(self.capture, name)

        def get(self, prop):
            value = self.capture.get(prop)
            return state(value) if prop == cv2.CAP_PROP_FRAME_COUNT else value

    cv2_capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Stating)


def write_frames(path, count):
    with sink_of(path) as sink:
        for index in range(count):
            sink.write(result(index))


@pytest.mark.parametrize(("count", "lost"), [(100, (50,)), (100, (98, 99)), (5, (2,))])
def test_a_video_that_lacks_a_frame_or_two_is_kept_with_a_warning(
    tmp_path, monkeypatch, caplog, count, lost
):
    losing(monkeypatch, *lost)
    write_frames(tmp_path / "out.mp4", count)
    assert f"out.mp4 seems to hold {count - len(lost)} of {count} frames" in caplog.text
    assert files_in(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize(("count", "lost"), [(100, (5, 6, 7)), (5, (3, 4)), (1, (0,))])
def test_a_video_that_lacks_more_is_removed(tmp_path, monkeypatch, count, lost):
    losing(monkeypatch, *lost)
    with pytest.raises(SinkError, match=r"out\.mp4 could not be written whole and was removed"):
        write_frames(tmp_path / "out.mp4", count)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("state", "warns"),
    [
        (lambda count: count - 1, True),
        (lambda count: count + 3, True),
        (lambda count: count / 2, False),
        (lambda _: 0.0, False),
        (lambda _: -1e18, False),
        (lambda _: float("nan"), False),
    ],
)
def test_a_video_is_not_removed_for_what_a_backend_only_estimates(
    tmp_path, monkeypatch, caplog, state, warns
):
    with monkeypatch.context() as patch:
        stating(patch, state)
        write_frames(tmp_path / "out.mkv", 40)
    assert ("seems to hold" in caplog.text) == warns
    with open_source(str(tmp_path / "out.mkv")) as source:
        assert len(list(source)) == 40


def test_closing_while_another_thread_writes_is_no_crash(tmp_path):
    script = """
        import sys, threading, time
        from pathlib import Path
        import numpy as np
        from fcn_trt.errors import SinkError
        from fcn_trt.spec import Result
        from fcn_trt.video.video_sink import VideoFileSink

        noise = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), dtype=np.uint8)
        sink = VideoFileSink(Path(sys.argv[1]), render=lambda frame, _: frame, rate_fps=25.0)
        going = threading.Event()

        def write():
            for index in range(10_000):
                try:
                    sink.write(Result(index=index, frame=noise, label_map=noise[..., 0]))
                except SinkError as error:
                    print(error)
                    return
                if index == 5:
                    going.set()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        going.wait(20)
        time.sleep(0.01)
        sink.close()
        writer.join(5)
    """
    path = tmp_path / "out.mp4"
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path} is closed; open a new sink for more frames\n"
    with open_source(str(path)) as source:
        assert len(list(source)) >= 6


def test_closing_does_not_wait_for_a_write_that_hangs(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(video_sink, "CLOSE_TIMEOUT_S", 0.1)
    is_writing, go_on = threading.Event(), threading.Event()
    usage = shutil.disk_usage

    def hang(path):
        is_writing.set()
        go_on.wait(10)
        return usage(path)

    sink = sink_of(tmp_path / "out.mp4")
    sink.write(result(0))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", hang)
        writer = threading.Thread(target=lambda: sink.write(result(1)), daemon=True)
        writer.start()
        assert is_writing.wait(5)
        sink.close()
        assert "out.mp4 is still being written and was left open" in caplog.text
        go_on.set()
        writer.join(5)
    assert not writer.is_alive()
    sink.close()
    with open_source(str(tmp_path / "out.mp4")) as source:
        assert len(list(source)) == 2


def test_images_of_a_sequence_do_not_wait_for_the_disk(tmp_path, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with sink_of(f"labels:{tmp_path}") as sink:
        sink.write(result())
    assert files_in(tmp_path) == ["000000.png"]
    assert synced == []


def test_an_unknown_rate_plays_at_25(tmp_path):
    with sink_of(tmp_path / "out.mp4", rate_fps=0.0) as sink:
        sink.write(result())
    with open_source(str(tmp_path / "out.mp4")) as source:
        assert source.info.rate_fps == 25


@pytest.mark.parametrize("rate_fps", [0.5, 7.3, 24000 / 1001, 30.00003, 240.0])
@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out.mkv"])
def test_any_rate_is_found_whole(tmp_path, name, rate_fps):
    with sink_of(tmp_path / name, rate_fps=rate_fps) as sink:
        for index in range(50):
            sink.write(result(index))
    assert (tmp_path / name).is_file()


def test_a_video_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").touch()
    with sink_of(tmp_path / "out.mp4") as sink:
        sink.write(result())
    assert (tmp_path / "out.mp4").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("uri", ["out.mp4", "frames/", "labels:labels"])
def test_a_sink_that_was_given_nothing_leaves_nothing(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    sink = sink_of(uri)
    sink.close()
    sink.close()
    assert files_in(tmp_path) == []


def test_a_folder_that_was_there_stays(tmp_path):
    sink_of(f"{tmp_path}/").close()
    assert tmp_path.is_dir()


def test_an_older_video_is_replaced_only_by_a_whole_one(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"older")
    sink_of(path).close()
    assert path.read_bytes() == b"older"
    with sink_of(path) as sink:
        sink.write(result())
    assert len(path.read_bytes()) > 100


def test_what_was_written_before_an_error_is_playable(tmp_path):
    def draw(frame, label_map):
        return frame if frame.shape[0] == SIZE[0] else 1 / 0

    with sink_of(tmp_path / "out.mp4", draw=draw) as sink:
        sink.write(result())
        with pytest.raises(ZeroDivisionError):
            sink.write(result(size=(2, 2)))
    with open_source(str(tmp_path / "out.mp4")) as source:
        assert len(list(source)) == 1


def test_a_frame_of_another_size_is_refused_with_both(tmp_path):
    with sink_of(tmp_path / "out.mp4") as sink:
        sink.write(result())
        with pytest.raises(SinkError, match=r"frame 1 is 20x30 but .*out\.mp4 began with 48x64"):
            sink.write(result(1, size=(20, 30)))
    with open_source(str(tmp_path / "out.mp4")) as source:
        assert len(list(source)) == 1


@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
def test_a_size_that_no_encoder_takes_is_named(tmp_path, name):
    with sink_of(tmp_path / name) as sink, pytest.raises(SinkError, match="cannot encode 1x1 fra"):
        sink.write(result(size=(1, 1)))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("missing/out.mp4", r"missing/out\.mp4 cannot be written: No such file or directory; make"),
        ("file/out.mp4", r"file/out\.mp4 cannot be written: Not a directory"),
        ("/proc/out.mp4", r"/proc/out\.mp4 cannot be written: "),
        ("pipe.mp4", r"pipe\.mp4 cannot become a video file; name one that ends in \.mp4, \.avi"),
        ("file/", "nothing can be written into folder file: (File exists|Not a directory)"),
        ("file/a/b/", "nothing can be written into folder file/a/b: Not a directory"),
        ("/proc/", "nothing can be written into folder /proc: "),
        ("labels:/proc/fcn", "nothing can be written into folder /proc/fcn: "),
        ("out.webm", r"sink 'out\.webm' is none that can be written; give a video \(\.mp4, "),
        ("out.png", r"sink 'out\.png' is none that can be written; .*images such as 'out/%06d"),
        ("windw", "sink 'windw' is none that can be written; .* folder that ends in '/', "),
        ("a/windw", "sink 'a/windw' is none that can be written"),
        ("file", "sink 'file' is none that can be written"),
        (
            "rtmp://host/live",
            "sink 'rtmp://host/live' is a URL, and nothing is sent over the",
        ),
        ("http://host/out.mp4", "sink 'http://host/out.mp4' is a URL"),
        ("labels:file:///tmp/x", "sink 'labels:file:///tmp/x' is a URL"),
        ("", "sink '' is none that can be written"),
        ("labels:", "sink '' is none that can be written"),
        ("labels:out/%d.jpg", r"images out/%d\.jpg cannot be written; their names end in \.png "),
        ("overlays:%d.gif", r"images %d\.gif cannot be written; their names end in \.png or \.jpg"),
        ("%d%d.png", "is none that can be written"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_any_frame(
    tmp_path, monkeypatch, uri, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SinkError, match=message):
        sink_of(uri)
    assert files_in(tmp_path) == ["file", "pipe.mp4"]


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("out/", ["out/000000.jpg", "out/000001.jpg"]),
        ("there", ["there/000000.jpg", "there/000001.jpg"]),
        ("overlays:out", ["out/000000.jpg", "out/000001.jpg"]),
        ("labels:out", ["out/000000.png", "out/000001.png"]),
        ("a/b/", ["a/b/000000.jpg", "a/b/000001.jpg"]),
        ("there.d", ["there.d/000000.jpg", "there.d/000001.jpg"]),
        ("overlays:v1.0/", ["v1.0/000000.jpg", "v1.0/000001.jpg"]),
        ("overlays:a%b/%02d.bmp", ["a%b/00.bmp", "a%b/01.bmp"]),
        ("out-%d.png", ["out-0.png", "out-1.png"]),
        ("labels:out/", ["out/000000.png", "out/000001.png"]),
        ("labels:out/%03d.png", ["out/000.png", "out/001.png"]),
    ],
)
def test_images_have_the_names_that_were_asked(tmp_path, monkeypatch, uri, names):
    monkeypatch.chdir(tmp_path)
    Path("there.d").mkdir()
    Path("there").mkdir()
    with sink_of(uri) as sink:
        for index in range(2):
            sink.write(result(index))
    assert [name for name in files_in(tmp_path) if Path(name).is_file()] == names


def test_overlay_images_are_what_render_drew(tmp_path):
    with sink_of(tmp_path / "%d.png") as sink:
        sink.write(result())
    view = render(result().frame, result().label_map)
    written = cv2.imread(str(tmp_path / "0.png"))
    assert written is not None
    assert np.array_equal(written, view)


def test_label_images_are_the_label_map_and_its_colours(tmp_path):
    with sink_of(f"labels:{tmp_path}") as sink:
        sink.write(result())
    image = Image.open(tmp_path / "000000.png")
    assert np.array_equal(np.asarray(image), result().label_map)
    assert np.asarray(image.convert("RGB"))[0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize(("name", "width"), [("%d.webp", 17000), ("%d.jpg", 70000)])
def test_an_image_too_large_for_its_kind_is_named(tmp_path, name, width):
    message = rf"frame 0 of 1x{width} cannot be encoded as {name}; write another kind"
    with sink_of(tmp_path / name) as sink, pytest.raises(SinkError, match=message):
        sink.write(result(size=(1, width)))
    assert files_in(tmp_path) == []


def test_a_folder_that_goes_away_is_named(tmp_path):
    folder = tmp_path / "out"
    with sink_of(f"labels:{folder}") as sink:
        folder.rmdir()
        with pytest.raises(SinkError, match=r"out/000000\.png cannot be written: No such file"):
            sink.write(result())


def test_a_video_whose_folder_goes_away_is_named(tmp_path):
    path = tmp_path / "out.mp4"
    sink = sink_of(path)
    sink.write(result())
    path.mkdir()
    with pytest.raises(SinkError, match=r"out\.mp4 cannot be written: Is a directory"):
        sink.close()
    assert files_in(tmp_path) == ["out.mp4"]


def test_no_sink_takes_everything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with sink_of("none") as sink:
        sink.write(result())
        assert not sink.has_ended
    assert files_in(tmp_path) == []


def test_a_disk_about_to_be_full_ends_a_video_that_is_still_playable(tmp_path, monkeypatch):
    with sink_of(tmp_path / "out.mp4") as sink:
        sink.write(result(0))
        monkeypatch.setattr(video_sink, "RESERVE_BYTES", 1 << 60)
        message = r"out\.mp4 ends after 1 frames because its disk is full \(\d+\.\d MB free\); make"
        with pytest.raises(SinkError, match=message):
            sink.write(result(1))
    with open_source(str(tmp_path / "out.mp4")) as source:
        assert len(list(source)) == 1


def write_noise(uri):
    """Write 200 frames that do not compress; how many were taken, and the error."""
    noise = np.random.default_rng(0).integers(0, 255, (8, 240, 320, 3), dtype=np.uint8)
    taken = 0

    def write_all():
        nonlocal taken
        with sink_of(uri, draw=lambda frame, _: frame) as sink:
            for index in range(200):
                frame = noise[index % 8]
                sink.write(Result(index=index, frame=frame, label_map=frame[..., 0]))
                taken += 1

    with pytest.raises(SinkError) as caught:
        write_all()
    return taken, str(caught.value)


@pytest.fixture
def small_files():
    """Let no file grow over 400 kB: writes fail as on a full disk, for any user."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out.mkv"])
def test_a_video_that_did_not_reach_the_disk_is_removed(tmp_path, small_files, name):
    _, message = write_noise(tmp_path / name)
    assert message.startswith(f"{tmp_path / name} could not be written whole and was removed (")
    assert "MB free there); if the disk is full, make room" in message
    assert files_in(tmp_path) == []


def test_an_image_that_did_not_reach_the_disk_is_removed(tmp_path, small_files):
    with sink_of(tmp_path / "%d.bmp") as sink:
        sink.write(result(0))
        with pytest.raises(SinkError, match=r"1\.bmp cannot be written: File too large"):
            sink.write(result(1, size=(400, 400)))
    assert files_in(tmp_path) == ["0.bmp"]


@pytest.fixture
def small_disk(tmp_path):
    mount, umount = shutil.which("mount"), shutil.which("umount")
    folder = tmp_path / "small"
    folder.mkdir()
    command = [mount or "", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if os.geteuid() or not umount or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run([umount, str(folder)], check=True)


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out.mkv"])
def test_a_video_on_a_disk_that_fills_up_is_playable(small_disk, name):
    count, message = write_noise(small_disk / name)
    assert f"{name} ends after {count} frames because its disk is full" in message
    assert files_in(small_disk) == [name]
    with open_source(str(small_disk / name)) as source:
        assert len(list(source)) == count > 10


def test_images_on_a_disk_that_fills_up_are_whole(small_disk):
    count, message = write_noise(f"overlays:{small_disk}/%d.bmp")
    assert "No space left on device" in message
    assert files_in(small_disk) == sorted(f"{number}.bmp" for number in range(count))


@pytest.fixture
def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


def test_a_window_without_a_display_is_refused_with_the_reason(no_display):
    with pytest.raises(SinkError, match=r"no window can be opened here \(.+\); run it where"):
        sink_of("window")


@pytest.mark.parametrize(
    ("probe", "reason"),
    [("import time; time.sleep(9)", "no answer within 0 s"), ("raise SystemExit(3)", "status 3")],
)
def test_a_display_that_does_not_answer_is_refused(monkeypatch, probe, reason):
    monkeypatch.setattr(window_sink, "_PROBE", probe)
    monkeypatch.setattr(window_sink, "PROBE_TIMEOUT_S", 0.3)
    if "status" in reason:
        monkeypatch.setattr(window_sink, "PROBE_TIMEOUT_S", 20.0)
    with pytest.raises(SinkError, match=f"no window can be opened here .{reason}"):
        sink_of("window")


class Screen:
    """Stands in for a display, for the sink's bookkeeping only; real windows were tried by hand."""

    def __init__(self, monkeypatch):
        self.key, self.shown, self.is_open = -1, [], False
        self.visible: float | None = 1.0
        monkeypatch.setattr(window_sink, "_PROBE", "")
        for name in ("namedWindow", "resizeWindow", "imshow", "waitKey", "getWindowProperty"):
            monkeypatch.setattr(cv2, name, getattr(self, name))
        monkeypatch.setattr(cv2, "destroyWindow", self.destroy)

    def namedWindow(self, title, flags):  # noqa: N802 - OpenCV's name
        assert not self.is_open
        self.is_open = True

    def resizeWindow(self, title, width, height):  # noqa: N802
        assert (height, width) == SIZE

    def imshow(self, title, view):
        self.shown.append(view)

    def waitKey(self, delay_ms):  # noqa: N802
        return self.key

    def getWindowProperty(self, title, prop):  # noqa: N802
        if self.visible is None:
            raise cv2.error("NULL guiReceiver")
        return self.visible

    def destroy(self, title):
        if not self.visible:
            raise cv2.error("no such window")
        self.is_open = False


@pytest.mark.parametrize(
    ("key", "visible", "has_ended"),
    [
        (-1, 1.0, False),
        (ord("x"), 1.0, False),
        (27, 1.0, True),
        (ord("q"), 1.0, True),
        (-1, 0.0, True),
        (-1, None, True),
    ],
)
def test_a_window_ends_with_its_keys_and_its_cross(monkeypatch, key, visible, has_ended):
    screen = Screen(monkeypatch)
    with WindowSink(render=render) as sink:
        sink.write(result(0))
        assert not sink.has_ended
        screen.key, screen.visible = key, visible
        sink.write(result(1))
        assert sink.has_ended == has_ended
    sink.close()
    assert len(screen.shown) == 2
    assert screen.is_open == (not visible)


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("labels:out", ["out", "out/x", "out/x/a.png", "out/y", "out/y/%d.png"]),
        ("out/", ["out", "out/x", "out/x/a.jpg", "out/y", "out/y/%d.jpg"]),
        ("overlays:out/%02d.png", ["out", "out/00.png", "out/01.png"]),
        ("labels:in/x", ["in", "in/x", "in/x/x", "in/x/x/a.png", "in/x/y", "in/x/y/%d.png"]),
    ],
)
def test_what_is_made_of_images_is_named_after_them(tmp_path, monkeypatch, uri, names):
    monkeypatch.chdir(tmp_path)
    with sink_of(uri, images=[Path("in/x/a.png"), Path("in/y/%d.png")]) as sink:
        for index in range(2):
            sink.write(result(index))
    assert files_in(tmp_path) == names


@pytest.mark.parametrize(
    "uri", ["labels:in", "overlays:in/%d.png", "labels:link", "overlays:.//in/"]
)
def test_images_that_are_read_are_not_replaced(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("link").symlink_to("in")
    images = [Path("in/0.png"), Path("in/a.jpg"), Path("in/1.png")]
    with pytest.raises(SinkError, match=r"would replace those that are read, the first one [0a]"):
        sink_of(uri, images=images)
    assert files_in(tmp_path) == ["in", "link"]
