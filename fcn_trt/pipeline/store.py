"""What is kept of earlier runs, and why it is not used again where it is not.

`KEY.onnx` is a network and `KEY.json` beside it says what it was made from and what its SHA-256 is;
KEY is the hash of all that it was made from. The record is written last, so that a network without
one is unfinished, and one that no longer has its SHA-256 is damaged: both are made again. A bundle
states the key of its build in its own manifest.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from fcn_trt.cache import cache_path, make_private
from fcn_trt.engine.bundle import Bundle, load_bundle
from fcn_trt.engine.manifest import MANIFEST_NAME, read_manifest
from fcn_trt.errors import BundleError, OnnxError
from fcn_trt.files import write_atomic
from fcn_trt.foreign import read_limited
from fcn_trt.network.file import Network
from fcn_trt.pipeline.plan import CODE, Plan, StepName
from fcn_trt.type_adapter import type_adapter

__all__ = ["LIMIT_BYTES", "KeyedStep", "Record", "Standing", "Store", "keyed_steps"]

LIMIT_BYTES = 4 << 30
"""Beyond this the networks go that were not used for longest. An ONNX file has 2 GiB at most, so
that the network that is read and the one that is written always stay."""


MAX_RECORD_BYTES = 4 << 20
"""Of what one network was made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedStep:
    """A step of a plan with what its result depends on.

    Attributes:
        name: Which.
        inputs: What its result depends on, and those of the steps before, by name, in values that
            JSON has; no two steps share a name for different things.
        key: SHA-256 of all that, so that it changes exactly when the result may.
    """

    name: StepName
    inputs: dict[str, Any]
    key: str

    def changed(self, earlier: dict[str, Any]) -> list[str]:
        """Names of the inputs that were others earlier.

        One that was not there at all came with another that is named, as fp16 brings its images.
        """
        found = [k for k, value in self.inputs.items() if earlier.get(k, value) != value]
        return list(dict.fromkeys(CODE if k.startswith(CODE) else k for k in found))


def keyed_steps(plan: Plan) -> list[KeyedStep]:
    """Find everything that each step of a plan depends on; no framework is imported for it.

    Raises:
        PlanError: a model is unknown, or a file cannot be read.
        WeightsError: weights cannot be found, downloaded or trusted.
        SourceError: images cannot be read.
    """
    all_inputs: dict[str, Any] = {"network": plan.source.sha256} if plan.source else {}
    key, steps = "", []
    for step in plan.steps:
        inputs = step.inputs(plan.target)
        # Through JSON, so that what is compared with a record from disk has lists and no tuples.
        all_inputs = all_inputs | json.loads(json.dumps(inputs))
        text = json.dumps([step.name, key, all_inputs], sort_keys=True, separators=(",", ":"))
        key = hashlib.sha256(text.encode()).hexdigest()
        steps.append(KeyedStep(name=step.name, inputs=all_inputs, key=key))
    return steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What stands in KEY.json.

    Attributes:
        sha256: Of the network; "" where there is none.
        inputs: What the result was made from, by name.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    sha256: str
    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What stands where a bundle is to be.

    Attributes:
        bundle: The one of this very plan; None if it has to be built.
        reason: Why, where no changed input says so.
        inputs: What stands there was made from; {} where that is not known.
    """

    bundle: Bundle | None = None
    reason: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of networks.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    @classmethod
    def of_user(cls) -> Store:
        """The one in the user's cache, whose folder need not be there to be read from.

        Raises:
            CacheError: something in it belongs to others, or others can write it.
        """
        return cls(cache_path("networks"))

    def make_folder(self) -> None:
        """Make the folder, before the long work whose results go there.

        Raises:
            OutputError: it cannot be made.
        """
        make_private(self.folder)

    def path(self, key: str) -> Path:
        """Where the network of a key is, or is to be written."""
        return self.folder / f"{key}.onnx"

    def find(self, key: str) -> Network | None:
        """The network of a key; None where there is none, or a damaged one."""
        record = self.record(key)
        try:
            found = Network.read(self.path(key)) if record is not None else None
        except OnnxError:
            return None
        if record is None or found is None or found.sha256 != record.sha256:
            return None
        with suppress(OSError):  # a cache that can only be read is still read
            for file in (found.path, self._record_path(key)):
                file.touch()
        return found

    def record(self, key: str) -> Record | None:
        """What is known of the result of a key; None where that is nothing."""
        try:
            data = read_limited(self._record_path(key), MAX_RECORD_BYTES)
            return type_adapter(Record).validate_json(data)
        except (OSError, ValidationError):
            return None

    def standing(self, bundle: Path, key: str) -> Standing:
        """Look at a bundle that was built earlier."""
        if not (bundle / MANIFEST_NAME).exists():
            return Standing(reason="not built before")
        try:
            built = read_manifest(bundle).inputs_sha256
            if built == key:
                return Standing(bundle=load_bundle(bundle))
        except BundleError:
            return Standing(reason="the bundle there is incomplete, altered or of another format")
        record = self.record(built)
        return Standing(
            reason="the bundle there is made from something else",
            inputs=record.inputs if record else {},
        )

    def keep(self, step: KeyedStep, network: Network | None = None) -> None:
        """Record what a result was made from.

        Args:
            step: That made it.
            network: The one that was written at `path`, if the result is one.

        Raises:
            OutputError: the record cannot be written.
        """
        content = {"sha256": network.sha256 if network else "", "inputs": step.inputs}
        write_atomic(self._record_path(step.key), json.dumps(content, indent=1).encode())
        self._forget_oldest()

    def _record_path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _forget_oldest(self) -> None:
        """Delete what goes beyond the limit, what killed processes left behind included."""
        total = 0
        for _, size, path in sorted(self._files(), reverse=True):
            total += size
            if total > LIMIT_BYTES:
                with suppress(OSError):  # another process was faster
                    path.unlink()

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each file was used, its bytes, and where it is."""
        found = []
        for path in self.folder.iterdir():
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found
