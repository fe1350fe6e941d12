"""A whole protocol at its real size against the few lines by which its family evaluates.

MMSegmentation's are in tests/families, where the package itself is at hand.
"""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fcn_trt.evaluation.family import protocol_for
from fcn_trt.evaluation.measure import label_maps
from fcn_trt.evaluation.metrics import ConfusionMatrix
from fcn_trt.evaluation.sample import Sample

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLASSES = 21


@pytest.fixture(scope="module")
def module():
    """Logits at stride 8."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = torch.nn.Conv2d(3, CLASSES, 11, stride=8, padding=5)
    return made.requires_grad_(requires_grad=False)


@pytest.fixture
def segments(module, tiny_bundle):
    """The module as what is measured, of any family."""

    class Segments:
        def __init__(self, **changes):
            self.spec = replace(tiny_bundle.manifest.spec, **changes)

        def network(self, images):
            return module(torch.from_numpy(images)).numpy()

        def stream(self, frames):
            raise AssertionError("only the protocol of run streams")

    return Segments


def counted(pairs):
    confusion = ConfusionMatrix(CLASSES)
    for label_map, truth in pairs:
        confusion.update(label_map.astype(np.uint8), truth.astype(np.uint8))
    return np.column_stack([confusion.counts, confusion.missed])


def samples(make_frame, *sizes):
    """Photograph-like frames with blocks of labels, some left out."""
    for index, size in enumerate(sizes):
        blocks = np.random.default_rng(index).integers(0, CLASSES + 1, (5, 7))
        blocks[blocks == CLASSES] = 255
        rows, columns = (np.arange(s) * n // s for s, n in zip(size, blocks.shape, strict=True))
        truth = blocks[rows[:, None], columns].astype(np.uint8)
        yield Sample(name=str(index), frame=make_frame(size, seed=index), truth=truth)


def rgb(sample):
    return Image.fromarray(np.ascontiguousarray(sample.frame[..., ::-1]))


def assert_equal_but_for_ties(found, expected):
    """The same pixels in all, and at most a few in a hundred thousand decided otherwise."""
    assert found.sum() == expected.sum()
    assert np.abs(found - expected).sum() <= 1e-4 * expected.sum()
    assert np.trace(expected) > 0


def test_torchvision_s_reference_counts_the_same(segments, module, make_frame):
    """references/segmentation: SegmentationPresetEval(base_size=520), then evaluate."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as reference

    def theirs():
        for sample in samples(make_frame, *sizes):
            image = reference.pil_to_tensor(reference.resize(rgb(sample), 520))
            image = reference.normalize(
                reference.convert_image_dtype(image, torch.float), mean=MEAN, std=STD
            )
            target = reference.resize(
                Image.fromarray(sample.truth), 520, interpolation=InterpolationMode.NEAREST
            )
            output = torch.nn.functional.interpolate(
                module(image[None]), image.shape[1:], mode="bilinear", align_corners=False
            )
            yield output[0].argmax(0).numpy(), np.asarray(target)

    sizes = [(300, 401), (427, 320)]
    ours = segments(family="torchvision", model="fcn_resnet50")
    protocol = protocol_for(ours.spec, "coco_voc")
    found = counted(label_maps(ours, samples(make_frame, *sizes), protocol))
    assert_equal_but_for_ties(found, counted(theirs()))


def to_tensor(sample):
    """pytorch-auto-drive's ToTensor."""
    return torch.from_numpy(np.array(rgb(sample)).transpose(2, 0, 1).copy()).float().div(255)


def normalised(image):
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (image - mean) / std


def test_auto_drive_counts_the_same_at_half_of_cityscapes(segments, module, make_frame):
    """ToTensor, Resize to 512x1024, Normalize; SegTester.test_one_set with corners aligned."""
    resize = torch.nn.functional.interpolate

    def theirs():
        for sample in samples(make_frame, (1024, 2048)):
            image = resize(to_tensor(sample)[None], (512, 1024), mode="bilinear")
            target = resize(torch.from_numpy(sample.truth).float()[None, None], (512, 1024))
            output = resize(
                module(normalised(image[0])[None]),
                (512, 1024),
                mode="bilinear",
                align_corners=True,
            )
            yield output[0].argmax(0).numpy(), target[0, 0].numpy()

    ours = segments(family="pytorch-auto-drive", align_corners=True)
    protocol = protocol_for(ours.spec, "cityscapes")
    found = counted(label_maps(ours, samples(make_frame, (1024, 2048)), protocol))
    assert_equal_but_for_ties(found, counted(theirs()))


def test_auto_drive_counts_the_same_on_padded_voc(segments, module, make_frame):
    """ToTensor, ZeroPad to 505x505 with labels of 255, Normalize; the padding counts nowhere."""
    pad, resize = torch.nn.functional.pad, torch.nn.functional.interpolate

    def theirs():
        for sample in samples(make_frame, *sizes):
            missing = [505 - side for side in sample.truth.shape]
            image = pad(to_tensor(sample), (0, missing[1], 0, missing[0]))
            target = pad(torch.from_numpy(sample.truth), (0, missing[1], 0, missing[0]), value=255)
            output = resize(
                module(normalised(image)[None]), (505, 505), mode="bilinear", align_corners=True
            )
            yield output[0].argmax(0).numpy(), target.numpy()

    sizes = [(375, 500), (500, 333)]
    ours = segments(family="pytorch-auto-drive", align_corners=True)
    protocol = protocol_for(ours.spec, "voc")
    found = counted(label_maps(ours, samples(make_frame, *sizes), protocol))
    assert_equal_but_for_ties(found, counted(theirs()))
