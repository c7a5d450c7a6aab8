"""Prediction: the poses that follow those seen, judged by how far each joint is off, in millimetres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from feeder.feeder import Feeder, Part
from feeder.loader import Batch, Loader
from net.future import scored_joints
from net.multi_task import MultiTask
from processor import io
from processor.config import ProcessorConfig, Range, ViewConfig
from processor.forecast import (
    BASELINES,
    NETWORK,
    distances_by_action,
    mpjpe,
    mpjpe_table,
    roll_out,
    total_error,
)
from processor.processor import Evaluation, Processor
from processor.teaching import Teaching, TeachingConfig
from torchlight import build, distributed
from torchlight.build import Problem

FUTURE = "future"


@dataclass
class PredictionConfig(TeachingConfig):
    """Keys of `prediction` beside the shared ones."""

    train_view: ViewConfig = field(default_factory=ViewConfig)
    # a second view of a training clip, for methods that compare two; with `same_frames` it shows those of train_view
    key_view: ViewConfig | None = None
    # frames that are seen, and frames that are then predicted in a test: more than the network gives at once follow
    # from those predicted before
    observe: int = 20
    predict: int = 10
    # frames after which the error is reported; empty: 1, 2, 4, 8, 10 and every tenth, and the last
    horizon: list[int] = field(default_factory=list)
    # clips with fewer frames than a view has: left out, or repeated from their start until they are long enough
    short: Literal["leave_out", "repeat"] = "leave_out"


class Prediction(Teaching):
    """Trains a network with `forecast(x (N, C, T, V, M)) -> (N, C, P, V, M)`; no baseline learns anything."""

    config_class: ClassVar[type[ProcessorConfig]] = PredictionConfig
    default_losses: ClassVar[Mapping[str, float]] = {FUTURE: 1.0}
    ranges: ClassVar[tuple[Range, ...]] = (
        *Processor.ranges,
        *((key, lambda value: value >= 1, "1 frame or more") for key in ("observe", "predict")),
        ("horizon", lambda values: all(value >= 1 for value in values), "numbers of frames, 1 or more"),
        ("test_repeat", lambda value: value == 1, "1: poses of several views cannot be averaged"),
    )
    selected_by: ClassVar[tuple[str, int]] = ("mpjpe", -1)
    config: PredictionConfig

    @classmethod
    def check(cls, config: ProcessorConfig, packages: Sequence[str]) -> list[Problem]:
        """See `Processor.check`."""
        assert isinstance(config, PredictionConfig)
        problems = super().check(config, packages)
        if config.stream != "joint":
            problems.append(Problem("stream", f"is {config.stream!r}; poses are predicted as 'joint'"))
        if config.test_view.augment:
            text = f"is {config.test_view.augment}; errors are in metres of the recording: leave it empty"
            problems.append(Problem("test_view.augment", text))
        if any(horizon > config.predict for horizon in config.horizon):
            text = f"is {config.horizon}, but predict is {config.predict} frames; ask for no more"
            problems.append(Problem("horizon", text))
        for key, view in (("train_view", config.train_view), ("test_view", config.test_view)):
            first = next(iter(view.sampling), None) if isinstance(view.sampling, list) else None
            if "Crop" not in (first if isinstance(first, dict) else [first]) or len(view.sampling) != 1:
                text = "is not one Crop; only that takes frames as they were recorded"
                problems.append(Problem(f"{key}.sampling", text))
        if problems:
            return problems
        network = build.import_class(config.method or config.model, packages)
        if FUTURE not in getattr(network, "LOSSES", ()):
            text = f"{config.method or config.model} predicts no poses; use method: net.long_term.LongTerm, or a model "
            problems.append(Problem("method", text + "with a loss 'future'"))
        wanted, found = config.observe + config.predict, num_frame(config.test_view)
        if found != wanted:
            text = f"takes {found} frames, but observe + predict are {wanted}; write "
            text += '"${add:${observe},${predict}}"'
            problems.append(Problem("test_view.sampling.0.Crop.num_frame", text))
        if num_frame(config.train_view) <= config.observe:
            text = f"takes {num_frame(config.train_view)} frames, but observe is {config.observe}; a view holds those "
            problems.append(Problem("train_view.sampling.0.Crop.num_frame", text + "and the ones to come"))
        return problems

    def views(self, part: Part) -> list[ViewConfig]:
        """See `Processor.views`."""
        if part != "train":
            return super().views(part)
        return [self.config.train_view, *([self.config.key_view] if self.config.key_view else [])]

    def setup(self, phase: str = "train") -> None:
        """See `Processor.setup`."""
        self.num_short: dict[str, int] = {}
        super().setup(phase)
        assert isinstance(self.model, MultiTask)
        ahead = num_frame(self.config.train_view) - self.config.observe
        if phase == "train" and ahead != self.model.num_predict:
            raise ValueError(
                f"train_view has {ahead} frames after the {self.config.observe} that are seen, the network predicts "
                f"{self.model.num_predict} at once; make num_predict and train_view.sampling agree"
            )

    def feeder(self, part: Part, **changes: Any) -> Feeder:
        """See `Processor.feeder`; clips too short for the part's view are counted, and left out if they are to be."""
        feeder = super().feeder(part, **changes)
        wanted = num_frame(self.views(part)[0])
        enough = feeder.num_frame >= wanted
        self.num_short[part] = int((~enough).sum())
        if self.config.short == "repeat" or enough.all():
            return feeder
        if not enough.any():
            raise ValueError(
                f"no {part} clip of {feeder.path} has the {wanted} frames that are seen and predicted; the longest "
                f"has {feeder.num_frame.max()}. Lower observe or predict, or set short: repeat"
            )
        return feeder.take(np.flatnonzero(enough))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """The losses that count in this phase, times their weights."""
        return self.teach(batch, batch.label)[1]

    def evaluate(self, loader: Loader) -> Evaluation:
        """Predictions for all clips of a part in the order of its feeder, and their errors."""
        found: dict[str, list[Tensor]] = {}
        count = self.config.predict
        for batch in self.watch(loader):
            seen = batch.data[:, :, : self.config.observe]
            with self.autocast():
                predicted = roll_out(self.model.forecast, seen, count)  # type: ignore[operator,union-attr,arg-type]
            # (N, M, T, V, C)
            predicted, bodies = predicted.permute(0, 4, 2, 3, 1), batch.data.permute(0, 4, 2, 3, 1)
            seen, future = bodies[:, :, : self.config.observe], bodies[:, :, self.config.observe :]
            scored = scored_joints(future, seen[:, :, -1])
            of_batch = {"index": batch.index, "count": scored.sum((1, 3))}
            of_batch |= {NETWORK: total_error(predicted, future, scored)}
            for name, baseline in BASELINES.items():
                of_batch[name] = total_error(baseline(seen, count), future, scored)
            if loader.feeder.part == "test":
                of_batch |= {"predicted": predicted, "true": future, "last": seen[:, :, -1], "scored": scored}
            for name, value in of_batch.items():
                found.setdefault(name, []).append(value)
        # Ranks hold disjoint shares of the clips.
        gathered = {name: distributed.all_gather_ragged(torch.cat(parts)).cpu().numpy() for name, parts in found.items()}
        by_clip = np.argsort(gathered["index"])
        arrays = {name: values[by_clip] for name, values in gathered.items() if name != "index"}
        arrays |= {"name": loader.feeder.name, "label": loader.feeder.label}
        return Evaluation(self._metrics(arrays), arrays)

    def _metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """MPJPE in mm: the mean over all frames predicted, and at each horizon; that of the baselines beside it."""
        metrics = {}
        for predictor, prefix in ((NETWORK, ""), *((name, f"{name}_") for name in BASELINES)):
            error = mpjpe(arrays[predictor], arrays["count"])
            metrics[f"{prefix}mpjpe"] = float(np.nanmean(error)) if not np.isnan(error).all() else float("nan")
            metrics |= {f"{prefix}mpjpe_{horizon}": float(error[horizon - 1]) for horizon in self._horizons()}
        return metrics

    def _horizons(self) -> list[int]:
        usual = {1, 2, 4, 8, *range(10, self.config.predict + 1, 10), self.config.predict}
        return sorted(set(self.config.horizon) or {each for each in usual if each <= self.config.predict})

    def save_evaluation(self, work_dir: Path, evaluation: Evaluation) -> None:
        """See `Processor.save_evaluation`: predictions, errors by action, and figures of both."""
        arrays, feeder = evaluation.arrays, self.loaders["test"].feeder
        table = mpjpe_table(
            {name: arrays[name] for name in (NETWORK, *BASELINES)},
            arrays["count"],
            arrays["label"],
            self.class_names,
            horizons=self._horizons(),
            frame_rate=self.source.frame_rate,
        )
        io.save_predictions(work_dir, arrays, table, class_names=self.class_names, skeleton=feeder.skeleton)

    def examine(self, work_dir: Path, evaluation: Evaluation) -> dict[str, Any]:
        """See `Processor.examine`: whether baselines are beaten, and whether futures of one action are alike."""
        metrics, arrays = evaluation.metrics, evaluation.arrays
        beaten = {name: metrics["mpjpe"] < metrics[f"{name}_mpjpe"] for name in BASELINES}
        for name in (name for name, is_beaten in beaten.items() if not is_beaten):
            self.log.info(f"warning: the network is no better than {name}, which learns nothing")
        # Of each clip the first body that is judged.
        judged = arrays["scored"].any((2, 3))
        clip = np.flatnonzero(judged.any(1))
        poses = arrays["predicted"][clip, judged[clip].argmax(1)]
        same, other = distances_by_action(torch.from_numpy(poses), torch.from_numpy(arrays["label"][clip]))
        return {
            "beats": beaten,
            "distance_same_action": same,
            "distance_other_action": other,
            "distance_ratio": same / other if other else float("nan"),
            "observe": self.config.observe,
            "predict": self.config.predict,
            "short": self.config.short,
            "num_short": self.num_short,
        }


def num_frame(view: ViewConfig) -> int:
    """Frames of a view whose sampling is one Crop."""
    return int(view.sampling[0]["Crop"]["num_frame"])
