"""Windows, scales and mirroring against a few lines of torch that follow MMSegmentation's rules.

tests/families/test_inference.py compares the same with MMSegmentation itself.
"""

from dataclasses import replace

import numpy as np
import pytest

from fcn_trt.engine.openvino.builder import build_openvino
from fcn_trt.errors import DatasetError
from fcn_trt.evaluation.family import MMSEG_SCALES, altered, run_protocol
from fcn_trt.evaluation.inference import WINDOWS_AT_ONCE, infer, slide, whole
from fcn_trt.evaluation.prepare import prepare
from fcn_trt.evaluation.protocol import Protocol, Slide
from fcn_trt.evaluation.resize import best_class
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.stages.preprocess import preprocess
from tests.plans import as_network

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

STRIDE = 8


@pytest.fixture(scope="module")
def module():
    """Three classes at stride 8, of logits that depend on where the window's edges are."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = torch.nn.Conv2d(3, 3, 11, stride=STRIDE, padding=5)
    return made.requires_grad_(requires_grad=False)


@pytest.fixture
def network(module):
    """The module on arrays; remembers what it was asked."""

    class Network:
        def __init__(self):
            self.shapes = []

        def __call__(self, images):
            self.shapes.append(images.shape)
            return module(torch.from_numpy(images)).numpy()

    return Network()


def interpolate(values, size, align_corners):
    return torch.nn.functional.interpolate(
        values, size, mode="bilinear", align_corners=align_corners
    )


def slide_in_torch(module, image, crop, stride, align_corners):
    """Sum of padded windows over their count, window by window."""
    image = torch.from_numpy(image)[None]
    height, width = image.shape[2:]
    total, count = torch.zeros(1, 3, height, width), torch.zeros(1, 1, height, width)
    for row in range(max(height - crop[0] + stride[0] - 1, 0) // stride[0] + 1):
        for column in range(max(width - crop[1] + stride[1] - 1, 0) // stride[1] + 1):
            bottom = min(row * stride[0] + crop[0], height)
            right = min(column * stride[1] + crop[1], width)
            top, left = max(bottom - crop[0], 0), max(right - crop[1], 0)
            window = image[:, :, top:bottom, left:right]
            logits = interpolate(module(window), window.shape[2:], align_corners)
            total[:, :, top:bottom, left:right] += logits
            count[:, :, top:bottom, left:right] += 1
    assert count.min() >= 1
    return (total / count)[0].numpy()


def noise(size, seed=0):
    return np.random.default_rng(seed).normal(size=(3, *size)).astype(np.float32)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("size", "crop", "stride"),
    [
        ((64, 96), (32, 32), (24, 24)),
        ((65, 129), (33, 33), (22, 22)),  # 769's rule, scaled down: 33 = 4 x 8 + 1
        ((71, 50), (48, 40), (17, 40)),  # the last windows are moved back
        ((20, 90), (48, 48), (32, 32)),  # lower than a window
        ((20, 10), (48, 48), (32, 32)),  # smaller than a window
    ],
)
def test_sliding_windows_equal_torch_s(network, module, size, crop, stride, align_corners):
    image = noise(size)
    expected = slide_in_torch(module, image, crop, stride, align_corners)
    how = Slide(crop=crop, stride=stride)
    found = slide(network, image, how, align_corners=align_corners)
    assert found.size == size
    assert np.abs(found.rows(0, size[0]) - expected).max() <= 1e-5


def test_windows_go_through_the_network_together(network):
    how = Slide(crop=(32, 32), stride=(16, 16))
    slide(network, noise((64, 65)), how, align_corners=False)  # 3 x 4 windows
    assert network.shapes == [(WINDOWS_AT_ONCE, 3, 32, 32)] * 3
    network.shapes.clear()
    slide(network, noise((64, 65)), how, align_corners=False, at_once=5)
    assert [shape[0] for shape in network.shapes] == [5, 5, 2]


def test_engine_for_larger_batches_gets_as_many_windows(network, make_frame, tiny_bundle):
    spec = tiny_bundle.manifest.spec
    windows = Slide(crop=(32, 32), stride=(16, 16))
    protocol = Protocol(name="test", source="", resize="none", slide=windows)
    for batch, expected in ((1, [WINDOWS_AT_ONCE] * 3), (8, [8, 4])):
        network.shapes.clear()
        infer(network, make_frame((64, 65)), protocol, replace(spec, batch=batch))
        assert [shape[0] for shape in network.shapes] == expected


@pytest.mark.parametrize("align_corners", [False, True])
def test_whole_image_equals_torch_s(network, module, align_corners):
    image = noise((50, 71))
    logits = module(torch.from_numpy(image)[None])
    for size in (None, (33, 90)):
        expected = interpolate(logits, size or (50, 71), align_corners)[0].numpy()
        found = whole(network, image, size=size, align_corners=align_corners)
        assert np.abs(found.rows(0, found.size[0]) - expected).max() <= 1e-5


@pytest.mark.parametrize("windows", [None, Slide(crop=(32, 40), stride=(20, 30))])
def test_mean_over_scales_and_mirrored_images_equals_torch_s(
    network, module, windows, make_frame, tiny_bundle
):
    spec = tiny_bundle.manifest.spec
    frame = make_frame((47, 60))
    one = Protocol(name="test", source="", resize="none", slide=windows)
    protocol = altered(one, scales=MMSEG_SCALES, flip=True)
    total = torch.zeros(3, 47, 60)
    for scale in MMSEG_SCALES:
        size = (int(47 * scale + 0.5), int(60 * scale + 0.5))
        for mirrored in (False, True):
            image = prepare(frame, size, one, spec)
            image = np.ascontiguousarray(image[..., ::-1]) if mirrored else image
            if windows is None:
                logits = interpolate(module(torch.from_numpy(image)[None]), size, False)
            else:
                found = slide_in_torch(module, image, windows.crop, windows.stride, False)
                logits = torch.from_numpy(found)[None]
            logits = logits.flip(3) if mirrored else logits
            total += interpolate(logits, (47, 60), False)[0].softmax(dim=0)
    found = infer(network, frame, protocol, spec)
    assert np.abs(found.rows(0, 47) - (total / 12).numpy()).max() <= 1e-5


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_go_over_the_input_s_size_unless_they_go_directly(
    network, module, make_frame, tiny_bundle, align_corners
):
    spec = tiny_bundle.manifest.spec
    frame = make_frame((50, 70))
    one = Protocol(name="test", source="", resize="engine", align_corners=align_corners)
    for protocol, sizes in (
        (one, [(64, 96), (50, 70)]),
        (replace(one, logits="direct"), [(50, 70)]),
    ):
        expected = module(torch.from_numpy(prepare(frame, (64, 96), protocol, spec))[None])
        for size in sizes:
            expected = interpolate(expected, size, align_corners)
        found = infer(network, frame, protocol, spec)
        assert np.abs(found.rows(0, 50) - expected[0].numpy()).max() <= 1e-5


def test_padding_is_cut_off_again(network, module, make_frame, tiny_bundle):
    spec = tiny_bundle.manifest.spec
    frame = make_frame((50, 70))
    protocol = Protocol(name="test", source="", resize="none", pad=(105, 105), align_corners=True)
    image = prepare(frame, (50, 70), protocol, spec)
    expected = interpolate(module(torch.from_numpy(image)[None]), (105, 105), True)
    found = infer(network, frame, protocol, spec)
    assert found.size == (50, 70)
    assert np.abs(found.rows(0, 50) - expected[0, :, :50, :70].numpy()).max() <= 1e-5


def test_truth_at_the_input_s_size_is_where_logits_end(network, make_frame, tiny_bundle):
    protocol = Protocol(
        name="test", source="", resize="short side", size=(32, 32), truth="input", flip=True
    )
    found = infer(network, make_frame((50, 70)), protocol, tiny_bundle.manifest.spec)
    assert found.size == (32, 44)


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (130, 200)])
def test_protocol_of_run_gives_the_label_maps_of_run(size, make_frame, tiny_bundle):
    with Segmenter.load(tiny_bundle.path) as segmenter:
        protocol = run_protocol(segmenter.spec)
        assert protocol.is_plain
        frame = make_frame(size)
        decided = infer(segmenter.network, frame, protocol, segmenter.spec)
        assert np.array_equal(best_class(decided), segmenter.segment(frame))


def test_network_of_free_shape_gives_the_logits_of_the_one_of_fixed_shape(
    make_model, write_network, tmp_path, make_frame
):
    model = make_model()
    frames = [make_frame((64, 96)), make_frame((96, 160))]
    bundles = [
        build_openvino(
            as_network(write_network(model, tmp_path / f"{index}.onnx", size=frame.shape[:2])),
            tmp_path / str(index),
        )
        for index, frame in enumerate(frames)
    ]
    with Segmenter.load(bundles[0].path) as first, Segmenter.load(bundles[1].path) as second:
        for frame, fixed, free in ((frames[0], first, second), (frames[1], second, first)):
            image = preprocess(frame, frame.shape[:2], mean=first.spec.mean, std=first.spec.std)
            expected = fixed.network(image[None])
            found = free.network(image[None])
            assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("size", [(1, 700), (700, 1), (1, 1)])
def test_long_thin_images_are_computed(size, make_frame, tiny_bundle):
    one = Protocol(name="test", source="", resize="box", size=(128, 256))
    windows = Slide(crop=(48, 48), stride=(32, 32))
    with Segmenter.load(tiny_bundle.path) as segmenter:
        for protocol in (one, altered(one, slide=windows), altered(one, scales=(0.5,), flip=True)):
            decided = infer(segmenter.network, make_frame(size), protocol, segmenter.spec)
            assert best_class(decided).shape == size


def test_size_beyond_all_measure_is_refused(network, make_frame, tiny_bundle):
    protocol = Protocol(name="theirs", source="", resize="short side", size=(520, 520))
    message = r"an image of 1x900 would be computed at 520x468000 by the protocol theirs, .* 67 meg"
    with pytest.raises(DatasetError, match=message):
        infer(network, make_frame((1, 900)), protocol, tiny_bundle.manifest.spec)
    assert network.shapes == []
