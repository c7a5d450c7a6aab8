"""Views of one clip (C, T, V, M), with a function for each augmentation."""

import math
import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from net.utils.layouts import get_skeleton


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


def resize_and_align(data: np.ndarray) -> np.ndarray:
    """What AimCLR's authors do to a clip (C, T, V, M) once, before training: 50 frames, shoulders along x."""
    return align_shoulders(resize(data, 50))


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


def stack(clips: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Clips (C, T, V, M) as one contiguous tensor (N, C, T, V, M), float32."""
    return torch.from_numpy(np.stack(clips).astype(np.float32)).to(device)
