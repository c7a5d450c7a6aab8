"""Poses of videos and cameras: what the tool writes is what the readers read; with MediaPipe itself where it is."""

import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_pose_files import HEIGHT, NTU, WIDTH, T, landmarks, lines, read, standing, upright_and_not_mirrored
from test_published_weights import STAGE2, published

from conftest import full_disk
from feeder.recordings.other_layout import with_layout
from feeder.recordings.recording import Recording
from net.utils.layouts import get_skeleton
from tools import infer, poses_from_video

ROOT = Path(__file__).resolve().parents[1]
COCO = get_skeleton("coco")
EMPTY = 3  # a frame in which the stand-in sees nobody
VIDEO = "formats/S001C001P001R001A001_rgb.avi"
RECORDING = "ntu_raw/S001C001P001R001A001.skeleton"
# Joints of Kinect that MediaPipe has, too, and the head, which is the middle of its ears.
SAME = [
    NTU.joints.index(f"{side} {part}")
    for side in ("left", "right")
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
] + [NTU.joints.index("head")]


def in_picture() -> np.ndarray:
    """(T, 33, 4) of MediaPipe: the same people as shares of the picture."""
    place = standing("mediapipe")
    shares = np.stack(
        (0.5 + place[:, 0] / 4, 0.9 - place[:, 1] / 3, 0 * place[:, 0], 0 * place[:, 0] + 0.7), 1
    )
    return np.tile(shares, (T, 1, 1)).astype(np.float32)


def as_mediapipe(pose: np.ndarray) -> SimpleNamespace:
    """(33, 4) as MediaPipe's lists of landmarks are."""
    return SimpleNamespace(
        landmark=[
            SimpleNamespace(**dict(zip(("x", "y", "z", "visibility"), row.tolist(), strict=True)))
            for row in pose
        ]
    )


class StandIn:
    """For OpenCV and MediaPipe: a video of T pictures, and what is seen in each of them."""

    CAP_PROP_FRAME_WIDTH, CAP_PROP_FRAME_HEIGHT, CAP_PROP_FPS = 3, 4, 5

    def __init__(
        self, *, count: int = T, opens: bool = True, rate: float = 25.0, interrupted: bool = False
    ) -> None:
        self.opens, self.interrupted = opens, interrupted
        self.said = {3: float(WIDTH), 4: float(HEIGHT), 5: rate}
        self.pictures = np.random.default_rng(0).integers(0, 256, (count, 4, 6, 3), np.uint8)
        self.opened: list[str | int] = []
        self.looked_at: list[np.ndarray] = []
        self.at = 0

    def VideoCapture(self, source: str | int) -> "StandIn":
        self.opened.append(source)
        return self

    def isOpened(self) -> bool:
        return self.opens

    def get(self, what: int) -> float:
        return self.said[what]

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.at == len(self.pictures):
            if self.interrupted:
                raise KeyboardInterrupt
            return False, None
        self.at += 1
        return True, self.pictures[self.at - 1]

    def process(self, picture: np.ndarray) -> SimpleNamespace:
        number = len(self.looked_at)
        self.looked_at.append(picture)
        if number == EMPTY:
            return SimpleNamespace(pose_world_landmarks=None, pose_landmarks=None)
        return SimpleNamespace(
            pose_world_landmarks=as_mediapipe(landmarks()[number]),
            pose_landmarks=as_mediapipe(in_picture()[number]),
        )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The tool with a stand-in, in a folder with a video; returns the exit status."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wave.mp4").write_bytes(b"")

    def call(stand_in: Any, *words: str) -> int:
        monkeypatch.setattr(poses_from_video, "load_estimator", lambda: (stand_in, lambda: stand_in))
        return poses_from_video.main(list(words))

    return call


def words_of_infer(text: str, before: str) -> list[str]:
    """What the command that the tool names says to tools/infer.py."""
    (told,) = [line.removeprefix(before) for line in text.splitlines() if line.startswith(before)]
    python, program, *words = shlex.split(told)
    assert python == "python" and (ROOT / program).is_file()
    infer.parse(words)
    return words


@pytest.mark.parametrize("image", [False, True])
def test_a_file_is_read_as_it_was_seen(tmp_path: Path, run: Any, capsys: Any, image: bool) -> None:
    assert run(StandIn(), "wave.mp4", *(["--image"] if image else [])) == 0
    written = np.load("wave.npy")
    seen = in_picture() if image else landmarks()
    seen[EMPTY] = np.nan
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, seen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wave.mp4", "wave.npy"]
    args = infer.parse(words_of_infer(capsys.readouterr().out, "next: "))
    assert (args.recordings, args.frame_rate) == (["wave.npy"], 25)
    found = read(Path("wave.npy"), picture=args.picture)
    assert (found.channels, found.unit) == (("xyc", "picture") if image else ("xyz", "m"))
    assert args.picture == ((WIDTH, HEIGHT) if image else None)
    assert found.gaps == (33, 0)  # the empty frame is filled
    upright_and_not_mirrored(found)
    upright_and_not_mirrored(with_layout(found, get_skeleton(args.to)))


@pytest.mark.parametrize("image", [False, True])
def test_lines_are_what_the_file_holds(run: Any, capsys: Any, image: bool) -> None:
    words = ["--image"] if image else []
    assert run(StandIn(), "wave.mp4", *words) == 0
    capsys.readouterr()
    assert run(StandIn(), "wave.mp4", "--stream", *words) == 0
    printed = capsys.readouterr()
    target, channels = (COCO, "xyc") if image else (NTU, "xyz")
    command = words_of_infer(printed.err, "pipe it into: ")
    picture = infer.parse(command).picture
    expected = with_layout(read(Path("wave.npy"), picture=picture, max_gap=0), target).tracks[0]
    options = command[1 : command.index("--weights")]
    read_line = lines(channels, target, *options)
    frames = [read_line(line.encode()) for line in printed.out.splitlines()]
    assert [len(frame) for frame in frames] == [number != EMPTY for number in range(T)]
    for frame, tracked in zip(frames, expected, strict=True):
        np.testing.assert_allclose(frame.sum(0), tracked, atol=1e-5)


@pytest.mark.parametrize("mirrored", [False, True])
def test_pictures_are_turned_back_and_rgb(run: Any, mirrored: bool) -> None:
    stand_in = StandIn()
    assert run(stand_in, "wave.mp4", *(["--mirrored"] if mirrored else [])) == 0
    assert stand_in.opened == ["wave.mp4"] and len(stand_in.looked_at) == T
    for given, seen in zip(stand_in.pictures, stand_in.looked_at, strict=True):
        assert seen.flags.c_contiguous
        for x in range(6):
            np.testing.assert_array_equal(seen[:, 5 - x if mirrored else x], given[:, x][:, [2, 1, 0]])


def test_ctrl_c_ends_a_camera_and_keeps_what_it_saw(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    clock = iter(np.arange(100) / 8)
    monkeypatch.setattr(poses_from_video, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    stand_in = StandIn(interrupted=True, rate=30)
    assert run(stand_in, "--camera", "0") == 0
    assert stand_in.opened == [0] and np.load("camera.npy").shape == (T, 33, 4)
    # As many frames a second as were looked at, not as many as the camera says.
    assert infer.parse(words_of_infer(capsys.readouterr().out, "next: ")).frame_rate == 8
    assert run(StandIn(interrupted=True), "wave.mp4") == 130
    assert not Path("wave.npy").exists()


def test_a_camera_s_lines_say_how_many_come(run: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    clock = iter(np.arange(100) / 8)
    monkeypatch.setattr(poses_from_video, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(poses_from_video, "MEASURED", 2)
    assert run(StandIn(), "--camera", "1", "--stream") == 0
    assert "8 frames a second" in capsys.readouterr().err
    assert run(StandIn(), "wave.mp4", "--stream") == 0
    assert "a second" not in capsys.readouterr().err


def test_a_name_with_a_space(run: Any, capsys: Any) -> None:
    assert run(StandIn(), "wave.mp4", "--out", "my wave.npy") == 0
    assert infer.parse(words_of_infer(capsys.readouterr().out, "next: ")).recordings == ["my wave.npy"]


def test_a_rate_that_a_video_does_not_say(run: Any, capsys: Any) -> None:
    for rate in (0.0, float("nan"), float("inf")):
        assert run(StandIn(rate=rate), "wave.mp4", "--overwrite") == 0
        assert infer.parse(words_of_infer(capsys.readouterr().out, "next: ")).frame_rate is None


@pytest.mark.parametrize(
    ("stand_in", "words", "told"),
    [
        (StandIn(), ["absent.mp4"], "absent.mp4"),
        (StandIn(opens=False), ["wave.mp4"], "wave.mp4"),
        (StandIn(opens=False), ["--camera", "2"], "camera 2"),
        (StandIn(count=0), ["wave.mp4"], "no frame"),
        (StandIn(count=0), ["wave.mp4", "--stream"], "no frame"),
        (StandIn(count=0, interrupted=True), ["--camera", "0"], "no frame"),
        (StandIn(), ["wave.mp4", "--out", "there.npy"], "--overwrite"),
        (StandIn(), ["wave.mp4", "--out", "absent/a.npy"], "absent"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line(run: Any, capsys: Any, stand_in: StandIn, words: list[str], told: str) -> None:
    Path("there.npy").write_text("mine")
    assert run(stand_in, *words) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("error: ") and told in said[-1]
    assert not stand_in.looked_at and Path("there.npy").read_text() == "mine"


def test_a_video_without_anybody(run: Any, capsys: Any) -> None:
    stand_in = StandIn()
    stand_in.looked_at = [stand_in.pictures[0]] * EMPTY
    stand_in.pictures = stand_in.pictures[:1]
    assert run(stand_in, "wave.mp4") == 1
    assert "nobody" in capsys.readouterr().err and not Path("wave.npy").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, run: Any, capsys: Any) -> None:
    with full_disk(1000):
        assert run(StandIn(), "wave.mp4") == 1
    assert "error: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["wave.mp4"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a.mp4", "--camera", "0"],
        ["--camera", "-1"],
        ["a.mp4", "--out", "a.csv"],
        ["a.mp4", "--stream", "--out", "a.npy"],
        ["a.mp4", "--stream", "--overwrite"],
    ],
)
def test_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        poses_from_video.parse(words)
    assert error.value.code == 2


@pytest.mark.parametrize("why", ["absent", "NumPy 2", "another MediaPipe"])
def test_what_is_missing_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr(np, "__version__", "2.2.6" if why == "NumPy 2" else "1.26.4")
    later = None if why == "absent" else SimpleNamespace(__version__="0.10.31")
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "mediapipe", later)  # type: ignore[arg-type]
    with pytest.raises(ImportError) as error:
        poses_from_video.load_estimator()
    told = {"absent": "mediapipe", "NumPy 2": "2.2.6", "another MediaPipe": "0.10.31"}[why]
    assert told in str(error.value) and "pip install mediapipe==0.10.21" in str(error.value)


ENDLESS = """
import sys
from types import SimpleNamespace
from tools import poses_from_video
joint = SimpleNamespace(x=0.1, y=0.2, z=0.3, visibility=1.0)
result = SimpleNamespace(pose_world_landmarks=SimpleNamespace(landmark=[joint] * 33))
class Picture:
    def __getitem__(self, key): return self
    def copy(self): return self
class Camera:
    CAP_PROP_FRAME_WIDTH = CAP_PROP_FRAME_HEIGHT = CAP_PROP_FPS = 0
    def VideoCapture(self, source): return self
    def isOpened(self): return True
    def get(self, what): return 30.0
    at = 0
    def read(self):
        self.at += 1
        if self.at > 1:
            sys.stdin.readline()
        return True, Picture()
    def process(self, picture): return result
poses_from_video.load_estimator = lambda: (Camera(), Camera)
sys.exit(poses_from_video.main(["--camera", "0", "--stream"]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("end", ["nobody reads", "Ctrl-C"])
def test_a_stream_is_live_and_ends_quietly(end: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    # The camera waits after its first picture, so this line has not waited for others.
    assert select.select([process.stdout], [], [], 30)[0]
    assert json.loads(process.stdout.readline()) == [[0.1, 0.2, 0.3]] * 33
    if end == "Ctrl-C":
        process.send_signal(signal.SIGINT)
    else:
        process.stdout.close()
        process.stdin.close()
    assert process.wait(30) == (130 if end == "Ctrl-C" else 1)
    said = process.stderr.read().splitlines()
    assert len(said) == 1 and said[0].startswith("pipe it into: ")
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


@pytest.fixture(scope="module")
def from_video(shared_data: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Array of the real video's poses: as it is, and with --mirrored."""
    python = os.environ.get("LONGSKEL_MEDIAPIPE")
    if python is None:
        pytest.skip(
            "set LONGSKEL_MEDIAPIPE to the Python of an environment with mediapipe, see docs/video.md"
        )
    made = {}
    for mirrored in (False, True):
        made[mirrored] = tmp_path_factory.mktemp("video") / "poses.npy"
        words = ["--out", str(made[mirrored]), *(["--mirrored"] if mirrored else [])]
        tool = str(ROOT / "tools" / "poses_from_video.py")
        done = subprocess.run([python, tool, str(shared_data(VIDEO)), *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "103 frames" in done.stdout and "--frame_rate 30 " in done.stdout
    return made


def test_mediapipe_s_poses_are_those_that_are_known(from_video: dict[bool, Path], shared_data: Any) -> None:
    """To a millimetre: the estimator's arithmetic depends on the processor."""
    known = np.load(shared_data("formats/mediapipe_world_S001C001P001R001A001.npy"))
    np.testing.assert_allclose(np.load(from_video[False]), known, atol=1e-3)


def distance(one: Recording, other: Recording) -> float:
    """Mean distance of the same joints in mm, after one turn, scale and shift for the whole clip."""
    a, b = (each[:, SAME].reshape(-1, 3).astype(np.float64) for each in (one, other))
    a, b = a - a.mean(0), b - b.mean(0)
    u, size, v = np.linalg.svd(a.T @ b)
    kept = np.array([1, 1, np.sign(np.linalg.det(u @ v))])
    scale = (size * kept).sum() / (a**2).sum()
    return 1000 * float(np.linalg.norm(scale * a @ (u * kept) @ v - b, axis=1).mean())


def test_the_video_s_poses_are_near_kinect_s(from_video: dict[bool, Path], shared_data: Any) -> None:
    kinect = read(shared_data(RECORDING)).tracks[0]
    found = {}
    for mirrored, path in from_video.items():
        found[mirrored] = distance(with_layout(read(path), NTU).tracks[0], kinect)
        print(f"mirrored {mirrored}: {found[mirrored]:.1f} mm from Kinect's skeleton")
    assert found[False] < 120 and found[True] < 65


def test_the_video_gets_the_recording_s_answer(
    from_video: dict[bool, Path], shared_data: Any, tmp_path: Path
) -> None:
    def answers(recording: Path, *words: str) -> list[str]:
        weights = ["--weights", str(published("OneTenth")), "--config", str(STAGE2), "--device", "cpu"]
        assert infer.main([str(recording), *weights, "--out", str(tmp_path), "--overwrite", *words]) == 0
        (answer,) = json.loads((tmp_path / "answers.json").read_text())
        return [name for name, _ in answer["top"]]

    best = answers(shared_data(RECORDING))[0]
    of_video = {
        mirrored: answers(path, "--frame_rate", "30", "--to", "ntu-rgb+d")
        for mirrored, path in from_video.items()
    }
    assert best in of_video[False] and best == of_video[True][0]
