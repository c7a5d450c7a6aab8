"""Clips of different lengths in one batch, and the gather that makes frames of them.

Shapes: N clips, M bodies, B tracks (the present bodies of all N clips), R rows (poses), T frames, V joints,
C channels. Track m of clip i is `num_frame[i]` rows from `start[i] + m * pitch[i]` on; if clips are seen whole, the
pitch is their number of frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


def send(table: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device, without waiting for what the device still has to do."""
    # The copy from pageable memory waits.
    return (table.pin_memory() if device.type == "cuda" else table).to(device, non_blocking=True)


def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers on a device, sent once; not to be changed."""
    # What torch.export makes has no values, and is of no use afterwards.
    make = torch.tensor if torch.compiler.is_compiling() else _sent_once
    return make(values, dtype=dtype, device=device)


@lru_cache(maxsize=256)
def _sent_once(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


class Tracks(NamedTuple):
    """Which body of which clip each track is: (B,) int64 on the CPU, in order of clip, then body."""

    clip: Tensor
    body: Tensor


@dataclass(frozen=True, eq=False)
class RaggedBatch:
    """Clips whose poses lie end to end.

    Only the poses are on the accelerator. What is small (where a clip lies, which frames a view takes, how it
    is turned) stays on the CPU, so that no step waits for the accelerator to know a shape.

    Args:
        rows: (R, V, C) poses, float32, contiguous, on any device; more rows than these clips' may lie there.
        start, num_frame, num_body: (N,) int64, on the CPU.
        pitch: (N,) int64, rows from one body of a clip to the next; None for `num_frame`.

    Raises:
        ValueError: a clip without a frame or a body.
    """

    rows: Tensor
    start: Tensor
    num_frame: Tensor
    num_body: Tensor
    pitch: Tensor | None = None

    def __post_init__(self) -> None:
        for what, count in (("frame", self.num_frame), ("body", self.num_body)):
            if (count < 1).any():
                clip = int((count < 1).nonzero()[0])
                raise ValueError(f"clip {clip} of the batch has no {what}; prepare the data without it")

    @classmethod
    def of_tracks(cls, tracks: Sequence[Tensor]) -> "RaggedBatch":
        """A batch of clips, each tracks (M, T, V, C) float32 on one device; M and T may differ."""
        num_body, num_frame = (torch.tensor([each.shape[axis] for each in tracks]) for axis in (0, 1))
        size = num_body * num_frame
        rows = torch.cat([each.flatten(0, 1) for each in tracks])
        return cls(rows, size.cumsum(0) - size, num_frame, num_body)

    def __len__(self) -> int:
        return len(self.start)

    def beginning(self, ratio: float) -> "RaggedBatch":
        """The clips as if they had ended after this share of their frames, rounded, and one at the least."""
        num_frame = (self.num_frame * ratio).round().long().clamp(min=1)
        return replace(self, num_frame=num_frame, pitch=self._pitch())

    def _pitch(self) -> Tensor:
        return self.num_frame if self.pitch is None else self.pitch

    def tracks(self, num_body: int) -> Tracks:
        """The first `num_body` bodies of every clip, as far as present."""
        clip, body = (torch.arange(num_body) < self.num_body[:, None]).nonzero(as_tuple=True)
        return Tracks(clip, body)

    def poses(
        self,
        tracks: Tracks,
        positions: Tensor,
        *,
        adjust: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Poses of tracks at positions in time, between two frames by linear interpolation.

        Args:
            tracks: B of them.
            positions: (N, T) in frames of the clip, 0 to num_frame - 1, on the CPU; NaN is an empty frame.
            adjust: changes the poses (B, T, V, C) found at whole frames (B, T) before they are interpolated;
                it may modify its argument.

        Returns:
            (B, T, V, C) on the device of the rows, zero in empty frames. At a whole position the values are
            the row's own, to the bit.
        """

        def at(frame: Tensor) -> Tensor:
            row = self.row(tracks, frame)
            poses = self.rows.flatten(1).index_select(0, row.flatten())
            poses = poses.view(*frame.shape, *self.rows.shape[1:])
            return poses if adjust is None else adjust(poses, frame)

        return self._interpolate(tracks, positions, at)

    def coordinates(
        self, tracks: Tracks, positions: Tensor, *, joints: Sequence[int], channel: int
    ) -> Tensor:
        """One channel of K joints at positions, as `poses` gives them, without touching the rest: (B, T, K)."""

        def at(frame: Tensor) -> Tensor:
            return self.pick(self.row(tracks, frame), [(joint, channel) for joint in joints])

        return self._interpolate(tracks, positions, at)

    def _interpolate(self, tracks: Tracks, positions: Tensor, at: Callable[[Tensor], Tensor]) -> Tensor:
        """Values (B, T, ...) that `at` gives at whole frames (B, T), at positions (N, T).

        Between a frame in which a body is and one in which it is not the nearer one counts, of two as near the earlier:
        half-way to the origin the body has never been.
        """
        positions = positions[tracks.clip]
        empty = positions.isnan()
        positions = positions.nan_to_num(0.0)
        frame = positions.floor()
        weight = positions - frame
        frame = frame.long()
        found = at(frame)
        trailing = (1,) * (found.ndim - 2)
        if weight.any():
            following = at(frame + (weight > 0))
            share = self.send(weight).to(found.dtype).view(*weight.shape, *trailing)
            comes_or_leaves = (_present(found) != _present(following)).view(share.shape)
            found.lerp_(following, torch.where(comes_or_leaves, (share > 0.5).to(share), share))
        if empty.any():
            found.masked_fill_(self.send(empty).view(*empty.shape, *trailing), 0)
        return found

    def row(self, tracks: Tracks, frame: Tensor) -> Tensor:
        """Rows of whole frames (B, T) of tracks: (B, T) int64 on the device of the rows."""
        first = self.start[tracks.clip] + tracks.body * self._pitch()[tracks.clip]
        return self.send(first[:, None] + frame)

    def pick(self, row: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        """Single coordinates: `places` are K pairs (joint, channel), `row` is (...) on the device: (..., K).

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
        """The same clips with each pose replaced by the way to the next frame's; the last frame's leads to 0.

        This is how AimCLR's `<part>_motion.npy` was made: differences of frames that are padded with zeros,
        taken before any resizing. Rows of other clips come out meaningless.
        """
        rows = self.rows.roll(-1, 0)
        clip, body = self.tracks(int(self.num_body.max()))
        last = self.start[clip] + body * self._pitch()[clip] + self.num_frame[clip] - 1
        rows[self.send(last)] = 0
        return replace(self, rows=rows - self.rows)


def _present(values: Tensor) -> Tensor:
    """In which frames a body is, of whose values (B, T, ...) some are not 0: (B, T) bool."""
    # Several times as fast as `any`.
    return torch.linalg.vector_norm(values.flatten(2), dim=2) != 0


def take(poses: Tensor, frame: Tensor) -> Tensor:
    """Whole frames (B, T') int64, on the CPU, of poses (B, T, V, C): (B, T', V, C)."""
    row = torch.arange(len(frame))[:, None] * poses.shape[1] + frame
    chosen = poses.flatten(2).flatten(0, 1).index_select(0, send(row.flatten(), poses.device))
    return chosen.view(*frame.shape, *poses.shape[2:])


def place(poses: Tensor, tracks: Tracks, *, num_clip: int, num_body: int) -> Tensor:
    """(B, T, V, C) poses of tracks -> (N, M, T, V, C), contiguous, zero where a body is absent."""
    if len(poses) == num_clip * num_body:
        return poses.view(num_clip, num_body, *poses.shape[1:])
    placed = poses.new_zeros(num_clip * num_body, *poses.shape[1:])
    placed.index_copy_(0, send(tracks.clip * num_body + tracks.body, poses.device), poses)
    return placed.view(num_clip, num_body, *poses.shape[1:])
