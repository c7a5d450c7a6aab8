"""AS-GCN and its links against the published outputs, and against loops over types, steps and bodies."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import Given, forecast, learn
from torch import nn

from benchmarks.textbook import as_gcn as textbook_as_gcn
from conftest import assert_close_to_published, weights_by_formula
from net.actional_links import Links
from net.as_gcn import FUTURE_BLOCKS, Model
from net.long_term import LongTerm
from net.utils.dropout import Dropout
from net.utils.gcn import add_bias, bias_of_joints, graph_conv_by_body
from processor.encoder_weights import load_translated, translate

# Inputs are stored in float16. Rounding them moves the outputs by as much, in float64, too.
OF_ROUNDED_INPUT = 5e-4


def test_published_files_load_as_one_and_nothing_else_takes_their_names(tmp_path):
    model, other = small_model(), small_model()
    published = {
        key.removeprefix("links."): value + 1 for key, value in other.state_dict().items() if key != "A"
    }
    torch.save(published, tmp_path / "published.pt")
    load_translated(model, str(tmp_path / "published.pt"), ignore=["A"])
    assert all(
        torch.equal(model.state_dict()[key], value + 1)
        for key, value in other.state_dict().items()
        if key != "A"
    )
    links = {
        key.removeprefix("links."): value for key, value in model.state_dict().items() if "links." in key
    }
    assert {key.split(".")[0] for key in links} == {"encoder", "decoder"}
    found = translate(model, links)
    assert {f"links.{key}" for key in links} == set(found)
    # As an encoder inside a method it goes by that name itself.
    method = LongTerm(small_model(), num_predict=4, queue_size=4)
    assert model.translate(method.state_dict()).keys() == method.state_dict().keys()
    assert translate(model, method.state_dict()).keys() == model.state_dict().keys()


@pytest.fixture
def published(reference):
    outputs = reference("asgcn.npz")
    meta = outputs["meta"]
    model = Model(
        3, 60, max_hop=meta["max_hop"], link_hidden=meta["n_hid"], link_weight=meta["lamda_act"], dropout=0.0,
        link_dropout=0.0, likeliest_links=True,
    )  # fmt: skip
    made = {"seed_offset": meta["seed_offset"], "gain": meta["gain"]}
    weights = weights_by_formula(meta["keys_model"], **made)
    weights |= model.translate(weights_by_formula(meta["keys_links"], **made))
    assert model.load_state_dict(weights, strict=False).missing_keys == ["A"]
    x = torch.from_numpy(outputs["x"].astype(np.float32))
    return model.eval(), x.permute(0, 4, 2, 3, 1).flatten(0, 1), outputs


def test_names_are_the_published_ones(published):
    model, _, outputs = published
    keys = [*outputs["meta"]["keys_model"]]
    keys += [[f"links.{name}", shape] for name, shape in outputs["meta"]["keys_links"]]
    assert sorted(keys) == sorted([name, list(value.shape)] for name, value in model.state_dict().items())
    np.testing.assert_array_equal(model.A.numpy(), outputs["A"])


@torch.no_grad()
def test_published_links(published):
    model, bodies, outputs = published
    seen = bodies[:, :250:5]
    links = model.links(seen)
    assert_close_to_published(links.logits, outputs["links_logits"], OF_ROUNDED_INPUT)
    assert_close_to_published(links.logits.softmax(-1), outputs["links_prob"], OF_ROUNDED_INPUT)
    assert_close_to_published(links.adjacency(), outputs["links_A"], 1e-6)
    predicted = model.links.decoder(seen, links.edges)
    assert_close_to_published(predicted.transpose(1, 2), outputs["links_pred"], OF_ROUNDED_INPUT)


@torch.no_grad()
def test_published_scores_and_future(published):
    model, bodies, outputs = published
    links = torch.from_numpy(outputs["links_A"])
    maps = model.maps(bodies, links)
    scores = model.fcn(maps.mean((2, 3)).view(2, 2, -1).mean(1))
    assert_close_to_published(scores, outputs["logits"], OF_ROUNDED_INPUT)
    last = bodies[:, -1]
    moved = (model.predict(maps, links, last, everybody(last)) - last[:, None])[::2]
    # The published code adds the last pose's coordinates as x y z x y z ..., to channels x x x ... y y y ...
    added = last[::2].transpose(1, 2).repeat(1, 10, 1).unflatten(1, (3, 10))
    assert_close_to_published(moved.permute(0, 3, 1, 2) + added, outputs["pred"], OF_ROUNDED_INPUT)
    np.testing.assert_array_equal(outputs["target"][..., 0], outputs["target_used"])


def small_model(**options):
    """A network whose outputs are not all next to 0, without dropout unless set otherwise."""
    torch.manual_seed(0)
    sizes = {"hidden_channels": 4, "link_hidden": 8, "num_predict": 10}
    model = Model(3, 5, **sizes, **({"dropout": 0.0, "link_dropout": 0.0} | options)).double()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def beside_textbook(**options):
    """Ours and the textbook's with the same weights; batch norms are those of training, the links are not drawn."""
    ours = small_model(**options, likeliest_links=True)
    textbook = textbook_as_gcn.ASGCN(ours.A, 5, hidden_channels=4, hidden=8, dropout=0.0).double()
    textbook.load_state_dict(ours.state_dict())
    for model in (ours, textbook):
        model.links.training = False
    return ours, textbook


def there(bodies):
    """In which frames bodies (B, T, V, C) are: (B, T) bool."""
    return (bodies != 0).flatten(2).any(2)


def everybody(bodies):
    """That all of B bodies are there: (B,) bool."""
    return torch.ones(len(bodies), dtype=torch.bool)


def sample_of(num_body=1, num_frame=290):
    generator = torch.Generator().manual_seed(1)
    x, future = (
        torch.randn(2, 3, frames, 25, num_body, generator=generator).double() for frames in (num_frame, 10)
    )
    return Given([x], future, torch.tensor([3, 1]))


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9)


def gradients(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same_gradients(found, expected, names):
    """Of the parameters whose name says so; all others have none in ours."""
    largest = max(gradient.abs().max().item() for gradient in expected.values() if gradient is not None)
    for name, gradient in found.items():
        if names(name) and expected[name] is not None:
            torch.testing.assert_close(gradient, expected[name], rtol=1e-6, atol=1e-10 * largest)
        else:
            assert gradient is None, name


def test_links_are_those_of_the_textbook():
    ours, textbook = beside_textbook()
    x = sample_of(num_body=2).views[0]
    seen = ours.link_frames(x.permute(0, 4, 2, 3, 1).flatten(0, 1))
    assert_same(seen, textbook.seen(x))
    links, (logits, edges) = ours.links(seen), textbook.links.draw(seen)
    assert_same(links.logits, logits)
    assert_same(links.edges, edges)
    assert_same(links.adjacency(), textbook.links.adjacency(edges))
    assert_same(ours.links.decoder(seen, links.edges), textbook.links(seen).predicted)
    # All types are drawn, or a mistake in one would not show.
    assert links.edges.detach().sum((0, 1)).min() > 50


def test_links_learn_as_in_the_textbook():
    ours, textbook = beside_textbook()
    sample = sample_of(num_body=2)
    losses = learn(ours, sample, ("nll", "kl")).losses
    assert losses.keys() == {"nll", "kl"}
    found, expected = losses["nll"] + losses["kl"], textbook_as_gcn.links_loss(textbook, sample.batch())
    assert_same(found, expected)
    assert losses["kl"] > 1
    # The links' own matrices of "no link" learn nothing, in either.
    assert_same_gradients(
        gradients(ours, found), gradients(textbook, expected), lambda name: name.startswith("links.")
    )


@pytest.mark.parametrize("as_published", [False, True])
def test_backbone_learns_as_in_the_textbook(as_published):
    """Published, the gradient goes on into the links, as it does in ours where it is asked for."""
    ours, textbook = beside_textbook(link_gradient=as_published)
    sample = sample_of()
    output = learn(ours, sample, ("cross_entropy", "future"))
    assert output.losses.keys() == {"future"}
    found = F.cross_entropy(output.scores, sample.label) + 0.01 * output.losses["future"]
    expected = textbook_as_gcn.backbone_loss(textbook, sample.batch(), as_published=as_published)
    assert_same(found, expected)
    assert_same_gradients(
        gradients(ours, found),
        gradients(textbook, expected),
        lambda name: as_published or not name.startswith("links."),
    )


@pytest.mark.parametrize("as_published", [False, True])
@torch.no_grad()
def test_scores_and_future_are_those_of_the_textbook(as_published):
    ours, textbook = (model.eval() for model in beside_textbook())
    x = sample_of(num_body=2).views[0]
    scores = textbook_as_gcn.infer(textbook, x, as_published=as_published)
    assert_same(ours(x), scores)
    assert scores.std() > 0.01
    bodies = x.permute(0, 4, 2, 3, 1).flatten(0, 1)
    links = ours.infer(bodies)
    maps = ours.maps(bodies, links)
    last = bodies[:, -1]
    expected = textbook.future(maps, links, textbook_as_gcn.last_poses(x))
    assert_same(ours.predict(maps, links, last, everybody(last)).permute(0, 3, 1, 2), expected)


@pytest.mark.parametrize(("width_in", "width"), [(3, 8), (8, 3)])
def test_each_body_is_convolved_with_its_own_adjacency(width_in, width):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    x, A, weight, bias = draw(3, width_in, 6, 5), draw(3, 2, 5, 5), draw(2, width, width_in), draw(2, width)
    rows = []
    for body, matrices in zip(x, A, strict=True):
        total = torch.zeros(width, 6, 5, dtype=torch.float64)
        for k, matrix in enumerate(matrices):
            total = total + (torch.einsum("oc,ctv->otv", weight[k], body) + bias[k][:, None, None]) @ matrix
        rows.append(total)
    found = add_bias(graph_conv_by_body(x, A, weight), bias_of_joints(A, bias)[:, None])
    expected = torch.stack(rows)
    assert_same(found, expected)
    factor = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    given = (x, A, weight, bias)
    for gradient, wanted in zip(
        torch.autograd.grad((found * factor).sum(), given),
        torch.autograd.grad((expected * factor).sum(), given),
        strict=True,
    ):
        assert_same(gradient, wanted)


@pytest.mark.parametrize(("num_frame", "num_left"), [(40, 1), (360, 6)])
@torch.no_grad()
def test_future_of_clips_of_other_lengths(num_frame, num_left):
    """The last block but one sees 5 frames: fewer have zeros before them, of more the mean over windows is taken."""
    ours, textbook = (model.eval() for model in beside_textbook())
    x = sample_of(num_frame=num_frame).views[0]
    bodies = x[..., 0].permute(0, 2, 3, 1)
    links = ours.infer(bodies)
    y = maps = ours.maps(bodies, links)
    for index in range(5):
        block = textbook.get_submodule(f"recon_layer_{index}")
        y = block(y, textbook.A * textbook.edge_importance_recon[index], links)
    assert y.shape[2] == num_left
    y = torch.cat((y.new_zeros(2, y.shape[1], max(0, FUTURE_BLOCKS[-1][0] - num_left), 25), y), 2)
    windows = [
        textbook.recon_layer_5(
            y[:, :, begin : begin + 5], textbook.A * textbook.edge_importance_recon[5], links
        )
        for begin in range(y.shape[2] - 4)
    ]
    last = textbook_as_gcn.last_poses(x)
    y = torch.cat((sum(windows) / len(windows), last), 1)
    moved = textbook.recon_layer_6(y, textbook.A * textbook.edge_importance_recon[6], links)
    expected = last + moved.view(2, 3, 10, 25)
    last = bodies[:, -1]
    assert_same(ours.predict(maps, links, last, everybody(last)).permute(0, 3, 1, 2), expected)


@torch.no_grad()
def test_bodies_that_are_not_there_are_left_out():
    ours = small_model(skip_empty_bodies=True).eval()
    sample = sample_of(num_body=2)
    x, future = sample.views[0], sample.future
    x[1, ..., 1] = future[1, ..., 1] = 0
    alone = [each.permute(0, 4, 1, 2, 3).flatten(0, 1)[:3, ..., None] for each in (x, future)]
    wanted = ("cross_entropy", "future", "nll", "kl")
    found = learn(ours, sample, wanted)
    expected = learn(ours, Given([alone[0]], alone[1]), wanted)
    assert_same(found.losses, expected.losses)
    of_body = expected.scores
    assert_same(found.scores, torch.stack((of_body[:2].mean(0), of_body[2])))
    ours.skip_empty_bodies = False
    for name, loss in learn(ours, sample, wanted).losses.items():
        # Those that are judged by the joints that are there do not see the others.
        assert torch.isclose(loss, found.losses[name]), name


@torch.no_grad()
def test_joints_that_appear_or_disappear_have_no_link_loss():
    """One such step, of metres, would dominate the loss."""
    links = small_model(num_link_frame=8).links
    links.decoder.forward = lambda poses, edges: poses[:, :-1]  # predicts that all joints stand still
    poses = torch.randn(3, 1, 25, 3).double().expand(-1, 8, -1, -1).clone()
    inferred = links(poses)
    assert links.nll(poses, inferred, there(poses)) == 0
    poses[0, 5:], poses[1, :2], poses[2, 3, 7] = 0, 0, 0
    assert links.nll(poses, inferred, there(poses)) == 0
    # Two of 75 joints move once, by 0.1 m; those of a body that is there for half the time count as any.
    poses[0, 1:5, 4, 0] += 0.1
    poses[2, 3:, 2, 1] += 0.1
    found = links.nll(poses, inferred, there(poses), variance=0.01)
    assert float(found) == pytest.approx(2 * 0.1**2 / (2 * 0.01) / 75)


@pytest.mark.parametrize("link_gradient", [False, True])
def test_scores_train_the_links_only_with_link_gradient(link_gradient):
    for scores_of in (
        lambda model, x: model(x),
        lambda model, x: learn(model, Given([x]), ("cross_entropy",)).scores,
    ):
        model = small_model(link_gradient=link_gradient).train()
        scores_of(model, torch.randn(2, 3, 16, 25, 1).double()).sum().backward()
        has_gradient = [bool(p.grad is not None and p.grad.any()) for p in model.links.encoder.parameters()]
        assert any(has_gradient) == link_gradient


@pytest.mark.parametrize("train", [False, True])
def test_a_batch_without_bodies_has_loss_0(train):
    model = small_model(skip_empty_bodies=True).train(train)
    empty = torch.zeros(2, 3, 16, 25, 2).double()
    sample = Given([empty], torch.zeros(2, 3, 10, 25, 2))
    output = learn(model, sample, ("cross_entropy", "future", "nll", "kl"))
    assert {name: float(loss) for name, loss in output.losses.items()} == {"future": 0, "nll": 0, "kl": 0}
    assert output.scores.isfinite().all()
    assert not forecast(model, empty).any()
    for wanted in (("future",), ("nll", "kl")):
        sum(learn(model, sample, wanted).losses.values()).backward()
    assert not any(p.grad.any() for p in model.links.parameters())


@pytest.mark.parametrize("skip", [False, True])
def test_an_absent_body_stays_absent_in_a_prediction(skip):
    x = torch.randn(2, 3, 16, 25, 2).double()
    x[1, ..., 1] = 0
    x[0, :, :, 1, 0] = 0  # what poses are centred on
    found = forecast(small_model(skip_empty_bodies=skip).eval(), x)
    assert (found == 0).all((1, 2))[0, :, 0].nonzero().tolist() == [[1]]
    assert [bool(found[clip, ..., body].any()) for clip, body in ((0, 1), (1, 0), (1, 1))] == [
        True,
        True,
        False,
    ]


def test_links_need_two_frames():
    with pytest.raises(ValueError, match=r"num_frame is 1\b"):
        small_model(num_link_frame=1)


def test_links_are_drawn_in_training_alone():
    ours = small_model()
    bodies = sample_of().views[0][..., 0].permute(0, 2, 3, 1)

    def draw(train, seed):
        ours.train(train)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        links = ours.infer(bodies)
        return links.detach(), not torch.equal(torch.get_rng_state(), before)

    links, drawn = draw(False, 0)
    assert not drawn
    assert torch.equal(links, draw(False, 1)[0])
    links, drawn = draw(True, 0)
    assert drawn
    assert torch.equal(links, draw(True, 0)[0])
    assert not torch.equal(links, draw(True, 1)[0])


def test_links_are_tested_by_the_mean_of_what_training_draws():
    """The likeliest types may be "no link" everywhere, though training draws many links."""
    links = small_model().links
    with torch.no_grad():
        links.encoder.fc_out.bias.copy_(torch.tensor([2.0, 0.5, -0.5]))
        links.encoder.fc_out.weight.mul_(0.1)
    poses = torch.randn(2, 50, 25, 3).double()
    mean = links.eval()(poses)
    links.encoder.eval()
    links.training = True
    torch.manual_seed(0)
    drawn = torch.stack([links(poses).edges for _ in range(400)]).mean(0)
    assert (drawn - mean.edges).abs().max() < 0.12
    assert (drawn - mean.edges).mean((0, 1)).abs().max() < 0.005
    assert mean.edges.argmax(-1).eq(0).float().mean() > 0.9
    adjacency = mean.adjacency()
    eye = torch.eye(25, dtype=torch.bool)
    assert adjacency[:, :, ~eye].min() > 0
    torch.testing.assert_close(adjacency.sum(2), torch.full_like(adjacency[:, :, 0], 0.1))


@pytest.mark.parametrize("train", [False, True])
def test_gradients_of_edges_are_those_of_the_softmax(train):
    ours = small_model(likeliest_links=True).train(train)
    torch.manual_seed(2)
    links = ours.links(torch.randn(2, 50, 25, 3).double())
    assert_same(links.edges.detach().sort(-1).values, torch.eye(3).double()[2].expand(2, 600, 3))
    factor = torch.randn_like(links.edges)
    (found,) = torch.autograd.grad((links.edges * factor).sum(), links.logits, retain_graph=True)
    assert found.abs().min() > 0
    if not train:
        assert torch.equal(links.edges.argmax(-1), links.logits.argmax(-1))
        soft = (links.logits / 0.5).softmax(-1)
        (expected,) = torch.autograd.grad((soft * factor).sum(), links.logits)
        assert_same(found, expected)


def test_bfloat16_is_near_float32():
    ours = small_model().float()
    ours.links.training = False
    sample = sample_of()
    sample = Given([sample.views[0].float()], sample.future.float(), sample.label)
    bodies = sample.views[0][..., 0].permute(0, 2, 3, 1)
    seen = ours.link_frames(bodies)
    links = Links(*(each.detach() for each in ours.links(seen)))
    found = []
    for enabled in (False, True):
        # The same links: one whose two likeliest types are as likely may be another in bfloat16.
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            maps = ours.maps(bodies, links.adjacency())
            future = ours.predict(maps, links.adjacency(), bodies[:, -1], everybody(bodies))
            nll, kl = (loss(seen, links, there(seen)) for loss in (ours.links.nll, ours.links.kl))
            logits = ours.links(seen).logits
            scores = ours(sample.views[0])
        assert (maps.dtype, scores.dtype) == (torch.bfloat16 if enabled else torch.float32, torch.float32)
        found.append([each.detach().float() for each in (maps, future, nll, kl, logits)])
        assert all(grad is None or grad.isfinite().all() for grad in gradients(ours, nll).values())
    for exact, near in zip(*found, strict=True):
        assert (near - exact).norm() / exact.norm() < 0.1


def test_weights_may_be_bfloat16_throughout():
    ours = small_model().bfloat16()
    sample = sample_of()
    sample = Given([sample.views[0].bfloat16()], sample.future.bfloat16())
    output = learn(ours, sample, ("cross_entropy", "future", "nll", "kl"))
    (output.scores.float().square().sum() + sum(output.losses.values())).backward()
    assert output.scores.dtype == torch.bfloat16
    assert {loss.dtype for loss in output.losses.values()} == {torch.float32}


@pytest.mark.parametrize(("p", "bits"), [(0.5, 8), (0.25, 8), (0.3, 16)])
def test_dropout_drops_its_share_and_keeps_the_mean(p, bits):
    torch.manual_seed(0)
    size = 1_000_001  # not a whole number of the words that are drawn
    x = torch.full((size,), 3.0, requires_grad=True)
    y = Dropout(p)(x)
    dropped = (y == 0).double().mean().item()
    assert dropped == pytest.approx(p, abs=4 * (p * (1 - p) / size) ** 0.5)
    assert y[y != 0].unique().tolist() == pytest.approx([3 / (1 - round(p * 2**bits) / 2**bits)])
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach() / 3)
    # No number has to do with the next.
    both = ((y[1:] == 0) & (y[:-1] == 0)).double().mean().item()
    assert both == pytest.approx(p * p, abs=0.003)


def test_dropout_of_nothing_and_of_all():
    x = torch.randn(7)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert not Dropout(1.0)(x).any()
    # What would round to all leaves some.
    assert Dropout(1 - 1e-9)(torch.ones(2**20)).any()
    y = x.clone()
    assert Dropout(0.5, inplace=True)(y) is y
    assert not torch.equal(y, x)


def test_all_that_is_dropped_is_dropped_fast():
    model = Model(dropout=0.3, link_dropout=0.4)
    found = {name: (type(m), m.p) for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    assert len(found) == 9 + 6 + 1 + 4 + 1
    for name, kind in found.items():
        assert kind == (Dropout, 0.4 if name.startswith("links.") else 0.3)
