"""The only epoch loop, over the data and network of `processor.experiment`. The task defines steps and evaluation.

A run is a pure function of its config: the order of the clips, the views and dropout are seeded from
(seed, epoch, step, rank), never from what ran before. A run that is killed at any moment and resumed ends with the
same weights as a run without interruption, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from feeder.feeder import Part
from processor import io, notes, optim
from processor.averaging import in_its_place, running_mean
from processor.config import OptimConfig
from processor.evaluation import Evaluation, Evaluator, build_evaluators, metrics_of
from processor.experiment import DEBUG_BATCHES, Experiment
from processor.meter import Meter, PendingLoss
from processor.registry import task_name
from processor.schedule import Phase
from processor.state import check_same_run
from processor.task import Task
from torchlight import distributed
from torchlight.checkpoint import load_checkpoint, load_weights, rng_state, save_checkpoint, set_rng_state
from torchlight.config import to_yaml
from torchlight.interrupt import StopSignal
from torchlight.log import RunLog, progress, work_dir_lock
from torchlight.seed import derive_seed


class NonFiniteLoss(ArithmeticError):
    """A loss became infinite or not a number."""


class Interrupted(SystemExit):
    """A signal stopped the run: the state is saved, the exit status is 128 + signal."""


class Processor(Experiment):
    """Trains, selects the best epoch, tests, and writes the files of a run.

    task: defines a training step and the evaluation; see `processor.task.Task`.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.meter = Meter()
        self.epoch = self.batch_done = 0
        self.best: dict[str, float] = {}
        self.seconds = 0.0
        self.average: AveragedModel | None = None

    # -- training ------------------------------------------------------------------------------------------

    def train(self, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
        """Train, select the best epoch, test; returns the content of `result.json`. A task without epochs only tests.

        Raises:
            WorkDirHoldsRun, WorkDirInUse, ResumeError: see the classes.
            NonFiniteLoss: the message names the clips of the batch; the last checkpoint stays as it is.
            Interrupted: SIGTERM or SIGINT; the run can be resumed from the same step.
        """
        if not self.task.trains:
            return self.test(overwrite=overwrite)
        config, work_dir = self.config, Path(self.config.work_dir)
        self.task.prepare(self)
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
            self._log_lines(notes.about_run(self))
            if config.weights is not None:
                # Not `data.label_map`: a new head may have other classes.
                self._log_lines(
                    notes.about_weights(self, ("stream ", "test_view.normalise ", "data.num_body "))
                )
            with StopSignal() as stop:
                for epoch in range(self.epoch, self.num_epoch):
                    if optimizer is None or self._between_phases():
                        optimizer = self._build_optimizer(self.phase_of(epoch).optim)
                        self.average = self._new_average()
                    self._train_epoch(epoch, optimizer, stop)
            return self._test_best(work_dir)

    def _log_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.log.info(line)

    def _between_phases(self) -> bool:
        return self.epoch == self.phase_of(self.epoch).start and not self.batch_done

    def _build_optimizer(self, settings: OptimConfig) -> torch.optim.Optimizer:
        groups = optim.split(self.task.parameter_groups(self, settings), self.method, settings)
        return optim.build_optimizer(groups, settings)

    def _new_average(self) -> AveragedModel | None:
        """The mean of the weights, to be updated in each step; None if the config asks for none."""
        if self.config.average_epoch is None:
            return None
        num_step = len(self.loaders["train"]) / self.phase_of(self.epoch).optim.accumulate
        return running_mean(self.model, self.config.average_epoch * num_step)

    def _train_epoch(self, epoch: int, optimizer: torch.optim.Optimizer, stop: StopSignal) -> None:
        config, loader, began = self.config, self.loaders["train"], time.perf_counter()
        phase = self.phase_of(epoch)
        loader.set_epoch(epoch)
        self.task.start_epoch(self, epoch)
        self.task.train_mode(self)
        num_batch = min(len(loader), DEBUG_BATCHES) if config.debug else len(loader)
        first, num_clip = self.batch_done, 0
        title = f"epoch {epoch + 1}/{self.num_epoch}"
        batches = progress(islice(loader.iterate(first), num_batch - first), title, total=num_batch - first)
        pending: PendingLoss | None = None
        for number, batch in enumerate(batches, start=first):
            step = optim.Step.of(number, accumulate=phase.optim.accumulate, num_batch=num_batch)
            ends = step.ends_with(number)
            # The rate at the middle of the step, so that no step of a warm-up or decay has rate 0.
            optim.set_lr(optimizer, phase.lr_factor(epoch + step.middle / num_batch))
            torch.manual_seed(derive_seed(config.seed, "step", epoch, number, distributed.rank()))
            with optim.exchange(self.network, gradients=ends):
                with self.autocast():
                    losses = self.task.step(self, batch)
                loss = torch.stack(list(losses.values())).sum()
                before, pending = pending, PendingLoss.of(loss.detach(), batch.index)
                if number == step.first:
                    optimizer.zero_grad(set_to_none=True)
                (loss / step.size).backward()
            if ends and phase.optim.grad_clip is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), phase.optim.grad_clip)
            if ends:
                optimizer.step()
                if self.average is not None:
                    self.average.update_parameters(self.model)
            for name, value in (losses if len(losses) > 1 else {}).items():
                self.meter.add(f"train_{name}_loss", value, len(batch.label))
            self.meter.add("train_loss", loss, len(batch.label))
            # Check the loss of the step before: the host is one step ahead of the device.
            self._check_finite(before)
            num_clip += len(batch.label)
            self.batch_done = number + 1
            # Stop only between steps, because gradients are not saved.
            within = ends and self.batch_done < num_batch
            if within and (stopped_by := distributed.all_reduce_max(stop.signal)):
                self._check_finite(pending)
                self.seconds += time.perf_counter() - began
                self._save(optimizer)
                self._stop(stopped_by)
        self._check_finite(pending)
        clips_per_second = num_clip * distributed.world_size() / (time.perf_counter() - began)
        self.seconds += time.perf_counter() - began
        parts = self._parts_to_evaluate(epoch)
        if parts:
            # An evaluation can take longer than a scheduler waits after its signal.
            self._save(optimizer)
            self._stop(distributed.all_reduce_max(stop.signal))
        began = time.perf_counter()
        row = optim.rates(optimizer) | self.meter.means()
        if parts or epoch + 1 == self.num_epoch:
            with in_its_place(self.model, self.average):
                row |= self._evaluate_epoch(epoch, parts)
        self.seconds += time.perf_counter() - began
        if num_clip:  # 0 in a run that resumes with the evaluation
            row["clips_per_second"] = clips_per_second
        row["seconds"] = self.seconds
        self.log.metrics(epoch, row)
        self.task.review(self, row)
        self.epoch, self.batch_done, self.meter = epoch + 1, 0, Meter()
        self._save(optimizer)
        self._stop(distributed.all_reduce_max(stop.signal))

    def _stop(self, signal: int) -> None:
        """Raise Interrupted if there was a signal (not 0), once the main process has written the state."""
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
        whose = self.whose_optim(self.phase_of(self.epoch))
        raise NonFiniteLoss(
            f"the loss is {value} in epoch {self.epoch + 1}, on the batch of {shown}. "
            f"The last checkpoint is untouched; lower optim.lr or set optim.grad_clip{whose}, or look at these clips"
        )

    def whose_optim(self, phase: Phase) -> str:
        """Text for a message after a key of `optim`: the phase, if it has an optimizer of its own, else nothing."""
        return "" if phase.optim is self.config.optim else f" of phase {phase.name!r} in the schedule"

    def _parts_to_evaluate(self, epoch: int) -> list[Part]:
        """The parts of the data to evaluate after an epoch."""
        waits = (epoch + 1) % self.config.eval_interval or epoch < self.schedule[-1].start
        if epoch + 1 < self.num_epoch and waits:
            return []
        return [part for part in self.loaders if part == "val" or part == self.config.select]

    @cached_property
    def evaluators(self) -> list[Evaluator]:
        """The evaluators of the config, which has been checked before."""
        return build_evaluators(self.config.evaluators, self.task.packages, [])

    @property
    def selected_by(self) -> str:
        """The metric that selects the best epoch."""
        return self.config.select_by or self.task.metrics[0]

    def _sign(self) -> int:
        """1 if a larger value of `selected_by` is better, else -1."""
        givers: list[Task | Evaluator] = [self.task, *self.evaluators]
        return -1 if any(self.selected_by in each.lower_is_better for each in givers) else 1

    def _evaluate_epoch(self, epoch: int, parts: Sequence[Part]) -> dict[str, float]:
        """Metrics of parts after an epoch; writes `best.pt` if the weights are the best so far."""
        config, last = self.config, epoch + 1 == self.num_epoch
        row: dict[str, float] = {}
        for part in parts:
            row |= {f"{part}_{name}": value for name, value in self._evaluate(part).metrics.items()}
        value, sign = row.get(f"{config.select}_{self.selected_by}"), self._sign()
        # A NaN cannot be compared, for example without labels: later weights then replace earlier ones.
        better = value is not None and (
            not self.best or math.isnan(self.best["value"]) or sign * (value - self.best["value"]) > 0
        )
        if better or (config.select == "last" and last):
            self.best = {"epoch": epoch + 1, **({} if value is None else {"value": value})}
            if distributed.is_main():
                state = {"model": self.model.state_dict(), **self.best, **self.identity}
                save_checkpoint(Path(config.work_dir) / "best.pt", state)
        return row

    @torch.no_grad()
    def _evaluate(self, part: Part) -> Evaluation:
        # Each rank has its own batch-norm statistics; the first rank's are saved, so all evaluate with those.
        distributed.broadcast_buffers(self.model)
        self.network.eval()
        loader = self.loaders[part]
        evaluation = self.task.evaluate(self, loader)
        for evaluator in self.evaluators:
            evaluation.metrics.update(metrics_of(evaluator, self, loader, evaluation))
        return evaluation

    # -- testing -------------------------------------------------------------------------------------------

    def test(self, *, overwrite: bool = False) -> dict[str, Any]:
        """Evaluate the test part with the config's `weights`; writes into `work_dir`, returns `result.json`'s content.

        Raises:
            WorkDirHoldsRun: the folder holds a training run, or earlier results and `overwrite` is False.
        """
        work_dir = Path(self.config.work_dir)
        if not self.task.trains:
            self.task.prepare(self)
        with ExitStack() as stack:
            if distributed.is_main():
                stack.enter_context(work_dir_lock(work_dir))
                io.prepare_result_dir(work_dir, overwrite=overwrite)
            distributed.barrier()
            self.log = stack.enter_context(RunLog(work_dir, tensorboard=False, writer=distributed.is_main()))
            if distributed.is_main():
                io.write_text(work_dir / "config.yaml", to_yaml(self.config))
            self._log_lines(notes.about_weights(self, self.task.input_keys))
            self._write_labelled()
            return self._finish(work_dir, {"weights": self.config.weights})

    def _write_labelled(self) -> None:
        if distributed.is_main() and self.labelled and self.config.data.label_fraction < 1:
            io.save_labelled(Path(self.config.work_dir), self.labelled)

    def _test_best(self, work_dir: Path) -> dict[str, Any]:
        distributed.barrier()
        best = load_checkpoint(work_dir / "best.pt")
        load_weights(self.model, best)
        result: dict[str, Any] = {"epoch": int(best["epoch"]), "select": self.config.select}
        result["train_minutes"] = self.seconds / 60
        if "value" in best:
            result[f"{self.config.select}_{self.selected_by}"] = best["value"]
        if self.config.select == "test":
            result["warning"] = "the test part selected the epoch: its metrics are biased"
        return self._finish(work_dir, result)

    def _finish(self, work_dir: Path, about: dict[str, Any]) -> dict[str, Any]:
        tested = "test" in self.loaders
        evaluation = self._evaluate("test") if tested else Evaluation({}, {})
        with torch.no_grad():
            further = self.task.examine(self, work_dir, evaluation) if tested else {}
        result = {
            **({"part": "test"} if tested else {}),
            **evaluation.metrics,
            **{f"num_{part}_clip": len(loader.feeder) for part, loader in self.loaders.items()},
            **({"num_label": sum(map(len, self.labelled.values()))} if self.labelled else {}),
            **further,
            **about,
            **({"label_fraction": self.config.data.label_fraction} if self.labelled else {}),
            **self.task.result(self),
            "model": self.config.model,
            "num_parameter": sum(p.numel() for p in self.model.parameters()),
            "stream": self.config.stream,
            "benchmark": self.config.benchmark,
            "seed": self.config.seed,
            "precision": self.precision,
            "device": notes.device_name(self.device),
        }
        if distributed.is_main():
            if tested:
                self.task.save_evaluation(self, work_dir, evaluation)
            io.draw_curves(work_dir)
            io.save_result(work_dir, result)
        if not tested:
            self.log.info(f"no test part with labels, so nothing is tested; files in {work_dir}")
            return result
        shown = ", ".join(f"{name} {value:.4f}" for name, value in evaluation.metrics.items())
        self.log.info(f"test part, {result['num_test_clip']} clips: {shown}; files in {work_dir}")
        return result

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The facts that `load_trained` needs to use a checkpoint's weights, equal in all checkpoints of a run.

        Cached: writing its YAML takes as long as the steps of a small network.
        """
        frame_rate, source = float(self.source.frame_rate), self.source
        return {
            "config": to_yaml(self.config),
            "processor": task_name(type(self.task)),
            "class_names": list(self.class_names),
            "skeleton": source.skeleton.to_dict(),
            "channels": source.channels,
            "frame_rate": frame_rate if math.isfinite(frame_rate) else None,
            "bodies": source.attrs["bodies"],
        }

    # -- state ---------------------------------------------------------------------------------------------

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        meter = self.meter.over_ranks()
        if not distributed.is_main():
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            **({} if self.average is None else {"average": self.average.state_dict()}),
            "epoch": self.epoch,
            "batch_done": self.batch_done,
            "meter": asdict(meter),
            "best": self.best,
            "seconds": self.seconds,
            "world_size": distributed.world_size(),
            "rng": rng_state(),
            **self.identity,
        }
        save_checkpoint(Path(self.config.work_dir) / "last.pt", state)

    def _restore(self, path: Path) -> torch.optim.Optimizer:
        state = load_checkpoint(path)
        check_same_run(state, self.config, path)
        load_weights(self.model, state["model"])
        self.epoch, self.batch_done = state["epoch"], state["batch_done"]
        optimizer = self._build_optimizer(self.phase_of(self.epoch).optim)
        if not self._between_phases():  # at the start of a phase the state is the earlier phase's
            optimizer.load_state_dict(state["optimizer"])
            self.average = self._new_average()
            if self.average is not None:
                self.average.load_state_dict(state["average"])
        self.meter = Meter(**state["meter"]) if distributed.is_main() else Meter()
        self.best, self.seconds = state["best"], state["seconds"]
        set_rng_state(state["rng"])
        return optimizer
