import pytest
import torch

from fcn_trt.errors import CheckpointError
from fcn_trt.model.checkpoint import load_checkpoint
from fcn_trt.model.safe_load import read_checkpoint


@pytest.mark.parametrize(
    ("meta", "match"),
    [
        ({"licence": [["x"]]}, "its licence is a list and no text"),
        ({"licence": "x" * 99_999}, "its licence has 99999 characters, and at most 16384"),
        ({"model": {"type": "FCN"}}, "its model is a dict and no text"),
        ({"model": torch.ones(2)}, "its model is a tensor and no text"),
        ({"cfg": "a = 1\n" * 50_000}, "its config has 300000 characters, and at most 131072"),
        ({"config": "a = 1\n" * 99_999}, "its config is a str of over 524288 bytes"),
    ],
)
def test_what_is_no_text_or_too_long_is_refused(meta, match, saved):
    file = saved({"meta": meta, "state_dict": {"a.weight": torch.ones(1)}})
    with pytest.raises(CheckpointError, match=rf"{match}.*; take it out of the checkpoint's meta"):
        read_checkpoint(file.path)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "-" * 99_999 + "1",
        "a = b" + ".c" * 50_000,
        "a = " + "[" * 99_999,
        "a = f" + "()" * 50_000,
        "if a: pass\n" + "elif b: pass\n" * 5_000,
        "a = ['x']\n" + "a = [a, a, a, a]\n" * 5_000 + "model = dict(backbone=a, decode_head=a)",
        "a = 0x" + "f" * 99_999 + "\nmodel = dict(backbone=dict(in_channels=a))",
        "model = dict(backbone=dict(in_channels=-0x" + "f" * 99_999 + "))",
        "model = dict(backbone=dict(norm_cfg=dict(eps=0x" + "f" * 999 + ")))",
        "model = {0x" + "f" * 99_999 + ": 1}",
        "model = dict(decode_head=dict(threshold=1e999))",
        "img_norm_cfg = dict(mean=[1, 2, 3], std=[1e-320, 1, 1])",
        "a = '\\d'",
    ],
    ids=lambda text: text[:12],
)
def test_config_that_grows_is_read_or_refused(text, saved, tiny):
    file = saved({"meta": {"cfg": text}, "state_dict": tiny(classes=3).state_dict()})
    try:
        load_checkpoint(file, "fcn_r18-d8")
    except CheckpointError as error:
        assert len(str(error)) < 600  # noqa: PT017  # either is right
