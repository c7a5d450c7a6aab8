"""Clips of different lengths in one batch, and the gather of their poses at given positions in time.

Shapes: N clips, M bodies, B tracks (the present bodies of all N clips), R rows (poses), T frames, V joints,
C channels. Track m of clip i is `num_frame[i]` rows from `start[i] + m * pitch[i]` on. `pitch` is the stride from
one body's rows to the next one's: the number of frames of the whole clip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from net.utils.channels import joints_there

# Beyond this share of the way between two frames, a position is nearer to the later one.
NEARER = 0.5


def send(table: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor copied to a device, without waiting for the work of the device."""
    # A copy from pageable memory would wait.
    return (table.pin_memory() if device.type == "cuda" else table).to(device, non_blocking=True)


def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers (n,) on a device, sent once and cached; do not change them."""
    # Not cached in torch.export: its tensors have no values, and are of no use afterwards.
    make = torch.tensor if torch.compiler.is_compiling() else _sent_once
    return make(values, dtype=dtype, device=device)


@lru_cache(maxsize=256)
def _sent_once(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


class Tracks(NamedTuple):
    """Clip and body of each track: (B,) int64 on the CPU, in order of clip, then body."""

    clip: Tensor
    body: Tensor


@dataclass(frozen=True, eq=False)
class RaggedBatch:
    """Clips with their poses end to end.

    Only the poses are on the accelerator. Small tensors (starts of clips, frames of a view, rotations) stay on the
    CPU. So no step waits for the accelerator to know a shape.

    Args:
        rows: (R, V, C) poses, float32, contiguous, on any device; may hold the rows of other clips, too.
        start, num_frame, num_body: (N,) int64, on the CPU.
        pitch: (N,) int64, rows from one body of a clip to the next; None for `num_frame`.
        table: (R,) bool on the device of the rows, the rows that hold a body; None to compute it when needed.

    Raises:
        ValueError: a clip has no frame or no body.
    """

    rows: Tensor
    start: Tensor
    num_frame: Tensor
    num_body: Tensor
    pitch: Tensor | None = None
    table: Tensor | None = None

    def __post_init__(self) -> None:
        for what, count in (("frame", self.num_frame), ("body", self.num_body)):
            if (count < 1).any():
                clip = int((count < 1).nonzero()[0])
                raise ValueError(f"clip {clip} of the batch has no {what}; prepare the data without it")

    @classmethod
    def of_tracks(cls, tracks: Sequence[Tensor]) -> "RaggedBatch":
        """A batch of clips with tracks (M, T, V, C) float32 on one device; M and T may differ between clips."""
        num_body, num_frame = (torch.tensor([each.shape[axis] for each in tracks]) for axis in (0, 1))
        size = num_body * num_frame
        rows = torch.cat([each.flatten(0, 1) for each in tracks])
        return cls(rows, size.cumsum(0) - size, num_frame, num_body)

    def __len__(self) -> int:
        return len(self.start)

    def beginning(self, ratio: float) -> "RaggedBatch":
        """The clips cut to the first share `ratio` of their frames, rounded, at least one frame."""
        num_frame = (self.num_frame * ratio).round().long().clamp(min=1)
        return replace(self, num_frame=num_frame, pitch=self._pitch())

    @cached_property
    def row_present(self) -> Tensor:
        """The rows that hold a body, (R,) bool."""
        return rows_with_body(self.rows) if self.table is None else self.table

    def _pitch(self) -> Tensor:
        return self.num_frame if self.pitch is None else self.pitch

    def tracks(self, num_body: int) -> Tracks:
        """The tracks of the first `num_body` bodies of every clip; absent bodies have none."""
        clip, body = (torch.arange(num_body) < self.num_body[:, None]).nonzero(as_tuple=True)
        return Tracks(clip, body)

    def poses(
        self,
        tracks: Tracks,
        positions: Tensor,
        *,
        adjust: Callable[[Tensor, Tensor], Tensor] | None = None,
        by_joint: bool = False,
    ) -> Tensor:
        """Poses of tracks at positions in time, linearly interpolated between two frames.

        Args:
            tracks: B tracks.
            positions: (N, T) in frames of the clip, 0 to num_frame - 1, on the CPU; NaN is an empty frame.
            adjust: changes the poses (B, T, V, C) at whole frames (B, T) before interpolation; it may modify its
                argument.
            by_joint: whether single joints can be absent, as in pictures. A joint that only one of the two frames
                has is taken from the nearer frame.

        Returns:
            (B, T, V, C) on the device of the rows, zero in empty frames. Values at whole positions equal those of the
            row, to the bit.
        """

        def at(frame: Tensor, row: Tensor) -> Tensor:
            poses = self.rows.flatten(1).index_select(0, row.flatten())
            poses = poses.view(*frame.shape, *self.rows.shape[1:])
            return poses if adjust is None else adjust(poses, frame)

        return self._interpolate(tracks, positions, at, by_joint)

    def coordinates(
        self, tracks: Tracks, positions: Tensor, *, joints: Sequence[int], channel: int
    ) -> Tensor:
        """One channel of K joints at positions (N, T): (B, T, K), as in `poses`; other joints are not read."""

        def at(frame: Tensor, row: Tensor) -> Tensor:
            return self.pick(row, [(joint, channel) for joint in joints])

        return self._interpolate(tracks, positions, at)

    def present(self, tracks: Tracks, positions: Tensor) -> Tensor:
        """Whether the bodies of tracks are present at positions (N, T), as in `poses`: (B, T) bool.

        Between two frames, the nearer one decides; half-way, the earlier one. An empty frame has no body.
        """
        frame, share, empty = _between_frames(positions[tracks.clip])
        row = self.row(tracks, frame + (share > NEARER))
        present = self.row_present.index_select(0, row.flatten()).view(row.shape)
        return present & self.send(~empty) if empty.any() else present

    def _interpolate(
        self,
        tracks: Tracks,
        positions: Tensor,
        at: Callable[[Tensor, Tensor], Tensor],
        by_joint: bool = False,
    ) -> Tensor:
        """Values (B, T, ...) at positions (N, T), interpolated from `at(frame, row)` of whole frames and rows (B, T).

        Between a frame with the body and a frame without it, values are those of the nearer one; half-way, of the
        earlier one. Interpolation would move the body towards the origin. `by_joint` does this for each joint.
        """
        frame, share, empty = _between_frames(positions[tracks.clip])
        row = self.row(tracks, frame)
        found = at(frame, row)
        trailing = (1,) * (found.ndim - 2)
        if share.any():
            frame = frame + (share > 0)
            row_after = self.row(tracks, frame)
            following = at(frame, row_after)
            before, after = (
                self.row_present.index_select(0, each.flatten()).view(each.shape) for each in (row, row_after)
            )
            share = self.send(share)
            share = torch.where(before != after, (share > NEARER).to(share), share)
            share = share.view(*share.shape, *trailing)
            if by_joint:
                before, after = (joints_there(each)[..., None] for each in (found, following))
                share = torch.where(before != after, (share > NEARER).to(share), share)
            found.lerp_(following, share)
        if empty.any():
            found.masked_fill_(self.send(empty).view(*empty.shape, *trailing), 0)
        return found

    def row(self, tracks: Tracks, frame: Tensor) -> Tensor:
        """Rows of whole frames (B, T) of tracks: (B, T) int64 on the device of the rows."""
        first = self.start[tracks.clip] + tracks.body * self._pitch()[tracks.clip]
        return self.send(first[:, None] + frame)

    def pick(self, row: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        """Single coordinates (..., K) of rows (...) on the device; `places` are K pairs (joint, channel).

        Indexing the flat memory is ten times as fast as indexing rows and joints.
        """
        num_joint, num_channel = self.rows.shape[1:]
        offset = constant(
            tuple(joint * num_channel + channel for joint, channel in places), torch.int64, row.device
        )
        index = row[..., None] * (num_joint * num_channel) + offset
        return self.rows.view(-1).index_select(0, index.flatten()).view(index.shape)

    def send(self, table: Tensor) -> Tensor:
        """A CPU tensor on the device of the rows."""
        return send(table, self.rows.device)

    def displacement(self) -> "RaggedBatch":
        """The same clips with each pose replaced by the next frame's pose minus it; after the last frame come zeros.

        AimCLR's `<part>_motion.npy` was made so: differences of frames padded with zeros, before any resizing. Rows of
        other clips become meaningless.
        """
        rows = self.rows.roll(-1, 0)
        clip, body = self.tracks(int(self.num_body.max()))
        last = self.start[clip] + body * self._pitch()[clip] + self.num_frame[clip] - 1
        rows[self.send(last)] = 0
        # No `table`: a row of zeros is now a body that did not move, or an absent body.
        return replace(self, rows=rows - self.rows, table=None)


def rows_with_body(rows: Tensor) -> Tensor:
    """The rows of (R, V, C) that hold a body, (R,) bool; an absent body is a row of zeros.

    The loader asks once, when it gathers rows of the data. Its later steps carry the answer as a mask.
    """
    # Several times as fast as `any`.
    return torch.linalg.vector_norm(rows.flatten(1), dim=1) != 0


def _between_frames(positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positions (B, T) as (whole frame before, int64; share of the way to the next, float32; is NaN, bool)."""
    empty = positions.isnan()
    positions = positions.nan_to_num(0.0)
    frame = positions.floor()
    return frame.long(), (positions - frame).float(), empty


def take(values: Tensor, frame: Tensor) -> Tensor:
    """Values (B, T', ...) at whole frames (B, T') int64, on the CPU, from values (B, T, ...)."""
    row = torch.arange(len(frame))[:, None] * values.shape[1] + frame
    rows = values.reshape(values.shape[0] * values.shape[1], -1)
    chosen = rows.index_select(0, send(row.flatten(), values.device))
    return chosen.view(*frame.shape, *values.shape[2:])


def place(values: Tensor, tracks: Tracks, *, num_clip: int, num_body: int) -> Tensor:
    """Values (N, M, T, ...) from values (B, T, ...) of tracks; contiguous; absent bodies have zero or False."""
    if len(values) == num_clip * num_body:
        return values.view(num_clip, num_body, *values.shape[1:])
    placed = values.new_zeros(num_clip * num_body, *values.shape[1:])
    placed.index_copy_(0, send(tracks.clip * num_body + tracks.body, values.device), values)
    return placed.view(num_clip, num_body, *values.shape[1:])
