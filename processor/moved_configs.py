"""New places of the configs of earlier versions, so that commands and files that name them still work.

`config/ntu60/xview/train.yaml` is `config/ntu/long_term_as_gcn.yaml benchmark=xview`.
"""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torchlight.config_layers import Moved


class Folder(NamedTuple):
    """The new folder for configs of an earlier folder, and the settings that choose the data of the earlier one."""

    name: str
    settings: tuple[str, ...] = ()
    # Earlier name of a config -> its new name, where they differ.
    renamed: dict[str, str] = {}


LONG_TERM = {"train": "long_term_as_gcn"}
NTU120 = ("data.path=data/ntu120.h5", "data.num_class=120")
PKU_PART2 = ("data.path=data/pku_part2.h5", "data.val_by=subject")
FOLDERS = {
    "ntu60": Folder("ntu", (), LONG_TERM),
    "ntu120": Folder("ntu", NTU120, LONG_TERM),
    "pku_part1": Folder("pku", (), LONG_TERM),
    "pku_part2": Folder("pku", PKU_PART2, LONG_TERM),
    "nw_ucla": Folder("nw_ucla", (), {"train": "long_term_st_gcn"}),
    "demo": Folder("demo", (), {"train": "long_term_st_gcn"}),
    "custom": Folder(
        "custom",
        (),
        {
            "train": "long_term_st_gcn",
            "train_2d": "long_term_st_gcn_2d",
            "pretrain": "pretrain_aimclr",
            "pretrain_2d": "pretrain_aimclr_2d",
        },
    ),
    "adaptation": Folder("adaptation", (), {"label_efficiency_frame50": "label_efficiency"}),
}
# Settings that make another config equal to one that was removed.
SETTINGS = {
    "adaptation/label_efficiency_frame50": (
        "weights=work_dir/adaptation/stage1_frame50/joint/best.pt",
        "linear=config/adaptation/linear_frame50.yaml",
        "finetune=config/adaptation/stage2_frame50.yaml",
        "work_dir=work_dir/adaptation/label_efficiency_frame50",
    ),
}
AS_GCN16 = (
    "model_args.hidden_channels=16",
    "model_args.dropout=0.0",
    "model_args.num_link_frame=32",
    "model_args.link_hidden=32",
)
# Bases of earlier versions: the new name, and settings that make it equal.
BASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ntu120": ("ntu60", NTU120),
    "pku_part2": ("pku_part1", PKU_PART2),
    "as_gcn16": ("as_gcn", AS_GCN16),
    "as_gcn_phases": ("as_gcn_two_phases", ()),
    "long_term_phases_as_gcn": ("long_term_as_gcn", ()),
    "long_term_pretext_small": ("pretrain_long_term_small", ()),
    **{
        f"{method}{size}": (f"pretrain_{method}{size}", ())
        for method in ("aimclr", "skeletonclr", "vicreg")
        for size in ("", "_small")
    },
}
GONE = re.compile(
    r"(?P<config>.*/config)/(?P<folder>\w+)/((?P<benchmark>xsub|xview|xset)/)?(?P<name>\w+)[.]yaml"
)
# Configs of runs that start from the weights of pretrain_aimclr.yaml.
WITH_WEIGHTS = ("linear", "finetune", "knn", "label_efficiency")
# Configs whose runs have no folder for each stream.
ONE_STREAM = ("predict", "predict_contrast", "label_efficiency")


def find_moved(file: Path) -> Moved | None:
    """The new place of a config of an earlier version; None for any other file."""
    gone = GONE.fullmatch(file.resolve().as_posix())
    if gone is None:
        return None
    folder, benchmark, name = gone["folder"], gone["benchmark"], gone["name"]
    settings: tuple[str, ...] = SETTINGS.get(f"{folder}/{name}", ())
    if folder == "_base_" and name in BASES:
        name, settings = BASES[name]
    elif folder in FOLDERS:
        now = FOLDERS[folder]
        if name in now.renamed and not benchmark and not settings:
            settings = (f"work_dir=work_dir/{folder}/{name}/${{stream}}",)
        settings = (*now.settings, *settings)
        if benchmark:
            settings = (f"benchmark={benchmark}", *settings, *_folders(folder, benchmark, name))
        folder, name = now.name, now.renamed.get(name, name)
    place = Path(gone["config"], folder, f"{name}.yaml")
    if place == file.resolve() or not place.is_file():
        return None
    return Moved(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place, settings)


def _folders(folder: str, benchmark: str, name: str) -> tuple[str, ...]:
    """Settings that keep the run's earlier folder and weights."""
    place = f"work_dir/{folder}/{benchmark}"
    work_dir = f"work_dir={place}/{name}" + ("" if name in ONE_STREAM else "/${stream}")
    if name not in WITH_WEIGHTS:
        return (work_dir,)
    stream = "joint" if name in ONE_STREAM else "${stream}"
    return f"weights={place}/pretrain_aimclr/{stream}/best.pt", work_dir


def print_new_command(config: str, settings: Sequence[str], words: Sequence[str]) -> None:
    """Print the new command if a command names a config of an earlier version.

    Args:
        config: the config's path as given.
        settings: the `key=value` settings given.
        words: the whole command, from the program's name on.
    """
    moved = None if Path(config).exists() else find_moved(Path(config))
    if moved is None or os.environ.get("RANK", "0") != "0":
        return
    given = {setting.partition("=")[0] for setting in settings}
    # The new config has the same folders if its name is the same, and the user sets neither data nor benchmark.
    same = Path(config).stem == moved.file.stem and not {"data.path", "benchmark"} & given
    by_benchmark = any(setting.startswith("benchmark=") for setting in moved.settings)
    skipped = given | ({"work_dir", "weights"} if same and by_benchmark else set())
    added = [setting for setting in moved.settings if setting.partition("=")[0] not in skipped]
    place = next((number for number, word in enumerate(words) if word.endswith(config)), None)
    if place is None:  # a program's own default
        return
    new = words[place].removesuffix(config) + str(moved.file)
    command = shlex.join([*words[:place], new, *added, *words[place + 1 :]])
    print(f"{config} has moved; the command is now: python {command}", file=sys.stderr)
