"""Normalisation: where a clip's origin and axes are.

Shapes: N clips, B tracks (present bodies), T frames of a view, V joints, C channels, the first D of which are
coordinates (x, y, z in metres; x, y in the picture); confidence stays as it is.

A normalisation is a function `(clips, skeleton) -> poses (B, T, V, C), matrix`. The matrix (B, 1 or T, D, D), or
None, is still to be applied to every joint: it is left to be multiplied with those of the augmentation. Whatever
refers to a clip's first frame, or to the clip as a whole, is looked up in the clip and does not depend on the frames
that the view takes. An absent joint (all zero) stays zero.
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
# Whole frames: numbers (B, T) of a ragged batch, a slice of clips of equal length.
Frames = Tensor | slice


class Clips(Protocol):
    """Clips in the frames of a view, by what normalisations ask of them."""

    def poses(self, origin: Callable[[Frames], Tensor] | None = None) -> Tensor:
        """Poses (B, T, V, C), which may be changed in place.

        origin: of whole frames (B, 1 or T, D), to which poses then are relative; absent joints stay zero.
        """

    def centred_poses(self, joint: int) -> Tensor:
        """Poses (B, T, V, C) relative to a joint of the same body and frame; absent joints, too."""

    def first_body(self, frame: Frames, joint: int) -> Tensor:
        """Where a joint of the first body of each track's clip is in whole frames: (B, T, D).

        While it is not seen, where it was last; before it comes, where it comes; 0 if it never does.
        """

    def first_pose(self, joint: int) -> Tensor:
        """First body's pose in its first frame where a joint is there, or in frame 0: (N, V, D)."""

    def whole_clip(self, joints: Sequence[int], channel: int) -> Tensor:
        """One channel of K joints over the whole clip in T frames: (B, T, K)."""

    def of_tracks(self, values: Tensor) -> Tensor:
        """Values (N, ...) of clips, for each of their tracks: (B, ...)."""


@dataclass(frozen=True)
class Normalisation:
    """A row of the table: the function, and the fields of the skeleton that it cannot do without.

    looks_past: whether what becomes of a frame depends on later ones.
    turns: whether it turns poses in three dimensions, so that those in the plane cannot be normalised by it.
    """

    of: Callable[[Clips, Skeleton], Normalised]
    needs: tuple[str, ...] = ()
    looks_past: bool = False
    turns: bool = False

    def apply(
        self,
        batch: RaggedBatch,
        tracks: Tracks,
        positions: Tensor,
        skeleton: Skeleton,
        channels: str = "xyz",
    ) -> Normalised:
        """Normalised poses of tracks at positions (N, T); `channels` says what the C are."""
        return self.of(RaggedClips(batch, tracks, positions, channels), skeleton)


@dataclass(frozen=True)
class RaggedClips:
    """`Clips` of any lengths: tracks of a batch, at positions (N, T)."""

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
        for plane in poses.unbind(-1):  # a row of joints at a time, not three channels
            plane -= plane[..., joint, None].clone()
        return poses

    def first_body(self, frame: Frames, joint: int) -> Tensor:
        """See `Clips`."""
        assert isinstance(frame, Tensor)
        place = self._places(joint)
        held = place.gather(1, last_seen(place)[..., None].expand_as(place)).flatten(0, 1)
        index = self.batch.send(self.tracks.clip[:, None] * place.shape[1] + frame)
        return held.index_select(0, index.flatten()).view(*frame.shape, -1)

    def first_pose(self, joint: int) -> Tensor:
        """See `Clips`."""
        first = first_seen(self._places(joint))
        row = self._rows_of_first().gather(1, first[:, None])[:, 0]
        return self.batch.rows[row][..., : num_coordinate(self.channels)]

    def _rows_of_first(self) -> Tensor:
        """Rows of the first body in all frames of its clip, the last one again where others are longer: (N, F)."""
        batch = self.batch
        frame = torch.arange(int(batch.num_frame.max())).minimum(batch.num_frame[:, None] - 1)
        return batch.send(batch.start[:, None] + frame)

    def _places(self, joint: int) -> Tensor:
        """Where a joint of the first body is in those, (N, F, D)."""
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
    """Relative to the spine joint of the first body, in the first frame where it is not empty (CTR-GCN)."""
    origin = clips.of_tracks(clips.first_pose(skeleton.spine)[:, skeleton.spine])[:, None]
    return clips.poses(lambda frame: origin), None


def center_per_frame(clips: Clips, skeleton: Skeleton) -> Normalised:
    """Relative to the spine joint of the first body in every frame; bodies keep their places to each other.

    Where that joint is not seen, they are relative to where it was last, so that nobody jumps when the first body
    leaves. In AS-GCN's code they jump to where they are in the camera's space.
    """
    return clips.poses(lambda frame: clips.first_body(frame, skeleton.spine)), None


def align_torso(clips: Clips, skeleton: Skeleton) -> Normalised:
    """`center_per_frame`, then one turn per clip (AS-GCN's and 2s-AGCN's pre-normalisation).

    Of the first body's first frame that is not empty, the torso (lower to upper joint) is turned to z by the
    shortest way, and then the shoulders (left to right) to x by the shortest way, which tilts the
    torso again a little.
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
    """Relative to the centre joint of each body and frame, each frame turned about y (AimCLR's 50 frames).

    The turn takes the z part from the line of the shoulders (left to right). As in AimCLR's code, with which
    its published weights were trained, its angle is arccos(x / (|xz| + 1e-4)) and its sense is that of the
    clip: from the sum of z over the whole clip, resized to the view's length. So a frame whose shoulders
    point the other way in z than the clip's keeps a z part.
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
    """The first frame in which a joint (N, T, C) is there, 0 if there is none: (N,) int64."""
    # argmax gives the first of equals.
    return joints_there(joint).byte().argmax(1)


def last_seen(joint: Tensor) -> Tensor:
    """The latest frame so far in which a joint (N, T, C) is there, else the first in which it will be: (N, T) int64."""
    there = joints_there(joint)
    frame = torch.arange(joint.shape[1], device=joint.device)
    latest = _running_max(torch.where(there, frame, -1))
    return torch.where(latest < 0, first_seen(joint)[:, None], latest)


def _running_max(values: Tensor) -> Tensor:
    """The largest of values (N, T) so far: (N, T)."""
    if not torch.compiler.is_compiling():
        return values.cummax(1).values
    # ONNX has no such operation.
    later = torch.ones(values.shape[1], values.shape[1], dtype=torch.bool, device=values.device).triu(1)
    return values[:, None].expand(-1, values.shape[1], -1).masked_fill(later, -1).amax(2)


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    # ONNX has no such operation.
    return (x.square() + y.square()).sqrt() if torch.compiler.is_compiling() else torch.hypot(x, y)


def _subtract(poses: Tensor, origin: Tensor) -> Tensor:
    """Poses (B, T, V, C) from another origin (B, 1 or T, D), in place; absent joints stay zero."""
    planes = poses.unbind(-1)
    present = torch.stack([plane != 0 for plane in planes]).any(0).to(poses.dtype)
    for channel, plane in enumerate(planes[: origin.shape[-1]]):
        plane.addcmul_(present, origin[..., channel, None], value=-1)
    return poses


def _shortest_turn(line: Tensor, axis: Tensor) -> Tensor:
    """Rotations (N, 3, 3) that take `line` (N, 3) to the direction of `axis` (3,) about their common normal.

    By Rodrigues' formula cos I + sin [k]x + (1 - cos) k k^T. The identity where line and axis are parallel,
    in either sense, or the line is too short to have a direction.
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
    "align_shoulders": Normalisation(align_shoulders, ("shoulders",), looks_past=True, turns=True),
}
