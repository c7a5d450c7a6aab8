"""Benchmark: training steps and inference of networks."""

import functools
import multiprocessing
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from net import as_gcn, ctr_gcn, st_gcn
from net.method import CROSS_ENTROPY, as_method
from net.utils.clip import Batch, Clip
from net.utils.graph import Graph
from tools import textbook_as_gcn, textbook_networks
from tools.contest import LAYOUT, PRECISIONS, Row, adjacency, autocast, ratio, take_turns


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Of a network whose output are class scores."""
    return F.cross_entropy(model(batch.views[0].x).float(), batch.label)


# Rows and columns of the product that a machine's rate is measured by.
YARDSTICK = 2048


class Contestant(NamedTuple):
    """A network, and what it does in a step.

    learn: loss of a batch, whose gradients belong to the step.
    infer: class scores of clips (N, C, T, V, M); None where inference is not measured.
    """

    make: Callable[[], Any]
    learn: Callable[[Any, Batch], Tensor] = cross_entropy
    infer: Callable[[Any, Tensor], Tensor] | None = nn.Module.__call__


class Contest(NamedTuple):
    """A network of ours beside the textbook's, and the shape (N, C, T, V, M) of the batch both are given."""

    ours: Contestant
    textbook: Contestant
    shape: tuple[int, int, int, int, int]


def _usual_as_gcn() -> textbook_as_gcn.ASGCN:
    A = torch.from_numpy(Graph(LAYOUT, "spatial", max_hop=4).A).float()
    return textbook_as_gcn.ASGCN(A, 60)


def _learn_links(model: as_gcn.Model, batch: Batch) -> Tensor:
    losses = as_method(model)(batch, ("nll", "kl")).losses
    return losses["nll"] + losses["kl"]


def _learn_backbone(model: as_gcn.Model, batch: Batch) -> Tensor:
    output = as_method(model)(batch, (CROSS_ENTROPY.name, "future"))
    return F.cross_entropy(output.scores.float(), batch.label) + 0.01 * output.losses["future"]


def _backbone_contest(as_published: bool) -> Contest:
    """Scores and future with links that do not learn; the textbook with what is published beside, or without."""
    return Contest(
        Contestant(as_gcn.Model, _learn_backbone),
        Contestant(
            _usual_as_gcn,
            functools.partial(textbook_as_gcn.backbone_loss, as_published=as_published),
            functools.partial(textbook_as_gcn.infer, as_published=as_published),
        ),
        (2, 3, 290, 25, 2),
    )


CONTESTS = {
    "ST-GCN 16 channels, 50 frames": Contest(
        Contestant(lambda: st_gcn.Model(3, 60, layout=LAYOUT, hidden_channels=16)),
        Contestant(lambda: textbook_networks.STGCN(adjacency("spatial"), 60, hidden_channels=16)),
        (64, 3, 50, 25, 2),
    ),
    "ST-GCN 64 channels, 300 frames": Contest(
        Contestant(lambda: st_gcn.Model(3, 60, layout=LAYOUT, hidden_channels=64)),
        Contestant(lambda: textbook_networks.STGCN(adjacency("spatial"), 60, hidden_channels=64)),
        (4, 3, 300, 25, 2),
    ),
    "CTR-GCN 64 channels, 64 frames": Contest(
        Contestant(lambda: ctr_gcn.Model(3, 60, layout=LAYOUT, num_body=2)),
        Contestant(lambda: textbook_networks.CTRGCN(adjacency("digraph"), 60)),
        (8, 3, 64, 25, 2),
    ),
    "AS-GCN's links alone (nll, kl), 50 frames": Contest(
        Contestant(as_gcn.Model, _learn_links, None),
        Contestant(_usual_as_gcn, textbook_as_gcn.links_loss, None),
        (2, 3, 290, 25, 2),
    ),
    "AS-GCN 64 channels with links, 290 frames, beside all that is published": _backbone_contest(True),
    "AS-GCN 64 channels with links, 290 frames, at equal work": _backbone_contest(False),
}


def _batch(shape: tuple[int, int, int, int, int], device: torch.device) -> Batch:
    n, c, t, v, m = shape
    generator = torch.Generator().manual_seed(0)
    x, future = (
        torch.randn(n, m, frames, v, c, generator=generator).to(device).permute(0, 4, 2, 3, 1)
        for frames in (t, 10)
    )
    clip = torch.arange(n, device=device)
    return Batch([Clip.of(x)], Clip.of(future), clip % 60, clip, torch.full_like(clip, m))


def _step(
    contestant: Contestant, model: nn.Module, batch: Batch, dtype: torch.dtype, train: bool
) -> Callable[[], None]:
    device = batch.label.device

    def learn() -> None:
        model.train()
        with autocast(device, dtype):
            loss = contestant.learn(model, batch)
        model.zero_grad(set_to_none=True)
        loss.backward()

    def infer() -> None:
        assert contestant.infer is not None
        model.eval()
        with torch.no_grad(), autocast(device, dtype):
            contestant.infer(model, batch.views[0].x)

    return learn if train else infer


def _resident(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process in MiB; Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _peak_memory(name: str, which: str, precision: str, train: bool, device: str, pipe: object) -> None:
    """Send the peak memory of one step in a process of its own, in MiB over the idle process."""
    contest, kind = CONTESTS[name], torch.device(device)
    torch.manual_seed(0)
    contestant: Contestant = getattr(contest, which)
    model, batch = contestant.make().to(kind), _batch(contest.shape, kind)
    # getrusage's peak is inherited from the parent process; this one's own is reset here.
    if kind.type == "cpu":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident("VmRSS")
    _step(contestant, model, batch, PRECISIONS[precision], train)()
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

    def __init__(self, device: torch.device, dtype: torch.dtype, size: int | None = None) -> None:
        side = YARDSTICK if size is None else size
        self.a, self.b = (torch.randn(2, side, side, device=device).to(dtype)).unbind()
        # As many operations as one product of the yardstick.
        self.repeat = (YARDSTICK // side) ** 3
        self.flops = 2 * side**3 * self.repeat

    def __call__(self) -> None:
        """Multiply."""
        for _ in range(self.repeat):
            self.a @ self.b

    @classmethod
    def best(cls, device: torch.device, dtype: torch.dtype) -> "MatrixProduct":
        """The fastest of 256, 512, 1024 and 2048."""
        candidates = {
            str(size): cls(device, dtype, size) for size in (YARDSTICK // part for part in (8, 4, 2, 1))
        }
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
        batch = _batch(contest.shape, device)
        of_usual = replace(batch, views=[view._replace(x=view.x.contiguous()) for view in batch.views])
        usual = contest.textbook.make().to(device)
        models = {precision: contest.ours.make().to(device) for precision in PRECISIONS}
        for train in (True, False) if contest.ours.infer else (True,):
            with FlopCounterMode(display=False) as counter:
                _step(contest.ours, models["fp32"], batch, torch.float32, train)()
            work: dict[str, Callable[[], object]] = {
                "textbook": _step(contest.textbook, usual, of_usual, torch.float32, train)
            }
            for precision, dtype in PRECISIONS.items():
                work[precision] = _step(contest.ours, models[precision], batch, dtype, train)
                work |= {f"{kind} {precision}": product[precision] for kind, product in products.items()}
            seconds = take_turns(work, rounds)
            what = f"{name}, {'train' if train else 'infer'}"
            for key in ("textbook", *PRECISIONS):
                took = statistics.median(seconds[key])
                who = ("ours", key) if key in PRECISIONS else ("textbook", "fp32")
                memory = peak_memory(name, *who, train, device)
                rate = contest.shape[0] / took
                row = Row(
                    f"{what}, {key}", f"{rate:,.{1 if rate >= 10 else 2}f}", memory=f"{memory:,.0f} MiB"
                )
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
