"""What a model is made of becomes a torch module."""

from __future__ import annotations

from fcn_trt.labels import label_set
from fcn_trt.model.architecture import architecture
from fcn_trt.model.checkpoint import LoadedModel, load_checkpoint, random_model
from fcn_trt.model.profile import default_labels
from fcn_trt.model.weights import ModelSource, RandomWeights

__all__ = ["load_model"]


def load_model(source: ModelSource, labels: str | None = None) -> LoadedModel:
    """Load a model.

    Args:
        source: From `find_model`.
        labels: Label set; None takes the checkpoint's own.

    Raises:
        ValueError: there is no such label set.
        CheckpointError: the checkpoint does not fit.
    """
    if isinstance(source.weights, RandomWeights):
        arch = architecture(source.architecture or "")
        return random_model(arch, source.weights, label_set(labels or default_labels(arch)))
    return load_checkpoint(source.weights, source.architecture, labels=labels)
