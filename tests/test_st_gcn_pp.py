"""ST-GCN++ against a textbook of the same formulas, its size, and what must not change its answer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from net.st_gcn import Model as STGCN
from net.st_gcn_pp import Model
from net.utils.clip import Clip


def model(**changes) -> Model:
    """With random weights and statistics in all layers."""
    torch.manual_seed(0)
    network = Model(3, 5, **{"hidden_channels": 8, "layout": "kinect-v1", **changes}).double().eval()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for values in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(values, std=0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    for parameter in (block.gcn.A for block in network.blocks):
        nn.init.normal_(parameter, std=0.2)
    return network


def clips() -> torch.Tensor:
    torch.manual_seed(1)
    x = torch.randn(3, 3, 13, 20, 2, dtype=torch.float64)
    x[1, ..., 1] = 0
    return x


def textbook(network: Model, x: torch.Tensor) -> torch.Tensor:
    """Scores (N, num_class): the published formulas, branch by branch."""
    n, c, t, v, m = x.shape
    rows = x.permute(0, 4, 3, 1, 2).reshape(n * m, v * c, t)
    y = network.data_bn(rows).view(n * m, v, c, t).permute(0, 2, 3, 1)
    for block in network.blocks:
        conv = block.gcn.conv.conv(y).unflatten(1, (3, -1))
        z = block.gcn.bn(torch.einsum("nkctv,kvw->nctw", conv, block.gcn.A))
        z = F.relu(z + block.gcn.residual(y))
        tcn, start, branches = block.tcn, 0, []
        for number, size in enumerate(tcn.sizes):
            own = slice(start, start + size)
            branch = F.conv2d(z, tcn.first.weight[own], tcn.first.bias[own])
            start += size
            if number < 5:
                norm = tcn.first_bn
                statistics = norm.running_mean[own], norm.running_var[own], norm.weight[own], norm.bias[own]
                branch = F.relu(F.batch_norm(branch, *statistics, eps=norm.eps))
            if number < 4:
                conv, dilation = tcn.dilated[number], number + 1
                padding = (dilation, 0)
                branch = F.conv2d(branch, conv.weight, conv.bias, (tcn.stride, 1), padding, (dilation, 1))
            elif number == 4:
                branch = F.max_pool2d(branch, (3, 1), (tcn.stride, 1), (1, 0))
            else:
                branch = branch[:, :, :: tcn.stride]
            branches.append(branch)
        z = tcn.join[3](tcn.join[2](F.relu(tcn.join[0](torch.cat(branches, 1)))))
        y = F.relu(z if block.residual is None else z + block.residual(y))
    return network.fc(y.mean((2, 3)).view(n, m, -1).mean(1))


def test_scores_are_those_of_the_textbook():
    network, x = model(), clips()
    torch.testing.assert_close(network(x), textbook(network, x))


def test_size_is_the_published_one():
    network = Model()
    count = sum(parameter.numel() for parameter in network.encoder_parameters())
    assert round(count / 1e6, 2) == 1.39
    small, large = Model(hidden_channels=16), STGCN(hidden_channels=16)
    sizes = [sum(parameter.numel() for parameter in each.parameters()) for each in (small, large)]
    assert sizes[0] < sizes[1] / 7


def test_absent_bodies_change_nothing_if_they_are_skipped():
    network, x = model(skip_empty_bodies=True), clips()
    expected = network(x)
    more = torch.cat((torch.zeros_like(x[..., :1]), x), 4)
    torch.testing.assert_close(network(more), expected)
    assert network.encode(Clip.of(torch.zeros_like(x))).pool().abs().sum() == 0


def test_every_parameter_is_trained():
    network = model(hidden_channels=24).train()
    F.cross_entropy(network(clips()), torch.tensor([0, 1, 2])).backward()
    assert all(
        p.grad is not None and p.grad.any() for name, p in network.named_parameters() if "bias" not in name
    )


def test_layers_hold_all_but_the_head():
    network = model()
    held = [id(p) for layer in network.layers() for p in layer]
    assert sorted(held) == sorted(map(id, network.encoder_parameters()))


def test_too_few_channels_are_refused():
    with pytest.raises(ValueError, match="hidden_channels"):
        Model(hidden_channels=5)
