"""Phases of a run: consecutive epochs, each phase with its own losses, their weights, and optimizer."""

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
    # epochs of the phase; null, in one phase only: the epochs that the others leave
    num_epoch: int | None = None
    # weight of each loss; a loss without a weight is not computed
    losses: dict[str, float] = field(default_factory=dict)
    # optimizer of the phase; missing keys are taken from the run's `optim`; null: the run's optimizer
    optim: OptimConfig | None = field(default=None, metadata={LAID_OVER: "optim"})


class Phase(NamedTuple):
    """`num_epoch` epochs of a run from epoch `start` on, counted from 0, with an optimizer of their own.

    name: from the config; "" for a run without phases.
    """

    start: int
    num_epoch: int
    optim: OptimConfig
    # weight of each active loss, for processors with several
    losses: Mapping[str, float] = MappingProxyType({})
    name: str = ""

    def lr_factor(self, progress_epoch: float) -> float:
        """Factor on the phase's learning rate after `progress_epoch` epochs of the run."""
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
        """Epochs of `step` that the phase does not reach."""
        falls = self.optim.step if self.optim.schedule == "step" else []
        return [step for step in falls if step >= self.num_epoch]


def shortened(phases: Sequence[Phase]) -> list[Phase]:
    """The phases cut for debug mode: two epochs of a single phase, or one epoch of each of several."""
    count = 1 if len(phases) > 1 else 2
    return [phase._replace(start=number, num_epoch=count) for number, phase in enumerate(phases)]


def phases_of(
    schedule: Sequence[PhaseConfig],
    config: ProcessorConfig,
    default: Mapping[str, float],
    *,
    without: Collection[str] = (),
) -> list[Phase]:
    """The phases of a run; without a schedule a single one with the `default` losses.

    without: losses to leave out of all phases. A phase that has no other loss is skipped with its epochs.
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
    """A sentence for each phase whose optimizer differs from that of earlier versions.

    In earlier versions missing keys of a phase's `optim` had their defaults; now they have the run's values.

    inherited: dotted keys that have the run's values.
    """
    notes = []
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
            notes.append(
                f"schedule.{number}.optim of phase {phase.name!r} takes {now} from the run's optim; earlier versions "
                f"took the defaults ({before}): set the values that you want there"
            )
    return notes


def _matters(name: str, settings: OptimConfig) -> bool:
    """Whether a key has an effect, given the other settings; see `ONLY_WITH`."""
    other, value = ONLY_WITH.get(name, (name, getattr(settings, name)))
    return getattr(settings, other) == value


def active_losses(phases: Iterable[PhaseConfig | Phase], *, without: Collection[str] = ()) -> set[str]:
    """Names of the losses that have a weight above 0 in some phase, except those in `without`."""
    return {name for phase in phases for name, weight in phase.losses.items() if weight > 0} - set(without)


def schedule_problems(
    schedule: Sequence[PhaseConfig],
    num_epoch: int,
    losses: Sequence[str],
    *,
    without: Sequence[str] = (),
) -> list[Problem]:
    """Problems of a schedule for a run of `num_epoch` epochs and a network with the `losses`.

    without: losses to leave out of all phases.
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
            Problem(key, "is null, and so is an earlier one; only one phase can have the epochs left")
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
            text = f"give no loss a weight above 0; give one to some of {', '.join(losses)}"
            problems.append(Problem(f"schedule.{number}.losses", text))
        for name, weight in each.losses.items():
            key = f"schedule.{number}.losses.{name}"
            if name not in losses:
                problems.append(Problem(key, f"the network has no such loss; {nearest(name, losses)}"))
            elif not weight >= 0:
                problems.append(Problem(key, f"is {weight}; it is 0 or more"))
    return problems
