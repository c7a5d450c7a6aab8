"""What the log says of a run before it trains or tests: lines about the run, and warnings."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import yaml

from processor.encoder import left_out, translate
from processor.schedule import counting_losses
from processor.state import changes
from torchlight.checkpoint import load_checkpoint, state_dict_of

if TYPE_CHECKING:
    from processor.processor import Processor


def about_run(run: "Processor") -> Iterator[str]:
    """Network, device, clips, where it goes on, and settings that are probably not intended."""
    parts = ", ".join(f"{len(loader.feeder)} {part}" for part, loader in run.loaders.items())
    count = sum(parameter.numel() for parameter in run.model.parameters())
    if run.epoch == run.num_epoch:
        yield f"all {run.epoch} epochs are done; the test is made again"
    elif run.epoch or run.batch_done:
        yield f"resumed in epoch {run.epoch + 1} after step {run.batch_done}"
    yield f"{run.config.model}, {count:,} parameters, on {device_name(run.device)}; {parts} clips"
    if run.precision != run.config.precision:
        yield f"this CPU has no instructions for {run.config.precision}: {run.precision} is used"
    for text in (*late_falls(run), *run.task.warnings(run)):
        yield f"warning: {text}"


def about_weights(run: "Processor", keys: tuple[str, ...]) -> Iterator[str]:
    """What of the weights is not used, and where clips are shown to the network otherwise than in its training.

    keys: beginnings of config keys that make a difference to what is shown.
    """
    path = run.config.weights
    assert path is not None
    content = load_checkpoint(path)
    if unused := left_out(run.model, translate(run.model, state_dict_of(content, path))):
        yield (
            f"{len(unused)} weights of {path} are not used, {unused[0]!r} for one: they are of parts that this "
            "network was built without"
        )
    trained = content.get("config")
    try:
        changed = changes(trained, run.config) if isinstance(trained, str) else []
    except yaml.YAMLError:  # another program's
        return
    for change in changed:
        # The mode has no weights of its own, by which it would be known.
        if change.startswith((*keys, "model_args.padding_mode ")):
            yield f"warning: these weights were trained with another input: {change}"


def late_falls(run: "Processor") -> Iterator[str]:
    """Warnings about rates that never fall."""
    for phase in () if run.config.debug else run.schedule:
        # The run's own falls are those of its last phase; shorter ones before it do without.
        meant = phase.optim.step != run.config.optim.step or phase is run.schedule[-1]
        if meant and (late := phase.late_steps()):
            which = f"phase {phase.name!r}" if phase.name else "the run"
            yield (
                f"{which} has {phase.num_epoch} epochs, so that its rate does not fall after {late}; "
                "change optim.step or num_epoch"
            )


def unlearnt(run: "Processor", remedy: str) -> list[str]:
    """The warning, if it is due, that parts of an encoder learn from losses alone which no phase counts."""
    own = run.method.unlearnt(counting_losses(run.schedule))
    if not own or run.config.weights is not None:  # weights may bring what was learnt before
        return []
    text = f"no phase counts {' or '.join(own)}, from which parts of {run.config.model} alone learn"
    return [f"{text}: they stay as they were drawn; {remedy}"]


def device_name(device: torch.device) -> str:
    """What a device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
