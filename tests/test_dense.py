"""Dense views against `View` on the same clips, and as graphs."""

from itertools import cycle

import numpy as np
import pytest
import torch
from ragged_clips import generator, make_clips, to_batch

from feeder.dense import DenseView
from feeder.normalise import NORMALISE
from feeder.ragged import constant
from feeder.streams import STREAMS
from feeder.views import View
from net.utils.layouts import get_skeleton
from processor.export import Exported, record, to_onnx
from processor.export_check import check_agreement

NTU = get_skeleton("ntu-rgb+d")
NUM_FRAME = 9
SAMPLING = [{"Resize": {"num_frame": NUM_FRAME}}]
AUGMENT = [[], ["UnitBox"], [{"UnitBox": {"num_seen": 4}}, {"Scale": {"min_factor": 2.0, "max_factor": 2.0}}]]


def clips_with_gaps():
    """Clips of NUM_FRAME frames of which bodies, frames and joints are missing here and there."""
    clips = make_clips([NUM_FRAME] * 7, [2, 1, 2, 2, 1, 2, 2])
    clips[0][0, 0] = 0  # the first body comes in frame 1
    clips[2][1, 3:5] = 0
    clips[2][1, :, 3] = 0
    clips[3][0] = 0  # the first body never comes
    clips[4][0, :2] = 0
    clips[5][:, -1] = 0
    clips[6][0, 4:] = 0
    return clips


def dense(clips):
    """The clips as (N, T, V, C, M)."""
    poses = torch.zeros(len(clips), 2, NUM_FRAME, 25, clips[0].shape[-1])
    for place, clip in zip(poses, clips, strict=True):
        place[: len(clip)] = torch.from_numpy(clip)
    return poses.permute(0, 2, 3, 4, 1)


def view(**changes):
    return View(NTU, num_body=2, sampling=SAMPLING, **changes)


@pytest.mark.parametrize("augment", AUGMENT, ids=str)
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("normalise", NORMALISE)
def test_a_dense_view_is_the_view_of_clips_that_have_its_frames(normalise, stream, augment):
    clips = clips_with_gaps()
    poses = dense(clips)
    before = poses.clone()
    described = view(normalise=normalise, stream=stream, augment=augment)
    expected = described(to_batch(clips, gap=2), generator())
    found = DenseView(described)(poses)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    assert torch.equal(poses, before)


@pytest.mark.parametrize("channels", ["xy", "xyc"])
@pytest.mark.parametrize("augment", AUGMENT, ids=str)
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("normalise", [name for name, row in NORMALISE.items() if not row.turns])
def test_a_dense_view_in_the_picture_is_the_view_too(normalise, stream, augment, channels):
    clips = flat(clips_with_gaps(), channels)
    described = view(normalise=normalise, stream=stream, augment=augment, channels=channels)
    expected = described(to_batch(clips, gap=2), generator())
    found = DenseView(described)(dense(clips))
    assert expected[:, :2].std() > 0.01
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-5)


def flat(clips, channels):
    """The clips in pixels, with joints that were not seen."""
    random = np.random.default_rng(0)
    made = []
    for clip in clips:
        there = clip.any(-1) & (random.uniform(size=clip.shape[:3]) > 0.2)
        confidence = random.uniform(0.2, 1, (*clip.shape[:3], 1))
        each = np.concatenate([100 * clip[..., :2] + 300, confidence], -1) * there[..., None]
        made.append(each[..., : len(channels)].astype(np.float32))
    return made


def test_a_dense_view_leaves_out_what_draws():
    poses = dense(clips_with_gaps())
    drawn = view(normalise="center_per_frame", augment=["Shear", "UnitBox", "TemporalBlur"])
    plain = view(normalise="center_per_frame", augment=["UnitBox"])
    assert torch.equal(DenseView(drawn)(poses), DenseView(plain)(poses))


class AllViews(torch.nn.Module):
    """Every normalisation, with one of the streams and one of the augmentations."""

    def __init__(self):
        super().__init__()
        rows = zip(NORMALISE, cycle(STREAMS), cycle(AUGMENT))
        described = [view(normalise=each, stream=stream, augment=steps) for each, stream, steps in rows]
        self.views = torch.nn.ModuleList(DenseView(each) for each in described)

    def forward(self, poses):
        return torch.stack([each(poses) for each in self.views], 1)


@pytest.mark.slow
def test_dense_views_can_be_recorded():
    poses = dense(clips_with_gaps())
    views = AllViews()
    expected = views(poses)
    program = record(views, poses[:3])
    for recorded in (program.module(), torch.jit.trace(views, (poses[:3],), check_trace=False)):
        for count in (1, 7):
            torch.testing.assert_close(recorded(poses[:count]), expected[:count])
    graph = Exported(views, "poses", "views")
    assert check_agreement(to_onnx(program, graph), graph, poses) < 1e-5
    # What exporting makes has no values, and must not be kept.
    assert type(constant(tuple(NTU.parents), torch.int64, poses.device)) is torch.Tensor
