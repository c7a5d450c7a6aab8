"""What Windows and macOS refuse is not needed: every module imports, and data is made, trained on and exported."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
OTHER_SYSTEM = ROOT / "tests" / "other_system"

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="what is open is seen as on Linux")

# One process for all, for torch takes seconds to load.
SCRIPT = """
import importlib, pkgutil, sys
from pathlib import Path

for package in ("torchlight", "net", "feeder", "processor", "data_gen", "benchmarks", "tools"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
import main, stage1, stage2
from data_gen import custom_gen_preprocess, export_numpy, synthetic

config, folder = sys.argv[1], Path(sys.argv[2])
words = ["recognition", "-c", config, "num_epoch=1", "optim.warmup_epoch=0"]
for extra in ([], ["--resume"]):
    assert main.main([*words, *extra]) == 0

for num_worker, extra in (("2", []), ("1", ["--overwrite"])):
    words = ["--num_subject", "3", "--num_replication", "1", "--num_worker", num_worker]
    assert synthetic.main(["--out", str(folder / "raw"), *words, *extra]) == 0
    words = ["--table", str(folder / "clips.csv"), "--data_path", str(folder), "--out", str(folder / "my.h5")]
    assert custom_gen_preprocess.main([*words, "--layout", "ntu-rgb+d", "--num_worker", num_worker, *extra]) == 0
    words = ["--data", str(folder / "my.h5"), "--benchmark", "xsub", "--format", "aimclr", "--out", str(folder)]
    assert export_numpy.main([*words, *extra]) == 0
"""


def run(code: str, *arguments: object) -> str:
    """What a script prints, in a process that has nothing but what all systems have."""
    path = os.pathsep.join([str(OTHER_SYSTEM), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_everything_imports_trains_and_makes_data(tiny_config: Path, tmp_path: Path) -> None:
    rows = ["file,label,subject"]
    for clip in range(20):  # more than one worker takes
        np.save(tmp_path / f"{clip}.npy", np.random.default_rng(clip).normal(size=(4, 25, 3)))
        rows.append(f"{clip}.npy,{'wave' if clip % 2 else 'bow'},{clip % 4}")
    (tmp_path / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    run(SCRIPT, tiny_config, tmp_path)
    left = {path.name for path in (tmp_path / "work").iterdir()}
    assert {"best.pt", "last.pt", "curves.png", "result.json"} <= left
    assert (tmp_path / "xsub" / "train_position.npy").exists()


@pytest.mark.parametrize(
    "code",
    [
        "import fcntl",
        "import os; os.fork()",
        "import signal; signal.SIGKILL",
        "import os, sys; os.open(sys.argv[1], os.O_RDONLY)",
        "import os, sys; f = open(sys.argv[1] + '/a', 'w'); g = open(sys.argv[1] + '/b', 'w'); g.close(); "
        "os.replace(sys.argv[1] + '/b', sys.argv[1] + '/a')",
        "import os, sys; open(sys.argv[1] + '/a', 'w').close(); os.fsync(open(sys.argv[1] + '/a'))",
        "import multiprocessing; multiprocessing.get_context('fork').Process(target=print).start()",
    ],
)
def test_what_other_systems_refuse_is_refused_here(tmp_path: Path, code: str) -> None:
    with pytest.raises(AssertionError, match=r"Error: "):
        run(code, tmp_path)
