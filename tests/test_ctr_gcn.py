"""CTR-GCN against the published outputs, and against a textbook module of the same formulas."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import assert_close_to_published, weights_by_formula
from net.ctr_gcn import Model, _Concatenate, _Split
from net.utils.clip import Clip
from net.utils.graph import Graph

LAYOUT = {25: "ntu-rgb+d", 20: "kinect-v1"}


class Textbook(nn.Module):
    """The same network subset by subset and branch by branch, with the relations taken of every frame."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def graph_conv(self, unit, x):
        total = 0
        for subset, A in zip(unit.convs, unit.PA, strict=True):
            query, key = subset.conv1(x).mean(2), subset.conv2(x).mean(2)  # (B, R, V)
            relation = subset.conv4(torch.tanh(query[..., :, None] - key[..., None, :]))
            total = total + torch.einsum("ncuv,nctv->nctu", unit.alpha * relation + A, subset.conv3(x))
        return F.relu(unit.bn(total) + unit.down(x))

    def forward(self, x):
        model = self.model
        N, C, T, V, M = x.shape
        rows = x.permute(0, 4, 3, 1, 2).reshape(N, M * V * C, T)
        y = model.data_bn(rows).view(N, M, V, C, T).permute(0, 1, 3, 4, 2).reshape(N * M, C, T, V)
        for number in range(1, 11):
            block = model.get_submodule(f"l{number}")
            middle = self.graph_conv(block.gcn1, y)
            last = block.tcn1.branches[-1]
            parts = [branch(middle) for branch in block.tcn1.branches[:-1]]
            parts.append(last[1](F.conv2d(middle, last[0].weight, last[0].bias, (block.tcn1.stride, 1))))
            around = 0 if block.residual is None else block.residual(y)
            y = F.relu(torch.cat(parts, 1) + around)
        return model.fc(model.drop_out(y.mean((2, 3)).view(N, M, -1).mean(1)))


def clips(*, bodies=2, joints=25, frames=9):
    """Clips (3, 3, T, V, M) laid out as the loader gives them: a view of contiguous (N, M, T, V, C)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, bodies, frames, joints, 3, generator=generator).permute(0, 4, 2, 3, 1)


def small(**more):
    """A network with every weight at work: as it begins, alpha is 0 and the graph convolutions nearly so.

    Its batch norms have seen one batch, so that values keep their size in eval mode too.
    """
    torch.manual_seed(0)
    model = Model(3, 5, **{"base_channels": 8, **more})
    for name, parameter in model.named_parameters():
        if name.endswith(("alpha", "gcn1.bn.weight")):
            nn.init.normal_(parameter, 0.5, 0.1)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model(clips(bodies=model.num_body, joints=model.num_joint))
    for norm in norms:
        norm.momentum = 0.1
    return model


@pytest.fixture(params=["ctrgcn_ntu.npz", "ctrgcn_ucla.npz"])
def published(request, reference):
    """Network with the weights that the published outputs were made with, and those outputs."""
    outputs = reference(request.param)
    meta = outputs["meta"]
    layout = LAYOUT[outputs["x"].shape[3]]
    model = Model(outputs["x"].shape[1], meta["num_class"], layout=layout, num_body=meta["num_person"])
    weights = weights_by_formula(meta["keys"], seed_offset=meta["seed_offset"], gain=meta["gain"])
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert missing == [f"l{number}.gcn1.PA" for number in range(1, 11)]
    return model, outputs


def test_state_dict_is_the_published_one(published):
    model, outputs = published
    state = model.state_dict()
    assert [[name, list(value.shape)] for name, value in state.items()] == outputs["meta"]["keys"]
    for number in range(1, 11):
        np.testing.assert_array_equal(state[f"l{number}.gcn1.PA"].numpy(), outputs["A"].astype(np.float32))


def test_state_dict_names_without_any_reference():
    keys = list(small().state_dict())
    unit = {key.removeprefix("l5.gcn1.") for key in keys if key.startswith("l5.gcn1.")}
    norm = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert unit == {"PA", "alpha", "down.0.weight", "down.0.bias"} | {
        f"convs.{k}.conv{n}.{name}" for k in range(3) for n in range(1, 5) for name in ("weight", "bias")
    } | {f"{place}.{name}" for place in ("down.1", "bn") for name in norm}
    branches = {
        key.split(".")[3] + "." + key.split(".")[4] for key in keys if key.startswith("l5.tcn1.branches")
    }
    assert branches == {"0.0", "0.1", "0.3", "1.0", "1.1", "1.3", "2.0", "2.1", "2.4", "3.0", "3.1"}
    assert {key.split(".")[2] for key in keys if key.startswith("l5.residual.")} == {"conv", "bn"}
    assert keys[-2:] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("training", [False, True])
def test_published_outputs(published, training):
    model, outputs = published
    with torch.no_grad():
        logits = model.train(training)(torch.from_numpy(outputs["x"]))
    assert_close_to_published(logits, outputs["logits_train" if training else "logits_eval"])


@pytest.mark.parametrize(
    "arguments", [{}, {"layout": "kinect-v1", "num_body": 1, "adaptive": False, "base_channels": 16}]
)
@pytest.mark.parametrize("training", [False, True])
def test_equal_to_the_textbook(arguments, training):
    model = small(**arguments).double().train(training)
    x = clips(bodies=model.num_body, joints=model.num_joint).double().requires_grad_()
    direction = torch.randn(3, 5, dtype=torch.float64)
    results = []
    for network in (model, Textbook(model)):
        scores = network(x)
        results.append([scores, *torch.autograd.grad((scores * direction).sum(), [x, *model.parameters()])])
    torch.testing.assert_close(*results)


def test_fixed_adjacency_is_no_parameter():
    fixed = small(adaptive=False)
    assert not any("PA" in name for name in fixed.state_dict())
    assert torch.equal(fixed.l3.gcn1.PA, torch.tensor(Graph("ntu-rgb+d", "digraph").A, dtype=torch.float32))
    assert isinstance(small().l3.gcn1.PA, nn.Parameter)


def test_feature_map_pools_to_the_embedding():
    model = small().eval()
    maps = model.extract_feature(clips())
    assert maps.shape == (3, 2, 32, 3, 25)
    torch.testing.assert_close(maps.mean((1, 3, 4)), model.encode(Clip.of(clips())).pool())
    torch.testing.assert_close(model.fc(model.encode(Clip.of(clips())).pool()), model(clips()))


def test_parts_of_the_channels_and_their_gradients_are_channels_last():
    x = torch.randn(2, 8, 5, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    parts = _Split.apply(x, 4)
    whole = _Concatenate.apply(*parts)
    assert torch.equal(whole, x) and whole.is_contiguous(memory_format=torch.channels_last)
    direction = torch.randn_like(whole)
    *gradients, back = torch.autograd.grad((whole * direction).sum(), [*parts, x])
    assert torch.equal(torch.cat(gradients, 1), direction) and torch.equal(back, direction)
    for tensor in (*parts, *gradients, back):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_is_near():
    model = small().eval()
    with torch.no_grad():
        exact = model(clips())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = model(clips())
    assert scores.dtype == torch.float32
    assert_close_to_published(scores.float(), exact, 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.train()(clips()).float().logsumexp(1).sum()
    loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_dropout_acts_in_training_only():
    model = small(dropout=0.5)
    assert not torch.equal(model(clips()), model(clips()))
    model.eval()
    assert torch.equal(model(clips()), model(clips()))


def test_relations_are_taken_in_an_eighth_of_the_channels_but_not_of_few():
    relations = [
        Model(base_channels=width).get_submodule(f"l{number}").gcn1.convs[0].conv1.out_channels
        for width in (8, 16)
        for number in (1, 2, 6)
    ]
    assert relations == [8, 8, 2, 8, 2, 4]


def test_network_begins_as_published():
    torch.manual_seed(0)
    model = Model(3, 50, base_channels=16)
    assert all(model.get_submodule(f"l{n}").gcn1.alpha == 0 for n in range(1, 11))
    assert all((model.get_submodule(f"l{n}").gcn1.bn.weight == 1e-6).all() for n in range(1, 11))
    conv = model.l9.gcn1.convs[1].conv3
    assert abs(conv.weight.std() - (2 / 64) ** 0.5) < 0.01 and not conv.bias.any()
    temporal = model.l9.tcn1.branches[1][3]
    assert abs(temporal.conv.weight.std() - (2 / (16 * 5)) ** 0.5) < 0.01
    assert 0.005 < temporal.bn.weight.std() < 0.04
    assert (model.l8.residual.bn.weight == 1).all() and (model.data_bn.weight == 1).all()
    assert abs(model.fc.weight.std() - 0.2) < 0.02


def test_wrong_input_is_named():
    for shape in ((2, 3, 9, 20, 2), (2, 2, 9, 25, 2), (2, 3, 9, 25, 1)):
        with pytest.raises(
            ValueError, match=r"takes \(N, 3, T, 25, 2\): set in_channels, layout and num_body"
        ):
            small()(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"clips are \(N, C, T, V, M\)"):
        small()(torch.zeros(2, 3, 9, 25))


@pytest.mark.parametrize("width", [4, 18])
def test_width_that_cannot_be_shared_is_refused(width):
    with pytest.raises(ValueError, match=rf"base_channels is {width}\b.* multiple of 4 "):
        Model(base_channels=width)
