"""The transformer encoder against a slow reference, and what must not change its features."""

import math

import pytest
import torch
import torch.nn.functional as F

from net import transformer
from net.method import as_method
from net.tokens import draw_kept, patchify
from net.transformer import Block, Blocks, Model, interpolate_times
from net.utils.clip import Clip
from processor.config import OptimConfig
from processor.optim import rate_factors

SMALL = {"patch": 4, "max_frame": 16, "width": 16, "depth": 3, "num_head": 2, "num_class": 5}


def encoder(**changes) -> Model:
    torch.manual_seed(0)
    return Model(**{**SMALL, **changes}).double().eval()


def clips(num_clip: int = 3, num_frame: int = 16) -> Clip:
    """Two bodies; in the last clip only the second one, and the first clip's second body leaves after 8 frames."""
    torch.manual_seed(1)
    x = torch.randn(num_clip, 3, num_frame, 25, 2, dtype=torch.float64)
    x[0, :, num_frame // 2 :, :, 1] = 0
    x[-1, ..., 0] = 0
    return Clip.of(x)


def tokens_of(body: torch.Tensor, patch: int) -> list[tuple[int, int, torch.Tensor]]:
    """Time, joint and numbers of each token of a body (T, V, C)."""
    return [
        (time, joint, torch.cat([body[time * patch + frame, joint] for frame in range(patch)]))
        for time in range(len(body) // patch)
        for joint in range(body.shape[1])
    ]


def encode_slowly(model: Model, tokens: list[tuple[int, int, torch.Tensor]], num_time: int) -> torch.Tensor:
    """The features (S, D) of the tokens of one body, one token and one head at a time."""
    times = interpolate_times(model.position.time, num_time)
    values = [model.embed(each) + times[time] + model.position.joint[joint] for time, joint, each in tokens]
    for block in model.blocks.layers:
        attention, width = block.attention, model.feature_dim
        size = width // attention.num_head
        normed = [block.norm1(each) for each in values]
        query, key, value = (
            [
                F.linear(each, *(p[k * width : (k + 1) * width] for p in attention.qkv.parameters()))
                for each in normed
            ]
            for k in range(3)
        )
        mixed = []
        for q in query:
            heads = []
            for head in range(attention.num_head):
                part = slice(head * size, (head + 1) * size)
                share = torch.stack([q[part] @ k[part] / math.sqrt(size) for k in key]).softmax(0)
                heads.append(sum(s * v[part] for s, v in zip(share, value, strict=True)))
            mixed.append(attention.proj(torch.cat(heads)))
        values = [each + more for each, more in zip(values, mixed, strict=True)]
        values = [each + block.mlp(block.norm2(each)) for each in values]
    return torch.stack([model.blocks.norm(each) for each in values])


@torch.no_grad()
@pytest.mark.parametrize("explicit", [True, False])
def test_features_are_those_of_a_slow_reference(monkeypatch, explicit):
    monkeypatch.setattr(transformer, "MAX_EXPLICIT", 1000 if explicit else 0)
    model, clip = encoder(max_frame=8), clips(num_frame=8)
    features = model.encode(clip)
    assert features.grid == (2, 25)
    assert features.bodies.tolist() == [[True, True], [True, True], [False, True]]
    expected, row = torch.zeros(3, model.feature_dim, dtype=torch.float64), 0
    for number in range(3):
        pooled = []
        for body in range(2):
            if not features.bodies[number, body]:
                continue
            poses = clip.x[number, ..., body].permute(1, 2, 0)
            tokens = tokens_of(poses, 4)
            if (number, body) == (0, 1):
                tokens = [each for each in tokens if each[0] < 1]
            slow = encode_slowly(model, tokens, 2)
            torch.testing.assert_close(features.tokens[row, : len(slow)], slow)
            pooled.append(slow.mean(0))
            row += 1
        expected[number] = torch.stack(pooled).mean(0)
    torch.testing.assert_close(features.pool(), expected)
    torch.testing.assert_close(model(*clip), model.fc(expected))


@torch.no_grad()
def test_kept_tokens_are_encoded_as_if_there_were_no_others():
    model, clip = encoder(), clips(2)
    keep = torch.tensor(
        [[3, 0, 77], [49, -1, 26], [5, 6, 7]]
    )  # of the bodies in order; the last clip has one
    features = model.encode(clip, keep)
    assert features.tokens.shape == (3, 3, 16)
    assert features.grid is None
    tokens = tokens_of(clip.x[0, ..., 0].permute(1, 2, 0), 4)
    torch.testing.assert_close(features.tokens[0], encode_slowly(model, [tokens[k] for k in (3, 0, 77)], 4))
    tokens = tokens_of(clip.x[0, ..., 1].permute(1, 2, 0), 4)
    slow = encode_slowly(model, [tokens[k] for k in (49, 26)], 4)
    torch.testing.assert_close(features.tokens[1, [0, 2]], slow)
    torch.testing.assert_close(features.pool()[0], (features.tokens[0].mean(0) + slow.mean(0)) / 2)


@torch.no_grad()
def test_frames_without_a_body_change_nothing():
    model, clip = encoder(), clips()
    noisy = torch.where(clip.present.permute(0, 2, 1)[:, None, :, None], clip.x, 7.0)
    torch.testing.assert_close(model.encode(Clip(noisy, clip.present)).pool(), model.encode(clip).pool())


@torch.no_grad()
def test_order_of_clips_and_bodies_does_not_matter():
    model, clip = encoder(), clips()
    expected = model(*clip)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(clip.x[order], clip.present[order]), expected[order])
    torch.testing.assert_close(model(clip.x.flip(4), clip.present.flip(1)), expected)


@torch.no_grad()
def test_a_clip_of_nobody_has_the_feature_zero():
    model = encoder()
    empty = torch.zeros(2, 3, 16, 25, 2, dtype=torch.float64)
    assert model.encode(Clip.of(empty)).pool().tolist() == [[0.0] * 16] * 2
    some = clips(1).x
    torch.testing.assert_close(model(torch.cat([some, empty]))[:1], model(some))


def test_times_of_a_shorter_clip_are_interpolated():
    embedding = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    # Each of the two times covers two of the four.
    torch.testing.assert_close(interpolate_times(embedding, 2), torch.tensor([[0.5, 1.0], [2.5, 1.0]]))
    torch.testing.assert_close(interpolate_times(embedding, 1), torch.tensor([[1.5, 1.0]]))
    assert interpolate_times(embedding, 4) is embedding
    model = encoder()
    with torch.no_grad():
        x = torch.randn(1, 3, 8, 25, 1, dtype=torch.float64)
        slow = encode_slowly(model, tokens_of(x[0, ..., 0].permute(1, 2, 0), 4), 2)
        torch.testing.assert_close(model.encode(Clip.of(x)).tokens[0], slow)


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((1, 3, 14, 25, 1), "14 frames"),
        ((1, 3, 20, 25, 1), "20 frames"),
        ((1, 3, 0, 25, 1), "0 frames"),
        ((1, 3, 16, 20, 1), "20"),
        ((1, 2, 16, 25, 1), "in_channels"),
    ],
)
def test_clips_that_do_not_fit_are_refused(shape, named):
    with pytest.raises(ValueError, match=named):
        encoder()(torch.ones(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    "changes",
    [
        {"patch": 0},
        {"depth": 0},
        {"width": 15},
        {"num_head": 3},
        {"max_frame": 18},
        {"drop_path": 1.0},
        {"mlp_ratio": 0.0},
        {"drop_path": -0.1},
        {"layout": "no-such-layout"},
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError, match=str(next(iter(changes.values())))):
        Model(**{**SMALL, **changes})


def test_drop_path_skips_whole_bodies_and_keeps_the_mean():
    blocks = encoder(drop_path=0.4).blocks
    assert [block.drop_path for block in blocks.layers] == [0.0, 0.2, 0.4]
    assert [block.drop_path for block in Blocks(8, 1, num_head=2, drop_path=0.4).layers] == [0.4]
    torch.manual_seed(0)
    block = Block(8, 2, hidden=16, drop_path=0.4)
    branch = torch.randn(20_000, 2, 8)
    dropped = block._drop(branch)
    zero = (dropped == 0).flatten(1)
    assert (zero.all(1) == zero.any(1)).all()
    assert abs(zero.all(1).float().mean() - 0.4) < 0.02
    torch.testing.assert_close(dropped[~zero.all(1)], branch[~zero.all(1)] / 0.6)
    assert block.eval()._drop(branch) is branch


def test_a_block_has_an_mlp_of_the_width_that_is_given():
    assert {block.mlp[0].out_features for block in encoder(mlp_ratio=1.5).blocks.layers} == {24}


def test_linear_layers_start_as_xavier_has_them():
    model = encoder(width=128, num_class=100)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            assert not module.bias.any()
            bound = math.sqrt(6 / sum(module.weight.shape))
            assert module.weight.abs().max() <= bound
            assert abs(module.weight.std().item() / (bound / math.sqrt(3)) - 1) < 0.05


def test_layers_are_the_embeddings_and_then_the_blocks():
    model = encoder()
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    named = [{name_of.pop(id(parameter)) for parameter in layer} for layer in model.layers()]
    assert named[0] == {"embed.weight", "embed.bias", "position.time", "position.joint"}
    for number, layer in enumerate(named[1:]):
        assert layer == {name for name in dict(model.named_parameters()) if f"layers.{number}." in name}
    assert set(name_of.values()) == {"blocks.norm.weight", "blocks.norm.bias", "fc.weight", "fc.bias"}


def test_layers_have_decaying_rates():
    model = encoder()
    factors = rate_factors(as_method(model), OptimConfig(layer_decay=0.5))
    # Three blocks, and the embeddings before them; what is in no layer has the full rate.
    expected = {"embed": 0.0625, "position": 0.0625, "blocks.layers.0": 0.125, "blocks.layers.1": 0.25}
    expected |= {"blocks.layers.2": 0.5, "blocks.norm": 1.0, "fc": 1.0}
    for name, parameter in model.named_parameters():
        (factor,) = (factor for start, factor in expected.items() if name.startswith(start))
        assert factors.get(parameter, 1.0) == factor


@pytest.mark.parametrize("explicit", [True, False])
def test_a_clip_has_the_same_feature_beside_clips_with_empty_frames(monkeypatch, explicit):
    monkeypatch.setattr(transformer, "MAX_EXPLICIT", 1000 if explicit else 0)
    model, clip = Model(**SMALL).eval(), clips()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        beside, alone = (model.encode(Clip.of(x)).pool() for x in (clip.x.float(), clip.x[1:2].float()))
    assert beside.dtype == alone.dtype == torch.float32
    torch.testing.assert_close(beside[1:2], alone, atol=2e-3, rtol=0)


def test_features_of_the_same_maps_count_the_same_tokens():
    features = encoder().encode(clips())
    assert features.counted is not None
    torch.testing.assert_close(features.with_maps(features.maps()).pool(), features.pool())


def test_patches_are_frames_of_one_joint():
    values = torch.arange(2 * 4 * 3 * 2).view(2, 4, 3, 2)
    patches = patchify(values, 2)
    assert patches.shape == (2, 6, 4)
    assert patches[1, 4].tolist() == [*values[1, 2, 1].tolist(), *values[1, 3, 1].tolist()]


def test_the_same_share_of_the_tokens_of_each_body_is_kept():
    score = torch.tensor([[5.0, 1, 4, 2, 3, 0], [5, 1, 4, 2, 3, 0], [5, 1, 4, 2, 3, 0]])
    counted = torch.tensor([[True] * 6, [True, True, True, True, False, False], [False] * 5 + [True]])
    keep, others = draw_kept(score, counted, 0.5)
    assert keep.tolist() == [[5, 1, 3], [1, 3, -1], [5, -1, -1]]
    assert [row.nonzero()[:, 0].tolist() for row in others] == [[0, 2, 4], [0, 2], []]


def test_in_half_precision_scores_are_float32():
    model = Model(**SMALL)
    x = clips().x.float()
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(x)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, model(x), atol=0.1, rtol=0.1)
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
