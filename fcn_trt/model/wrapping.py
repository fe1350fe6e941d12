"""Finding a model's weights in what training scripts wrap around them.

Scripts nest dicts, wrappers put prefixes before each name, and an average of the weights may lie
beside them or among them. Averages under names of their own: EMAHook of MMSegmentation 0.x
(mmcv 1.x) has ``ema_backbone_conv1_weight`` for ``backbone.conv1.weight``, Lightning modules and
LitEma have ``model_ema.`` before names with or without their dots.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fcn_trt.errors import CheckpointError
from fcn_trt.foreign import printable
from fcn_trt.model.stored_tensor import StoredTensor, Tensors

__all__ = ["find_weights"]

logger = logging.getLogger(__name__)

MAX_DICTS = 1 << 13
MAX_SETS = 64
MAX_PREFIXES = 8
MAX_TENSORS = 1 << 13
"""Of all models in a file; a ResNet101 with two heads has 650."""
MAX_NAME = 256
"""Characters of a tensor's name, and of the keys above it."""

_CONTAINERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights"),
    *("model_weights", "params", "module", "student"),
)
"""Keys under which scripts keep the weights, the surer ones first."""
_USUAL = ("", "state_dict", "model")
"""Of these, the ones of which nothing has to be said."""
_NO_WEIGHTS = re.compile(
    r"(optim|lr_|sched|scaler|amp|callback|loops|message_hub|rng|hyper_|args|meta|config"
    r"|criterion|loss|history|metrics|discriminator).*"
)
"""Keys under which other tensors are kept."""
_AVERAGE = re.compile(r"(.*_)?(ema|swa|averaged?|avg)(_.*)?")
"""A key, or the first part of a name, of weights that are the average of others."""
_PREFIXES = re.compile(
    r"(module|_orig_mod|_forward_module|(seg(mentation)?_)?(model|net|network)|segmentor"
    r"|((model|net)_ema|ema(_model)?|averaged_model|swa_model))\."
)
"""What wrappers put before all names: DataParallel, torch.compile, Lightning, AveragedModel."""
_WITHIN = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What PyTorch's own wrappers of a part of the network put inside its names."""
_LOSS = re.compile(r"criterion|loss")


def find_weights(content: Mapping[Any, Any], path: Path, *, average: bool | None) -> Tensors:
    """The weights of one model under its own names; what was taken is logged.

    Args:
        content: What the file holds.
        path: For messages.
        average: Which of two sets to take, as for `load_checkpoint`.

    Raises:
        CheckpointError: there are several models, there is no average, or there are more tensors
            or longer names than any such model has.
    """
    sets = _weight_sets(content, path)
    if not sets:
        return {}
    key = _main(list(sets), path)
    prefix, own, among = _unwrapped(sets[key])
    _say_taken(path, key, prefix, [k for k in sets if k != key and not _is_average(k)])
    beside = {k: _unwrapped(tensors)[1] for k, tensors in sets.items() if k != key}
    for other, tensors in {"ema_*": among, **beside}.items():
        if (other == "ema_*" or _is_average(other)) and (made := _average_of(own, tensors)):
            return _choose(path, (key or "plain names", own), (other, made), content, average)
    is_average = _is_average(key) or any(name.endswith("n_averaged") for name in sets[key])
    if average and not is_average:
        raise CheckpointError(
            f"{path} holds no average of all its weights; leave --ema out to export these"
        )
    return own


def _weight_sets(content: Mapping[Any, Any], path: Path) -> dict[str, Tensors]:
    """Every dict of weights in dicts of any depth, by its keys with dots between."""
    found: dict[str, Tensors] = {}
    parts: list[tuple[str, Mapping[Any, Any]]] = [("", content)]
    seen = {id(content)}  # a pickled dict may hold itself
    tensors = 0
    for key, part in parts:
        own = {}
        for name, value in part.items():
            is_tensor = isinstance(value, StoredTensor)
            if not isinstance(name, str) or not (is_tensor or isinstance(value, Mapping)):
                continue
            _require_short(key, name, path)
            if isinstance(value, StoredTensor):
                own[name] = value
                tensors += 1
            elif id(value) not in seen and not _NO_WEIGHTS.fullmatch(name):
                seen.add(id(value))
                parts.append((f"{key}.{name}".lstrip("."), value))
            if len(parts) > MAX_DICTS or tensors > MAX_TENSORS:
                raise CheckpointError(
                    f"{path} holds over {MAX_TENSORS} tensors or {MAX_DICTS} dicts, which is no "
                    "FCN; save its state_dict alone with torch.save"
                )
        if any(_is_weight(name, value) for name, value in own.items()):
            found[key] = own
    if len(found) > MAX_SETS:
        raise CheckpointError(
            f"{path} holds over {MAX_SETS} sets of weights; save the one to export with torch.save"
        )
    named = {k: own for k, own in found.items() if any(n.endswith("weight") for n in own)}
    return named or found


def _require_short(key: str, name: str, path: Path) -> None:
    if len(key) + len(name) > MAX_NAME:
        raise CheckpointError(
            f"{path} has a name of {len(key) + len(name)} characters, beginning with "
            f"{printable((key or name)[:40])}; tensors of an FCN have at most {MAX_NAME}"
        )


def _main(keys: list[str], path: Path) -> str:
    """The key of the weights that are no average."""
    plain = [key for key in keys if not _is_average(key)] or keys
    best = min(map(_rank, plain))
    first = [key for key in plain if _rank(key) == best]
    if len(first) > 1:
        keys = [key or "plain names" for key in first[:8]]
        raise CheckpointError(
            f"{path} holds several sets of weights ({printable(', '.join(keys))}); save the one to "
            "export with torch.save"
        )
    return first[0]


def _rank(key: str) -> int:
    known = (_CONTAINERS.index(part) for part in key.split(".") if part in _CONTAINERS)
    return min(known, default=len(_CONTAINERS))


def _is_average(key: str) -> bool:
    return any(_AVERAGE.fullmatch(part) for part in key.split("."))


def _is_weight(name: str, value: StoredTensor) -> bool:
    """Whether it has the prefixes of a network's weights: counters and losses need not."""
    module, dot, _ = name.partition(".")
    is_loss = dot and _LOSS.search(module)
    return value.is_floating_point and bool(value.shape) and not is_loss


def _unwrapped(tensors: Tensors) -> tuple[str, Tensors, Tensors]:
    """(what stood before all names, the weights without it, the averages among them)."""
    prefix, tensors = _without_prefix(tensors)
    averages = {name for name in tensors if _AVERAGE.fullmatch(name.partition(".")[0])}
    own = {_WITHIN.sub("", name): t for name, t in tensors.items() if name not in averages}
    inner, own = _without_prefix(own)
    among = {
        name.partition(".")[2] if "." in name else name.removeprefix("ema_"): tensors[name]
        for name in averages
    }
    return prefix + inner, own, _without_prefix(among)[1]


def _without_prefix(tensors: Tensors) -> tuple[str, Tensors]:
    """Take off what wrappers put before names, as long as it stands before all weights."""
    prefix = ""
    for _ in range(MAX_PREFIXES):
        matches = [_PREFIXES.match(name) for name, t in tensors.items() if _is_weight(name, t)]
        heads = {match.group() if match else "" for match in matches}
        if len(heads) != 1 or "" in heads:
            break
        head = heads.pop()
        tensors = {name.removeprefix(head): tensor for name, tensor in tensors.items()}
        prefix += head
    return prefix, tensors


def _average_of(own: Tensors, other: Tensors) -> Tensors | None:
    """`other` under the names of `own`, which has what is not averaged; None if it is no average.

    Statistics of batch normalisation are no parameters, so mmcv and LitEma average none.
    """
    by_letters = {re.sub(r"[._]", "", name): tensor for name, tensor in other.items()}
    letters = {name: re.sub(r"[._]", "", name) for name in own}
    found = {name: by_letters[key] for name, key in letters.items() if key in by_letters}
    weights = {name for name, tensor in own.items() if _is_weight(name, tensor)}
    missing = [name for name in weights - found.keys() if ".running_" not in name]
    return None if missing or not found else own | found


def _choose(
    path: Path,
    own: tuple[str, Tensors],
    average: tuple[str, Tensors],
    content: Mapping[Any, Any],
    asked: bool | None,
) -> Tensors:
    """One of two sets, each with its key; mmengine saves the average where others save the weights.

    Source: mmengine hooks/ema_hook.py, before_save_checkpoint.
    """
    meta = content.get("meta")
    is_swapped = (own[0], average[0]) == ("state_dict", "ema_state_dict") and (
        isinstance(meta, Mapping) and "mmengine_version" in meta
    )
    if is_swapped:
        own, average = average, own
    key, tensors = average if (is_swapped if asked is None else asked) else own
    if asked is None:
        logger.info(
            "%s holds its weights (%s) and their average (%s); taking %s (%s takes the other)",
            *(path.name, own[0], average[0], key, "--no-ema" if is_swapped else "--ema"),
        )
    elif asked:
        logger.info("%s: taking the average, %s", path.name, key)
    return tensors


def _say_taken(path: Path, key: str, prefix: str, left: list[str]) -> None:
    """Log what was not plain: the key, the prefix, or other weights that were left."""
    said = [f"under {key}"] if key not in _USUAL or left else []
    said += [f"without {prefix} before each name"] if prefix else []
    said += [f"and not those under {', '.join(left[:3])}"] if left else []
    if said:
        logger.info("%s: taking the weights %s", path.name, " ".join(said))
