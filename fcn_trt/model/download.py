"""A file comes over https, of a size that is known or limited, and from nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from fcn_trt.limits import is_whole_number

if TYPE_CHECKING:
    import urllib.request

__all__ = ["DOWNLOAD_BYTES", "DownloadBar", "DownloadError", "download", "show_downloads"]

DOWNLOAD_BYTES = 2 << 30
"""Most of a file; the largest published checkpoint has a quarter of it."""

TIMEOUT_S = 30
"""How long a server may be silent."""

_CHUNK_BYTES = 1 << 20

DownloadBar: TypeAlias = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Begins to show a download under a title, of so many bytes if that is known; what it gives is
called with how many came."""

_shown: ContextVar[DownloadBar] = ContextVar(
    "shown", default=lambda _title, _total: nullcontext(lambda _bytes: None)
)


class DownloadError(Exception):
    """A file did not come; the text is the reason."""


def show_downloads(bar: DownloadBar) -> None:
    """Have downloads shown from now on."""
    _shown.set(bar)


def download(url: str, path: Path) -> None:
    """Fetch a file.

    Args:
        url: Begins with https://, and so must whatever it leads to.
        path: File to write.

    Raises:
        DownloadError: it does not come, or not whole, or is larger than `DOWNLOAD_BYTES`.
        OSError: the file cannot be written.
    """
    # Here, since nearly every command does without.
    import http.client
    import urllib.error

    failures = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)
    try:
        with _opener().open(url, timeout=TIMEOUT_S) as response, path.open("wb") as file:
            _copy(response, file, url.rsplit("/", 1)[1])
    except failures as error:
        raise DownloadError(str(getattr(error, "reason", error))) from error


def _opener() -> urllib.request.OpenerDirector:
    import urllib.request

    class OnlyHttps(urllib.request.HTTPRedirectHandler):
        """Follows a redirect only where nobody on the way can change what comes."""

        def redirect_request(
            self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
        ) -> urllib.request.Request | None:
            _require_https(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return urllib.request.build_opener(OnlyHttps)


def _require_https(url: str) -> None:
    if not url.lower().startswith("https://"):
        raise DownloadError(f"it leads to {url}, which is not https")


def _copy(response: Any, file: IO[bytes], name: str) -> None:
    """Write what comes, as long as it is not too much."""
    said = response.headers.get("Content-Length", "")
    size = int(said) if is_whole_number(said) else None
    _require_few(size or 0)
    done = 0
    with _shown.get()(f"downloading {name}", size) as advance:
        while chunk := response.read(_CHUNK_BYTES):
            done += len(chunk)
            _require_few(done)
            file.write(chunk)
            advance(len(chunk))
    if size is not None and done < size:
        raise DownloadError(f"it ended after {done} of {size} bytes")


def _require_few(count: int) -> None:
    if count > DOWNLOAD_BYTES:
        raise DownloadError(f"it is larger than the {DOWNLOAD_BYTES} bytes that are fetched")
