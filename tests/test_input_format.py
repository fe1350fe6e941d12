import pytest

from fcn_trt.input_format import InputFormat, parse_channels, three_channels
from fcn_trt.model.architecture import IMAGENET_MEAN, IMAGENET_STD

UNIT_MEAN, UNIT_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_nothing_said_is_nothing():
    assert InputFormat().normalisation() is None
    assert InputFormat(colour="bgr").normalisation() is None


@pytest.mark.parametrize(
    ("said", "mean", "std"),
    [
        (InputFormat(mean=UNIT_MEAN, std=UNIT_STD), IMAGENET_MEAN, IMAGENET_STD),
        (InputFormat(mean=IMAGENET_MEAN, std=IMAGENET_STD), IMAGENET_MEAN, IMAGENET_STD),
        (InputFormat(mean=(0.5,) * 3, std=(0.5,) * 3), (127.5,) * 3, (127.5,) * 3),
        (InputFormat(scale=1), (0.0,) * 3, (255.0,) * 3),
        (InputFormat(scale=255), (0.0,) * 3, (1.0,) * 3),
        (InputFormat(mean=(0.0,) * 3, std=(1.0,) * 3, scale=255), (0.0,) * 3, (1.0,) * 3),
        (InputFormat(mean=(0.4,) * 3, std=(1.0,) * 3), (102.0,) * 3, (255.0,) * 3),
        # Caffe's: BGR without a standard deviation.
        (
            InputFormat(mean=(104.0, 117.0, 123.0), std=(1.0,) * 3, colour="bgr"),
            (123.0, 117.0, 104.0),
            (1.0,) * 3,
        ),
    ],
)
def test_numbers_become_those_of_rgb_pixels_of_0_to_255(said, mean, std):
    found = said.normalisation()
    assert found is not None
    assert found[0] == pytest.approx(mean)
    assert found[1] == pytest.approx(std)


def test_numbers_that_fit_both_scales_are_refused():
    with pytest.raises(ValueError, match=r"fit pixels of 0 to 1 and of 0 to 255; .*scale 1"):
        InputFormat(mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize("std", [(0.0, 1.0, 1.0), (-1.0, 1.0, 1.0)])
def test_std_that_divides_by_nothing_is_refused(std):
    with pytest.raises(ValueError, match="must be above 0"):
        InputFormat(mean=(0.0,) * 3, std=std)


@pytest.mark.parametrize("half", [{"mean": (1.0,) * 3}, {"std": (1.0,) * 3}])
def test_half_of_the_numbers_is_refused(half):
    with pytest.raises(ValueError, match=r"mean and std go together; .* is missing"):
        InputFormat(**half)


def test_channels_are_read_from_text_and_lists():
    assert parse_channels("0.5") == (0.5, 0.5, 0.5)
    assert parse_channels("1, 2.5,3e1") == (1.0, 2.5, 30.0)
    assert three_channels(7) == (7.0, 7.0, 7.0)


@pytest.mark.parametrize("text", ["", "1,2", "a,b,c", "1,2,3,4", "nan", "inf,1,1"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="neither a number nor three"):
        parse_channels(text)
