"""Masked motion: targets, masks and the loss against loops, and what must not change the loss."""

import dataclasses

import pytest
import torch
from batches import Given

from net import masking
from net.masked_motion import NORMALISE, MaskedMotion
from net.masking import Masking, draw_noise, mean_over_ranks, relative_motion, true_motion
from net.method import Method, no_loss
from net.st_gcn import Model as STGCN
from net.transformer import Model
from net.utils.clip import Batch
from net.utils.skeleton import describe_skeleton

TWO_JOINTS = describe_skeleton("two joints", ["root", "end"], parents=[0, 0], centre=0)
DECODER = {"decoder_width": 8, "decoder_depth": 1, "decoder_head": 2}


def method(in_channels: int = 3, **changes) -> MaskedMotion:
    torch.manual_seed(0)
    encoder = Model(in_channels, patch=4, max_frame=16, width=16, depth=2, num_head=2)
    return MaskedMotion(encoder, **{"mask_ratio": 0.5, **DECODER, **changes}).double().train()


def clips(in_channels: int = 3) -> torch.Tensor:
    """Three clips of two bodies: one body comes late, has an empty frame, and one is absent."""
    torch.manual_seed(1)
    x = torch.randn(3, in_channels, 16, 25, 2, dtype=torch.float64)
    x[0, :, :5, :, 0] = 0
    x[1, :, 9, :, 1] = 0
    x[1, :, 3, 7, 0] = 0  # a joint that was not seen
    x[2, ..., 1] = 0
    return x


def batch(x: torch.Tensor, seed: int | None = 0) -> Batch:
    given = Given([x]).batch()
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return dataclasses.replace(given, generator=generator)


def loss(network: MaskedMotion, given: Batch) -> torch.Tensor:
    return network(given, ("motion",)).losses["motion"]


def record_kept(network: Method, monkeypatch) -> list[torch.Tensor]:
    """The tokens that the encoder is shown, of each later call."""
    encode, kept = network.encoder.encode, []
    monkeypatch.setattr(network.encoder, "encode", lambda clip, keep: kept.append(keep) or encode(clip, keep))
    return kept


def test_motion_is_known_between_two_frames_that_were_seen():
    network = method()
    bodies = network.encoder.split(batch(clips()).views[0])
    motion, known = true_motion(bodies, 3)
    assert motion.shape == known.shape == (5, 16, 25, 3)
    for body in range(5):
        for frame in range(16):
            for joint in range(25):
                now = bodies.poses[body, frame, joint]
                later = bodies.poses[body, frame + 1, joint] if frame < 15 else torch.zeros(3)
                there = bool(now.any() and later.any())
                assert known[body, frame, joint].tolist() == [there] * 3
                expected = later - now if there else torch.zeros(3, dtype=torch.float64)
                assert motion[body, frame, joint].tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["token", "axis", "none"])
def test_targets_are_normalised_over_known_numbers(name):
    torch.manual_seed(0)
    motion, known = torch.randn(2, 6, 8, dtype=torch.float64), torch.rand(2, 6, 8) < 0.7
    known[0, 2] = False
    motion = motion * known
    target = NORMALISE[name](motion, known, 2)
    for body in range(2):
        for token in range(6):
            for number in range(8):
                if not known[body, token, number]:
                    continue
                value = motion[body, token, number]
                if name == "token":
                    group = motion[body, token][known[body, token]]
                elif name == "axis":
                    axis = slice(number % 2, None, 2)
                    group = motion[body, :, axis][known[body, :, axis]]
                else:
                    group = torch.tensor([-1.0, 1.0])
                std = (group.var(correction=0) + (1e-6 if name != "none" else 0)).sqrt()
                assert target[body, token, number].item() == pytest.approx(
                    ((value - group.mean()) / std).item(), abs=1e-9
                )


def test_the_loss_is_over_known_motion_of_hidden_tokens(monkeypatch):
    network, given = method(normalise="none"), batch(clips())
    kept = record_kept(network, monkeypatch)
    monkeypatch.setattr(
        network.decoder, "forward", lambda tokens, keep, counted: torch.full((5, 100, 12), 0.25)
    )
    found = loss(network, given)
    bodies = network.encoder.split(given.views[0])
    total, count = 0.0, 0
    for body in range(5):
        for token in range(100):
            time, joint = divmod(token, 25)
            if token in kept[0][body].tolist():
                continue
            for frame in range(time * 4, min(time * 4 + 4, 15)):
                now, later = bodies.poses[body, frame : frame + 2, joint]
                if now.any() and later.any():
                    total += ((later - now - 0.25) ** 2).sum().item()
                    count += 3
    assert found.item() == pytest.approx(total / count)
    # Half of the tokens that have a frame: of a body that comes after five frames, the first time has none.
    assert (kept[0] >= 0).sum(1).tolist() == [38, 50, 50, 50, 50]
    assert min(kept[0][0][:38].tolist()) >= 25


@pytest.mark.parametrize("temperature", [0.8, 0.3])
def test_tokens_are_hidden_by_the_softmax_of_their_motion(temperature):
    """Of two tokens one is hidden: the moving one with the probability of MAMP's softmax."""
    torch.manual_seed(0)
    encoder = Model(3, layout=TWO_JOINTS, patch=4, max_frame=4, width=4, depth=1, num_head=1)
    masks = Masking(encoder, ratio=0.5, temperature=temperature, channels=None)
    poses = torch.full((6000, 3, 4, 2, 1), 1.0)
    poses[:, 0, :, 0] += 0.8 * torch.arange(4.0)[:, None]
    poses[:, 0, :, 1] += 0.2 * torch.arange(4.0)[:, None]
    given = batch(poses)
    keep, hidden = masks.draw(given, encoder.split(given.views[0]))
    expected = torch.tensor([1.0, 0.25]).div(temperature).softmax(0)[0].item()
    assert hidden[:, 0].double().mean().item() == pytest.approx(expected, abs=0.02)
    assert torch.equal(keep[:, 0], hidden[:, 0].long())


def test_relative_motion_is_over_known_numbers():
    torch.manual_seed(0)
    motion, known = torch.randn(3, 5, 6), torch.rand(3, 5, 6) < 0.6
    known[0, 1], known[2] = False, False
    motion = motion * known
    share = relative_motion(motion, known)
    for body in range(3):
        means = [
            motion[body, token][known[body, token]].abs().mean().item() if known[body, token].any() else 0.0
            for token in range(5)
        ]
        expected = [mean / max(means) if max(means) else 0.0 for mean in means]
        assert share[body].tolist() == pytest.approx(expected, abs=1e-6)


def test_noise_of_a_body_does_not_depend_on_the_others():
    network, x = method(), clips()
    of = {}
    for name, some in (("all", x), ("fewer", x.clone())):
        if name == "fewer":
            some[1, ..., 0] = 0
        given = batch(some)
        bodies = network.encoder.split(given.views[0])
        of[name] = draw_noise(given, bodies, network.encoder.counted(bodies.present))
    assert torch.equal(of["all"][[0, 1, 3, 4]], of["fewer"])


@pytest.mark.parametrize("changes", [{}, {"normalise": "axis", "mask_temperature": None}])
def test_frames_without_a_body_change_nothing(changes):
    network, given = method(**changes), batch(clips())
    expected = loss(network, given)
    expected.backward()
    gradient = network.encoder.embed.weight.grad.clone()
    network.zero_grad()
    # Adds a body that is always absent, and values in a patch whose frames lack the body.
    view = given.views[0]
    more = torch.cat([view.x, torch.zeros_like(view.x[..., :1])], 4)
    more[0, :, :4, :, 0] = 9.0
    there = torch.cat([view.present, torch.zeros_like(view.present[:, :1])], 1)
    noise = masking.draw_noise(batch(clips()), network.encoder.split(view), torch.ones(5, 100))
    original = masking.draw_noise
    try:
        masking.draw_noise = lambda *_: noise
        found = loss(network, dataclasses.replace(given, views=[type(view)(more, there)]))
    finally:
        masking.draw_noise = original
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(network.encoder.embed.weight.grad, gradient)


def test_order_of_clips_and_bodies_does_not_matter(monkeypatch):
    network, x = method(), clips()
    noise = torch.rand(3, 2, 100)
    order = torch.tensor([2, 0, 1])
    for shown, drawn in ((x, noise), (x[order].flip(4), noise[order].flip(1))):
        monkeypatch.setattr(masking, "draw_noise", lambda _, bodies, counted, drawn=drawn: drawn[bodies.mask])
        if shown is x:
            expected = loss(network, batch(shown))
    torch.testing.assert_close(loss(network, batch(shown)), expected)


def test_masks_depend_on_the_batch_s_generator_alone():
    network, x = method(), clips()
    torch.manual_seed(5)
    first = loss(network, batch(x, 3))
    torch.manual_seed(6)
    assert torch.equal(loss(network, batch(x, 3)), first)
    assert not torch.equal(loss(network, batch(x, 4)), first)


def test_noise_is_finite_where_the_draw_is_0(monkeypatch):
    given = batch(clips())
    monkeypatch.setattr(torch, "rand", lambda *size, generator: torch.zeros(size))
    bodies = method().encoder.split(given.views[0])
    assert draw_noise(given, bodies, torch.ones(5, 100)).isfinite().all()


def test_a_mean_over_ranks_counts_those_of_all(monkeypatch):
    values, counted = torch.tensor([3.0, 5.0, 7.0]), torch.tensor([True, False, False])
    assert mean_over_ranks(values, counted).item() == 3
    assert mean_over_ranks(values, torch.zeros(3, dtype=torch.bool)).item() == 0
    # Another rank has none. The gradients of the two are averaged, which halves the sum of this one.
    monkeypatch.setattr(masking.distributed, "all_reduce_mean", lambda count: count / 2)
    assert mean_over_ranks(values, counted).item() / 2 == 3


def test_the_embedding_of_a_clip_is_that_of_its_visible_tokens(monkeypatch):
    network, given = method(), batch(clips())
    encode, kept = network.encoder.encode, record_kept(network, monkeypatch)
    found = network(given, ("motion",)).embedding
    torch.testing.assert_close(found, encode(given.views[0], kept[0]).pool())


def test_nobody_gives_no_loss_and_gradients_of_zero():
    network = method()
    found = loss(network, batch(torch.zeros(2, 3, 16, 25, 2, dtype=torch.float64)))
    assert found.item() == 0 == no_loss(network).item()
    found.backward()
    assert all(not p.grad.any() for p in network.parameters())


def test_every_parameter_is_trained():
    network = method()
    loss(network, batch(clips())).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_confidence_is_no_motion(monkeypatch):
    network, x = method(channels="xyc"), clips()
    assert network.decoder.out.out_features == 4 * 2
    monkeypatch.setattr(network.decoder, "forward", lambda tokens, keep, counted: torch.zeros(5, 100, 8))
    expected = loss(network, batch(x))
    x[:, 2] = torch.where(x[:, 2] == 0, 0.0, 0.5)
    torch.testing.assert_close(loss(network, batch(x)), expected)
    with pytest.raises(ValueError, match="in_channels"):
        method(channels="xy")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mask_ratio": 0.0}, "mask_ratio"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"mask_ratio": 0.999}, "mask_ratio"),
        ({"mask_ratio": 0.001}, "mask_ratio"),
        ({"mask_temperature": 0.0}, "mask_temperature"),
        ({"normalise": "clip"}, "normalise"),
        ({"decoder_width": 7}, "decoder_width is 7.*decoder_head"),
        ({"decoder_depth": 0}, "decoder_depth"),
        ({"decoder_head": 0}, "decoder_head"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        method(**changes)


def test_a_ratio_that_hides_no_token_of_a_shorter_clip_is_refused():
    network = method(mask_ratio=0.01)  # one of the 100 tokens of 16 frames
    with pytest.raises(ValueError, match=r"mask_ratio is 0\.01: of the 25 tokens .* hidden"):
        loss(network, batch(clips()[:, :, 5:9]))
    assert loss(network, batch(clips())) > 0


def test_it_needs_an_encoder_of_tokens():
    assert not issubclass(STGCN, MaskedMotion.ENCODER)
    assert issubclass(Model, MaskedMotion.ENCODER)
    with pytest.raises(TypeError, match="TokenEncoder"):
        MaskedMotion(STGCN())  # type: ignore[arg-type]
