"""Images and truth as the families' own code prepares them."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fcn_trt.evaluation.prepare import prepare, prepare_truth
from fcn_trt.evaluation.protocol import Protocol

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

SIZES = [(40, 60), (97, 61), (200, 150), (64, 64)]


@pytest.fixture
def spec(tiny_bundle):
    """With the mean and deviation of all families."""
    return tiny_bundle.manifest.spec


def protocol(**fields):
    return Protocol(**{"name": "test", "source": "", "resize": "engine", **fields})


def draw_truth(size):
    return np.random.default_rng(sum(size)).integers(0, 21, size, dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_torchvision_s_reference_prepares_the_same(size, make_frame, spec):
    """references/segmentation/presets.py, SegmentationPresetEval: the same calls."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as reference

    frame, truth = make_frame(size, seed=3), draw_truth(size)
    picture = Image.fromarray(np.ascontiguousarray(frame[..., ::-1]))
    image = reference.pil_to_tensor(reference.resize(picture, 52))
    image = reference.convert_image_dtype(image, torch.float)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = reference.normalize(image, mean=mean, std=std).numpy()
    labels = reference.resize(Image.fromarray(truth), 52, interpolation=InterpolationMode.NEAREST)

    how = protocol(
        resize="short side", size=(52, 52), kernel="pillow", truth="input", truth_kernel="centre"
    )
    inner = how.base_size(size, (1, 1))
    assert inner == expected.shape[1:]
    assert np.abs(prepare(frame, inner, how, spec) - expected).max() <= 1e-5
    assert np.array_equal(prepare_truth(truth, inner, how), np.asarray(labels))


@pytest.mark.parametrize("size", [(128, 256), (130, 250), (48, 100)])
def test_auto_drive_s_transforms_prepare_the_same(size, make_frame, spec):
    """utils/transforms: ToTensor, then Resize of tensors, which torch interpolates, Normalize."""
    frame, truth = make_frame(size, seed=3), draw_truth(size)
    image = torch.from_numpy(frame[..., ::-1].transpose(2, 0, 1).copy()).float().div(255)
    target = torch.from_numpy(truth).float()[None, None]
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    resize = torch.nn.functional.interpolate
    image = resize(image[None], (64, 128), mode="bilinear", align_corners=False)[0]
    expected = ((image - mean) / std).numpy()
    labels = resize(target, (64, 128), mode="nearest")[0, 0].byte().numpy()

    how = protocol(
        resize="size", size=(64, 128), kernel="float", truth="input", truth_kernel="corner"
    )
    assert np.abs(prepare(frame, (64, 128), how, spec) - expected).max() <= 1e-4
    assert np.array_equal(prepare_truth(truth, (64, 128), how), labels)


def test_cv2_resizes_as_run_does(make_frame, spec):
    from fcn_trt.stages.preprocess import preprocess

    frame = make_frame((50, 70))
    expected = preprocess(frame, (64, 96), mean=spec.mean, std=spec.std)
    assert np.array_equal(prepare(frame, (64, 96), protocol(), spec), expected)


def test_padding_is_black_below_and_at_the_right(make_frame, spec):
    frame = make_frame((50, 70))
    how = protocol(resize="none", pad=(64, 60))
    image = prepare(frame, (50, 70), how, spec)
    assert image.shape == (3, 64, 70)
    plain = prepare(frame, (50, 70), replace(how, pad=None), spec)
    assert np.array_equal(image[:, :50], plain)
    black = -np.array(spec.mean, np.float32) / np.array(spec.std, np.float32)
    assert image[:, 50:] == pytest.approx(np.broadcast_to(black[:, None, None], (3, 14, 70)))


def test_truth_is_left_alone_where_it_is_compared_at_its_own_size():
    truth = draw_truth((10, 12))
    assert prepare_truth(truth, (5, 6), protocol()) is truth
