"""The one network of this package: a dilated ResNet and a fully convolutional head.

Its parameter names are MMSegmentation's, so that checkpoint.py has one language to translate into.

The forward pass ends at the logits of the head; upsampling is the runtime's `decode`.

Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015;
He et al., "Deep Residual Learning", 2015; He et al., "Bag of Tricks", 2018 (the V1c stem).
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from fcn_trt.model.architecture import Architecture, Head
from fcn_trt.model.layers import BLOCKS, stem_plan

__all__ = ["Fcn"]


class Fcn(nn.Module):
    """An FCN of any family.

    Args:
        num_classes: Classes of the classifier.
        base_width: Channels of the first stage; 64 in every published model.
        auxiliary: Add the head on the third stage that helps training. `forward` then returns
            (logits, auxiliary logits); exported networks never have it.
    """

    def __init__(
        self,
        arch: Architecture,
        num_classes: int,
        *,
        base_width: int = 64,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        self.arch = arch
        self.backbone = Backbone(arch, base_width)
        channels = 8 * base_width * arch.expansion
        self.decode_head = FcnHead(channels, num_classes, arch.head)
        third = channels // 2
        self.auxiliary_head = FcnHead(third, num_classes, Head(convs=1)) if auxiliary else None

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Logits of a batch of normalised images.

        Args:
            image: (N, 3, H, W) float RGB, normalised as the checkpoint's family does.

        Returns:
            (N, classes, ceil(H / stride), ceil(W / stride)) before softmax.
        """
        third, fourth = self.backbone(image)
        logits: torch.Tensor = self.decode_head(fourth)
        if self.auxiliary_head is None:
            return logits
        return logits, self.auxiliary_head(third)


class Backbone(nn.Module):
    """A ResNet whose later stages dilate instead of striding."""

    def __init__(self, arch: Architecture, base_width: int) -> None:
        super().__init__()
        self.stem = _stem(arch, base_width)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        block = BasicBlock if arch.depth == 18 else Bottleneck
        inputs = base_width
        for index, blocks in enumerate(BLOCKS[arch.depth]):
            width = base_width << index
            stride, dilation = arch.strides[index], arch.dilations[index]
            # A dilated stage starts at half its dilation, because its first block still sees the
            # sampling of the stage before (mmseg contract_dilation; torchvision previous_dilation).
            first = dilation if dilation == 1 else dilation // 2
            layers = [block(inputs, width, stride=stride, dilation=first)]
            inputs = width * arch.expansion
            layers += [block(inputs, width, dilation=dilation) for _ in range(blocks - 1)]
            setattr(self, f"layer{index + 1}", nn.Sequential(*layers))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the third and fourth stage."""
        features = self.maxpool(self.stem(image))
        third = self.layer3(self.layer2(self.layer1(features)))
        return third, self.layer4(third)


def _stem(arch: Architecture, width: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for inputs, outputs, kernel, stride in stem_plan(arch, width):
        modules += [
            nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*modules)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; only the first dilates (mmseg resnet.py BasicBlock)."""

    def __init__(self, inputs: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, width, stride=stride, dilation=dilation)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample = _downsample(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Residual sum, same size over stride."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        skip = x if self.downsample is None else self.downsample(x)
        return self.relu(y + skip)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions; the stride sits on the 3x3 (ResNet v1.5)."""

    def __init__(self, inputs: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride=stride, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = _downsample(inputs, 4 * width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Residual sum, same size over stride."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        skip = x if self.downsample is None else self.downsample(x)
        return self.relu(y + skip)


def _conv3x3(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
    )


class FcnHead(nn.Module):
    """3x3 convolutions and a 1x1 classifier, optionally with a concatenation between."""

    def __init__(self, inputs: int, num_classes: int, head: Head) -> None:
        super().__init__()
        channels = inputs // 4  # in every family
        widths = [inputs] + [channels] * head.convs
        self.convs = nn.Sequential(
            *(ConvBnRelu(a, b, dilation=head.dilation) for a, b in itertools.pairwise(widths))
        )
        # Dilation 1 also in the D6 models (mmseg fcn_head.py passes none to conv_cat).
        self.conv_cat = ConvBnRelu(inputs + channels, channels) if head.concat else None
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of the size of the features."""
        x = self.convs(features)
        if self.conv_cat is not None:
            x = self.conv_cat(torch.cat([features, x], dim=1))
        logits: torch.Tensor = self.conv_seg(x)
        return logits


class ConvBnRelu(nn.Module):
    """A 3x3 convolution, batch normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.conv = _conv3x3(inputs, outputs, dilation=dilation)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same size as the input."""
        y: torch.Tensor = self.relu(self.bn(self.conv(x)))
        return y
