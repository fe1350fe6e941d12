"""A model by its name, or from a checkpoint that says what it is."""

from __future__ import annotations

from pathlib import Path

from fcn_trt.labels import label_set
from fcn_trt.model.architecture import ARCHITECTURES, architecture
from fcn_trt.model.checkpoint import LoadedModel, load_checkpoint, random_model
from fcn_trt.model.profile import default_labels
from fcn_trt.model.weights import RandomWeights, published_names, resolve_weights

__all__ = ["load_model"]


def load_model(model: str, weights: str | None = None, labels: str | None = None) -> LoadedModel:
    """Load a model by its name or from a checkpoint that says what it is.

    Args:
        model: Name of an architecture or of published weights, or path of a checkpoint.
        weights: As for `resolve_weights`; only with the name of an architecture.
        labels: Label set; None takes the checkpoint's own.

    Raises:
        ValueError: the model is unknown, or options contradict each other.
        WeightsError, CheckpointError: as the steps say.
    """
    is_file = model not in ARCHITECTURES and (Path(model).is_file() or Path(model).suffix)
    if is_file or model in published_names():
        if weights is not None:
            raise ValueError(f"{model} is a checkpoint itself; leave --weights out")
        file = resolve_weights(model, None)
        if isinstance(file, RandomWeights):
            raise ValueError("random weights need the name of a model")
        return load_checkpoint(file, labels=labels)
    arch = architecture(model)
    found = resolve_weights(weights, model)
    if isinstance(found, RandomWeights):
        return random_model(arch, found, label_set(labels or default_labels(arch)))
    return load_checkpoint(found, model, labels=labels)
