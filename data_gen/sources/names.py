"""Keys and class names from the names of clips, for known data sets."""

import re
from collections.abc import Sequence

from data_gen.ntu_labels import ACTIONS as NTU_ACTIONS
from data_gen.ntu_labels import DATA_SETS
from data_gen.ntu_labels import NAME as NTU_NAME
from data_gen.sources.ucla import ACTIONS as UCLA_ACTIONS
from data_gen.sources.ucla import KEYS as UCLA_KEYS
from data_gen.sources.ucla import NAME as UCLA_NAME

# Per data set: pattern of a clip's name, keys of the numbers in it, and number of classes -> class names.
KNOWN: tuple[tuple[re.Pattern[str], tuple[str, ...], dict[int, tuple[str, ...]]], ...] = (
    (
        NTU_NAME,
        tuple(NTU_NAME.groupindex),
        {facts.num_class: NTU_ACTIONS[: facts.num_class] for facts in DATA_SETS.values()},
    ),
    (UCLA_NAME, UCLA_KEYS, {len(UCLA_ACTIONS): tuple(UCLA_ACTIONS.values())}),
)


def keys_of(names: Sequence[str]) -> list[dict[str, int]]:
    """The numbers in each name, such as subject and camera; empty unless all names are of one known form."""
    for pattern, keys, _ in KNOWN:
        found = [pattern.fullmatch(name) for name in names]
        if names and all(found):
            return [dict(zip(keys, map(int, match.groups()), strict=True)) for match in found if match]
    return [{} for _ in names]


def class_names_of(names: Sequence[str], num_class: int) -> list[str]:
    """Names of `num_class` classes: those of the data set if its pattern fits all clips' names, else numbers."""
    for pattern, _, classes in KNOWN:
        if names and num_class in classes and all(map(pattern.fullmatch, names)):
            return list(classes[num_class])
    return list(map(str, range(num_class)))
