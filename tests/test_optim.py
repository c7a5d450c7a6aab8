import math

import pytest
import torch
from torch import nn

from processor.optim import Group, build_optimizer, lr_factor, set_lr


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

    settings = {"weight_decay": 0.1, "momentum": momentum, "nesterov": momentum > 0}
    first, second = ([nn.Parameter(torch.arange(3.0)) for _ in range(2)] for _ in range(2))
    found = trained(build_optimizer([Group(first, 0.1)], "sgd", **settings), first)
    torch.testing.assert_close(found, trained(torch.optim.SGD(second, lr=0.1, **settings), second))


def test_constant_schedule_still_warms_up():
    assert lr_factor(1, schedule="constant", num_epoch=9, warmup_epoch=4) == pytest.approx(0.25)
    assert lr_factor(8, schedule="constant", num_epoch=9, warmup_epoch=4) == 1


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimizer_takes_trainable_parameters_and_its_lr_is_set(name):
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    free = nn.Parameter(torch.ones(2))
    head = nn.Parameter(torch.ones(3))
    groups = [Group([frozen, free], 0.2), Group([head], 1.0)]
    optimizer = build_optimizer(groups, name, weight_decay=0.0, momentum=0.9, nesterov=True)
    assert [p is free for p in optimizer.param_groups[0]["params"]] == [True]
    assert [p is head for p in optimizer.param_groups[1]["params"]] == [True]
    for _ in range(2):
        set_lr(optimizer, 0.5)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.5])


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'adam' is unknown; use one of sgd, adamw"):
        build_optimizer([], "adam", weight_decay=0, momentum=0, nesterov=False)
    with pytest.raises(ValueError, match="'poly' is unknown"):
        lr_factor(0, schedule="poly", num_epoch=1)
