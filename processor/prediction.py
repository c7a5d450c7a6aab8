"""Pose prediction: the poses after the observed ones, evaluated by the error of each joint in millimetres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import yaml
from torch import Tensor

from feeder.feeder import Feeder, Part
from feeder.loader import Loader
from net.future import scored_joints
from net.method import CROSS_ENTROPY
from net.utils.channels import in_plane
from net.utils.clip import Batch
from processor import io
from processor.config import RANGES, ProcessorConfig, Range, TrainViewKeys, ViewConfig
from processor.evaluation import Evaluation
from processor.experiment import Experiment
from processor.loss_plan import (
    KeyViewKeys,
    LossPlan,
    MethodKeys,
    hidden_problems,
    pair_of_views,
)
from processor.prediction_metrics import (
    BASELINES,
    NETWORK,
    distances_by_action,
    error_table,
    mpjpe,
    published_metrics,
    published_weight,
    roll_out,
    summed_errors,
)
from processor.processor import Processor
from processor.schedule import active_losses
from processor.task import Task
from torchlight import distributed
from torchlight.build import ClassPathError, Problem
from torchlight.checkpoint import load_checkpoint

FUTURE = "future"
# Arguments that say how many frames a network sees and predicts.
WINDOW_ARGUMENTS = (
    ("model_args", "num_observe"),
    ("model_args", "num_predict"),
    ("method_args", "num_predict"),
)
# Relative tolerance for ties.
ROUNDING = 1e-6


@dataclass
class PredictionConfig(KeyViewKeys, TrainViewKeys, MethodKeys, ProcessorConfig):
    """Keys of `prediction`."""

    # number of frames that the network sees
    observe: int = 20
    # number of frames that a test predicts; beyond those of one call the network continues from its own output
    predict: int = 10
    # predicted frames at which the error is reported; empty: 1, 2, 4, 8, 10, 12, 17, then every tenth, and the last
    horizon: list[int] = field(default_factory=list)
    # a training clip has a window at every n-th frame; null: one window, which the view's sampling takes
    train_step: int | None = None
    # a test or validation clip has a window at every n-th frame; null: one window, which the view's sampling takes
    test_step: int | None = None
    # clips that are too short for a view: leave them out, or repeat them from their start until they are long enough
    short: Literal["leave_out", "repeat"] = "leave_out"


class Prediction(Task):
    """Trains a network that predicts poses, and compares it with baselines that are not trained."""

    config_class: ClassVar[type[ProcessorConfig]] = PredictionConfig
    ranges: ClassVar[tuple[Range, ...]] = (
        *RANGES,
        *((key, lambda value: value >= 1, "1 frame or more") for key in ("observe", "predict")),
        *(
            (key, lambda value: value is None or value >= 1, "1 frame or more, or null")
            for key in ("train_step", "test_step")
        ),
        ("horizon", lambda values: all(value >= 1 for value in values), "numbers of frames, 1 or more"),
        ("test_repeat", lambda value: value == 1, "1: poses of several views cannot be averaged"),
    )
    metrics = lower_is_better = ("mpjpe",)
    names_actions = False
    # Not `predict`: a test may predict more frames than training did.
    input_keys: ClassVar[tuple[str, ...]] = ("observe ", "test_view.normalise ", "data.num_body ")
    config: PredictionConfig
    plan: LossPlan

    def __init__(self, config: ProcessorConfig, packages: Sequence[str]) -> None:
        super().__init__(config, packages)
        self.plan = LossPlan(
            config, packages, default={FUTURE: 1.0}, needed=FUTURE, views=pair_of_views(config)
        )
        # For each part: the number of clips that are too short for its view, and how many of these are left out.
        self.num_short: dict[str, int] = {}
        self.num_left_out: dict[str, int] = {}

    def problems(self) -> list[Problem]:
        """See `Task`."""
        config, problems = self.config, super().problems()
        if config.stream != "joint":
            problems.append(Problem("stream", f"is {config.stream!r}; prediction needs 'joint'"))
        if in_plane(config.data.channels):
            text = f"is {config.data.channels!r}; errors in millimetres need 3-D poses: take 'xyz', "
            problems.append(Problem("data.channels", text + "or train recognition, which takes 2-D poses"))
        if config.test_view.augment:
            text = f"is {config.test_view.augment}; steps in space would change the errors: leave it empty"
            problems.append(Problem("test_view.augment", text))
        for key in ("train_step", "test_step"):
            if config.short == "repeat" and getattr(config, key) is not None:
                text = "is 'repeat', but a clip that is too short has no window; set leave_out, or "
                problems.append(Problem("short", text + f"{key}=null"))
        if any(horizon > config.predict for horizon in config.horizon):
            text = f"is {config.horizon}, but predict is {config.predict} frames; list no larger numbers"
            problems.append(Problem("horizon", text))
        problems += _view_problems("train_view", config) + _view_problems("test_view", config)
        ahead = max(0, frames_of(config.train_view) - config.observe)
        problems += hidden_problems("train_view", config.train_view, config, self.packages, ahead)
        problems += hidden_problems("test_view", config.test_view, config, self.packages, config.predict)
        for number, phase in enumerate(config.schedule):
            if CROSS_ENTROPY.name in active_losses([phase], without=config.without):
                text = "needs class scores, which prediction does not have; leave it out, or run recognition"
                problems.append(Problem(f"schedule.{number}.losses.{CROSS_ENTROPY.name}", text))
        if any(problem.key in ("method", "model") for problem in problems):
            return problems
        try:
            labelled = [loss.name for loss in self.plan.active if loss.label]
        except ClassPathError:  # reported by `check_class`
            return problems
        problems += _ahead_problems(config, self.hidden_frames())
        seen = self.plan.num_observe
        if seen is not None and seen != config.observe:
            key = "model_args" if config.method is None else "method_args"
            text = f"the network sees {seen} frames, but observe is {config.observe}; set both to the same number"
            problems.append(Problem(f"{key}.num_observe", text))
        if config.data.label_fraction < 1 and not labelled:
            text = "; no loss of the run uses labels, so all clips are trained on: leave it at 1"
            problems.append(Problem("data.label_fraction", f"is {config.data.label_fraction}{text}"))
        return problems

    def num_future(self, run: Experiment, part: Part) -> int | None:
        """See `Task`."""
        return super().num_future(run, part) if part == "train" else self.config.predict

    def review(self, run: Processor, row: Mapping[str, float]) -> None:
        """See `Task`; does nothing, because there are no class scores."""

    def feeder(self, run: Experiment, part: Part, **changes: Any) -> Feeder:
        """See `Task`; counts the clips that are too short for the part's view, and leaves them out as `short` says.

        Raises ValueError: no clip is long enough.
        """
        feeder = super().feeder(run, part, **changes)
        wanted, longest = frames_of(self.views(part)[0]), int(feeder.num_frame.max())
        repeat = self.config.short == "repeat"
        # A repeated clip needs at least one frame beyond those that are seen.
        least = self.config.observe + 1
        shortest = least if repeat else wanted
        repeated = {
            "to be predicted": (wanted - self.config.observe, "Lower predict"),
            "that are needed, one more than observe": (least, "Lower observe"),
        }
        step = self.config.train_step if part == "train" else self.config.test_step
        repeat_helps = step is None and longest >= max(count for count, _ in repeated.values())
        lower = "Lower observe or predict" + (", or set short: repeat" if repeat_helps else "")
        needed = repeated if repeat else {"of observe and predict": (wanted, lower)}
        for what, (count, remedy) in needed.items():
            if longest < count:
                text = f"has the {count} frames {what}; the longest has {longest}. {remedy}"
                raise ValueError(f"no {part} clip of {feeder.path} {text}")
        self.num_short[part] = int((feeder.num_frame < wanted).sum())
        self.num_left_out[part] = int((feeder.num_frame < shortest).sum())
        long_enough = feeder.take(np.flatnonzero(feeder.num_frame >= shortest))
        return long_enough if step is None else long_enough.windows(wanted, step)

    def load_weights(self, run: Experiment, path: str) -> None:
        """See `Task`.

        Raises ValueError: the weights are for windows of another length.
        """
        config, stated = self.config, _stated_config(path)
        # A part that is left out may be of another length.
        for args, name in () if config.ignore_weights else WINDOW_ARGUMENTS:
            was, now = (stated.get(args) or {}).get(name), getattr(config, args).get(name)
            if was is not None and now is not None and was != now:
                key = f"{args}.{name}"
                setting = "observe" if name == "num_observe" else key
                raise ValueError(
                    f"{path} was trained with {key}={was}, and this run has {now}; set {setting}={was}"
                )
        super().load_weights(run, path)

    def step(self, run: Processor, batch: Batch) -> dict[str, Tensor]:
        """The active losses of this phase, times their weights."""
        return self.plan.learn(run, batch)[1]

    def evaluate(self, run: Processor, loader: Loader) -> Evaluation:
        """Predictions for all clips of a part, in the order of its feeder, and their errors."""
        found: dict[str, list[Tensor]] = {}
        count = self.config.predict
        weight = published_weight(loader.feeder.skeleton)
        weight = None if weight is None else weight.to(run.device)
        for batch in run.watch(loader):
            assert batch.future is not None
            clip, ahead = batch.views[0], batch.future
            with run.autocast():
                predicted = roll_out(run.method.forecast, clip, count)
            # (N, M, T, V, C)
            predicted, seen, future = (each.permute(0, 4, 2, 3, 1) for each in (predicted, clip.x, ahead.x))
            last = seen[:, :, -1]
            scored = scored_joints(future, last, ahead.present, clip.present[:, :, -1])
            poses = {NETWORK: predicted} | {name: given(seen, count) for name, given in BASELINES.items()}
            of_batch = {"index": batch.index} | summed_errors(poses, future, scored, weight)
            if loader.feeder.part == "test":
                of_batch |= {"predicted": predicted, "true": future, "last": last, "scored": scored}
            for name, value in of_batch.items():
                found.setdefault(name, []).append(value)
        # Ranks hold disjoint shares of the clips.
        gathered = {name: distributed.all_gather_ragged(torch.cat(parts)) for name, parts in found.items()}
        index = gathered.pop("index").cpu().numpy()
        by_clip = np.argsort(index)
        arrays = {name: values.cpu().numpy()[by_clip] for name, values in gathered.items()}
        clips = index[by_clip]
        arrays |= {"name": loader.feeder.name[clips], "label": loader.feeder.label[clips]}
        return Evaluation(self._metrics(arrays), arrays)

    def _metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """MPJPE in mm of the network and the baselines: the mean over all predicted frames, and at each horizon."""
        metrics = {}
        for predictor, prefix in ((NETWORK, ""), *((name, f"{name}_") for name in BASELINES)):
            error = mpjpe(arrays[predictor], arrays["count"])
            known = error[~np.isnan(error)]
            metrics[f"{prefix}mpjpe"] = float(known.mean()) if len(known) else float("nan")
            metrics |= {f"{prefix}mpjpe_{horizon}": float(error[horizon - 1]) for horizon in self._horizons()}
        return metrics | published_metrics(arrays, arrays["label"], self._horizons())

    def _horizons(self) -> list[int]:
        # At 30 frames a second 33, 67, 133, 267, 333, 400, 567 and 667 ms, then every 333 ms.
        default = {1, 2, 4, 8, 10, 12, 17, *range(20, self.config.predict + 1, 10), self.config.predict}
        return sorted(set(self.config.horizon) or {each for each in default if each <= self.config.predict})

    def save_evaluation(self, run: Processor, work_dir: Path, evaluation: Evaluation) -> None:
        """See `Task`: predictions, errors by action, and figures of both."""
        arrays, feeder = evaluation.arrays, run.loaders["test"].feeder
        table = error_table(
            arrays,
            arrays["label"],
            run.class_names,
            horizons=self._horizons(),
            frame_rate=run.source.frame_rate,
        )
        io.save_predictions(work_dir, arrays, table, class_names=run.class_names, skeleton=feeder.skeleton)

    def examine(self, run: Processor, work_dir: Path, evaluation: Evaluation) -> dict[str, Any]:
        """See `Task`: whether the network beats the baselines, and how similar predictions of one action are."""
        metrics, arrays = evaluation.metrics, evaluation.arrays
        beaten = {name: metrics["mpjpe"] < metrics[f"{name}_mpjpe"] * (1 - ROUNDING) for name in BASELINES}
        for name in (name for name, is_beaten in beaten.items() if not is_beaten):
            run.log.info(f"warning: the network is no better than the baseline {name}, which is not trained")
        if short := self.num_short["test"]:
            left_out = self.num_left_out["test"]
            run.log.info(
                f"{short} test clips have fewer than {self.config.observe + self.config.predict} frames: "
                f"{left_out} left out, {short - left_out} repeated from their start"
            )
        # Of each clip the first body that is scored.
        scored = np.asarray(arrays["scored"].any((2, 3)))
        clip = np.flatnonzero(scored.any(1))
        body, label = scored[clip].argmax(1), torch.from_numpy(arrays["label"][clip])
        (same, other), (same_true, other_true) = (
            distances_by_action(torch.from_numpy(arrays[name][clip, body]), label)
            for name in ("predicted", "true")
        )
        return {
            "beats": beaten,
            "distance_same_action": same,
            "distance_other_action": other,
            "distance_ratio": same / other if other else float("nan"),
            "true_distance_ratio": same_true / other_true if other_true else float("nan"),
            "observe": self.config.observe,
            "predict": self.config.predict,
            "short": self.config.short,
            "num_short": self.num_short,
            "num_left_out": self.num_left_out,
        }


def _stated_config(path: str) -> Mapping[str, Any]:
    """The config that a checkpoint says it was made with; empty for one of another program."""
    made_with = load_checkpoint(path).get("config")
    try:
        stated = yaml.safe_load(made_with) if isinstance(made_with, str) else None
    except yaml.YAMLError:
        stated = None
    return stated if isinstance(stated, dict) else {}


def frames_of(view: ViewConfig) -> int:
    """Number of frames of a view whose sampling is a Crop, which `Reverse` may follow; 0 for any other."""
    match view.sampling:
        case [{"Crop": {"num_frame": int(count)}}] | [
            {"Crop": {"num_frame": int(count)}},
            "Reverse" | {"Reverse": _},
        ]:
            return count
    return 0


def _ahead_problems(config: PredictionConfig, predicted: Mapping[str, int] | None) -> list[Problem]:
    """The problem of a training view with another number of frames after those seen than the network predicts."""
    ahead = frames_of(config.train_view) - config.observe
    if predicted is None or ahead <= 0 or ahead == predicted["train_view"]:
        return []  # `_view_problems` reports a view without frames ahead
    text = (
        f"has {ahead} frames after the {config.observe} that are seen, but the network predicts "
        f"{predicted['train_view']} at once; change num_predict or num_frame"
    )
    return [Problem("train_view.sampling", text)]


def _view_problems(key: Literal["train_view", "test_view"], config: PredictionConfig) -> list[Problem]:
    """Problems of the length and sampling of a view."""
    view: ViewConfig = getattr(config, key)
    problems = []
    found, length = frames_of(view), f"{key}.sampling.0.Crop.num_frame"
    if not found or (key == "test_view" and len(view.sampling) > 1):
        before = ", or that before Reverse" if key == "train_view" else ""
        text = f"is not a single Crop with a num_frame{before}; only that keeps the recorded frames and their rate"
        problems.append(Problem(f"{key}.sampling", text))
    elif key == "train_view" and found <= config.observe:
        text = f"takes {found} frames, but observe is {config.observe}; a training view needs more, "
        problems.append(Problem(length, text + "for the frames to predict"))
    elif key == "test_view" and found != config.observe + config.predict:
        text = (
            f"takes {found} frames, but observe + predict are {config.observe + config.predict}; set it to "
        )
        problems.append(Problem(length, text + 'that, or in a file to "${add:${observe},${predict}}"'))
    return problems
