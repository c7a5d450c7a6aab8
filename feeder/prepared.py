"""The prepared file: all clips of a data set, of different lengths, in camera space, in one HDF5 file.

Shapes: N clips, R rows (body poses of all clips, end to end), T frames, V joints, M bodies, C channels.
Track m of clip i is rows `start[i] + m * num_frame[i]` up to `start[i] + (m + 1) * num_frame[i]`.
"""

import json
import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import h5py
import numpy as np

from net.utils.channels import CHANNELS
from net.utils.skeleton import Skeleton
from torchlight.files import naming, sync_folder

FORMAT_VERSION = 1
PARTS = ("train", "val")
PER_CLIP = ("start", "num_frame", "num_body", "label")
ROW_DTYPE = np.dtype("<f4")
COPY_BYTES = 16 << 20
NO_LABEL = -1
UNITS = ("m", "picture", "px")
# A larger number of classes is treated as a mistake.
MAX_CLASS = 10_000

IndexLists = Mapping[str, Mapping[str, Sequence[int] | np.ndarray]]


def refuse_existing(path: str | Path, *, overwrite: bool) -> None:
    """Raise FileExistsError if `path` exists and may not be replaced; commands call it before any work.

    Raises IsADirectoryError if `path` is a folder: a folder is never replaced.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; name the file to make")
    if not overwrite and Path(path).exists():
        raise FileExistsError(f"{path} exists and was kept; give --overwrite to replace it")


class PreparedWriter:
    """Writes a prepared file; it does not keep poses in memory.

    Rows first go to an unnamed file in the folder of `path`, so that an interrupted run leaves nothing behind.
    `finish` writes the HDF5 file under a temporary name and renames it. If anything fails, an earlier file at `path`
    stays as it was.

    Args:
        path: the file to write; its folder is created if needed.
        skeleton: layout of the V joints, stored whole in the file.
        class_names: one name per label; empty if no clip has a label.
        frame_rate: frames per second.
        bodies: how the bodies of a clip were chosen.
        source: where the clips came from.
        channels: one of `CHANNELS`: a letter for each of C, `c` for confidence.
        unit: of the coordinates, one of `UNITS`: metres, heights of the picture from its middle, or pixels.
        overwrite: replace an existing file.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        ValueError: no such channels or unit.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        skeleton: Skeleton,
        class_names: Sequence[str],
        frame_rate: float,
        bodies: str,
        source: str,
        channels: str = "xyz",
        unit: str = "m",
        overwrite: bool = False,
    ) -> None:
        refuse_existing(path, overwrite=overwrite)
        _check_channels(channels, unit)
        self.path = Path(path)
        self.skeleton = skeleton
        self.class_names = list(class_names)
        self.overwrite = overwrite
        self.channels = channels
        self._attrs: dict[str, Any] = {
            "frame_rate": float(frame_rate),
            "bodies": bodies,
            "source": source,
            "channels": channels,
            "unit": unit,
        }
        self._per_clip: dict[str, list[int]] = {field: [] for field in PER_CLIP}
        self._keys: dict[str, list[int]] = {}
        self._names: dict[str, None] = {}
        self._num_row = 0
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._spool = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 (closed by __exit__)

    def __len__(self) -> int:
        return len(self._names)

    def __enter__(self) -> "PreparedWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing flushes. On a full disk this fails again, and would hide the first error.
        with suppress(OSError):
            self._spool.close()

    def append(self, name: str, label: int, tracks: np.ndarray, **keys: int) -> None:
        """Add a clip.

        Args:
            name: unique name.
            label: class index, 0 to the number of class names - 1, or `NO_LABEL`.
            tracks: (M, T, V, C) positions, M and T 1 or more; zero where a body is absent.
            keys: whole numbers that define splits (subject, camera, ...); all clips must have the same keys.

        Raises:
            ValueError: an argument is not as above, or a value is NaN or infinite.
        """
        if name in self._names:
            raise ValueError(f"clip {name!r} was added before; names must be unique")
        if label != NO_LABEL and not 0 <= label < len(self.class_names):
            raise ValueError(
                f"clip {name!r}: label {label} is not one of 0 to {len(self.class_names) - 1}, or {NO_LABEL} for none"
            )
        num_joint = self.skeleton.num_joint
        if tracks.ndim != 4 or tracks.shape[2] != num_joint or 0 in tracks.shape:
            raise ValueError(
                f"clip {name!r}: tracks have shape {tracks.shape}; needed is (bodies, frames, "
                f"{num_joint} joints of layout {self.skeleton.name!r}, channels) with none of them 0"
            )
        num_body, num_frame, _, num_channel = tracks.shape
        if num_channel != len(self.channels):
            raise ValueError(f"clip {name!r}: {num_channel} channels; needed are {self.channels!r}")
        if self._names and keys.keys() != self._keys.keys():
            raise ValueError(
                f"clip {name!r}: keys {sorted(keys)}, but {sorted(self._keys)} in the clips before"
            )
        rows = np.ascontiguousarray(tracks, ROW_DTYPE)
        if not np.isfinite(rows).all():
            raise ValueError(
                f"clip {name!r}: a value is NaN, infinite or too large for float32; write 0 for an absent joint, or "
                "leave the clip out"
            )

        with naming(self.path):
            self._spool.write(rows.data)
        values = (self._num_row, num_frame, num_body, label)
        for field, value in zip(PER_CLIP, values, strict=True):
            self._per_clip[field].append(value)
        for key, value in keys.items():
            self._keys.setdefault(key, []).append(value)
        self._names[name] = None
        self._num_row += num_body * num_frame

    def finish(self, splits: IndexLists, attrs: Mapping[str, str | int | float] | None = None) -> None:
        """Write the file at `path`.

        Args:
            splits: benchmark -> {"train": clip indices, "val": clip indices}, counted in the order of `append`.
                A part may be empty; the two parts must not overlap.
            attrs: further attributes of the file.

        Raises:
            ValueError: no clip was added, or the splits are not as above.
            FileExistsError: another process wrote the file meanwhile, and `overwrite` is false.
            OSError: the file could not be written (disk full, ...).
        """
        if not self._names:
            raise ValueError(f"no clip to write into {self.path}")
        indices = {benchmark: _split_indices(benchmark, s, len(self)) for benchmark, s in splits.items()}
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with naming(self.path):
                offset = self._write_tables(temporary, indices, attrs or {})
                self._copy_rows(temporary, offset)
            refuse_existing(self.path, overwrite=self.overwrite)
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(self.path.parent)
        self._spool.close()

    def _write_tables(
        self,
        temporary: Path,
        indices: dict[str, dict[str, np.ndarray]],
        attrs: Mapping[str, str | int | float],
    ) -> int:
        """Write everything except the rows, but allocate their space; returns its offset in bytes."""
        names = [name.encode() for name in self._names]
        with h5py.File(temporary, "x") as file:
            shape = (self._num_row, self.skeleton.num_joint, len(self.channels))
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            layout.set_obj_track_times(False)
            space = h5py.h5s.create_simple(shape)
            joints = h5py.h5d.create(file.id, b"joints", h5py.h5t.IEEE_F32LE, space, dcpl=layout)
            for field, values in self._per_clip.items():
                file[field] = np.asarray(values, np.int64)
            file.create_dataset("name", data=names, dtype=h5py.string_dtype("utf-8", max(map(len, names))))
            for key, values in self._keys.items():
                file[f"keys/{key}"] = np.asarray(values, np.int64)
            for benchmark, parts in indices.items():
                for part, clips in parts.items():
                    file[f"splits/{benchmark}/{part}"] = clips
            file.attrs.update(
                {
                    **attrs,
                    **self._attrs,
                    "format_version": FORMAT_VERSION,
                    "layout": self.skeleton.name,
                    "skeleton": json.dumps(self.skeleton.to_dict()),
                    "class_names": json.dumps(self.class_names),
                    "num_class": len(self.class_names),
                    "num_clip": len(self),
                    "num_row": self._num_row,
                }
            )
            return joints.get_offset()

    def _copy_rows(self, temporary: Path, offset: int) -> None:
        """Write the rows without HDF5: so a full disk is an OSError, not a file that cannot be closed."""
        self._spool.seek(0)
        with temporary.open("r+b") as target:
            target.seek(offset)
            while block := self._spool.read(COPY_BYTES):
                target.write(block)
            target.flush()
            os.fsync(target.fileno())


class Rows(Protocol):
    """The interface of clips that are read as rows: a prepared file, or a folder of arrays."""

    @property
    def num_frame(self) -> np.ndarray:
        """(N,) T of each clip."""

    @property
    def num_body(self) -> np.ndarray:
        """(N,) M of each clip."""

    def read(self, clips: np.ndarray) -> np.ndarray:
        """Rows of `clips` (n,) end to end, (R, V, C)."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """An open prepared file. It pickles as its path, so that each worker maps the file itself.

    Attributes:
        path: absolute path.
        skeleton: layout of the V joints.
        class_names: one per label.
        frame_rate: frames per second.
        attrs: every attribute of the file, among them `bodies` and `source`.
        joints: (R, V, C) float32, memory-mapped, read-only.
        start, num_frame, num_body, label: (N,) int64; a label may be `NO_LABEL`.
        name: (N,) str.
        keys: whole numbers that define splits, each (N,) int64.
        splits: benchmark -> {"train", "val"} -> clip indices, int64.
    """

    path: Path
    skeleton: Skeleton
    class_names: list[str]
    frame_rate: float
    attrs: dict[str, Any]
    joints: np.ndarray
    start: np.ndarray
    num_frame: np.ndarray
    num_body: np.ndarray
    label: np.ndarray
    name: np.ndarray
    keys: dict[str, np.ndarray]
    splits: dict[str, dict[str, np.ndarray]]

    @property
    def layout(self) -> str:
        """Name of the skeleton's layout."""
        return self.skeleton.name

    @property
    def num_channel(self) -> int:
        """C, the number of channels."""
        return self.joints.shape[2]

    @property
    def channels(self) -> str:
        """A letter for each of C, one of `CHANNELS`; files without this attribute hold coordinates only."""
        return self.attrs.get("channels", "xyz"[: self.num_channel])

    @property
    def unit(self) -> str:
        """Unit of the coordinates, one of `UNITS`."""
        return self.attrs.get("unit", "m")

    def __len__(self) -> int:
        return len(self.start)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_prepared, (self.path,)

    def read(self, clips: np.ndarray) -> np.ndarray:
        """Rows of `clips` (n,) end to end: (sum of M_i * T_i, V, C) float32, a copy."""
        start = self.start[clips]
        size = self.num_frame[clips] * self.num_body[clips]
        rows = np.empty((int(size.sum()), *self.joints.shape[1:]), np.float32)
        end = np.cumsum(size)
        for source, target, length in zip(start.tolist(), (end - size).tolist(), size.tolist(), strict=True):
            rows[target : target + length] = self.joints[source : source + length]
        return rows


def tracks_of(source: Rows, clip: int) -> np.ndarray:
    """The tracks (M, T, V, C) of a clip, float32, a copy."""
    rows = source.read(np.array([clip]))
    return rows.reshape(int(source.num_body[clip]), int(source.num_frame[clip]), *rows.shape[1:])


def prepared_in_memory(
    tracks: Sequence[np.ndarray],
    names: Sequence[str],
    *,
    skeleton: Skeleton,
    class_names: Sequence[str],
    channels: str = "xyz",
) -> Prepared:
    """Unlabelled clips in memory as a `Prepared`, all in the part `val` of benchmark `all`.

    Args:
        tracks: (M, T, V, C) float32 of each clip; one clip or more.
        names: one per clip.
        skeleton: layout of the V joints.
        class_names: one per class.
        channels: a letter for each of C.
    """
    num_body, num_frame = np.array([each.shape[:2] for each in tracks], np.int64).T
    size = num_body * num_frame
    return Prepared(
        path=Path("memory"),
        skeleton=skeleton,
        class_names=list(class_names),
        frame_rate=float("nan"),
        attrs={"channels": channels},
        joints=np.concatenate([each.reshape(-1, *each.shape[2:]) for each in tracks]),
        start=np.cumsum(size) - size,
        num_frame=num_frame,
        num_body=num_body,
        label=np.zeros(len(size), np.int64),
        name=np.array(names),
        keys={},
        splits={"all": {"train": np.arange(0), "val": np.arange(len(size))}},
    )


def open_prepared(path: str | Path) -> Prepared:
    """Open a prepared file and check it.

    Raises:
        FileNotFoundError: no such file; the message names the commands that make one.
        ValueError: the file is not a prepared file, has another format version, or is damaged.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise FileNotFoundError(
            f"prepared data {path} not found. Make it with "
            f"`python data_gen/ntu_gen_preprocess.py --data_path DIR --out {path}` (NTU RGB+D), "
            "data_gen/pku_gen_preprocess.py (PKU-MMD), ucla_… (NW-UCLA), cmu_… (CMU motion capture), kinetics_… "
            "(Kinetics-skeleton), pyskl_… (.pkl of PYSKL or MMAction2), ctrgcn_… (.npz of CTR-GCN) or "
            "custom_gen_preprocess.py (your own clips); "
            "`make demo` makes and uses a synthetic set"
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"{path} is not a prepared file, or is cut short: {error}; prepare it again"
        ) from error
    with file:
        try:
            version = file.attrs.get("format_version")
            if version == FORMAT_VERSION:
                return _read_tables(path, file)
        except (KeyError, TypeError, AttributeError, ValueError, OSError, RuntimeError) as error:
            raise ValueError(f"{path} is damaged: {error}; prepare it again") from error
    raise ValueError(
        f"{path} has prepared-file format version {version}, this program reads {FORMAT_VERSION}; prepare it again"
    )


def _read_tables(path: Path, file: "h5py.File") -> Prepared:
    attrs = {
        key: value.item() if isinstance(value, np.generic) else value for key, value in file.attrs.items()
    }
    prepared = Prepared(
        path=path,
        skeleton=Skeleton.from_dict(json.loads(attrs["skeleton"])),
        class_names=json.loads(attrs["class_names"]),
        frame_rate=float(attrs["frame_rate"]),
        attrs=attrs,
        joints=_map_rows(path, file["joints"]),
        name=file["name"].asstr()[...].astype(str),
        keys={key: values[...] for key, values in file.get("keys", {}).items()},
        splits={
            benchmark: {part: clips[...] for part, clips in parts.items()}
            for benchmark, parts in file.get("splits", {}).items()
        },
        **{field: file[field][...] for field in PER_CLIP},
    )
    _check_tables(prepared)
    return prepared


def _map_rows(path: Path, joints: "h5py.Dataset") -> np.ndarray:
    offset = joints.id.get_offset()
    if joints.dtype != ROW_DTYPE or joints.ndim != 3 or offset is None:
        raise ValueError(
            f"joints are {joints.dtype} {joints.shape}, not contiguous float32 (rows, joints, channels)"
        )
    return np.asarray(np.memmap(path, ROW_DTYPE, "r", offset, joints.shape))


def _check_channels(channels: str, unit: str) -> None:
    for what, value, known in (("channels", channels, CHANNELS), ("unit", unit, UNITS)):
        if value not in known:
            raise ValueError(f"{what} {value!r} is not one of {', '.join(known)}")


def _check_tables(prepared: Prepared) -> None:
    num_row, num_joint, _ = prepared.joints.shape
    num_clip = len(prepared)
    columns = {field: getattr(prepared, field) for field in (*PER_CLIP, "name")} | prepared.keys
    for field, values in columns.items():
        if values.shape != (num_clip,):
            raise ValueError(f"{field} has shape {values.shape} for {num_clip} clips")
    if num_joint != prepared.skeleton.num_joint:
        raise ValueError(
            f"{num_joint} joints, but layout {prepared.layout!r} has {prepared.skeleton.num_joint}"
        )
    if prepared.frame_rate <= 0 or prepared.frame_rate == float("inf"):  # NaN: not known
        raise ValueError(f"frame_rate is {prepared.frame_rate}; it must be above 0")
    _check_channels(prepared.channels, prepared.unit)
    if "channels" in prepared.attrs and len(prepared.channels) != prepared.num_channel:
        raise ValueError(f"{prepared.num_channel} channels, but attribute channels is {prepared.channels!r}")
    end = prepared.start + prepared.num_frame * prepared.num_body
    bad = (prepared.start < 0) | (prepared.num_frame < 1) | (prepared.num_body < 1) | (end > num_row)
    if bad.any():
        raise ValueError(f"clip {str(prepared.name[bad][0])!r} lies outside the {num_row} rows")
    num_class = len(prepared.class_names)
    bad = (prepared.label < NO_LABEL) | (prepared.label >= num_class)
    if bad.any():
        clip = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"clip {str(prepared.name[clip])!r} has label {prepared.label[clip]} of {num_class} classes"
        )
    for benchmark, parts in prepared.splits.items():
        _split_indices(benchmark, parts, num_clip)


def _split_indices(
    benchmark: str, parts: Mapping[str, Sequence[int] | np.ndarray], num_clip: int
) -> dict[str, np.ndarray]:
    """The checked indices of both parts of a split, each (n,) int64."""
    if set(parts) != set(PARTS):
        raise ValueError(f"split {benchmark!r} has parts {sorted(parts)}; needed are {list(PARTS)}")
    indices = {part: np.asarray(parts[part], np.int64).reshape(-1) for part in PARTS}
    clips = np.concatenate(list(indices.values()))
    outside = clips[(clips < 0) | (clips >= num_clip)]
    if outside.size:
        raise ValueError(f"split {benchmark!r} names clip {outside[0]}; clips are 0 to {num_clip - 1}")
    clip, times = np.unique(clips, return_counts=True)
    if (times > 1).any():
        raise ValueError(f"split {benchmark!r} names clip {clip[times > 1][0]} more than once")
    return indices
