"""Raw `.skeleton` files, read and normalised with a loop over lines, frames and joints."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

NUM_JOINT = 25


def prepare(paths: Sequence[Path]) -> None:
    """Read each file, choose its bodies, normalise them: what AS-GCN's script does."""
    for path in paths:
        align_torso(choose_bodies(read_skeleton(path)))


def read_skeleton(path: Path, max_body: int = 4) -> np.ndarray:
    """All bodies of a raw `.skeleton` file by slot, (max_body, T, V, 3) in metres, line by line."""
    with open(path, encoding="ascii") as file:
        num_frame = int(file.readline())
        data = np.zeros((max_body, num_frame, NUM_JOINT, 3), dtype=np.float32)
        for t in range(num_frame):
            for m in range(int(file.readline())):
                file.readline()
                for v in range(int(file.readline())):
                    values = [float(word) for word in file.readline().split()]
                    if m < max_body:
                        data[m, t, v] = values[:3]
    return data


def choose_bodies(data: np.ndarray, num_body: int = 2) -> np.ndarray:
    """The bodies of largest spread (standard deviations of x, y, z added), (num_body, T, V, 3)."""
    spread = []
    for body in data:
        present = body[body.sum((1, 2)) != 0]
        spread.append(sum(present[..., c].std() for c in range(3)) if len(present) else 0)
    return data[np.argsort(spread)[::-1][:num_body]]


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix (3, 3) that turns direction a to direction b about their common normal (Rodrigues' formula)."""
    axis = np.cross(a, b)
    if np.abs(axis).sum() < 1e-6 or np.abs(a).sum() < 1e-6:
        return np.eye(3)
    axis /= np.linalg.norm(axis)
    cosine = np.clip(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)
    angle = np.arccos(cosine)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def align_torso(data: np.ndarray) -> np.ndarray:
    """AS-GCN's pre-normalisation of (M, T, V, 3): centred on the first body's spine, upright, facing."""
    out = np.zeros_like(data)
    for m in range(len(data)):
        for t in range(data.shape[1]):
            for v in range(NUM_JOINT):
                if data[m, t, v].sum() != 0:
                    out[m, t, v] = data[m, t, v] - data[0, t, 1]
    for lower, upper, direction in ((0, 1, [0, 0, 1]), (4, 8, [1, 0, 0])):
        matrix = rotation_between(out[0, 0, upper] - out[0, 0, lower], np.array(direction))
        for m in range(len(out)):
            for t in range(out.shape[1]):
                for v in range(NUM_JOINT):
                    out[m, t, v] = matrix @ out[m, t, v]
    return out
