"""ST-GCN against the published outputs and weights, and against a textbook module of the same formulas."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import REFERENCE, assert_close_to_published, weights_by_formula
from net.st_gcn import Model
from net.utils.clip import Clip
from net.utils.graph import Graph


class Textbook(nn.Module):
    """The same network in contiguous NCHW: convolve, then sum over subsets and joints with einsum."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        model = self.model
        N, C, T, V, M = x.shape
        rows = x.permute(0, 4, 3, 1, 2).reshape(N * M, V * C, T)
        y = model.data_bn(rows).view(N * M, V, C, T).permute(0, 2, 3, 1).contiguous()
        for index, block in enumerate(model.st_gcn_networks):
            A = model.A * model.edge_importance[index] if model.edge_importance else model.A
            z = block.gcn.conv(y).unflatten(1, (len(A), -1))
            z = block.tcn(torch.einsum("nkctv,kvw->nctw", z, A).contiguous())
            if index:
                around = y if isinstance(block.residual, nn.Identity) else block.residual(y)
                z = z + around
            y = F.relu(z)
        return model.fcn(y.mean((2, 3)).view(N, M, -1).mean(1))


def two_bodies(clips=3, frames=13, *, seed=0, channels=3, joints=25):
    """Clips (N, C, T, V, 2) laid out as the loader gives them: a view of contiguous (N, M, T, V, C)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clips, 2, frames, joints, channels, generator=generator).permute(0, 4, 2, 3, 1)


def small(**more):
    torch.manual_seed(0)
    return Model(3, 5, **{"hidden_channels": 4, "hidden_dim": 8, **more})


@pytest.fixture(params=["stgcn_ntu.npz", "stgcn_openpose.npz"])
def published(request, reference):
    """Network with the weights that the published outputs were made with, and those outputs."""
    outputs = reference(request.param)
    meta = outputs["meta"]
    channels = outputs["x"].shape[1]
    model = Model(channels, meta["num_class"], layout=meta["layout"], strategy=meta["strategy"])
    weights = weights_by_formula(meta["keys"], seed_offset=meta["seed_offset"], gain=meta["gain"])
    assert model.load_state_dict(weights, strict=False).missing_keys == ["A"]
    return model, outputs


def test_state_dict_is_the_published_one(published):
    model, outputs = published
    state = model.state_dict()
    assert [[name, list(value.shape)] for name, value in state.items()] == outputs["meta"]["keys"]
    np.testing.assert_array_equal(state["A"].numpy(), outputs["A"])


def test_state_dict_names_without_any_reference():
    keys = list(small().state_dict())
    assert keys[:2] == ["A", "data_bn.weight"] and keys[-2:] == ["fcn.weight", "fcn.bias"]
    block = {key.split(".", 2)[2] for key in keys if key.startswith("st_gcn_networks.4.")}
    norm = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert block == {
        *(f"{conv}.{name}" for conv in ("gcn.conv", "tcn.2", "residual.0") for name in ("weight", "bias")),
        *(f"{place}.{name}" for place in ("tcn.0", "tcn.3", "residual.1") for name in norm),
    }
    assert small().edge_importance[9].shape == (3, 25, 25)


def test_published_outputs_in_eval(published):
    model, outputs = published
    x = torch.from_numpy(outputs["x"])
    with torch.no_grad():
        assert_close_to_published(model.eval()(x), outputs["logits_eval"])
        assert_close_to_published(model.extract_feature(x).mean((1, 3, 4)), outputs["feature_eval_mean_tvm"])


def test_published_outputs_loss_and_gradients_in_training(published):
    model, outputs = published
    meta = outputs["meta"]
    logits = model.train()(torch.from_numpy(outputs["x"]))
    assert_close_to_published(logits, outputs["logits_train"])
    loss = F.cross_entropy(logits, torch.tensor(meta["labels"]))
    assert_close_to_published(loss, outputs["loss_train"])
    loss.backward()
    norms = {name: parameter.grad.norm().item() for name, parameter in model.named_parameters()}
    assert norms.keys() == meta["grad_norm"].keys()
    # In float64 the same formulas differ from these numbers by up to 2e-3, in float32 on some processors by 6e-3:
    # values near the kink of a ReLU fall on either side. (Exact gradients: test_equal_to_the_textbook.) Biases before
    # a batch norm have gradient 0.
    scale = max(meta["grad_norm"].values())
    for name, expected in meta["grad_norm"].items():
        assert abs(norms[name] - expected) <= 1e-2 * expected + 1e-5 * scale, name


def test_published_encoder_of_aimclr_has_these_names(reference):
    keys = reference("aimclr_step.npz")["meta"]["keys"]
    encoder = {
        name.removeprefix("encoder_q."): shape for name, shape in keys if name.startswith("encoder_q.")
    }
    ours = {name: list(value.shape) for name, value in Model(hidden_channels=16).state_dict().items()}
    differ = set(ours) ^ set(encoder)
    assert {name.split(".")[0] for name in differ} == {"fc", "fcn"}
    assert all(ours[name] == encoder[name] for name in set(ours) & set(encoder))


@pytest.mark.parametrize("name", ["OneTenth", "OneTenth_fullSupervision"])
def test_published_weights_give_the_published_scores(reference, name):
    path = REFERENCE / f"ssa_pku51_{name}.pt"
    if not path.exists():
        pytest.skip(f"no {path}")
    data = reference("ntu_preprocess.npz")
    state = small().translate(torch.load(path, weights_only=True))
    state = {key.removeprefix("encoder_q."): value for key, value in state.items()}
    model = Model(3, 51, hidden_channels=16)
    model.load_state_dict(state)
    with torch.no_grad():
        assert_close_to_published(
            model.eval()(torch.from_numpy(data["frame50_position"])), data[f"pku51_logits/{name}"]
        )


def test_translate_touches_the_head_alone():
    given = {"q.fc.weight": torch.ones(5, 8), "fc.bias": torch.ones(5), "fcn.bias": torch.zeros(5)}
    given |= {"q.fc.0.weight": torch.ones(5, 8), "data_bn.weight": torch.ones(3)}
    converted = small().translate(given)
    assert {key: tuple(value.shape) for key, value in converted.items()} == {
        "q.fcn.weight": (5, 8, 1, 1),
        "fcn.bias": (5,),
        "q.fcn.0.weight": (5, 8),
        "data_bn.weight": (3,),
    }


def test_translate_leaves_the_shape_of_a_linear_projector():
    model = small()
    model.replace_head(nn.Linear(8, 3))
    assert model.translate({"fc.weight": torch.ones(3, 8)})["fcn.weight"].shape == (3, 8)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"layout": "coco", "strategy": "distance", "max_hop": 3},
        {"strategy": "uniform", "edge_importance_weighting": False, "temporal_kernel_size": 3},
        {"hidden_dim": 16},
    ],
    ids=["default", "coco", "uniform", "no widening at the end"],
)
@pytest.mark.parametrize("frames", [13, 1])
def test_equal_to_the_textbook(arguments, frames):
    model = small(**arguments).double()
    for parameter in (model.fcn.weight, *model.edge_importance):
        nn.init.normal_(parameter)
    x = two_bodies(frames=frames, joints=model.A.shape[1]).double().requires_grad_()
    direction = torch.randn(3, 5, dtype=torch.float64)
    results = []
    for network in (model, Textbook(model)):
        scores = network(x)
        results.append([scores, *torch.autograd.grad((scores * direction).sum(), [x, *model.parameters()])])
    torch.testing.assert_close(*results)
    assert len(model.edge_importance) == 10 * arguments.get("edge_importance_weighting", True)


def test_layout_of_the_input_in_memory_does_not_matter():
    model = small().eval()
    x = two_bodies()
    torch.testing.assert_close(model(x), model(x.contiguous()))


def test_bfloat16_is_near():
    model = small().eval()
    nn.init.normal_(model.fcn.weight)
    with torch.no_grad():
        exact = model(two_bodies())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = model(two_bodies())
    assert scores.dtype == torch.float32
    assert_close_to_published(scores.float(), exact, 0.05)
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(two_bodies()).float().logsumexp(1).sum()
    loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_feature_map_pools_to_the_embedding():
    model = small().eval()
    x = two_bodies(frames=13)
    maps = model.extract_feature(x)
    assert maps.shape == (3, 2, 8, 4, 25)
    torch.testing.assert_close(maps.mean((1, 3, 4)), model.encode(Clip.of(x)).pool())
    torch.testing.assert_close(model.fcn(model.encode(Clip.of(x)).pool()), model(x))


class TestSkipEmptyBodies:
    @staticmethod
    def clips():
        """Two bodies, one (in the second slot), none; and the values that make a body present are few."""
        x = two_bodies(clips=4)
        x[1, ..., 0] = 0
        x[2] = 0
        x[3, ..., 1] = 0
        x[3, 0, 5, 7, 1] = 1e-3
        return x, [[0, 1], [1], [], [0, 1]]

    def test_each_clip_is_its_present_bodies_by_hand(self):
        model, plain = small(skip_empty_bodies=True).eval(), small().eval()
        nn.init.normal_(model.fcn.weight)
        plain.load_state_dict(model.state_dict())
        x, present = self.clips()
        scores, maps = model(x), model.extract_feature(x)
        for clip, bodies in enumerate(present):
            alone = [x[clip : clip + 1, ..., body : body + 1] for body in bodies]
            feature = (
                sum(plain.encode(Clip.of(body)).pool() for body in alone) / len(alone)
                if alone
                else torch.zeros(1, 8)
            )
            torch.testing.assert_close(scores[clip], plain.fcn(feature)[0])
            for body in range(2):
                expected = (
                    plain.extract_feature(x[clip : clip + 1, ..., body : body + 1])[0, 0]
                    if body in bodies
                    else torch.zeros(8, 4, 25)
                )
                torch.testing.assert_close(maps[clip, body], expected)

    def test_training_statistics_are_those_of_the_present_bodies(self):
        model, plain = small(skip_empty_bodies=True), small()
        x, present = self.clips()
        alone = torch.cat([x[c : c + 1, ..., b : b + 1] for c, bodies in enumerate(present) for b in bodies])
        feature = plain.encode(Clip.of(alone)).pool()
        clip = [c for c, bodies in enumerate(present) for _ in bodies]
        expected = [sum(f for f, c in zip(feature, clip, strict=True) if c == n) for n in range(4)]
        expected = torch.stack(
            [f / len(b) if b else torch.zeros(8) for f, b in zip(expected, present, strict=True)]
        )
        torch.testing.assert_close(model.encode(Clip.of(x)).pool(), expected)
        for (name, ours), theirs in zip(model.named_buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, msg=name)

    def test_nothing_to_skip_is_nothing_changed(self):
        x = two_bodies()
        torch.testing.assert_close(small(skip_empty_bodies=True)(x), small()(x))

    @pytest.mark.parametrize("training", [True, False])
    def test_a_batch_without_any_body_gives_the_head_of_zero(self, training):
        model = small(skip_empty_bodies=True).train(training)
        nn.init.normal_(model.fcn.bias)
        before = model.data_bn.running_var.clone()
        scores = model(torch.zeros(2, 3, 13, 25, 2))
        torch.testing.assert_close(scores, model.fcn.bias.expand(2, -1))
        scores.sum().backward()
        assert torch.equal(model.data_bn.running_var, before)
        assert model.extract_feature(torch.zeros(2, 3, 13, 25, 2)).shape == (2, 2, 8, 4, 25)


def test_first_block_does_not_drop_out():
    rates = [block.tcn[4].p for block in small(dropout=0.5).st_gcn_networks]
    assert rates == [0.0] + [0.5] * 9
    assert all(block.tcn[4].p == 0 for block in small().st_gcn_networks)


def test_initial_weights_are_reproducible_and_small():
    first, second = small(), small()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert abs(first.st_gcn_networks[9].tcn[2].weight.std() - 0.02) < 0.002
    assert all((importance == 1).all() for importance in first.edge_importance)


def test_wrong_input_is_named():
    for shape in ((2, 3, 13, 18, 2), (2, 2, 13, 25, 2)):
        with pytest.raises(ValueError, match=r"takes \(N, 3, T, 25, M\): set in_channels and layout"):
            small()(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"clips are \(N, C, T, V, M\)"):
        small()(torch.zeros(2, 3, 9, 25))


def test_even_kernel_is_refused():
    with pytest.raises(ValueError, match="temporal_kernel_size is 8; give an odd"):
        small(temporal_kernel_size=8)


def test_weights_of_another_graph_are_refused():
    weights = {
        **small().state_dict(),
        "A": torch.tensor(Graph("ntu-rgb+d", "digraph").A, dtype=torch.float32),
    }
    with pytest.raises(ValueError, match="trained on another graph"):
        small().load_state_dict(weights)
