"""Lines and warnings about a run, for the log before it trains or tests."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from processor.encoder_weights import SAME_SHAPE, ignored_keys, translate
from processor.schedule import active_losses
from processor.state import changes_since_training
from torchlight.checkpoint import load_checkpoint, state_dict_of

if TYPE_CHECKING:
    from processor.processor import Processor


def about_run(run: "Processor") -> Iterator[str]:
    """Lines on network, device and clips, where a run resumes, and settings that are probably not intended."""
    parts = ", ".join(f"{len(loader.feeder)} {part}" for part, loader in run.loaders.items())
    count = sum(parameter.numel() for parameter in run.model.parameters())
    if run.epoch == run.num_epoch:
        yield f"all {run.epoch} epochs are done; only the test is repeated"
    elif run.epoch or run.batch_done:
        yield f"resumed in epoch {run.epoch + 1} after step {run.batch_done}"
    yield f"{run.config.model}, {count:,} parameters, on {device_name(run.device)}; {parts} clips"
    if run.precision != run.config.precision:
        yield f"this CPU has no instructions for {run.config.precision}: {run.precision} is used"
    for text in (*late_falls(run), *run.task.warnings(run)):
        yield f"warning: {text}"


def about_weights(run: "Processor", keys: tuple[str, ...]) -> Iterator[str]:
    """Lines on weights that are not used, and warnings where the input differs from that of their training.

    keys: beginnings of config keys that change the input.
    """
    path = run.config.weights
    assert path is not None
    content = load_checkpoint(path)
    if unused := ignored_keys(run.model, translate(run.model, state_dict_of(content, path))):
        yield (
            f"{len(unused)} weights of {path} are not used, such as {unused[0]!r}: this network was built without "
            "their parts"
        )
    for change in changes_since_training(content, run.config):
        if change.startswith(keys):
            yield f"warning: these weights were trained with another input: {change}"
        elif change.startswith(SAME_SHAPE):
            yield f"warning: these weights were trained in another network: {change}"


def late_falls(run: "Processor") -> Iterator[str]:
    """Warnings about `step` schedules that the run or a phase is too short for."""
    for phase in () if run.config.debug else run.schedule:
        # The run's `optim.step` is for its last phase; an earlier, shorter phase may inherit it without a warning.
        own = phase.optim.step != run.config.optim.step or phase is run.schedule[-1]
        if own and (late := phase.late_steps()):
            which = f"phase {phase.name!r}" if phase.name else "the run"
            yield (
                f"{which} has {phase.num_epoch} epochs, so that its rate does not fall after {late}; "
                "change optim.step or num_epoch"
            )


def missing_losses(run: "Processor", remedy: str) -> list[str]:
    """A warning if the losses that alone train some parts of the encoder are active in no phase."""
    own = run.method.missing_losses(active_losses(run.schedule))
    if not own or run.config.weights is not None:  # loaded weights may include trained parts
        return []
    text = f"no phase has the losses {' or '.join(own)}, and some parts of {run.config.model} learn from no other"
    return [f"{text}: these parts keep their random weights; {remedy}"]


def device_name(device: torch.device) -> str:
    """The name of a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
