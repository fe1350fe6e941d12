"""Where weights come from: a file, a published checkpoint by name, or a seed.

Published checkpoints stand in weights.json with their URL and the first 32 bits of their SHA-256,
as torchvision and OpenMMLab put them into the file names. A download goes into the user's cache
once and is refused when its hash does not begin with those digits. As they prove nothing, a file is
taken as a published one only if its whole hash is pinned: by a download of our own from the
authors' URL, by the user's word, or by a hash that the user gave.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from fcn_trt.cache import cache_folder
from fcn_trt.errors import PlanError, WeightsError
from fcn_trt.files import atomic_path, sha256
from fcn_trt.limits import is_whole_number
from fcn_trt.model.architecture import ARCHITECTURES, architecture
from fcn_trt.model.download import DownloadError, download
from fcn_trt.model.known_weights import is_sha256, other_file, pin, pinned, pins_path

__all__ = [
    "NO_TRUST",
    "ModelSource",
    "RandomWeights",
    "Trust",
    "WeightsFile",
    "find_model",
    "published_for",
    "published_names",
    "registry",
    "resolve_weights",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the user vouches for of a checkpoint.

    Attributes:
        is_given: Whether a file that is named as a published one is to be taken as it.
        sha256: All 64 digits of the hash that the file must have; None is any.

    Raises:
        PlanError: the hash is none.
    """

    is_given: bool = False
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.is_given, bool):
            raise PlanError("trust", f"{self.is_given!r} is neither True nor False")
        if self.sha256 is not None and not is_sha256(self.sha256):
            raise PlanError(
                "weights_sha256",
                f"{self.sha256!r} is not the 64 digits of a SHA-256 in small letters, as "
                "`sha256sum FILE` prints them",
            )

    @property
    def field(self) -> str:
        """What of it was given, by its name in a recipe and among the options."""
        return "trust" if self.is_given else "weights_sha256"


NO_TRUST = Trust()


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
        published: What its authors say about it, where its whole hash is pinned as theirs.
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
        """All that the weights are, and are taken as; the network carries the name of both."""
        if isinstance(self.weights, RandomWeights):
            return f"random {self.weights.seed}"
        published = self.weights.published.name if self.weights.published else "nobody's"
        return f"{self.weights.path.name} {self.weights.sha256} as {published}"


def find_model(model: str, weights: str | None = None, trust: Trust = NO_TRUST) -> ModelSource:
    """Find out what a model is made of; nothing is loaded.

    Args:
        model: Name of an architecture or of published weights, or path of a checkpoint that says
            what it is.
        weights: As for `resolve_weights`; only with the name of an architecture.
        trust: As for `resolve_weights`.

    Raises:
        PlanError: the model is unknown, or carries weights of its own beside those given.
        WeightsError: its weights cannot be found, downloaded or trusted.
    """
    if model in ARCHITECTURES:
        return ModelSource(architecture=model, weights=resolve_weights(weights, model, trust))
    is_file = Path(model).is_file() or Path(model).suffix
    if not is_file and model not in published_names():
        try:
            architecture(model)
        except ValueError as error:
            raise PlanError("model", str(error)) from error
    if weights is not None:
        raise PlanError("weights", f"{model} is a checkpoint itself; leave them out")
    found = resolve_weights(model, None, trust)
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


def resolve_weights(
    weights: str | None, model: str | None, trust: Trust = NO_TRUST
) -> WeightsFile | RandomWeights:
    """Turn what the user wrote into weights.

    Args:
        weights: A path, the name of a published checkpoint, "random" or "random:SEED"; None takes
            the best published checkpoint of `model`.
        model: Name of the architecture, if it is known already.
        trust: What the user vouches for.

    Raises:
        PlanError: there is no file to vouch for.
        WeightsError: there are no such weights, or they cannot be downloaded or trusted.
    """
    if weights is None:
        known = published_for(model or "")
        if not known:
            raise WeightsError(
                f"no weights are published for {model}; give --weights PATH, or --weights random "
                "for a benchmark"
            )
        return _published_file(known[0], trust)
    if weights == "random" or weights.startswith("random:"):
        if trust != NO_TRUST:
            raise PlanError(trust.field, "random weights are no file; leave it out")
        return RandomWeights(seed=_seed(weights.partition(":")[2]))
    for entry in registry():
        if weights == entry.name:
            return _published_file(entry, trust)
    path = Path(weights)
    if path.is_dir():
        raise WeightsError(f"{weights} is a folder; give the checkpoint that is in it")
    if not path.is_file():
        raise WeightsError(
            f"{weights} is neither a file nor a published checkpoint; `fcn-trt models --weights` "
            "lists those"
        )
    return _user_file(path, trust)


def _seed(text: str) -> int:
    if text and not is_whole_number(text):
        raise WeightsError(f"random:{text} has no seed of 1 to 18 digits; write random or random:7")
    return int(text or 0)


def _user_file(path: Path, trust: Trust) -> WeightsFile:
    """A file of the user's, taken as a published one where more than 32 bits say that it is."""
    digest = _sha256(path)
    _require_asked(path, digest, trust)
    entry = next((w for w in registry() if digest.startswith(w.sha256_prefix)), None)
    if entry is not None and not _is_proven(entry, path, digest, trust):
        logger.info(
            "%s is named as %s by the first 32 bits of its SHA-256, which is no proof; --trust "
            "takes it as that, and so does its whole hash with --weights-sha256",
            *(path.name, entry.name),
        )
        entry = None
    elif entry is None and trust.is_given:
        raise WeightsError(
            f"{path} has SHA-256 {digest}, which is that of no published checkpoint that --trust "
            "could take it as; leave it out"
        )
    return WeightsFile(path=path, sha256=digest, published=entry)


def _published_file(entry: PublishedWeights, trust: Trust) -> WeightsFile:
    """The published file from the cache, fetched if it is not there."""
    path = cache_folder("weights") / entry.file_name
    if not path.exists():
        logger.info("downloading %s to %s", entry.url, path)
        with atomic_path(path) as temporary:
            _fetch(entry, temporary, path)
            what = f"the download of {entry.url}"
            digest = _named_sha256(entry, temporary, what, "try again")
            _require_asked(what, digest, trust)
            pin(entry.name, digest)
        logger.info(
            "%s came from its authors' URL over https; its SHA-256, %s, is pinned in %s",
            *(entry.name, digest, pins_path()),
        )
    digest = _named_sha256(entry, path, str(path), "delete it, so that it is fetched again")
    _require_asked(path, digest, trust)
    if not _is_proven(entry, path, digest, trust):
        raise WeightsError(
            f"{path} is named as {entry.name} by the first 32 bits of its SHA-256, {digest}, which "
            "is no proof, and nobody knows who put it there; delete it, so that it is downloaded, "
            f"or `fcn-trt export {entry.name}` it once with --trust or --weights-sha256"
        )
    return WeightsFile(path=path, sha256=digest, published=entry)


def _is_proven(entry: PublishedWeights, path: Path, digest: str, trust: Trust) -> bool:
    """Whether a file is a published one by its whole hash, which is pinned where it is new.

    Raises:
        WeightsError: another file is pinned.
    """
    known = pinned(entry.name)
    if known is not None and known != digest:
        raise other_file(entry.name, known, f"{path} with SHA-256 {digest}")
    if known is None and (trust.is_given or trust.sha256 is not None):
        pin(entry.name, digest)
        logger.info(
            "%s is taken as %s on your word; its SHA-256, %s, is pinned in %s",
            *(path.name, entry.name, digest, pins_path()),
        )
        return True
    return known is not None


def _require_asked(what: Path | str, digest: str, trust: Trust) -> None:
    if trust.sha256 not in (None, digest):
        raise WeightsError(
            f"{what} has SHA-256 {digest}, and {trust.sha256} was asked for; get the file of that "
            "hash, or give this one's"
        )


def _fetch(entry: PublishedWeights, temporary: Path, path: Path) -> None:
    if not entry.url.startswith("https://"):
        raise WeightsError(f"{entry.name} is not published over https: {entry.url}")
    try:
        download(entry.url, temporary)
    except DownloadError as error:
        raise WeightsError(
            f"{entry.name} cannot be downloaded ({error}); fetch {entry.url} elsewhere and put it "
            f"at {path}, to be used with --trust once, or give a checkpoint's PATH instead of a "
            "name"
        ) from error


def _named_sha256(entry: PublishedWeights, path: Path, what: str, remedy: str) -> str:
    """The hash of a file, if it begins as the published one."""
    digest = _sha256(path)
    if not digest.startswith(entry.sha256_prefix):
        raise WeightsError(
            f"{what} has SHA-256 {digest[:8]}..., but {entry.name} is published with "
            f"{entry.sha256_prefix}...; {remedy}, or give a checkpoint's PATH instead of a name"
        )
    return digest


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
