"""The same work as the project does, written the way it usually is: one clip, one frame, one joint at a time.

It is the other side of the ratios in `tools/benchmark.py` and an oracle in the tests. Nothing else uses it.
"""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from net.utils.layouts import get_skeleton

NUM_JOINT = 25


# -- preparation -------------------------------------------------------------------------------------


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


# -- views -------------------------------------------------------------------------------------------


def resize(data: np.ndarray, num_frame: int) -> np.ndarray:
    """Linear resize in time of (C, T, V, M), half-pixel centres, edges held."""
    length = data.shape[1]
    out = np.zeros((data.shape[0], num_frame, *data.shape[2:]), dtype=np.float32)
    for t in range(num_frame):
        position = min(max((t + 0.5) * length / num_frame - 0.5, 0), length - 1)
        low = int(position)
        high = min(low + 1, length - 1)
        out[:, t] = data[:, low] * (high - position if high > low else 1) + data[:, high] * (position - low)
    return out


def align_shoulders(data: np.ndarray) -> np.ndarray:
    """AimCLR's alignment of (C, T, V, M): centred on the neck, turned about y until the shoulders face along x."""
    out = np.zeros_like(data)
    for m in range(data.shape[3]):
        line = data[:, :, 8, m] - data[:, :, 4, m]
        sense = -1 if line[2].sum() >= 0 else 1
        for t in range(data.shape[1]):
            x, _, z = line[:, t]
            angle = sense * np.arccos(x / (np.sqrt(x**2 + z**2) + 1e-4))
            cos, sin = np.cos(angle), np.sin(angle)
            matrix = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
            out[:, t, :, m] = matrix @ (data[:, t, :, m] - data[:, t, 20:21, m])
    return out


def temporal_crop(data: np.ndarray, padding_ratio: int = 6) -> np.ndarray:
    """AimCLR's temporal crop of (C, T, V, M): ends reflected by T // padding_ratio, a random window of T."""
    length = data.shape[1]
    pad = length // padding_ratio
    begin = random.randint(0, pad * 2)
    padded = np.concatenate((data[:, :pad][:, ::-1], data, data[:, -pad:][:, ::-1]), axis=1)
    return padded[:, begin : begin + length]


def shear(data: np.ndarray, amplitude: float = 0.5) -> np.ndarray:
    """AimCLR's shear of (C, T, V, M) by a random matrix with unit diagonal."""
    matrix = np.array(
        [[1 if i == j else random.uniform(-amplitude, amplitude) for j in range(3)] for i in range(3)]
    )
    return np.dot(data.transpose(1, 2, 3, 0), matrix).transpose(3, 0, 1, 2)


def flip(data: np.ndarray, swap: Sequence[int]) -> np.ndarray:
    """Left and right joints of (C, T, V, M) exchanged."""
    return data[:, :, list(swap)]


def rotate(data: np.ndarray, angles: Sequence[float]) -> np.ndarray:
    """AimCLR's turn of (C, T, V, M) about x, then y, then z, each angle in radians taking y to -z and so on."""
    points = data.transpose(1, 2, 3, 0)
    for axis, angle in enumerate(angles):
        following, last = (axis + 1) % 3, (axis + 2) % 3
        matrix = np.eye(3)
        matrix[following, following] = matrix[last, last] = math.cos(angle)
        matrix[following, last], matrix[last, following] = math.sin(angle), -math.sin(angle)
        points = np.dot(points, matrix.T)
    return points.transpose(3, 0, 1, 2)


def noise(data: np.ndarray, std: float = 0.01) -> np.ndarray:
    """(C, T, V, M) with normal noise on every coordinate."""
    return data + np.random.default_rng(random.getrandbits(32)).normal(0, std, data.shape)


def blur(data: np.ndarray, sigma: float, num_tap: int = 15) -> np.ndarray:
    """Gaussian mean over the `num_tap` nearest frames of (C, T, V, M), as many as there are."""
    length, reach = data.shape[1], num_tap // 2
    total, out = np.zeros(length), np.zeros(data.shape)
    for shift in range(-reach, reach + 1):
        weight = math.exp(-(shift**2) / (2 * sigma**2))
        into, source = (
            slice(max(0, -shift), length - max(0, shift)),
            slice(max(0, shift), length + min(0, shift)),
        )
        out[:, into] += weight * data[:, source]
        total[into] += weight
    return out / total[:, None, None]


def axis_mask(data: np.ndarray, axis: int) -> np.ndarray:
    """(C, T, V, M) without one coordinate."""
    out = data.copy()
    out[axis] = 0
    return out


def normal_view(aligned: np.ndarray) -> np.ndarray:
    """AimCLR's normal view of a clip (C, T, V, M) that is resized and aligned."""
    return shear(temporal_crop(aligned))


def extreme_view(aligned: np.ndarray) -> np.ndarray:
    """AimCLR's extreme view of a clip (C, T, V, M) that is resized and aligned."""
    out = normal_view(aligned)
    if random.random() < 0.5:
        out = flip(out, get_skeleton("ntu-rgb+d").swap)
    main = random.randrange(3)
    out = rotate(out, [math.radians(random.uniform(0, 30 if axis == main else 1)) for axis in range(3)])
    if random.random() < 0.5:
        out = noise(out)
    if random.random() < 0.5:
        out = blur(out, random.uniform(0.1, 2))
    return axis_mask(out, random.randrange(3)) if random.random() < 0.5 else out


def aimclr_views(aligned: np.ndarray) -> list[np.ndarray]:
    """AimCLR's query, key and extreme view of a clip (C, T, V, M) that is resized and aligned."""
    return [normal_view(aligned), normal_view(aligned), extreme_view(aligned)]
