"""Benchmark: raw `.skeleton` files to the prepared file."""

import contextlib
import functools
import io
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.report import ROOT, Row
from benchmarks.textbook import preparation as textbook
from benchmarks.timing import ratio, time_interleaved
from data_gen import ntu_gen_preprocess, synthetic
from feeder.prepared import open_prepared

# Prints the peak memory of the command and of its largest worker in KiB. VmHWM is the command's own. getrusage counts
# a worker from the peak of the process that started it, so the worker's is an upper bound.
PEAK = """
import resource, sys
from pathlib import Path
from data_gen import ntu_gen_preprocess
ntu_gen_preprocess.main(sys.argv[1:])
own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(own.split()[1], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def preparation(rounds: int, *, options: Sequence[str] = ()) -> Iterator[Row]:
    """Raw `.skeleton` files to the prepared file, by one process and by all; `options` of `data_gen/synthetic.py`."""
    with tempfile.TemporaryDirectory() as folder:
        raw, out = Path(folder, "raw"), Path(folder, "out.h5")
        with contextlib.redirect_stdout(io.StringIO()):
            synthetic.main(["--out", str(raw), *options])
        paths = sorted(raw.glob("*.skeleton"))
        few = paths[:: max(1, len(paths) // 8)][:8]

        def words(num_worker: int) -> list[str]:
            command = ["--data_path", str(raw), "--out", str(out), "--overwrite"]
            return [*command, "--num_worker", str(num_worker)]

        def prepare(num_worker: int) -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                ntu_gen_preprocess.main(words(num_worker))

        workers = os.cpu_count() or 1
        processes = {"1 process": 1, f"{workers} processes": workers}
        work: dict[str, Callable[[], object]] = {"textbook": lambda: textbook.prepare(few)}
        work |= {name: functools.partial(prepare, count) for name, count in processes.items()}
        seconds = time_interleaved(work, rounds)
        slow = [s / len(few) for s in seconds["textbook"]]
        for name, num_worker in processes.items():
            each = [s / len(paths) for s in seconds[name]]
            yield Row(
                f"preparation, {name}",
                f"{1 / statistics.median(each):,.0f}",
                f"{ratio(slow, each):.1f}",
                memory=_peak_memory(words(num_worker)),
            )
        frames = open_prepared(out).num_frame.mean()
        yield Row(
            f"preparation, textbook ({frames:.0f} frames a clip)", f"{1 / statistics.median(slow):,.0f}"
        )


def _peak_memory(words: Sequence[str]) -> str:
    """Peak memory of the command with these arguments, and of its largest worker."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    own, worker = (int(peak) / 1024 for peak in done.stderr.split()[-2:])
    return f"{own:,.0f} MiB" + (f", a worker at most {worker:,.0f} MiB" if worker else "")
