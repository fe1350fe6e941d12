import logging
import math

import numpy as np
import pytest
import torch

from fcn_trt.errors import CheckpointError
from fcn_trt.labels import label_set, named_label_set
from fcn_trt.model.checkpoint import load_checkpoint


class TestLabels:
    def load(self, saved, tiny, classes=19, *, labels=None, own=None, **meta):
        meta |= {"labels": own} if own else {}
        content = {"meta": meta, "state_dict": tiny(classes=classes).state_dict()}
        return load_checkpoint(saved(content), "fcn_r18-d8", labels=labels).labels

    @pytest.mark.parametrize("count", [3, 11, 19, 21])
    def test_number_of_classes_tells_nothing(self, count, saved, tiny, caplog):
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            labels = self.load(saved, tiny, count)
        assert labels.classes == tuple(f"class_{index}" for index in range(count))
        (said,) = [m for m in caplog.messages if "class_0" in m]
        assert f"class_{count - 1} (--labels names them)" in said

    @pytest.mark.parametrize("meta", [{"CLASSES": ("a", "b", "c")}, {"own": "camvid"}])
    def test_nothing_is_said_of_classes_that_have_names(self, meta, saved, tiny, caplog):
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            self.load(saved, tiny, 11 if "own" in meta else 3, **meta)
        assert "--labels" not in caplog.text

    @pytest.mark.parametrize(
        "meta",
        [
            {"CLASSES": ("road", "sky"), "PALETTE": [[1, 2, 3], [255, 0, 16]]},
            {"dataset_meta": {"classes": ("road", "sky"), "palette": [[1, 2, 3], [255, 0, 16]]}},
        ],
    )
    def test_own_classes_and_colours_of_both_layouts_are_taken(self, meta, saved, tiny):
        labels = self.load(saved, tiny, 2, **meta)
        assert labels.name == "custom"
        assert labels.classes == ("road", "sky")
        assert labels.palette == ("#010203", "#ff0010")

    def test_own_classes_without_colours_are_coloured(self, saved, tiny):
        labels = self.load(saved, tiny, 2, CLASSES=["road", "sky"], PALETTE=None)
        assert (labels.classes, len(labels.palette)) == (("road", "sky"), 2)

    def test_own_classes_of_a_known_data_set_get_its_name(self, saved, tiny):
        names = label_set("cityscapes").classes
        assert self.load(saved, tiny, CLASSES=names).name == "cityscapes"

    def test_own_classes_lose_the_spaces_around_them(self, saved, tiny):
        names = [f" {name} " for name in label_set("cityscapes").classes]
        assert self.load(saved, tiny, CLASSES=names) == label_set("cityscapes")

    def test_asked_labels_come_before_its_own(self, saved, tiny):
        asked = named_label_set(("mine", "yours"))
        assert self.load(saved, tiny, 2, CLASSES=("a", "b"), labels=asked) == asked

    @pytest.mark.parametrize(
        ("meta", "match"),
        [
            ({"own": "voc"}, "voc has 21 classes, but the network has 19"),
            ({"own": "mars"}, "unknown label set 'mars'"),
            ({"own": ["voc"]}, "cannot be labelled"),
            ({"CLASSES": ("road", "sky")}, "custom has 2 classes, but the network has 19"),
            ({"CLASSES": ("x",) * 19, "PALETTE": [[1, 2, 3]]}, "19 classes but 1 colours"),
            ({"CLASSES": ("x",) * 19, "PALETTE": [[999, 2, 3]] * 19}, "'#3e70203' is not of"),
            ({"CLASSES": 5}, "its classes are a int"),
            ({"CLASSES": {"a": 1}}, "its classes are a dict"),
            ({"CLASSES": torch.ones(19)}, "its classes are a tensor"),
            ({"CLASSES": [["x"] * 9] * 19}, "one of its classes is a list"),
            ({"CLASSES": ["x" * 999] * 19}, "its class has 999 characters"),
            ({"CLASSES": ["x"] * 999}, "999 classes: a label map holds 1 to 255"),
            ({"CLASSES": ["x"] * 19, "PALETTE": 7}, "its palette is a int"),
            ({"CLASSES": ["x"] * 19, "PALETTE": [[[1]] * 3] * 19}, "no list of three numbers"),
            ({"CLASSES": ["x"] * 19, "PALETTE": [[10**60] * 3] * 19}, "no list of three numbers"),
            ({"CLASSES": ["x"] * 19, "PALETTE": [[math.nan] * 3] * 19}, "no list of three"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused_with_the_way_out(self, meta, match, saved, tiny):
        with pytest.raises(CheckpointError, match=rf"{match}.*give --labels a file .* ade20k"):
            self.load(saved, tiny, **meta)

    def test_palette_that_was_drawn_at_random_is_left(self, saved, tiny):
        names = ["road", "sky"]
        labels = self.load(saved, tiny, 2, CLASSES=names, PALETTE=np.ones((2, 3), np.int64))
        assert labels == named_label_set(names)

    def test_asked_labels_of_another_number_are_refused(self, saved, tiny):
        with pytest.raises(CheckpointError, match="voc has 21 classes, but the network has 19"):
            self.load(saved, tiny, labels=label_set("voc"))

    def test_more_classes_than_a_label_map_holds_are_refused(self, saved, tiny):
        with pytest.raises(CheckpointError, match="a label map holds 1 to 255"):
            self.load(saved, tiny, 256)

    def test_dataset_meta_of_another_kind_says_nothing(self, saved, tiny):
        assert self.load(saved, tiny, dataset_meta="none").classes[0] == "class_0"


class TestOneLogit:
    def load(self, saved, tiny, *, labels=None, **meta):
        content = {"meta": meta, "state_dict": tiny(classes=1).state_dict()}
        return load_checkpoint(saved(content), "fcn_r18-d8", labels=labels).labels

    def test_its_classes_are_background_and_foreground(self, saved, tiny):
        assert self.load(saved, tiny).classes == ("background", "foreground")

    @pytest.mark.parametrize("classes", [("crack",), ("sound", "crack")])
    def test_one_name_or_two_name_them(self, classes, saved, tiny):
        whole = classes if len(classes) == 2 else ("background", *classes)
        assert self.load(saved, tiny, labels=named_label_set(classes)).classes == whole
        assert self.load(saved, tiny, CLASSES=classes).classes == whole

    def test_three_names_are_refused(self, saved, tiny):
        with pytest.raises(CheckpointError, match="has 3 classes, but the network has 2"):
            self.load(saved, tiny, CLASSES=("a", "b", "c"))
