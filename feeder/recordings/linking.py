"""Links people from frame to frame who were detected without identity.

M bodies in a frame, K open tracks, V joints, C channels, D coordinates among them.
"""

from typing import NamedTuple

import numpy as np
import scipy  # `scipy.optimize` is imported at its first use: it takes half a second

from feeder.recordings.recording import box
from net.utils.channels import joints_there

# Of the newest step in the mean motion of a track.
FRESH = 0.5
# By how much each frame that a track was away for makes its distances count more.
AWAY = 0.1
# Tracks that are open at a time, those last seen: a frame takes no longer than so many need.
MAX_OPEN = 100


class LinkLimits(NamedTuple):
    """What may be one person.

    distance: mean distance of the joints from where they are expected, as a share of the body's larger side.
    gap: frames that a person may be away for.
    """

    distance: float = 0.5
    gap: int = 15


class Linker:
    """Gives each body of each frame the number of its track, frame by frame.

    Bodies and tracks are assigned so that the sum of distances is least. A track is expected where its last pose moves
    on to at its mean speed, so that two people who cross keep their numbers.

    Args:
        limits: what may be one person.
        num_coordinate: D; the channels behind are not places.
    """

    def __init__(self, limits: LinkLimits, num_coordinate: int) -> None:
        self.limits, self.num_coordinate = limits, num_coordinate
        self._number = np.zeros(0, np.int64)
        self._seen = np.zeros(0, np.int64)  # frame that each was last in
        self._poses: np.ndarray | None = None
        self._speed: np.ndarray = np.zeros((0, num_coordinate), np.float32)
        self._frame = self._count = 0

    def link(self, bodies: np.ndarray) -> np.ndarray:
        """The tracks' numbers (M,) of the next frame's bodies (M, V, C), counted from 0; absent joints are zeros."""
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
        speed = np.zeros((len(bodies), self.num_coordinate), bodies.dtype)
        away = (frame - self._seen[columns])[:, None]
        speed[rows] = (1 - FRESH) * self._speed[columns] + FRESH * moved / away
        away_now = np.ones(len(self._number), bool)
        away_now[columns] = False
        self._keep(away_now)
        self._number = np.concatenate((self._number, number))
        self._seen = np.concatenate((self._seen, np.full(len(bodies), frame)))
        self._speed = np.concatenate((self._speed, speed))
        self._poses = np.concatenate((self._poses, bodies))
        return number

    def _assign(self, bodies: np.ndarray, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bodies (n,), tracks (n,) that they go on with, and how far each moved (n, D)."""
        assert self._poses is not None
        there, was = joints_there(bodies), joints_there(self._poses)
        places, last = (poses[..., : self.num_coordinate] for poses in (bodies, self._poses))
        expected = self._speed * (frame - self._seen)[:, None]
        # No mean distance is less than that of the boxes: of all pairs those too far apart are left out, P are left.
        (low, high), (last_low, last_high) = box(places, there), box(last, was)
        sides = (np.maximum(high - low, 0).max(-1), np.maximum(last_high - last_low, 0).max(-1))
        size = np.maximum(sides[0][:, None], sides[1][None])
        apart = np.maximum(low[:, None] - last_high - expected, last_low + expected - high[:, None]).max(-1)
        rows, columns = np.nonzero(apart <= self.limits.distance * size)
        both = there[rows] & was[columns]  # (P, V)
        count = np.maximum(both.sum(-1), 1)
        # (D, P, V): sums over the first axis are fast.
        step = np.moveaxis(places[rows] - last[columns], 2, 0)
        distance = (np.sqrt(((step - expected[columns].T[:, :, None]) ** 2).sum(0)) * both).sum(-1) / count
        share = distance / np.maximum(size[rows, columns], np.finfo(np.float32).tiny)
        allowed = np.flatnonzero(both.any(-1) & (share <= self.limits.distance))
        rows, columns, share = rows[allowed], columns[allowed], share[allowed]
        # Of two tracks that end in one place, that of the last frame goes on. What is not allowed costs most.
        cost, pair = np.full(size.shape, 1e6), np.full(size.shape, -1)
        cost[rows, columns] = share * (1 + AWAY * (frame - 1 - self._seen[columns]))
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
        self._speed, self._poses = self._speed[kept], self._poses[kept]


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
