"""Graph convolution and block against the formulas written out with einsum and standard layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import net.ctr_gcn
import net.st_gcn
from net.utils.gcn import (
    Neighbours,
    SpatialGraphConv,
    SpatialTemporalBlock,
    StridedPointwiseConv,
    _SparseProduct,
    initialise,
)
from net.utils.graph import Graph


def adjacency(strategy="spatial", *, dtype=torch.float64):
    return torch.tensor(Graph("ntu-rgb+d", strategy).A, dtype=dtype)


def textbook_graph_conv(layer, x, A):
    """Convolve first, then sum over subsets and joints: x (B, C, T, V) -> (B, C', T, V)."""
    z = layer.conv(x).unflatten(1, (len(A), -1))
    return torch.einsum("bkctv,kvw->bctw", z, A)


def gradients(loss, tensors):
    return torch.autograd.grad(loss, list(tensors))


@pytest.mark.parametrize("strategy", ["spatial", "uniform", "digraph"])
@pytest.mark.parametrize("channels", [(3, 8), (6, 6), (8, 3)], ids=["widens", "keeps", "narrows"])
def test_graph_conv_and_its_gradients_are_those_of_the_formula(channels, strategy):
    torch.manual_seed(0)
    A = adjacency(strategy)
    importance = torch.rand_like(A).requires_grad_()
    layer = SpatialGraphConv(*channels, neighbours=Neighbours(A != 0)).double()
    x = torch.randn(2, channels[0], 5, 25, dtype=torch.float64, requires_grad=True)
    y, expected = layer(x, A * importance), textbook_graph_conv(layer, x, A * importance)
    torch.testing.assert_close(y, expected)
    direction = torch.randn_like(expected)
    inputs = [x, importance, layer.conv.weight, layer.conv.bias]
    torch.testing.assert_close(
        gradients((y * direction).sum(), inputs), gradients((expected * direction).sum(), inputs)
    )


def test_compiled_it_is_one_graph():
    A = adjacency(dtype=torch.float32)
    layer, x = (
        SpatialGraphConv(4, 8, neighbours=Neighbours(A != 0)),
        torch.randn(2, 4, 5, 25, requires_grad=True),
    )
    torch.testing.assert_close(torch.compile(layer, backend="eager", fullgraph=True)(x, A), layer(x, A))


def test_channels_last_stays_channels_last():
    A = adjacency(dtype=torch.float32)
    x = torch.randn(2, 4, 5, 25).contiguous(memory_format=torch.channels_last)
    for width in (2, 8):
        y = SpatialGraphConv(4, width, neighbours=Neighbours(A != 0))(x, A)
        assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("width", "method"), [(8, "spread"), (4, "spread"), (3, "sum")])
def test_adjacency_is_applied_where_channels_are_fewer(monkeypatch, width, method):
    called = []
    for name in ("spread", "sum"):
        whole = getattr(Neighbours, name)
        monkeypatch.setattr(Neighbours, name, lambda *a, w=whole, n=name: (called.append(n), w(*a))[1])
    A = adjacency(dtype=torch.float32)
    SpatialGraphConv(4, width, neighbours=Neighbours(A != 0))(torch.randn(1, 4, 2, 25), A)
    assert called == [method]


@pytest.mark.parametrize("entries", [4, 60], ids=["sparse", "dense"])
def test_product_of_either_kind_is_the_matrix_product(monkeypatch, entries):
    if entries == 60:
        monkeypatch.setattr(F, "embedding_bag", None)
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(9, 7, dtype=torch.bool)
    mask.view(-1)[torch.randperm(63, generator=generator)[:entries]] = True
    product = _SparseProduct(mask)
    assert product.is_sparse == (entries == 4)
    matrix = torch.randn(9, 7, generator=generator, dtype=torch.float64) * mask
    for frames in (3, 11, 2):  # the index lists grow, and shorter ones are their beginnings
        x = torch.randn(frames, 7, 5, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(product(matrix, x), torch.einsum("rv,fvc->frc", matrix, x))


def test_sparse_product_gradcheck(monkeypatch):
    monkeypatch.setattr("net.utils.gcn.CHUNK", 20)  # several chunks, the last a short one
    mask = torch.zeros(12, 5, dtype=torch.bool)
    mask[[0, 0, 3, 11, 7], [1, 4, 2, 0, 1]] = True
    product = _SparseProduct(mask)
    assert product.is_sparse
    matrix = torch.randn(12, 5, dtype=torch.float64).requires_grad_()
    x = torch.randn(5, 5, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(product, (matrix, x))
    assert torch.autograd.gradcheck(product, (matrix, x.detach()))
    monkeypatch.setattr("net.utils.gcn.CHUNK", None)  # not needed, so not looked at
    assert torch.autograd.gradcheck(product, (matrix.detach(), x))


def test_gradient_of_the_adjacency_in_half_precision(monkeypatch):
    monkeypatch.setattr("net.utils.gcn.CHUNK", 4000)  # three chunks of 2, 2 and 1 frames
    A = adjacency(dtype=torch.float32)
    product = _SparseProduct(A.permute(2, 0, 1).flatten(0, 1) != 0)
    assert product.is_sparse
    matrix = A.permute(2, 0, 1).flatten(0, 1).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    x, direction = (torch.randn(5, rows, 8, generator=generator).bfloat16() for rows in (25, len(matrix)))
    (found,) = torch.autograd.grad(product(matrix, x), matrix, direction)
    expected = torch.einsum("frc,fvc->rv", direction.double(), x.double()) * (matrix != 0)
    # Each frame's part is rounded to 8 bits.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2**-8 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("channels", "stride", "residual"),
    [((4, 4), 1, True), ((4, 8), 1, True), ((4, 4), 2, True), ((4, 8), 2, False), ((4, 4), 1, False)],
)
def test_block_is_its_layers_one_after_another(channels, stride, residual):
    torch.manual_seed(0)
    A = adjacency(dtype=torch.float32)
    gcn = SpatialGraphConv(*channels, neighbours=Neighbours(A != 0))
    block = SpatialTemporalBlock(gcn, kernel_size=5, stride=stride, residual=residual)
    around = nn.Identity() if channels[0] == channels[1] and stride == 1 else block.residual
    x = torch.randn(3, channels[0], 7, 25)
    for mode in (True, False):
        block.train(mode)
        y = textbook_graph_conv(block.gcn, x, A)
        norm_in, _, conv, norm_out, _ = block.tcn
        y = norm_out(F.conv2d(F.relu(norm_in(y)), conv.weight, conv.bias, (stride, 1), (2, 0)))
        expected = F.relu(y + around(x)) if residual else F.relu(y)
        assert expected.shape == (3, channels[1], -(-7 // stride), 25)
        for module in block.modules():  # both ways moved the running statistics
            if isinstance(module, nn.BatchNorm2d) and mode:
                module.momentum = 0.0
        torch.testing.assert_close(block(x, A), expected, rtol=1e-4, atol=1e-5)


def test_block_drops_out_only_in_training():
    torch.manual_seed(0)
    A = adjacency(dtype=torch.float32)
    block = SpatialTemporalBlock(
        SpatialGraphConv(4, 4, neighbours=Neighbours(A != 0)), dropout=0.5, residual=False
    )
    x = torch.randn(2, 4, 30, 25)
    assert (block(x, A) == 0).float().mean() > 0.65
    assert (block.eval()(x, A) == 0).float().mean() < 0.65


def test_initial_weights_have_the_published_spread():
    torch.manual_seed(0)
    A = adjacency(dtype=torch.float32)
    block = SpatialTemporalBlock(SpatialGraphConv(32, 64, neighbours=Neighbours(A != 0)))
    linear = nn.Linear(3, 3)
    before = linear.weight.clone()
    for module in (block, linear):
        module.apply(initialise)
    conv, norm = block.tcn[2], block.tcn[0]
    assert abs(conv.weight.std() - 0.02) < 0.001 and abs(conv.weight.mean()) < 0.001
    assert abs(norm.weight.mean() - 1) < 0.01 and 0.01 < norm.weight.std() < 0.03
    assert not conv.bias.any() and not norm.bias.any()
    assert torch.equal(linear.weight, before)


@pytest.mark.parametrize("frames", [1, 4, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_strided_pointwise_conv_is_a_strided_conv(stride, frames):
    torch.manual_seed(0)
    x = torch.randn(3, 4, frames, 5, dtype=torch.float64, requires_grad=True)
    ours = StridedPointwiseConv(4, 6, stride).double()
    weights = [x, ours.weight, ours.bias]
    y, expected = ours(x), F.conv2d(x, ours.weight, ours.bias, (stride, 1))
    torch.testing.assert_close(y, expected)
    grad = torch.randn_like(y)
    torch.testing.assert_close(
        torch.autograd.grad(y, weights, grad), torch.autograd.grad(expected, weights, grad)
    )


@pytest.mark.parametrize("network", [net.st_gcn.Model, net.ctr_gcn.Model])
def test_no_network_has_a_strided_pointwise_conv_of_torch(network):
    """See `StridedPointwiseConv`: such a layer corrupts memory, on some processors and for some batches alone."""
    layers = [layer for layer in network(num_class=4).modules() if isinstance(layer, nn.Conv2d)]
    pointwise = [layer for layer in layers if layer.kernel_size == (1, 1)]
    assert pointwise
    assert all(layer.stride == (1, 1) for layer in pointwise)
