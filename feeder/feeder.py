"""Which clips: a part of a benchmark, cut down to its labelled share and mapped to other classes where asked."""

from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from feeder.arrays import open_source
from net.utils.graph import get_skeleton
from torchlight.build import nearest
from torchlight.seed import derive_seed

Part = Literal["train", "val", "test"]


class Feeder:
    """The clips of one part of a benchmark.

    The official training clips are divided into ``train`` and a validation part ``val``; ``test`` is the official
    held-out part (which prepared files, as the field does, call val).

    Args:
        path: prepared file, or a folder of arrays (see ``feeder.arrays.ArrayFolder``).
        benchmark: split, such as "xsub".
        part: "train", "val" or "test".
        layout: of the joints; must be the file's own.
        num_class: classes the network tells apart; must be the data's, or the class map's.
        num_body: M; clips with more bodies lose the last ones.
        val_fraction: share of the official training clips that are the validation part; 0 leaves none.
        val_by: "subject" takes whole subjects, "random" the same share of every class.
        val_seed: draws the validation part.
        label_fraction: share of the labels of each class that ``train`` keeps: round(p n_c), at least 1.
            A smaller share is a subset of a larger one.
        label_seed: draws that share.
        class_map: YAML file with ``classes`` (list of names) and ``map`` (source class, by name or number, to
            target class, by name or number); clips of classes that it leaves out are dropped.

    Attributes:
        source: the open data; clips (n,): indices into it.
        label (n,) int64, name (n,), num_frame (n,), num_body (n,); class_names, skeleton.

    Raises:
        FileNotFoundError: no such data; names the command that makes it.
        ValueError: anything above does not hold for this data.
    """

    def __init__(
        self,
        path: str | Path,
        benchmark: str,
        *,
        part: Part,
        layout: str,
        num_class: int,
        num_body: int = 2,
        val_fraction: float = 0.1,
        val_by: Literal["subject", "random"] = "subject",
        val_seed: int = 0,
        label_fraction: float = 1.0,
        label_seed: int = 0,
        class_map: str | Path | None = None,
    ) -> None:
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction is {val_fraction}; it is a share from 0 up to, not including, 1")
        if not 0 < label_fraction <= 1:
            raise ValueError(f"label_fraction is {label_fraction}; it is a share above 0 and up to 1")
        self.part, self.benchmark = part, benchmark
        self.source = source = open_source(path, layout)
        expected = get_skeleton(layout)
        if source.skeleton != expected:
            raise ValueError(
                f"{source.path} holds skeletons of layout {source.layout!r} ({source.skeleton.num_joint} joints), "
                f"the config says {layout!r} ({expected.num_joint} joints); set data.layout to the file's"
            )
        if benchmark not in source.splits:
            raise ValueError(
                f"{source.path} has no benchmark {benchmark!r}; {nearest(benchmark, source.splits)}"
            )
        self.skeleton = source.skeleton
        target, self.class_names = _target_classes(source.class_names, class_map)
        if num_class != len(self.class_names):
            raise ValueError(
                f"{class_map or source.path} has {len(self.class_names)} classes, the config says {num_class}; "
                "set data.num_class to match"
            )

        official = source.splits[benchmark]["val" if part == "test" else "train"]
        clips = np.sort(official)
        clips = clips[target[source.label[clips]] >= 0]
        if part != "test":
            label = target[source.label[clips]]
            if val_by == "subject":
                held_out = _whole_subjects(source.keys, clips, val_fraction, val_seed, source.path)
            else:
                held_out = _share_of_each_class(label, val_fraction, "val", val_seed)
            clips = clips[held_out if part == "val" else ~held_out]
        label = target[source.label[clips]]
        if part == "train":
            absent = np.setdiff1d(np.arange(num_class), label)
            # A data set may lack classes altogether; one that is tested but never shown is a mistake.
            tested = target[source.label[source.splits[benchmark]["val"]]]
            missing = np.intersect1d(absent, tested)
            if len(missing):
                names = ", ".join(self.class_names[c] for c in missing[:5])
                raise ValueError(
                    f"the training part of {benchmark!r} has no clip of {len(missing)} classes that the test part "
                    f"has ({names}); lower data.val_fraction, change data.val_seed, or set data.val_by=random"
                )
            if label_fraction < 1:
                clips = clips[_share_of_each_class(label, label_fraction, "label", label_seed, at_least=1)]
        if not len(clips):
            raise ValueError(
                f"the {part} part of {benchmark!r} in {source.path} is empty"
                + ("; raise data.val_fraction" if part == "val" else "")
            )
        self.clips = clips
        self.label = target[source.label[clips]]
        self.name = source.name[clips]
        self.num_frame = source.num_frame[clips]
        self.num_body = np.minimum(source.num_body[clips], num_body)

    def __len__(self) -> int:
        return len(self.clips)


def _whole_subjects(
    keys: dict[str, np.ndarray], clips: np.ndarray, fraction: float, seed: int, path: Path
) -> np.ndarray:
    """Mask (n,) of the clips of subjects drawn until about ``fraction`` of the clips are reached."""
    if fraction == 0:
        return np.zeros(len(clips), bool)
    if "subject" not in keys:
        raise ValueError(f"{path} does not say who acts in a clip; set data.val_by=random")
    subject, count = np.unique(keys["subject"][clips], return_counts=True)
    if len(subject) < 2:
        raise ValueError(f"all training clips in {path} are of one subject; set data.val_by=random")
    order = np.random.default_rng(derive_seed(seed, "val")).permutation(len(subject))
    reached = np.cumsum(count[order])
    number = 1 + np.abs(reached - fraction * len(clips)).argmin()
    return np.isin(keys["subject"][clips], subject[order[: min(number, len(subject) - 1)]])


def _share_of_each_class(
    label: np.ndarray, fraction: float, purpose: str, seed: int, at_least: int = 0
) -> np.ndarray:
    """Mask (n,) of round(fraction * n_c) clips of each class c; grows with ``fraction`` for one seed."""
    mask = np.zeros(len(label), bool)
    for c in np.unique(label):
        own = np.flatnonzero(label == c)
        order = np.random.default_rng(derive_seed(seed, purpose, int(c))).permutation(own)
        mask[order[: max(at_least, int(fraction * len(own) + 0.5))]] = True
    return mask


def _target_classes(names: list[str], class_map: str | Path | None) -> tuple[np.ndarray, list[str]]:
    """Target class of each source class, -1 where it is dropped, and the target's names."""
    if class_map is None:
        return np.arange(len(names)), list(names)
    try:
        content = yaml.safe_load(Path(class_map).read_text(encoding="utf-8"))
        targets, pairs = [str(name) for name in content["classes"]], dict(content["map"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"class map {class_map} is not a YAML file with a list `classes` and a mapping `map` ({error})"
        ) from error
    target = np.full(len(names), -1)
    for source_class, target_class in pairs.items():
        target[_class_number(source_class, names, class_map)] = _class_number(
            target_class, targets, class_map
        )
    return target, targets


def _class_number(key: object, names: list[str], class_map: str | Path) -> int:
    if isinstance(key, int) and 0 <= key < len(names):
        return key
    if key in names:
        return names.index(str(key))
    raise ValueError(
        f"class map {class_map}: {key!r} is no class; {nearest(str(key), names)} (or 0 to {len(names) - 1})"
    )
