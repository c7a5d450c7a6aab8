"""Masked feature prediction: its losses against loops, its slow copy, and its start from other weights."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from batches import Given
from test_masked_motion import record_kept

from net.masked_feature import MaskedFeature
from net.masked_motion import MaskedMotion
from net.skeletonclr import SkeletonCLR
from net.transformer import Model
from net.utils.clip import Batch, Clip, presence
from net.vicreg import VICReg
from torchlight.checkpoint import load_weights

DECODER = {"decoder_width": 8, "decoder_depth": 1, "decoder_head": 2}


def encoder() -> Model:
    return Model(patch=4, max_frame=16, width=16, depth=2, num_head=2, drop_path=0.5)


def method(**changes) -> MaskedFeature:
    torch.manual_seed(0)
    return MaskedFeature(
        encoder(), **{"mask_ratio": 0.5, "projection_dim": 6, "momentum": 0.9, **DECODER, **changes}
    ).double()


def batch(num_clip: int = 3) -> Batch:
    """Two views; one body comes late, one is absent."""
    torch.manual_seed(1)
    first = torch.randn(num_clip, 3, 16, 25, 2, dtype=torch.float64)
    first[0, :, :5, :, 0] = 0
    first[-1, ..., 1] = 0
    given = Given([first, torch.randn(num_clip, 3, 8, 25, 2, dtype=torch.float64)]).batch()
    return dataclasses.replace(given, generator=torch.Generator().manual_seed(0))


def test_features_of_hidden_tokens_are_those_of_the_slow_copy(monkeypatch):
    network, given = method().train(), batch()
    network.encoder.eval()  # without drop path; the slow copy still trains
    encode, kept = network.encoder.encode, record_kept(network, monkeypatch)
    predicted = torch.randn(5, 100, 16, dtype=torch.float64)
    monkeypatch.setattr(network.decoder, "forward", lambda tokens, keep, counted: predicted)
    output = network(given, ("feature",))
    assert set(output.losses) == {"feature"}
    torch.testing.assert_close(output.embedding, encode(given.views[0], kept[0]).pool())
    # The copy sees the whole clip, in eval mode.
    tokens = network.slow_encoder.eval().encode(given.views[0]).tokens
    total, count = 0.0, 0
    for body in range(5):
        for token in range(100):
            if token in kept[0][body].tolist() or (body == 0 and token < 25):
                continue
            target = tokens[body, token]
            target = (target - target.mean()) / (target.var(correction=0) + 1e-5).sqrt()
            total += (predicted[body, token] - target).square().mean().item()
            count += 1
    assert output.losses["feature"].item() == pytest.approx(total / count)


def test_contrast_is_between_views_of_one_clip_and_those_of_others():
    network, given = method().eval(), batch()
    output = network(given, ("contrast",))
    assert set(output.losses) == {"contrast"}
    key = F.normalize(network.slow_projector(network.slow_encoder.encode(given.views[0]).pool()), dim=1)
    query = F.normalize(network.projector(network.encoder.encode(given.views[1]).pool()), dim=1)
    expected = 0.0
    for clip in range(3):
        similar = [(query[clip] @ each / 0.2).item() for each in key]
        expected -= torch.tensor(similar).log_softmax(0)[clip].item() / 3
    assert output.losses["contrast"].item() == pytest.approx(expected, rel=1e-6)


def test_the_slow_copy_moves_towards_the_encoder_and_has_no_gradient():
    network = method()
    with torch.no_grad():
        network.encoder.embed.weight.add_(1)
        network.projector[0].weight.add_(1)
    before = network.slow_encoder.embed.weight.clone()
    projector = network.slow_projector[0].weight.clone()
    loss = network(batch(), ("feature", "contrast")).losses
    expected = 0.9 * before + 0.1 * network.encoder.embed.weight
    torch.testing.assert_close(network.slow_encoder.embed.weight, expected)
    torch.testing.assert_close(
        network.slow_projector[0].weight, 0.9 * projector + 0.1 * network.projector[0].weight
    )
    sum(loss.values()).backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    slow = {name for name, _ in network.named_parameters() if name.startswith("slow_")}
    assert trained | slow == {name for name, _ in network.named_parameters()}
    assert not trained & slow


def test_it_starts_from_a_masked_motion_encoder_and_its_copy_does_too():
    torch.manual_seed(3)
    first = MaskedMotion(encoder(), mask_ratio=0.5, **DECODER).double()
    network = method()
    decoder = network.decoder.out.weight.clone()
    load_weights(network, first.state_dict(), translate=network.translate)
    expected = first.encoder.state_dict()
    assert have_weights(network, expected)
    assert torch.equal(network.decoder.out.weight, decoder)
    again = method()
    load_weights(again, network.state_dict(), translate=again.translate)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())


def have_weights(network: MaskedFeature, expected: dict[str, torch.Tensor]) -> bool:
    """Whether the encoder and its slow copy have the expected weights."""
    parts = [part.state_dict() for part in (network.encoder, network.slow_encoder)]
    return all(torch.equal(part[name], value) for part in parts for name, value in expected.items())


@pytest.mark.parametrize("other", [SkeletonCLR, VICReg])
def test_it_starts_from_an_encoder_with_a_head_of_another_method(other):
    torch.manual_seed(3)
    first = other(encoder()).double()
    network = method()
    load_weights(network, first.state_dict(), translate=network.translate)
    head = f"{first.encoder.HEAD}."
    expected = {
        name: value for name, value in first.encoder.state_dict().items() if not name.startswith(head)
    }
    assert have_weights(network, expected)


def test_clips_without_a_body_take_no_part_in_the_contrast():
    network, given = method().eval(), batch()
    expected = network(given, ("contrast",)).losses["contrast"]
    views = [
        Clip(torch.cat((view.x, added), 0), torch.cat((view.present, presence(added)), 0))
        for view in given.views
        for added in [torch.randn(2, *view.x.shape[1:], dtype=torch.float64)]
    ]
    for view, clip in zip(views, (3, 4), strict=True):  # one in the first view, the other in the second
        view.x[clip], view.present[clip] = 0, False
    label = torch.full((5,), -1)
    more = Batch(views, None, label, torch.arange(5), torch.full((5,), 2), torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(more, ("contrast",)).losses["contrast"], expected)


def test_nobody_gives_no_loss():
    network = method()
    empty = [torch.zeros(2, 3, 16, 25, 2, dtype=torch.float64)] * 2
    losses = network(Given(empty).batch(), ("feature", "contrast")).losses
    assert [loss.item() for loss in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert not any(p.grad.any() for p in network.parameters() if p.requires_grad)


def test_confidence_is_no_motion():
    torch.manual_seed(0)
    network = MaskedFeature(encoder(), channels="xyc", mask_ratio=0.5, **DECODER)
    assert network.masking.num_coordinate == 2


def test_weights_of_a_bare_encoder_are_not_taken_for_those_of_a_method():
    network, state = method(), encoder().state_dict()
    assert network.translate(state) == state


def test_the_contrast_alone_has_an_embedding_whose_collapse_is_seen():
    output = method()(batch(), ("contrast",))
    torch.testing.assert_close(output.embedding.norm(dim=1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("changes", [{"momentum": 1.1}, {"temperature": 0.0}, {"projection_dim": 0}])
def test_arguments_out_of_range_are_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=name):
        method(**changes)
