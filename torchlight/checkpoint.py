"""Checkpoints: atomic saving, loading without running code, and weights that fit a network or raise an error."""

import fnmatch
import io
import random
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchlight.files import atomic_write

# Keys of a checkpoint, of this or other projects, that can hold the state dict.
STATE_KEYS = ("model", "state_dict", "net", "model_state_dict", "weights")
# Prefixes that wrappers (DataParallel, torch.compile) put before every key.
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
# The most parts that an error suggests for `ignore_weights`.
MAX_SUGGESTED = 8


class CheckpointError(ValueError):
    """A file is not a checkpoint, is damaged, or holds objects that only code could rebuild."""


class WeightsError(ValueError):
    """Weights do not fit a network. The message lists all keys that are missing, unexpected or of another shape.

    found: the message without its last line.
    remedy: its last line, what a user can do.
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}\n  {remedy}")
        self.found, self.remedy = found, remedy


def save_checkpoint(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a state atomically, in a form that `load_checkpoint` reads.

    Args:
        path: the file.
        state: nested mappings, lists and tuples of tensors, numbers, strings, bools and None. NumPy scalars
            are written as Python numbers.

    Raises:
        TypeError: the state holds anything else. The message names its place in the state.
        OSError: the disk is full, …. The message names the file. An older file at `path` stays as it was.
    """
    # Through a buffer in memory: torch's own writer hides the cause when a disk is full.
    buffer = io.BytesIO()
    torch.save(_to_plain(state, ""), buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def _to_plain(value: Any, place: str) -> Any:
    """The value, at `place` of the state, converted to types that `torch.load(weights_only=True)` accepts."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.generic):
        return value.item()
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, Mapping):
        return {key: _to_plain(item, f"{place}.{key}" if place else str(key)) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_to_plain(item, f"{place}.{index}") for index, item in enumerate(value))
    raise TypeError(
        f"a checkpoint cannot hold the {type(value).__name__} at {place!r}; save numbers, strings or tensors"
    )


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a state onto the CPU without running code from the file.

    Raises:
        FileNotFoundError: no such file.
        OSError: the file cannot be read.
        CheckpointError: the file is damaged, is not a checkpoint, or holds pickled objects.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; name the file, such as a run's best.pt")
    try:
        if zipfile.is_zipfile(path):
            _verify_checksums(path)  # torch does not notice a flipped bit
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # a damaged file can fail anywhere in torch, pickle or zipfile
        pickled = re.search(r"GLOBAL (\S+)", str(error))
        if pickled:
            raise CheckpointError(
                f"{path} holds a pickled {pickled[1]}, and loading it could run code; "
                "in the program that wrote it, save only its tensors, in a dict"
            ) from error
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({_first_sentence(error)}); copy it again, or give another file"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}; a checkpoint is a dict: save the network's state_dict()"
        )
    return state


def _verify_checksums(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise CheckpointError(
            f"{path} is damaged: the checksum of {damaged} is wrong; copy it again, or give another file"
        )


def _first_sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].split(". ")[0]


def load_weights(
    module: nn.Module,
    source: str | Path | Mapping[str, Any],
    *,
    ignore: Sequence[str] = (),
    translate: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> list[str]:
    """Copy weights into a network. If any key does not fit, the network stays as it was.

    Args:
        module: the network.
        source: a file, or its content: a state dict, or a mapping with one under a key of `STATE_KEYS`. The prefixes of
            wrappers are dropped. A prefix such as "backbone." is dropped, too, if all keys have it, no key of the
            network has it, and some keys fit without it.
        ignore: keys to leave out, after `translate`: a name with everything below it ("fc", "encoder_q.fc"), or a
            pattern ("*.num_batches_tracked").
        translate: converts the names and shapes of the file to those of the network. It is called again after a
            prefix is dropped.

    Returns:
        The keys of the network that keep their values because of `ignore`.

    Raises:
        FileNotFoundError: see `load_checkpoint`.
        CheckpointError: see `load_checkpoint`; or there is no state dict.
        WeightsError: keys are missing, unexpected or of another shape (lists all of them), or `ignore` leaves
            nothing to copy.
    """
    name = f"{source}" if isinstance(source, (str, Path)) else "the given state"
    given = state_dict_of(load_checkpoint(source) if isinstance(source, (str, Path)) else source, name)
    wanted = module.state_dict()
    kept = [key for key in wanted if _is_ignored(key, ignore)]
    given = _without_prefix(given, wanted.keys() - set(kept), translate or (lambda state: state))
    given = {key: value for key, value in given.items() if not _is_ignored(key, ignore)}

    missing = [key for key in wanted if key not in given and key not in kept]
    unexpected = [key for key in given if key not in wanted]
    common = [key for key in given if key in wanted]
    mismatched = [key for key in common if given[key].shape != wanted[key].shape]
    lines = [f"missing in the file: {key} {_shape(wanted[key])}" for key in missing]
    lines += [f"not in the network: {key} {_shape(given[key])}" for key in unexpected]
    lines += [
        f"of another shape: {key} {_shape(given[key])} in the file, {_shape(wanted[key])} in the network"
        for key in mismatched
    ]
    network = f"{type(module).__module__}.{type(module).__qualname__}"
    if lines:
        # The batch counter of a batch norm has shape () in every network, so that it fits proves nothing.
        counts = [key for key in common if key.endswith(".num_batches_tracked")]
        fitting = [key for key in common if key not in (*mismatched, *counts)]
        found = "\n  ".join([f"{name} does not fit {network}:", *lines])
        raise WeightsError(found, _remedy([*missing, *unexpected, *mismatched], fitting))
    if not common:
        found = f"{name} has no weights for {network} after ignore_weights={list(ignore)}"
        raise WeightsError(found, "ignore fewer keys")
    module.load_state_dict(given, strict=False)
    return kept


def _without_prefix(
    given: dict[str, Tensor],
    wanted: Set[str],
    translate: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Translated weights, after dropping the shortest common prefix of their keys that makes some key a wanted one.

    If no prefix does, no prefix is dropped.
    """
    first = state = translate(given)
    while wanted.isdisjoint(state) and (prefix := _common_prefix(given)):
        if any(key.startswith(prefix) for key in wanted):
            break
        given = {key.removeprefix(prefix): value for key, value in given.items()}
        state = translate(given)
    return first if wanted.isdisjoint(state) else state


def _common_prefix(keys: Collection[str]) -> str:
    """The first part of the keys, with its dot, if all keys share it; else ""."""
    modules = {key.partition(".")[0] + "." for key in keys}
    prefix = modules.pop() if len(modules) == 1 else ""
    return prefix if all(key.startswith(prefix) for key in keys) else ""


def _remedy(failing: Sequence[str], fitting: Sequence[str]) -> str:
    """The last line of an error: what a user can do about the failing keys of a network, given the fitting ones."""
    if not fitting:
        return "no key fits: these are weights of another network"
    needed = {name for key in fitting for name in _names_above(key)}
    # Suggest the outermost modules that hold no fitting key.
    names = {next((name for name in _names_above(key) if name not in needed), key) for key in failing}
    if len(names) > MAX_SUGGESTED:
        return (
            "many keys differ, so the network was built with other arguments: copy model, method and their arguments "
            "from the config.yaml next to the weights"
        )
    return f"list keys that need not be loaded in ignore_weights, e.g. ignore_weights=[{', '.join(sorted(names))}]"


def _names_above(key: str) -> list[str]:
    """The names of the modules around a key, the outermost first, then the key: a, a.b, a.b.c."""
    return list(accumulate(key.split("."), lambda above, word: f"{above}.{word}"))


def state_dict_of(content: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """The state dict of a checkpoint: the content itself, or its value under a key of `STATE_KEYS`.

    Args:
        content: of the checkpoint.
        name: of the file, for messages.

    Raises:
        CheckpointError: there is no state dict.
    """
    state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    other = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if other or not state:
        found = f"{other[0]!r} is not a tensor" if other else "it is empty"
        *keys, last = STATE_KEYS
        raise CheckpointError(
            f"{name} holds no state dict, at the top or under {', '.join(keys)} or {last}: {found}; save only the "
            "network's state_dict()"
        )
    for prefix in WRAPPER_PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def _is_ignored(key: str, patterns: Iterable[str]) -> bool:
    return any(key == p or key.startswith(f"{p}.") or fnmatch.fnmatchcase(key, p) for p in patterns)


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def rng_state() -> dict[str, Any]:
    """States of the global generators of Python, NumPy and torch (all devices), in types that a checkpoint can hold."""
    numpy_state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - the global generator's state
    return {
        "python": random.getstate(),
        "numpy": {
            **numpy_state,
            "state": {**numpy_state["state"], "key": numpy_state["state"]["key"].tolist()},
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore the states that `rng_state` gave. A CUDA device is skipped if it is missing now, or was missing then."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002 - as above
    torch.set_rng_state(state["torch"])
    for index, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda_state, index)
