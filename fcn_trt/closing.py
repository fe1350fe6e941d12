"""One context manager for everything here that has a `close`."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TypeVar

from fcn_trt.errors import FcnTrtError

__all__ = ["Closing"]

_Self = TypeVar("_Self", bound="Closing")

_log = logging.getLogger(__name__)


class Closing:
    """Closes on the way out; an error in that never hides one that is already on its way."""

    def close(self) -> None:
        """Release what is held; again is harmless."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except FcnTrtError as failure:
            if error is None:
                raise
            _log.warning("while closing after another error: %s", failure)
