"""Whole and sliding inference, scales and mirroring, against MMSegmentation 1.2.2's own code.

Its own pipelines read, resize and mirror a real file; its own models compute windows and resize
logits; its own TTA model merges. Ours sees the same file and, as the network, once their modules
and once an engine bundle made of their checkpoint.
"""

import importlib.util
import logging
from copy import deepcopy
from dataclasses import replace
from fnmatch import fnmatch

import cv2
import numpy as np
import pytest
import torch

from fcn_trt.engine.openvino.builder import build_openvino
from fcn_trt.evaluation.family import MMSEG_SCALES, altered, protocol_for
from fcn_trt.evaluation.inference import infer
from fcn_trt.evaluation.label_files import read_frame
from fcn_trt.evaluation.protocol import Slide
from fcn_trt.evaluation.resize import best_class
from fcn_trt.runtime.segmenter import Segmenter
from tests.families.test_mmsegmentation import CONFIGS, narrowed, save_1x
from tests.plans import as_network, export_network

logger = logging.getLogger(__name__)

MMSEG = importlib.util.find_spec("mmseg")

pytestmark = [
    pytest.mark.families,
    pytest.mark.filterwarnings("ignore"),  # of mmengine, mmcv and mmseg, about themselves
    pytest.mark.skipif(MMSEG is None, reason="mmsegmentation is missing; `make test-families`"),
]

TOLERANCE = 1e-4
"""Of the logits, whose deviation is 1, and of probabilities."""

NAMES = {
    False: "fcn_r18-d8_4xb2-80k_cityscapes-512x1024",
    True: "fcn_r18-d8_4xb2-80k_cityscapes-769x769",
}

CASES = {
    # name: align_corners, box (height, width), windows, images' sizes. 33 is 769's rule: 8 n + 1.
    "whole": (False, (64, 128), None, [(50, 90), (64, 128), (97, 61)]),
    "whole, corners aligned": (True, (65, 129), None, [(50, 90), (97, 61)]),
    "slide": (False, (64, 128), Slide(crop=(48, 48), stride=(32, 32)), [(50, 90), (97, 61)]),
    "slide of 769's rule": (
        True,
        (65, 129),
        Slide(crop=(33, 33), stride=(22, 22)),
        [(64, 128), (71, 90)],
    ),
    "slide, smaller image": (
        True,
        (20, 60),
        Slide(crop=(33, 49), stride=(22, 30)),
        [(64, 128), (10, 10)],
    ),
}


class Theirs:
    """One of their models, small, its logits of deviation 1, with pipelines scaled down."""

    def __init__(self, mmseg, folder, randomise, *, align_corners):
        (config,) = (path for path in CONFIGS if path.stem == NAMES[align_corners])
        self.cfg = narrowed(mmseg.Config.fromfile(config))
        self.cfg.model.pretrained = None
        self.mmseg = mmseg
        self.model = randomise(mmseg.build(self.cfg.model))
        with torch.no_grad():
            image = torch.nn.functional.interpolate(torch.randn(1, 3, 8, 12), scale_factor=8)
            deviation, mean = torch.std_mean(self.logits(image), dim=(0, 2, 3))
            classifier = self.model.decode_head.conv_seg
            classifier.weight.copy_(classifier.weight / deviation[:, None, None, None])
            classifier.bias.copy_((classifier.bias - mean) / deviation)
        checkpoint = folder / f"{NAMES[align_corners]}.pth"
        save_1x(mmseg, self.cfg, self.model, checkpoint)
        export_network(str(checkpoint), folder / "theirs.onnx", size=(64, 128))
        self.bundle = build_openvino(as_network(folder / "theirs.onnx"), folder / "bundle").path

    def logits(self, image):
        return self.model.decode_head(self.model.backbone(image))

    def network(self, images):
        """What takes and gives arrays, as `Segmenter.network` does."""
        with torch.no_grad():
            return self.logits(torch.from_numpy(images)).numpy()

    def test_like(self, case):
        """Set the model up as a published config does, at the case's sizes."""
        _, _, slide, _ = case
        whole = {"mode": "whole"}
        self.model.test_cfg = self.mmseg.Config(
            whole
            if slide is None
            else {"mode": "slide", "crop_size": slide.crop, "stride": slide.stride}
        )

    def predict(self, path, box):
        """Their test pipeline and `test_step`: logits of the size of the file's image."""
        pipeline = [dict(step) for step in self.cfg.test_pipeline if step.type != "LoadAnnotations"]
        assert pipeline[1]["type"] == "Resize"
        pipeline[1]["scale"] = box[::-1]
        data = self.mmseg.Compose(pipeline)({"img_path": str(path)})
        with torch.no_grad():
            (found,) = self.model.test_step({key: [value] for key, value in data.items()})
        return found.seg_logits.data.numpy()

    def predict_all(self, path):
        """Their TTA pipeline and model: logits of each view, and the merged label map."""
        load, augment = deepcopy(list(self.cfg.tta_pipeline))  # their Compose changes it
        augment["transforms"] = [
            steps for steps in augment["transforms"] if steps[0].type != "LoadAnnotations"
        ]
        data = self.mmseg.Compose([load, augment])({"img_path": str(path)})
        data = {key: [[value] for value in values] for key, values in data.items()}
        with torch.no_grad():
            views = [
                self.model.test_step({key: values[index] for key, values in data.items()})[0]
                for index in range(len(data["inputs"]))
            ]
            logits = [view.seg_logits.data.clone() for view in views]
            merged = self.mmseg.SegTTAModel(self.model).test_step(data)
        return logits, merged[0].pred_sem_seg.data.numpy()


@pytest.fixture(scope="module")
def models(mmseg, tmp_path_factory):
    made = {}

    def model(randomise, *, align_corners):
        if align_corners not in made:
            folder = tmp_path_factory.mktemp("theirs")
            made[align_corners] = Theirs(mmseg, folder, randomise, align_corners=align_corners)
        return made[align_corners]

    return model


@pytest.fixture
def picture(make_frame, tmp_path):
    """Write an image and return its path."""

    def write(size):
        path = tmp_path / f"{size[0]}x{size[1]}.png"
        cv2.imwrite(str(path), make_frame(size, seed=size[0]))
        return path

    return write


def difference(theirs, planes):
    """max|a - b|, with their deviation near 1; planes may be computed in any parts."""
    ours = np.concatenate([planes.rows(0, 5), planes.rows(5, planes.size[0])], axis=1)
    assert theirs.shape == ours.shape
    assert np.isfinite(theirs).all()
    found = float(np.abs(theirs - ours).max())
    logger.info("differs by %.1e of %.1f", found, np.abs(theirs).max())
    return found


def of_case(spec, case):
    """The family's protocol for Cityscapes, at the case's sizes."""
    _, box, slide, _ = case
    return replace(protocol_for(spec, "cityscapes"), size=box, slide=slide)


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_theirs_at_the_image_s_size(name, models, randomise, picture):
    case = CASES[name]
    theirs = models(randomise, align_corners=case[0])
    theirs.test_like(case)
    with Segmenter.load(theirs.bundle) as segmenter:
        protocol = of_case(segmenter.spec, case)
        assert protocol.align_corners == case[0]
        for size in case[3]:
            path = picture(size)
            expected = theirs.predict(path, case[1])
            frame = read_frame(path)
            for network in (theirs.network, segmenter.network):
                assert (
                    difference(expected, infer(network, frame, protocol, segmenter.spec))
                    <= TOLERANCE
                )


@pytest.mark.parametrize("name", ["whole", "slide", "slide of 769's rule"])
def test_scales_and_mirroring_equal_theirs(name, models, randomise, picture):
    case = CASES[name]
    theirs = models(randomise, align_corners=case[0])
    theirs.test_like(case)
    path = picture((71, 90))
    frame = read_frame(path)
    views, label_map = theirs.predict_all(path)
    assert len(views) == 2 * len(MMSEG_SCALES)
    expected = torch.stack([view.softmax(dim=0) for view in views]).mean(0)
    assert np.array_equal(expected.argmax(0), label_map[0])
    with Segmenter.load(theirs.bundle) as segmenter:
        one = of_case(segmenter.spec, case)
        protocol = altered(one, scales=MMSEG_SCALES, flip=True)
        for network in (theirs.network, segmenter.network):
            each = [replace(protocol, scales=(scale,), flip=False) for scale in MMSEG_SCALES]
            for view, alone in zip(views[::2], each, strict=True):
                planes = infer(network, frame, alone, segmenter.spec)
                assert difference(view.numpy(), planes) <= TOLERANCE
            merged = infer(network, frame, protocol, segmenter.spec)
            assert difference(expected.numpy(), merged) <= TOLERANCE
            assert_same_labels(best_class(merged), expected.numpy())


def assert_same_labels(label_map, probabilities):
    """Equal but where the two best are as near to each other as ours may be to theirs."""
    second, best = np.sort(probabilities, axis=0)[-2:]
    same = label_map == probabilities.argmax(0)
    assert same[best - second > 2 * TOLERANCE].all()
    assert same.mean() > 0.999


@pytest.mark.parametrize(
    "dataset", ["cityscapes", "voc", "ade20k", "pascal_context_60", "pascal_context_59"]
)
def test_protocols_are_those_of_the_published_configs(dataset, mmseg, models, randomise):
    """Each published config of a data set, read by their reader, says what ours does."""
    with Segmenter.load(models(randomise, align_corners=False).bundle) as segmenter:
        spec = segmenter.spec
    part = {"voc": "voc12aug"}.get(dataset, dataset.replace("_60", "").replace("_", "-"))
    configs = [path for path in CONFIGS if fnmatch(path.stem, f"*_{part}-[0-9]*x*")]
    assert configs
    for config in configs:
        cfg = mmseg.Config.fromfile(config)
        is_769 = cfg.model.decode_head.align_corners
        model = f"fcn_r50-d8{'_769x769' if is_769 else ''}"
        ours = protocol_for(replace(spec, model=model, align_corners=is_769), dataset)
        resize = next(step for step in cfg.test_pipeline if step.type == "Resize")
        assert (ours.resize, resize.keep_ratio) == ("box", True)
        assert sorted(ours.size or ()) == sorted(resize.scale)
        if cfg.model.test_cfg.mode == "whole":
            assert ours.slide is None
        else:
            theirs = cfg.model.test_cfg
            assert ours.slide == Slide(crop=theirs.crop_size, stride=theirs.stride)
        assert list(MMSEG_SCALES) == cfg.get("img_ratios", list(MMSEG_SCALES))
        assert (ours.kernel, ours.truth, ours.logits) == ("cv2", "image", "input")
