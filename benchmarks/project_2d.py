r"""Projects a prepared file of poses in space to the picture of each recording's camera, with confidence.

    python benchmarks/project_2d.py --data data/nw_ucla.h5 --out data/nw_ucla_2d.h5
    python main.py recognition -c config/custom/st_gcn_2d.yaml data.path=data/nw_ucla_2d.h5 data.layout=kinect-v1 \
        data.num_class=10 data.num_body=1 benchmark=xview

The camera is a Kinect's: 640 x 480 pixels, focal length 525 pixels. Errors are like those of a pose estimator: places
have noise of `NOISE` pixels, single joints are lost at random, and some clips lose a limb for some frames. Confidence
says only whether a joint was seen: its value is random, and does not depend on the noise. Short gaps are filled, as a
preparation does.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np

from feeder.prepared import PreparedWriter, open_prepared
from feeder.recordings.gaps import MAX_GAP, fill_gaps
from feeder.recordings.recording import Recording
from net.utils.skeleton import Skeleton
from torchlight.seed import derive_seed

FOCAL, HEIGHT = 525.0, 480.0  # pixels
NOISE = 4.0  # standard deviation, pixels
SHARE_LOST = 0.1  # of all joints
SHARE_HIDDEN = 0.2  # of all clips: a limb is lost in them
NUM_HIDDEN = 10  # frames without the limb
LIMB = 4  # joints of a limb
NEAREST = 0.1  # metres; nearer joints are not seen


def project(tracks: np.ndarray) -> np.ndarray:
    """Places (M, T, V, 2) in the picture of tracks (M, T, V, 3) in metres; x to the right, y down.

    Places are measured from the picture's middle, in heights of the picture. They are zero for joints that are
    absent, or nearer than `NEAREST`.
    """
    depth = tracks[..., 2:]
    seen = depth > NEAREST
    return np.where(seen, -FOCAL / HEIGHT * tracks[..., :2] / np.where(seen, depth, 1), 0)


def limbs(skeleton: Skeleton) -> list[list[int]]:
    """The `LIMB` joints of each limb: an end of the skeleton, its parent, and so on."""
    parents = skeleton.parents
    ends = [joint for joint in range(skeleton.num_joint) if joint not in parents]
    found = []
    for end in ends:
        limb = [end]
        while len(limb) < LIMB:
            limb.append(parents[limb[-1]])
        found.append(limb)
    return found


def estimate(tracks: np.ndarray, skeleton: Skeleton, random: np.random.Generator) -> np.ndarray:
    """Noisy places and confidence (M, T, V, 3) of tracks (M, T, V, 3), zero where a joint is not seen."""
    places = project(tracks)
    seen = places.any(-1)
    seen &= random.uniform(size=seen.shape) >= SHARE_LOST
    if random.uniform() < SHARE_HIDDEN:
        hidden = limbs(skeleton)[random.integers(len(limbs(skeleton)))]
        begin = random.integers(max(1, tracks.shape[1] - NUM_HIDDEN + 1))
        seen[:, begin : begin + NUM_HIDDEN, hidden] = False
    places += random.normal(0, NOISE / HEIGHT, places.shape)
    confidence = random.uniform(0.3, 1, (*seen.shape, 1))
    return (np.concatenate([places, confidence], -1) * seen[..., None]).astype(np.float32)


def fill_short_gaps(tracks: np.ndarray) -> np.ndarray:
    """Tracks (M, T, V, 3) with confidence, joints interpolated over short gaps."""
    recording = Recording.of_tracks(tracks, channels="xyc")
    (filled, _) = fill_gaps(recording, recording.joints[..., 2] > 0, MAX_GAP)
    return filled.by_slot()


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="project_2d.py", description="Poses in the picture, of poses in space."
    )
    parser.add_argument("--data", required=True, type=Path, help="prepared file in space")
    parser.add_argument("--out", required=True, type=Path, help="the file to make")
    parser.add_argument("--seed", type=int, default=0, help="of noise and losses (default %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    args = parser.parse_args(argv)
    source = open_prepared(args.data)
    writer = PreparedWriter(
        args.out,
        skeleton=source.skeleton,
        class_names=source.class_names,
        frame_rate=source.frame_rate,
        bodies=source.attrs["bodies"],
        source=str(args.data),
        channels="xyc",
        unit="picture",
        overwrite=args.overwrite,
    )
    with writer:
        for clip in range(len(source)):
            tracks = source.read(np.array([clip])).reshape(
                source.num_body[clip], source.num_frame[clip], *source.joints.shape[1:]
            )
            name = str(source.name[clip])
            random = np.random.default_rng(derive_seed("plane", args.seed, name))
            keys = {key: int(values[clip]) for key, values in source.keys.items()}
            writer.append(
                name,
                int(source.label[clip]),
                fill_short_gaps(estimate(tracks, source.skeleton, random)),
                **keys,
            )
        writer.finish(source.splits, {})
    print(f"{args.out}: {len(source)} clips in the picture")
    return 0


if __name__ == "__main__":
    sys.exit(main())
