"""The answers about recordings, on the terminal and as files.

T frames, V joints, M bodies, C coordinates, K classes, P predicted frames.
"""

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from feeder.recordings.files import Recorded
from feeder.recordings.recording import RecordingError
from feeder.recordings.resample import resample
from net.utils.skeleton import Skeleton
from processor.animation import animate
from processor.displayed import Shown, describe, of_recorded, whole_tracks, with_future
from processor.figures import draw_future, draw_timeline
from processor.fonts import legible
from processor.io import write_text
from processor.page import MOST_CLIPS, write_page
from processor.timeline import frame_labels, segments
from torchlight.files import atomic_write

TABLES = ("answers.csv", "answers.json")
NONE = "none"
# The table on the terminal.
HEADING = ("recording", "frames", "answer", "p", "next")
WIDTHS = (24, 6, 24, 4, 0)


class AnswersExist(FileExistsError):
    """A folder holds earlier answers, and `overwrite` is not set."""


def prepare_answers(folder: Path, *, overwrite: bool) -> None:
    """Make a folder for answers.

    Raises:
        AnswersExist: the folder holds answers, and `overwrite` is False.
        NotADirectoryError: `folder` is a file.
        OSError: the folder is not writable.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {folder} is a file; name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # fails before any work is done
            pass
    except OSError as error:
        raise OSError(
            error.errno, f"--out {folder} is not writable ({error.strerror}); name another folder"
        ) from None
    held = [name for name in TABLES if (folder / name).exists()]
    if held and not overwrite:
        raise AnswersExist(
            f"{folder} holds earlier answers ({', '.join(held)}): replace them with --overwrite, or name another folder"
        )


class Answers:
    """Prints each answer, and writes its files.

    Args:
        class_names: K.
        skeleton: of the joints.
        out: the folder for files; None to print only.
        top: number of classes shown for each recording.
        threshold: below this probability the answer is `NONE`.
        animated: write an animation of each recording.
        html: the page with the first recordings; None for no page.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        skeleton: Skeleton,
        *,
        out: Path | None,
        top: int,
        threshold: float,
        animated: bool,
        html: Path | None = None,
    ) -> None:
        self.class_names, self.skeleton = list(class_names), skeleton
        self.out, self.top, self.threshold, self.animated = out, top, threshold, animated
        self.html = html
        self.rows: list[dict[str, Any]] = []
        self._shown: list[Shown] = []
        self._stems: set[str] = set()

    def add_error(self, name: str, error: RecordingError) -> None:
        """Add a recording without an answer, and the reason."""
        self._print(name, "", "no answer", "", str(error))
        self.rows.append({"recording": name, "error": str(error)})

    def add(self, recorded: Recorded, probability: np.ndarray, of_frames: np.ndarray | None) -> None:
        """Add the class probabilities of a recording.

        Args:
            recorded: the recording.
            probability: (K,), of the whole recording.
            of_frames: (T, K), of each frame; None where only the whole recording was classified.
        """
        order = np.argsort(-probability, kind="stable")
        label = int(order[0]) if probability[order[0]] >= self.threshold else -1
        top = [[self.class_names[k], round(float(probability[k]), 6)] for k in order[: self.top]]
        frames = recorded.recording.num_frame
        others = ", ".join(f"{name} {value:.2f}" for name, value in top[label >= 0 :])
        best = f"{probability[label]:.2f}" if label >= 0 else ""
        self._print(recorded.name, str(frames), self._name(label), best, others)
        row: dict[str, Any] = {
            "recording": recorded.name,
            "frames": frames,
            "frame_rate": recorded.frame_rate,
            "answer": self._name(label),
            "top": top,
            "probability": dict(zip(self.class_names, map(float, probability), strict=True)),
        }
        stem = self._stem(recorded.name)
        labels = np.full(frames, label)
        if of_frames is not None:
            labels = frame_labels(of_frames, self.threshold)
            row["segments"] = self._segments(labels, of_frames, recorded.frame_rate)
            if self.out is not None:
                self._save_timeline(stem, recorded, labels, of_frames)
        values = np.tile(probability, (frames, 1)) if of_frames is None else of_frames
        if self.html is not None:
            found = "" if label < 0 else f" {probability[label]:.2f}"
            title = describe(self._name(label) + found, frames, recorded.frame_rate)
            clip = of_recorded(recorded, self.skeleton, recorded.frame_rate)
            self._show(clip._replace(title=title, probability=values, class_names=self.class_names))
        if self.animated:
            best = values[np.arange(frames), np.maximum(labels, 0)]
            with legible(self.class_names) as names:
                captions = [
                    f"{names[k]} {p:.2f}" if k >= 0 else NONE
                    for k, p in zip(labels.tolist(), best, strict=True)
                ]
                self._animate(stem, whole_tracks(recorded), captions, recorded.frame_rate)
        self.rows.append(row)

    def add_poses(self, recorded: Recorded, future: np.ndarray, frame_rate: float | None) -> None:
        """Add the predicted poses (M, P, V, C) of a recording; `frame_rate` is theirs, None where unknown."""
        count = future.shape[1]
        ahead = "" if frame_rate is None else f"{1000 * count / frame_rate:.0f} ms"
        frames = recorded.recording.num_frame
        self._print(recorded.name, str(frames), f"{count} frames predicted", "", ahead)
        row: dict[str, Any] = {"recording": recorded.name, "frames": frames}
        row |= {"frame_rate": frame_rate, "predicted": count}
        seen = resample(recorded.tracks, recorded.frame_rate, frame_rate)
        if self.html is not None:
            tracks, bodies = with_future(seen, future)
            title = describe(f"{count} frames predicted", tracks.shape[1], frame_rate)
            self._show(Shown(recorded.name, title, tracks, self.skeleton, frame_rate, bodies=bodies))
        if self.out is not None:
            stem = self._stem(recorded.name)
            with atomic_write(self.out / f"{stem}.future.npy") as file:
                np.save(file, future, allow_pickle=False)
            row["future"] = f"{stem}.future.npy"
            last = recorded.tracks[: len(future), -1]
            draw_future(last, future, self.skeleton, self.out / f"{stem}.future.png")
            if self.animated:
                captions = ["seen"] * seen.shape[1] + [f"predicted +{k}" for k in range(1, count + 1)]
                self._animate(stem, seen, captions, frame_rate, future)
        self.rows.append(row)

    def finish(self) -> int:
        """Write the tables; returns the exit status: 1 if a recording has no answer or there is no recording."""
        failed = sum("error" in row for row in self.rows)
        if self.out is not None:
            write_text(self.out / "answers.json", json.dumps(self.rows, indent=2, ensure_ascii=False) + "\n")
            write_text(self.out / "answers.csv", self._table().to_csv(index=False))
            print(f"{len(self.rows) - failed} answered, {failed} not; files in {self.out}", flush=True)
        if self.html is not None and self._shown:
            write_page(self.html, "Answers", self._shown)
            most = "" if len(self._shown) == len(self.rows) - failed else ", the first ones only"
            print(f"{self.html}: a page of {len(self._shown)} clips{most}", flush=True)
        return int(failed > 0 or not self.rows)

    def _show(self, clip: Shown) -> None:
        """Put a clip into the page, up to `MOST_CLIPS`."""
        if len(self._shown) < MOST_CLIPS:
            self._shown.append(clip)

    def _print(self, *cells: str) -> None:
        """Print a row of the table; the heading comes before the first row."""
        for each in (cells,) if self.rows else (HEADING, cells):
            print(
                "  ".join(cell.ljust(width) for cell, width in zip(each, WIDTHS, strict=True)).rstrip(),
                flush=True,
            )

    def _name(self, label: int) -> str:
        return NONE if label < 0 else self.class_names[label]

    def _stem(self, name: str) -> str:
        """A unique file name for a recording: letters, digits, `.`, `-`; any other characters become `_`."""
        plain = re.sub(r"[^\w.-]+", "_", name).strip(".") or "recording"
        stem, number = plain, 1
        while stem in self._stems:
            number += 1
            stem = f"{plain}_{number}"
        self._stems.add(stem)
        return stem

    def _table(self) -> pd.DataFrame:
        """One row for each recording: its name, the answer and the probability of each class, or the error."""
        rows = []
        for row in self.rows:
            flat = {key: value for key, value in row.items() if not isinstance(value, (dict, list))}
            rows.append(flat | {_column(name): value for name, value in row.get("probability", {}).items()})
        return pd.DataFrame(rows)

    def _segments(
        self, labels: np.ndarray, of_frames: np.ndarray, frame_rate: float | None
    ) -> list[dict[str, Any]]:
        """Print the runs of equal labels; returns them as rows for the JSON file."""
        found = []
        for part in segments(labels, of_frames):
            each: dict[str, Any] = {
                "first": part.first,
                "last": part.last,
                "answer": self._name(part.label),
                "probability": round(part.probability, 6),
            }
            when = f"frames {part.first}-{part.last}"
            if frame_rate is not None:
                each |= {"begin": part.first / frame_rate, "end": (part.last + 1) / frame_rate}
                when = f"{each['begin']:7.2f} - {each['end']:.2f} s"
            print(f"  {when}  {each['answer']} {part.probability:.2f}", flush=True)
            found.append(each)
        return found

    def _save_timeline(
        self, stem: str, recorded: Recorded, labels: np.ndarray, of_frames: np.ndarray
    ) -> None:
        assert self.out is not None
        frame = np.arange(len(labels))
        seconds = frame / (np.nan if recorded.frame_rate is None else recorded.frame_rate)
        table = pd.DataFrame(of_frames, columns=[_column(name) for name in self.class_names]).round(6)
        table.insert(0, "answer", [self._name(k) for k in labels.tolist()])
        table.insert(0, "seconds", pd.Series(seconds.round(4)))
        table.insert(0, "frame", pd.Series(frame))
        write_text(self.out / f"{stem}.timeline.csv", table.to_csv(index=False))
        known = recorded.frame_rate is not None
        draw_timeline(
            of_frames,
            self.class_names,
            seconds if known else frame,
            self.out / f"{stem}.timeline.png",
            title=recorded.name,
            xlabel="seconds" if known else "frames",
        )

    def _animate(
        self,
        stem: str,
        tracks: np.ndarray,
        captions: Sequence[str],
        frame_rate: float | None,
        future: np.ndarray | None = None,
    ) -> None:
        assert self.out is not None
        path = self.out / f"{stem}.gif"
        animate(tracks, self.skeleton, captions, path, frame_rate=frame_rate, future=future)


def _column(class_name: str) -> str:
    """The column of a class's probability; its name differs from all other columns."""
    return f"p({class_name})"
