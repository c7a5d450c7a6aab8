"""The clips of a run and their labels: split, validation part, labelled part, label map."""

import copy
from pathlib import Path
from typing import Literal

import numpy as np

from feeder.arrays import ArrayFolder, open_source
from feeder.label_map import read_label_map
from feeder.prepared import NO_LABEL, Prepared
from feeder.split import draw_labelled, hold_out
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton
from torchlight.build import nearest

Part = Literal["train", "val", "test"]


class Feeder:
    """The labelled clips of one part of a benchmark; also those without a label if `unlabelled`.

    The official training clips are divided into the parts `train` and `val`. The part `test` is the official test
    clips. The division depends only on the seeds and the clips.

    Args:
        data: path of a prepared file or of a folder of arrays (see `ArrayFolder`); or the result of `open_source`,
            which several feeders can share.
        benchmark: the split, such as `xsub`.
        part: `train`, `val` or `test`.
        layout: of the joints; must be that of the data.
        num_class: number of classes after `label_map`; must be that of the data.
        num_body: M; further bodies of a clip are left out.
        channels: a letter for each channel, see `net.utils.channels`; must be those of the data.
        val_fraction: share of the official training clips that goes to `val`, from 0 to below 1.
        val_by: a key of the data, such as `subject` or `sequence`: whole groups with one value are held out, as close
            to the fraction as possible. Or `random`: the fraction of every class is held out. Every class keeps a
            training clip.
        val_seed: seed of the validation part.
        label_fraction: share of the clips of each class that is kept, rounded, at least one clip. It applies to
            `train` and to `val`, because validation labels count too: they select the epoch. With one seed, a larger
            fraction contains the clips of a smaller one.
        label_seed: seed of the labelled part.
        label_map: a YAML or CSV file that gives clips other classes; see `read_label_map`.
        unlabelled: add clips without a label to the part `train`, except those of held-out groups.
        every_class: refuse data that has a class without a training clip; a task that does not name actions can be
            tested on such a class.

    Attributes:
        source: the data; `read(clips)` gives poses.
        clips: (n,) int64, indices of clips in the source.
        label: (n,) int64; may be `NO_LABEL`.
        num_frame: (n,) int64.
        num_body_of: (n,) int64, bodies of each clip, at most M.
        name: (n,) str.
        class_names: one per class.

    Raises:
        FileNotFoundError: there is no data; the message names the command that makes it.
        ValueError: an argument is out of range; the benchmark does not exist; the data has another layout, other
            channels or another number of classes; a class has no training clip; the part is empty.
    """

    def __init__(
        self,
        data: str | Path | Prepared | ArrayFolder,
        benchmark: str,
        *,
        part: Part,
        layout: str | Skeleton,
        num_class: int,
        num_body: int = 2,
        channels: str = "xyz",
        val_fraction: float = 0.1,
        val_by: str = "subject",
        val_seed: int = 0,
        label_fraction: float = 1.0,
        label_seed: int = 0,
        label_map: str | None = None,
        unlabelled: bool = False,
        every_class: bool = True,
    ) -> None:
        _check_arguments(part, num_body, val_fraction, label_fraction)
        self.benchmark, self.part = benchmark, part
        self.num_class, self.num_body = num_class, num_body
        self.source = open_source(data, layout) if isinstance(data, (str, Path)) else data
        self.path = self.source.path
        self.skeleton = get_skeleton(layout)
        self._check_layout()
        if self.source.channels != channels:
            raise ValueError(
                f"{self.path} has channels {self.source.channels!r}, the run has {channels!r}; set "
                f"data.channels={self.source.channels}"
            )
        label_of = self._labels(label_map)
        split = self._split(label_of)
        if part == "test":
            self.clips = split["val"]
        else:
            train, val = split["train"], split["train"][:0]
            if val_fraction > 0:
                train, val = hold_out(
                    train,
                    label_of[train],
                    self._groups(train, val_by),
                    val_fraction,
                    val_seed,
                    f"{val_by} of {self.path}",
                )
            if every_class:
                self._check_classes(label_of[train], label_of)
            chosen = train if part == "train" else val
            self.clips = draw_labelled(chosen, label_of[chosen], label_fraction, label_seed)
            if unlabelled and part == "train":
                others = self._unlabelled(val, val_by if val_fraction > 0 else "random")
                self.clips = np.concatenate([self.clips, others])
        if len(self.clips) == 0:
            cause = ""
            if part == "val" and val_fraction == 0:
                cause = " (val_fraction is 0)"
            elif part == "val":
                text = "is less than one clip of each class; set it higher, or to 0 with select=last"
                cause = f": data.val_fraction {val_fraction} {text}"
            raise ValueError(f"part {part!r} of benchmark {benchmark!r} in {self.path} is empty{cause}")
        self.label = label_of[self.clips]
        self.name = self.source.name[self.clips]
        # The first frame of each item in its clip; an item is a whole clip until `windows` cuts it.
        self.first = np.zeros(len(self.clips), np.int64)
        self.num_frame = self.source.num_frame[self.clips]
        self.num_body_of = np.minimum(self.source.num_body[self.clips], num_body)

    def __len__(self) -> int:
        return len(self.clips)

    def take(self, places: np.ndarray) -> "Feeder":
        """A feeder of the clips at `places` (m,) in this one, in that order."""
        other = copy.copy(self)
        for name in ("clips", "label", "name", "first", "num_frame", "num_body_of"):
            setattr(other, name, getattr(self, name)[places])
        return other

    def windows(self, num_frame: int, step: int) -> "Feeder":
        """A feeder of the windows of `num_frame` frames of each clip, one at every `step`-th frame.

        A clip that is shorter has no window. The name of a window ends in its first frame.

        Raises ValueError: a number below 1; no clip is long enough.
        """
        for name, value in {"num_frame": num_frame, "step": step}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; give 1 frame or more")
        count = np.maximum(0, (self.num_frame - num_frame) // step + 1)
        if not count.any():
            raise ValueError(f"no {self.part} clip of {self.path} has the {num_frame} frames of a window")
        other = self.take(np.repeat(np.arange(len(self)), count))
        start = np.concatenate([step * np.arange(each) for each in count])
        other.first = other.first + start
        other.num_frame = np.full(len(other), num_frame)
        other.name = np.char.add(np.char.add(other.name.astype(str), "@"), other.first.astype(str))
        return other

    def take_index(self, camera_key: str) -> np.ndarray:
        """The take of each clip, counted from 0: (n,) int64.

        A take is one performance, recorded by several cameras at once. Its clips are equal in all keys of the data
        except `camera_key`. The action may be one of these keys; the result does not reveal it.

        Raises ValueError: the data has no such key; a camera has two clips of a take; no take has two clips.
        """
        keys = self.source.keys
        if camera_key not in keys:
            known = nearest(camera_key, keys) if keys else "it has none"
            raise ValueError(
                f"{self.path} has no key {camera_key!r} to distinguish cameras; {known} "
                "(or set spread.camera_key=null)"
            )
        others = [values[self.clips] for key, values in keys.items() if key != camera_key]
        table = np.stack([np.zeros_like(self.clips), *others, keys[camera_key][self.clips]])
        take = np.unique(table[:-1], axis=1, return_inverse=True)[1].ravel()
        _, clip, count = np.unique(table, axis=1, return_inverse=True, return_counts=True)
        if (count > 1).any():
            twice = self.name[clip.ravel() == count.argmax()]
            raise ValueError(
                f"{twice[0]} and {twice[1]} of {self.path} are equal in all keys, {camera_key!r} included, so their "
                "takes are not known; set spread.camera_key=null"
            )
        if len(np.unique(take)) == len(take):
            raise ValueError(
                f"no two {self.part} clips of benchmark {self.benchmark!r} in {self.path} differ only in key "
                f"{camera_key!r}; set spread.camera_key=null"
            )
        return take

    def _check_layout(self) -> None:
        found = self.source.skeleton
        if found != self.skeleton:
            same = "; the two describe its joints differently" if found.name == self.skeleton.name else ""
            raise ValueError(
                f"{self.path} has layout {found.name!r} ({found.num_joint} joints), the run has "
                f"{self.skeleton.name!r} ({self.skeleton.num_joint} joints){same}; change data.layout, or "
                "prepare the data again"
            )

    def _labels(self, label_map: str | None) -> np.ndarray:
        """Label of each clip of the source, `NO_LABEL` if it has none: (N,); sets `class_names`."""
        names, label = list(self.source.class_names), self.source.label
        if label_map is None:
            self.class_names = names
            if names and len(names) != self.num_class:  # without labels there are no classes
                raise ValueError(
                    f"{self.path} has {len(names)} classes, the run has num_class {self.num_class}; change "
                    "data.num_class, or map the classes with data.label_map"
                )
            return label
        target, self.class_names = read_label_map(label_map, names, num_class=self.num_class)
        return np.where(label == NO_LABEL, NO_LABEL, np.append(target, NO_LABEL)[label])

    def _unlabelled(self, val: np.ndarray, val_by: str) -> np.ndarray:
        """Training clips without a label that are of no group in the validation clips `val`: (n,) int64."""
        clips = self.source.splits[self.benchmark]["train"]
        clips = clips[self.source.label[clips] == NO_LABEL]
        groups, held_out = self._groups(clips, val_by), self._groups(val, val_by)
        if groups is None or held_out is None:
            return clips
        return clips[~np.isin(groups, held_out)]

    def _split(self, label_of: np.ndarray) -> dict[str, np.ndarray]:
        splits = self.source.splits
        if self.benchmark not in splits:
            raise ValueError(
                f"{self.path} has no benchmark {self.benchmark!r}; {nearest(self.benchmark, splits)}"
            )
        return {part: clips[label_of[clips] >= 0] for part, clips in splits[self.benchmark].items()}

    def _groups(self, clips: np.ndarray, val_by: str) -> np.ndarray | None:
        if val_by == "random":
            return None
        keys = self.source.keys
        if val_by not in keys:
            of_names = (
                " A folder of arrays has keys only if all names of clips are like S001C002P003R002A013."
            )
            hint = of_names if isinstance(self.source, ArrayFolder) and not keys else ""
            raise ValueError(
                f"{self.path} has no key {val_by!r}, by which data.val_by holds out clips; "
                f"{nearest(val_by, [*keys, 'random'])} (or set data.val_fraction: 0).{hint}"
            )
        return keys[val_by][clips]

    def _check_classes(self, trained: np.ndarray, all_labels: np.ndarray) -> None:
        # A class without any clip in the data is allowed (a subset of NTU, say): it is not tested either.
        absent = np.setdiff1d(all_labels[all_labels >= 0], trained)
        if absent.size and self.part == "train":
            shown = ", ".join(repr(self.class_names[k]) for k in absent[:5])
            more = f" and {absent.size - 5} more" if absent.size > 5 else ""
            raise ValueError(
                f"no training clip of benchmark {self.benchmark!r} in {self.path} is of class {shown}{more}; "
                "prepare more clips, or leave these classes out with data.label_map and data.num_class"
            )


def _check_arguments(part: str, num_body: int, val_fraction: float, label_fraction: float) -> None:
    if part not in ("train", "val", "test"):
        raise ValueError(f"part is {part!r}; give 'train', 'val' or 'test'")
    if num_body < 1:
        raise ValueError(f"num_body is {num_body}; give 1 or more")
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}; give 0 to below 1")
    if not 0 < label_fraction <= 1:
        raise ValueError(f"label_fraction is {label_fraction}; give more than 0, up to 1 for all labels")
