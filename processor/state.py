"""Checks that a stored state belongs to the run that resumes."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from processor.config import ProcessorConfig
from torchlight import distributed
from torchlight.config import to_yaml
from torchlight.schema import completed

# Keys that may change when a run is resumed: they change its weights by rounding at most.
FREE_ON_RESUME = (
    "work_dir",
    "device",
    "tensorboard",
    "data.path",
    "data.cache",
    "data.num_worker",
    "observe_ratio",
)


class ResumeError(ValueError):
    """The run in a work_dir cannot be resumed with these settings."""


def check_same_run(state: Mapping[str, Any], config: ProcessorConfig, path: Path) -> None:
    """Refuse the state in `path` if the resumed run could not continue it exactly.

    Raises:
        ResumeError: the config or the number of processes differs, or the weights of the best epoch are missing.
    """
    own = shlex.quote(str(path))
    if changed := differences(state["config"], config):
        raise ResumeError(
            f"{path} is a run with another config: {'; '.join(changed)}. Resume it with its own "
            f"({path.parent / 'config.yaml'}), or start another run from its weights with -w NEW --weights {own}"
        )
    if state["world_size"] != distributed.world_size():
        raise ResumeError(
            f"{path} is a run of {state['world_size']} processes; with {distributed.world_size()} its batches would "
            f"differ: resume it with {state['world_size']}"
        )
    if state["best"] and not (path.parent / "best.pt").exists():
        raise ResumeError(
            f"{path} is a run whose best epoch so far was {state['best']['epoch']}, but its best.pt is missing; "
            f"start another run from these weights with -w NEW --weights {own}"
        )


def differences(earlier: str, config: ProcessorConfig) -> list[str]:
    """Differences between an earlier config, as YAML, and this one that change the result; a sentence for each key."""
    return [change for change in changes(earlier, config) if change.split()[0] not in FREE_ON_RESUME]


def changes(earlier: str, config: ProcessorConfig) -> list[str]:
    """Differences between an earlier config, as YAML, and this one; a sentence for each key."""
    # Keys that the earlier version did not have get their defaults.
    before = _flat(completed(yaml.safe_load(earlier), type(config)))
    now = _flat(yaml.safe_load(to_yaml(config)))
    return [
        f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def changes_since_training(content: Mapping[str, Any], config: ProcessorConfig) -> list[str]:
    """The same for the config in the content of a checkpoint; empty if it is another program's."""
    trained = content.get("config")
    try:
        return changes(trained, config) if isinstance(trained, str) else []
    except yaml.YAMLError:
        return []


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys and values of a mapping; lists are values."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            flat[prefix] = value

    walk("", values)
    return flat
