"""siMLPe and the mixer: against slow references, and what must not change a prediction or a loss."""

import dataclasses

import numpy as np
import pytest
import scipy.fft
import torch
from batches import Given
from torch.nn import functional as F

from net import motion_mixer, simlpe
from net.predictor import dct_matrix
from net.utils.clip import Batch, Clip
from net.utils.layouts import get_skeleton

SIZES = {"layout": "kinect-v1", "num_observe": 6, "num_predict": 4}
MODELS = {
    "simlpe": lambda **changes: simlpe.Model(**{**SIZES, "num_block": 3, **changes}),
    "mixer": lambda **changes: motion_mixer.Model(**{**SIZES, "width": 8, "num_block": 2, **changes}),
}


def network(name: str, **changes) -> torch.nn.Module:
    """With random weights in all layers, so that it moves."""
    torch.manual_seed(0)
    model = MODELS[name](**changes).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def clips(in_channels: int = 3) -> torch.Tensor:
    """Two clips of two bodies, 10 frames; one body is absent, and joints are unseen in some frames."""
    torch.manual_seed(1)
    x = torch.randn(2, in_channels, 10, 20, 2, dtype=torch.float64)
    x[1, ..., 1] = 0
    x[0, :, 2, 3, 0] = 0
    x[0, :, 5, 4, 0] = 0
    x[0, :, 8, 5, 0] = 0
    return x


def batch(x: torch.Tensor) -> Batch:
    given = Given([x[:, :, :6]]).batch()
    return dataclasses.replace(given, future=Clip.of(x[:, :, 6:]))


def slow_simlpe(model, poses: np.ndarray) -> np.ndarray:
    """Displacements (P, K) of one body's poses (T, K)."""
    weight = {key: value.numpy() for key, value in model.state_dict().items()}
    y = scipy.fft.dct(poses, axis=0, norm="ortho") @ weight["first.weight"].T + weight["first.bias"]
    for block in range(len(model.blocks)):
        mixed = weight[f"blocks.{block}.over_time.weight"] @ y
        mixed = mixed + weight[f"blocks.{block}.over_time.bias"][:, None]
        mean, std = mixed.mean(1, keepdims=True), np.sqrt(mixed.var(1, keepdims=True) + 1e-5)
        y = (
            y
            + (mixed - mean) / std * weight[f"blocks.{block}.norm.weight"]
            + weight[f"blocks.{block}.norm.bias"]
        )
    y = y @ weight["last.weight"].T + weight["last.bias"]
    return scipy.fft.idct(y, axis=0, norm="ortho")[: model.num_predict]


def slow_mixer(model, poses: np.ndarray) -> np.ndarray:
    """Displacements (P, K) of one body's poses (T, K)."""
    whole = np.concatenate((poses, np.repeat(poses[-1:], model.num_predict, 0)))
    y = model.first(torch.from_numpy(scipy.fft.dct(whole, axis=0, norm="ortho")))
    for block in model.blocks:
        frames = [
            sum(block.over_time.weight[t, s] * y[s] for s in range(len(y))) + block.over_time.bias[t]
            for t in range(len(y))
        ]
        y = torch.stack([y[t] + F.gelu(block.norm(frame)) for t, frame in enumerate(frames)])
        norm, into, _, _, back = block.over_channels
        y = torch.stack([frame + back(F.gelu(into(norm(frame)))) for frame in y])
    return scipy.fft.idct(model.last(y).detach().numpy(), axis=0, norm="ortho")[len(poses) :]


SLOW = {"simlpe": slow_simlpe, "mixer": slow_mixer}


def test_the_cosine_transform_is_scipy_s():
    np.testing.assert_allclose(
        dct_matrix(7).numpy(), scipy.fft.dct(np.eye(7), axis=0, norm="ortho"), atol=1e-6
    )


@pytest.mark.parametrize("name", MODELS)
def test_predictions_equal_a_slow_reference(name):
    model, x = network(name), clips()
    model.dct = dct_matrix(len(model.dct)).double()
    found = model.forecast(batch(x).views[0])
    assert found.shape == (2, 3, 4, 20, 2)
    for clip in range(2):
        for body in range(2):
            seen = x[clip, :, :6, :, body].permute(1, 2, 0).numpy().copy()  # (T, V, C)
            last = seen[-1].copy()
            # A joint that was not seen stands where it is in the last frame.
            seen = np.where(seen.any(2)[..., None], seen, last)
            moved = SLOW[name](model, seen.reshape(6, 60)).reshape(4, 20, 3)
            expected = (last + moved) * last.any(1)[None, :, None]
            np.testing.assert_allclose(found[clip, ..., body].permute(1, 2, 0).detach(), expected, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_losses_are_over_joints_that_were_seen(name):
    model, x = network(name), clips()
    given = batch(x)
    losses = model(given, ("future", "velocity")).losses
    predicted = model.forecast(given.views[0])
    distances, velocities = [], []
    for clip, body in ((0, 0), (0, 1), (1, 0)):
        for joint in range(20):
            pose = predicted[clip, :, :, joint, body]
            true = x[clip, :, 6:, joint, body]
            there = [bool(true[:, t].any() and x[clip, :, 5, joint, body].any()) for t in range(4)]
            distances += [(pose[:, t] - true[:, t]).norm() for t in range(4) if there[t]]
            velocities += [
                ((pose[:, t + 1] - pose[:, t]) - (true[:, t + 1] - true[:, t])).norm()
                for t in range(3)
                if there[t] and there[t + 1]
            ]
    assert losses["future"].item() == pytest.approx(torch.stack(distances).mean().item())
    assert losses["velocity"].item() == pytest.approx(torch.stack(velocities).mean().item())


@pytest.mark.parametrize("name", MODELS)
def test_an_untrained_network_predicts_bodies_that_stand_still(name):
    torch.manual_seed(0)
    model, x = MODELS[name]().double().eval(), clips()
    model.dct = model.dct.double()
    found = model.forecast(batch(x).views[0])
    assert torch.equal(found, x[:, :, 5:6].expand_as(found))


@pytest.mark.parametrize("name", MODELS)
def test_mirrored_poses_are_averaged(name):
    model, both, x = network(name), network(name, mirror=True), clips()
    swap = list(get_skeleton("kinect-v1").swap)

    def mirrored(poses: torch.Tensor) -> torch.Tensor:
        return torch.cat((-poses[:, :1], poses[:, 1:]), 1)[:, :, :, swap]

    found = both.forecast(batch(x).views[0])
    other = mirrored(model.forecast(batch(mirrored(x)).views[0]))
    torch.testing.assert_close(found, (model.forecast(batch(x).views[0]) + other) / 2)
    torch.testing.assert_close(both.forecast(batch(mirrored(x)).views[0]), mirrored(found))


@pytest.mark.parametrize("name", MODELS)
def test_absent_bodies_and_other_clips_change_nothing(name):
    model, x = network(name), clips()
    expected = model.forecast(batch(x).views[0])
    more = torch.cat((x, torch.zeros_like(x[..., :1])), 4).flip(0)
    found = model.forecast(batch(more).views[0])
    torch.testing.assert_close(found.flip(0)[..., :2], expected)
    assert not found[..., 2].any()
    losses = (model(batch(each), ("future", "velocity")).losses for each in (x, more))
    first, second = losses
    assert all(torch.isclose(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", MODELS)
def test_what_poses_hold_while_a_body_is_absent_changes_nothing(name):
    """A body comes in frame 3; the other one has left before the last frame, so that nothing is predicted of it."""
    model, x = network(name), clips()
    present = torch.ones(2, 2, 6, dtype=torch.bool)
    present[0, 0, :3] = present[1, 0, 5:] = present[1, 1] = False
    x[1, ..., 1] = 1.0
    first = model.forecast(Clip(x[:, :, :6], present))
    noisy = torch.where(
        present.permute(0, 2, 1)[:, None, :, None], x[:, :, :6], torch.randn_like(x[:, :, :6])
    )
    second = model.forecast(Clip(noisy, present))
    assert torch.equal(first, second)
    assert first[0].any() and not first[1].any()


def test_an_untrained_block_hardly_changes_its_input():
    """A block of siMLPe as a whole, of the mixer the MLP over channels."""
    torch.manual_seed(0)
    x = torch.randn(6, 2, 60)
    block = simlpe.Block(6, 60)
    torch.testing.assert_close(block(x), x, rtol=0, atol=1e-4)
    mixing = motion_mixer.Block(6, 60, 30, 0.0)
    assert not mixing.over_channels(x).any()


def test_dropout_is_that_of_the_arguments():
    torch.manual_seed(0)
    model, x = network("mixer", dropout=0.5).train(), clips()
    first, second = (model.forecast(batch(x).views[0]) for _ in range(2))
    assert not torch.equal(first, second)
    still = network("mixer", dropout=0.0).train()
    first, second = (still.forecast(batch(x).views[0]) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", MODELS)
def test_nobody_gives_no_loss_and_gradients_of_zero(name):
    model = network(name)
    losses = model(batch(torch.zeros(2, 3, 10, 20, 1, dtype=torch.float64)), ("future", "velocity")).losses
    assert [loss.item() for loss in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert all(not parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_trained(name):
    model = network(name).train()
    sum(model(batch(clips()), ("future", "velocity")).losses.values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_confidence_is_not_predicted(name):
    model, x = network(name, channels="xyc"), clips()
    assert model.first.in_features == 40
    found = model.forecast(batch(x).views[0])
    seen = x[:, :, 5].any(1)[:, None]
    assert torch.equal(found[:, 2], (x[:, 2, 5:6] * seen).expand(-1, 4, -1, -1))
    x[:, 2, :5] = torch.where(x[:, 2, :5] == 0, 0.0, 0.5)
    torch.testing.assert_close(model.forecast(batch(x).views[0])[:, :2], found[:, :2])


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("simlpe", {"num_predict": 7}, "num_predict"),
        ("simlpe", {"num_observe": 0}, "num_observe"),
        ("simlpe", {"num_block": 0}, "num_block"),
        ("mixer", {"num_predict": 0}, "num_predict"),
        ("mixer", {"width": 0}, "width"),
        ("mixer", {"dropout": 1.0}, "dropout"),
        ("mixer", {"mlp_ratio": -1}, "mlp_ratio"),
        ("mixer", {"mlp_ratio": 0}, "mlp_ratio"),
        ("mixer", {"channels": "xy"}, "in_channels"),
    ],
)
def test_arguments_out_of_range_are_refused(name, changes, named):
    with pytest.raises(ValueError, match=named):
        MODELS[name](**changes)


@pytest.mark.parametrize("name", MODELS)
def test_clips_of_another_length_or_layout_are_refused(name):
    model = network(name)
    with pytest.raises(ValueError, match="num_observe"):
        model.forecast(Clip.of(torch.ones(1, 3, 5, 20, 1, dtype=torch.float64)))
    with pytest.raises(ValueError, match="layout"):
        model.forecast(Clip.of(torch.ones(1, 3, 6, 25, 1, dtype=torch.float64)))
