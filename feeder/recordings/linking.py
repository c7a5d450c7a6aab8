"""Links detections of people from frame to frame into tracks.

M bodies in a frame, K open tracks, V joints, C channels, D coordinates among them.
"""

from typing import NamedTuple

import numpy as np
import scipy  # `scipy.optimize` is imported at its first use: it takes half a second

from feeder.recordings.recording import box
from net.utils.channels import joints_there

# Weight of the newest step in the running mean of a track's velocity.
NEWEST_WEIGHT = 0.5
# Relative increase of a track's cost per frame of its absence.
ABSENCE_COST = 0.1
# Largest number of open tracks, which bounds the time for a frame. Those that were seen least recently are dropped.
MAX_OPEN = 100


class LinkLimits(NamedTuple):
    """Limits for two detections of one person.

    distance: largest mean distance of the joints from their expected positions, as a share of the body's larger side.
    gap: largest number of frames that a person may be absent.
    """

    distance: float = 0.5
    gap: int = 15


class Linker:
    """Assigns each body to a track, frame by frame.

    The assignment of bodies to tracks has the least sum of distances. The expected pose of a track is its last pose,
    moved on at its mean velocity. So two people who cross keep their numbers.

    Args:
        limits: for two detections of one person.
        num_coordinate: D; further channels are not coordinates.
    """

    def __init__(self, limits: LinkLimits, num_coordinate: int) -> None:
        self.limits, self.num_coordinate = limits, num_coordinate
        self._number = np.zeros(0, np.int64)
        self._seen = np.zeros(0, np.int64)  # last frame of each track
        self._poses: np.ndarray | None = None
        self._velocity: np.ndarray = np.zeros((0, num_coordinate), np.float32)
        self._frame = self._count = 0

    def link(self, bodies: np.ndarray) -> np.ndarray:
        """Track numbers (M,), from 0, of the bodies (M, V, C) in the next frame; absent joints are zeros."""
        frame, self._frame = self._frame, self._frame + 1
        if self._poses is None:
            self._poses = np.zeros((0, *bodies.shape[1:]), bodies.dtype)
        self._keep(frame - self._seen <= self.limits.gap + 1)
        self._keep(np.arange(len(self._number)) >= len(self._number) - MAX_OPEN)
        rows, columns, moved = self._assign(bodies, frame)
        number = np.full(len(bodies), -1)
        number[rows] = self._number[columns]
        new = number < 0
        number[new] = np.arange(self._count, self._count + new.sum())
        self._count += int(new.sum())
        velocity = np.zeros((len(bodies), self.num_coordinate), bodies.dtype)
        absence = (frame - self._seen[columns])[:, None]
        velocity[rows] = (1 - NEWEST_WEIGHT) * self._velocity[columns] + NEWEST_WEIGHT * moved / absence
        unmatched = np.ones(len(self._number), bool)
        unmatched[columns] = False
        self._keep(unmatched)
        self._number = np.concatenate((self._number, number))
        self._seen = np.concatenate((self._seen, np.full(len(bodies), frame)))
        self._velocity = np.concatenate((self._velocity, velocity))
        self._poses = np.concatenate((self._poses, bodies))
        return number

    def _assign(self, bodies: np.ndarray, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of bodies (n,), of the tracks (n,) that they continue, and the mean step of their joints (n, D)."""
        assert self._poses is not None
        present, was_present = joints_there(bodies), joints_there(self._poses)
        places, last = (poses[..., : self.num_coordinate] for poses in (bodies, self._poses))
        expected = self._velocity * (frame - self._seen)[:, None]
        # The joints' mean distance is at least that of the boxes. P pairs remain after those with too distant boxes.
        (low, high), (last_low, last_high) = box(places, present), box(last, was_present)
        sides = (np.maximum(high - low, 0).max(-1), np.maximum(last_high - last_low, 0).max(-1))
        size = np.maximum(sides[0][:, None], sides[1][None])
        box_distance = np.maximum(
            low[:, None] - last_high - expected, last_low + expected - high[:, None]
        ).max(-1)
        rows, columns = np.nonzero(box_distance <= self.limits.distance * size)
        both = present[rows] & was_present[columns]  # (P, V)
        count = np.maximum(both.sum(-1), 1)
        # (D, P, V): sums over the first axis are fast.
        step = np.moveaxis(places[rows] - last[columns], 2, 0)
        distance = (np.sqrt(((step - expected[columns].T[:, :, None]) ** 2).sum(0)) * both).sum(-1) / count
        relative = distance / np.maximum(size[rows, columns], np.finfo(np.float32).tiny)
        allowed = np.flatnonzero(both.any(-1) & (relative <= self.limits.distance))
        rows, columns, relative = rows[allowed], columns[allowed], relative[allowed]
        # Of two tracks that end in one place, the one seen later is preferred. Pairs that are not allowed cost most.
        cost, pair = np.full(size.shape, 1e6), np.full(size.shape, -1)
        cost[rows, columns] = relative * (1 + ABSENCE_COST * (frame - 1 - self._seen[columns]))
        pair[rows, columns] = allowed
        rows, columns = scipy.optimize.linear_sum_assignment(cost)
        kept = pair[rows, columns] >= 0
        rows, columns = rows[kept], columns[kept]
        chosen = pair[rows, columns]
        moved = (step[:, chosen] * both[chosen]).sum(-1) / count[chosen]
        return rows, columns, moved.T

    def _keep(self, kept: np.ndarray) -> None:
        assert self._poses is not None
        self._number, self._seen = self._number[kept], self._seen[kept]
        self._velocity, self._poses = self._velocity[kept], self._poses[kept]


def link(joints: np.ndarray, num_body: np.ndarray, limits: LinkLimits, num_coordinate: int) -> np.ndarray:
    """Track (B,) of each pose of a recording, numbered by first appearance.

    Args:
        joints: (B, V, C), frame by frame; absent joints are zeros.
        num_body: (T,), poses in each frame.
        limits: see `Linker`.
        num_coordinate: D.
    """
    linker = Linker(limits, num_coordinate)
    parts = np.split(joints, np.cumsum(num_body)[:-1])
    return np.concatenate([linker.link(part) for part in parts])
