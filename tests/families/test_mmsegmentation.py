"""MMSegmentation 1.2.2 itself, built from the configs that it publishes and ships in its wheel."""

import importlib.util
from pathlib import Path

import pytest
import torch

from fcn_trt.files import sha256
from fcn_trt.labels import label_set
from fcn_trt.model.checkpoint import load_checkpoint
from fcn_trt.model.weights import WeightsFile

MMSEG = importlib.util.find_spec("mmseg")

pytestmark = [
    pytest.mark.families,
    pytest.mark.filterwarnings("ignore"),  # of mmengine, mmcv and mmseg, about themselves
    pytest.mark.skipif(MMSEG is None, reason="mmsegmentation is missing; `make test-families`"),
]

LABELS = {
    "CityscapesDataset": "cityscapes",
    "ADE20KDataset": "ade20k",
    "PascalVOCDataset": "voc",
    "PascalContextDataset": "pascal_context_60",
    "PascalContextDataset59": "pascal_context_59",
}


def published_configs():
    """Every FCN config in the wheel; one per architecture is run at its full width."""
    if MMSEG is None or MMSEG.origin is None:
        return []
    return sorted((Path(MMSEG.origin).parent / ".mim" / "configs" / "fcn").glob("*.py"))


def model_name(config):
    """`fcn-d6_r50b-d16_4xb2-80k_cityscapes-769x769` is our `fcn_d6_r50b-d16_769x769`."""
    name = config.stem.replace("fcn-d6", "fcn_d6").partition("_4xb")[0]
    return name + ("_769x769" if config.stem.endswith("769x769") else "")


CONFIGS = published_configs()
ONE_EACH = list({model_name(config): config for config in CONFIGS}.values())


def narrowed(cfg):
    """The same network with an eighth of the channels, so that every config can be tried."""
    cfg.model.backbone.update(base_channels=8, stem_channels=8)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.update(in_channels=head.in_channels // 8, channels=head.channels // 8)
    return cfg


def save_1x(mmseg, cfg, model, path):
    """What mmengine's Runner.save_checkpoint writes."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    wrapper = mmseg.OptimWrapper(optimizer, clip_grad=None)
    hub = mmseg.MessageHub.get_instance(path.stem)
    for step in range(3):
        hub.update_scalar("train/loss", 1.0 / (step + 1))
        hub.update_scalar("train/lr", torch.tensor(0.01))
    hub.update_info("iter", 80000)
    hub.update_info("cfg", cfg.pretty_text)
    checkpoint = {
        "meta": {
            "epoch": 0,
            "iter": 80000,
            "cfg": cfg.pretty_text,
            "seed": 304,
            "experiment_name": path.stem,
            "time": "20230101_000000",
            "mmengine_version": "0.10.7",
            "dataset_meta": {
                **mmseg.datasets.get(cfg.dataset_type).METAINFO,
                "label_map": None,
                "reduce_zero_label": False,
            },
        },
        "state_dict": model.state_dict(),
        "message_hub": hub.state_dict(),
        "optimizer": wrapper.state_dict(),
        "param_schedulers": [mmseg.PolyLR(wrapper, power=0.9, end=10, by_epoch=False).state_dict()],
    }
    torch.save(checkpoint, path)


def save_0x(mmseg, cfg, model, path):
    """What MMSegmentation 0.x wrote by mmcv.runner.save_checkpoint: legacy pickle, DDP keys."""
    meta = mmseg.datasets.get(cfg.dataset_type).METAINFO
    checkpoint = {
        "meta": {
            "mmseg_version": "0.11.0+d4aa1b5",
            "config": cfg.pretty_text,
            "CLASSES": meta["classes"],
            "PALETTE": meta["palette"],
            "epoch": 1,
            "iter": 80000,
        },
        "state_dict": {f"module.{name}": value for name, value in model.state_dict().items()},
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01).state_dict(),
    }
    torch.save(checkpoint, path, _use_new_zipfile_serialization=False)


def load(path):
    """What nothing but the file says; the file is deleted, because some are large."""
    loaded = load_checkpoint(WeightsFile(path=path, sha256=sha256(path), published=None))
    path.unlink()
    return loaded


def assert_is_what_the_config_says(loaded, config, cfg):
    arch = loaded.module.arch
    assert arch.name == model_name(config)
    assert arch.align_corners == cfg.model.decode_head.align_corners
    strides = cfg.model.backbone.strides
    assert arch.stride == 4 * strides[0] * strides[1] * strides[2] * strides[3]
    assert loaded.labels == label_set(LABELS[cfg.dataset_type])
    preprocessor = cfg.model.data_preprocessor
    assert (list(loaded.mean), list(loaded.std)) == (preprocessor.mean, preprocessor.std)


def theirs(model):
    """Their logits before they are resized."""
    return lambda image: model.decode_head(model.backbone(image))


@pytest.mark.parametrize("config", ONE_EACH, ids=model_name)
def test_logits_equal_theirs_at_full_width(config, mmseg, tmp_path, randomise, relative_difference):
    cfg = mmseg.Config.fromfile(config)
    cfg.model.pretrained = None
    model = randomise(mmseg.build(cfg.model))
    save_1x(mmseg, cfg, model, tmp_path / f"{config.stem}.pth")
    loaded = load(tmp_path / f"{config.stem}.pth")
    assert_is_what_the_config_says(loaded, config, cfg)
    for size in ((64, 128), (97, 161)):
        assert relative_difference(theirs(model), loaded.module, size) < 1e-4


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
@pytest.mark.parametrize("save", [save_1x, save_0x])
def test_every_published_config_is_recognised(
    config, save, mmseg, tmp_path, randomise, relative_difference
):
    cfg = mmseg.Config.fromfile(config)
    cfg.model.pretrained = None
    model = randomise(mmseg.build(narrowed(cfg).model))
    save(mmseg, cfg, model, tmp_path / "last.pth")
    loaded = load(tmp_path / "last.pth")
    assert_is_what_the_config_says(loaded, config, cfg)
    assert relative_difference(theirs(model), loaded.module, (97, 161)) < 1e-4


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_label_sets_are_theirs(config, mmseg):
    cfg = mmseg.Config.fromfile(config)
    meta = mmseg.datasets.get(cfg.dataset_type).METAINFO
    labels = label_set(LABELS[cfg.dataset_type])
    assert labels.classes == tuple(name.strip() for name in meta["classes"])
    assert labels.palette == tuple("#{:02x}{:02x}{:02x}".format(*c) for c in meta["palette"])
