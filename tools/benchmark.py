"""Speed and memory of preparation, batches and networks, beside the same work done the textbook way.

    python tools/benchmark.py [--only preparation batch network] [--device cuda] [--rounds 7]

Contestants take turns inside one process, so a change of the machine's speed hits all of them; medians are
quoted, and a ratio is the median of the ratios of the turns. The table is printed and written into
`docs/BENCHMARKS.md`, below the machine, the date and the command.
"""

import argparse
import contextlib
import datetime
import io
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_gen import ntu_gen_preprocess, synthetic
from feeder.prepared import open_prepared
from feeder.ragged import RaggedBatch
from feeder.views import View
from net import ctr_gcn, st_gcn
from net.utils.graph import Graph
from net.utils.layouts import get_skeleton
from tools import textbook
from torchlight.checkpoint import atomic_write

LAYOUT = "ntu-rgb+d"
REPORT = Path(__file__).resolve().parents[1] / "docs" / "BENCHMARKS.md"


class Row(NamedTuple):
    """One line of the table; `ratio` is the textbook's time over ours."""

    work: str
    clips_per_second: str
    ratio: str = ""
    gflops: str = ""
    of_matmul: str = ""
    of_best_matmul: str = ""
    memory: str = ""


def take_turns(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, work in contestants.items():
            begin = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over the rounds of slow / fast."""
    return statistics.median(s / f for s, f in zip(slow, fast, strict=True))


# -- preparation -------------------------------------------------------------------------------------


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
        cwd=REPORT.parents[1],
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


# -- batches -----------------------------------------------------------------------------------------

NORMAL_VIEW: dict[str, Any] = {
    "sampling": [{"Resize": {"num_frame": 50}}, "TemporalCrop"],
    "normalise": "align_shoulders",
    "augment": [{"Shear": {"amplitude": 0.5}}],
}


def ragged(num_clip: int, num_body: int, device: torch.device) -> RaggedBatch:
    """Random clips of 64 to 104 frames, 84 on average."""
    generator = np.random.default_rng(0)
    num_frame = generator.integers(64, 105, num_clip)
    size = num_frame * num_body
    rows = torch.from_numpy(generator.standard_normal((size.sum(), 25, 3)).astype(np.float32))
    return RaggedBatch(
        rows=rows.to(device),
        start=torch.from_numpy(np.cumsum(size) - size),
        num_frame=torch.from_numpy(num_frame),
        num_body=torch.full((num_clip,), num_body),
    )


def batch(rounds: int, device: torch.device) -> Iterator[Row]:
    """AimCLR's normal view of 256 clips: 50 frames x 25 joints x 2 bodies, from 84 frames on average.

    The textbook does the same work clip by clip; and what its authors leave to each epoch, with clips that
    were resized and aligned once and stored.
    """
    clips = ragged(256, 2, device)
    view = View(get_skeleton(LAYOUT), num_body=2, stream="joint", **NORMAL_VIEW)
    generator = torch.Generator().manual_seed(0)
    raw = [
        clips.rows[start : start + 2 * length].view(2, length, 25, 3).permute(3, 1, 2, 0).cpu().numpy()
        for start, length in zip(clips.start[:16].tolist(), clips.num_frame[:16].tolist(), strict=True)
    ]
    stored = [textbook.align_shoulders(textbook.resize(clip, 50)) for clip in raw]

    def usual(aligned: Callable[[], Sequence[np.ndarray]]) -> list[np.ndarray]:
        return [textbook.shear(textbook.temporal_crop(clip)) for clip in aligned()]

    work = {
        "textbook": lambda: usual(
            lambda: [textbook.align_shoulders(textbook.resize(clip, 50)) for clip in raw]
        ),
        "textbook, clips resized and aligned before": lambda: usual(lambda: stored),
    }
    seconds = take_turns({"ours": lambda: view(clips, generator), **work}, 3 * rounds)
    fast = [s / len(clips.num_frame) for s in seconds["ours"]]
    slow = {name: [s / len(raw) for s in seconds[name]] for name in work}
    what = "AimCLR's normal view"
    yield Row(what, f"{1 / statistics.median(fast):,.0f}", f"{ratio(slow['textbook'], fast):.1f}")
    for name, each in slow.items():
        beside = "" if name == "textbook" else f"{ratio(slow['textbook'], each):.1f}"
        yield Row(f"{what}, {name}", f"{1 / statistics.median(each):,.0f}", beside)


# -- networks ----------------------------------------------------------------------------------------


class Contest(NamedTuple):
    """A network of ours beside the textbook's, and the batch both are given."""

    ours: Callable[[], nn.Module]
    textbook: Callable[[], nn.Module]
    shape: tuple[int, int, int, int, int]


def _adjacency(strategy: str) -> Tensor:
    return torch.from_numpy(Graph(LAYOUT, strategy).A).float()


CONTESTS = {
    "ST-GCN 16 channels, 50 frames": Contest(
        lambda: st_gcn.Model(3, 60, layout=LAYOUT, hidden_channels=16),
        lambda: textbook.STGCN(_adjacency("spatial"), 60, hidden_channels=16),
        (64, 3, 50, 25, 2),
    ),
    "ST-GCN 64 channels, 300 frames": Contest(
        lambda: st_gcn.Model(3, 60, layout=LAYOUT, hidden_channels=64),
        lambda: textbook.STGCN(_adjacency("spatial"), 60, hidden_channels=64),
        (4, 3, 300, 25, 2),
    ),
    "CTR-GCN 64 channels, 64 frames": Contest(
        lambda: ctr_gcn.Model(3, 60, layout=LAYOUT, num_body=2),
        lambda: textbook.CTRGCN(_adjacency("digraph"), 60),
        (8, 3, 64, 25, 2),
    ),
}


def _input(shape: tuple[int, int, int, int, int], device: torch.device) -> Tensor:
    n, c, t, v, m = shape
    x = torch.randn(n, m, t, v, c, generator=torch.Generator().manual_seed(0))
    return x.to(device).permute(0, 4, 2, 3, 1)


def _step(model: nn.Module, x: Tensor, dtype: torch.dtype, train: bool) -> Callable[[], None]:
    label = torch.arange(len(x), device=x.device) % 60

    def run() -> None:
        model.train(train)
        with (
            torch.set_grad_enabled(train),
            torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32),
        ):
            scores = model(x)
        if train:
            model.zero_grad(set_to_none=True)
            F.cross_entropy(scores.float(), label).backward()

    return run


def _resident(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process in MiB; Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _peak_memory(name: str, which: str, precision: str, train: bool, device: str, pipe: object) -> None:
    """Send the peak memory of one step in a process of its own, in MiB over the idle process."""
    contest, kind = CONTESTS[name], torch.device(device)
    torch.manual_seed(0)
    model, x = getattr(contest, which)().to(kind), _input(contest.shape, kind)
    # getrusage's peak is inherited from the parent process; this one's own is reset here.
    if kind.type == "cpu":
        Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    _step(model, x, PRECISIONS[precision], train)()
    on_device = torch.cuda.max_memory_allocated() / 2**20 if kind.type == "cuda" else None
    peak = _resident("VmHWM") - before if on_device is None else on_device
    pipe.send(peak)  # type: ignore[attr-defined]


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def peak_memory(name: str, which: str, precision: str, train: bool, device: torch.device) -> float:
    """Peak memory of one step in MiB: of the process on a CPU, of the allocator on CUDA."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe()
    process = context.Process(target=_peak_memory, args=(name, which, precision, train, str(device), send))
    process.start()
    send.close()  # so that a process that dies is noticed
    peak = float(receive.recv())
    process.join()
    return peak


class MatrixProduct:
    """The machine's own product of two square matrices; `best` has the fastest size.

    A square of 2048 is the usual yardstick. Some libraries multiply smaller ones at twice its rate.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, size: int = 2048) -> None:
        self.a, self.b = (torch.randn(2, size, size, device=device).to(dtype)).unbind()
        # As many operations as one product of 2048.
        self.repeat = (2048 // size) ** 3
        self.flops = 2 * size**3 * self.repeat

    def __call__(self) -> None:
        """Multiply."""
        for _ in range(self.repeat):
            self.a @ self.b

    @classmethod
    def best(cls, device: torch.device, dtype: torch.dtype) -> "MatrixProduct":
        """The fastest of 256, 512, 1024 and 2048."""
        candidates = {str(size): cls(device, dtype, size) for size in (256, 512, 1024, 2048)}
        seconds = take_turns(candidates, 3)
        return candidates[min(seconds, key=lambda size: statistics.median(seconds[size]))]


def network(rounds: int, device: torch.device) -> Iterator[Row]:
    """Training step (forward, backward) and inference, fp32 and bf16, beside the textbook in fp32."""
    products = {
        kind: {precision: make(device, dtype) for precision, dtype in PRECISIONS.items()}
        for kind, make in (("2048", MatrixProduct), ("best", MatrixProduct.best))
    }
    for name, contest in CONTESTS.items():
        torch.manual_seed(0)
        x = _input(contest.shape, device)
        usual = contest.textbook().to(device)
        models = {precision: contest.ours().to(device) for precision in PRECISIONS}
        for train in (True, False):
            with FlopCounterMode(display=False) as counter:
                _step(models["fp32"], x, torch.float32, train)()
            work: dict[str, Callable[[], object]] = {
                "textbook": _step(usual, x.contiguous(), torch.float32, train)
            }
            for precision, dtype in PRECISIONS.items():
                work[precision] = _step(models[precision], x, dtype, train)
                work |= {f"{kind} {precision}": product[precision] for kind, product in products.items()}
            seconds = take_turns(work, rounds)
            what = f"{name}, {'train' if train else 'infer'}"
            for key in ("textbook", *PRECISIONS):
                took = statistics.median(seconds[key])
                who = ("ours", key) if key in PRECISIONS else ("textbook", "fp32")
                memory = peak_memory(name, *who, train, device)
                row = Row(f"{what}, {key}", f"{len(x) / took:,.1f}", memory=f"{memory:,.0f} MiB")
                if key in PRECISIONS:
                    flops = counter.get_total_flops() / took
                    own = (
                        product[key].flops / statistics.median(seconds[f"{kind} {key}"])
                        for kind, product in products.items()
                    )
                    of_2048, of_best = (f"{100 * flops / rate:.0f} % of {rate / 1e9:,.0f}" for rate in own)
                    row = row._replace(
                        ratio=f"{ratio(seconds['textbook'], seconds[key]):.2f}",
                        gflops=f"{flops / 1e9:,.0f}",
                        of_matmul=of_2048,
                        of_best_matmul=of_best,
                    )
                yield row


# -- report ------------------------------------------------------------------------------------------

HEADER = Row(
    "work",
    "clips/s",
    "x textbook",
    "GFLOP/s",
    "of the product of 2048",
    "of the fastest product",
    "peak memory",
)


def table(rows: Sequence[Row]) -> str:
    """Markdown, columns aligned."""
    cells = [HEADER, *rows]
    width = [max(len(row[k]) for row in cells) for k in range(len(HEADER))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in width) + "|", *lines[1:]])


def machine(device: torch.device) -> str:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    cpu = f"{name}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads"
    gpu = f"; {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{cpu}{gpu}; Python {platform.python_version()}, torch {torch.__version__}"


def write_report(text: str, title: str, path: Path) -> None:
    """Replace the section `title` of the report, or add it; what others wrote stays."""
    old = path.read_text() if path.exists() else "# Benchmarks\n"
    head, *sections = old.split("\n## ")
    kept = [section for section in sections if not section.startswith(title + "\n")]
    with atomic_write(path) as file:
        file.write("\n## ".join([head, *kept, f"{title}\n\n{text}\n"]).encode())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmark.py", description="Speed beside the textbook way.")
    add = parser.add_argument
    add("--only", nargs="+", choices=("preparation", "batch", "network"), help="some parts (default: all)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of batches and networks")
    add("--rounds", type=int, default=7, help="turns of each contestant (default 7)")
    add("--out", type=Path, default=REPORT, help="report to write (default docs/BENCHMARKS.md)")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "preparation": lambda: preparation(args.rounds),
        "batch": lambda: batch(args.rounds, device),
        "network": lambda: network(args.rounds, device),
    }
    for part in args.only or parts:
        rows = list(tqdm(parts[part](), desc=part, unit="row"))
        command = f"python tools/benchmark.py --only {part} --device {args.device} --rounds {args.rounds}"
        about = f"{machine(device)}. {datetime.date.today().isoformat()}. `{command}`"
        print(f"{about}\n\n{table(rows)}\n")
        write_report(f"{about}\n\n{table(rows)}", f"{part} on {args.device}", args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
