"""Self-supervised methods against the published outputs, and against their formulas written out."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import Given, learn

from conftest import assert_close_to_published, weights_by_formula
from net import ctr_gcn, st_gcn
from net.aimclr import AimCLR, attention_drop
from net.loss import covariance_loss, cross_entropy_of_distributions, info_nce, spread, variance_loss
from net.skeletonclr import SkeletonCLR
from net.vicreg import VICReg
from processor.encoder_weights import encoder_of


def small_encoder(**more):
    return st_gcn.Model(3, 5, **{"hidden_channels": 4, "hidden_dim": 8, **more})


def clips(count=4, *, seed=0, frames=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, frames, 25, 3, generator=generator).permute(0, 4, 2, 3, 1)


def unit(count, width=8, *, seed=0):
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


# -- the published step ------------------------------------------------------------------------------------


@pytest.fixture
def published(reference):
    """The method with the published weights and queue, the three views, and the published outputs."""
    outputs = reference("aimclr_step.npz")
    meta = outputs["meta"]
    feature_dim, queue_size = outputs["queue"].shape
    method = AimCLR(
        st_gcn.Model(3, hidden_channels=16),
        feature_dim=feature_dim,
        queue_size=queue_size,
        momentum=meta["momentum"],
        temperature=meta["temperature"],
        mining_topk=meta["topk"],
        mining_epoch=1,
    )
    weights = weights_by_formula(meta["keys"], seed_offset=meta["seed_offset"], gain=meta["gain"])
    loaded = method.load_state_dict(method.encoder.translate(weights), strict=False)
    assert set(loaded.missing_keys) == {"queue", "queue_ptr", "encoder_q.A", "encoder_k.A"}
    method.queue.copy_(torch.from_numpy(outputs["queue"]))
    views = [torch.from_numpy(outputs[f"x_{name}"]).double() for name in ("query", "key", "extreme")]
    # In float32 a dozen of 665,600 entries are so near to the threshold of the drop that rounding decides.
    return method.double().train(), views, outputs


@pytest.fixture
def logits_of(monkeypatch):
    """What `logits` gave in each step of a method."""
    steps = []

    def record(method):
        made = method.logits
        monkeypatch.setattr(method, "logits", lambda *args: steps.append(made(*args)) or steps[-1])
        return steps

    return record


def test_names_are_the_published_ones(published):
    method, _, outputs = published
    expected = [(key.replace(".fc.", ".fcn."), tuple(shape)) for key, shape in outputs["meta"]["keys"]]
    found = [(key, tuple(value.shape)) for key, value in method.state_dict().items()]
    assert sorted(found) == sorted(expected)


def test_published_steps_without_and_with_mining(published, logits_of):
    method, views, outputs = published
    steps = logits_of(method)
    method.start_epoch(0)
    losses = learn(method, Given(views)).losses
    query, extreme, dropped = steps[0]
    assert_close_to_published(query, outputs["logits"])
    assert_close_to_published(extreme.softmax(1), outputs["prob_extreme"])
    assert_close_to_published(dropped.softmax(1), outputs["prob_extreme_drop"])
    assert_close_to_published(query.softmax(1), outputs["prob_target"])
    assert_close_to_published(losses["info_nce"], outputs["loss_infonce"])
    assert_close_to_published(2 * losses["extreme"], outputs["loss_ddm_extreme"])
    assert_close_to_published(2 * losses["dropped"], outputs["loss_ddm_drop"])
    assert_close_to_published(sum(losses.values()), outputs["loss"])
    assert_close_to_published(method.queue, outputs["queue_after"])
    assert int(method.queue_ptr) == len(views[0])
    assert_close_to_published(method.encoder_k.fcn[0].weight, outputs["encoder_k_fc0_after"])

    sum(losses.values()).backward()
    norms = outputs["meta"]["grad_norm"]
    # As in test_st_gcn.py: values near a kink fall on either side; biases before a batch norm have gradient 0.
    for name, expected in norms.items():
        found = float(method.get_parameter(name.replace(".fc.", ".fcn.")).grad.norm())
        assert abs(found - expected) <= 4e-3 * expected + 1e-5 * max(norms.values()), name
    assert all(parameter.grad is None for parameter in method.encoder_k.parameters())

    method.start_epoch(1)
    losses = learn(method, Given(views)).losses
    np.testing.assert_array_equal(method.mine(steps[1]), outputs["mining_mask"])
    assert_close_to_published(losses["info_nce"], outputs["mining_loss_infonce"])
    assert_close_to_published(sum(losses.values()), outputs["mining_loss"])


def test_published_attention_drop(reference):
    outputs = reference("aimclr_attention_drop.npz")
    meta = outputs["meta"]
    dropped = attention_drop(torch.from_numpy(outputs["x"]), meta["keep_prob"], eps=meta["e_lambda"])
    assert_close_to_published(dropped, outputs["y"])


# -- attention-guided drop ---------------------------------------------------------------------------------


def test_attention_drop_by_hand():
    maps = torch.ones(1, 1, 2, 3)
    maps[0, 0, 0, 0] = 7
    # Mean 2; squared distances 25 and five times 1; variance 30 / 5 = 6: 25 / 24 + .5 -> .82; 1 / 24 + .5 -> .63.
    # Joint 0 has the mean .73, the others .63.
    expected = torch.tensor([[0, 1, 1], [0, 1, 1]]) * (3 / 2) * (6 / 5)
    torch.testing.assert_close(attention_drop(maps, 0.7, eps=0.0)[0, 0], expected)
    alone = torch.tensor([[0, 1, 1], [1, 1, 1]]) * (6 / 5)
    torch.testing.assert_close(attention_drop(maps, 0.75, eps=0.0)[0, 0], alone)


def test_attention_drop_of_everything_is_zero_and_keeps_the_dtype():
    assert not attention_drop(torch.randn(2, 3, 4, 5), 0.5).any()
    assert attention_drop(torch.randn(2, 3, 4, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16


# -- losses ------------------------------------------------------------------------------------------------


def test_info_nce_by_hand():
    logits = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    total = math.e + 1 + math.e**2
    first, second = math.log(total) - 1, math.log(3)
    assert float(info_nce(logits)) == pytest.approx((first + second) / 2)
    positive = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    both = (first + math.log(total) - 2) / 2
    assert float(info_nce(logits, positive)) == pytest.approx((both + second) / 2)


def test_cross_entropy_of_distributions_is_least_at_the_target_and_leaves_it_alone():
    target = torch.randn(5, 7, requires_grad=True)
    others = torch.randn(5, 7, requires_grad=True)
    entropy = torch.distributions.Categorical(logits=target).entropy().mean()
    assert cross_entropy_of_distributions(target, target).item() == pytest.approx(entropy.item(), rel=1e-5)
    loss = cross_entropy_of_distributions(others, target)
    by_hand = -(target.softmax(1) * others.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, by_hand)
    assert float(loss) > float(entropy)
    loss.backward()
    assert target.grad is None
    assert others.grad.any()


def test_variance_and_covariance_against_numpy():
    x = torch.randn(9, 4) * torch.tensor([0.1, 0.5, 1.0, 3.0])
    deviation = np.sqrt(np.var(x.numpy(), axis=0, ddof=1) + 1e-4)
    assert float(variance_loss(x)) == pytest.approx(np.maximum(0, 1 - deviation).mean(), rel=1e-5)
    matrix = np.cov(x.numpy().T)
    off = (matrix**2).sum() - (np.diag(matrix) ** 2).sum()
    assert float(covariance_loss(x)) == pytest.approx(off / 4, rel=1e-4)


def test_spread_of_a_point_of_two_and_of_directions_at_random():
    assert float(spread(torch.ones(6, 16))) == 0
    assert float(spread(3 * torch.ones(6, 16) * torch.tensor([1, -1] * 3)[:, None])) == pytest.approx(1)
    assert float(spread(torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)))) == pytest.approx(
        1, abs=0.03
    )


# -- the queue and the slow copy ---------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [[3, 3, 3], [4, 5], [7], [7, 2], [5], [11]])
def test_the_queue_holds_the_newest_keys_in_a_ring(batches):
    method = SkeletonCLR(small_encoder(), feature_dim=8, queue_size=5)
    expected, pointer = method.queue.clone(), 0
    for number, count in enumerate(batches):
        keys = unit(count, seed=number)
        method.enqueue(keys)
        for key in keys[-5:]:
            expected[:, pointer] = key
            pointer = (pointer + 1) % 5
    torch.testing.assert_close(method.queue, expected)
    assert int(method.queue_ptr) == pointer


def test_the_slow_copy_moves_a_step_and_takes_no_gradient():
    method = SkeletonCLR(small_encoder(), queue_size=6, momentum=0.75)
    with torch.no_grad():
        for parameter in method.encoder_q.parameters():
            parameter += 1
    before = copy.deepcopy(method.encoder_k)
    learn(method, Given([clips(), clips(seed=1)])).losses["info_nce"].backward()
    slow = zip(before.parameters(), method.encoder_q.parameters(), method.encoder_k.parameters(), strict=True)
    for old, fast, new in slow:
        torch.testing.assert_close(new, 0.75 * old + 0.25 * fast)
        assert new.grad is None


def test_skeletonclr_is_the_formula():
    torch.manual_seed(0)
    method = SkeletonCLR(small_encoder(), feature_dim=6, queue_size=10, temperature=0.2)
    reference = copy.deepcopy(method)
    output = learn(method, Given([clips(), clips(seed=1)]))
    query = F.normalize(reference.encoder_q(clips()), dim=1)
    key = F.normalize(reference.encoder_k(clips(seed=1)), dim=1)
    logits = torch.cat(((query * key).sum(1, keepdim=True), query @ reference.queue), 1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(output.losses["info_nce"], expected)
    torch.testing.assert_close(method.queue[:, :4], key.T)


def test_vicreg_is_the_formula():
    torch.manual_seed(0)
    method = VICReg(small_encoder(), feature_dim=6, invariance=2.0, variance=3.0, covariance=0.5)
    reference = copy.deepcopy(method)
    losses = learn(method, Given([clips(), clips(seed=1)])).losses
    a, b = reference.encoder(clips()), reference.encoder(clips(seed=1))
    torch.testing.assert_close(losses["invariance"], 2 * F.mse_loss(a, b))
    torch.testing.assert_close(losses["variance"], 3 * (variance_loss(a) + variance_loss(b)) / 2)
    torch.testing.assert_close(losses["covariance"], 0.5 * (covariance_loss(a) + covariance_loss(b)))


METHODS = (SkeletonCLR, AimCLR, VICReg)


@pytest.mark.parametrize("method_class", METHODS)
@pytest.mark.parametrize(
    "encoder",
    [
        small_encoder,
        lambda: small_encoder(skip_empty_bodies=True),
        lambda: ctr_gcn.Model(3, 5, base_channels=8),
    ],
    ids=["st_gcn", "skip_empty_bodies", "ctr_gcn"],
)
def test_every_method_trains_every_backbone(method_class, encoder):
    torch.manual_seed(0)
    method = method_class(encoder())
    method.start_epoch(1000)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.01, momentum=0.9)
    views = [clips(seed=seed) for seed in range(max(loss.num_view for loss in method.LOSSES))]
    views[0][1, ..., 1] = 0
    before = {name: value.clone() for name, value in method.encoder.named_parameters()}
    for _ in range(2):
        output = learn(method, Given(views))
        optimizer.zero_grad()
        sum(output.losses.values()).backward()
        optimizer.step()
    assert output.embedding.shape[0] == 4
    assert all(torch.isfinite(loss) for loss in output.losses.values())
    changed = [not torch.equal(before[k], v) for k, v in method.encoder.named_parameters()]
    assert np.mean(changed) > 0.8


@pytest.mark.parametrize("method_class", METHODS)
def test_the_encoder_is_found_in_the_weights(method_class):
    method = method_class(small_encoder())
    found = encoder_of(method.state_dict(), small_encoder())
    expected = method.encoder.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    plain = small_encoder().state_dict()
    assert encoder_of(plain, small_encoder()) is plain
    # A model that has a part of that name itself.
    own = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 3), "head": torch.nn.Linear(3, 4)})
    assert encoder_of(own.state_dict(), own).keys() == own.state_dict().keys()


@pytest.mark.parametrize(
    ("method_class", "arguments", "said"),
    [
        (SkeletonCLR, {"queue_size": 0}, "queue_size 0"),
        (SkeletonCLR, {"momentum": 1.5}, "momentum is 1.5; give 0 to 1"),
        (SkeletonCLR, {"temperature": 0.0}, "temperature is 0.0; give more than 0"),
        (AimCLR, {"mining_topk": 9, "queue_size": 8}, r"mining_topk is 9; give 1 to queue_size \(8\)"),
        (VICReg, {"feature_dim": 0}, "feature_dim is 0"),
        (VICReg, {"variance": -1.0}, "give 0 or more"),
    ],
)
def test_arguments_out_of_range(method_class, arguments, said):
    with pytest.raises(ValueError, match=said):
        method_class(small_encoder(), **arguments)
