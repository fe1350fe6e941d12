"""Every error of this package, in one tree.

    FcnTrtError                   anything below
    ├── MissingExtraError         an optional dependency is not installed        (ImportError)
    ├── WeightsError              weights cannot be found, fetched or trusted    (OSError)
    ├── CheckpointError           a checkpoint does not fit the model            (ValueError)
    │   └── AmbiguousModelError   several models fit it, and they differ
    ├── OnnxError                 an ONNX file is not a network this package takes  (ValueError)
    │   └── NotRunnableError      ONNX Runtime does not run it, to compare with
    ├── CalibrationError          calibration is damaged or of another network  (ValueError)
    ├── PlanError                 a model's steps do not go with each other      (ValueError)
    ├── RecipeError               a recipe has a key or value that is not valid  (ValueError)
    ├── AgreementError            a step labels otherwise than the source     (RuntimeError)
    ├── EngineError               an engine cannot be built or run               (RuntimeError)
    ├── BundleError               a bundle is incomplete, altered or for elsewhere  (ValueError)
    ├── SourceError               frames cannot be read                          (OSError)
    ├── SinkError                 frames cannot be written                       (OSError)
    ├── OutputError               a file cannot be written                       (OSError)
    ├── CacheError                others own or can write what is in the cache   (OSError)
    ├── DatasetError              a data set has another layout                  (ValueError)
    ├── ResultFileError           measurements do not say what they are of       (ValueError)
    └── LimitError                a limit that was asked for is no number        (ValueError)

What an exception promises: the message is one sentence that names the thing, what was expected
and what was found, and the way out; whatever was being written does not exist under its final
name; a constructor that failed holds nothing. An error during clean-up never hides the first one.
A wrong argument in Python code is a plain ValueError or TypeError.
"""

from __future__ import annotations


class FcnTrtError(Exception):
    """Base of every error that the user can act on."""


class MissingExtraError(FcnTrtError, ImportError):
    """An optional dependency is not installed."""


class WeightsError(FcnTrtError, OSError):
    """Weights cannot be found, fetched, or do not have the hash they should have."""


class CheckpointError(FcnTrtError, ValueError):
    """A checkpoint is damaged, unsafe to read, or does not fit the model strictly."""


class AmbiguousModelError(CheckpointError):
    """The tensors fit several models that compute different things."""


class OnnxError(FcnTrtError, ValueError):
    """An ONNX file is damaged or is not a network that this package takes."""


class NotRunnableError(OnnxError):
    """ONNX Runtime does not run a user's own file, so that nothing can be held against it."""


class CalibrationError(FcnTrtError, ValueError):
    """A calibration cache is damaged, not valid, or made for another network."""


class PlanError(FcnTrtError, ValueError):
    """Something that was asked of a model does not go with the rest of what was asked.

    Attributes:
        field: What cannot be, by its name in `fcn_trt.pipeline.plan`; a recipe and the command line
            put their own word for it.
        reason: Why, and what can.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class RecipeError(FcnTrtError, ValueError):
    """A recipe cannot be read, or a key of it is unknown, missing or not valid."""


class AgreementError(FcnTrtError, RuntimeError):
    """The result of a step labels too many pixels otherwise than the model that it comes from."""


class EngineError(FcnTrtError, RuntimeError):
    """An engine cannot be built or run on this machine as asked."""


class BundleError(FcnTrtError, ValueError):
    """A bundle is incomplete, altered, of an unknown format, or made for another machine."""


class SourceError(FcnTrtError, OSError):
    """Frames cannot be read."""


class SinkError(FcnTrtError, OSError):
    """Frames cannot be written."""


class OutputError(FcnTrtError, OSError):
    """A file or folder cannot be written."""


class CacheError(FcnTrtError, OSError):
    """A folder or file in the user's cache is another user's, or can be written by others."""


class DatasetError(FcnTrtError, ValueError):
    """A data set does not have the layout that was asked for."""


class ResultFileError(FcnTrtError, ValueError):
    """A file of results is damaged, of another form, or does not say what it was measured on."""


class LimitError(FcnTrtError, ValueError):
    """A limit that was asked for is no whole number."""
