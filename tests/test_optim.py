"""Optimizers and rates against formulas by hand, and whole runs against a loop of a few lines."""

import math

import pytest
import torch
import torch.nn.functional as F
import yaml
from processes import run_two
from torch import nn

import main
from conftest import TINY_CONFIG, stopping_at
from net.as_gcn import Model as AsGcn
from net.ctr_gcn import Model as CtrGcn
from net.encoder import Encoder, Features
from net.long_term import LongTerm
from net.method import Loss, as_method
from net.st_gcn import Model as StGcn
from net.utils.clip import Clip
from processor.config import OptimConfig
from processor.optim import (
    Group,
    Step,
    build_optimizer,
    layer_weights,
    lr_factor,
    rate_factors,
    rates,
    set_lr,
    split,
)


def test_step_schedule_falls_at_each_epoch_listed():
    factor = [lr_factor(e, schedule="step", num_epoch=8, step=[3, 6]) for e in (0, 2.99, 3, 5.9, 6)]
    assert factor == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_cosine_schedule_by_hand():
    def factor(progress):
        return lr_factor(progress, schedule="cosine", num_epoch=12, warmup_epoch=2, min_factor=0.1)

    assert factor(0) == 0
    assert factor(1) == pytest.approx(0.5)
    assert factor(2) == pytest.approx(1)
    assert factor(7) == pytest.approx(0.1 + 0.9 * 0.5)
    assert factor(2 + 10 / 3) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 3)) / 2)
    assert factor(12) == pytest.approx(0.1)
    assert factor(13) == pytest.approx(0.1)


def test_cosine_equals_torch():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    for epoch in range(10):
        expected = optimizer.param_groups[0]["lr"]
        assert lr_factor(epoch, schedule="cosine", num_epoch=10) == pytest.approx(expected)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_parameters_may_get_their_first_gradient_later_than_others(momentum):
    def trained(optimizer, parameters):
        for step in range(4):
            optimizer.zero_grad()
            used = parameters if step >= 2 else parameters[:1]
            sum((p - 1).square().sum() for p in used).backward()
            optimizer.step()
        return [p.detach() for p in parameters]

    values = {"weight_decay": 0.1, "momentum": momentum, "nesterov": momentum > 0}
    first, second = ([nn.Parameter(torch.arange(3.0)) for _ in range(2)] for _ in range(2))
    found = trained(build_optimizer([Group(first, 0.1)], OptimConfig(**values)), first)
    torch.testing.assert_close(found, trained(torch.optim.SGD(second, lr=0.1, **values), second))


def test_constant_schedule_still_warms_up():
    assert lr_factor(1, schedule="constant", num_epoch=9, warmup_epoch=4) == pytest.approx(0.25)
    assert lr_factor(8, schedule="constant", num_epoch=9, warmup_epoch=4) == 1


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimizer_takes_trainable_parameters_and_its_lr_is_set(name):
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    free = nn.Parameter(torch.ones(2))
    head = nn.Parameter(torch.ones(3))
    groups = [Group([frozen, free], 0.2), Group([head], 1.0)]
    optimizer = build_optimizer(groups, OptimConfig(optimizer=name, weight_decay=0.0))
    assert [p is free for p in optimizer.param_groups[0]["params"]] == [True]
    assert [p is head for p in optimizer.param_groups[1]["params"]] == [True]
    for _ in range(2):
        set_lr(optimizer, 0.5)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.5])


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'adam' is unknown; use one of sgd, adamw"):
        build_optimizer([], OptimConfig(optimizer="adam"))
    with pytest.raises(ValueError, match="'poly' is unknown"):
        lr_factor(0, schedule="poly", num_epoch=1)


# -- parts of a network ------------------------------------------------------------------------------------


class Small(Encoder):
    """Two linear layers, a norm at the end, and a head; parts of it may have no gradient in a step."""

    LOSSES = (Loss("unused"),)

    def __init__(self, *, width: int = 6, num_class: int = 4, every_other: bool = False) -> None:
        super().__init__()
        self.in_channels, self.feature_dim = 3, width
        self.first, self.second = nn.Linear(3, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, num_class)
        self.every_other, self.count = every_other, 0

    def layers(self) -> list[list[nn.Parameter]]:
        """See `Encoder`."""
        return [list(self.first.parameters()), list(self.second.parameters())]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """See `Encoder`."""
        return {"ends": [self.first.weight, self.fc.weight]}

    def encode(self, clip: Clip) -> Features:
        """See `Encoder`; with `every_other` the second layer is left out of every other batch of training."""
        y = torch.tanh(self.first(clip.x.permute(0, 4, 2, 3, 1).flatten(0, 1)))
        self.count += self.training
        if not (self.every_other and self.count % 2 == 0 and self.training):
            y = y + self.second(y)
        return Features.of_maps(self.norm(y).permute(0, 3, 1, 2), len(clip.x))


class Silent(Encoder):
    """An encoder that says neither layers nor parts."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)


SETTINGS = OptimConfig(
    optimizer="adamw",
    lr=0.01,
    weight_decay=0.3,
    betas=[0.8, 0.95],
    decayed="weights",
    layer_decay=0.5,
    lr_factor={"ends": 0.1},
)


def test_adamw_with_all_options_by_the_formula():
    torch.manual_seed(0)
    method = as_method(Small())
    names = [name for name, _ in method.named_parameters()]
    by_hand = {name: p.detach().double().clone() for name, p in method.named_parameters()}
    grads = [{name: torch.randn(p.shape) for name, p in method.named_parameters()} for _ in range(3)]
    optimizer = build_optimizer(split([Group(method.parameters(), 0.01)], method, SETTINGS), SETTINGS)

    factor = dict.fromkeys(names, 1.0)
    for layer, scale in (("first", 0.25), ("second", 0.5)):
        factor |= {f"network.{layer}.{kind}": scale for kind in ("weight", "bias")}
    factor["network.first.weight"] *= 0.1
    factor["network.fc.weight"] *= 0.1
    decays = {f"network.{name}.weight" for name in ("first", "second", "fc")}
    means = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in by_hand.items()}
    for number, grad in enumerate(grads, start=1):
        schedule = 1 / number
        set_lr(optimizer, schedule)
        for name, p in method.named_parameters():
            p.grad = grad[name].clone()
        optimizer.step()
        for name, p in by_hand.items():
            lr, g = 0.01 * schedule * factor[name], grad[name].double()
            first, second = means[name]
            means[name] = first, second = 0.8 * first + 0.2 * g, 0.95 * second + 0.05 * g * g
            p -= lr * 0.3 * p if name in decays else 0
            p -= lr * (first / (1 - 0.8**number)) / ((second / (1 - 0.95**number)).sqrt() + 1e-8)
    for name, p in method.named_parameters():
        torch.testing.assert_close(p.detach().double(), by_hand[name], rtol=1e-5, atol=1e-7)
    assert rates(optimizer) == pytest.approx({"lr": 0.01 / 3})


def test_by_default_groups_and_their_keys_are_those_of_earlier_states():
    method = as_method(Small())
    method.encoder.first.requires_grad_(False)
    groups = [
        Group(method.encoder.encoder_parameters(), 0.1, "encoder_lr"),
        Group(list(method.encoder.fc.parameters()), 1.0),
    ]
    for kind, own in (("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)):
        settings = OptimConfig(optimizer=kind)
        found = build_optimizer(split(groups, method, settings), settings).state_dict()["param_groups"]
        kept = [p for p in method.encoder.encoder_parameters() if p.requires_grad]
        earlier = own([{"params": kept, "lr": 0.1, "base_lr": 0.1, "name": "encoder_lr"}], lr=1.0, fused=True)
        assert found[0].keys() == earlier.state_dict()["param_groups"][0].keys()
        assert [(group["name"], group["params"]) for group in found] == [
            ("encoder_lr", [0, 1, 2, 3]),
            ("lr", [4, 5]),
        ]


def test_nothing_but_weights_of_layers_decays():
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places = nn.Parameter(torch.zeros(4, 1, 8))
            self.tokens = nn.Embedding(5, 8)
            self.attention = nn.TransformerEncoderLayer(8, 2, 16)
            self.conv, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
            self.memory = nn.LSTM(8, 4)

    network = Parts()
    decayed = {name for name, p in network.named_parameters() if p in layer_weights(network)}
    assert decayed == {
        "attention.self_attn.in_proj_weight",
        "attention.self_attn.out_proj.weight",
        "attention.linear1.weight",
        "attention.linear2.weight",
        "conv.weight",
        "memory.weight_ih_l0",
        "memory.weight_hh_l0",
    }


@pytest.mark.parametrize(
    ("encoder", "num_layer", "beside"),
    [
        (StGcn(hidden_channels=4, hidden_dim=8), 11, ()),
        (AsGcn(hidden_channels=4, link_hidden=4), 10, ("links.", "recon_layer_", "edge_importance_recon.")),
        (CtrGcn(base_channels=8), 11, ()),
    ],
    ids=["st_gcn", "as_gcn", "ctr_gcn"],
)
def test_layers_are_all_of_an_encoder_once_and_from_its_input_on(encoder, num_layer, beside):
    layers = encoder.layers()
    listed = [id(p) for layer in layers for p in layer]
    assert len(set(listed)) == len(listed)
    of_encoder = {id(p) for p in encoder.encoder_parameters()}
    assert set(listed) <= of_encoder
    left = [name for name, p in encoder.named_parameters() if id(p) in of_encoder - set(listed)]
    # The published weights of AS-GCN have a learnt graph more than there are blocks.
    assert all(name.startswith(beside) or name == "edge_importance.9" for name in left)
    # Named in the order in which a clip goes through them.
    firsts = [id(layer[0]) for layer in layers]
    assert firsts == [id(p) for p in encoder.parameters() if id(p) in firsts]
    assert len(layers) == num_layer


@pytest.mark.parametrize("inside", [False, True], ids=["as_gcn", "long_term"])
def test_the_links_of_as_gcn_are_a_part(inside):
    model = AsGcn(hidden_channels=4, link_hidden=4)
    method = LongTerm(model, embedding=8, queue_size=8, decoder_hidden=8) if inside else as_method(model)
    factors = rate_factors(method, OptimConfig(lr_factor={"links": 0.1}))
    assert factors == dict.fromkeys(model.links.parameters(), 0.1)


def test_what_the_network_does_not_say_is_refused_by_key():
    method = as_method(Small())
    with pytest.raises(ValueError, match=r"optim.lr_factor.end: .*did you mean 'ends'\?"):
        rate_factors(method, OptimConfig(lr_factor={"end": 0.1}))
    silent = as_method(Silent())
    with pytest.raises(ValueError, match=r"optim.lr_factor.links: .*\'links\'"):
        rate_factors(silent, OptimConfig(lr_factor={"links": 0.1}))
    with pytest.raises(ValueError, match=r"optim.layer_decay is 0.5"):
        rate_factors(silent, OptimConfig(layer_decay=0.5))
    plain = as_method(nn.Linear(3, 4))
    assert rate_factors(plain, OptimConfig()) == {}
    with pytest.raises(ValueError, match=r"optim.layer_decay is 0.5"):
        rate_factors(plain, OptimConfig(layer_decay=0.5))


# -- whole runs --------------------------------------------------------------------------------------------


@pytest.fixture
def config(tiny_data, tmp_path):
    """A small network without random views, whose epoch is 6 batches of 8 clips, by SGD."""
    values = yaml.safe_load(TINY_CONFIG.format(data=tiny_data, work_dir=tmp_path / "work"))
    values |= {"model": "test_optim.Small", "model_args": {}, "train_view": values["test_view"]}
    values |= {"batch_size": 8, "num_epoch": 2, "select": "last"}
    values["optim"] = {
        "optimizer": "sgd",
        "lr": 0.2,
        "weight_decay": 0.01,
        "nesterov": False,
        "warmup_epoch": 1,
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "small.yaml"


def words_of(config, work, *settings):
    return ["recognition", "-c", str(config), "-w", str(work), "--plugin", "test_optim", *settings]


def weights_of(work):
    return torch.load(work / "last.pt", weights_only=True)["model"]


def test_accumulated_batches_are_one_step_of_their_mean_by_the_formula(config, tmp_path):
    """6 batches by 4 are steps of 4 and of 2."""
    words = words_of(config, tmp_path / "work", "optim.accumulate=4", "optim.grad_clip=1.2")
    assert main.main(words) == 0
    processor = main.make_processor(main.parse(words))
    processor.setup()
    network = processor.model
    parameters = list(network.parameters())
    mean = [torch.zeros_like(p) for p in parameters]
    norms = []
    for epoch in range(2):
        processor.loaders["train"].set_epoch(epoch)
        batches = list(processor.loaders["train"].iterate())
        for first, size in ((0, 4), (4, 2)):
            own = batches[first : first + size]
            x, present = (
                torch.cat([getattr(batch.views[0], name) for batch in own]) for name in ("x", "present")
            )
            loss = F.cross_entropy(network(x, present), torch.cat([batch.label for batch in own]))
            grads = torch.autograd.grad(loss, parameters)
            norm = math.sqrt(sum(float(grad.square().sum()) for grad in grads))
            norms.append(norm)
            rate = 0.2 * lr_factor(
                epoch + (first + size / 2) / 6, schedule="cosine", num_epoch=2, warmup_epoch=1
            )
            with torch.no_grad():
                for p, v, grad in zip(parameters, mean, grads, strict=True):
                    v.mul_(0.9).add_(min(1.0, 1.2 / norm) * grad + 0.01 * p)
                    p.sub_(rate * v)
    found = weights_of(tmp_path / "work")
    assert min(norms) < 1.2 < max(norms)  # some are clipped
    for name, p in network.named_parameters():
        torch.testing.assert_close(found[name], p.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("at", [1, 5, 8])
def test_stopped_within_a_step_and_resumed(config, tmp_path, at):
    """A signal in any batch is obeyed at the end of the step; what follows is as if there had been none."""
    settings = ["optim.accumulate=4", "optim.optimizer=adamw", "optim.lr=0.01"]
    assert main.main(words_of(config, tmp_path / "whole", *settings)) == 0
    with stopping_at(at) as taken, pytest.raises(SystemExit):
        main.main(words_of(config, tmp_path / "work", *settings))
    assert taken[0] == {1: 4, 5: 6, 8: 10}[at]
    assert main.main(words_of(config, tmp_path / "work", *settings, "--resume")) == 0
    whole, resumed = (weights_of(tmp_path / name) for name in ("whole", "work"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_two_processes_add_up_the_gradients_of_a_step(config, tmp_path):
    """The second layer has no gradient in the last batch of a step, of which alone processes exchange gradients."""
    settings = ["optim.accumulate=2", "model_args.every_other=true"]
    assert main.main(words_of(config, tmp_path / "one", *settings)) == 0
    run_two(words_of(config, tmp_path / "two", *settings, "batch_size=4"), tmp_path)
    alone, together = (weights_of(tmp_path / name) for name in ("one", "two"))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-5)


def test_every_key_comes_from_a_config_and_is_in_the_state(config, tmp_path):
    """Decay of weights alone, betas and rates by layer; rates of parts are those of another phase."""
    optim = "optim={optimizer: adamw, lr: 0.01, betas: [0.8, 0.95], decayed: weights, layer_decay: 0.5}"
    phases = (
        "schedule=[{name: a, num_epoch: 1, losses: {cross_entropy: 1}, optim: {lr_factor: {ends: 0.1}}}, "
    )
    phases += "{name: b, losses: {cross_entropy: 1}}]"
    words = words_of(config, tmp_path / "work", optim, phases, "num_epoch=2")
    assert main.main(words) == 0
    groups = torch.load(tmp_path / "work" / "last.pt", weights_only=True)["optimizer"]["param_groups"]
    shown = {(group.get("factor", 1.0), group["weight_decay"] > 0): len(group["params"]) for group in groups}
    assert shown == {
        (0.25, True): 1,
        (0.25, False): 1,
        (0.5, True): 1,
        (0.5, False): 1,
        (1.0, False): 3,
        (1.0, True): 1,
    }
    assert all(list(group["betas"]) == [0.8, 0.95] for group in groups)


@pytest.mark.parametrize(
    "setting",
    ["layer_decay=0", "layer_decay=1.5", "accumulate=0", "betas=[0.9]", "betas=[0.9,1]", "lr_factor.ends=0"],
)
def test_values_out_of_range_are_refused_by_key(config, tmp_path, capsys, setting):
    assert main.main(words_of(config, tmp_path / "work", f"optim.{setting}")) == 2
    assert f"optim.{setting.split('=')[0]}: is " in capsys.readouterr().err


def test_a_part_that_the_network_does_not_name_is_refused_before_files_are_written(config, tmp_path, capsys):
    assert main.main(words_of(config, tmp_path / "work", "optim.lr_factor={start: 0.1}")) == 1
    assert "optim.lr_factor.start" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_steps_of_an_epoch():
    found = [Step.of(batch, accumulate=4, num_batch=6) for batch in range(6)]
    assert found == [(0, 4)] * 4 + [(4, 2)] * 2
    assert [step.ends_with(batch) for batch, step in enumerate(found)] == [
        False,
        False,
        False,
        True,
        False,
        True,
    ]
    assert (found[0].middle, found[5].middle) == (2, 5)
    assert [Step.of(batch, accumulate=1, num_batch=3).middle for batch in range(3)] == [0.5, 1.5, 2.5]
