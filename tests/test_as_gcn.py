"""AS-GCN and its links against the published outputs, and against loops over pairs, joints and bodies."""

import numpy as np
import pytest
import torch

from conftest import assert_close_to_published, weights_by_formula
from net.as_gcn import Model

# Inputs are stored in float16. Rounding them moves the outputs by as much, in float64, too.
OF_ROUNDED_INPUT = 5e-4


@pytest.fixture
def published(reference):
    outputs = reference("asgcn.npz")
    meta = outputs["meta"]
    model = Model(
        3, 60, max_hop=meta["max_hop"], link_hidden=meta["n_hid"], link_weight=meta["lamda_act"], dropout=0.0,
        link_dropout=0.0,
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
    moved = (model.predict(maps, links, last) - last[:, None])[::2]
    # The published code adds the last pose's coordinates as x y z x y z ..., to channels x x x ... y y y ...
    added = last[::2].transpose(1, 2).repeat(1, 10, 1).unflatten(1, (3, 10))
    assert_close_to_published(moved.permute(0, 3, 1, 2) + added, outputs["pred"], OF_ROUNDED_INPUT)
    np.testing.assert_array_equal(outputs["target"][..., 0], outputs["target_used"])
