"""Comparison of an exported graph with PyTorch, on synthetic people and on clips of the run's data.

N clips, M bodies, T frames, V joints, C coordinates.
"""

from pathlib import Path

import torch
from torch import Tensor

from feeder.arrays import open_source
from feeder.prepared import tracks_of
from feeder.ragged import RaggedBatch
from feeder.views import View
from net.utils.channels import has_confidence
from net.utils.skeleton import Skeleton
from processor.export import Exported, window_of
from processor.trained import Trained

# Largest difference allowed between onnxruntime and PyTorch, in probabilities or metres.
TOLERANCE = 1e-4
# Batch sizes of the comparison.
BATCHES = (1, 7)
# Share of the joints of synthetic people in the picture that are not seen.
SHARE_UNSEEN = 0.1


class Disagreement(ValueError):
    """An exported graph and PyTorch give different numbers."""


def check_agreement(onnx_file: bytes, graph: Exported, inputs: Tensor) -> float:
    """Largest difference between onnxruntime and PyTorch, for each batch size of `BATCHES`.

    Args:
        onnx_file: content of the file.
        graph: the module that was exported, and its names.
        inputs: clips, at most as many as the largest batch has.

    Raises:
        Disagreement: shapes differ, or the difference is above `TOLERANCE`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    largest = 0.0
    for count in BATCHES:
        batch = inputs[:count].contiguous()
        with torch.no_grad():
            expected = graph.module(batch)
        (found,) = session.run([graph.output], {graph.input: batch.numpy()})
        if found.shape != expected.shape:
            raise Disagreement(f"onnxruntime gives {found.shape}, PyTorch {tuple(expected.shape)}")
        apart = float((torch.from_numpy(found) - expected).abs().max())
        if not apart <= TOLERANCE:  # also true for NaN
            raise Disagreement(
                f"onnxruntime and PyTorch differ by {apart:.1e} on {len(batch)} clips; up to {TOLERANCE:g} is allowed"
            )
        largest = max(largest, apart)
    return largest


def synthetic_people(trained: Trained, *, seed: int = 0) -> Tensor:
    """Poses (N, T, V, C, M) of people who sway at a distance of three metres; some appear late, some are absent.

    Confidences are drawn at random; some joints have confidence 0.
    """
    generator = torch.Generator().manual_seed(seed)
    skeleton, num_channel = trained.skeleton, len(trained.channels)
    shape = (max(BATCHES), trained.config.data.num_body, 1, skeleton.num_joint, num_channel)
    bone, pace, phase = (torch.randn(shape, generator=generator) for _ in range(3))
    frame = torch.arange(window_of(trained))[:, None, None]
    of_frame = 0.1 * bone + 0.05 * torch.sin(0.2 * pace * frame + phase)
    poses = _chains(skeleton) @ of_frame
    if has_confidence(trained.channels):
        confidence = torch.rand(poses.shape[:-1], generator=generator)
        poses[..., -1] = confidence
        poses[confidence < SHARE_UNSEEN] = 0
    else:
        poses[..., -1] += 3
    poses[::2, 1:] = 0
    poses[::3, 0, 0] = 0
    return poses.permute(0, 2, 3, 4, 1)


def _chains(skeleton: Skeleton) -> Tensor:
    """(V, V): 1 where the column's joint is the row's joint or an ancestor of it."""
    chains = torch.eye(skeleton.num_joint)
    for joint, parent in skeleton.bones:
        while chains[joint, parent] == 0:
            chains[joint, parent] = 1
            parent = skeleton.parents[parent]
    return chains


def real_clips(trained: Trained) -> Tensor | None:
    """Poses (N, T, V, C, M) of the first test clips of a run's data, as recorded; None if the file is missing.

    Raises:
        ValueError, OSError: the file cannot be read, or does not match the config.
    """
    config = trained.config
    if not Path(config.data.path).exists():
        return None
    source = open_source(config.data.path, config.data.layout, config.data.first_label, config.data.channels)
    if config.benchmark not in source.splits:
        raise ValueError(f"there is no benchmark {config.benchmark!r} in it")
    clips = source.splits[config.benchmark]["val"][: max(BATCHES)]
    tracks = [torch.from_numpy(tracks_of(source, clip)) for clip in clips]
    view = View(
        trained.skeleton,
        num_body=config.data.num_body,
        sampling=config.test_view.sampling,
        channels=trained.channels,
    )
    shown = view.deterministic()(RaggedBatch.of_tracks(tracks), torch.Generator())
    return shown[:, :, : window_of(trained)].permute(0, 2, 3, 1, 4)
