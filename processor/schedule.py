"""Phases of a run: epochs in which other losses count, or count otherwise."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import NamedTuple

from omegaconf import MISSING

from processor.checks import ONLY_WITH, optim_problems
from processor.config import OptimConfig, ProcessorConfig
from processor.optim import lr_factor
from torchlight.build import Problem, nearest
from torchlight.schema import LAID_OVER


@dataclass
class PhaseConfig:
    """A phase; its learning-rate schedule runs over its own epochs."""

    # name of the phase in messages
    name: str = MISSING
    # epochs of the phase; null in one phase: all that are left
    num_epoch: int | None = None
    # weight of each loss; a loss without a weight is not computed
    losses: dict[str, float] = field(default_factory=dict)
    # optimizer of the phase; keys that it leaves out are the run's; null: the run's optimizer
    optim: OptimConfig | None = field(default=None, metadata={LAID_OVER: "optim"})


class Phase(NamedTuple):
    """Epochs of a run from `start` on, counted from 0, with an optimizer of their own.

    name: as the config has it; "" for a run without phases.
    """

    start: int
    num_epoch: int
    optim: OptimConfig
    # weight of each loss that counts, for processors that have several
    losses: Mapping[str, float] = MappingProxyType({})
    name: str = ""

    def lr_factor(self, progress_epoch: float) -> float:
        """Factor on the phase's rate after so many epochs of the run."""
        return lr_factor(
            progress_epoch - self.start,
            schedule=self.optim.schedule,
            num_epoch=self.num_epoch,
            step=self.optim.step,
            gamma=self.optim.gamma,
            warmup_epoch=self.optim.warmup_epoch,
            min_factor=self.optim.min_factor,
        )

    def late_steps(self) -> list[int]:
        """Epochs after which the rate is to fall, but which the phase does not reach."""
        falls = self.optim.step if self.optim.schedule == "step" else []
        return [step for step in falls if step >= self.num_epoch]


def shortened(phases: Sequence[Phase]) -> list[Phase]:
    """The phases in two epochs, or in one of each where there are more."""
    count = 1 if len(phases) > 1 else 2
    return [phase._replace(start=number, num_epoch=count) for number, phase in enumerate(phases)]


def phases_of(
    schedule: Sequence[PhaseConfig],
    config: ProcessorConfig,
    default: Mapping[str, float],
    *,
    without: Collection[str] = (),
) -> list[Phase]:
    """The phases of a run; without a schedule one, in which the `default` losses count.

    without: losses that count in no phase. A phase that is left with none is skipped, epochs and all.
    """
    if not schedule:
        losses = {name: weight for name, weight in default.items() if name not in without}
        return [Phase(0, config.num_epoch, config.optim, losses)]
    left = config.num_epoch - sum(each.num_epoch or 0 for each in schedule)
    phases: list[Phase] = []
    start = 0
    for each in schedule:
        losses = {name: weight for name, weight in each.losses.items() if weight > 0 and name not in without}
        if losses:
            count = left if each.num_epoch is None else each.num_epoch
            phases.append(Phase(start, count, each.optim or config.optim, losses, each.name))
            start += count
    return phases


def changed_by_inheritance(schedule: Sequence[PhaseConfig], inherited: Collection[str]) -> list[str]:
    """A sentence on each phase whose optimizer is another than before phases took what they leave out from the run's.

    inherited: dotted keys whose values are the run's.
    """
    said = []
    for number, phase in enumerate(schedule):
        if phase.optim is None:
            continue
        taken = {
            key.name: getattr(phase.optim, key.name)
            for key in fields(OptimConfig)
            if any(f"{each}.".startswith(f"schedule.{number}.optim.{key.name}.") for each in inherited)
        }
        default = asdict(OptimConfig())
        changed = [
            name for name, value in taken.items() if value != default[name] and _matters(name, phase.optim)
        ]
        if changed:
            now, before = (
                ", ".join(f"{name}={values[name]}" for name in changed) for values in (taken, default)
            )
            said.append(
                f"schedule.{number}.optim of phase {phase.name!r} takes {now} from the run's optim; earlier versions "
                f"took the defaults ({before}): set what you want there"
            )
    return said


def _matters(name: str, settings: OptimConfig) -> bool:
    """Whether a key has an effect beside the others."""
    other, value = ONLY_WITH.get(name, (name, getattr(settings, name)))
    return getattr(settings, other) == value


def active_losses(phases: Iterable[PhaseConfig | Phase], *, without: Collection[str] = ()) -> set[str]:
    """Names of the losses that count in some phase, but for those that are left out."""
    return {name for phase in phases for name, weight in phase.losses.items() if weight > 0} - set(without)


def schedule_problems(
    schedule: Sequence[PhaseConfig],
    num_epoch: int,
    losses: Sequence[str],
    *,
    without: Sequence[str] = (),
) -> list[Problem]:
    """What is wrong with a schedule of a run of `num_epoch` epochs, whose network has the `losses`.

    without: losses that are to count in no phase.
    """
    problems = [
        Problem(f"without.{number}", f"the network has no loss {name!r}; {nearest(name, losses)}")
        for number, name in enumerate(without)
        if name not in losses
    ]
    open_ended = [number for number, each in enumerate(schedule) if each.num_epoch is None]
    if len(open_ended) > 1:
        key = f"schedule.{open_ended[1]}.num_epoch"
        problems.append(
            Problem(key, "is null, as an earlier one is; only one phase can have the epochs left")
        )
    given = sum(each.num_epoch or 0 for each in schedule)
    if schedule and (num_epoch <= given if open_ended else num_epoch != given):
        more = " and one more phase" if open_ended else ""
        text = f"has phases of {given} epochs{more}, but num_epoch is {num_epoch}; change either"
        problems.append(Problem("schedule", text))
    for number, each in enumerate(schedule):
        if each.optim is not None:
            problems += optim_problems(f"schedule.{number}.optim", each.optim)
        if each.num_epoch is not None and each.num_epoch < 1:
            text = f"is {each.num_epoch}; it is 1 or more, or null"
            problems.append(Problem(f"schedule.{number}.num_epoch", text))
        if not any(weight > 0 for weight in each.losses.values()):
            text = f"name no loss that counts; give some of {', '.join(losses)} a weight"
            problems.append(Problem(f"schedule.{number}.losses", text))
        for name, weight in each.losses.items():
            key = f"schedule.{number}.losses.{name}"
            if name not in losses:
                problems.append(Problem(key, f"the network has no such loss; {nearest(name, losses)}"))
            elif not weight >= 0:
                problems.append(Problem(key, f"is {weight}; it is 0 or more"))
    return problems
