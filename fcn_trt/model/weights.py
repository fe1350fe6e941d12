"""Where weights come from: a file, a published checkpoint by name, or a seed.

Published checkpoints stand in weights.json with their URL and the first digits of their SHA-256,
as torchvision and OpenMMLab put them into the file names. A download goes into the user's cache
once and is refused when its hash does not begin with those digits.
"""

from __future__ import annotations

import http.client
import json
import logging
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from fcn_trt.errors import PlanError, WeightsError
from fcn_trt.files import atomic_path, cache_folder, sha256
from fcn_trt.model.architecture import ARCHITECTURES, architecture

__all__ = [
    "ModelSource",
    "RandomWeights",
    "WeightsFile",
    "find_model",
    "published_for",
    "published_names",
    "registry",
    "resolve_weights",
]

logger = logging.getLogger(__name__)

DOWNLOAD_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedWeights:
    """A checkpoint that its authors publish.

    Attributes:
        name: As its authors call it.
        model: The architecture it fits.
        url: Where it is.
        sha256_prefix: First digits of its SHA-256.
        labels: Label set it predicts.
        crop: height x width it was trained on.
        miou: Published mean IoU in percent, one scale.
        miou_ms_flip: The same with multi-scale and flipped inputs averaged; None if unpublished.
        measured_on: The data set of both.
    """

    name: str
    model: str
    url: str
    sha256_prefix: str
    labels: str
    crop: str
    miou: float
    miou_ms_flip: float | None
    measured_on: str

    @property
    def file_name(self) -> str:
        """Name of the file at the end of the URL."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomWeights:
    """Weights drawn from a seed: for benchmarks, never for pictures."""

    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """A checkpoint on this machine.

    Attributes:
        path: Where it is.
        sha256: Hash of its bytes.
        published: What its authors say about it, where the hash is a published one.
    """

    path: Path
    sha256: str
    published: PublishedWeights | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """What a model is made of.

    Attributes:
        architecture: Its name; None where the checkpoint says what it is.
        weights: The checkpoint, or a seed.
    """

    architecture: str | None
    weights: WeightsFile | RandomWeights

    @property
    def sha256(self) -> str:
        """Of the checkpoint; "" for random weights."""
        return "" if isinstance(self.weights, RandomWeights) else self.weights.sha256

    @property
    def content(self) -> str:
        """All that the weights are; the checkpoint's name too, because the network carries it."""
        if isinstance(self.weights, RandomWeights):
            return f"random {self.weights.seed}"
        return f"{self.weights.path.name} {self.weights.sha256}"


def find_model(model: str, weights: str | None = None) -> ModelSource:
    """Find out what a model is made of; nothing is loaded.

    Args:
        model: Name of an architecture or of published weights, or path of a checkpoint that says
            what it is.
        weights: As for `resolve_weights`; only with the name of an architecture.

    Raises:
        PlanError: the model is unknown, or carries weights of its own beside those given.
        WeightsError: its weights cannot be found, downloaded or trusted.
    """
    if model in ARCHITECTURES:
        return ModelSource(architecture=model, weights=resolve_weights(weights, model))
    is_file = Path(model).is_file() or Path(model).suffix
    if not is_file and model not in published_names():
        try:
            architecture(model)
        except ValueError as error:
            raise PlanError("model", str(error)) from error
    if weights is not None:
        raise PlanError("weights", f"{model} is a checkpoint itself; leave them out")
    found = resolve_weights(model, None)
    if isinstance(found, RandomWeights):
        raise PlanError("model", "random weights need the name of a model")
    return ModelSource(architecture=None, weights=found)


@cache
def registry() -> tuple[PublishedWeights, ...]:
    """Every published checkpoint that is known.

    Source: torchvision.models.segmentation.fcn; MMSegmentation configs/fcn/README.md.
    """
    text = resources.files("fcn_trt.model").joinpath("weights.json").read_text(encoding="utf-8")
    return tuple(PublishedWeights(**entry) for entry in json.loads(text))


def published_for(model: str) -> list[PublishedWeights]:
    """The published checkpoints that fit a model, best mean IoU first."""
    return sorted((w for w in registry() if w.model == model), key=lambda w: -w.miou)


def published_names() -> set[str]:
    """What the published checkpoints are called."""
    return {entry.name for entry in registry()}


def resolve_weights(weights: str | None, model: str | None) -> WeightsFile | RandomWeights:
    """Turn what the user wrote into weights.

    Args:
        weights: A path, the name of a published checkpoint, "random" or "random:SEED"; None takes
            the best published checkpoint of `model`.
        model: Name of the architecture, if it is known already.

    Raises:
        WeightsError: there are no such weights, or they cannot be downloaded or trusted.
    """
    if weights is None:
        known = published_for(model or "")
        if not known:
            raise WeightsError(
                f"no weights are published for {model}; give --weights PATH, or --weights random "
                "for a benchmark"
            )
        return _download(known[0])
    if weights == "random" or weights.startswith("random:"):
        return RandomWeights(seed=_seed(weights.partition(":")[2]))
    for entry in registry():
        if weights == entry.name:
            return _download(entry)
    path = Path(weights)
    if path.is_dir():
        raise WeightsError(f"{weights} is a folder; give the checkpoint that is in it")
    if not path.is_file():
        raise WeightsError(
            f"{weights} is neither a file nor a published checkpoint; `fcn-trt models --weights` "
            "lists those"
        )
    return _known_file(path)


def _seed(text: str) -> int:
    if text and not (text.isdecimal() and len(text) <= 18):
        raise WeightsError(f"random:{text} has no seed of 1 to 18 digits; write random or random:7")
    return int(text or 0)


def _known_file(path: Path) -> WeightsFile:
    try:
        digest = sha256(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    published = next((w for w in registry() if digest.startswith(w.sha256_prefix)), None)
    return WeightsFile(path=path, sha256=digest, published=published)


def _download(entry: PublishedWeights) -> WeightsFile:
    """The published file from the cache, fetched if it is not there."""
    path = cache_folder("weights") / entry.file_name
    if not path.exists():
        logger.info("downloading %s to %s", entry.url, path)
        with atomic_path(path) as temporary:
            _fetch(entry, temporary, path)
            _check(entry, temporary, f"the download of {entry.url}", "try again")
    digest = _check(entry, path, str(path), "delete it, so that it is fetched again")
    return WeightsFile(path=path, sha256=digest, published=entry)


def _fetch(entry: PublishedWeights, temporary: Path, path: Path) -> None:
    if not entry.url.startswith("https://"):
        raise WeightsError(f"{entry.name} is not published over https: {entry.url}")
    try:
        with (
            urllib.request.urlopen(entry.url, timeout=DOWNLOAD_TIMEOUT_S) as response,  # noqa: S310  # https checked above
            temporary.open("wb") as file,
        ):
            shutil.copyfileobj(response, file)
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
    ) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(
            f"{entry.name} cannot be downloaded ({reason}); fetch {entry.url} elsewhere and put it "
            f"at {path}, or give a checkpoint's PATH instead of a name"
        ) from error


def _check(entry: PublishedWeights, path: Path, what: str, remedy: str) -> str:
    digest = sha256(path)
    if not digest.startswith(entry.sha256_prefix):
        raise WeightsError(
            f"{what} has SHA-256 {digest[:8]}..., but {entry.name} is published with "
            f"{entry.sha256_prefix}...; {remedy}, or give a checkpoint's PATH instead of a name"
        )
    return digest
