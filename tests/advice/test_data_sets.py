from dataclasses import replace

import pytest

from fcn_trt.advice.data_sets import DATA_SETS, DEFAULT_DATA_SET, data_set
from fcn_trt.evaluation.family import family_protocol
from fcn_trt.model.weights import registry


def test_every_published_miou_is_of_a_known_data_set():
    assert {w.measured_on for w in registry()} == {entry.measured_on for entry in DATA_SETS}
    counts = {
        entry.name: sum(w.measured_on == entry.measured_on for w in registry())
        for entry in DATA_SETS
    }
    assert max(counts, key=counts.__getitem__) == DEFAULT_DATA_SET


@pytest.mark.parametrize("entry", DATA_SETS, ids=lambda entry: entry.name)
def test_published_size_is_that_of_the_protocol(entry, tiny_bundle):
    """A landscape photograph comes to that short side, or into windows of it."""
    family = "torchvision" if entry.name == "coco_voc" else "mmsegmentation"
    protocol = family_protocol(replace(tiny_bundle.manifest.spec, family=family), entry.name)
    assert protocol is not None
    if protocol.slide is not None:
        assert entry.size is None
        assert entry.published_at == "windows of {}x{}".format(*protocol.slide.crop)
        return
    frame = (1024, 2048) if entry.name == "cityscapes" else (375, 500)
    size = protocol.base_size(frame, (64, 64))
    assert entry.is_published_at(size)
    assert str(min(size)) in entry.published_at
    assert not entry.is_published_at((size[0] // 2, size[1] // 2))


def test_unknown_data_set_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="data set 'kitti'; known are cityscapes, ade20k, coco"):
        data_set("kitti")
