"""Every config in the repository loads, binds and builds, and no two are alike."""

import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from batches import Given, learn
from ragged_clips import generator, make_clips, to_batch

import main
from data_gen.ntu_labels import ACTIONS as NTU_NAMES
from feeder.label_map import read_label_map
from net.long_term import bodies_in
from net.method import Method, as_method
from net.utils.layouts import get_skeleton
from processor.checks import problems_of
from processor.config import OptimConfig
from processor.pretrain import Pretrain
from processor.schedule import active_losses
from processor.views import view_of
from tools import label_efficiency
from torchlight.build import PACKAGES, build, import_class
from torchlight.config import ConfigError, load_config, to_yaml

CONFIG = Path(main.__file__).parent / "config"


def words_of(command: str) -> list[str]:
    """The words of a command, without those in brackets, which may be left out."""
    return re.sub(r"\[[^]]*\]", "", command).split()


LEAVES = sorted(path for path in CONFIG.rglob("*.yaml") if "_base_" not in path.parts)
# A leaf begins with the command that runs it, which is what a user copies.
COMMANDS = {path: words_of(path.read_text().splitlines()[0]) for path in LEAVES}
STAGES = {"stage1.py": "pretrain", "stage2.py": "finetune_evaluation"}
GRIDS = [path for path in LEAVES if COMMANDS[path][2] == "tools/label_efficiency.py"]
RUNS = [path for path in LEAVES if path not in GRIDS]


def name_of(path: Path) -> str:
    return str(path.relative_to(CONFIG))


def processor_of(path: Path) -> type:
    program, first = COMMANDS[path][2:4]
    module, name = main.PROCESSORS[STAGES.get(program, first)].rsplit(".", 1)
    return getattr(__import__(module, fromlist=[name]), name)


@cache
def load(path: Path):
    """The config of a leaf; not to be changed, since it is kept."""
    if path in GRIDS:
        return load_config(path, [], label_efficiency.GridConfig, check=label_efficiency.check)
    processor = processor_of(path)
    words = COMMANDS[path][COMMANDS[path].index("-c") + 2 :]
    return load_config(
        path, words, processor.config_class, check=lambda config: problems_of(processor(config, PACKAGES))
    )


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_leaf_begins_with_its_command_and_is_short(path):
    command = COMMANDS[path]
    assert command[:2] == ["#", "python"]
    assert (CONFIG.parent / command[2]).is_file()
    assert command[command.index("-c") + 1] == str(path.relative_to(CONFIG.parent))
    lines = path.read_text().splitlines()
    assert len(lines) <= 11
    header = " ".join(line for line in lines if line.startswith("#"))
    assert re.search(r"# Expected: .+[.] (# )?Time: .+[.] Memory: .+[.]$", header)


@pytest.mark.parametrize("path", sorted(CONFIG.rglob("*.yaml")), ids=name_of)
def test_a_config_has_three_bases_at_most(path):
    bases = yaml.safe_load(path.read_text()).get("_base_", [])
    assert isinstance(bases, str) or len(bases) <= 3


def build_method(config, model):
    """What trains: the method around the model, or the model itself."""
    method = getattr(config, "method", None)
    return model if method is None else build(method, config.method_args, base_encoder=model)


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_leaf_builds(path):
    config = load(path)
    model = build(config.model, config.model_args)
    joints = get_skeleton(config.data.layout).num_joint
    # A network for prediction alone gives no scores.
    alone = isinstance(model, Method)
    x = torch.zeros(2, 3, config.observe if alone else 16, joints, config.data.num_body)
    with torch.no_grad():
        scores = None if alone else model.eval()(x)
        network = build_method(config, model).eval()
        method = as_method(network)
        wanted = active_losses(getattr(config, "schedule", ()))
        count = max(loss.num_view for loss in method.LOSSES)
        given = Given([x + 1] * count, torch.zeros(2, 3, method.num_predict, joints, config.data.num_body))
        losses = learn(network, given._replace(label=torch.tensor([0, 1])), wanted or None).losses
        assert not wanted or set(losses) == wanted - {"cross_entropy"}
        assert all(loss.isfinite() for loss in losses.values())
    assert alone or scores.shape == (2, config.data.num_class)
    assert import_class(config.model) is type(model)
    if config.data.label_map is not None:
        names = read_label_map(config.data.label_map, NTU_NAMES[:60], num_class=config.data.num_class)[1]
        assert len(names) == config.data.num_class


@pytest.mark.parametrize("path", GRIDS, ids=name_of)
def test_grid_names_configs_of_the_same_data_and_weights_that_a_leaf_makes(path):
    grid = load(path)
    runs = [load(CONFIG.parent / file) for file in (grid.linear, grid.finetune)]
    assert grid.benchmark in (None, runs[0].benchmark)
    assert grid.data.items() <= asdict(runs[0].data).items()
    assert [processor_of(CONFIG.parent / file).__name__ for file in (grid.linear, grid.finetune)] == [
        "LinearEvaluation",
        "FinetuneEvaluation",
    ]
    assert runs[0].data.path == runs[1].data.path
    assert {run.weights for run in runs} == {grid.weights}
    made = [load(leaf).work_dir for leaf in RUNS if processor_of(leaf) is Pretrain]
    assert str(Path(grid.weights).parent) in made


def test_phases_of_leaves_train_their_links_by_the_same_optimizer_whatever_the_run_has():
    """AdamW at one rate; nothing of the regime, whose warm-up and decay are for its own epochs."""
    links = OptimConfig(optimizer="adamw", lr=5e-4, weight_decay=0.0, schedule="constant")
    own = [
        phase.optim
        for path in RUNS
        for phase in getattr(load(path), "schedule", ())
        if phase.optim is not None
    ]
    assert own
    assert all(optim == links for optim in own)


def test_no_two_leaves_are_alike():
    texts = {}
    for path in LEAVES:
        text = to_yaml(replace(load(path), work_dir=""))
        assert texts.setdefault(text, path) == path


def test_no_two_leaves_share_a_work_dir():
    work_dirs = [load(path).work_dir for path in LEAVES]
    assert len(set(work_dirs)) == len(work_dirs)


def orders() -> Iterator[tuple[Path, list[str]]]:
    """Lists of bases with one base before all that it stands behind, until every pair was exchanged; and their leaf."""
    seen: set[tuple[str, str]] = set()
    for path in RUNS:
        bases = yaml.safe_load(path.read_text())["_base_"]
        for later in range(1, len(bases)):
            pairs = {(bases[later], base) for base in bases[:later]}
            if not pairs <= seen:
                seen |= pairs
                yield path, [bases[later], *bases[:later], *bases[later + 1 :]]


def test_the_order_of_bases_makes_no_difference_or_is_checked(tmp_path):
    refused = set()
    for path, order in orders():
        schema = processor_of(path).config_class
        texts = yaml.safe_load(path.read_text())
        words = COMMANDS[path][COMMANDS[path].index("-c") + 2 :]
        file = tmp_path / "leaf.yaml"
        file.write_text(yaml.safe_dump(texts | {"_base_": [str(path.parent / base) for base in order]}))
        try:
            assert load_config(file, words, schema) == load(path), (path, order)
        except ConfigError as error:
            assert all("is merged after" in line for line in error.problems)
            refused.add(Path(order[0]).stem)
    changing = {path.stem for path in (CONFIG / "_base_").glob("*.yaml") if "_after_:" in path.read_text()}
    # Others stand in bases, in their order.
    named = {stem for path in LEAVES for stem in re.findall(r"_base_/(\w+)\.yaml", path.read_text())}
    assert changing & named <= refused


def test_no_absolute_paths():
    for path in CONFIG.rglob("*.yaml"):
        assert not [word for word in path.read_text().split() if word.startswith(("/", "~"))], path


@pytest.mark.parametrize("name", ["knn", "linear", "finetune"])
def test_whitening_can_be_left_out_and_views_are_those_meant(name):
    path = CONFIG / "nw_ucla" / f"{name}.yaml"
    processor = processor_of(path)
    config = load_config(path, ["whiten_view=null"], processor.config_class)
    assert config.whiten_view is None
    assert config.test_view.augment[-1] == "UnitBox"
    config = load_config(path, [], processor.config_class)
    turns = [step["Rotate"]["max_angle"][1] for step in config.whiten_view.augment if "Rotate" in step]
    assert turns == [3.14]
    seen = [step["Rotate"]["max_angle"][1] for step in config.test_view.augment if "Rotate" in step]
    assert seen == ([1.0] if name == "finetune" else [3.14])


@pytest.mark.parametrize("name", ["ntu", "pku", "nw_ucla"])
@pytest.mark.parametrize("stream", ["joint", "motion", "bone_motion"])
def test_whoever_stays_teaches_the_signals_of_the_pretext_in_every_stream(name, stream):
    config = replace(load(CONFIG / name / "pretrain_long_term.yaml"), stream=stream)
    skeleton = get_skeleton(config.data.layout)
    lengths = [40, 60, 90] * 10
    clips = to_batch(make_clips(lengths, [1] * len(lengths), num_joint=skeleton.num_joint))
    seen = view_of(config.views[0], config, skeleton, PACKAGES).show(clips, generator())
    assert len(bodies_in(seen).in_all_frames) == len(lengths)


@pytest.mark.parametrize(
    "name",
    [
        *("ntu/long_term_as_gcn.yaml", "ntu/as_gcn.yaml", "nw_ucla/long_term_st_gcn.yaml"),
        *("ntu/pretrain_long_term.yaml", "ntu/predict_contrast.yaml"),
    ],
)
@pytest.mark.slow
def test_phases_train_at_their_full_rates(name, tiny_data, tmp_path):
    """Losses of very different sizes share a phase's rate; a run that came to one too high would stop there."""
    path = CONFIG / name
    narrow = ["model_args.hidden_channels=4"]
    if "as_gcn" in load(path).model:
        narrow.append("model_args.link_hidden=8")
    if load(path).method is not None:
        narrow += ["method_args.queue_size=32", "method_args.embedding=8", "method_args.decoder_hidden=8"]
    epochs = [f"schedule.{number}.num_epoch=1" for number in range(len(load(path).schedule))]
    settings = [
        *(f"data.path={tiny_data}", "data.layout=ntu-rgb+d", "data.num_body=2", "benchmark=xsub"),
        *("data.num_class=4", "data.val_fraction=0", "select=last", "test_repeat=1", "min_epoch_clip=0"),
        *("batch_size=8", "optim.warmup_epoch=0", "tensorboard=false", "device=cpu"),
        *epochs,
        f"num_epoch={len(epochs)}",
    ]
    command = COMMANDS[path][3]
    assert main.main([command, "-c", str(path), "-w", str(tmp_path), *settings, *narrow]) == 0
