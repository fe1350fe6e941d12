import tracemalloc

import numpy as np
import pytest

from fcn_trt.evaluation.resize import (
    Cropped,
    Flipped,
    Known,
    MeanOfSoftmax,
    MeanOfWindows,
    best_class,
    resized,
)

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

SIZES = [
    ((7, 9), (50, 71)),  # enlarged by odd factors
    ((97, 97), (769, 769)),  # 769's rule
    ((50, 71), (31, 40)),  # made smaller
    ((1, 1), (5, 6)),
    ((3, 2), (1, 1)),
    ((64, 86), (512, 683)),
    ((513, 770), (1024, 2048)),
    ((8, 8), (8, 61)),  # one direction only
    ((8, 8), (61, 8)),
]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def all_rows(planes, step=None):
    """The planes whole, computed in parts of so many rows."""
    height = planes.size[0]
    step = step or height
    parts = [planes.rows(top, min(top + step, height)) for top in range(0, height, step)]
    return np.concatenate(parts, axis=1)


def interpolated(values, size, *, align_corners):
    """torch's, in float64: in float32 its own positions are off by up to 1e-4 of a sample."""
    tensor = torch.from_numpy(values).double()[None]
    mode = {"mode": "bilinear", "align_corners": align_corners}
    return torch.nn.functional.interpolate(tensor, size, **mode)[0].numpy()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_resized_planes_equal_torch_s_in_whatever_parts(source, target, align_corners):
    values = noise(3, *source)
    expected = interpolated(values, target, align_corners=align_corners)
    planes = resized(Known(values), target, align_corners=align_corners)
    assert (planes.classes, planes.size) == (3, target)
    for step in (None, 7, 1 if target[0] < 100 else 61):
        found = all_rows(planes, step)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def test_planes_of_the_right_size_are_not_touched():
    planes = Known(noise(2, 5, 6))
    assert resized(planes, (5, 6), align_corners=True) is planes


def test_two_steps_are_not_one():
    values = noise(2, 8, 8)
    between = interpolated(values, (61, 61), align_corners=False).astype(np.float32)
    expected = interpolated(between, (40, 90), align_corners=False)
    inner = resized(Known(values), (61, 61), align_corners=False)
    found = all_rows(resized(inner, (40, 90), align_corners=False), 9)
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    direct = interpolated(values, (40, 90), align_corners=False)
    assert np.abs(found - direct).max() > 0.01


def test_windows_are_averaged_by_how_many_lie_on_a_pixel():
    one, two = np.full((1, 2, 3), 1.0, np.float32), np.full((1, 2, 3), 4.0, np.float32)
    mean = MeanOfWindows([((0, 0), Known(one)), ((1, 1), Known(two)), ((0, 1), Known(two))], (3, 4))
    filler = MeanOfWindows([*mean.windows, ((1, 0), Known(one))], (3, 4))
    expected = [
        [1, (1 + 4) / 2, (1 + 4) / 2, 4],
        [(1 + 1) / 2, (1 + 4 + 4 + 1) / 4, (1 + 4 + 4 + 1) / 4, (4 + 4) / 2],
        [1, (4 + 1) / 2, (4 + 1) / 2, 4],
    ]
    for step in (1, 2, 3):
        assert np.array_equal(all_rows(filler, step)[0], np.array(expected, np.float32))


def test_mirrored_and_cropped_planes_are_views_of_the_same_values():
    values = noise(2, 4, 5)
    assert np.array_equal(all_rows(Flipped(Known(values)), 3), values[..., ::-1])
    assert np.array_equal(all_rows(Cropped(Known(values), (3, 2)), 2), values[:, :3, :2])


def test_mean_of_softmax_is_torch_s_for_large_logits_too():
    logits = [noise(4, 6, 5, seed=seed) * 200 for seed in range(3)]
    planes = MeanOfSoftmax([Known(values) for values in logits])
    expected = torch.stack([torch.from_numpy(v).softmax(dim=0) for v in logits]).mean(0).numpy()
    assert np.abs(all_rows(planes, 4) - expected).max() <= 1e-6
    assert all_rows(planes).sum(axis=0) == pytest.approx(1)


@pytest.mark.parametrize("align_corners", [False, True])
def test_best_class_of_many_bands_is_argmax(align_corners):
    values = noise(60, 40, 64)
    inner = resized(Known(values), (200, 300), align_corners=align_corners)
    planes = resized(inner, (320, 512), align_corners=align_corners)  # 3 bands
    assert np.array_equal(best_class(planes), all_rows(planes).argmax(axis=0))


def test_best_class_straight_from_the_network_s_logits_is_argmax():
    planes = resized(Known(noise(5, 8, 12)), (64, 90), align_corners=False)
    expected = all_rows(planes).argmax(axis=0)
    assert np.mean(best_class(planes) == expected) > 0.9999  # but for ties by rounding


def test_ties_take_the_lower_class():
    values = np.zeros((3, 2, 2), np.float32)
    values[1:, 0, 0] = 1
    assert best_class(Known(values)).tolist() == [[1, 0], [0, 0]]


def test_150_classes_at_2048_pixels_never_exist_whole():
    whole_bytes = 150 * 1024 * 2048 * 4
    inner = resized(Known(noise(150, 128, 256)), (1020, 2040), align_corners=False)
    planes = resized(inner, (1024, 2048), align_corners=False)
    tracemalloc.start()
    try:
        label_map = best_class(planes)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(np.unique(label_map)) > 100
    assert peak_bytes < whole_bytes / 3
