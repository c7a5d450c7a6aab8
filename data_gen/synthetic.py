"""Makes raw skeleton files of synthetic people seen by synthetic depth cameras, in the format of NTU RGB+D.

    python data_gen/synthetic.py --out data/demo_raw
    python data_gen/ntu_gen_preprocess.py --data_path data/demo_raw --out data/demo.h5
    python data_gen/synthetic.py --out data/demo_recording.skeleton --action 23

Three cameras see every performance. Names are as in NTU RGB+D (SsssCcccPpppRrrrAaaa), with its numbers of actions and
of the training performers in xsub. The files depend on the seed, not on the number of processes. `--action` makes one
recording by the middle camera, of a person who is in no data set.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np
from tqdm import tqdm

from data_gen.actions import ACTIONS
from data_gen.kinematics import NODE, SIDES, SKELETON, Body, rotation
from data_gen.parallel import ordered_map
from data_gen.performance import draw_subject, perform
from data_gen.report import run_command
from torchlight.files import naming

MARK = "synthetic.json"
NUM_CAMERA = 3
MIDDLE_CAMERA = 2
NUM_SETUP = 17
NUM_PERFORMER = 40
LIMITS = {
    "num_subject": (3, NUM_PERFORMER),
    "num_action": (2, len(ACTIONS)),
    "num_replication": (1, 999),
    "seed": (0, 2**63 - 1),
    "num_worker": (1, 1024),
}

# Depth and colour pictures of a Kinect v2: focal length and centre, pixels.
_DEPTH_PICTURE = (366.5, (256.0, 208.5))
_COLOUR_PICTURE = (1057.0, (975.0, 567.0))
_INFERRED, _TRACKED = 1, 2
# Noise of a joint, relative to that of the trunk.
_UNSTEADY = {"wrist": 1.4, "hand": 2.0, "hand tip": 2.8, "thumb": 2.8, "ankle": 1.5, "foot": 2.2}
_JITTER = (
    np.array([_UNSTEADY.get(joint.partition(" ")[2], 1.0) for joint in SKELETON.joints]) * 0.005
)  # metres
# Groups of joints that the sensor loses together.
_LIMBS = [
    [NODE[f"{side} {joint}"] for joint in joints]
    for side in SIDES
    for joints in (
        ("wrist", "hand", "hand tip", "thumb"),
        ("knee", "ankle", "foot"),
        ("elbow", "wrist", "hand"),
    )
]
# Body id, lean to two sides, and 12 values per joint.
_BODY_TEXT = "%d 0 1 1 1 1 0 %.7g %.7g 2\n25\n" + ("%.7g " * 11 + "%d\n") * SKELETON.num_joint


class Take(NamedTuple):
    """One performance: performer, partner, number of the repetition, action."""

    performer: int
    partner: int
    replication: int
    action: int


class Track(NamedTuple):
    """One body in T frames of a camera, in camera space.

    position (T, 25, 3) metres, orientation (T, 25, 3, 3), state (T, 25), seen (T,) bool, body_id (T,).
    """

    position: np.ndarray
    orientation: np.ndarray
    state: np.ndarray
    seen: np.ndarray
    body_id: np.ndarray


def takes(num_subject: int, num_replication: int, num_action: int = len(ACTIONS)) -> list[Take]:
    """Takes of the first `num_action` actions by each performer, `num_replication` times; the next one is partner."""
    return [
        Take(performer, performer % num_subject + 1, replication, action)
        for performer in range(1, num_subject + 1)
        for replication in range(1, num_replication + 1)
        for action in list(ACTIONS)[:num_action]
    ]


def film(take: Take, seed: int) -> dict[str, str]:
    """The files of all cameras for one performance: name -> text."""
    generator = np.random.default_rng([seed, 2, take.performer, take.replication, take.action])
    actors = draw_subject(take.performer, seed), draw_subject(take.partner, seed)
    bodies = perform(take.action, actors, generator)
    setup = 1 + (take.performer - 1) % NUM_SETUP
    ending = f"P{take.performer:03d}R{take.replication:03d}A{take.action:03d}.skeleton"
    files = {}
    for camera in range(1, NUM_CAMERA + 1):
        turn, shift = _camera(setup, camera, seed)
        views = [Body(body.position @ turn.T + shift, turn @ body.orientation) for body in bodies]
        tracks = _confuse([_sense(view, generator) for view in views], generator)
        files[f"S{setup:03d}C{camera:03d}{ending}"] = _write_text(tracks, generator)
    return files


def _camera(setup: int, camera: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and shift (3,) from world to camera space, for a camera at about -45, 0 or 45 degrees."""
    generator = np.random.default_rng([seed, 3, setup, camera])
    aside = np.deg2rad((camera - MIDDLE_CAMERA) * 45 + generator.uniform(-7, 7))
    distance, height = generator.uniform(2.7, 3.8), generator.uniform(0.8, 1.6)
    # The tilt puts the point 1 m above the floor in the middle of the picture.
    turn = rotation(0, np.arctan2(height - 1.0, distance)) @ rotation(1, aside)
    return turn, np.array([0.0, 0.0, distance]) - turn @ np.array([0.0, 1.0, 0.0])


def _sense(body: Body, generator: np.random.Generator) -> Track:
    """A body as the sensor measures it: with jitter and drift, larger for hidden joints, and sometimes a lost limb."""
    num_frame, num_joint, _ = body.position.shape
    behind = body.position[..., 2] - body.position[:, [NODE["spine"]], 2]
    hidden = 1 / (1 + np.exp(-(behind - 0.12) / 0.03))  # (T, V), from 0 in sight to 1 behind the trunk

    moment = np.arange(num_frame) / 10
    knot, way = moment.astype(int), (moment % 1)[:, None, None]
    wander = generator.standard_normal((knot[-1] + 2, num_joint, 3))
    drift = wander[knot] * (1 - way) + wander[knot + 1] * way
    size = (_JITTER * (1 + 1.5 * hidden))[..., None]
    noise = size * (generator.standard_normal(drift.shape) + 1.5 * drift)

    state = np.where(hidden > 0.5, _INFERRED, _TRACKED)
    for _ in range(generator.poisson(0.6)):
        limb = _LIMBS[generator.integers(len(_LIMBS))]
        begin, length = generator.integers(num_frame), generator.integers(5, 20)
        astray = np.s_[begin : begin + length, limb]
        noise[astray] += generator.normal(0, 0.12, size=3)
        state[astray] = _INFERRED
    body_id = np.full(num_frame, _draw_id(generator))
    return Track(body.position + noise, body.orientation, state, np.ones(num_frame, bool), body_id)


def _confuse(tracks: list[Track], generator: np.random.Generator) -> list[Track]:
    """Tracks with errors of the sensor, each with some probability: a lost body, a false body, another order."""
    num_frame = len(tracks[0].seen)
    if generator.random() < 0.2:
        lost = tracks[generator.integers(len(tracks))]
        begin = int(generator.integers(1, num_frame - 8))
        end = begin + int(generator.integers(1, 7))
        lost.seen[begin:end] = False
        if generator.random() < 0.5:
            lost.body_id[end:] = _draw_id(generator)
    if generator.random() < 0.08:
        tracks = [*tracks, _furniture(tracks[0], generator)]
    return tracks[::-1] if generator.random() < 0.3 else tracks


def _furniture(body: Track, generator: np.random.Generator) -> Track:
    """A false body, like a chair, in some frames: one pose of a real body, squashed, shifted and with noise."""
    num_frame = len(body.seen)
    frame = generator.integers(num_frame)
    shape = (body.position[frame] - body.position[frame, 0]) * generator.uniform(
        [0.4, 0.3, 0.1], [1.3, 0.7, 0.6]
    )
    aside = generator.uniform([0.6, -0.6, 0.0], [1.3, -0.1, 1.0]) * [generator.choice([-1, 1]), 1, 1]
    tremble = generator.normal(0, 0.015, size=body.position.shape)
    begin, end = np.sort(generator.integers(0, num_frame - 8, size=2))
    seen = np.zeros(num_frame, bool)
    seen[begin : end + 8] = True
    return Track(
        body.position[frame, 0] + shape + aside + tremble,
        np.broadcast_to(body.orientation[frame], body.orientation.shape),
        np.full_like(body.state, _INFERRED),
        seen,
        np.full(num_frame, _draw_id(generator)),
    )


def _draw_id(generator: np.random.Generator) -> int:
    return 72057594037900000 + int(generator.integers(1, 99999))


def _write_text(tracks: list[Track], generator: np.random.Generator) -> str:
    """The text of a file in the format of NTU RGB+D."""
    num_frame = len(tracks[0].seen)
    num_body = np.sum([track.seen for track in tracks], axis=0)
    frames = [[f"{count}\n"] for count in num_body.tolist()]
    for track in tracks:
        values = np.concatenate(
            [
                track.position,
                _pixels(track.position, *_DEPTH_PICTURE),
                _pixels(track.position, *_COLOUR_PICTURE),
                _quaternions(track.orientation),
                track.state[..., None],
            ],
            axis=-1,
        ).reshape(num_frame, -1)  # (T, 25 * 12)
        lean = generator.uniform(-0.3, 0.3, size=2).tolist()
        for frame in np.flatnonzero(track.seen):
            frames[frame].append(_BODY_TEXT % (track.body_id[frame], *lean, *values[frame].tolist()))
    return f"{num_frame}\n" + "".join(text for frame in frames for text in frame)


def _pixels(position: np.ndarray, focal: float, centre: tuple[float, float]) -> np.ndarray:
    """Pixels (..., 2) of points (..., 3) in a picture, from its upper left corner."""
    return np.array(centre) + focal * np.array([1.0, -1.0]) * position[..., :2] / position[..., 2:]


def _quaternions(matrix: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4), w first, of rotations (..., 3, 3)."""
    x, y, z = matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 2, 2]
    squares = np.stack([1 + x + y + z, 1 + x - y - z, 1 - x + y - z, 1 - x - y + z], axis=-1)
    quaternion = np.sqrt(np.maximum(squares, 0)) / 2
    for k, (i, j) in enumerate(((2, 1), (0, 2), (1, 0)), start=1):
        quaternion[..., k] = np.copysign(quaternion[..., k], matrix[..., i, j] - matrix[..., j, i])
    return quaternion


def make(
    out: Path,
    *,
    num_subject: int,
    num_replication: int,
    num_action: int = len(ACTIONS),
    seed: int,
    num_worker: int,
    overwrite: bool,
) -> tuple[int, int]:
    """Make a data set; the folder `out` appears only when it is complete. Returns the numbers of files and of frames.

    Raises:
        FileExistsError: `out` is not empty, and is not a synthetic data set that may be replaced.
    """
    _refuse_existing(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        todo = takes(num_subject, num_replication, num_action)
        with (
            naming(out),
            closing(ordered_map(partial(_film_into, folder, seed), todo, num_worker=num_worker)) as done,
        ):
            frames = list(tqdm(done, total=len(todo), unit="take", disable=None))
            mark = {
                "seed": seed,
                "num_subject": num_subject,
                "num_replication": num_replication,
                "num_action": num_action,
            }
            (folder / MARK).write_text(json.dumps(mark) + "\n", encoding="ascii")
            folder.chmod(0o755)
            _put_in_place(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return len(todo) * NUM_CAMERA, sum(frames)


def _film_into(folder: Path, seed: int, take: Take) -> int:
    """Write the files of one performance; returns their number of frames."""
    files = film(take, seed)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="ascii", newline="\n")
    return sum(int(text.partition("\n")[0]) for text in files.values())


def _refuse_existing(out: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError unless `out` may be replaced; only folders of this command may: others may be real data."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MARK).is_file():
        raise FileExistsError(
            f"{out} exists and is not a synthetic data set ({MARK} is not in it); give another --out"
        )
    if not overwrite:
        raise FileExistsError(f"{out} exists and was kept; give --overwrite to replace it")


def _put_in_place(folder: Path, out: Path) -> None:
    """Rename `folder` to `out`, and delete what was there."""
    # Windows cannot rename over a folder, not even an empty one.
    if not (out / MARK).exists():
        if out.exists():
            out.rmdir()
        os.replace(folder, out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
    os.replace(out, old / out.name)
    os.replace(folder, out)
    shutil.rmtree(old)


def record(out: Path, *, action: int, seed: int, overwrite: bool) -> int:
    """Write one recording of an action by the middle camera; returns its number of frames.

    The person is in no data set of this seed.

    Raises:
        FileExistsError: `out` exists.
    """
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists and was kept; give --overwrite to replace it")
    stranger = NUM_PERFORMER + 1
    files = film(Take(stranger, stranger + 1, 1, action), seed)
    (text,) = (text for name, text in files.items() if f"C{MIDDLE_CAMERA:03d}" in name)
    out.parent.mkdir(parents=True, exist_ok=True)
    with naming(out):
        out.write_text(text, encoding="ascii", newline="\n")
    return int(text.partition("\n")[0])


def run(
    out: Path,
    *,
    action: int | None,
    num_subject: int,
    num_action: int,
    seed: int,
    overwrite: bool,
    **options: Any,
) -> int:
    """Run `make` or `record` and print a summary; returns the exit status."""
    if action is not None:
        num_frame = record(out, action=action, seed=seed, overwrite=overwrite)
        print(f"{out}: {num_frame} frames of a person who is in no data set of seed {seed}")
        return 0
    num_file, num_frame = make(
        out, num_subject=num_subject, num_action=num_action, seed=seed, overwrite=overwrite, **options
    )
    print(
        f"{out}: {num_file} clips of {num_action} actions by {num_subject} performers, "
        f"{num_frame / num_file:.0f} frames each on average"
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make; with --action a file")
    parser.add_argument(
        "--action",
        type=int,
        choices=ACTIONS,
        metavar="N",
        help="make one recording of this action, by NTU's number: %(choices)s",
    )
    parser.add_argument(
        "--num_subject", type=int, default=20, help="performers, 3 to 40 (default %(default)s)"
    )
    parser.add_argument(
        "--num_action",
        type=int,
        default=len(ACTIONS),
        help=f"actions, the first of {len(ACTIONS)} (default %(default)s)",
    )
    parser.add_argument(
        "--num_replication",
        type=int,
        default=1,
        help="repetitions of each action per performer (default %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the people and their movements (default %(default)s)"
    )
    parser.add_argument(
        "--num_worker", type=int, default=os.cpu_count() or 1, help="processes (default %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what this command made before")
    args = parser.parse_args(argv)
    for option, (low, high) in LIMITS.items():
        if not low <= getattr(args, option) <= high:
            parser.error(f"--{option} {getattr(args, option)}: give {low} to {high}")
    return run_command(partial(run, **vars(args)))


if __name__ == "__main__":
    sys.exit(main())
