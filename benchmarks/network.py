"""Benchmark: training steps and inference of networks."""

import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.matrix_product import MatrixProduct
from benchmarks.memory import peak_memory
from benchmarks.ntu import LAYOUT, NUM_CLASS, adjacency
from benchmarks.report import Row
from benchmarks.steps import PRECISIONS, autocast, backward_step, fast_precisions
from benchmarks.textbook import as_gcn as textbook_as_gcn
from benchmarks.textbook import predictors as textbook_predictors
from benchmarks.textbook.as_gcn import ASGCN
from benchmarks.textbook.ctr_gcn import CTRGCN
from benchmarks.textbook.st_gcn import STGCN
from benchmarks.textbook.st_gcn_pp import STGCNPP
from benchmarks.timing import ratio, time_interleaved
from net import as_gcn, ctr_gcn, motion_mixer, simlpe, st_gcn, st_gcn_pp
from net.method import CROSS_ENTROPY, as_method
from net.utils.clip import Batch, Clip


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Of a network whose output are class scores."""
    return F.cross_entropy(model(batch.views[0].x).float(), batch.label)


class Implementation(NamedTuple):
    """How a network is made and used.

    loss: of a batch; its gradients belong to the training step.
    infer: class scores of clips (N, C, T, V, M); None where inference is not measured.
    """

    make: Callable[[], Any]
    loss: Callable[[Any, Batch], Tensor] = cross_entropy
    infer: Callable[[Any, Tensor], Tensor] | None = nn.Module.__call__

    def step(self, model: nn.Module, batch: Batch, dtype: torch.dtype, train: bool) -> Callable[[], None]:
        """Forward and backward pass, or inference."""

        def train_step() -> None:
            model.train()
            backward_step(model, lambda: self.loss(model, batch), dtype)

        def infer_step() -> None:
            assert self.infer is not None
            model.eval()
            with torch.no_grad(), autocast(batch.label.device, dtype):
                self.infer(model, batch.views[0].x)

        return train_step if train else infer_step


class Comparison(NamedTuple):
    """A network of ours and the textbook's, and the shape (N, C, T, V, M) of the batch that both are given."""

    ours: Implementation
    textbook: Implementation
    shape: tuple[int, int, int, int, int]


def _textbook_as_gcn() -> ASGCN:
    return ASGCN(adjacency("spatial", max_hop=4), NUM_CLASS)


def _links_loss(model: as_gcn.Model, batch: Batch) -> Tensor:
    losses = as_method(model)(batch, ("nll", "kl")).losses
    return losses["nll"] + losses["kl"]


def _backbone_loss(model: as_gcn.Model, batch: Batch) -> Tensor:
    output = as_method(model)(batch, (CROSS_ENTROPY.name, "future"))
    return F.cross_entropy(output.scores.float(), batch.label) + 0.01 * output.losses["future"]


def _as_gcn_backbone(as_published: bool) -> Comparison:
    """Scores and future, with links that are not trained; the textbook does all published work, or only ours."""
    return Comparison(
        Implementation(as_gcn.Model, _backbone_loss),
        Implementation(
            _textbook_as_gcn,
            functools.partial(textbook_as_gcn.backbone_loss, as_published=as_published),
            functools.partial(textbook_as_gcn.infer, as_published=as_published),
        ),
        (2, 3, 290, 25, 2),
    )


def _predictor_loss(model: nn.Module, batch: Batch) -> Tensor:
    losses = as_method(model)(batch, ("future", "velocity")).losses
    return losses["future"] + losses["velocity"]


def _textbook_predictor_loss(model: nn.Module, batch: Batch) -> Tensor:
    assert batch.future is not None
    return textbook_predictors.loss(model, batch.views[0].x, batch.future.x)


def _predictors(ours: Callable[[], nn.Module], textbook: Callable[[], nn.Module]) -> Comparison:
    """Clips of 10 frames seen and 10 to come."""
    return Comparison(
        Implementation(ours, _predictor_loss, lambda model, x: as_method(model).forecast(Clip.of(x))),
        Implementation(
            textbook, _textbook_predictor_loss, lambda model, x: model(textbook_predictors.rows(x))
        ),
        (64, 3, 10, 25, 2),
    )


RECOGNISERS = {
    "ST-GCN 16 channels, 50 frames": Comparison(
        Implementation(lambda: st_gcn.Model(3, NUM_CLASS, layout=LAYOUT, hidden_channels=16)),
        Implementation(lambda: STGCN(adjacency("spatial"), NUM_CLASS, hidden_channels=16)),
        (64, 3, 50, 25, 2),
    ),
    "ST-GCN 64 channels, 300 frames": Comparison(
        Implementation(lambda: st_gcn.Model(3, NUM_CLASS, layout=LAYOUT, hidden_channels=64)),
        Implementation(lambda: STGCN(adjacency("spatial"), NUM_CLASS, hidden_channels=64)),
        (4, 3, 300, 25, 2),
    ),
    "ST-GCN++ 16 channels, 50 frames": Comparison(
        Implementation(lambda: st_gcn_pp.Model(3, NUM_CLASS, layout=LAYOUT, hidden_channels=16)),
        Implementation(lambda: STGCNPP(adjacency("spatial"), NUM_CLASS, hidden_channels=16)),
        (64, 3, 50, 25, 2),
    ),
    "CTR-GCN 64 channels, 64 frames": Comparison(
        Implementation(lambda: ctr_gcn.Model(3, NUM_CLASS, layout=LAYOUT, num_body=2)),
        Implementation(lambda: CTRGCN(adjacency("digraph"), NUM_CLASS)),
        (8, 3, 64, 25, 2),
    ),
    "AS-GCN's links alone (nll, kl), 50 frames": Comparison(
        Implementation(as_gcn.Model, _links_loss, None),
        Implementation(_textbook_as_gcn, textbook_as_gcn.links_loss, None),
        (2, 3, 290, 25, 2),
    ),
    "AS-GCN 64 channels with links, 290 frames, beside all that is published": _as_gcn_backbone(True),
    "AS-GCN 64 channels with links, 290 frames, at equal work": _as_gcn_backbone(False),
}

PREDICTORS = {
    "siMLPe, 48 blocks, 10 frames to 10": _predictors(
        lambda: simlpe.Model(num_observe=10, num_predict=10),
        lambda: textbook_predictors.SiMLPe(25, 10, 10, num_block=48),
    ),
    "mixer, width 128, 8 blocks, 10 frames to 10": _predictors(
        lambda: motion_mixer.Model(num_observe=10, num_predict=10),
        lambda: textbook_predictors.Mixer(25, 10, 10, width=128, num_block=8),
    ),
}

COMPARISONS = {"network": RECOGNISERS, "predictor": PREDICTORS}


def random_batch(shape: tuple[int, int, int, int, int], device: torch.device) -> Batch:
    """Random clips (N, C, T, V, M), channels last in memory, and the 10 frames after them."""
    n, c, t, v, m = shape
    generator = torch.Generator().manual_seed(0)
    x, future = (
        torch.randn(n, m, frames, v, c, generator=generator).to(device).permute(0, 4, 2, 3, 1)
        for frames in (t, 10)
    )
    clip = torch.arange(n, device=device)
    return Batch([Clip.of(x)], Clip.of(future), clip % NUM_CLASS, clip, torch.full_like(clip, m))


def first_step(
    part: str, name: str, side: str, precision: str, train: bool, device: torch.device
) -> Callable[[], None]:
    """The first step of `ours` or of the `textbook` in one of `COMPARISONS`; weights and clips are made already."""
    torch.manual_seed(0)
    comparison = COMPARISONS[part][name]
    implementation: Implementation = getattr(comparison, side)
    batch = random_batch(comparison.shape, device)
    return implementation.step(implementation.make().to(device), batch, PRECISIONS[precision], train)


Products = Mapping[str, Mapping[str, MatrixProduct]]


def compare(part: str, rounds: int, device: torch.device) -> Iterator[Row]:
    """Training step (forward, backward) and inference, in fp32 and fast bf16; the textbook in fp32.

    part: of `COMPARISONS`.
    """
    precisions = fast_precisions(device)
    products = {
        kind: {precision: make(device, dtype) for precision, dtype in precisions.items()}
        for kind, make in (("2048", MatrixProduct), ("best", MatrixProduct.best))
    }
    for name, comparison in COMPARISONS[part].items():
        for train in (True, False) if comparison.ours.infer else (True,):
            seconds, flops = _measure(comparison, train, products, rounds, device)
            for key in ("textbook", *precisions):
                which = ("textbook", "fp32") if key == "textbook" else ("ours", key)
                memory = peak_memory(first_step, (part, name, *which, train, device), device)
                rate = comparison.shape[0] / statistics.median(seconds[key])
                yield Row(
                    f"{name}, {'train' if train else 'infer'}, {key}",
                    f"{rate:,.{1 if rate >= 10 else 2}f}",
                    memory=f"{memory:,.0f} MiB",
                    **({} if key == "textbook" else _beside(key, seconds, flops, products)),
                )


def _measure(
    comparison: Comparison, train: bool, products: Products, rounds: int, device: torch.device
) -> tuple[dict[str, list[float]], int]:
    """Seconds of the textbook, of ours in each precision, and of the matrix products; and FLOPs of a step of ours."""
    torch.manual_seed(0)
    batch = random_batch(comparison.shape, device)
    contiguous = replace(batch, views=[view._replace(x=view.x.contiguous()) for view in batch.views])
    textbook = comparison.textbook.make().to(device)
    work: dict[str, Callable[[], object]] = {
        "textbook": comparison.textbook.step(textbook, contiguous, torch.float32, train)
    }
    for precision, dtype in fast_precisions(device).items():
        work[precision] = comparison.ours.step(comparison.ours.make().to(device), batch, dtype, train)
        work |= {f"{kind} {precision}": product[precision] for kind, product in products.items()}
    with FlopCounterMode(display=False) as counter:
        work["fp32"]()
    return time_interleaved(work, rounds), counter.get_total_flops()


def _beside(
    precision: str, seconds: Mapping[str, Sequence[float]], flops: int, products: Products
) -> dict[str, str]:
    """Columns of ours beside the textbook, and beside the matrix products in the same precision."""
    rate = flops / statistics.median(seconds[precision])
    of = {}
    for kind, product in products.items():
        possible = product[precision].flops / statistics.median(seconds[f"{kind} {precision}"])
        of[kind] = f"{100 * rate / possible:.0f} % of {possible / 1e9:,.0f}"
    return {
        "ratio": f"{ratio(seconds['textbook'], seconds[precision]):.2f}",
        "gflops": f"{rate / 1e9:,.0f}",
        "of_matmul": of["2048"],
        "of_best_matmul": of["best"],
    }
