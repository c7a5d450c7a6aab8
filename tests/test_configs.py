"""Every config in the repository loads, binds and builds, and no two are alike."""

from pathlib import Path

import pytest
import torch

import main
from net.utils.layouts import get_skeleton
from torchlight.build import PACKAGES, build, import_class
from torchlight.config import load_config, to_yaml

CONFIG = Path(main.__file__).parent / "config"
LEAVES = sorted(path for path in CONFIG.rglob("*.yaml") if "_base_" not in path.parts)
# The processor of a leaf is named by the command in its first line, which is what a user copies.
COMMANDS = {path: path.read_text().splitlines()[0].split() for path in LEAVES}


def load(path: Path):
    module, name = main.PROCESSORS[COMMANDS[path][3]].rsplit(".", 1)
    processor = getattr(__import__(module, fromlist=[name]), name)
    return load_config(
        path,
        # What the command must say beside the file; in brackets is what it may.
        [word for word in COMMANDS[path][6:] if not word.startswith("[")],
        processor.config_class,
        check=lambda config: processor.check(config, PACKAGES),
    )


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: str(path.relative_to(CONFIG)))
def test_leaf_begins_with_its_command_and_builds(path):
    command = COMMANDS[path]
    assert command[:3] == ["#", "python", "main.py"]
    assert command[4:6] == ["-c", str(path.relative_to(CONFIG.parent))]
    config = load(path)
    assert len(path.read_text().splitlines()) <= 10
    model = build(config.model, config.model_args)
    joints = get_skeleton(config.data.layout).num_joint
    with torch.no_grad():
        scores = model.eval()(torch.zeros(1, 3, 16, joints, config.data.num_body))
    assert scores.shape == (1, config.data.num_class)
    assert import_class(config.model) is type(model)


def test_no_two_leaves_are_alike():
    texts = {}
    for path in LEAVES:
        config = load(path)
        config.work_dir = ""
        assert texts.setdefault(to_yaml(config), path) == path


def test_no_two_leaves_share_a_work_dir():
    work_dirs = [load(path).work_dir for path in LEAVES]
    assert len(set(work_dirs)) == len(work_dirs)


def test_no_absolute_paths():
    for path in CONFIG.rglob("*.yaml"):
        assert not [word for word in path.read_text().split() if word.startswith(("/", "~"))], path
