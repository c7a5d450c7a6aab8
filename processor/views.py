"""The views that a config describes."""

from collections.abc import Sequence
from dataclasses import asdict, fields

from feeder.views import View
from net.utils.skeleton import Skeleton
from processor.config import ProcessorConfig, ViewConfig


def view_of(view: ViewConfig, config: ProcessorConfig, skeleton: Skeleton, packages: Sequence[str]) -> View:
    """Build a view of the config; `packages` are searched for its steps. Raises `feeder.views.ViewError`."""
    data = config.data
    return View(
        skeleton,
        num_body=data.num_body,
        stream=config.stream,
        channels=data.channels,
        packages=packages,
        **asdict(view),
    )


def views_of(config: ProcessorConfig) -> dict[str, ViewConfig]:
    """All views of a config, by dotted key."""
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    listed = {
        f"{name}.{number}": item
        for name, value in values.items()
        if isinstance(value, list)
        for number, item in enumerate(value)
    }
    return {key: value for key, value in (values | listed).items() if isinstance(value, ViewConfig)}
