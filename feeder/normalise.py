"""Normalisation: the origin and the axes of a clip's coordinates.

Shapes: N clips, B tracks (present bodies), T frames of a view, V joints, C channels. The first D channels are
coordinates (x, y, z in metres; x, y in the picture). Confidence does not change.

A normalisation is a function `(clips, skeleton) -> poses (B, T, V, C), matrix`. The caller applies the matrix
(B, 1 or T, D, D) to every joint; it may be multiplied with those of the augmentation first. None is the identity.
A clip's first frame, and the whole clip, do not depend on the frames that the view takes. Absent joints (all zero)
stay zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from feeder.ragged import RaggedBatch, Tracks, constant
from feeder.sampling import whole_clip
from net.utils.channels import in_plane, joints_there, num_coordinate
from net.utils.skeleton import Skeleton

Normalised = tuple[Tensor, Tensor | None]
# Whole frames: numbers (B, T) for a ragged batch, a slice for clips of equal length.
Frames = Tensor | slice


class Clips(Protocol):
    """The interface that normalisations use: clips in the frames of a view."""

    def poses(self, origin: Callable[[Frames], Tensor] | None = None) -> Tensor:
        """Poses (B, T, V, C), which the caller may change in place.

        origin: gives the origin (B, 1 or T, D) at whole frames; poses become relative to it. Absent joints stay zero.
        """

    def centred_poses(self, joint: int) -> Tensor:
        """Poses (B, T, V, C) relative to a joint of the same body and frame; absent joints are shifted, too."""

    def first_body(self, joint: int) -> Callable[[Frames], Tensor]:
        """A lookup by whole frames: position of a joint of the first body of each track's clip, (B, T, D).

        In frames without the joint this is its last position before; without an earlier one, its first position; 0
        if no frame has the joint.
        """

    def first_pose(self, joint: int) -> Tensor:
        """Pose of the first body in the first frame where `joint` is present, else in frame 0: (N, V, D)."""

    def whole_clip(self, joints: Sequence[int], channel: int) -> Tensor:
        """One channel of K joints over the whole clip, resized to T frames: (B, T, K)."""

    def of_tracks(self, values: Tensor) -> Tensor:
        """The value of each track's clip, (B, ...), from values (N, ...) of clips."""


@dataclass(frozen=True)
class Normalisation:
    """A normalisation function, with the fields of the skeleton that it needs.

    uses_later_frames: whether a normalised frame depends on later frames.
    turns: whether it rotates poses in space, so that it cannot be used for poses in the picture.
    """

    of: Callable[[Clips, Skeleton], Normalised]
    needs: tuple[str, ...] = ()
    uses_later_frames: bool = False
    turns: bool = False

    def apply(
        self,
        batch: RaggedBatch,
        tracks: Tracks,
        positions: Tensor,
        skeleton: Skeleton,
        channels: str = "xyz",
    ) -> Normalised:
        """Normalised poses (B, T, V, C) of tracks at positions (N, T), and the matrix to apply; see the module."""
        return self.of(RaggedClips(batch, tracks, positions, channels), skeleton)


@dataclass(frozen=True)
class RaggedClips:
    """`Clips` of any length: tracks of a batch, at positions (N, T)."""

    batch: RaggedBatch
    tracks: Tracks
    positions: Tensor
    channels: str

    def poses(self, origin: Callable[[Frames], Tensor] | None = None) -> Tensor:
        """See `Clips`."""
        if origin is None:
            return self._interpolated()

        def adjust(poses: Tensor, frame: Tensor) -> Tensor:
            return _subtract(poses, origin(frame))

        return self._interpolated(adjust)

    def _interpolated(self, adjust: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
        by_joint = in_plane(self.channels)
        return self.batch.poses(self.tracks, self.positions, adjust=adjust, by_joint=by_joint)

    def centred_poses(self, joint: int) -> Tensor:
        """See `Clips`."""
        poses = self.poses()
        for plane in poses.unbind(-1):  # faster than all channels at once
            plane -= plane[..., joint, None].clone()
        return poses

    def first_body(self, joint: int) -> Callable[[Frames], Tensor]:
        """See `Clips`."""
        held = hold_last_seen(self._places(joint))
        first = self.tracks.clip[:, None] * held.shape[1]

        def at(frame: Frames) -> Tensor:
            assert isinstance(frame, Tensor)
            index = self.batch.send(first + frame)
            return held.flatten(0, 1).index_select(0, index.flatten()).view(*frame.shape, -1)

        return at

    def first_pose(self, joint: int) -> Tensor:
        """See `Clips`."""
        first = first_seen(self._places(joint))
        row = self._rows_of_first().gather(1, first[:, None])[:, 0]
        return self.batch.rows[row][..., : num_coordinate(self.channels)]

    def _rows_of_first(self) -> Tensor:
        """Rows of the first body in all F frames of the longest clip: (N, F). Shorter clips repeat their last row."""
        batch = self.batch
        frame = torch.arange(int(batch.num_frame.max())).minimum(batch.num_frame[:, None] - 1)
        return batch.send(batch.start[:, None] + frame)

    def _places(self, joint: int) -> Tensor:
        """Positions of a joint of the first body in the frames of `_rows_of_first`: (N, F, D)."""
        return self.batch.pick(self._rows_of_first(), self._coordinates(joint))

    def whole_clip(self, joints: Sequence[int], channel: int) -> Tensor:
        """See `Clips`."""
        positions = whole_clip(self.batch.num_frame, self.positions.shape[1])
        return self.batch.coordinates(self.tracks, positions, joints=joints, channel=channel)

    def of_tracks(self, values: Tensor) -> Tensor:
        """See `Clips`."""
        return values[self.batch.send(self.tracks.clip)]

    def _coordinates(self, joint: int) -> list[tuple[int, int]]:
        return [(joint, channel) for channel in range(num_coordinate(self.channels))]


def none(clips: Clips, skeleton: Skeleton) -> Normalised:
    """Camera space, as recorded."""
    return clips.poses(), None


def center_first_frame(clips: Clips, skeleton: Skeleton) -> Normalised:
    """Relative to the spine joint of the first body in the first frame where it is present (CTR-GCN)."""
    origin = clips.of_tracks(clips.first_pose(skeleton.spine)[:, skeleton.spine])[:, None]
    return clips.poses(lambda frame: origin), None


def center_per_frame(clips: Clips, skeleton: Skeleton) -> Normalised:
    """Relative to the spine joint of the first body in every frame; all bodies are shifted alike.

    While that joint is not seen, its last position is used, so that no body jumps when the first body leaves. In
    AS-GCN's code the other bodies jump to their positions in camera space.
    """
    return clips.poses(clips.first_body(skeleton.spine)), None


def align_torso(clips: Clips, skeleton: Skeleton) -> Normalised:
    """`center_per_frame`, then one rotation per clip (AS-GCN's and 2s-AGCN's pre-normalisation).

    The rotation is that of the first body in its first frame with a spine joint. It takes the torso (lower to upper
    joint) to z by the shortest way, and then the shoulders (left to right) to x by the shortest way. The second part
    tilts the torso again a little.
    """
    assert skeleton.torso is not None
    assert skeleton.shoulders is not None
    poses, _ = center_per_frame(clips, skeleton)
    pose = clips.first_pose(skeleton.spine)
    lower, upper = skeleton.torso
    right, left = skeleton.shoulders
    upright = _shortest_turn(pose[:, upper] - pose[:, lower], constant((0, 0, 1), pose.dtype, pose.device))
    line = (upright @ (pose[:, right] - pose[:, left])[..., None])[..., 0]
    turn = _shortest_turn(line, constant((1, 0, 0), pose.dtype, pose.device)) @ upright
    return poses, clips.of_tracks(turn)[:, None]


def align_shoulders(clips: Clips, skeleton: Skeleton) -> Normalised:
    """Relative to the centre joint of each body and frame, each frame rotated about y (AimCLR's 50 frames).

    The rotation takes the line of the shoulders (left to right) to x in the plane of x and z. Its angle and sense are
    those of AimCLR's code, with which its published weights were trained. The angle of a frame is
    arccos(x / (|xz| + 1e-4)). The sense is one per clip: that of the sum of z over the whole clip, resized to the
    length of the view. So the shoulders keep a z part in frames where their z has the other sign.
    """
    assert skeleton.shoulders is not None
    poses = clips.centred_poses(skeleton.centre)
    right, left = skeleton.shoulders
    line = poses[:, :, right] - poses[:, :, left]
    cos = line[..., 0] / (_hypot(line[..., 0], line[..., 2]) + 1e-4)
    sin = (1 - cos.square()).sqrt()
    depth = clips.whole_clip(skeleton.shoulders, channel=2)
    sense = (depth[..., 0] - depth[..., 1]).sum(1, keepdim=True)
    sin = torch.where(sense >= 0, -sin, sin)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack((cos, zero, -sin, zero, one, zero, sin, zero, cos), -1)
    return poses, turn.unflatten(-1, (3, 3))


def first_seen(joint: Tensor) -> Tensor:
    """The first frame in which a joint (N, T, C) is present, 0 if there is none: (N,) int64."""
    # argmax gives the first of equal values.
    return joints_there(joint).byte().argmax(1)


def hold_last_seen(joint: Tensor) -> Tensor:
    """Positions of a joint (N, T, C); in frames without it its last position, before the first one its first."""
    there = joints_there(joint)
    frame = torch.arange(joint.shape[1], device=joint.device)
    latest = _running_max(torch.where(there, frame, -1))
    latest = torch.where(latest < 0, first_seen(joint)[:, None], latest)
    return joint.gather(1, latest[..., None].expand_as(joint))


def _running_max(values: Tensor) -> Tensor:
    """The largest value up to each frame of values (N, T): (N, T)."""
    if not torch.compiler.is_compiling():
        return values.cummax(1).values
    # ONNX has no such operation.
    later = torch.ones(values.shape[1], values.shape[1], dtype=torch.bool, device=values.device).triu(1)
    return values[:, None].expand(-1, values.shape[1], -1).masked_fill(later, -1).amax(2)


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    # ONNX has no such operation.
    return (x.square() + y.square()).sqrt() if torch.compiler.is_compiling() else torch.hypot(x, y)


def _subtract(poses: Tensor, origin: Tensor) -> Tensor:
    """Subtract an origin (B, 1 or T, D) from poses (B, T, V, C), in place; absent joints stay zero."""
    planes = poses.unbind(-1)
    present = torch.stack([plane != 0 for plane in planes]).any(0).to(poses.dtype)
    for channel, plane in enumerate(planes[: origin.shape[-1]]):
        plane.addcmul_(present, origin[..., channel, None], value=-1)
    return poses


def _shortest_turn(line: Tensor, axis: Tensor) -> Tensor:
    """Rotations (N, 3, 3) that take `line` (N, 3) to the direction of `axis` (3,) about their common normal k.

    Rodrigues' formula: cos I + sin [k]x + (1 - cos) k k^T. The rotation is the identity if line and axis are parallel,
    in either sense, or if the line is too short to have a direction.
    """
    normal = torch.linalg.cross(line, axis.expand_as(line))
    length = line.norm(dim=-1).clamp(min=1e-12)
    turnable = normal.abs().sum(-1) >= 1e-6
    cos = torch.where(turnable, (line @ axis) / length, 1.0)[:, None, None]
    sin = torch.where(turnable, normal.norm(dim=-1) / length, 0.0)[:, None, None]
    k = normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    eye = torch.eye(3, dtype=line.dtype, device=line.device)
    skew = torch.linalg.cross(eye.expand(k.shape[0], 3, 3), k[:, None].expand(-1, 3, 3))
    return cos * eye + sin * skew + (1 - cos) * k[:, :, None] * k[:, None]


NORMALISE: dict[str, Normalisation] = {
    "none": Normalisation(none),
    "center_first_frame": Normalisation(center_first_frame),
    "center_per_frame": Normalisation(center_per_frame),
    "align_torso": Normalisation(align_torso, ("torso", "shoulders"), turns=True),
    "align_shoulders": Normalisation(align_shoulders, ("shoulders",), uses_later_frames=True, turns=True),
}
