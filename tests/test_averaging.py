"""The mean of the weights: against a loop, and what it must not change."""

import pytest
import torch
import yaml
from torch.optim.swa_utils import AveragedModel

import main
from conftest import TINY_CONFIG, stopping_at

pytestmark = pytest.mark.usefixtures("few_blocks")
# Steps of an epoch: 48 of the 64 training clips are trained on, 16 at once.
NUM_STEP = 3


@pytest.fixture
def config(tiny_data, tmp_path):
    values = yaml.safe_load(TINY_CONFIG.format(data=tiny_data, work_dir=tmp_path / "work"))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values | {"select": "last"}))
    return path


def run(config, work, *settings) -> int:
    return main.main(["recognition", "-c", str(config), "-w", str(work), *settings])


def weights_of(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_the_best_weights_are_the_mean_and_training_is_as_without(config, tmp_path, monkeypatch):
    after_steps = []
    update = AveragedModel.update_parameters

    def recording(self, model):
        after_steps.append({key: value.clone() for key, value in model.state_dict().items()})
        update(self, model)

    monkeypatch.setattr(AveragedModel, "update_parameters", recording)
    assert run(config, tmp_path / "plain") == 0
    assert not after_steps
    assert run(config, tmp_path / "mean", "average_epoch=1.5") == 0
    last, best = (weights_of(tmp_path / "mean" / name) for name in ("last.pt", "best.pt"))
    plain = weights_of(tmp_path / "plain" / "last.pt")
    assert all(torch.equal(last[key], plain[key]) for key in plain)
    assert len(after_steps) == 4 * NUM_STEP
    share = 1 / (1.5 * NUM_STEP)
    mean = dict(after_steps[0])
    for state in after_steps[1:]:
        for key in mean:
            mean[key] = (1 - share) * mean[key] + share * state[key]
    for key, value in best.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, mean[key], rtol=1e-4, atol=1e-6)
    assert not all(torch.equal(best[key], last[key]) for key in best)


@pytest.mark.parametrize("at", [2, 2 * NUM_STEP])
def test_a_run_that_is_stopped_and_resumed_has_the_same_mean(config, tmp_path, at):
    """Within an epoch, and in the last step of one."""
    settings = ["average_epoch=2"]
    assert run(config, tmp_path / "whole", *settings) == 0
    with stopping_at(at) as taken, pytest.raises(SystemExit):
        run(config, tmp_path / "work", *settings)
    assert taken[0] == at
    assert run(config, tmp_path / "work", *settings, "--resume") == 0
    whole, resumed = (weights_of(tmp_path / name / "best.pt") for name in ("whole", "work"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_the_mean_begins_anew_with_a_phase(config, tmp_path):
    phases = "[{name: a, num_epoch: 2, losses: {cross_entropy: 1}}, {name: b, losses: {cross_entropy: 1}}]"
    assert run(config, tmp_path / "work", f"schedule={phases}", "average_epoch=3") == 0
    state = torch.load(tmp_path / "work" / "last.pt", weights_only=True)
    assert state["average"]["n_averaged"] == 2 * NUM_STEP


def test_a_mean_over_no_epochs_is_refused(config, tmp_path, capsys):
    assert run(config, tmp_path / "work", "average_epoch=0") == 2
    assert "average_epoch" in capsys.readouterr().err
