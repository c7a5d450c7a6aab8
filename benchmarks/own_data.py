"""Measures the command that data_gen/custom_gen_preprocess.py prints, on sets of 10 to 1,000 clips.

    python benchmarks/own_data.py -w work_dir/own_data
    python benchmarks/own_data.py -w work_dir/own_data --kind nw_ucla --size 1 3 10 --nw_ucla all_sqe

For each set it writes a file per clip and a table, prepares them, trains with the command printed last, and
compares the test accuracy with that of the nearest training clip. Sets that `measured.json` is there for are not
measured again. The table is printed and written into RESULT.md in the work folder.

Kinds of sets:

    easy      four actions that differ clearly, by people who face one camera
    hard      six actions of the arms, seen by three cameras, with noise of 2 cm; one action is of two people
    uneven    two actions of the easy kind, one with a clip for every eleven of the other
    nw_ucla   clips of views 1 and 2 of NW-UCLA, --size of each class; view 3 is tested

The first three kinds are simulated. Some of their people are held out, as the preparation does without a column of
splits. 200 clips of other people are tested, too, because a few clips measure an accuracy to a few points only.
"""

import argparse
import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np
import torch

import main as command
from data_gen.clip_table import draw_split
from data_gen.kinematics import NODE, rotation
from data_gen.performance import draw_subject, perform
from feeder.feeder import Feeder
from feeder.loader import Loader
from feeder.prepared import open_prepared
from net.utils.layouts import get_skeleton
from processor.io import load_scores
from processor.views import view_of
from torchlight.build import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
BENCHMARK = "people"
NUM_TEST_CLIP = 200
NUM_TEST_PERSON = 20
HELD_OUT = 0.3


class Clip(NamedTuple):
    """Tracks (M, T, V, 3) in metres, class, who acts, and `train` or `test`."""

    tracks: np.ndarray
    label: str
    subject: str
    part: str


class Kind(NamedTuple):
    """Simulated sets.

    actions: numbers of `data_gen.actions.ACTIONS`; a number that is listed twice has twice as many clips.
    cameras: angles in degrees from the middle camera.
    turn: largest angle in degrees by which people turn away from the middle camera.
    noise: standard deviation of each coordinate, metres.
    """

    actions: tuple[int, ...]
    cameras: tuple[float, ...]
    turn: float
    noise: float

    def clips(self, num_clip: int, seed: int) -> Iterator[Clip]:
        """The clips of a set: `num_clip` that a user would have, then `NUM_TEST_CLIP` of other people."""
        generator = np.random.default_rng([seed, num_clip])
        num_person = max(4, round(num_clip**0.5))
        subject = np.arange(num_clip) // len(self.actions) % num_person
        (split, _) = draw_split(subject, fraction=HELD_OUT, seed=seed)
        train = set(split["train"])
        others = num_person + np.arange(NUM_TEST_CLIP) // len(self.actions) % NUM_TEST_PERSON
        for number, person in enumerate([*subject.tolist(), *others.tolist()]):
            action = self.actions[number % len(self.actions)]
            tracks = self._film(action, (person, person + 1), seed, generator)
            part = "train" if number in train else "test"
            yield Clip(tracks, f"action {action}", f"person {person}", part)

    def _film(
        self, action: int, people: tuple[int, int], seed: int, generator: np.random.Generator
    ) -> np.ndarray:
        """One performance in the coordinates of one camera, (M, T, V, 3)."""
        first, second = (draw_subject(number, seed) for number in people)
        bodies = perform(action, (first, second), generator)
        # A single person faces the camera; of two, each shows a side.
        ahead = bodies[0].orientation[0, NODE["hip centre"]]
        angle = np.arctan2(ahead[2, 0], ahead[0, 0]) + np.pi / 2 * (len(bodies) - 1)
        angle += np.deg2rad(generator.choice(self.cameras) + generator.uniform(-self.turn, self.turn))
        tracks = np.stack([body.position for body in bodies]) @ rotation(1, angle).T + [0.0, -1.0, 3.0]
        return tracks + generator.normal(0, self.noise, tracks.shape)


_WAVE, _PICK_UP = 23, 6
KINDS = {
    "easy": Kind((_PICK_UP, 8, _WAVE, 27), cameras=(0,), turn=15, noise=0.005),
    "hard": Kind((1, 10, _WAVE, 31, 38, 58), cameras=(-45, 0, 45), turn=20, noise=0.02),
    "uneven": Kind((_PICK_UP,) * 11 + (_WAVE,), cameras=(0,), turn=15, noise=0.005),
}


def nw_ucla_clips(folder: Path, per_class: int, seed: int) -> Iterator[Clip]:
    """`per_class` clips of each class of views 1 and 2, and all clips of view 3."""
    files = np.random.default_rng(seed).permutation(sorted(folder.glob("*.json")))
    drawn: dict[str, int] = {}
    for path in map(Path, files):
        label, subject, view = re.fullmatch(r"a(\d+)_s(\d+)_e\d+_v(\d+)", path.stem).groups()  # type: ignore[union-attr]
        part = "test" if view == "03" else "train"
        if part == "train":
            drawn[label] = drawn.get(label, 0) + 1
            if drawn[label] > per_class:
                continue
        tracks = np.array(json.loads(path.read_bytes())["skeletons"], np.float32)[None]
        if tracks.any():
            yield Clip(tracks, f"action {label}", f"person {subject}", part)


def write_set(folder: Path, clips: Iterator[Clip]) -> None:
    """The files and the table that a user would have, below `folder`."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    with (folder / "clips.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "subject", f"split_{BENCHMARK}"])
        for number, clip in enumerate(clips):
            np.save(folder / "clips" / f"{number}.npy", clip.tracks.astype(np.float32))
            table.writerow([f"{number}.npy", clip.label, clip.subject, clip.part])


def run(words: Sequence[str], root: Path, log: Path) -> None:
    """Run Python with these words in `root`; the output is written to `log`.

    Raises RuntimeError, with the end of the output, if the command fails.
    """
    done = subprocess.run(
        [sys.executable, *words], cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    log.write_text(done.stdout)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(words)} failed:\n{done.stdout[-2000:]}")


def prepare(folder: Path, layout: str, root: Path) -> list[str]:
    """The command that the preparation of a set prints last, from `main.py` on."""
    log = folder / "prepare.log"
    words = ["data_gen/custom_gen_preprocess.py", "--table", str(folder / "clips.csv")]
    words += ["--data_path", str(folder / "clips"), "--out", str(folder / "data.h5"), "--overwrite"]
    run([*words, "--layout", layout, "--num_worker", "1"], root, log)
    return shlex.split(log.read_text().splitlines()[-1])[1:]


def nearest_neighbour(words: Sequence[str], root: Path) -> float:
    """Top-1 of the nearest training clip by Euclidean distance.

    The view is the test view, without turns, and of whole clips in 32 frames.
    """
    args = command.parse(words[1:])
    args.config = str(root / args.config)
    config = command.read_config(args)
    config.test_view.sampling = [{"Resize": {"num_frame": 32}}]
    config.test_view.augment = [step for step in config.test_view.augment if step == "UnitBox"]
    source, found = open_prepared(config.data.path), []
    for part in ("train", "test"):
        feeder = Feeder(
            source,
            BENCHMARK,
            part=part,
            layout=config.data.layout,
            num_class=config.data.num_class,
            num_body=config.data.num_body,
            val_fraction=0,
        )
        view = view_of(config.test_view, config, get_skeleton(config.data.layout), PACKAGES)
        loader = Loader(
            feeder,
            [view],
            batch_size=64,
            device="cpu",
            cache="memory",
            shuffle=False,
            drop_last=False,
            seed=0,
        )
        batches = list(loader.iterate())
        found.append(
            [torch.cat([each.views[0].x for each in batches]), torch.cat([each.label for each in batches])]
        )
    (train, label), (test, expected) = found
    nearest = torch.cdist(test.flatten(1), train.flatten(1)).argmin(1)
    return float((label[nearest] == expected).float().mean())


def measure(folder: Path, clips: Iterator[Clip], layout: str, settings: Sequence[str], root: Path) -> None:
    """Make a set, train on it, and write `measured.json` into its folder."""
    write_set(folder, clips)
    words = prepare(folder, layout, root)
    nearest = nearest_neighbour(words, root)
    work_dir = folder / "run"
    run(
        [*words, *settings, "tensorboard=false", "-w", str(work_dir), "--overwrite"],
        root,
        folder / "train.log",
    )
    result = json.loads((work_dir / "result.json").read_text())
    scores = load_scores(work_dir / "scores.npz")
    right = scores["scores"].argmax(1) == scores["label"]
    recall = [float(right[scores["label"] == each].mean()) for each in np.unique(scores["label"])]
    kept = {"command": shlex.join(["python", *words, *settings]), "top1": result["top1"]}
    kept |= {"least_recall": min(recall), "nearest": nearest}
    kept |= {"minutes": result["train_minutes"], "num_train_clip": result["num_train_clip"]}
    (folder / "measured.json").write_text(json.dumps(kept, indent=1) + "\n")


def result_table(measured: Mapping[tuple[str, int], Sequence[dict[str, Any]]]) -> str:
    """Markdown: a row for each kind and size, means over seeds in percent."""
    lines = [
        "| kind | clips | train | seeds | nearest neighbour | top-1 | least top-1 | least recall | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (kind, size), runs in measured.items():
        of = {key: np.array([each[key] for each in runs]) for key in runs[0] if key != "command"}
        cells = [kind, f"{size:,}", f"{of['num_train_clip'].mean():.0f}", str(len(runs))]
        cells += [f"{100 * of['nearest'].mean():.1f}", f"{100 * of['top1'].mean():.1f}"]
        cells += [f"{100 * of['top1'].min():.1f}", f"{100 * of['least_recall'].mean():.1f}"]
        lines.append("| " + " | ".join([*cells, f"{of['minutes'].mean():.1f}"]) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="added to the printed command")
    parser.add_argument("-w", "--work_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--kind", nargs="+", choices=[*KINDS, "nw_ucla"], default=["easy", "hard"])
    parser.add_argument("--size", nargs="+", type=int, default=[20, 64, 200, 1000])
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--nw_ucla", type=Path, metavar="DIR", help="the JSON files of NW-UCLA")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to measure; default: this one")
    args = parser.parse_intermixed_args(argv)
    if "nw_ucla" in args.kind and (args.nw_ucla is None or not args.nw_ucla.is_dir()):
        parser.error("--kind nw_ucla needs --nw_ucla DIR, the folder of its JSON files")
    measured: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for kind in args.kind:
        for size in args.size:
            for seed in args.seed:
                folder = (args.work_dir / f"{kind}_{size}_{seed}").resolve()
                if not (folder / "measured.json").exists():
                    own = kind in KINDS
                    clips = KINDS[kind].clips(size, seed) if own else nw_ucla_clips(args.nw_ucla, size, seed)
                    layout = "ntu-rgb+d" if own else "kinect-v1"
                    measure(folder, clips, layout, [*args.settings, f"seed={seed}"], args.root.resolve())
                kept = json.loads((folder / "measured.json").read_text())
                measured.setdefault((kind, size), []).append(kept)
                print(f"{kind}, {size} clips, seed {seed}: {kept}", flush=True)
    table = result_table(measured)
    (args.work_dir / "RESULT.md").write_text(table + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
