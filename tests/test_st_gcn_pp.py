"""ST-GCN++ against a textbook of the same formulas, its size, and what must not change its answer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.textbook.st_gcn_pp import STGCNPP
from net.st_gcn import Model as STGCN
from net.st_gcn_pp import Model
from net.utils.clip import Clip
from net.utils.graph import Graph


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


def textbook(network: Model) -> STGCNPP:
    """The published formulas branch by branch, with the weights of `network`."""
    copy = STGCNPP(network.blocks[0].gcn.A, 5, hidden_channels=8).double().eval()
    state = {key: value for key, value in network.state_dict().items() if ".tcn." not in key}
    for number, block in enumerate(network.blocks):
        tcn, start = block.tcn, 0
        own = {f"join.{key}": value for key, value in tcn.join.state_dict().items()}
        for branch, size in enumerate(tcn.sizes):
            parts = {0: tcn.first} if branch == 5 else {0: tcn.first, 1: tcn.first_bn}
            for place, part in parts.items():
                for key, value in part.state_dict().items():
                    own[f"branches.{branch}.{place}.{key}"] = (
                        value[start : start + size] if value.dim() else value
                    )
            if branch < 4:
                conv = tcn.dilated[branch].state_dict()
                own |= {f"branches.{branch}.3.{key}": value for key, value in conv.items()}
            start += size
        state |= {f"blocks.{number}.tcn.{key}": value for key, value in own.items()}
    copy.load_state_dict({key.replace("gcn.conv.conv", "gcn.conv"): value for key, value in state.items()})
    return copy


def test_scores_are_those_of_the_textbook():
    network, x = model(), clips()
    torch.testing.assert_close(network(x), textbook(network)(x))


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


@pytest.mark.parametrize("max_hop", [1, 2])
def test_the_adjacency_begins_as_the_graph(max_hop):
    network = Model(layout="kinect-v1", hidden_channels=8, max_hop=max_hop)
    expected = torch.tensor(Graph("kinect-v1", "spatial", max_hop=max_hop).A, dtype=torch.float32)
    assert all(torch.equal(block.gcn.A, expected) for block in network.blocks)


def test_dropout_is_that_of_the_arguments():
    torch.manual_seed(0)
    x = clips().float()
    for dropout, varies in ((0.5, True), (0.0, False)):
        network = Model(3, 5, layout="kinect-v1", hidden_channels=8, dropout=dropout).train()
        assert torch.equal(network(x), network(x)) != varies


def test_layers_hold_all_but_the_head():
    network = model()
    held = [id(p) for layer in network.layers() for p in layer]
    assert sorted(held) == sorted(map(id, network.encoder_parameters()))


def test_too_few_channels_are_refused():
    with pytest.raises(ValueError, match="hidden_channels"):
        Model(hidden_channels=5)
