"""pytorch-auto-drive: its file layout, against torchvision's module, which computes the same.

Its own module (utils/models/segmentation at 137e63a) was compared by hand: difference 0.
"""

import pytest
import torch
from torchvision.models.segmentation import fcn_resnet101

from fcn_trt.files import sha256
from fcn_trt.model.checkpoint import load_checkpoint
from fcn_trt.model.weights import WeightsFile

pytestmark = pytest.mark.families


def test_logits_equal_those_of_the_same_network_in_torchvision(
    tmp_path, randomise, relative_difference
):
    theirs = randomise(
        fcn_resnet101(weights=None, weights_backbone=None, num_classes=19, aux_loss=False)
    )
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.04, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    path = tmp_path / "resnet101_fcn_cityscapes_256x512.pt"
    torch.save(
        {
            "model": theirs.state_dict(),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": schedule.state_dict(),
        },
        path,
    )
    loaded = load_checkpoint(WeightsFile(path=path, sha256=sha256(path), published=None))
    path.unlink()

    arch = loaded.module.arch
    assert (arch.name, arch.stride, arch.align_corners) == ("pad_fcn_resnet101", 8, True)
    assert sum(p.numel() for p in loaded.module.parameters()) == 51_948_115
    for size in ((64, 128), (97, 161)):
        logits = relative_difference(
            lambda image: theirs.classifier(theirs.backbone(image)["out"]), loaded.module, size
        )
        assert logits < 1e-4
