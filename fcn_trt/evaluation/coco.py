"""COCO 2017 with the classes of PASCAL VOC, as torchvision's references evaluate on it.

Images are under Flickr's terms of use, annotations under CC BY 4.0; both are at cocodataset.org
(val2017.zip, annotations_trainval2017.zip).

Source: torchvision references/segmentation/coco_utils.py, `FilterAndRemapCocoCategories` and
`ConvertCocoPolysToMask`: objects of the 20 categories are painted, crowds among them, and a pixel
that two objects share is left out, whatever their classes. Images without any such object count as
background; only training leaves those out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, ValidationError

from fcn_trt.errors import DatasetError, MissingExtraError
from fcn_trt.evaluation.label_files import file_keys, read_frame
from fcn_trt.evaluation.layouts import require_images, require_split
from fcn_trt.evaluation.sample import Sample
from fcn_trt.foreign import read_limited
from fcn_trt.labels import LabelSet, label_set
from fcn_trt.spec import NO_LABEL, LabelMap, Size
from fcn_trt.type_adapter import type_adapter

__all__ = ["CATEGORIES", "CocoImages", "open_coco"]

CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
"""COCO's category of each class of VOC, from aeroplane on. Source: `get_coco`, "CAT_LIST"."""

MAX_BYTES = 2 << 30
"""Of annotations; those of train2017 have 470 MB."""

MAX_CONTAINERS = 5_000_000
"""Lists and objects in annotations, each of which takes 200 bytes; train2017 has 4 million."""

MAX_OUTLINE = 1_000_000
"""Pixels along a polygon, for each of which 100 bytes are taken to fill it."""

_EXPECTED = (
    "expected ROOT/{split}/NAME.jpg with ROOT/annotations/instances_{split}.json, as "
    "cocodataset.org publishes them"
)


def open_coco(root: Path, *, split: str | None = None) -> CocoImages:
    """Find the images and annotations.

    Args:
        root: The folder of the images' and the annotations' folders.
        split: "val" or "train"; None takes "val".

    Raises:
        DatasetError: there is no such split, the folder has another layout, or images are missing.
        MissingExtraError: pycocotools is not installed.
    """
    _rasteriser()
    folder = require_split("coco_voc", split, {"val": "val2017", "train": "train2017"})
    expected = _EXPECTED.format(split=folder)
    path = root / "annotations" / f"instances_{folder}.json"
    instances = _read_instances(path, expected)
    images = sorted(instances.images, key=lambda image: image.id)
    require_images([root / folder / image.file_name for image in images], path, expected)
    objects: dict[int, list[_Object]] = defaultdict(list)
    for found in instances.annotations:
        if found.category_id in CATEGORIES:
            objects[found.image_id].append(found)
    return CocoImages(
        folder=root / folder,
        annotations=path,
        images=tuple(images),
        objects=dict(objects),
        split=split or "val",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoImages:
    """The images of COCO, whose label maps are painted as they are read.

    Attributes:
        folder: Of the image files.
        annotations: The JSON file that the objects are from.
        images: By id, as COCO's own reader has them.
        objects: Those of the 20 categories, by the id of their image.
        split: "val" or "train".
    """

    folder: Path
    annotations: Path
    images: tuple[_Image, ...]
    objects: dict[int, list[_Object]]
    split: str

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return "coco_voc"

    @property
    def labels(self) -> LabelSet:
        """The 21 classes of VOC."""
        return label_set("voc")

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        """Read one image and paint its labels.

        Raises:
            DatasetError: the file is damaged or of another size, or an object cannot be painted.
        """
        image = self.images[index]
        path = self.folder / image.file_name
        frame = read_frame(path)
        size = (image.height, image.width)
        if frame.shape[:2] != size:
            raise DatasetError(
                f"{path} is {frame.shape[:2]}, but {self.annotations} says {size}; fetch both again"
            )
        try:
            truth = _paint(self.objects.get(image.id, []), size)
        except ValueError as error:
            raise DatasetError(f"{self.annotations} is damaged: {error}; fetch it again") from error
        return Sample(name=path.stem, frame=frame, truth=truth)

    def key_parts(self, indices: Iterable[int]) -> Iterable[str]:
        """Yield the name, and the name and content of these images' files and of the annotations.

        Raises:
            DatasetError: a file is gone.
        """
        files = (self.folder / self.images[index].file_name for index in indices)
        yield from (self.name, *file_keys([self.annotations, *files]))


def _read_instances(path: Path, expected: str) -> _Instances:
    try:
        content = read_limited(path, MAX_BYTES)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}); {expected}") from error
    if (containers := content.count(b"[") + content.count(b"{")) > MAX_CONTAINERS:
        raise DatasetError(
            f"{path} has {containers} lists and objects; at most {MAX_CONTAINERS} are read, which "
            "COCO's own files do not reach"
        )
    try:
        instances = type_adapter(_Instances).validate_json(content)
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"])) or "the file"
        raise DatasetError(
            f"{path} holds no COCO instances: {where}: {found['msg']}; fetch it again"
        ) from error
    if not instances.images:
        raise DatasetError(f"{path} names no images; {expected}")
    return instances


def _paint(objects: Iterable[_Object], size: Size) -> LabelMap:
    """Paint objects over the background.

    Raises:
        ValueError: an object's form is none.
    """
    truth = np.zeros(size, dtype=np.uint8)
    painted = np.zeros(size, dtype=np.bool_)
    shared = np.zeros(size, dtype=np.bool_)
    for found in objects:
        mask = _mask(found, size)
        truth[mask] = 1 + CATEGORIES.index(found.category_id)
        shared |= painted & mask
        painted |= mask
    truth[shared] = NO_LABEL
    return truth


def _mask(found: _Object, size: Size) -> npt.NDArray[np.bool_]:
    """Mark the pixels of one object: the union of its polygons, or its runs."""
    form = found.segmentation
    if isinstance(form, _Runs):
        if form.size != size or sum(form.counts) != size[0] * size[1]:
            raise ValueError(f"runs of object {found.id} do not fill {size[0]}x{size[1]} pixels")
        parts: Any = {"counts": form.counts, "size": list(form.size)}
    else:
        if not form or any(len(polygon) < 6 or len(polygon) % 2 for polygon in form):
            raise ValueError(f"object {found.id} has a polygon of fewer than three points")
        if sum(map(_outline, form)) > MAX_OUTLINE:
            raise ValueError(f"object {found.id} has an outline of over {MAX_OUTLINE} pixels")
        parts = form
    rasterise = _rasteriser()
    runs = rasterise.frPyObjects(parts, *size)
    whole = runs if isinstance(runs, dict) else rasterise.merge(runs)
    mask: npt.NDArray[np.bool_] = rasterise.decode(whole).astype(np.bool_)
    return mask


def _outline(polygon: list[float]) -> float:
    """Pixels along a polygon of (x, y, x, y, ...)."""
    points = np.asarray(polygon).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _rasteriser() -> Any:
    """Import COCO's own code for polygons: what counts as inside is decided there.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtraError(
            "COCO's labels are polygons, and pycocotools, which paints them, is not installed: "
            "pip install 'fcn-trt[coco]'"
        ) from error
    return mask


# Of the fields that COCO has these are used; others are passed over.
_STRICT = ConfigDict(strict=True, extra="ignore")

# Far outside of any image, and near enough that a polygon cannot fill the memory.
_Coordinate = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]
_Polygon = Annotated[list[_Coordinate], Field(fail_fast=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    id: int
    file_name: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    height: Annotated[int, Field(ge=1, le=2**16)]
    width: Annotated[int, Field(ge=1, le=2**16)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """The lengths of alternating runs of background and object, down the columns."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    counts: Annotated[list[Annotated[int, Field(ge=0)]], Field(fail_fast=True)]
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    id: int
    image_id: int
    category_id: int
    segmentation: _Runs | Annotated[list[_Polygon], Field(fail_fast=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instances:
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    images: Annotated[list[_Image], Field(fail_fast=True)]
    annotations: Annotated[list[_Object], Field(fail_fast=True)]
