"""CTR-GCN's arrays: all clips of a benchmark in one `.npz`, read in blocks and never unpacked.

`x_train`, `x_test` (N, T, M * V * 3): bodies, joints, x y z; zeros after a clip's end and for an absent body.
`y_train`, `y_test` (N, K) one-hot; a row of zeros is a clip without a label. Clips have no names.
"""

import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from data_gen.ntu_labels import ACTIONS, DATA_SETS
from data_gen.sources.source import Clip, Entry, Kept, Source, Splits, problem_of
from feeder.prepared import MAX_CLASS, NO_LABEL, PARTS
from feeder.recordings.archives import MAX_RATIO
from feeder.recordings.recording import RecordingError, refuse_other_units
from net.utils.channels import bodies_there

NAMES = dict(zip(PARTS, ("train", "test"), strict=True))
NUM_BODY, NUM_CHANNEL = 2, 3
LAYOUTS = {25: "ntu-rgb+d", 20: "kinect-v1"}
# Benchmark by the last word of a file's name, as in NTU60_CS.npz.
BENCHMARKS = {"cs": "xsub", "csub": "xsub", "cv": "xview", "cview": "xview", "cset": "xset"}
BLOCK_BYTES = 16 << 20
MAX_CLIP_BYTES = 256 << 20  # 12,000 frames of two bodies in float64 are 14 MB


class CtrGcnSource(Source):
    """The clips of a `.npz`.

    Args:
        file: the arrays.
        layout: of the joints; None: NTU RGB+D's for rows of 150, Kinect v1's for rows of 120.
        class_names: in order of labels; None: those of NTU RGB+D if the file's name has "ntu", else numbers.
        frame_rate: frames per second, which the file does not state.
        benchmark: name of the split; None: from the file's name, or `split`.

    Raises:
        ValueError: the file is not of this form.
        OSError: the file cannot be read.
    """

    bodies = "as in the arrays"

    def __init__(
        self,
        file: Path,
        *,
        layout: str | None,
        class_names: Sequence[str] | None,
        frame_rate: float,
        benchmark: str | None = None,
    ) -> None:
        self.file, self.source, self.frame_rate = file, str(file), frame_rate
        self.default_out = Path("data", f"{file.stem}.h5")
        self.benchmark = benchmark or BENCHMARKS.get(file.stem.lower().rpartition("_")[2], "split")
        self.poses = {part: Member(file, f"x_{name}") for part, name in NAMES.items()}
        self.labels = {part: Member(file, f"y_{name}") for part, name in NAMES.items()}
        full = [part for part, member in self.poses.items() if len(member)]
        if not full:
            raise ValueError(f"{file} has no clip in x_train or x_test")
        width = {self.poses[part].width for part in full}
        num_class = {self.labels[part].shape[1] for part in full if len(self.labels[part].shape) == 2}
        if len(width) > 1 or len(num_class) > 1:
            raise ValueError(f"the two parts of {file} have rows of {width} numbers and {num_class} classes")
        self.layout = layout or self._default_layout(*width)
        self.num_joint = self.skeleton.num_joint
        for part in full:
            self._check(part)
        self.num_item = sum(map(len, self.poses.values()))
        self.class_names = class_names or self._known_classes(*num_class or {0})

    def entries(self, num_worker: int) -> Generator[Sequence[Entry], None, None]:
        """See `Source.entries`."""
        for part, name in NAMES.items():
            labels = self.labels[part].rows() if len(self.labels[part]) else None
            for number, row in enumerate(self.poses[part].rows()):
                clip = f"{name}_{number:06d}"
                try:
                    label = NO_LABEL if labels is None else _label_of(next(labels), len(self.class_names))
                    yield [Clip(clip, label, _tracks(row, self.num_joint))]
                except RecordingError as error:
                    yield [problem_of(f"{self.file}: {clip}", error)]

    def splits(self, kept: Sequence[Kept]) -> Splits:
        """See `Source.splits`."""
        parts = {
            part: [index for index, clip in enumerate(kept) if clip.name.startswith(name)]
            for part, name in NAMES.items()
        }
        return {self.benchmark: parts}

    def _check(self, part: str) -> None:
        poses, labels = self.poses[part], self.labels[part]
        if poses.ratio > MAX_RATIO:
            raise ValueError(
                f"{poses} unpacks to {poses.ratio:,.0f} times its size, too much for poses; it was not read"
            )
        one_body = self.num_joint * NUM_CHANNEL
        if len(poses.shape) != 3 or poses.width % one_body or 0 in poses.shape:
            raise ValueError(
                f"{poses} has shape {poses.shape}; needed is (clips, frames, bodies x {self.num_joint} joints of "
                f"layout {self.layout!r} x 3); give another --layout"
            )
        if labels.shape and (len(labels.shape) != 2 or len(labels) != len(poses) or labels.width > MAX_CLASS):
            raise ValueError(
                f"{labels} has shape {labels.shape}; needed are {len(poses)} one-hot rows, one per clip of {poses}"
            )

    def _default_layout(self, width: int) -> str:
        num_joint, rest = divmod(width, NUM_BODY * NUM_CHANNEL)
        if rest or num_joint not in LAYOUTS:
            raise ValueError(
                f"{self.file} has rows of {width} numbers, not 150 (NTU RGB+D) or 120 (Kinect v1); give the layout of "
                "the joints with --layout"
            )
        return LAYOUTS[num_joint]

    def _known_classes(self, num_class: int) -> list[str]:
        is_ntu = "ntu" in self.file.stem.lower() and self.layout == "ntu-rgb+d"
        if is_ntu and num_class in {facts.num_class for facts in DATA_SETS.values()}:
            return list(ACTIONS[:num_class])
        return list(map(str, range(num_class)))


class Member:
    """An array of numbers in a `.npz`, read row by row; a missing array has shape () and no rows.

    ratio: unpacked size divided by the size in the file.

    Raises:
        ValueError: the file is not a `.npz`, or the array is damaged or of another kind.
        OSError: the file cannot be read.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name = file, f"{name}.npy"
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.float32)
        self.ratio = 1.0
        try:
            with zipfile.ZipFile(file) as archive:
                if self.name not in archive.namelist():
                    return
                about = archive.getinfo(self.name)
                with archive.open(about) as stream:
                    self._read_header(stream)
                    self.begin = stream.tell()
        except OSError:
            raise
        except Exception as error:  # a damaged file can fail anywhere in zipfile and NumPy
            raise self._damaged(error) from None
        self.ratio = about.file_size / max(about.compress_size, 1)
        size = len(self) * self.row_bytes
        if self.begin + size != about.file_size or self.row_bytes > MAX_CLIP_BYTES:
            raise ValueError(
                f"{self} has {about.file_size} bytes, which is not shape {self.shape}; copy it again"
            )

    def __str__(self) -> str:
        return f"{self.name} of {self.file}"

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    @property
    def width(self) -> int:
        """Numbers in the last dimension."""
        return self.shape[-1]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize

    def rows(self) -> Iterator[np.ndarray]:
        """Each row, in order; they are read in blocks."""
        if not len(self):
            return
        block = max(1, BLOCK_BYTES // max(self.row_bytes, 1))
        try:
            with zipfile.ZipFile(self.file) as archive, archive.open(self.name) as stream:
                stream.read(self.begin)
                for first in range(0, len(self), block):
                    count = min(block, len(self) - first)
                    values = np.frombuffer(stream.read(count * self.row_bytes), self.dtype)
                    yield from values.reshape(count, *self.shape[1:])
        except OSError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
            raise self._damaged(error) from None

    def _read_header(self, stream: IO[bytes]) -> None:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("it is not of version 1.0, which NumPy writes for numbers")
        self.shape, fortran, self.dtype = np.lib.format.read_array_header_1_0(stream)
        if self.dtype.kind not in "fiub" or (fortran and len(self.shape) > 1) or not self.shape:
            raise ValueError(f"it holds {self.dtype} {self.shape}; needed are rows of numbers in C order")

    def _damaged(self, error: Exception) -> ValueError:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return ValueError(f"{self} is no array of numbers in a .npz, or damaged ({reason}); copy it again")


def _tracks(row: np.ndarray, num_joint: int) -> np.ndarray:
    """Tracks (M, T', V, 3) float32 from a clip's rows (T, M * V * 3), without empty frames and bodies at the end.

    Raises:
        RecordingError: a coordinate is NaN or infinite, no frame has a body, or the unit is not metres.
    """
    poses = np.asarray(row, np.float32).reshape(len(row), -1, num_joint, NUM_CHANNEL)
    seen = bodies_there(poses)
    if not seen.any():
        raise RecordingError(None, "no frame has a body")
    num_frame, num_body = (int(place[-1]) + 1 for place in map(np.unique, np.nonzero(seen)))
    tracks = poses[:num_frame, :num_body].swapaxes(0, 1)
    if not np.isfinite(tracks).all():
        raise RecordingError(None, "a coordinate is NaN or infinite")
    refuse_other_units(tracks, "scale them, and write the file again")
    return tracks


def _label_of(row: np.ndarray, num_class: int) -> int:
    """The class of a one-hot row (K,); `NO_LABEL` for a row of zeros."""
    (classes,) = np.nonzero(row)
    if len(classes) == 0:
        return NO_LABEL
    if len(classes) > 1 or row[classes[0]] != 1 or classes[0] >= num_class:
        raise RecordingError(
            None, "its row of labels is not one-hot, or is of a class that --class_names does not name"
        )
    return int(classes[0])
