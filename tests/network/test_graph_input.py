"""What users' files are fed, and do with it before their network: part of the spec, or folded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from fcn_trt.input_format import InputFormat
from fcn_trt.model.architecture import IMAGENET_MEAN, IMAGENET_STD
from tests.network.user_files import (
    FRAMES,
    MEAN,
    SIZE,
    STD,
    UserFile,
    agreement,
    normalised,
    our_labels,
    plain,
    require_refused,
    up,
)

GREY = np.array([0.299, 0.587, 0.114], np.float32)
ONE = (1.0, 1.0, 1.0)


def unit(frame):
    return plain(frame) / 255


def bgr(frame):
    return plain(frame)[::-1]


def last(frame):
    return plain(frame).transpose(1, 2, 0)


def as_bytes(frame):
    return plain(frame).astype(np.uint8)


def grey(frame):
    return np.tensordot(GREY, plain(frame), 1)[None]


def half(frame):
    return normalised(frame).astype(np.float16)


def normalise(x):
    return (x - MEAN) / STD


def per_channel(x):
    """As torchvision's Inception does."""
    parts = [(x[:, i : i + 1] - MEAN[0, i]) * (1 / STD[0, i]) for i in range(3)]
    return torch.cat(parts, 1)


def stacked_backwards(x):
    return torch.stack([x[:, 2], x[:, 1], x[:, 0]], 1)


def split_backwards(x):
    red, green, blue = x.split(1, 1)
    return torch.cat([blue, green, red], 1)


def channels_last(x):
    """As Keras: normalised with the channels last, and only then transposed."""
    mean, std = MEAN.flatten(), STD.flatten()
    return ((x - mean) / std).permute(0, 3, 1, 2)


def batch_norm(x):
    return F.batch_norm(x, MEAN.flatten(), STD.flatten() ** 2, eps=0)


def half_inside(net, x):
    return up(net(x.float()))


def sized_by_input(net, x):
    return F.interpolate(net(normalise(x)), size=x.shape[2:], mode="bilinear")


DYNAMIC = {"dynamic_axes": {"input": {0: "n", 2: "h", 3: "w"}}}
DYNAMIC_LAST = {"dynamic_axes": {"input": {0: "n", 1: "h", 2: "w", 3: "c"}}}
BGR = InputFormat(colour="bgr")

FILES = {
    "imagenet": UserFile(wrapped=lambda n, x: up(n(x)), feed=normalised),
    "mean and std inside": UserFile(wrapped=lambda n, x: up(n(normalise(x))), feed=plain),
    "of pixels of 0 to 1": UserFile(wrapped=lambda n, x: up(n(normalise(x * 255))), feed=unit),
    "in two steps": UserFile(
        wrapped=lambda n, x: up(n((x / 255 - MEAN / 255) / (STD / 255))), feed=plain
    ),
    "as one factor and one sum": UserFile(
        wrapped=lambda n, x: up(n(x * (1 / STD) + (-MEAN / STD))), feed=plain
    ),
    "from -1 to 1": UserFile(wrapped=lambda n, x: up(n(x * 2 - 1)), feed=unit),
    "from -1 to 1 of 255": UserFile(wrapped=lambda n, x: up(n(x / 127.5 - 1)), feed=plain),
    "batch normalisation": UserFile(wrapped=lambda n, x: up(n(batch_norm(x))), feed=plain),
    "channel by channel": UserFile(wrapped=lambda n, x: up(n(per_channel(x))), feed=plain),
    "sized by the input": UserFile(wrapped=sized_by_input, feed=plain, export=DYNAMIC),
    "bytes": UserFile(wrapped=lambda n, x: up(n(x.float() / 128)), feed=as_bytes),
    "bytes that nothing normalises": UserFile(wrapped=lambda n, x: up(n(x.float())), feed=as_bytes),
    "bytes, channels last": UserFile(
        wrapped=lambda n, x: up(n(channels_last(x.float()))),
        feed=lambda f: last(f).astype(np.uint8),
    ),
    "channels last": UserFile(wrapped=lambda n, x: up(n(channels_last(x))), feed=last),
    "channels last at first": UserFile(
        wrapped=lambda n, x: up(n(normalise(x.permute(0, 3, 1, 2)))), feed=last
    ),
    "channels last of any size": UserFile(
        wrapped=lambda n, x: up(n(normalise(x.permute(0, 3, 1, 2)))),
        feed=last,
        export=DYNAMIC_LAST,
    ),
    "bgr inside by flip": UserFile(wrapped=lambda n, x: up(n(x.flip(1) / 99)), feed=plain),
    "bgr inside by index": UserFile(wrapped=lambda n, x: up(n(x[:, [2, 1, 0]] * 0.01)), feed=plain),
    "bgr inside by a stack": UserFile(
        wrapped=lambda n, x: up(n(stacked_backwards(x) - 100)), feed=plain
    ),
    "bgr inside by a split": UserFile(
        wrapped=lambda n, x: up(n(split_backwards(x) / 50 - 1)), feed=plain
    ),
    "bgr inside, read twice": UserFile(
        wrapped=lambda n, x: up(n(x.flip(1)) + n(x.flip(1) * 0.5)), feed=normalised
    ),
    "bgr outside": UserFile(
        wrapped=lambda n, x: up(n(x)),
        feed=lambda f: normalised(f)[::-1],
        said=BGR,
    ),
    "bgr outside, mean and std inside": UserFile(
        wrapped=lambda n, x: up(n((x - MEAN) / (STD * 1.5))), feed=bgr, said=BGR
    ),
    "bgr outside, and before a pooling": UserFile(
        wrapped=lambda n, x: up(n(F.max_pool2d(x, 3, 1, 1))),
        feed=lambda f: normalised(f)[::-1],
        said=BGR,
    ),
    "caffe": UserFile(wrapped=lambda n, x: up(n(x - MEAN.flip(1))), feed=bgr),
    "bgr outside, rgb inside": UserFile(wrapped=lambda n, x: up(n(normalise(x.flip(1)))), feed=bgr),
    "mean and std are said": UserFile(
        wrapped=lambda n, x: up(n(x)),
        feed=lambda f: (unit(f) - 0.5) / 0.25,
        said=InputFormat(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    ),
    "scale is said, and the graph does the rest": UserFile(
        wrapped=lambda n, x: up(n(x * 4 - 2)), feed=plain, said=InputFormat(scale=255)
    ),
    "bgr and numbers are said": UserFile(
        wrapped=lambda n, x: up(n(x)),
        feed=lambda f: bgr(f) - np.array([1, 99, 200], np.float32)[:, None, None],
        said=InputFormat(mean=(1, 99, 200), std=(1, 1, 1), scale=255, colour="bgr"),
    ),
    "grey": UserFile(wrapped=lambda n, x: up(n(x / 255)), feed=grey, channels=1),
    "grey, mean and std inside": UserFile(
        wrapped=lambda n, x: up(n((x - 100) / 50)), feed=grey, channels=1
    ),
    "grey, three times": UserFile(
        wrapped=lambda n, x: up(n((torch.cat([x, x, x], 1) - MEAN) / STD)), feed=grey
    ),
    "grey, channels last": UserFile(
        wrapped=lambda n, x: up(n(x.permute(0, 3, 1, 2) / 99)),
        feed=lambda f: grey(f).transpose(1, 2, 0),
        channels=1,
    ),
    "grey before a pooling": UserFile(
        wrapped=lambda n, x: up(n(F.avg_pool2d(x / 99, 3, 1, 1))),
        feed=grey,
        channels=1,
    ),
    "half precision": UserFile(wrapped=half_inside, feed=half),
    "limited pixels": UserFile(wrapped=lambda n, x: up(n(normalise(x.clip(50, 200)))), feed=plain),
    "normalised behind a resize": UserFile(
        wrapped=lambda n, x: up(n(normalise(up(x, (20, 28))))), feed=plain
    ),
    "normalised by a whole image": UserFile(
        wrapped=lambda n, x: up(n((x - MEAN.expand(1, 3, *SIZE)) / STD)), feed=plain
    ),
    "other colours by a convolution": UserFile(
        wrapped=lambda n, x: up(n(F.conv2d(x / 255, torch.eye(3)[:, :, None, None] * 9))),
        feed=plain,
    ),
    "of unknown sides": UserFile(
        wrapped=lambda n, x: up(n(normalise(x))),
        feed=plain,
        export={"dynamic_axes": {"input": {0: "n", 1: "c", 2: "h", 3: "w"}}},
    ),
    "turned round": UserFile(wrapped=lambda n, x: up(n((255 - x) / 99)), feed=plain),
    "whitened by a second image": UserFile(
        wrapped=lambda n, x: up(n(x / (x.mean() + 1))), feed=plain, said=InputFormat(scale=255)
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_file_is_fed_as_its_user_feeds_it(name, tmp_path):
    case, path = FILES[name], tmp_path / "user.onnx"
    found = case.take(path)
    theirs = case.labels(path)
    ours = our_labels(found, [labels.shape for labels in theirs])
    assert agreement(ours, theirs) >= 0.9995
    assert agreement([found.source.label_map(frame) for frame in FRAMES], theirs) >= 0.9995


@pytest.mark.parametrize(
    "name",
    [
        *(
            "mean and std inside",
            "of pixels of 0 to 1",
            "in two steps",
            "as one factor and one sum",
        ),
        *("batch normalisation", "channel by channel", "bytes, channels last", "channels last"),
        *("channels last of any size", "sized by the input", "bgr outside, rgb inside"),
    ],
)
def test_normalisation_moves_into_the_spec(name, tmp_path):
    found = FILES[name].take(tmp_path / "user.onnx")
    assert found.spec.mean == pytest.approx(IMAGENET_MEAN, rel=1e-5)
    assert found.spec.std == pytest.approx(IMAGENET_STD, rel=1e-5)
    assert [node.op_type for node in found.model.graph.node][:2] == ["Conv", "Relu"]
    assert len(found.model.graph.node) == 5


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("from -1 to 1", 127.5, 127.5),
        ("from -1 to 1 of 255", 127.5, 127.5),
        ("bytes", 0, 128),
        ("bytes that nothing normalises", 0, 1),
        ("bgr inside by index", 0, 100),
        ("grey, mean and std inside", 100, 50),
        ("grey, channels last", 0, 99),
        ("mean and std are said", 127.5, 63.75),
        ("scale is said, and the graph does the rest", 0.5, 0.25),
    ],
)
def test_other_numbers_do_so_too(name, mean, std, tmp_path):
    found = FILES[name].take(tmp_path / "user.onnx")
    assert found.spec.mean == pytest.approx([mean] * 3)
    assert found.spec.std == pytest.approx([std] * 3)
    assert found.model.graph.node[0].op_type == "Conv"


@pytest.mark.parametrize("name", ["bgr outside", "bgr inside by flip", "caffe", "grey"])
def test_order_of_channels_goes_into_the_first_convolution(name, tmp_path):
    found = FILES[name].take(tmp_path / "user.onnx")
    assert [n.op_type for n in found.model.graph.node] == ["Conv", "Relu", "Conv", "Relu", "Conv"]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("bgr outside, and before a pooling", ["Conv", "MaxPool"]),
        ("grey before a pooling", ["Conv", "AveragePool"]),
        ("grey, three times", ["Conv", "Concat"]),
        ("turned round", ["Sub", "Div"]),
    ],
)
def test_what_fits_no_convolution_stays_in_front_of_it(name, kinds, tmp_path):
    found = FILES[name].take(tmp_path / "user.onnx")
    assert [node.op_type for node in found.model.graph.node][:2] == kinds


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("imagenet", "RGB pixels normalised with ImageNet's mean and standard deviation"),
        ("mean and std inside", "RGB pixels of 0 to 255 and normalises them itself"),
        ("of pixels of 0 to 1", "RGB pixels of 0 to 1 and normalises them itself"),
        ("bgr outside", "BGR pixels normalised with ImageNet's"),
        ("caffe", "BGR pixels of 0 to 255 and normalises them itself"),
        ("grey", "grey pixels of 0 to 255 and normalises them itself"),
        ("bytes that nothing normalises", "RGB pixels of 0 to 255"),
    ],
)
def test_what_is_assumed_is_said(name, words, tmp_path, caplog):
    caplog.set_level("INFO", "fcn_trt")
    FILES[name].take(tmp_path / "user.onnx")
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("nothing was said of the input of user.onnx: assuming that it takes ")
    assert words in message


@pytest.mark.parametrize("name", ["mean and std are said", "bgr and numbers are said"])
def test_what_was_said_is_not_said_again(name, tmp_path, caplog):
    caplog.set_level("INFO", "fcn_trt")
    FILES[name].take(tmp_path / "user.onnx")
    assert caplog.text == ""


REFUSED = {
    "transparency": (
        UserFile(wrapped=lambda n, x: up(n(x[:, :3])), feed=lambda f: plain(f)[[0, 1, 2, 0]]),
        r"has an input of \(1, 4, 40, 56\), but an image has 3 channels, or 1 if it is grey; exp",
    ),
    "five channels last": (
        UserFile(
            wrapped=lambda n, x: up(n(x.permute(0, 3, 1, 2)[:, :3])),
            feed=lambda f: last(f)[:, :, [0, 1, 2, 0, 1]],
        ),
        r"has an input of \(1, 40, 56, 5\), but an image has 3 channels",
    ),
    "bytes of another range": (
        UserFile(
            wrapped=lambda n, x: up(n(x.float())),
            feed=as_bytes,
            said=InputFormat(mean=(9, 9, 9), std=(1, 1, 1)),
        ),
        "takes UINT8, which are pixels of 0 to 255; leave --mean, --std and --scale out",
    ),
    "computing with bytes": (
        UserFile(wrapped=lambda n, x: up(n((x // 2).float())), feed=as_bytes),
        "UINT8 that no Cast makes floats of before node Div '/Div'; export it with an input",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused(name, tmp_path):
    require_refused(*REFUSED[name], tmp_path / "user.onnx")
