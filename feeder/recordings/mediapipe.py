"""Reads arrays of MediaPipe's pose landmarks.

An array is (T frames, 33 joints, x y z and perhaps visibility), or (M bodies, T, 33, 3 or 4).
World landmarks are in metres from the middle of the hips: x to the picture's right, y down, z away from the camera.
Landmarks of the picture are shares of its width and height.
"""

import numpy as np

from feeder.recordings.axes import arrange
from feeder.recordings.gaps import fill_gaps
from feeder.recordings.picture import place_in_picture
from feeder.recordings.reading import Content, ReadOptions
from feeder.recordings.recording import Recording, RecordingError
from net.utils.channels import joints_there
from net.utils.layouts import get_skeleton

LAYOUT = "mediapipe"
SKELETON = get_skeleton(LAYOUT)
HIPS = [SKELETON.joints.index(f"{side} hip") for side in ("left", "right")]
# Assumed distance from the camera in metres: world landmarks do not state it.
DISTANCE = 3.0
# Largest distance from the origin to the middle of the hips in world landmarks, as a share of the body's height.
MAX_HIP_OFFSET = 0.02


def is_mediapipe(values: np.ndarray) -> bool:
    """Whether an array has MediaPipe's shape."""
    return SKELETON.num_joint in values.shape and values.ndim in (3, 4)


def read_landmarks(values: np.ndarray, options: ReadOptions) -> Content:
    """The content of an array of landmarks, of the world or of the picture; joints that are NaN or zero were not seen.

    In the picture, visibility becomes confidence. In space it is not used, because MediaPipe always places all joints.

    Raises:
        RecordingError: another shape, infinity, or no body in any frame.
    """
    tracks, assumed_order = arrange(
        values, num_joint=SKELETON.num_joint, num_channels=(4, 3), axes=options.axes
    )
    tracks = np.array(tracks, np.float32)
    if np.isinf(tracks).any():
        raise RecordingError(None, "a coordinate is infinite or too large")
    seen = ~np.isnan(tracks).any(-1) & joints_there(tracks[..., :3])
    if not seen.any():
        raise RecordingError(None, "no frame has a body")
    tracks = np.where(seen[..., None], tracks, np.float32(0))
    if _is_world(tracks, seen):
        channels, unit = "xyz", "m"
        tracks = to_camera(tracks[..., :3])
    else:
        channels = "xyc" if tracks.shape[-1] == 4 else "xy"
        tracks, unit = place_in_picture(tracks[..., [0, 1, 3][: len(channels)]], options.picture)
        seen &= joints_there(tracks)  # not those of visibility 0
    recording = Recording.of_tracks(tracks, channels)
    flat = np.ascontiguousarray(seen.swapaxes(0, 1)).reshape(-1, SKELETON.num_joint)
    recording, gaps = fill_gaps(recording, flat, options.gap)
    kind = "33 joints of MediaPipe: " + ("world landmarks" if unit == "m" else "landmarks of the picture")
    return Content(recording, LAYOUT, unit, gaps, (kind, *([assumed_order] if assumed_order else [])))


def to_camera(landmarks: np.ndarray) -> np.ndarray:
    """World landmarks (..., 3) in the axes of Kinect's camera, 3 m away from it; absent joints stay zeros."""
    turned = landmarks * np.array([-1, -1, 1], np.float32) + np.array([0, 0, DISTANCE], np.float32)
    return np.where(joints_there(landmarks)[..., None], turned, np.float32(0))


def _is_world(tracks: np.ndarray, seen: np.ndarray) -> bool:
    bodies = tracks[seen.all(-1)]
    if len(bodies) == 0:
        return False
    middle = np.linalg.norm(bodies[:, HIPS, :3].mean(1), axis=1)
    height = np.ptp(bodies[..., 1], axis=1)
    return bool(np.median(middle / np.maximum(height, 1e-9)) < MAX_HIP_OFFSET)
