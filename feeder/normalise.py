"""Normalisation: where a clip's origin and axes are.

Shapes: N clips, B tracks (present bodies), T frames of a view, V joints, C channels (x, y, z; metres).

A normalisation is a function `(batch, tracks, positions, skeleton) -> poses (B, T, V, C), matrix`. The matrix
(B, 1 or T, C, C), or None, is still to be applied to every joint: it is left to be multiplied with those of
the augmentation. Whatever refers to a clip's first frame, or to the clip as a whole, is looked up in the rows
and does not depend on the frames that the view takes. An absent joint (all zero) stays zero.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from feeder.ragged import RaggedBatch, Tracks, constant
from feeder.sampling import whole_clip
from net.utils.skeleton import Skeleton

Normalised = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Normalisation:
    """A row of the table: the function, and the fields of the skeleton that it cannot do without.

    looks_past: whether what becomes of a frame depends on later ones.
    """

    apply: Callable[[RaggedBatch, Tracks, Tensor, Skeleton], Normalised]
    needs: tuple[str, ...] = ()
    looks_past: bool = False


def none(batch: RaggedBatch, tracks: Tracks, positions: Tensor, skeleton: Skeleton) -> Normalised:
    """Camera space, as recorded."""
    return batch.poses(tracks, positions), None


def center_first_frame(
    batch: RaggedBatch, tracks: Tracks, positions: Tensor, skeleton: Skeleton
) -> Normalised:
    """Relative to the spine joint of the first body, in the first frame where it is not empty (CTR-GCN)."""
    origin = _first_pose(batch, skeleton)[batch.send(tracks.clip), skeleton.spine]

    def adjust(poses: Tensor, frame: Tensor) -> Tensor:
        return _subtract(poses, origin[:, None])

    return batch.poses(tracks, positions, adjust=adjust), None


def center_per_frame(batch: RaggedBatch, tracks: Tracks, positions: Tensor, skeleton: Skeleton) -> Normalised:
    """Relative to the spine joint of the first body in every frame; bodies keep their places to each other.

    Where the first body is empty, the others stay as they are (as in AS-GCN's code).
    """
    first_body = Tracks(tracks.clip, torch.zeros_like(tracks.body))

    def adjust(poses: Tensor, frame: Tensor) -> Tensor:
        origin = batch.pick(batch.row(first_body, frame), _channels(batch, skeleton.spine))
        return _subtract(poses, origin)

    return batch.poses(tracks, positions, adjust=adjust), None


def align_torso(batch: RaggedBatch, tracks: Tracks, positions: Tensor, skeleton: Skeleton) -> Normalised:
    """`center_per_frame`, then one turn per clip (AS-GCN's and 2s-AGCN's pre-normalisation).

    Of the first body's first frame that is not empty, the torso (lower to upper joint) is turned to z by the
    shortest way, and then the shoulders (left to right) to x by the shortest way, which tilts the
    torso again a little.
    """
    assert skeleton.torso is not None
    assert skeleton.shoulders is not None
    _check_three(batch, "align_torso")
    poses, _ = center_per_frame(batch, tracks, positions, skeleton)
    pose = _first_pose(batch, skeleton)
    lower, upper = skeleton.torso
    right, left = skeleton.shoulders
    upright = _shortest_turn(pose[:, upper] - pose[:, lower], constant((0, 0, 1), pose.dtype, pose.device))
    line = (upright @ (pose[:, right] - pose[:, left])[..., None])[..., 0]
    turn = _shortest_turn(line, constant((1, 0, 0), pose.dtype, pose.device)) @ upright
    return poses, turn[batch.send(tracks.clip)][:, None]


def align_shoulders(batch: RaggedBatch, tracks: Tracks, positions: Tensor, skeleton: Skeleton) -> Normalised:
    """Relative to the centre joint of each body and frame, each frame turned about y (AimCLR's 50 frames).

    The turn takes the z part from the line of the shoulders (left to right). As in AimCLR's code, with which
    its published weights were trained, its angle is arccos(x / (|xz| + 1e-4)) and its sense is that of the
    clip: from the sum of z over the whole clip, resized to the view's length. So a frame whose shoulders
    point the other way in z than the clip's keeps a z part.
    """
    assert skeleton.shoulders is not None
    _check_three(batch, "align_shoulders")
    poses = batch.poses(tracks, positions)
    for plane in poses.unbind(-1):  # a row of joints at a time, not three channels
        plane -= plane[..., skeleton.centre, None].clone()
    right, left = skeleton.shoulders
    line = poses[:, :, right] - poses[:, :, left]
    cos = line[..., 0] / (torch.hypot(line[..., 0], line[..., 2]) + 1e-4)
    sin = (1 - cos.square()).sqrt()
    whole = whole_clip(batch.num_frame, poses.shape[1])
    depth = batch.coordinates(tracks, whole, joints=skeleton.shoulders, channel=2)
    sense = (depth[..., 0] - depth[..., 1]).sum(1, keepdim=True)
    sin = torch.where(sense >= 0, -sin, sin)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack((cos, zero, -sin, zero, one, zero, sin, zero, cos), -1)
    return poses, turn.view(*cos.shape, 3, 3)


def _channels(batch: RaggedBatch, joint: int) -> list[tuple[int, int]]:
    return [(joint, channel) for channel in range(batch.rows.shape[-1])]


def _check_three(batch: RaggedBatch, name: str) -> None:
    if batch.rows.shape[-1] != 3:
        raise ValueError(
            f"normalise: {name} turns (x, y, z), but the clips have {batch.rows.shape[-1]} channels; "
            "choose one that only centres, or none"
        )


def _subtract(poses: Tensor, origin: Tensor) -> Tensor:
    """Poses (B, T, V, C) from another origin (B, 1 or T, C), in place; absent joints stay zero."""
    planes = poses.unbind(-1)
    present = torch.stack([plane != 0 for plane in planes]).any(0).to(poses.dtype)
    for channel, plane in enumerate(planes):
        plane.addcmul_(present, origin[..., channel, None], value=-1)
    return poses


def _first_pose(batch: RaggedBatch, skeleton: Skeleton) -> Tensor:
    """First body's pose in its first frame that is not empty; frame 0 if all are: (N, V, C)."""
    frame = torch.arange(int(batch.num_frame.max())).minimum(batch.num_frame[:, None] - 1)
    row = batch.send(batch.start[:, None] + frame)
    seen = (batch.pick(row, _channels(batch, skeleton.spine)) != 0).any(-1)
    # argmax gives the first of equals.
    first = seen.byte().argmax(1, keepdim=True)
    return batch.rows[row.gather(1, first)[:, 0]]


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
    skew = torch.linalg.cross(eye.expand(len(k), 3, 3), k[:, None].expand(-1, 3, 3))
    return cos * eye + sin * skew + (1 - cos) * k[:, :, None] * k[:, None]


NORMALISE: dict[str, Normalisation] = {
    "none": Normalisation(none),
    "center_first_frame": Normalisation(center_first_frame),
    "center_per_frame": Normalisation(center_per_frame),
    "align_torso": Normalisation(align_torso, ("torso", "shoulders")),
    "align_shoulders": Normalisation(align_shoulders, ("shoulders",), looks_past=True),
}
