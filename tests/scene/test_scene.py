from __future__ import annotations

import cv2
import numpy as np
import pytest

from fcn_trt.labels import label_set
from fcn_trt.scene.scene import StreetScene
from fcn_trt.video.scene_source import SceneSource

CLASSES = label_set("camvid").classes
SMALL = (128, 256)


def test_same_seed_is_the_same_street_in_any_order_of_rendering():
    forwards, backwards = StreetScene(4), StreetScene(4)
    first = [forwards.render(index, SMALL) for index in (0, 7, 200)]
    again = [backwards.render(index, SMALL) for index in (200, 7, 0)][::-1]
    for (frame, labels), (other_frame, other_labels) in zip(first, again, strict=True):
        np.testing.assert_array_equal(frame, other_frame)
        np.testing.assert_array_equal(labels, other_labels)


def test_a_frame_is_the_same_after_the_blocks_around_it_were_forgotten():
    scene = StreetScene(4)
    before = scene.render(3, SMALL)[0]
    for index in range(300, 2400, 300):
        scene.render(index, SMALL)
    np.testing.assert_array_equal(scene.render(3, SMALL)[0], before)


def test_other_seeds_are_other_streets():
    labels = [StreetScene(seed).render(0, SMALL)[1] for seed in range(4)]
    for index, one in enumerate(labels):
        for other in labels[index + 1 :]:
            assert np.mean(one != other) > 0.05


@pytest.mark.parametrize("size", [(256, 512), (360, 480), (241, 319), (16, 16), (200, 100)])
def test_any_size_has_whole_frames_and_known_labels(size):
    frame, labels = StreetScene(1).render(5, size)
    assert frame.shape == (*size, 3)
    assert frame.dtype == np.uint8
    assert labels.shape == size
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {*range(len(CLASSES)), 255}
    assert np.mean(labels == 255) < 0.01


def test_every_class_is_large_enough_to_learn_in_several_streets():
    shares = np.array(
        [
            np.bincount(StreetScene(seed).render(11, SMALL)[1].ravel(), minlength=256) / 32768
            for seed in range(16)
        ]
    )
    seen = (shares[:, : len(CLASSES)] >= 0.002).sum(axis=0)
    assert dict(zip(CLASSES, seen >= 4, strict=True)) == dict.fromkeys(CLASSES, True)


def test_labels_do_not_depend_on_resolution():
    scene = StreetScene(6)
    small = scene.render(20, SMALL)[1]
    large = scene.render(20, (SMALL[0] * 2, SMALL[1] * 2))[1]
    agreement = np.mean(cv2.resize(large, SMALL[::-1], interpolation=cv2.INTER_NEAREST) == small)
    assert agreement >= 0.97


def test_frames_follow_each_other_smoothly():
    scene = StreetScene(8)
    (frame, labels), (next_frame, next_labels) = (scene.render(k, SMALL) for k in (40, 41))
    assert np.mean(frame != next_frame) > 0.3
    assert 0.9 < np.mean(labels == next_labels) < 1.0


def test_sky_is_above_the_road():
    labels = StreetScene(2).render(0, SMALL)[1]
    rows = np.arange(SMALL[0])[:, None] * np.ones(SMALL)
    sky, road = (rows[labels == CLASSES.index(name)] for name in ("sky", "road"))
    assert sky.max() <= road.min() + 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"seed": 0, "rate_fps": 0.0}, "rate_fps is 0.0; it must be positive"),
        ({"seed": 0, "rate_fps": float("nan")}, "rate_fps is nan"),
    ],
)
def test_impossible_street_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        StreetScene(**arguments)


def test_impossible_frame_is_refused():
    with pytest.raises(ValueError, match="frame index is -1; it must be at least 0"):
        StreetScene(0).render(-1, SMALL)
    with pytest.raises(ValueError, match="size is 8x256; each side must be at least 16 pixels"):
        StreetScene(0).render(0, (8, 256))


def test_source_gives_each_frame_of_the_scene_once():
    with SceneSource(5, size=SMALL, frame_count=3, rate_fps=10.0) as source:
        assert source.info.size == SMALL
        assert source.info.rate_fps == 10.0
        assert source.info.frame_count == 3
        assert not source.info.is_live
        assert source.info.name == "street scene, seed 5"
        frames = list(source)
        assert list(source) == []
    scene = StreetScene(5, rate_fps=10.0)
    assert len(frames) == 3
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame, scene.render(index, SMALL)[0])


def test_endless_source_ends_when_it_is_closed():
    source = SceneSource(5, size=SMALL, frame_count=None)
    count = 0
    for _ in source:
        count += 1
        if count == 2:
            source.close()
            source.close()
    assert count == 2


def test_impossible_source_is_refused():
    with pytest.raises(ValueError, match="frame_count is 0; it must be at least 1, or None"):
        SceneSource(0, size=SMALL, frame_count=0)
    with pytest.raises(ValueError, match="size is 8x8"):
        SceneSource(0, size=(8, 8), frame_count=1)
