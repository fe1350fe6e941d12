from dataclasses import replace

import pytest

from fcn_trt.errors import FcnTrtError
from fcn_trt.evaluation.family import (
    MMSEG_SCALES,
    altered,
    family_protocol,
    protocol_for,
    run_protocol,
)
from fcn_trt.evaluation.protocol import Slide

ENGINE = (512, 1024)


@pytest.fixture
def spec(tiny_bundle):
    return tiny_bundle.manifest.spec


def of(spec, family, model="fcn_r50-d8", *, align_corners=False):
    return replace(spec, family=family, model=model, align_corners=align_corners)


@pytest.mark.parametrize("dataset", ["coco_voc", "voc"])
def test_torchvision_compares_at_a_short_side_of_520(spec, dataset):
    found = protocol_for(of(spec, "torchvision", "fcn_resnet50"), dataset)
    assert (found.name, found.kernel, found.truth, found.slide) == (
        *("torchvision", "pillow", "input"),
        None,
    )
    # int(520 * 640 / 427) and the same upright, as torchvision rounds down.
    assert found.base_size((427, 640), ENGINE) == (520, 779)
    assert found.base_size((640, 427), ENGINE) == (779, 520)
    assert found.base_size((500, 500), ENGINE) == (520, 520)


@pytest.mark.parametrize(
    ("dataset", "frame", "size"),
    [
        ("cityscapes", (1024, 2048), (1024, 2048)),
        ("voc", (375, 500), (512, 683)),  # the short side decides
        ("voc", (500, 375), (683, 512)),  # a box may be turned
        ("ade20k", (300, 1500), (410, 2048)),  # the long side decides
        ("pascal_context_60", (375, 500), (390, 520)),
        ("pascal_context_59", (500, 375), (520, 390)),
    ],
)
def test_mmsegmentation_keeps_the_ratio_in_a_box(spec, dataset, frame, size):
    found = protocol_for(of(spec, "mmsegmentation"), dataset)
    assert found.base_size(frame, ENGINE) == size
    assert (found.kernel, found.truth, found.logits) == ("cv2", "image", "input")
    is_context = dataset.startswith("pascal_context")
    assert found.slide == (Slide(crop=(480, 480), stride=(320, 320)) if is_context else None)


def test_mmsegmentation_s_769_crops_slide_over_cityscapes(spec):
    model = of(spec, "mmsegmentation", "fcn_d6_r50-d16_769x769", align_corners=True)
    found = protocol_for(model, "cityscapes")
    assert found.base_size((1024, 2048), (769, 769)) == (1025, 2049)
    assert found.slide == Slide(crop=(769, 769), stride=(513, 513))
    assert found.align_corners
    assert "769x769 every 513x513" in found.sentence()


def test_auto_drive_halves_cityscapes_and_pads_voc(spec):
    model = of(spec, "pytorch-auto-drive", "pad_fcn_resnet101", align_corners=True)
    found = protocol_for(model, "cityscapes")
    assert (found.base_size((1024, 2048), ENGINE), found.truth) == ((512, 1024), "input")
    assert (found.kernel, found.truth_kernel, found.align_corners) == ("float", "corner", True)
    found = protocol_for(model, "voc")
    assert (found.pad, found.base_size((375, 500), ENGINE)) == ((505, 505), (375, 500))


@pytest.mark.parametrize(
    ("family", "dataset"),
    [
        *(
            ("mmsegmentation", "camvid"),
            ("mmsegmentation", "coco_voc"),
            ("mmsegmentation", "scene"),
        ),
        *(("torchvision", "cityscapes"), ("pytorch-auto-drive", "ade20k"), ("onnx", "voc")),
    ],
)
def test_where_a_family_has_none_it_is_that_of_run(spec, family, dataset):
    model = of(spec, family, align_corners=True)
    assert family_protocol(model, dataset) is None
    found = protocol_for(model, dataset)
    assert found == run_protocol(model)
    assert found.is_plain
    assert found.align_corners
    assert found.base_size((100, 50), ENGINE) == ENGINE


def test_mmsegmentation_s_augmentation_scales_the_image_as_it_is(spec):
    one = protocol_for(of(spec, "mmsegmentation"), "ade20k")
    found = altered(one, scales=MMSEG_SCALES, flip=True)
    assert found.base_size((300, 1500), ENGINE) == (300, 1500)
    assert (found.name, found.scales, found.flip) == (
        *("mmsegmentation, scales and flip", MMSEG_SCALES, True),
    )
    assert not found.has_one_view
    assert "at scales 0.5, 0.75, 1, 1.25, 1.5, 1.75, also mirrored" in found.sentence()


def test_windows_of_run_are_of_the_image_at_its_own_size(spec):
    windows = Slide(crop=(64, 96), stride=(43, 64))
    found = altered(run_protocol(spec), slide=windows)
    assert (found.name, found.slide, found.is_plain) == ("run, slide", windows, False)
    assert found.base_size((100, 50), ENGINE) == (100, 50)
    mirrored = altered(run_protocol(spec), flip=True)
    assert (mirrored.name, mirrored.scales, mirrored.is_plain) == ("run, flip", (1.0,), False)
    assert mirrored.base_size((100, 50), ENGINE) == ENGINE


def test_nothing_altered_is_the_same(spec):
    one = protocol_for(of(spec, "mmsegmentation"), "voc")
    assert altered(one) is one
    assert altered(one, scales=(1.0,)) is one


def test_mirroring_alone_leaves_the_size_as_it_is(spec):
    one = protocol_for(of(spec, "mmsegmentation"), "ade20k")
    for scales in (None, (1.0,)):
        found = altered(one, scales=scales, flip=True)
        assert found == replace(one, name="mmsegmentation, flip", flip=True)
    assert altered(one, scales=(0.5,)).base_size((300, 1500), ENGINE) == (300, 1500)


def test_protocol_that_is_wanted_is_taken_or_refused(spec):
    model = of(spec, "mmsegmentation")
    assert protocol_for(model, "voc", wanted="run") == run_protocol(model)
    assert protocol_for(model, "voc", wanted="family") == family_protocol(model, "voc")
    with pytest.raises(FcnTrtError, match="publishes no accuracy of fcn_r50-d8 on camvid, so that"):
        protocol_for(model, "camvid", wanted="family")
