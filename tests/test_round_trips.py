"""Every format that is read: clips of a prepared file, written in it and read back, are the same to its precision.

The clips are of made-up people, the first of whom faces the camera.
"""

import csv
import itertools
import json
import pickle
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import scipy.io
import test_pose_files as forms
from raw_skeleton import to_text
from test_pose_arrays import write_mat73
from test_pose_files import HEIGHT, WIDTH, upright_and_not_mirrored

from data_gen import ctrgcn_gen_preprocess, kinetics_gen_preprocess, pyskl_gen_preprocess
from data_gen.performance import draw_subject, perform
from feeder.prepared import PreparedWriter
from feeder.recordings.files import FORMATS, JSON_KEYS, ReadOptions, Recorded, read_recordings
from feeder.recordings.mediapipe import DISTANCE, HIPS
from net.utils.layouts import get_skeleton

NTU = get_skeleton("ntu-rgb+d")
FOCUS = 525.0  # of the camera, pixels
ALONE, TOGETHER = 23, 58  # hand waving, handshaking
# Joints of other layouts: where NTU's body has them.
PLACES = {"nose": "head", "eye": "head", "ear": "head", "head": "head", "mouth": "neck", "upper neck": "neck"}
PLACES |= {
    "mid hip": "hip centre",
    "pelvis": "hip centre",
    "thorax": "shoulder centre",
    "pinky": "hand tip",
    "index": "hand tip",
    "thumb": "thumb",
}
PLACES |= {"heel": "ankle", "toe": "foot", "foot index": "foot"}


class Form(NamedTuple):
    """A format.

    layout: of the clips that are written.
    make: gives the recordings that were read of clips (M, T, V, C), which it writes into a folder.
    atol: of a coordinate, metres or heights of the picture.
    """

    layout: str
    make: Callable[[Path, Sequence[np.ndarray]], list[Recorded]]
    atol: float = 0.0


def place_of(joint: str) -> int:
    """NTU's joint that a joint of another layout is made of."""
    side = next((side for side in ("left", "right") if side in joint), "")
    if joint in NTU.joints:
        return NTU.joints.index(joint)
    place = PLACES[max((word for word in PLACES if word in joint), key=len)]
    sided = f"{side} {place}"
    return NTU.joints.index(sided if sided in NTU.joints else place)


@cache
def performed(layout: str, *, world: bool) -> list[np.ndarray]:
    """Clips (M, T, V, 3) in metres: one person who faces the camera; two, of whom the second leaves early.

    As in MediaPipe's world, the middle of the hips stays in one place where `world` is true; then all are alone.
    """
    generator = np.random.default_rng(0)
    actors = draw_subject(1, 0), draw_subject(2, 0)
    aside = 0.01 * generator.standard_normal((get_skeleton(layout).num_joint, 3))
    clips = []
    for action in (ALONE, TOGETHER):
        bodies = np.stack([body.position for body in perform(action, actors, generator)])
        left, right = (bodies[0, 0, NTU.joints.index(f"{side} shoulder")] for side in ("left", "right"))
        # Their left is on the picture's right, where x falls.
        across = (left - right)[[0, 2]] / np.linalg.norm((left - right)[[0, 2]]) * [-1, 1]
        if action == ALONE:
            turn = np.array([[across[0], 0, -across[1]], [0, 1, 0], [across[1], 0, across[0]]])
            bodies = bodies @ turn.T
        clip = bodies[:, :, [place_of(joint) for joint in get_skeleton(layout).joints]] + aside
        clip += np.array([0, -1, DISTANCE])
        if world:
            clip = clip[:1] - clip[:1, :, HIPS].mean(2, keepdims=True) + np.array([0, 0, DISTANCE])
        clip[1:, -9:] = 0
        clips.append(clip.astype(np.float32))
    return clips


def seen(clip: np.ndarray) -> np.ndarray:
    """A clip (M, T, V, 3) in the picture: places from its middle in its heights, and confidence; some joints are lost.

    The first body has the greater confidence.
    """
    generator = np.random.default_rng(1)
    there = clip.any(-1) & (generator.random(clip.shape[:3]) > 0.05)
    place = -clip[..., :2] / np.where(there, clip[..., 2], 1)[..., None] * FOCUS / HEIGHT
    confidence = generator.uniform(0.6, 0.9, clip.shape[:3]) - 0.3 * np.arange(len(clip))[:, None, None]
    flat = np.concatenate((place, confidence[..., None]), -1)
    return np.where(there[..., None], flat, 0).astype(np.float32)


def pixels(clip: np.ndarray) -> np.ndarray:
    """A clip in the picture with places in pixels from its corner; joints that were not seen are zeros."""
    places = clip.astype(np.float64)
    places[..., :2] = places[..., :2] * HEIGHT + [WIDTH / 2, HEIGHT / 2]
    return np.where(clip.any(-1, keepdims=True), places, 0)


def prepare(folder: Path, clips: Sequence[np.ndarray], layout: str, channels: str) -> Path:
    path = folder / "clips.h5"
    unit = "m" if channels == "xyz" else "picture"
    skeleton = get_skeleton(layout)
    with PreparedWriter(
        path,
        skeleton=skeleton,
        class_names=[],
        frame_rate=30,
        bodies="as given",
        source="made",
        channels=channels,
        unit=unit,
    ) as writer:
        for number, clip in enumerate(clips):
            writer.append(f"clip {number}", -1, clip)
        writer.finish({})
    return path


def read_prepared(path: Path) -> list[Recorded]:
    found = list(read_recordings("clips", path, ReadOptions(NTU), bodies="as given"))
    assert all(isinstance(each, Recorded) for each in found), found
    return found  # type: ignore[return-value]


def single(
    suffix: str, write: Callable[[Path, np.ndarray], object], layout: str = NTU.name, **options: object
) -> Callable[[Path, Sequence[np.ndarray]], list[Recorded]]:
    """Makes recordings of a file, or a folder, for each clip; `layout` is that of files that do not say."""

    def make(folder: Path, clips: Sequence[np.ndarray]) -> list[Recorded]:
        recorded = []
        for number, clip in enumerate(clips):
            path = folder / f"{number}{suffix}"
            write(path, clip)
            told = ReadOptions(get_skeleton(layout), **options)  # type: ignore[arg-type]
            (found,) = read_recordings(str(number), path, told, bodies="first")
            assert isinstance(found, Recorded), found
            recorded.append(found)
        return recorded

    return make


def save_csv(path: Path, clip: np.ndarray) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(clip.swapaxes(0, 1).reshape(clip.shape[1], -1).tolist())


def save_ucla(path: Path, clip: np.ndarray) -> None:
    content = {"file_name": "a01_s01_e00_v01", "skeletons": clip[0].tolist(), "label": 1}
    path.write_text(json.dumps(content))


def save_ntu(path: Path, clip: np.ndarray) -> None:
    frames = [
        [(str(number), body) for number, body in enumerate(bodies) if body.any()]
        for bodies in clip.swapaxes(0, 1)
    ]
    path.write_bytes(to_text(frames))


def save_pku(path: Path, clip: np.ndarray) -> None:
    both = np.zeros((2, *clip.shape[1:]))
    both[: len(clip)] = clip
    np.savetxt(path, both.swapaxes(0, 1).reshape(clip.shape[1], -1), fmt="%.6f")


def save_world(path: Path, clip: np.ndarray) -> None:
    np.save(path, (clip - [0, 0, DISTANCE]) * [-1, -1, 1])


def save_image(path: Path, clip: np.ndarray) -> None:
    """Shares of the picture, a depth that means nothing, visibility."""
    places = pixels(clip) / [WIDTH, HEIGHT, 1]
    np.save(path, np.insert(places, 2, np.where(clip.any(-1), 0.1, 0), -1))


def save_form(form: Callable[[np.ndarray], object]) -> Callable[[Path, np.ndarray], object]:
    """Writes what a pose estimator's results are, see `test_pose_files`."""
    return lambda path, clip: forms.write(path, form(pixels(clip)))


def command(main: Callable[[list[str]], int], data_path: Path, folder: Path, *options: str) -> list[Recorded]:
    out = folder / "made.h5"
    assert main(["--data_path", str(data_path), "--out", str(out), "--num_worker", "1", *options]) == 0
    return read_prepared(out)


def pyskl(folder: Path, clips: Sequence[np.ndarray], *, plane: bool = False) -> list[Recorded]:
    """Numbers of 16 bits, as in PYSKL's own files."""
    annotations = []
    for number, clip in enumerate(clips):
        poses = (pixels(clip) if plane else clip).astype(np.float16)
        flat = {"keypoint_score": poses[..., 2], "img_shape": (HEIGHT, WIDTH)} if plane else {}
        keypoint = poses[..., : 2 if plane else 3]
        annotations.append({"frame_dir": str(number), "label": 0, "keypoint": keypoint, **flat})
    (folder / "a.pkl").write_bytes(pickle.dumps(annotations))
    return command(pyskl_gen_preprocess.main, folder / "a.pkl", folder)


def ctrgcn(folder: Path, clips: Sequence[np.ndarray]) -> list[Recorded]:
    rows = np.zeros((len(clips), max(clip.shape[1] for clip in clips), 2, NTU.num_joint, 3), np.float32)
    for row, clip in zip(rows, clips, strict=True):
        row[: clip.shape[1], : len(clip)] = clip.swapaxes(0, 1)
    arrays = {"x_train": rows.reshape(*rows.shape[:2], -1), "y_train": np.eye(2)[[0] * len(clips)]}
    np.savez_compressed(folder / "a.npz", **arrays)
    return command(ctrgcn_gen_preprocess.main, folder / "a.npz", folder)


def kinetics(folder: Path, clips: Sequence[np.ndarray]) -> list[Recorded]:
    """Such files do not say how wide the picture is: theirs is 1 x 1."""
    (folder / "kinetics_train").mkdir()
    about = {"has_skeleton": True, "label": "wave", "label_index": 0}
    for number, clip in enumerate(clips):
        forms.write(folder / "kinetics_train" / f"{number}.json", forms.kinetics(pixels(clip)))
    forms.write(folder / "kinetics_train_label.json", {str(number): about for number in range(len(clips))})
    wide = np.array([WIDTH / HEIGHT, 1, 1], np.float32)
    found = command(kinetics_gen_preprocess.main, folder, folder)
    return [each._replace(tracks=each.tracks * wide) for each in found]


PICTURE = {"picture": (WIDTH, HEIGHT), "max_gap": 0}
SPACE = {
    "prepared": Form(NTU.name, lambda folder, clips: read_prepared(prepare(folder, clips, NTU.name, "xyz"))),
    "npy": Form(NTU.name, single(".npy", np.save)),
    "npz": Form(NTU.name, single(".npz", lambda path, clip: np.savez(path, poses=clip))),
    "mat": Form(NTU.name, single(".mat", lambda path, clip: scipy.io.savemat(path, {"poses": clip}))),
    "mat 7.3": Form(NTU.name, single(".mat", lambda path, clip: write_mat73(path, poses=clip))),
    "csv": Form(NTU.name, single(".csv", save_csv)),
    "json": Form(NTU.name, single(".json", lambda path, clip: forms.write(path, clip.tolist()))),
    "h36m npy": Form("h36m", single(".npy", np.save, "h36m")),
    "nw-ucla": Form("kinect-v1", single(".json", save_ucla)),
    "ntu": Form(NTU.name, single(".skeleton", save_ntu, "coco"), 1e-6),
    "pku": Form(NTU.name, single(".txt", save_pku, "coco"), 1e-6),
    "mediapipe": Form("mediapipe", single(".npy", save_world), 1e-6),
    "pyskl": Form(NTU.name, pyskl, 2e-3),
    "ctr-gcn": Form(NTU.name, ctrgcn),
}
PLANE = {
    "prepared": Form("coco", lambda folder, clips: read_prepared(prepare(folder, clips, "coco", "xyc"))),
    "npy": Form(
        "coco",
        single(".npy", lambda path, clip: np.save(path, pixels(clip)), "coco", channels="xyc", **PICTURE),
        1e-6,
    ),
    "mediapipe": Form("mediapipe", single(".npy", save_image, **PICTURE), 1e-6),
    "pyskl": Form("coco", partial(pyskl, plane=True), 1e-3),
    "kinetics": Form("openpose", kinetics, 1e-6),
}
PLANE |= {
    f"{form.__name__} {layout}": Form(
        layout,
        single("", lambda path, clip: forms.openpose_folder(path, pixels(clip)), **PICTURE)
        if form is forms.openpose_folder
        else single(".json", save_form(form), **PICTURE),
        1e-6,
    )
    for form, layout in forms.FORMS
}


def assert_same(found: np.ndarray, clip: np.ndarray, atol: float) -> None:
    """Equal tracks (M, T, V, C), whatever the order of bodies."""
    assert found.shape == clip.shape
    orders = itertools.permutations(range(len(clip)))
    best = min(orders, key=lambda order: float(np.abs(found[list(order)] - clip).max()))
    np.testing.assert_allclose(found[list(best)], clip, rtol=0, atol=atol)


def check(
    folder: Path,
    layout: str,
    channels: str,
    clips: Sequence[np.ndarray],
    make: Callable[[Path, Sequence[np.ndarray]], list[Recorded]],
    atol: float,
) -> None:
    """Clips of a prepared file are those read back, and the person who faces the camera stands upright."""
    (folder / "from").mkdir()
    (folder / "to").mkdir()
    given = [each.tracks for each in read_prepared(prepare(folder / "from", clips, layout, channels))]
    found = make(folder / "to", given)
    assert len(found) == len(given) and max(len(each.tracks) for each in found) == max(map(len, given))
    for each, clip in zip(found, given, strict=True):
        assert each.channels == channels and each.skeleton in (None, get_skeleton(layout))
        assert_same(each.tracks, clip, atol)
    upright_and_not_mirrored(found[0]._replace(skeleton=get_skeleton(layout)))


@pytest.mark.parametrize("name", SPACE)
def test_in_space(tmp_path: Path, name: str) -> None:
    layout, make, atol = SPACE[name]
    clips = performed(layout, world=layout == "mediapipe")
    if layout == "kinect-v1":  # one body a file
        clips = [clip[:1] for clip in clips]
    check(tmp_path, layout, "xyz", clips, make, atol)


@pytest.mark.parametrize("name", PLANE)
def test_in_the_picture(tmp_path: Path, name: str) -> None:
    layout, make, atol = PLANE[name]
    check(tmp_path, layout, "xyc", list(map(seen, performed(layout, world=False))), make, atol)


def test_no_format_is_left_out() -> None:
    """A suffix, or a form of JSON, that is new asks for a row above."""
    assert set(FORMATS) == {".npy", ".npz", ".mat", ".csv", ".json", ".skeleton", ".txt"}
    assert set(JSON_KEYS) == {"skeletons", "people", "data"}
