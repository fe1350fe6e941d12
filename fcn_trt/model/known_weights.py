"""Which file a published checkpoint is: its whole SHA-256, kept from its first use on.

Its authors publish 32 bits of the hash, for which anybody can make a file in minutes. So the whole
hash is pinned in the user's data folder when a file is downloaded or trusted, as ssh pins the keys
of hosts, and no other file is that checkpoint afterwards.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import platformdirs

from fcn_trt.cache import make_private, others_part
from fcn_trt.errors import WeightsError
from fcn_trt.files import write_atomic
from fcn_trt.foreign import parse_json, read_limited

__all__ = ["is_sha256", "other_file", "pin", "pinned", "pins_path"]

PINS_BYTES = 1 << 20
"""Of the file of pins; all published checkpoints take a hundredth of it."""


def pins_path() -> Path:
    """The file of pins, a JSON object of names and hashes."""
    return platformdirs.user_data_path("fcn_trt") / "known_weights.json"


def pinned(name: str) -> str | None:
    """The SHA-256 of a published checkpoint; None where none is pinned.

    Raises:
        WeightsError: the pins are damaged, or others can change them.
    """
    return _read(pins_path()).get(name)


def pin(name: str, sha256: str) -> None:
    """Keep which file a published checkpoint is, unless that is known already.

    Raises:
        WeightsError: another file is pinned under the name, or the pins are damaged or not safe.
        OutputError: they cannot be written.
    """
    path = pins_path()
    pins = _read(path)
    if name not in pins:
        make_private(path.parent)
        _require_own(path.parent)
        content = json.dumps(dict(sorted((pins | {name: sha256}).items())), indent=1) + "\n"
        write_atomic(path, content.encode(), rights=0o600)
    elif pins[name] != sha256:
        raise other_file(name, pins[name], f"a file with SHA-256 {sha256}")


def other_file(name: str, known: str, found: str) -> WeightsError:
    """What to raise where a name stands for another file than it did."""
    return WeightsError(
        f"{name} is pinned to SHA-256 {known}, and this is {found}; use the file that is pinned, "
        f"or, if you know better, take {name} out of {pins_path()}"
    )


def is_sha256(text: str) -> bool:
    """Whether a text is a whole SHA-256, in small letters."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _read(path: Path) -> dict[str, str]:
    try:
        data = read_limited(path, PINS_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    _require_own(path.parent)
    _require_own(path)
    try:
        content = parse_json(data)
    except ValueError:
        content = None
    if not (
        isinstance(content, dict)
        and all(isinstance(v, str) and is_sha256(v) for v in content.values())
    ):
        raise WeightsError(
            f"{path} is no JSON object of names and whole SHA-256; mend it, or delete it and trust "
            "anew"
        )
    return content


def _require_own(path: Path) -> None:
    if (reason := others_part(path)) is not None:
        raise WeightsError(
            f"{path} {reason}, so that its pins prove nothing; delete it, or make it yours alone "
            "(chmod go-w)"
        )
