"""The only epoch loop. A subclass says what a step and an evaluation are.

A run is a pure function of its config: the order of the clips, the views and dropout are seeded from
(seed, epoch, step, rank), never from what ran before. Killed at any moment and resumed, it ends with the same
weights as if it had not been, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from feeder.arrays import open_source
from feeder.feeder import Feeder, Part
from feeder.loader import Batch, Loader
from feeder.views import View, ViewError
from net.multi_task import Learner
from net.utils.backbone import Backbone
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton
from processor import io, optim
from processor.config import (
    RANGES,
    OptimConfig,
    ProcessorConfig,
    Range,
    ViewConfig,
    contradictions,
    out_of_range,
    views_of,
)
from processor.meter import Meter, PendingLoss
from processor.schedule import Phase, shortened
from processor.state import changes, check_same_run
from torchlight import build, distributed
from torchlight.build import Problem
from torchlight.checkpoint import load_checkpoint, load_weights, rng_state, save_checkpoint, set_rng_state
from torchlight.config import to_yaml
from torchlight.interrupt import StopSignal
from torchlight.log import RunLog, progress, work_dir_lock
from torchlight.seed import derive_seed, seed_everything

DEBUG_BATCHES = 2


class NonFiniteLoss(ArithmeticError):
    """A loss became infinite or not a number."""


class Interrupted(SystemExit):
    """A stop signal was obeyed: the state is saved, the exit status is 128 + signal."""


class Evaluation(NamedTuple):
    """What evaluating a part gives: figures for the log, and arrays over its clips for files."""

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]


class Processor:
    """Builds data and network from a config, trains, selects, tests, and writes the files of a run.

    A subclass gives `config_class`, `step` and `evaluate`, and may replace what stands with them below.
    """

    config_class: ClassVar[type[ProcessorConfig]] = ProcessorConfig
    # what `model` must be, whether there must be `weights`, and what numbers of the config must be
    model_class: ClassVar[type] = object
    needs_weights: ClassVar[bool] = False
    ranges: ClassVar[tuple[Range, ...]] = RANGES
    # the metric that selects the epoch, and +1 where larger is better, else -1
    selected_by: ClassVar[tuple[str, int]] = ("top1", 1)
    # what of a config should be as it was when the weights to be tested were trained
    input_keys: ClassVar[tuple[str, ...]] = ("stream ", "test_view.", "data.label_map ", "data.num_body ")

    def __init__(self, config: ProcessorConfig, *, packages: Sequence[str] = build.PACKAGES) -> None:
        self.config = config
        self.packages = packages
        self.device = distributed.device(config.device)
        self.meter = Meter()
        self.epoch = self.batch_done = 0
        self.schedule = shortened(self.phases()) if config.debug else self.phases()
        self.num_epoch = sum(phase.num_epoch for phase in self.schedule)
        self.best: dict[str, float] = {}
        self.seconds = 0.0

    # -- what a subclass says ------------------------------------------------------------------------------

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses of one batch; their sum is minimised."""
        raise NotImplementedError

    def evaluate(self, loader: Loader) -> Evaluation:
        """Figures and arrays over all clips of a part."""
        raise NotImplementedError

    def save_evaluation(self, work_dir: Path, evaluation: Evaluation) -> None:
        """Write the test part's arrays, tables and figures; here those of class scores."""
        io.save_classification(work_dir, {**evaluation.arrays, "class_name": np.asarray(self.class_names)})

    @classmethod
    def check(cls, config: ProcessorConfig, packages: Sequence[str]) -> list[Problem]:
        """All that can be seen to be wrong with a config before data or device is touched."""
        problems = build.check_class("model", config.model, config.model_args, packages, base=cls.model_class)
        problems += out_of_range(config, cls.ranges) + contradictions(config)
        if cls.needs_weights and config.weights is None:
            problems.append(Problem("weights", "is null; name those of the encoder with --weights FILE"))
        try:
            skeleton = get_skeleton(config.data.layout)
        except (ValueError, OSError) as error:
            return [*problems, Problem("data.layout", str(error))]
        hidden = cls.hidden_frames(config, packages)
        for key, view in views_of(config).items():
            try:
                ahead = _view(view, config, skeleton).num_ahead
                predicted = ahead if hidden is None else hidden.get(key, 0)
                if ahead not in (0, predicted):
                    problems.append(Problem(f"{key}.sampling", _wrong_ahead(ahead, predicted)))
            except ViewError as error:
                for problem in error.problems:
                    # Bodies and stream are one setting for all views.
                    where = {"num_body": "data.num_body", "stream": "stream"}.get(problem.key)
                    problems.append(Problem(where or f"{key}.{problem.key}", problem.text))
        return list(dict.fromkeys(problems))

    def parts(self, phase: str) -> list[Part]:
        """The parts of the data that a phase, "train" or "test", needs."""
        if phase == "test":
            return ["test"]
        return ["test", "train", "val"] if self.config.data.val_fraction > 0 else ["test", "train"]

    def views(self, part: Part) -> list[ViewConfig]:
        """The views that a batch of a part has."""
        return [self.config.test_view] * self.config.test_repeat

    def build_model(self) -> nn.Module:
        """The network named by the config."""
        return build.build(self.config.model, self.config.model_args, packages=self.packages)

    def load_weights(self, path: str) -> None:
        """Put the weights that the config names into the network."""
        load_weights(self.model, path, ignore=self.config.ignore_weights)

    def trained_network(self) -> nn.Module:
        """What a step calls and training changes."""
        return self.model

    def phases(self) -> list[Phase]:
        """The parts of a run, one after another, each with an optimizer of its own; epochs are judged in the last."""
        return [Phase(0, self.config.num_epoch, self.config.optim)]

    def phase_of(self, epoch: int) -> Phase:
        """The phase that an epoch is in, or the last one for an epoch past the end."""
        return [phase for phase in self.schedule if phase.start <= epoch][-1]

    @classmethod
    def hidden_frames(cls, config: ProcessorConfig, packages: Sequence[str]) -> dict[str, int] | None:
        """Of each view that may end with frames that are not seen, by its dotted key, how many these then are.

        None if that cannot be told, as the config names no class that there is.
        """
        return {}

    def num_future(self) -> int:
        """Frames at the end of each training view that are not seen."""
        return 0

    def varies_batch(self) -> bool:
        """Whether the convolutions see another batch size at every call."""
        return isinstance(self.model, Backbone) and self.model.varies_batch

    def parameter_groups(self, settings: OptimConfig) -> list[optim.Group]:
        """What the optimizer changes, and how fast."""
        return [optim.Group(self.network.parameters(), settings.lr)]

    def train_mode(self) -> None:
        """Put the network into the mode of training."""
        self.network.train()

    def start_epoch(self, epoch: int) -> None:
        """Called before an epoch, counted from 0."""

    def result(self) -> dict[str, Any]:
        """What `result.json` says of the run beside its figures."""
        return {}

    def examine(self, work_dir: Path, evaluation: Evaluation) -> dict[str, Any]:
        """Look further into the test part than `evaluation` did; returns what `result.json` says of that."""
        return {}

    def review(self, row: Mapping[str, float]) -> None:
        """Called with the figures of each epoch, to warn of what they show."""

    def autocast(self) -> torch.autocast:
        """The run's precision, for what the network does; views are always made in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def watch(self, loader: Loader) -> Iterator[Batch]:
        """The batches of a part with a progress bar, two of them in debug mode."""
        return islice(
            progress(loader.iterate(), loader.feeder.part, total=len(loader)),
            DEBUG_BATCHES if self.config.debug else None,
        )

    # -- before a run --------------------------------------------------------------------------------------

    def setup(self, phase: str = "train") -> None:
        """Open the data and build the network: everything that can fail for want of something fails here.

        Args:
            phase: "train" or "test".
        """
        config, self.phase = self.config, phase
        if config.weights is not None and not Path(config.weights).is_file():
            raise FileNotFoundError(
                f"weights {config.weights} not found; train them first, or name others with --weights FILE"
            )
        seed_everything(config.seed, deterministic=self.device.type == "cpu")
        torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
        # Convolutions have a switch of their own.
        torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
        self.source = open_source(config.data.path, config.data.layout)
        feeders = {part: self.feeder(part) for part in self.parts(phase)}
        for part, feeder in feeders.items():
            if len(feeder) < distributed.world_size():
                raise ValueError(
                    f"the {part} part has {len(feeder)} clips for {distributed.world_size()} processes; "
                    "start no more processes than there are clips"
                )
        self.class_names = feeders["test"].class_names
        # The clips whose labels are used.
        self.labelled: dict[Part, Feeder] = {
            part: feeder for part, feeder in feeders.items() if part != "test"
        }
        self.loaders = {part: self.part_loader(feeder) for part, feeder in feeders.items()}
        self.model = self.build_model().to(self.device)
        if config.weights is not None:
            self.load_weights(config.weights)
        if self.varies_batch():
            # cuDNN would time its algorithms anew in every step.
            torch.backends.cudnn.benchmark = False
        self.network: nn.Module = self.trained_network()
        if config.compile:
            self.network = torch.compile(self.network)  # type: ignore[assignment]
        if distributed.world_size() > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            # Of several losses not all go through every part of a network.
            several = isinstance(self.network, Learner)
            self.network = DistributedDataParallel(
                self.network, device_ids=ids, find_unused_parameters=several
            )

    def part_loader(self, feeder: Feeder) -> Loader:
        """Batches of a part's clips, as its training or evaluation wants them."""
        config, train = self.config, feeder.part == "train"
        batch_size = config.batch_size if train else config.test_batch_size
        return self.loader(
            feeder,
            self.views(feeder.part),
            batch_size=batch_size,
            shuffle=train,
            # A short last batch would weigh its clips more; fewer clips than a batch are one short batch.
            drop_last=train
            and max(len(feeder), config.min_epoch_clip) >= batch_size * distributed.world_size(),
            min_clip=config.min_epoch_clip,
        )

    def loader(
        self,
        feeder: Feeder,
        views: Sequence[ViewConfig],
        *,
        batch_size: int,
        shuffle: bool,
        drop_last: bool = False,
        min_clip: int = 0,
    ) -> Loader:
        """Batches of this rank's share of a feeder's clips, as `feeder.loader.Loader` makes them."""
        data = self.config.data
        return Loader(
            feeder,
            [_view(view, self.config, feeder.skeleton) for view in views],
            batch_size=batch_size,
            device=self.device,
            cache=data.cache,
            shuffle=shuffle,
            drop_last=drop_last,
            min_clip=min_clip,
            seed=self.config.seed,
            num_worker=data.num_worker,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )

    def shown(self, loader: Loader, views: Sequence[ViewConfig]) -> Loader:
        """A loader's clips, once each and in order, in other views."""
        made = [_view(view, self.config, loader.feeder.skeleton) for view in views]
        return loader.with_views(made, batch_size=self.config.test_batch_size)

    def feeder(self, part: Part, **changes: Any) -> Feeder:
        """The clips of a part by the config's `data`, of which `changes` replace some."""
        data = {**asdict(self.config.data), **changes}
        for key in ("path", "cache", "num_worker"):
            del data[key]
        return Feeder(self.source, self.config.benchmark, part=part, **data)

    # -- training ------------------------------------------------------------------------------------------

    def train(self, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
        """Train, select, test; returns what `result.json` holds.

        Raises:
            WorkDirHoldsRun, WorkDirInUse, ResumeError: see there.
            NonFiniteLoss: names the clips of the batch; the last checkpoint stays as it is.
            Interrupted: SIGTERM or SIGINT; the run can be resumed from the very step.
        """
        config, work_dir = self.config, Path(self.config.work_dir)
        with ExitStack() as stack:
            if distributed.is_main():
                stack.enter_context(work_dir_lock(work_dir))
                io.prepare_work_dir(work_dir, resume=resume, overwrite=overwrite, keep=config.weights)
            distributed.barrier()
            resumed = resume and (work_dir / "last.pt").exists()
            optimizer = self._restore(work_dir / "last.pt") if resumed else None
            self.log = stack.enter_context(
                RunLog(work_dir, tensorboard=config.tensorboard, writer=distributed.is_main())
            )
            self.log.truncate_after(self.epoch - 1)
            if distributed.is_main():
                io.write_text(work_dir / "config.yaml", to_yaml(config))
            self._write_labelled()
            self._describe()
            if config.weights is not None:
                # Classes may be others: the head is, too.
                self._warn_of_other_input(("stream ", "test_view.normalise ", "data.num_body "))
            with StopSignal() as stop:
                for epoch in range(self.epoch, self.num_epoch):
                    if optimizer is None or self._between_phases():
                        optimizer = self._build_optimizer(self.phase_of(epoch).optim)
                    self._train_epoch(epoch, optimizer, stop)
            return self._test_best(work_dir)

    def _between_phases(self) -> bool:
        return self.epoch == self.phase_of(self.epoch).start and not self.batch_done

    def _build_optimizer(self, settings: OptimConfig) -> torch.optim.Optimizer:
        return optim.build_optimizer(
            self.parameter_groups(settings),
            settings.optimizer,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
        )

    def _train_epoch(self, epoch: int, optimizer: torch.optim.Optimizer, stop: StopSignal) -> None:
        config, loader, began = self.config, self.loaders["train"], time.perf_counter()
        phase = self.phase_of(epoch)
        loader.set_epoch(epoch)
        self.start_epoch(epoch)
        self.train_mode()
        num_batch = min(len(loader), DEBUG_BATCHES) if config.debug else len(loader)
        first, num_clip = self.batch_done, 0
        title = f"epoch {epoch + 1}/{self.num_epoch}"
        batches = progress(islice(loader.iterate(first), num_batch - first), title, total=num_batch - first)
        pending: PendingLoss | None = None
        for number, batch in enumerate(batches, start=first):
            # The schedule at the middle of the step, so that neither end of a warm-up or a decay has rate 0.
            optim.set_lr(optimizer, phase.lr_factor(epoch + (number + 0.5) / num_batch))
            torch.manual_seed(derive_seed(config.seed, "step", epoch, number, distributed.rank()))
            with self.autocast():
                losses = self.step(batch)
            loss = torch.stack(list(losses.values())).sum()
            before, pending = pending, PendingLoss.of(loss.detach(), batch.index)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if phase.optim.grad_clip is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), phase.optim.grad_clip)
            optimizer.step()
            for name, value in (losses if len(losses) > 1 else {}).items():
                self.meter.add(f"train_{name}_loss", value, len(batch.label))
            self.meter.add("train_loss", loss, len(batch.label))
            # The host runs one step ahead of the device, so it looks at the loss of the step before.
            self._check_finite(before)
            num_clip += len(batch.label)
            self.batch_done = number + 1
            if self.batch_done < num_batch and (stopped_by := distributed.all_reduce_max(stop.signal)):
                self._check_finite(pending)
                self.seconds += time.perf_counter() - began
                self._save(optimizer)
                self._stop(stopped_by)
        self._check_finite(pending)
        clips_per_second = num_clip * distributed.world_size() / (time.perf_counter() - began)
        self.seconds += time.perf_counter() - began
        watched = self._watched(epoch)
        if watched:
            # An evaluation can take longer than the time that a scheduler gives after its signal.
            self._save(optimizer)
            self._stop(distributed.all_reduce_max(stop.signal))
        began = time.perf_counter()
        row = {group["name"]: group["lr"] for group in optimizer.param_groups} | self.meter.means()
        row |= self._evaluate_epoch(epoch, watched)
        self.seconds += time.perf_counter() - began
        if num_clip:  # none where a run goes on with the evaluation
            row["clips_per_second"] = clips_per_second
        row["seconds"] = self.seconds
        self.log.metrics(epoch, row)
        self.review(row)
        self.epoch, self.batch_done, self.meter = epoch + 1, 0, Meter()
        self._save(optimizer)
        self._stop(distributed.all_reduce_max(stop.signal))

    def _stop(self, signal: int) -> None:
        """Leave for a signal, if there was one (not 0), once the main process has written the state."""
        if not signal:
            return
        distributed.barrier()
        self.log.info(
            f"stopped by signal {signal} after step {self.batch_done} of epoch {self.epoch + 1}; "
            "continue with --resume"
        )
        raise Interrupted(128 + signal)

    def _check_finite(self, loss: PendingLoss | None) -> None:
        if loss is None or math.isfinite(value := loss.wait()):
            return
        names = self.loaders["train"].feeder.name[loss.clips.cpu().numpy()]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise NonFiniteLoss(
            f"the loss is {value} in epoch {self.epoch + 1}, on the batch of {shown}. "
            "The last checkpoint is untouched; lower optim.lr, set optim.grad_clip, or look at these clips"
        )

    def _watched(self, epoch: int) -> list[Part]:
        """The parts to be evaluated after this epoch."""
        waits = (epoch + 1) % self.config.eval_interval or epoch < self.schedule[-1].start
        if epoch + 1 < self.num_epoch and waits:
            return []
        return [part for part in self.loaders if part == "val" or part == self.config.select]

    def _evaluate_epoch(self, epoch: int, watched: Sequence[Part]) -> dict[str, float]:
        """Metrics of the parts watched in this epoch; keeps the weights if they are the best so far."""
        config, last = self.config, epoch + 1 == self.num_epoch
        row: dict[str, float] = {}
        for part in watched:
            row |= {f"{part}_{name}": value for name, value in self._evaluate(part).metrics.items()}
        metric, sign = self.selected_by
        value = row.get(f"{config.select}_{metric}")
        better = value is not None and (not self.best or sign * (value - self.best["value"]) > 0)
        if better or (config.select == "last" and last):
            self.best = {"epoch": epoch + 1, **({} if value is None else {"value": value})}
            if distributed.is_main():
                state = {"model": self.model.state_dict(), **self.best, "config": to_yaml(config)}
                save_checkpoint(Path(config.work_dir) / "best.pt", state)
        return row

    @torch.no_grad()
    def _evaluate(self, part: Part) -> Evaluation:
        self.network.eval()
        return self.evaluate(self.loaders[part])

    # -- testing -------------------------------------------------------------------------------------------

    def test(self, *, overwrite: bool = False) -> dict[str, Any]:
        """Score the test part with the weights named by the config; writes into `work_dir`.

        Raises:
            WorkDirHoldsRun: the folder holds results already.
        """
        work_dir = Path(self.config.work_dir)
        with ExitStack() as stack:
            if distributed.is_main():
                stack.enter_context(work_dir_lock(work_dir))
                io.prepare_result_dir(work_dir, overwrite=overwrite)
            distributed.barrier()
            self.log = stack.enter_context(RunLog(work_dir, tensorboard=False, writer=distributed.is_main()))
            if distributed.is_main():
                io.write_text(work_dir / "config.yaml", to_yaml(self.config))
            self._warn_of_other_input(self.input_keys)
            self._write_labelled()
            return self._finish(work_dir, {"weights": self.config.weights})

    def _write_labelled(self) -> None:
        if distributed.is_main() and self.labelled and self.config.data.label_fraction < 1:
            io.save_labelled(Path(self.config.work_dir), self.labelled)

    def _warn_of_other_input(self, keys: tuple[str, ...]) -> None:
        """Say where the clips are shown to the network otherwise than they were when it was trained."""
        assert self.config.weights is not None
        trained = load_checkpoint(self.config.weights).get("config")
        try:
            changed = changes(trained, self.config) if isinstance(trained, str) else []
        except yaml.YAMLError:  # another program's
            return
        for change in changed:
            if change.startswith(keys):
                self.log.info(f"warning: these weights were trained with another input: {change}")

    def _test_best(self, work_dir: Path) -> dict[str, Any]:
        distributed.barrier()
        best = load_checkpoint(work_dir / "best.pt")
        load_weights(self.model, best)
        result: dict[str, Any] = {"epoch": int(best["epoch"]), "select": self.config.select}
        result["train_minutes"] = self.seconds / 60
        if "value" in best:
            result[f"{self.config.select}_{self.selected_by[0]}"] = best["value"]
        if self.config.select == "test":
            result["warning"] = "the epoch was chosen on the test part: not an unbiased figure"
        return self._finish(work_dir, result)

    def _finish(self, work_dir: Path, about: dict[str, Any]) -> dict[str, Any]:
        evaluation = self._evaluate("test")
        with torch.no_grad():
            further = self.examine(work_dir, evaluation)
        result = {
            "part": "test",
            **evaluation.metrics,
            **{f"num_{part}_clip": len(loader.feeder) for part, loader in self.loaders.items()},
            **({"num_label": sum(map(len, self.labelled.values()))} if self.labelled else {}),
            **further,
            **about,
            **({"label_fraction": self.config.data.label_fraction} if self.labelled else {}),
            **self.result(),
            "model": self.config.model,
            "num_parameter": sum(p.numel() for p in self.model.parameters()),
            "stream": self.config.stream,
            "benchmark": self.config.benchmark,
            "seed": self.config.seed,
            "precision": self.config.precision,
            "device": _device_name(self.device),
        }
        if distributed.is_main():
            self.save_evaluation(work_dir, evaluation)
            io.draw_curves(work_dir)
            io.save_result(work_dir, result)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in evaluation.metrics.items())
        self.log.info(f"test part, {result['num_test_clip']} clips: {shown}; files in {work_dir}")
        return result

    # -- state ---------------------------------------------------------------------------------------------

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        meter = self.meter.over_ranks()
        if not distributed.is_main():
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": self.epoch,
            "batch_done": self.batch_done,
            "meter": asdict(meter),
            "best": self.best,
            "seconds": self.seconds,
            "world_size": distributed.world_size(),
            "rng": rng_state(),
            "config": to_yaml(self.config),
        }
        save_checkpoint(Path(self.config.work_dir) / "last.pt", state)

    def _restore(self, path: Path) -> torch.optim.Optimizer:
        state = load_checkpoint(path)
        check_same_run(state, self.config, path)
        load_weights(self.model, state["model"])
        self.epoch, self.batch_done = state["epoch"], state["batch_done"]
        optimizer = self._build_optimizer(self.phase_of(self.epoch).optim)
        if not self._between_phases():  # else the state is that of the phase before
            optimizer.load_state_dict(state["optimizer"])
        self.meter = Meter(**state["meter"]) if distributed.is_main() else Meter()
        self.best, self.seconds = state["best"], state["seconds"]
        set_rng_state(state["rng"])
        return optimizer

    def _describe(self) -> None:
        parts = ", ".join(f"{len(loader.feeder)} {part}" for part, loader in self.loaders.items())
        count = sum(p.numel() for p in self.model.parameters())
        if self.epoch == self.num_epoch:
            self.log.info(f"all {self.epoch} epochs are done; the test is made again")
        elif self.epoch or self.batch_done:
            self.log.info(f"resumed in epoch {self.epoch + 1} after step {self.batch_done}")
        self.log.info(
            f"{self.config.model}, {count:,} parameters, on {_device_name(self.device)}; {parts} clips"
        )
        for phase in () if self.config.debug else self.schedule:
            if late := phase.late_steps():
                self.log.info(
                    f"warning: the rate is to fall after epochs {phase.optim.step} of {phase.num_epoch}, so not at "
                    f"{late}; change optim.step or num_epoch"
                )


def _wrong_ahead(ahead: int, predicted: int) -> str:
    remedy = (
        f"predicts {predicted} frames; make them equal"
        if predicted
        else "predicts nothing there; leave it out"
    )
    return f"has num_ahead: {ahead}, but the network {remedy}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _view(view: ViewConfig, config: ProcessorConfig, skeleton: Skeleton) -> View:
    return View(skeleton, num_body=config.data.num_body, stream=config.stream, **asdict(view))
