"""Drawing the validation part of the training clips, and the clips whose labels are used."""

import numpy as np

from torchlight.seed import derive_seed


def hold_out(
    clips: np.ndarray,
    label: np.ndarray,
    group: np.ndarray | None,
    fraction: float,
    seed: int,
    group_name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Divide clips (n,) into training clips and held-out clips; both keep their order.

    group: (n,), such as the subject of each clip: whole groups are held out. None to draw from each class.
    """
    held = np.zeros(len(clips), bool)
    if group is None:
        for each in np.unique(label):
            members = _shuffled(np.flatnonzero(label == each), "validation", seed, int(each))
            held[members[: min(round(fraction * len(members)), len(members) - 1)]] = True
        return clips[~held], clips[held]

    wanted = fraction * len(clips)
    for value in _shuffled(np.unique(group), "validation", seed):
        more = held | (group == value)
        nearer = abs(more.sum() - wanted) < abs(held.sum() - wanted)
        if nearer and np.isin(label, label[~more]).all():
            held = more
    if not held.any():
        raise ValueError(
            f"no {group_name} can be held out: of the {len(np.unique(group))} in the training clips, each one has all "
            f"clips of a class, or more than twice val_fraction {fraction} of all clips; set data.val_by: random, or "
            "another data.val_fraction"
        )
    return clips[~held], clips[held]


def draw_labelled(clips: np.ndarray, label: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The share `fraction` of clips (n,) of each class whose labels are used, in their order."""
    kept = np.zeros(len(clips), bool)
    for each in np.unique(label):
        members = _shuffled(np.flatnonzero(label == each), "label", seed, int(each))
        kept[members[: max(1, round(fraction * len(members)))]] = True
    return clips[kept]


def _shuffled(members: np.ndarray, *parts: str | int) -> np.ndarray:
    return np.random.default_rng(derive_seed(*parts)).permutation(members)
