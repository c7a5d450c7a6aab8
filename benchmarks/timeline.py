"""Measures the accuracy of frames of long recordings, which are test clips of a data set, end to end.

    python benchmarks/timeline.py --weights work_dir/nw_ucla/st_gcn/joint/best.pt [--num_recording 20] [--num_clip 8]

Recording 0, 1, ... has the test clips that seed 0, 1, ... draws. Its frames are labelled by the windows of the whole
recording. A stream is given the same frames one by one, and must give the same probabilities. Windows across two clips
count like all others.
"""

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np

from feeder.arrays import open_source
from feeder.feeder import Feeder
from feeder.prepared import tracks_of
from feeder.recordings.files import recorded_poses
from processor.inference import Recogniser
from processor.timeline import Timeline, frame_labels


def join_clips(feeder: Feeder, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Tracks (M, T, V, C) of some clips of a feeder, end to end, and the label of each frame (T,)."""
    parts, labels = [], []
    for place in places:
        bodies = tracks_of(feeder.source, feeder.clips[place])[: feeder.num_body]
        part = np.zeros((feeder.num_body, *bodies.shape[1:]), np.float32)
        part[: len(bodies)] = bodies
        parts.append(part)
        labels.append(np.full(bodies.shape[1], feeder.label[place]))
    return np.concatenate(parts, 1), np.concatenate(labels)


def stream_probabilities(recogniser: Recogniser, tracks: np.ndarray) -> dict[int, np.ndarray]:
    """Frame to probabilities (K,) of each answer of a stream that is given tracks (M, T, V, C) frame by frame."""
    stream = recogniser.stream()
    found: dict[int, np.ndarray] = {}
    answers = [stream.push(bodies) for bodies in tracks.swapaxes(0, 1)]
    for answer in itertools.chain(*answers, stream.finish()):
        found[answer.frame] = np.array([dict(answer.top).get(name, 0.0) for name in recogniser.class_names])
    return found


def largest_difference(of_stream: Mapping[int, np.ndarray], timeline: Timeline) -> float:
    """Largest difference between a stream's probabilities and the timeline's, at frames where both answer."""
    both = [number for number, end in enumerate(timeline.ends) if end in of_stream]
    found = np.stack([of_stream[timeline.ends[number]] for number in both])
    return float(np.abs(found - timeline.of_windows[both]).max())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status: 1 if a stream and the windows of its file disagree."""
    parser = argparse.ArgumentParser(prog="timeline.py", description="Accuracy of frames of long recordings.")
    add = parser.add_argument
    add("--weights", nargs="+", required=True, metavar="FILE", help="best.pt of a run")
    add(
        "--num_recording",
        type=int,
        default=20,
        help="recordings, drawn by seeds from 0 (default %(default)s)",
    )
    add("--num_clip", type=int, default=8, help="clips of each (default %(default)s)")
    add("--stride", type=int, help="frames from window to window (default: a quarter of a window)")
    add("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, ...")
    args = parser.parse_args(argv)
    recogniser = Recogniser.load(*args.weights, device=args.device)
    config = recogniser.members[0].config
    data = config.data
    feeder = Feeder(
        open_source(data.path, data.layout, data.first_label, data.channels),
        config.benchmark,
        part="test",
        layout=data.layout,
        num_class=data.num_class,
        num_body=data.num_body,
        label_map=data.label_map,
    )
    window = recogniser.num_frame
    accuracies, differences = [], []
    for seed in range(args.num_recording):
        tracks, label = join_clips(
            feeder, np.random.default_rng(seed).choice(len(feeder), args.num_clip, False)
        )
        recorded = recorded_poses(f"seed {seed}", tracks, recogniser.skeleton, "xyz")
        found = recogniser.timeline(recorded, stride=args.stride)
        accuracies.append(float((frame_labels(found.of_frames) == label).mean()))
        if args.stride is None:
            differences.append(largest_difference(stream_probabilities(recogniser, tracks), found))
        print(f"seed {seed:2}: {len(label):4} frames, {100 * accuracies[-1]:.1f} % right", flush=True)
    print(
        f"mean {100 * np.mean(accuracies):.1f} %, deviation {100 * np.std(accuracies):.1f}, windows of {window} frames"
    )
    if differences:
        print(f"largest difference between a stream's probabilities and the windows': {max(differences):.1e}")
    return int(max(differences, default=0.0) > 1e-5)


if __name__ == "__main__":
    sys.exit(main())
