"""The textbook computes what ours computes, so a ratio of speeds compares the same work."""

import re

import numpy as np
import pytest
import torch
from batches import Given, names_of

from benchmarks.batch import aimclr_views
from benchmarks.ntu import LAYOUT, adjacency
from benchmarks.steps import sgd_step
from benchmarks.textbook import aimclr as textbook_aimclr
from benchmarks.textbook import predictors, preparation, views
from benchmarks.textbook.ctr_gcn import CTRGCN
from benchmarks.textbook.st_gcn import STGCN
from feeder.augment import TemporalBlur, augment, rotations
from feeder.ragged import RaggedBatch
from feeder.views import View
from net import aimclr, ctr_gcn, motion_mixer, simlpe, st_gcn
from net.utils.layouts import get_skeleton

ST_GCN_NAMES = {
    r"^blocks\.(\d+)\.graph\.": r"st_gcn_networks.\1.gcn.conv.",
    r"^blocks\.(\d+)\.temporal\.": r"st_gcn_networks.\1.tcn.",
    r"^blocks\.(\d+)\.residual\.": r"st_gcn_networks.\1.residual.",
    r"^blocks\.(\d+)\.importance$": r"edge_importance.\1",
    r"^head\.": "fcn.",
}


def copy_weights(ours, textbook):
    """Give the textbook's ST-GCN the weights of ours."""
    state = ours.state_dict()
    for name, value in textbook.state_dict().items():
        for pattern, replacement in ST_GCN_NAMES.items():
            name = re.sub(pattern, replacement, name)
        # A residual that is the identity has no weights, so every name must be found.
        value.copy_(state[name].view_as(value) if name != "A" else value)


def test_st_gcn_is_the_same_function():
    torch.manual_seed(0)
    ours = st_gcn.Model(3, 7, layout=LAYOUT, hidden_channels=8, dropout=0.0)
    textbook = STGCN(adjacency("spatial"), 7, hidden_channels=8)
    copy_weights(ours, textbook)
    x = torch.randn(2, 3, 24, 25, 2)
    torch.testing.assert_close(textbook(x), ours(x), rtol=1e-4, atol=1e-5)


def test_ctr_gcn_does_the_same_work():
    ours = ctr_gcn.Model(3, 7, layout=LAYOUT, num_body=2, base_channels=16)
    textbook = CTRGCN(adjacency("digraph"), 7, base_channels=16)
    count = [sum(p.numel() for p in model.parameters()) for model in (ours, textbook)]
    assert count[0] == count[1]
    assert textbook(torch.randn(2, 3, 24, 25, 2)).shape == (2, 7)


SIZES = {"num_observe": 6, "num_predict": 4, "num_block": 2}
PREDICTORS = {
    "siMLPe": (lambda: simlpe.Model(**SIZES), lambda: predictors.SiMLPe(25, 6, 4, num_block=2)),
    "mixer": (
        lambda: motion_mixer.Model(**SIZES, width=8),
        lambda: predictors.Mixer(25, 6, 4, width=8, num_block=2),
    ),
}


@pytest.mark.parametrize("name", PREDICTORS)
def test_predictors_are_the_same_function(name):
    torch.manual_seed(0)
    ours, textbook = (make().eval() for make in PREDICTORS[name])
    # In their order, the parameters are the same.
    for own, of_textbook in zip(ours.parameters(), textbook.parameters(), strict=True):
        torch.nn.init.normal_(own, std=0.2)
        of_textbook.data.copy_(own)
    seen, future = torch.randn(3, 3, 6, 25, 2), torch.randn(3, 3, 4, 25, 2)
    given = Given([seen], future).batch()
    found = ours.forecast(given.views[0]).permute(0, 4, 2, 3, 1).reshape(6, 4, 75)
    torch.testing.assert_close(textbook(predictors.rows(seen)), found, rtol=1e-4, atol=1e-5)
    losses = ours(given, names_of(ours.LOSSES)).losses
    torch.testing.assert_close(predictors.loss(textbook, seen, future), sum(losses.values()))


def one_clip():
    clip = np.random.default_rng(0).standard_normal((2, 31, 25, 3)).astype(np.float32)
    one = torch.tensor([1])
    rows = torch.from_numpy(clip).reshape(-1, 25, 3)
    return clip.transpose(3, 1, 2, 0), RaggedBatch(rows, start=one * 0, num_frame=one * 31, num_body=one * 2)


def test_resize_is_the_same():
    clip, batch = one_clip()
    view = View(get_skeleton(LAYOUT), num_body=2, sampling=[{"Resize": {"num_frame": 50}}])
    np.testing.assert_allclose(view(batch, torch.Generator())[0], views.resize(clip, 50), atol=1e-5)


def test_aligned_view_is_the_same():
    clip, batch = one_clip()
    view = View(
        get_skeleton(LAYOUT),
        num_body=2,
        sampling=[{"Resize": {"num_frame": 50}}],
        normalise="align_shoulders",
    )
    expected = views.resize_and_align(clip)
    np.testing.assert_allclose(view(batch, torch.Generator())[0], expected, atol=1e-4)


def test_flip_and_rotation_are_the_same():
    clip, _ = one_clip()
    swap, angles = get_skeleton(LAYOUT).swap, [0.3, -0.7, 1.1]
    matrix = rotations(torch.tensor([angles]))[0].numpy()
    np.testing.assert_array_equal(views.flip(clip, swap), clip[:, :, list(swap)])
    turned = np.einsum("cd,dtvm->ctvm", matrix, clip)
    np.testing.assert_allclose(views.rotate(clip, angles), turned, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.1, 1.3])
def test_blur_is_the_same(sigma):
    clip, _ = one_clip()
    tracks = torch.from_numpy(clip.transpose(3, 1, 2, 0).copy())
    step = TemporalBlur(1.0, min_sigma=sigma, max_sigma=sigma)
    swap, bodies = get_skeleton(LAYOUT).swap, torch.zeros(2, dtype=torch.int64)
    ours = augment(tracks, [step], clip=bodies, num_clip=1, swap=swap, generator=torch.Generator())
    np.testing.assert_allclose(views.blur(clip, sigma), ours.permute(3, 1, 2, 0), atol=1e-5)


def test_noise_and_mask_change_what_they_say():
    clip, _ = one_clip()
    assert (views.noise(clip, 0.1) - clip).std() == pytest.approx(0.1, rel=0.05)
    masked = views.axis_mask(clip, 1)
    assert not masked[1].any()
    np.testing.assert_array_equal(masked[[0, 2]], clip[[0, 2]])


@pytest.mark.parametrize(("drawn", "done"), [(0.0, slice(0, 6)), (0.99, slice(0, 3, 2))])
def test_views_of_the_textbook_take_the_steps_of_ours(monkeypatch, drawn, done):
    steps = {
        "shear": "Shear",
        "flip": "Flip",
        "rotate": "RotateMainAxis",
        "noise": "GaussianNoise",
        "blur": "TemporalBlur",
        "axis_mask": "AxisMask",
    }
    called = []

    def recorded(name):
        change = getattr(views, name)
        return lambda data, *args: called.append(steps[name]) or change(data, *args)

    for name in steps:
        monkeypatch.setattr(views, name, recorded(name))
    monkeypatch.setattr(views.random, "random", lambda: drawn)
    ours = [[type(step).__name__ for step in view.augment] for view in aimclr_views()]
    assert ours == [["Shear"], ["Shear"], [*steps.values()]]
    made = views.aimclr_views(views.resize_and_align(one_clip()[0]))
    assert [view.shape for view in made] == [(3, 50, 25, 2)] * 3
    assert called == ["Shear", "Shear", *list(steps.values())[done]]


def test_attention_drop_is_the_same():
    maps = torch.randn(4, 8, 5, 25, generator=torch.Generator().manual_seed(0)) * 2
    dropped = textbook_aimclr.attention_drop(maps)
    assert (dropped == 0).any()
    torch.testing.assert_close(dropped, aimclr.attention_drop(maps))


def test_training_steps_have_the_same_losses():
    """Two steps on the same views: losses, gradients, momentum and queue of the first show in the second."""
    torch.manual_seed(0)
    encoder = st_gcn.Model(layout=LAYOUT, hidden_channels=4, hidden_dim=16, dropout=0.0)
    ours = aimclr.AimCLR(encoder, queue_size=8, feature_dim=8)
    textbook = textbook_aimclr.AimCLR(
        STGCN(adjacency("spatial"), 60, hidden_channels=4, hidden_dim=16), 8, feature_dim=8
    )
    copy_weights(ours.encoder_q, textbook.encoder_q)
    copy_weights(ours.encoder_k, textbook.encoder_k)
    textbook.queue.copy_(ours.queue)
    # In float32 rounding would grow from step to step.
    ours, textbook = ours.double(), textbook.double()
    clips = [torch.randn(4, 3, 16, 25, 2, dtype=torch.float64) for _ in range(3)]
    given = Given(clips).batch()

    def our_losses(batch):
        return ours(batch, names_of(ours.LOSSES)).losses

    steps = [
        sgd_step(ours, lambda batch: ours(batch, names_of(ours.LOSSES)).losses, lambda: given, torch.float32),
        sgd_step(textbook, textbook, lambda: clips, torch.float32),
    ]
    seen, before = [], ours.encoder_q.data_bn.weight.clone()
    for _ in range(3):
        losses, expected = (run() for run in steps)
        assert losses.keys() == expected.keys()
        for name, loss in losses.items():
            assert loss.item() == pytest.approx(expected[name].item(), rel=1e-4)
        torch.testing.assert_close(ours.queue, textbook.queue, atol=1e-4, rtol=1e-4)
        seen.append(losses["info_nce"].item())
    assert len(set(seen)) == 3
    assert not torch.equal(ours.encoder_q.data_bn.weight, before)


@pytest.mark.parametrize("name", ["S001C001P001R001A001", "S017C003P020R002A054"])
def test_preparation_is_that_of_the_original(reference, shared_data, name):
    data = preparation.read_skeleton(shared_data("ntu_raw") / f"{name}.skeleton")
    found = preparation.align_torso(preparation.choose_bodies(data))
    expected = reference("ntu_preprocess.npz")[f"{name}/energy_two_bodies_normalised"]
    np.testing.assert_allclose(found.transpose(3, 1, 2, 0), expected, atol=1e-5)
