"""Benchmark: training steps and inference of networks."""

import multiprocessing
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from net import ctr_gcn, st_gcn
from tools import textbook_networks
from tools.contest import LAYOUT, PRECISIONS, Row, adjacency, autocast, ratio, take_turns


class Contest(NamedTuple):
    """A network of ours beside the textbook's, and the batch both are given."""

    ours: Callable[[], nn.Module]
    textbook: Callable[[], nn.Module]
    shape: tuple[int, int, int, int, int]


CONTESTS = {
    "ST-GCN 16 channels, 50 frames": Contest(
        lambda: st_gcn.Model(3, 60, layout=LAYOUT, hidden_channels=16),
        lambda: textbook_networks.STGCN(adjacency("spatial"), 60, hidden_channels=16),
        (64, 3, 50, 25, 2),
    ),
    "ST-GCN 64 channels, 300 frames": Contest(
        lambda: st_gcn.Model(3, 60, layout=LAYOUT, hidden_channels=64),
        lambda: textbook_networks.STGCN(adjacency("spatial"), 60, hidden_channels=64),
        (4, 3, 300, 25, 2),
    ),
    "CTR-GCN 64 channels, 64 frames": Contest(
        lambda: ctr_gcn.Model(3, 60, layout=LAYOUT, num_body=2),
        lambda: textbook_networks.CTRGCN(adjacency("digraph"), 60),
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
        with torch.set_grad_enabled(train), autocast(x.device, dtype):
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
