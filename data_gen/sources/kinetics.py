"""Kinetics-skeleton: a folder of JSON files and a file of labels for each part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_gen.sources.source import Clip, Entry, ItemSource, Kept, Problem, Splits, problem_of
from feeder.prepared import MAX_CLASS, NO_LABEL, PARTS
from feeder.recordings.json_files import parse_json
from feeder.recordings.kinetics import LAYOUT, tracks_of
from feeder.recordings.recording import RecordingError

BENCHMARK = "split"
MAX_BYTES = 64 << 20  # 300 frames of 5 bodies are 1 MB


class KineticsSource(ItemSource):
    """The clips in `kinetics_train/` and `kinetics_val/`; one of the two folders may be missing.

    Raises:
        FileNotFoundError, NotADirectoryError: there are no clips, or a file of labels is missing.
        ValueError: a file of labels has another form.
    """

    layout = LAYOUT
    frame_rate = 30.0
    bodies = "score"
    channels = "xyc"
    unit = "picture"
    default_out = Path("data", "kinetics.h5")
    source = "kinetics"
    items: list[Path]
    problems: list[Problem]

    def __init__(self, data_path: Path) -> None:
        if not data_path.is_dir():
            raise NotADirectoryError(f"--data_path {data_path} is not a folder")
        self.items, self.problems = [], []
        self.part: dict[str, str] = {}
        self.label: dict[str, int] = {}
        names: dict[int, str] = {}
        unseen = 0
        for part in PARTS:
            paths = sorted((data_path / f"kinetics_{part}").glob("*.json"))
            if not paths:
                continue
            label_file = data_path / f"kinetics_{part}_label.json"
            labels = _read_labels(label_file)
            for path in paths:
                if path.stem in self.part:
                    self.problems.append(Problem(path, None, "a clip of this name is in the other part, too"))
                elif _is_unseen(labels.get(path.stem)):
                    unseen += 1
                else:
                    self.part[path.stem] = part
                    self.items.append(path)
            for name, about in labels.items():
                self._add_label(name, about, label_file, names)
                if not _is_unseen(about) and name not in self.part:
                    self.problems.append(Problem(label_file, None, f"no file {name}.json"))
        if not self.items:
            raise FileNotFoundError(
                f"no .json file in the folders kinetics_train and kinetics_val of --data_path {data_path}"
            )
        self.left_out = {"without a skeleton": unseen}
        num_class = 1 + max(self.label.values(), default=NO_LABEL)
        self.class_names = [names.get(label, str(label)) for label in range(num_class)]

    def read(self, path: Path) -> Sequence[Entry]:
        """See `ItemSource.read`."""
        try:
            if path.stat().st_size > MAX_BYTES:
                raise RecordingError(None, f"larger than {MAX_BYTES >> 20} MiB")
            tracks = tracks_of(parse_json(path.read_bytes()))
        except (RecordingError, OSError) as error:
            return [problem_of(path, error)]
        return [Clip(path.stem, self.label.get(path.stem, NO_LABEL), tracks)]

    def splits(self, kept: Sequence[Kept]) -> Splits:
        """See `Source.splits`."""
        parts = {part: [k for k, clip in enumerate(kept) if self.part[clip.name] == part] for part in PARTS}
        return {BENCHMARK: parts}

    def _add_label(self, name: str, about: Any, file: Path, names: dict[int, str]) -> None:
        """Store the label of a clip and the name of its class; after a wrong label, the clip has no label."""
        label = about.get("label_index") if isinstance(about, dict) else None
        if type(label) is not int or not 0 <= label < MAX_CLASS:
            reason = f"{name!r:.80} has no label_index from 0, below {MAX_CLASS:,}; it has no label"
            self.problems.append(Problem(file, None, reason))
            return
        self.label[name] = label
        if isinstance(about.get("label"), str):
            names.setdefault(label, about["label"])


def _is_unseen(about: Any) -> bool:
    return isinstance(about, dict) and about.get("has_skeleton") is False


def _read_labels(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; it holds the labels of the clips")
    try:
        content = parse_json(file.read_bytes())
    except RecordingError as error:
        raise ValueError(f"{file}: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no object {{clip: {{has_skeleton, label, label_index}}}}")
    return content
