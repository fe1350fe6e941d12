"""Frames of a video as a user takes them: saved, calibrated on, compared."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fcn_trt.calibration.cache import read_calibration


@pytest.fixture
def drive(tmp_path, make_frame):
    """A video of 12 frames."""
    path = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (96, 64))
    for seed in range(12):
        writer.write(make_frame((64, 96), seed=seed))
    writer.release()
    return path


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_frames_are_saved(cli, drive, tmp_path):
    out = tmp_path / "out"
    done = cli("frames", drive, "--out", out, "--every", 5)
    assert (done.status, done.out) == (0, f"3 frames in {out}\n")
    assert files_in(out) == ["drive_000000.png", "drive_000005.png", "drive_000010.png"]
    found = cli("frames", drive, "--out", tmp_path / "b", "--count", 2, "--format", "jpg", "--json")
    assert found.json == {"frames": 2, "folder": str(tmp_path / "b")}
    assert files_in(tmp_path / "b") == ["drive_000000.jpg", "drive_000006.jpg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "gif"], "'gif' is none of png, jpg, bmp, webp"),
        (["--count", 2, "--every", 2], "it says already which frames; leave --every and --limit"),
        (["--count", 2, "--limit", 2], "it says already which frames; leave --every and --limit"),
    ],
)
def test_options_that_cannot_be_are_wrong_usage(cli, drive, tmp_path, options, message):
    done = cli("frames", drive, "--out", tmp_path / "out", *options)
    assert (done.status, message in done.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_video_calibrates_as_its_saved_frames_do(cli, tiny_network, drive, tmp_path):
    assert cli("frames", drive, "--out", tmp_path / "out", "--count", 5).status == 0
    caches = []
    for images in (drive, tmp_path / "out"):
        path = tmp_path / f"{images.stem}.json"
        done = cli("calibrate", tiny_network, "--images", images, "--limit", 5, "--out", path)
        assert done.status == 0
        assert f"on 5 images: {images}" in done.err
        caches.append(read_calibration(path))
    assert caches[0].images_name == "drive.mp4"
    assert caches[0].amaxes() == caches[1].amaxes()


def test_a_video_is_compared_and_says_that_it_has_no_labels(cli, tiny_bundle, drive, tmp_path):
    command = ("compare", tiny_bundle.path, tiny_bundle.path, "--images", drive, "--limit", 3)
    found = cli(*command, "--json").json
    assert (found["images"], found["pixels"]) == (3, 1.0)
    done = cli(*command, "--labels", tmp_path)
    assert done.sentence.startswith(f"{drive} is a video, whose frames have no labels; ")


def test_label_maps_are_named_after_the_images_that_were_read(cli, tiny_bundle, tmp_path):
    for name in ("hall_10", "hall_9", "kitchen"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 9, 3), dtype=np.uint8))
    run = ("run", tiny_bundle.path, "--source", tmp_path)
    assert cli(*run, "--sink", f"labels:{tmp_path}/maps").status == 0
    assert files_in(tmp_path / "maps") == ["hall_10.png", "hall_9.png", "kitchen.png"]
    done = cli(*run, "--sink", f"labels:{tmp_path}")
    assert "would replace those that are read, the first one hall_9.png" in done.sentence
