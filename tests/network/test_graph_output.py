"""What stands behind the logits of users' files: cut, folded, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional as F  # noqa: N812

from fcn_trt.labels import label_set, named_label_set
from tests.network.user_files import (
    FRAMES,
    SIZE,
    UserFile,
    above,
    agreement,
    as_it_is,
    our_labels,
    require_refused,
    up,
)

HALF = (SIZE[0] // 2, SIZE[1] // 2)


def last_axis(output):
    return output.argmax(-1)[0]


def opset(version):
    return {"opset_version": version}


def two_resizes(net, x):
    return up(up(net(x), HALF, align_corners=True), align_corners=False)


def sum_of_skips(net, x):
    y = net(x)
    return up(y[:, :1] - up(net[:1](x)[:, :1] / 2, y.shape[2:]))


SEVERAL = {
    "softmax behind the resize": UserFile(wrapped=lambda n, x: up(n(x)).softmax(1)),
    "softmax of opset 11": UserFile(wrapped=lambda n, x: up(n(x)).softmax(1), export=opset(11)),
    "log softmax behind": UserFile(wrapped=lambda n, x: up(n(x)).log_softmax(1)),
    "log softmax before": UserFile(wrapped=lambda n, x: up(n(x).log_softmax(1))),
    "sigmoid of each class": UserFile(wrapped=lambda n, x: up(n(x) / 9).sigmoid()),
    "probabilities in percent": UserFile(wrapped=lambda n, x: up(n(x)).softmax(1) * 100),
    "clipped probabilities": UserFile(
        wrapped=lambda n, x: up(n(x)).softmax(1).clip(1e-7, 1 - 1e-7)
    ),
    "argmax": UserFile(wrapped=lambda n, x: up(n(x)).argmax(1), read=as_it_is),
    "argmax that keeps its axis": UserFile(
        wrapped=lambda n, x: up(n(x)).argmax(1, keepdim=True), read=as_it_is
    ),
    "argmax as bytes": UserFile(
        wrapped=lambda n, x: up(n(x)).softmax(1).argmax(1).to(torch.uint8), read=as_it_is
    ),
    "argmax as floats, without a batch": UserFile(
        wrapped=lambda n, x: up(n(x)).argmax(1)[0].float(), read=as_it_is
    ),
    "argmax at the logits' own size": UserFile(wrapped=lambda n, x: n(x).argmax(1), read=as_it_is),
    "channels last": UserFile(wrapped=lambda n, x: up(n(x)).permute(0, 2, 3, 1), read=last_axis),
    "softmax, channels last": UserFile(
        wrapped=lambda n, x: up(n(x)).permute(0, 2, 3, 1).softmax(-1), read=last_axis
    ),
    "bias and argmax, channels last": UserFile(
        wrapped=lambda n, x: (up(n(x)).permute(0, 2, 3, 1) + torch.arange(5)).argmax(-1),
        read=as_it_is,
    ),
    "channels last before the resize": UserFile(
        wrapped=lambda n, x: up((n(x).permute(0, 2, 3, 1) * 2).permute(0, 3, 1, 2))
    ),
    "two resizes": UserFile(wrapped=two_resizes),
    "two resizes, the other order": UserFile(
        wrapped=lambda n, x: up(up(n(x), HALF), align_corners=True)
    ),
    "nearest and bilinear": UserFile(wrapped=lambda n, x: up(up(n(x), HALF, mode="nearest"))),
    "a resize to the same size": UserFile(
        wrapped=lambda n, x: up(up(n(x), align_corners=True), mode="nearest")
    ),
    "a resize by a factor": UserFile(
        wrapped=lambda n, x: F.interpolate(
            n(x), scale_factor=4, mode="bilinear", align_corners=False
        )
    ),
    "upsampling of opset 9": UserFile(
        wrapped=lambda n, x: F.conv2d(
            F.interpolate(n(x), scale_factor=4),
            torch.ones(5, 1, 3, 3),
            padding=1,
            groups=5,
        ),
        export=opset(9),
    ),
    "transposed convolution": UserFile(
        wrapped=lambda n, x: F.conv_transpose2d(n(x), torch.ones(5, 1, 4, 4), stride=4, groups=5)
    ),
    "temperature and bias behind the resize": UserFile(
        wrapped=lambda n, x: up(n(x)) / 0.5 - torch.arange(5).view(1, 5, 1, 1)
    ),
    "turned round": UserFile(wrapped=lambda n, x: 1 - up(n(x))),
    "some of the classes": UserFile(wrapped=lambda n, x: up(n(x))[:, 1:4]),
    "classes in another order": UserFile(wrapped=lambda n, x: up(n(x)).softmax(1)[:, [4, 0, 2]]),
    "the largest of all": UserFile(wrapped=lambda n, x: up(n(x)).max(1)[1], read=as_it_is),
    "squeezed": UserFile(wrapped=lambda n, x: up(n(x)).squeeze(), read=lambda o: o.argmax(0)),
    "opset 8": UserFile(
        wrapped=lambda n, x: F.conv_transpose2d(n(x), torch.ones(5, 1, 4, 4), stride=4, groups=5),
        export=opset(8),
    ),
    "a crop of padded logits": UserFile(
        wrapped=lambda n, x: up(n(F.pad(x, (8, 8, 8, 8)))[:, :, 2:12, 2:16])
    ),
    "a crop behind the resize": UserFile(
        wrapped=lambda n, x: up(n(F.pad(x, (8, 8, 8, 8))), (56, 72))[:, :, 8:48, 8:64]
    ),
    "a mean of two networks": UserFile(
        wrapped=lambda n, x: up(n(x)).softmax(1) + up(n(x / 2)).softmax(1)
    ),
    "a softmax spelled out": UserFile(
        wrapped=lambda n, x: up(n(x).exp() / n(x).exp().sum(1, keepdim=True))
    ),
    "dropout and identity": UserFile(wrapped=lambda n, x: F.dropout(up(n(x)), training=False)),
    "limited scores": UserFile(wrapped=lambda n, x: up(n(x).clip(-2, 2)) + n(x).mean() * 0),
}

ONE = {
    "sigmoid": UserFile(wrapped=lambda n, x: up(n(x)[:, :1]).sigmoid(), read=above(0.5)),
    "sigmoid, one class": UserFile(
        wrapped=lambda n, x: up(n(x)).sigmoid(), read=above(0.5), classes=1
    ),
    "a logit": UserFile(wrapped=lambda n, x: up(n(x)), read=above(0), classes=1),
    "a sum of logits": UserFile(wrapped=sum_of_skips, read=above(0)),
    "a logit of a transposed convolution": UserFile(
        wrapped=lambda n, x: F.conv_transpose2d(n(x), torch.ones(1, 1, 4, 4), stride=4),
        read=above(0),
        classes=1,
    ),
    "a logit above 0": UserFile(wrapped=lambda n, x: up(n(x)) > 0, read=as_it_is, classes=1),
    "a probability above 0.3": UserFile(
        wrapped=lambda n, x: (up(n(x)).sigmoid() > 0.3).float(), read=as_it_is, classes=1
    ),
    "a probability of at least 0.7, as 255": UserFile(
        wrapped=lambda n, x: (up(n(x)).sigmoid()[:, 0] >= 0.7).to(torch.uint8) * 255,
        read=above(0),
        classes=1,
    ),
    "a probability below 0.4": UserFile(
        wrapped=lambda n, x: (up(n(x)).sigmoid() < 0.4).int(), read=as_it_is, classes=1
    ),
    "a limit on the left": UserFile(
        wrapped=lambda n, x: torch.tensor(0.4) < up(n(x)).sigmoid(), read=as_it_is, classes=1
    ),
    "rounded": UserFile(wrapped=lambda n, x: up(n(x)).sigmoid().round(), read=as_it_is, classes=1),
    "percent": UserFile(
        wrapped=lambda n, x: (up(n(x)).sigmoid() * 100)[:, 0],
        read=above(30),
        classes=1,
        options={"threshold": 0.3},
    ),
    "a threshold that is said": UserFile(
        wrapped=lambda n, x: up(n(x)),
        read=above(np.log(4)),
        classes=1,
        options={"threshold": 0.8},
    ),
    "one of two": UserFile(
        wrapped=lambda n, x: up(n(x)).softmax(1)[:, 1], read=above(0.5), classes=2
    ),
    "one of two above 0.7": UserFile(
        wrapped=lambda n, x: up(n(x)).softmax(1)[:, 1:] > 0.7, read=as_it_is, classes=2
    ),
    "the first of two": UserFile(
        wrapped=lambda n, x: up(n(x)).softmax(1)[:, :1],
        read=above(0.6),
        classes=2,
        options={"threshold": 0.6},
    ),
    "one of two below 0.3": UserFile(
        wrapped=lambda n, x: up(n(x)).softmax(1).split(1, 1)[1] < 0.3, read=as_it_is, classes=2
    ),
    "one of five sigmoids": UserFile(
        wrapped=lambda n, x: up(n(x)).sigmoid()[:, 3], read=above(0.5)
    ),
    "channels last, one class": UserFile(
        wrapped=lambda n, x: up(n(x)).permute(0, 2, 3, 1).sigmoid(), read=above(0.5), classes=1
    ),
    "shifted logit": UserFile(
        wrapped=lambda n, x: (up(n(x))[:, 3:4] * 0.5 - 1).sigmoid(), read=above(0.5)
    ),
}


def check(case, path):
    """Import a file, and compare what became of it, and the file as we run it, with its user's."""
    found = case.take(path)
    theirs = case.labels(path)
    ours = our_labels(found, [labels.shape for labels in theirs])
    assert agreement(ours, theirs) >= 0.9995
    assert agreement([found.source.label_map(frame) for frame in FRAMES], theirs) >= 0.9995
    last = found.model.graph.node[-1].op_type
    assert last not in ("Softmax", "ArgMax", "Sigmoid", "Greater", "Less", "Round")
    return found


@pytest.mark.parametrize("name", SEVERAL)
def test_classes_stay_as_they_were(name, tmp_path):
    check(SEVERAL[name], tmp_path / "user.onnx")


@pytest.mark.parametrize("name", ONE)
def test_one_class_becomes_two(name, tmp_path):
    spec = check(ONE[name], tmp_path / "user.onnx").spec
    assert spec.classes == ("background", "foreground")


def test_network_ends_at_its_logits_and_no_node_is_added(tmp_path):
    for case in (SEVERAL["two resizes"], ONE["sigmoid, one class"], ONE["one of two"]):
        model = case.take(tmp_path / "user.onnx").model
        assert [n.op_type for n in model.graph.node][-3:] == ["Conv", "Relu", "Conv"] or (
            case is SEVERAL["two resizes"] and model.graph.node[-1].op_type == "Resize"
        )


def test_scores_that_are_smaller_than_the_input_are_upsampled(tmp_path):
    case = UserFile(wrapped=lambda n, x: up(n(x), HALF))
    found = case.take(tmp_path / "user.onnx")
    assert found.spec.stride == 2
    theirs = case.labels(tmp_path / "user.onnx")
    assert agreement(our_labels(found, [HALF] * len(theirs)), theirs) >= 0.9995
    ours = our_labels(found, [SIZE] * len(theirs))
    assert agreement([found.source.label_map(frame) for frame in FRAMES], ours) >= 0.9995


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["cat"], ("background", "cat")),
        (["rest", "cat"], ("rest", "cat")),
    ],
)
def test_one_class_is_called_as_it_is_asked(labels, classes, tmp_path):
    options = {"labels": named_label_set(labels)}
    case = UserFile(wrapped=lambda n, x: up(n(x)), classes=1, options=options)
    assert case.take(tmp_path / "user.onnx").spec.classes == classes


def resize_labels(net, x):
    labels = net(x).argmax(1, keepdim=True).float()
    return up(labels, mode="nearest")


def asymmetric(model):
    resize = next(node for node in model.graph.node if node.op_type == "Resize")
    mode = next(a for a in resize.attribute if a.name == "coordinate_transformation_mode")
    mode.s = b"asymmetric"


REFUSED = {
    "softmax before the resize": (
        UserFile(wrapped=lambda n, x: up(n(x).softmax(1))),
        r"the probabilities of node Softmax '/Softmax', .* at node Resize '/Resize'; export",
    ),
    "sigmoid before the resize": (
        UserFile(wrapped=lambda n, x: up(n(x).sigmoid()) > 0.5, classes=1),
        r"the probabilities of node Sigmoid '/Sigmoid', .* at node Resize '/Resize'",
    ),
    "softmax between resizes": (
        UserFile(wrapped=lambda n, x: up(up(n(x), HALF).softmax(1))),
        r"the probabilities of node Softmax '/Softmax', .* at node Resize '/Resize_1'",
    ),
    "labels are resized": (
        UserFile(wrapped=resize_labels),
        r"resizes its labels, and not its logits at node Resize '/Resize'; export",
    ),
    "nearest": (
        UserFile(wrapped=lambda n, x: up(n(x), mode="nearest")),
        r"with mode nearest .* at node Resize '/Resize'; bilinear",
    ),
    "bicubic": (
        UserFile(wrapped=lambda n, x: up(n(x), mode="bicubic").argmax(1)),
        r"with mode cubic .* at node Resize '/Resize'; bilinear",
    ),
    "asymmetric": (
        UserFile(wrapped=lambda n, x: up(n(x)), change=asymmetric),
        r"linear and asymmetric coordinates at node Resize '/Resize'; bilinear",
    ),
    "argmax along the rows": (
        UserFile(wrapped=lambda n, x: up(n(x)).argmax(3)),
        r"along the axis W of \(N, C, H, W\) .* at node ArgMax '/ArgMax'; export",
    ),
    "softmax along the columns": (
        UserFile(wrapped=lambda n, x: up(n(x)).softmax(2)),
        r"along the axis H of \(N, C, H, W\) .* at node Softmax '/Softmax'; export",
    ),
    "argmax of one channel": (
        UserFile(wrapped=lambda n, x: up(n(x)).argmax(1), classes=1),
        "along one channel, of which it makes the same everywhere at node ArgMax '/ArgMax'",
    ),
    "softmax of one channel": (
        UserFile(wrapped=lambda n, x: up(n(x)).softmax(1), classes=1),
        "along one channel, of which it makes the same everywhere at node Softmax '/Softmax'",
    ),
    "one channel of another kind": (
        UserFile(wrapped=lambda n, x: up(n(x).relu()), classes=1),
        "one channel that is neither a probability nor .* node Relu '/Relu'; name another",
    ),
    "a confidence": (
        UserFile(wrapped=lambda n, x: up(n(x)).softmax(1).amax(1, keepdim=True)),
        "one channel that is neither a probability nor .* node ReduceMax '/ReduceMax'; name",
    ),
    "each class for itself": (
        UserFile(wrapped=lambda n, x: up(n(x)).sigmoid() > 0.5),
        "finds each of 5 classes for itself at node Greater '/Greater'; export",
    ),
    "one of five by softmax": (
        UserFile(wrapped=lambda n, x: up(n(x)).softmax(1)[:, 2]),
        "takes one of 5 classes' probabilities at node Gather '/Gather'; export",
    ),
    "the index of the largest": (
        UserFile(wrapped=lambda n, x: up(n(x)).topk(1, 1)[1]),
        "makes INT64 of shape .* at node TopK '/TopK', but scores .* export the network up to its",
    ),
    "classes in a list": (
        UserFile(wrapped=lambda n, x: up(n(x)).flatten(2)),
        "makes FLOAT of shape .* at node Reshape '/Reshape', but scores .* export the network up",
    ),
    "classes stacked last": (
        UserFile(wrapped=lambda n, x: torch.stack(list(up(n(x)).unbind(1)), -1)),
        r"makes logits of \(56, 5\) from an image of \(40, 56\), which are no fraction .*; export",
    ),
    "probabilities of the other class": (
        UserFile(wrapped=lambda n, x: 1 - up(n(x)).sigmoid(), classes=1),
        "changes its probabilities at node Sub '/Sub'; export",
    ),
    "all classes but the first as one": (
        UserFile(wrapped=lambda n, x: up(n(x)).argmax(1).bool()),
        "makes one of 5 classes at node Cast '/Cast'; export",
    ),
    "labels that begin with 1": (
        UserFile(wrapped=lambda n, x: up(n(x)).argmax(1) + 1),
        "changes its labels at node Add '/Add'; export",
    ),
    "probabilities as bytes": (
        UserFile(wrapped=lambda n, x: (up(n(x)).softmax(1) * 255).to(torch.uint8)),
        "rounds its probabilities to whole numbers at node Cast '/Cast'; export",
    ),
    "labels that are computed with": (
        UserFile(wrapped=lambda n, x: up(n(x)).argmax(1) * 3),
        "changes its labels at node Mul '/Mul'; export",
    ),
    "a threshold for several": (
        UserFile(wrapped=lambda n, x: up(n(x)), options={"threshold": 0.3}),
        "has 5 classes, of which the best wins; leave --threshold out",
    ),
    "two thresholds": (
        UserFile(
            wrapped=lambda n, x: up(n(x)).sigmoid() > 0.4, classes=1, options={"threshold": 0.3}
        ),
        "has a threshold of its own, at a probability of 0.4; leave --threshold out",
    ),
    "labels of another number": (
        UserFile(wrapped=lambda n, x: up(n(x)), classes=1, options={"labels": label_set("voc")}),
        "does not fit --labels: voc has 21 classes, but the network has 2",
    ),
}


def take_a_class_that_is_not_there(model):
    gather = next(node for node in model.graph.node if node.op_type == "Gather")
    model.graph.initializer.append(numpy_helper.from_array(np.int64(9), "nine"))
    gather.input[1] = "nine"


REFUSED["a class that is not there"] = (
    UserFile(wrapped=lambda n, x: up(n(x))[:, 1], change=take_a_class_that_is_not_there),
    "is not sound at node Gather '/Gather', whose arguments do not fit what it reads; export",
)


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_argmax_of_logits_can_say_is_refused(name, tmp_path):
    require_refused(*REFUSED[name], tmp_path / "user.onnx")
