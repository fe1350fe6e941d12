"""Hashes of several things at once: what a kept result follows from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["combined_sha256", "package_sha256"]

PACKAGE = Path(__file__).parent


def combined_sha256(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of several things in their order, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def package_sha256(*patterns: str, leave_out: tuple[str, ...] = ()) -> str:
    """SHA-256 of this package's files, of names and content, in whatever order the disk has them.

    Args:
        patterns: Globs within the package.
        leave_out: Paths within the package.

    Raises:
        ValueError: nothing matches a pattern, as after a file was renamed.
    """
    found: set[Path] = set()
    for pattern in patterns:
        some = set(PACKAGE.glob(pattern))
        if not some:
            raise ValueError(f"no file of this package matches {pattern!r}")
        found |= some
    found -= {PACKAGE / name for name in leave_out}
    digest = hashlib.sha256()
    for path in sorted(found):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {content}\n".encode())
    return digest.hexdigest()
