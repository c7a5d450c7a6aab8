"""Benchmark: raw `.skeleton` files to the prepared file."""

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_gen import ntu_gen_preprocess, synthetic
from feeder.prepared import open_prepared
from tools import textbook
from tools.contest import ROOT, Row, ratio, take_turns


def textbook_preparation(paths: Sequence[Path]) -> None:
    """Read, choose bodies, normalise: what AS-GCN's script does for each file."""
    for path in paths:
        textbook.align_torso(textbook.choose_bodies(textbook.read_skeleton(path)))


# Prints the peaks of the command and of its largest worker in KiB. A process starts with the peak of the one
# that started it in getrusage: VmHWM is its own, and a worker's is an upper bound.
PEAK = """
import resource, sys
from pathlib import Path
from data_gen import ntu_gen_preprocess
ntu_gen_preprocess.main(sys.argv[1:])
own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(own.split()[1], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def _peak_of_command(raw: Path, out: Path, num_worker: int) -> str:
    command = ["--data_path", str(raw), "--out", str(out), "--overwrite", "--num_worker", str(num_worker)]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    own, worker = (int(peak) / 1024 for peak in done.stderr.split()[-2:])
    return f"{own:,.0f} MiB" + (f", a worker at most {worker:,.0f} MiB" if worker else "")


def preparation(rounds: int) -> Iterator[Row]:
    """Raw `.skeleton` files to the prepared file, by one process and by all."""
    with tempfile.TemporaryDirectory() as folder:
        raw, out = Path(folder, "raw"), Path(folder, "out.h5")
        with contextlib.redirect_stdout(io.StringIO()):
            synthetic.main(["--out", str(raw)])
        paths = sorted(raw.glob("*.skeleton"))
        few = paths[:: len(paths) // 8][:8]

        def prepare(num_worker: int) -> None:
            command = ["--data_path", str(raw), "--out", str(out), "--overwrite"]
            with contextlib.redirect_stdout(io.StringIO()):
                ntu_gen_preprocess.main([*command, "--num_worker", str(num_worker)])

        workers = os.cpu_count() or 1
        seconds = take_turns(
            {
                "one": lambda: prepare(1),
                "all": lambda: prepare(workers),
                "textbook": lambda: textbook_preparation(few),
            },
            rounds,
        )
        slow = [s / len(few) for s in seconds["textbook"]]
        for num_worker, (name, label) in zip(
            (1, workers), (("one", "1 process"), ("all", f"{workers} processes")), strict=True
        ):
            each = [s / len(paths) for s in seconds[name]]
            yield Row(
                f"preparation, {label}",
                f"{1 / statistics.median(each):,.0f}",
                f"{ratio(slow, each):.1f}",
                memory=_peak_of_command(raw, out, num_worker),
            )
        frames = open_prepared(out).num_frame.mean()
        yield Row(
            f"preparation, textbook ({frames:.0f} frames a clip)", f"{1 / statistics.median(slow):,.0f}"
        )
