"""What a model is made of becomes a torch module."""

from __future__ import annotations

from fcn_trt.input_format import InputFormat
from fcn_trt.labels import LabelSet, label_set
from fcn_trt.model.architecture import architecture
from fcn_trt.model.checkpoint import LoadedModel, load_checkpoint, random_model
from fcn_trt.model.profile import default_labels
from fcn_trt.model.weights import ModelSource, RandomWeights

__all__ = ["load_model"]


def load_model(
    source: ModelSource,
    *,
    labels: LabelSet | None = None,
    said: InputFormat = InputFormat(),
    threshold: float | None = None,
    average: bool | None = None,
) -> LoadedModel:
    """Load a model.

    Args:
        source: From `find_model`.
        labels: Its classes; None takes the checkpoint's own, and for random weights those that the
            family is mostly trained on.
        said: As for `load_checkpoint`, and so are the others; random weights have none of them.

    Raises:
        CheckpointError: the checkpoint does not fit.
    """
    if isinstance(source.weights, RandomWeights):
        arch = architecture(source.architecture or "")
        return random_model(arch, source.weights, labels or label_set(default_labels(arch)))
    return load_checkpoint(
        source.weights,
        source.architecture,
        labels=labels,
        said=said,
        threshold=threshold,
        average=average,
    )
