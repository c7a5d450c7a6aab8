"""Exports one benchmark of a prepared file as arrays for other projects.

    python data_gen/export_numpy.py --data data/ntu60.h5 --benchmark xsub --format aimclr --out data/ntu60_frame50

Formats, with N clips, 2 bodies, V joints, for the parts train and val:

    as_gcn     OUT/BENCHMARK/<part>_data_joint_pad.npy (N, 3, 300, V, 2), centred, rotated upright, padded to 300
               frames by repeating each body; <part>_label.pkl
    aimclr     OUT/BENCHMARK/<part>_position.npy (N, 3, 50, V, 2), relative to the centre joint, rotated to face
               the camera; <part>_motion.npy, next frame minus this one; both resized; <part>_label.pkl
    ctr_gcn    OUT/BENCHMARK.npz: x_train, x_test (N, 300, 2 * V * 3), relative to the spine in the first frame,
               padded with zeros; y_train, y_test one-hot

For the same arrays as from these projects' own commands on NTU RGB+D, prepare it with --bodies energy (as_gcn), first
(aimclr) or denoise (ctr_gcn).
"""

import argparse
import os
import pickle
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np
import torch
from tqdm import tqdm

from data_gen.report import run_command
from feeder.prepared import PARTS, Prepared, open_prepared, refuse_existing
from feeder.ragged import RaggedBatch
from feeder.views import View
from torchlight.build import nearest
from torchlight.files import naming

NUM_BODY = 2
NUM_CHANNEL = 3
LONG = 300  # frames
SHORT = 50
BATCH_SIZE = 64


class Array(NamedTuple):
    """How to make an array from a batch: a change of the rows, then a view."""

    change: Callable[[RaggedBatch], RaggedBatch]
    num_frame: int
    sampling: dict[str, dict[str, int | str]]
    normalise: str


def unchanged(batch: RaggedBatch) -> RaggedBatch:
    """The batch as it is."""
    return batch


def fill_bodies(batch: RaggedBatch) -> RaggedBatch:
    """Each body repeated, separately, to `LONG` frames, as in AS-GCN (Li et al., CVPR 2019).

    A body that comes late is moved to the first frame, without its empty frames. A body that leaves early begins
    again at that point. If all bodies are seen from the first to the last frame, this is `sampling.Pad`.
    """
    clip, body = batch.tracks(int(batch.num_body.max()))
    rows = batch.rows.new_zeros(len(clip), LONG, *batch.rows.shape[1:])
    first = (batch.start[clip] + body * batch.num_frame[clip]).tolist()
    for target, start, length in zip(rows, first, batch.num_frame[clip].tolist(), strict=True):
        track = batch.rows[start : start + length][:LONG]
        seen = track.flatten(1).any(1)
        if not seen.any():
            continue
        track = track[: int(seen.nonzero()[-1]) + 1] if seen[0] else track[seen]
        target.copy_(track[torch.arange(LONG) % len(track)])
    num_track = batch.num_body.cumsum(0) - batch.num_body
    return RaggedBatch(
        rows.flatten(0, 1), num_track * LONG, torch.full_like(batch.num_frame, LONG), batch.num_body
    )


# Format -> what follows <part>_ in a file's name -> array.
ARRAYS: dict[str, dict[str, Array]] = {
    "as_gcn": {
        "data_joint_pad": Array(fill_bodies, LONG, {"Pad": {"num_frame": LONG}}, "align_torso"),
    },
    "aimclr": {
        "position": Array(unchanged, SHORT, {"Resize": {"num_frame": SHORT}}, "align_shoulders"),
        "motion": Array(RaggedBatch.displacement, SHORT, {"Resize": {"num_frame": SHORT}}, "none"),
    },
}
NPZ_ARRAY = Array(unchanged, LONG, {"Pad": {"num_frame": LONG, "mode": "zero"}}, "center_first_frame")
NPZ_PARTS = dict(zip(PARTS, ("train", "test"), strict=True))
FORMATS = (*ARRAYS, "ctr_gcn")


def batches(source: Prepared, clips: np.ndarray, array: Array) -> Iterator[np.ndarray]:
    """Arrays (n, C, T, V, M) float32 of at most `BATCH_SIZE` clips each, in the order of `clips`."""
    view = View(source.skeleton, num_body=NUM_BODY, sampling=[array.sampling], normalise=array.normalise)
    generator = torch.Generator()
    for first in range(0, len(clips), BATCH_SIZE):
        some = clips[first : first + BATCH_SIZE]
        num_frame, num_body = (torch.from_numpy(table[some]) for table in (source.num_frame, source.num_body))
        size = num_frame * num_body
        rows = torch.from_numpy(source.read(some))
        batch = array.change(RaggedBatch(rows, size.cumsum(0) - size, num_frame, num_body))
        yield view(batch, generator).numpy()


def write_array(file: IO[bytes], shape: tuple[int, ...], blocks: Iterator[np.ndarray]) -> None:
    """Write a float32 array of `shape` in npy format, from blocks along its first axis.

    It writes a stream, not a memory-mapped file, so that a full disk raises an OSError.
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(np.ascontiguousarray(block, "<f4").data)


@contextmanager
def replacing(paths: Sequence[Path], *, overwrite: bool) -> Iterator[list[Path]]:
    """Temporary paths for files, which are renamed when all are written, or deleted if something fails.

    Raises:
        FileExistsError: one of `paths` exists, and `overwrite` is false.
    """
    for path in paths:
        refuse_existing(path, overwrite=overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = [path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp") for path in paths]
    try:
        with naming(paths[0] if len(paths) == 1 else paths[0].parent):
            yield temporary
            for source, path in zip(temporary, paths, strict=True):
                with source.open("r+b") as file:  # Windows cannot sync a file opened for reading
                    os.fsync(file.fileno())
                os.replace(source, path)
    finally:
        for source in temporary:
            source.unlink(missing_ok=True)


def export_arrays(
    source: Prepared, benchmark: str, arrays: dict[str, Array], out: Path, *, overwrite: bool
) -> list[Path]:
    """Write `<part>_<kind>.npy` of each kind, and `<part>_label.pkl` (names, labels); returns the files."""
    paths = [out / benchmark / f"{part}_{kind}.npy" for part in PARTS for kind in arrays]
    paths += [out / benchmark / f"{part}_label.pkl" for part in PARTS]
    with replacing(paths, overwrite=overwrite) as temporary:
        files = iter(temporary)
        for part in PARTS:
            clips = source.splits[benchmark][part]
            for kind, array in arrays.items():
                shape = (len(clips), NUM_CHANNEL, array.num_frame, source.skeleton.num_joint, NUM_BODY)
                blocks = progress(batches(source, clips, array), len(clips), f"{part}_{kind}")
                with next(files).open("wb") as file:
                    write_array(file, shape, blocks)
        for part in PARTS:
            clips = source.splits[benchmark][part]
            with next(files).open("wb") as file:
                pickle.dump((source.name[clips].tolist(), source.label[clips].tolist()), file)
    return paths


def export_npz(source: Prepared, benchmark: str, out: Path, *, overwrite: bool) -> list[Path]:
    """Write `<benchmark>.npz`, which CTR-GCN (Chen et al., ICCV 2021) reads; returns the file."""
    path = out / f"{benchmark}.npz"
    width = NUM_BODY * source.skeleton.num_joint * NUM_CHANNEL
    num_class = len(source.class_names)
    with replacing([path], overwrite=overwrite) as (temporary,), zipfile.ZipFile(temporary, "x") as archive:
        for part, name in NPZ_PARTS.items():
            clips = source.splits[benchmark][part]
            blocks = progress(batches(source, clips, NPZ_ARRAY), len(clips), f"x_{name}")
            with archive.open(f"x_{name}.npy", "w", force_zip64=True) as file:
                rows = (x.transpose(0, 2, 4, 3, 1).reshape(len(x), LONG, width) for x in blocks)
                write_array(file, (len(clips), LONG, width), rows)
            with archive.open(f"y_{name}.npy", "w", force_zip64=True) as file:
                one_hot = np.eye(num_class, dtype=np.float32)[source.label[clips]]
                write_array(file, one_hot.shape, iter([one_hot]))
    return [path]


def progress(blocks: Iterator[np.ndarray], num_clip: int, what: str) -> Iterator[np.ndarray]:
    """The blocks, with a progress bar that counts clips."""
    with tqdm(total=num_clip, desc=what, unit="clip", disable=None) as bar:
        for block in blocks:
            yield block
            bar.update(len(block))


def export(args: argparse.Namespace) -> int:
    """The command; returns its exit status."""
    source = open_prepared(args.data)
    if args.benchmark not in source.splits:
        raise ValueError(
            f"{args.data} has no --benchmark {args.benchmark!r}; {nearest(args.benchmark, source.splits)}"
        )
    if source.joints.shape[-1] != NUM_CHANNEL:
        raise ValueError(f"{args.data} has {source.joints.shape[-1]} channels; these formats hold x, y, z")
    if args.format in ARRAYS:
        paths = export_arrays(source, args.benchmark, ARRAYS[args.format], args.out, overwrite=args.overwrite)
    else:
        paths = export_npz(source, args.benchmark, args.out, overwrite=args.overwrite)
    for part in PARTS:
        print(f"{args.benchmark} {part}: {len(source.splits[args.benchmark][part]):,} clips")
    for path in paths:
        print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="prepared file")
    parser.add_argument("--benchmark", required=True, help="one of the file's splits, such as xsub")
    parser.add_argument("--format", choices=FORMATS, required=True, help="project to write for")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the arrays")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    args = parser.parse_args(argv)
    return run_command(lambda: export(args))


if __name__ == "__main__":
    sys.exit(main())
