"""Phases of a run: which losses count when, an optimizer for each, and a run that is stopped in any of them."""

import csv
import json
import os
import re
import signal

import pytest
import torch
import yaml

import main
from conftest import TINY_CONFIG
from net.long_term import LongTerm
from net.temporal_losses import TemporalSignals
from processor.config import OptimConfig, ProcessorConfig
from processor.recognition import Recognition
from processor.schedule import PhaseConfig, phases_of, schedule_problems
from torchlight.config import ConfigError

pytestmark = pytest.mark.usefixtures("few_blocks", "blank")

RUN = OptimConfig(lr=0.3)
LOSSES = ("cross_entropy", "future", "order")
SIGNALS = [loss.name for loss in TemporalSignals.LOSSES]


def config_of(num_epoch):
    return ProcessorConfig(num_epoch=num_epoch, optim=RUN)


def test_phases_follow_each_other_and_the_open_one_takes_what_is_left():
    own = OptimConfig(lr=0.7)
    schedule = [
        PhaseConfig(name="a", num_epoch=3, losses={"future": 1.0}, optim=own),
        PhaseConfig(name="b", losses={"order": 2.0}),
        PhaseConfig(name="c", num_epoch=2, losses={"cross_entropy": 1.0}),
    ]
    phases = phases_of(schedule, config_of(12), {})
    assert [(phase.start, phase.num_epoch, phase.optim.lr) for phase in phases] == [
        (0, 3, 0.7),
        (3, 7, 0.3),
        (10, 2, 0.3),
    ]
    assert [dict(phase.losses) for phase in phases] == [each.losses for each in schedule]
    (only,) = phases_of([], config_of(4), {"future": 1.0})
    assert (only.start, only.num_epoch, only.optim, only.losses) == (0, 4, RUN, {"future": 1.0})


@pytest.mark.parametrize(
    ("phases", "num_epoch", "key", "said"),
    [
        ([{"num_epoch": 3}, {"num_epoch": 2}], 6, "schedule", "phases of 5 epochs, but num_epoch is 6"),
        ([{"num_epoch": 3}, {}], 3, "schedule", "phases of 3 epochs and one more phase, but num_epoch is 3"),
        ([{}, {}], 3, "schedule.1.num_epoch", "only one phase can have the epochs left"),
        ([{"num_epoch": 0}, {}], 3, "schedule.0.num_epoch", "is 0; it is 1 or more"),
        ([{"losses": {}}], 3, "schedule.0.losses", "give one to some of cross_entropy"),
        ([{"losses": {"order": 0.0}}], 3, "schedule.0.losses", "give no loss a weight above 0"),
        ([{"losses": {"futur": 1.0}}], 3, "schedule.0.losses.futur", "did you mean 'future'?"),
        ([{"losses": {"order": -1.0, "future": 1.0}}], 3, "schedule.0.losses.order", "is -1.0; it is 0"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said(phases, num_epoch, key, said):
    schedule = [PhaseConfig(**{"name": "a", "losses": {"order": 1.0}, **phase}) for phase in phases]
    (problem,) = schedule_problems(schedule, num_epoch, LOSSES)
    assert problem.key == key
    assert said in problem.text


# -- runs --------------------------------------------------------------------------------------------------

LONG_TERM = {
    "method": "net.long_term.LongTerm",
    "method_args": {
        "num_predict": 4,
        "decoder_hidden": 8,
        "decoder_block": 1,
        "embedding": 8,
        "queue_size": 32,
        "momentum": 0.9,
    },
    "schedule": [
        {"name": "partial", "num_epoch": 1, "losses": {"future": 1.0}},
        {
            "name": "full",
            "num_epoch": 1,
            "losses": {"future": 1.0, "inter_frame": 0.1, "intra_frame": 0.1, "segment": 0.1, "order": 0.1},
            "optim": {"optimizer": "sgd", "lr": 0.02},
        },
        {"name": "joint", "losses": {"cross_entropy": 1.0, "future": 1.0, "pose_contrast": 0.1}},
    ],
}
STEPS = 3  # of an epoch


def write_config(data, folder):
    """A config of the long-term network on tiny data, in phases of 1, 1 and 2 epochs; it runs in `folder / work`."""
    values = yaml.safe_load(TINY_CONFIG.format(data=data, work_dir=folder / "work"))
    values |= LONG_TERM
    values["key_view"] = {**values["train_view"], "same_frames": True}
    (folder / "long_term.yaml").write_text(yaml.safe_dump(values))
    return folder / "long_term.yaml"


@pytest.fixture(scope="module")
def config(tiny_data, tmp_path_factory):
    """The long-term network on tiny data."""
    return write_config(tiny_data, tmp_path_factory.mktemp("schedule"))


def set_up(config, work, *settings):
    """A processor that has its data and network."""
    words = ["recognition", "-c", str(config), "-w", str(work), *settings]
    processor = main.make_processor(main.parse(words))
    processor.setup()
    return processor


def run(config, work, *args):
    return main.main(["recognition", "-c", str(config), "-w", str(work), *args])


@pytest.fixture(scope="module")
def whole(config):
    work = config.parent / "whole"
    assert run(config, work) == 0
    return work


def rows_of(work):
    with (work / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_each_phase_has_its_losses_and_its_rate(whole):
    rows = rows_of(whole)
    shown = [{name for name, value in row.items() if value and name.endswith("_loss")} for row in rows]
    assert shown[0] == {"train_loss"}  # one alone is the sum
    signals = {f"train_{name}_loss" for name in ("inter_frame", "intra_frame", "segment", "order", "future")}
    assert shown[1] == signals | {"train_loss"}
    joint = {f"train_{name}_loss" for name in ("cross_entropy", "future", "pose_contrast")}
    assert shown[2] == shown[3] == joint | {"train_loss", "val_loss"}
    # The last step of an epoch is 5 / 6 through it; every phase begins its schedule anew, warm-up included.
    assert float(rows[0]["lr"]) < 0.01 * 0.9
    assert float(rows[1]["lr"]) <= 0.02
    assert float(rows[2]["lr"]) > float(rows[3]["lr"])
    result = json.loads((whole / "result.json").read_text())
    assert result["epoch"] in (3, 4)  # judged in the last phase alone
    assert (result["model"], result["method"]) == ("net.st_gcn.Model", "net.long_term.LongTerm")


@pytest.mark.parametrize(
    "step", [2, STEPS, STEPS + 1, 2 * STEPS, 2 * STEPS + 2, 3 * STEPS], ids=lambda step: f"step {step}"
)
def test_stopped_in_any_phase_or_between_two_and_resumed(config, whole, tmp_path, monkeypatch, step):
    taken, real = [0], Recognition.step

    def stopping(self, run, batch):
        taken[0] += 1
        if taken[0] == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, run, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Recognition, "step", stopping)
        with pytest.raises(SystemExit) as stopped:
            run(config, tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert taken[0] == step
    assert run(config, tmp_path, "--resume") == 0
    first, second = (torch.load(work / "last.pt", weights_only=True) for work in (whole, tmp_path))
    differing = [key for key, value in first["model"].items() if not torch.equal(value, second["model"][key])]
    assert not differing
    clock = ("seconds", "clips_per_second")
    curves = [
        [{k: v for k, v in row.items() if k not in clock} for row in rows_of(w)] for w in (whole, tmp_path)
    ]
    assert curves[0] == curves[1]


def test_debug_goes_through_every_phase(config, tmp_path):
    assert run(config, tmp_path, "--debug") == 0
    assert len(rows_of(tmp_path / "debug")) == 3


def test_encoder_of_the_network_serves_the_evaluations(config, whole, tmp_path):
    values = yaml.safe_load(config.read_text())
    for key in ("method", "method_args", "schedule", "key_view"):
        del values[key]
    plain = tmp_path / "plain.yaml"
    plain.write_text(yaml.safe_dump(values))
    weights = str(whole / "best.pt")
    args = ["-c", str(plain), "--weights", weights, "num_epoch=1"]
    assert main.main(["linear_evaluation", *args, "-w", str(tmp_path / "linear")]) == 0
    assert main.main(["finetune_evaluation", *args, "-w", str(tmp_path / "finetune")]) == 0
    # The backbone alone names the same actions.
    again = ["--phase", "test", "-c", str(plain), "--weights", weights, "-w", str(tmp_path / "test")]
    assert main.main(["recognition", *again]) == 0
    top1 = [json.loads((folder / "result.json").read_text())["top1"] for folder in (whole, tmp_path / "test")]
    assert top1[0] == top1[1]


def test_weights_bring_keys_without_the_actions_they_were_of(config, whole, tmp_path, monkeypatch):
    given = torch.load(whole / "best.pt", weights_only=True)["model"]
    assert (given["pose_queue.label"] >= 0).any()
    found, real = [], Recognition.step

    def looking(self, run, batch):
        queue = run.model.pose_queue
        found.append((queue.keys.clone(), queue.label.clone()))
        return real(self, run, batch)

    monkeypatch.setattr(Recognition, "step", looking)
    assert run(config, tmp_path, "--debug", "--weights", str(whole / "best.pt")) == 0
    keys, label = found[0]
    torch.testing.assert_close(keys, given["pose_queue.keys"])
    assert (label == -1).all()


def test_problems_of_method_and_schedule_are_found_before_data_is_touched(config, tmp_path, capsys):
    args = ["method_args.layouts=a", "schedule.1.losses.segmen=1.0", "data.path=nowhere.h5"]
    assert run(config, tmp_path, *args) == 2
    said = capsys.readouterr().err
    assert (
        "method_args.layouts: net.long_term.LongTerm takes no such argument; did you mean 'layout'?" in said
    )
    assert "schedule.1.losses.segmen: the network has no such loss; did you mean 'segment'?" in said
    assert run(config, tmp_path, "method=net.aimclr.AimCLR", "method_args={}", "schedule=[]") == 2
    assert "method: net.aimclr.AimCLR has no loss cross_entropy" in capsys.readouterr().err


def test_a_method_that_compares_views_needs_a_second_one_of_the_same_frames(config, tmp_path, capsys):
    assert run(config, tmp_path, "key_view=null") == 2
    assert (
        "key_view: is null; losses inter_frame, intra_frame, segment, pose_contrast"
        in capsys.readouterr().err
    )
    assert run(config, tmp_path, "key_view.same_frames=false") == 2
    compared = "inter_frame, intra_frame, segment, pose_contrast need the same frames"
    assert f"key_view.same_frames: is false; {compared}" in capsys.readouterr().err
    assert run(config, tmp_path, "key_view.sampling=[{Resize: {num_frame: 16}}]") == 2
    assert "key_view.sampling: differs from train_view's" in capsys.readouterr().err


AHEAD = (
    "train_view.sampling=[{RandomResizedCrop: {num_frame: 12, min_ratio: 0.5, max_ratio: 1.0, num_ahead: 4}}]"
)


@pytest.mark.parametrize("losses", [{"order": 1.0}, {"future": 1.0}, {"cross_entropy": 1.0, "order": 0.1}])
def test_frames_ahead_are_never_seen_whatever_counts(config, tmp_path, monkeypatch, losses):
    seen = []
    learn = LongTerm.forward

    def spy(self, batch, wanted):
        seen.append({view.x.shape[2] for view in batch.views} | {batch.future.x.shape[2] + 8})
        return learn(self, batch, wanted)

    monkeypatch.setattr(LongTerm, "forward", spy)
    schedule = [
        {"name": "a", "num_epoch": 1, "losses": losses},
        {"name": "b", "losses": {"cross_entropy": 1.0}},
    ]
    args = [AHEAD, "key_view=null", f"schedule={json.dumps(schedule)}"]
    assert run(config, tmp_path / "ahead", *args) == 0
    assert len(seen) == 4 * STEPS
    assert all(frames == {12} for frames in seen)


def test_frames_ahead_that_nothing_predicts_are_refused_before_data_is_touched(config, tmp_path, capsys):
    nowhere = "data.path=nowhere.h5"
    five = AHEAD.replace("ahead: 4", "ahead: 5")
    assert run(config, tmp_path, nowhere, five, "key_view=null", "without=[inter_frame]") == 2
    said = capsys.readouterr().err
    assert "train_view.sampling: has num_ahead: 5, but the network predicts 4 frames; make them equal" in said
    # Views of a test are seen whole, and a backbone alone predicts nothing.
    assert run(config, tmp_path, nowhere, AHEAD.replace("train_view", "test_view")) == 2
    said = capsys.readouterr().err
    assert (
        "test_view.sampling: has num_ahead: 4, but the network predicts nothing there; leave it out" in said
    )
    plain = ["method=null", "method_args={}", "schedule=[]", "key_view=null"]
    assert run(config, tmp_path, nowhere, AHEAD, *plain) == 2
    assert (
        "train_view.sampling: has num_ahead: 4, but the network predicts nothing" in capsys.readouterr().err
    )
    # What a class that is not there would predict is not guessed.
    assert run(config, tmp_path, nowhere, AHEAD, "method=net.long_term.LongTrem") == 2
    said = capsys.readouterr().err
    assert "did you mean 'LongTerm'?" in said
    assert "num_ahead" not in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["stream=bone_motion"],
            "stream: is 'bone_motion', which has no poses",
        ),
        (["stream=motion"], "set without='[future, pose_contrast]'"),
        (["stream=motion", "without=[future]"], "set without='[pose_contrast]'"),
        (
            ["train_view.normalise=align_shoulders"],
            "train_view.normalise: is 'align_shoulders', which depends on frames that are not seen yet; choose another",
        ),
        (
            ["train_view.sampling=[{Resize: {num_frame: 4}}]", "key_view.sampling=${train_view.sampling}"],
            "train_view.sampling: takes 4 frames and the last 4 are to be predicted",
        ),
        (
            ["train_view.augment=[UnitBox]"],
            "train_view.augment.0.UnitBox: depends on frames after the 12 that are seen; give num_seen: 12",
        ),
        (
            ["method_args.layout=coco", "model_args.layout=kinect-v1"],
            "model_args.layout: is 'kinect-v1' (20 joints), but data.layout is 'ntu-rgb+d' (25); write ${data.layout}\n"
            "  command line: method_args.layout: is 'coco' (17 joints), but",
        ),
        (
            ["without=[inter_frame]", "schedule=[]", "method=null", "method_args={}"],
            "the network has no loss",
        ),
        (["schedule=[]", "without=[cross_entropy]"], "without: leaves no loss"),
        (
            ["schedule.2.optim={optimizer: sgd, schedule: step, lr: -1, momentum: 0, grad_clip: -1}"],
            "schedule.2.optim.lr: is -1.0; it is 0 or more\n"
            "  command line: schedule.2.optim.grad_clip: is -1.0; it is above 0, or null\n"
            "  command line: schedule.2.optim.step: is empty; list the epochs after which the rate falls\n"
            "  command line: schedule.2.optim.nesterov: needs a momentum; set schedule.2.optim.momentum, or",
        ),
        (
            ["without=[cross_entropy]"],
            "schedule: has no phase with the loss 'cross_entropy'",
        ),
        (["model_args.hiden_channels=3"], "long_term.yaml: 1 problem\n"),
    ],
)
def test_what_would_break_off_or_be_seen_later_is_said_at_once(config, tmp_path, capsys, settings, said):
    sixteen = "train_view.sampling=[{Resize: {num_frame: 16}}]"
    same = ["key_view.sampling=${train_view.sampling}", "data.path=nowhere.h5"]
    assert run(config, tmp_path, sixteen, *same, *settings) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("stream", ["motion", "bone_motion"])
def test_motions_are_learnt_without_a_future(config, tmp_path, stream):
    assert run(config, tmp_path, "--debug", f"stream={stream}", "without=[future, pose_contrast]") == 0
    first = rows_of(tmp_path / "debug")[0]
    assert all(float(first[f"train_{name}_loss"]) > 0 for name in SIGNALS)


def test_a_plain_network_s_loss_has_its_weight_too(config, tmp_path):
    plain = ["method=null", "method_args={}", "key_view=null", "num_epoch=1", "optim.lr=0"]
    losses = []
    for weight in (1.0, 0.25):
        work = tmp_path / str(weight)
        schedule = f"schedule=[{{name: a, losses: {{cross_entropy: {weight}}}}}]"
        assert run(config, work, *plain, schedule) == 0
        losses.append(float(rows_of(work)[0]["train_loss"]))
    assert losses[1] == pytest.approx(losses[0] / 4)


def test_falls_of_the_rate_are_those_of_the_last_phase_or_a_phase_s_own(config, tmp_path):
    step = ["optim.schedule=step", "optim.step=[1]"]
    assert run(config, tmp_path / "last", *step) == 0
    assert "does not fall" not in (tmp_path / "last" / "log.txt").read_text()
    own = "schedule.0.optim={lr: 0.1, schedule: step, step: [3]}"
    assert run(config, tmp_path / "own", *step, own) == 0
    said = "phase 'partial' has 1 epochs, so that its rate does not fall after [3]; change optim.step or num_epoch"
    assert said in (tmp_path / "own" / "log.txt").read_text()


def test_optim_of_a_phase_is_laid_over_the_run_s_and_what_that_changes_is_said(config, tmp_path, capsys):
    run_s = ["optim.weight_decay=0.03", "optim.betas=[0.8, 0.9]", "optim.grad_clip=1", "optim.step=[7]"]
    shown = ["--print_config", *run_s, "schedule.0.optim={lr: 0.5}"]
    assert run(config, tmp_path, *shown) == 0
    said = capsys.readouterr()
    phases = [phase["optim"] for phase in yaml.safe_load(said.out)["schedule"]]
    own = yaml.safe_load(said.out)["optim"]
    assert phases[0] == {**own, "lr": 0.5}
    assert phases[1] == {**own, "optimizer": "sgd", "lr": 0.02}
    assert phases[2] is None
    # Keys that are without effect beside the others are left out: momentum of AdamW, betas of SGD, steps of a cosine.
    first, second = [line for line in said.err.splitlines() if line.startswith("note: schedule.")]
    keys = [set(re.findall(r"(\w+)=", line)) for line in (first, second)]
    both = {"weight_decay", "warmup_epoch", "grad_clip"}
    assert keys == [both | {"optimizer", "betas"}, both]
    assert "schedule.0.optim" in first and "weight_decay=0.0001" in first
    # A run's own config is whole, and an optimizer that is written out changes with nothing.
    (tmp_path / "whole.yaml").write_text(said.out)
    assert run(tmp_path / "whole.yaml", tmp_path, "--print_config") == 0
    assert "note:" not in capsys.readouterr().err


def test_an_empty_optim_of_a_phase_is_the_run_s(config, tmp_path):
    processor = set_up(config, tmp_path, "schedule.0.optim={}", "data.cache=memory")
    assert processor.schedule[0].optim == processor.config.optim


# -- several processes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["method", "backbone", "plain"])
def test_processes_wait_only_for_parts_that_took_part(config, tmp_path, monkeypatch, network):
    """Without `find_unused_parameters` the second step fails where a part of the network was not used."""
    plain = ["method=null", "method_args={}", "schedule=[]", "key_view=null"]
    as_gcn = (
        "model_args={_delete_: true, num_class: 4, hidden_channels: 4, link_hidden: 4, num_link_frame: 8}"
    )
    settings = {"method": [], "plain": plain, "backbone": [*plain, "model=net.as_gcn.Model", as_gcn]}[network]
    asked = {}

    def wrap(network, **options):
        asked.update(options)
        return network

    words = ["recognition", "-c", str(config), "-w", str(tmp_path), *settings]
    processor = main.make_processor(main.parse(words))
    monkeypatch.setattr("processor.experiment.DistributedDataParallel", wrap)
    monkeypatch.setattr("torchlight.distributed.world_size", lambda: 2)
    processor.setup()
    assert asked["find_unused_parameters"] == (network != "plain")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("method_args.temperature=0.0", "method_args: temperature is 0.0; give more than 0"),
        ("model_args.strategy=nearest", "model_args: "),
    ],
)
def test_numbers_that_a_class_refuses_are_told_with_their_key(config, tmp_path, capsys, setting, said):
    assert run(config, tmp_path, setting) == 1
    assert said in capsys.readouterr().err


def test_parts_that_nothing_teaches_are_told(config, tmp_path):
    def told(more, *settings):
        as_gcn = "_delete_: true, num_class: 4, hidden_channels: 4, link_hidden: 4, num_link_frame: 8"
        args = ["model=net.as_gcn.Model", f"model_args={{{as_gcn}{more}}}", *settings]
        processor = set_up(config, tmp_path, *args)
        return any("losses nll or kl" in text for text in processor.task.warnings(processor))

    assert told("")
    assert not told(", link_gradient: true")
    assert not told("", "schedule.0.losses.nll=1.0")


def test_arguments_that_nothing_takes_are_told(config, tmp_path):
    def told(*settings):
        processor = set_up(config, tmp_path, *settings)
        return [text for text in processor.task.warnings(processor) if "method_args" in text]

    (text,) = told("method=null", "method_args={_delete_: true, hop: 1}", "schedule=[]")
    assert "method_args (hop)" in text and "net.st_gcn.Model" in text
    assert not told("method=null", "method_args={_delete_: true}", "schedule=[]")
    assert not told()


def test_phases_that_need_no_labels_but_see_labelled_clips_alone_are_told(config, tmp_path):
    def told(*settings):
        processor = set_up(config, tmp_path, *settings)
        return [text for text in processor.task.warnings(processor) if "need no labels" in text]

    few = ["data.label_fraction=0.5", "schedule.1.losses.pose_contrast=1.0"]
    (text,) = told(*few)
    assert text.startswith("phases partial need no labels")
    assert not told(few[1])
    assert not told(*few, "schedule.0.losses.cross_entropy=1.0")


def test_cudnn_is_not_to_time_a_method_s_convolutions_anew_in_every_step(config, tmp_path, monkeypatch):
    """Its decoder runs on the bodies that are there, though the backbone takes all."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    processor = set_up(config, tmp_path, "model_args.skip_empty_bodies=false")
    assert processor.method.varies_batch


def test_compiled_is_what_a_step_calls(config, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: compiled.append(network))
    processor = set_up(config, tmp_path, "compile=true")
    assert compiled == [processor.network] == [processor.model]
    compiled.clear()
    plain = ["method=null", "method_args={}", "schedule=[]", "key_view=null", "model=net.as_gcn.Model"]
    small = "{_delete_: true, num_class: 4, hidden_channels: 4, link_hidden: 4, num_link_frame: 8}"
    processor = set_up(config, tmp_path, "compile=true", *plain, f"model_args={small}")
    # A step calls the method's own `forward`, a test the network's.
    assert compiled == [processor.model, processor.method]


def test_poses_that_count_must_be_predicted(config, tmp_path, capsys):
    plain = [
        "method=null",
        "method_args={}",
        "key_view=null",
        "model=net.as_gcn.Model",
        "data.path=nowhere.h5",
    ]
    args = "model_args={_delete_: true, num_class: 4, num_predict: 0}"
    schedule = "schedule=[{name: a, losses: {future: 1.0, cross_entropy: 1.0}}]"
    assert run(config, tmp_path, *plain, args, schedule) == 2
    assert "model_args.num_predict: is 0, but future" in capsys.readouterr().err


# -- losses that are left out ------------------------------------------------------------------------------


def test_losses_left_out_of_a_run_without_phases_count_nowhere():
    (only,) = phases_of([], config_of(4), {"future": 1.0, "order": 2.0}, without=["order"])
    assert only.losses == {"future": 1.0}


def test_losses_left_out_count_nowhere_and_phases_of_them_alone_are_skipped():
    schedule = [
        PhaseConfig(name="a", num_epoch=3, losses={"future": 1.0}),
        PhaseConfig(name="b", num_epoch=2, losses={"future": 1.0, "order": 2.0}),
        PhaseConfig(name="c", losses={"cross_entropy": 1.0, "future": 0.0}),
    ]
    phases = phases_of(schedule, config_of(12), {}, without=["future"])
    assert [(phase.start, phase.num_epoch, dict(phase.losses)) for phase in phases] == [
        (0, 2, {"order": 2.0}),
        (2, 7, {"cross_entropy": 1.0}),
    ]


def test_what_is_wrong_with_losses_left_out_is_said():
    schedule = [PhaseConfig(name="a", losses={"order": 1.0})]
    said = [str(each) for each in schedule_problems(schedule, 3, LOSSES, without=["futur", "order"])]
    assert said == ["without.0: the network has no loss 'futur'; did you mean 'future'?"]


def test_a_second_view_that_is_not_made_may_look_anywhere(config, tmp_path):
    compared = "without=[inter_frame, intra_frame, segment, pose_contrast]"
    words = ["recognition", "-c", str(config), compared, "key_view.augment=[UnitBox]"]
    main.read_config(main.parse(words))
    with pytest.raises(ConfigError, match=r"key_view.augment.0.UnitBox: .*frames after"):
        main.read_config(main.parse([word for word in words if word != compared]))


def test_a_run_without_losses_is_that_of_a_schedule_that_has_not_got_them(config, tmp_path, monkeypatch):
    seen = []
    learn = LongTerm.forward

    def spy(self, batch, wanted):
        seen.append(len(batch.views))
        return learn(self, batch, wanted)

    monkeypatch.setattr(LongTerm, "forward", spy)
    compared = "inter_frame, intra_frame, segment, pose_contrast"
    assert run(config, tmp_path / "without", f"without=[future, {compared}]") == 0
    # The first phase has nothing left, and nobody compares: the second view is not made.
    assert seen == [1] * 3 * STEPS
    schedule = [
        {**LONG_TERM["schedule"][1], "losses": {"order": 0.1}},
        {"name": "joint", "losses": {"cross_entropy": 1.0}},
    ]
    args = [f"schedule={json.dumps(schedule)}", "num_epoch=3", "key_view=null"]
    assert run(config, tmp_path / "written", *args) == 0
    first, second = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in ("without", "written")
    )
    assert all(torch.equal(value, second[key]) for key, value in first.items())
