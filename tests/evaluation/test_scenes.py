import numpy as np

from fcn_trt.evaluation.scenes import HeldOutScenes
from fcn_trt.labels import label_set
from fcn_trt.scene.scene import HELD_OUT_SEED, StreetScene


def test_scenes_are_the_same_in_every_pass():
    scenes = HeldOutScenes(count=3, size=(32, 64))
    first, second = list(scenes), list(scenes)
    assert len(first) == len(scenes) == 3
    assert len({sample.name for sample in first}) == 3
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.frame, other.frame)
        assert np.array_equal(one.truth, other.truth)


def test_scenes_have_the_asked_size_and_camvid_s_classes():
    scenes = HeldOutScenes(count=2, size=(48, 80))
    assert (scenes.name, scenes.labels) == ("scene", label_set("camvid"))
    for sample in scenes:
        assert sample.frame.shape == (48, 80, 3)
        assert sample.truth.shape == (48, 80)
        assert {int(label) for label in np.unique(sample.truth)} <= {*range(11), 255}


def test_sample_is_named_by_its_street_and_frame():
    (sample,) = HeldOutScenes(count=1, size=(32, 64))
    seed, index = map(int, sample.name.split("-"))
    assert seed >= HELD_OUT_SEED
    frame, truth = StreetScene(seed).render(index, (32, 64))
    assert np.array_equal(sample.frame, frame)
    assert np.array_equal(sample.truth, truth)


def test_every_class_occurs_in_what_the_demo_measures():
    truths = [sample.truth for sample in HeldOutScenes(size=(64, 128))]
    assert {*range(11)} <= {int(label) for truth in truths for label in np.unique(truth)}
