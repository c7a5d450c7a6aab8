"""What a config makes: clips, views, batches and a network; and what is wrong with it, before any of these is."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from feeder.arrays import open_source
from feeder.feeder import Feeder, Part
from feeder.loader import Batch, Loader
from feeder.views import View, ViewError
from net.method import Method, as_method
from net.utils.channels import has_confidence
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton
from processor.config import (
    RANGES,
    ProcessorConfig,
    Range,
    ViewConfig,
    contradictions,
    optim_problems,
    out_of_range,
    views_of,
)
from processor.encoder import load_translated
from processor.optim import rate_factors
from processor.schedule import Phase, shortened
from torchlight import build, distributed
from torchlight.build import Problem
from torchlight.log import progress
from torchlight.seed import seed_everything

DEBUG_BATCHES = 2


class Experiment:
    """The data, the network and the phases of a run, built from a config.

    A subclass may replace any of it, `check` and what stands between that and `setup` above all.
    """

    config_class: ClassVar[type[ProcessorConfig]] = ProcessorConfig
    # what `model` must be, whether there must be `weights`, and what numbers of the config must be
    model_class: ClassVar[type] = object
    needs_weights: ClassVar[bool] = False
    ranges: ClassVar[tuple[Range, ...]] = RANGES

    def __init__(self, config: ProcessorConfig, *, packages: Sequence[str] = build.PACKAGES) -> None:
        self.config = config
        self.packages = packages
        self.device = distributed.device(config.device)
        # What the network computes in: a CPU without instructions for bf16 takes five times as long with it.
        self.precision = config.precision
        if config.precision == "bf16" and self.device.type == "cpu" and not cpu_has_bf16():
            self.precision = "fp32"
        self.schedule = shortened(self.phases()) if config.debug else self.phases()
        self.num_epoch = sum(phase.num_epoch for phase in self.schedule)

    @classmethod
    def check(cls, config: ProcessorConfig, packages: Sequence[str]) -> list[Problem]:
        """All that can be seen to be wrong with a config before data or device is touched."""
        problems = build.check_class("model", config.model, config.model_args, packages, base=cls.model_class)
        problems += out_of_range(config, cls.ranges) + contradictions(config)
        problems += optim_problems("optim", config.optim)
        problems += layout_problems("model", config.model, config.model_args, config, packages)
        problems += channel_problems("model", config.model, config.model_args, config, packages)
        if cls.needs_weights and config.weights is None:
            problems.append(Problem("weights", "is null; name those of the encoder with --weights FILE"))
        try:
            skeleton = get_skeleton(config.data.layout)
        except (ValueError, OSError) as error:
            return [*problems, Problem("data.layout", str(error))]
        hidden = cls.hidden_frames(config, packages)
        longest = _longest_clip(config, packages)
        for key, view in views_of(config).items():
            try:
                made = view_of(view, config, skeleton)
                if longest is not None and made.num_frame - made.num_ahead > longest:
                    text = f"gives {made.num_frame - made.num_ahead} frames; {config.model} has places for {longest}"
                    problems.append(Problem(f"{key}.sampling", f"{text}: take fewer, or raise max_frame"))
                ahead = made.num_ahead
                predicted = ahead if hidden is None else hidden.get(key, 0)
                if ahead not in (0, predicted):
                    problems.append(Problem(f"{key}.sampling", _wrong_ahead(ahead, predicted)))
            except ViewError as error:
                for problem in error.problems:
                    # Bodies and stream are one setting for all views.
                    where = {"num_body": "data.num_body", "stream": "stream"}.get(problem.key)
                    problems.append(Problem(where or f"{key}.{problem.key}", problem.text))
        return list(dict.fromkeys(problems))

    @classmethod
    def hidden_frames(cls, config: ProcessorConfig, packages: Sequence[str]) -> dict[str, int] | None:
        """Of each view that may end with frames that are not seen, by its dotted key, how many these then are.

        None if that cannot be told, as the config names no class that there is.
        """
        return {}

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
        return self.build_from("model")

    def build_from(self, key: str, **provided: Any) -> nn.Module:
        """The class that the config names under a key, with its arguments there and what the program provides.

        Raises ValueError: an argument is out of range; the key is named.
        """
        args = getattr(self.config, f"{key}_args")
        try:
            return build.build(getattr(self.config, key), args, packages=self.packages, **provided)
        except ValueError as error:
            raise ValueError(f"{key}_args: {error}") from error

    def load_weights(self, path: str) -> None:
        """Put the weights that the config names into the network; names of other programs are known."""
        load_translated(self.model, path, ignore=self.config.ignore_weights)

    def build_method(self) -> Method:
        """What trains the model, and gives its answers."""
        return as_method(self.model)

    def num_future(self, part: Part) -> int | None:
        """Frames at the end of a part's views that are the future; None for as many as their sampling has ahead."""
        return None

    def phases(self) -> list[Phase]:
        """The parts of a run, one after another, each with an optimizer of its own; epochs are judged in the last."""
        return [Phase(0, self.config.num_epoch, self.config.optim)]

    def phase_of(self, epoch: int) -> Phase:
        """The phase that an epoch is in, or the last one for an epoch past the end."""
        return [phase for phase in self.schedule if phase.start <= epoch][-1]

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
        set_precision(config.precision)
        self.model = self.build_model().to(self.device)
        data = config.data
        self.source = open_source(data.path, data.layout, data.first_label, data.channels)
        feeders = {part: self.feeder(part) for part in self.parts(phase)}
        for part, feeder in feeders.items():
            if len(feeder) < distributed.world_size():
                raise ValueError(
                    f"the {part} part has {len(feeder)} clips for {distributed.world_size()} processes; "
                    "start no more processes than there are clips"
                )
        self.class_names = next(iter(feeders.values())).class_names
        # The clips whose labels are used.
        self.labelled: dict[Part, Feeder] = {
            part: feeder for part, feeder in feeders.items() if part != "test"
        }
        self.loaders = {part: self.part_loader(feeder) for part, feeder in feeders.items()}
        if config.weights is not None:
            self.load_weights(config.weights)
        self.method = self.build_method().to(self.device)
        for each in self.schedule if phase == "train" else ():
            rate_factors(self.method, each.optim)
        if self.method.varies_batch:
            # cuDNN would time its algorithms anew in every step.
            torch.backends.cudnn.benchmark = False
        if config.compile:
            self.model.compile()
        self.network: nn.Module = self.method
        if distributed.world_size() > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            # Buffers are queues of keys, of many megabytes and alike in all ranks, which draw them by one seed, and
            # statistics of batch norms, of which an evaluation takes the first rank's.
            with warnings.catch_warnings():
                # torch 2.13 has another name for it, which earlier ones do not know.
                warnings.simplefilter("ignore", FutureWarning)
                self.network = DistributedDataParallel(
                    self.method,
                    device_ids=ids,
                    find_unused_parameters=self.method.leaves_out,
                    broadcast_buffers=False,
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
            balanced=train and config.data.balanced,
            num_future=self.num_future(feeder.part),
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
        balanced: bool = False,
        num_future: int | None = None,
    ) -> Loader:
        """Batches of this rank's share of a feeder's clips, as `feeder.loader.Loader` makes them."""
        data = self.config.data
        return Loader(
            feeder,
            [view_of(view, self.config, feeder.skeleton) for view in views],
            batch_size=batch_size,
            device=self.device,
            cache=data.cache,
            shuffle=shuffle,
            drop_last=drop_last,
            min_clip=min_clip,
            balanced=balanced,
            num_future=num_future,
            seed=self.config.seed,
            num_worker=data.num_worker,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )

    def shown(self, loader: Loader, views: Sequence[ViewConfig]) -> Loader:
        """A loader's clips, once each and in order, in other views."""
        made = [view_of(view, self.config, loader.feeder.skeleton) for view in views]
        return loader.with_views(made, batch_size=self.config.test_batch_size)

    def feeder(self, part: Part, **changes: Any) -> Feeder:
        """The clips of a part by the config's `data`, of which `changes` replace some."""
        data = {**asdict(self.config.data), **changes}
        for key in ("path", "first_label", "cache", "num_worker", "balanced"):
            del data[key]
        return Feeder(self.source, self.config.benchmark, part=part, **data)

    def autocast(self) -> torch.autocast:
        """The run's precision, for what the network does; views are always made in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def watch(self, loader: Loader) -> Iterator[Batch]:
        """The batches of a part with a progress bar, two of them in debug mode."""
        return islice(
            progress(loader.iterate(), loader.feeder.part, total=len(loader)),
            DEBUG_BATCHES if self.config.debug else None,
        )


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16, so that it is no slower than float32."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def layout_problems(
    key: str, path: str, args: Mapping[str, Any], config: ProcessorConfig, packages: Sequence[str]
) -> list[Problem]:
    """What is wrong with a class whose layout has other joints than the data's; nothing if that cannot be told."""
    wanted = config.data.layout
    try:
        layout = build.argument(build.import_class(path, packages), args, "layout", wanted)
        joints = [get_skeleton(each).num_joint for each in (layout, wanted)]
    except (ValueError, OSError):  # said elsewhere
        return []
    if joints[0] == joints[1]:
        return []
    text = f"is {layout!r} ({joints[0]} joints), but data.layout is {wanted!r} ({joints[1]}); write ${{data.layout}}"
    return [Problem(f"{key}_args.layout", text)]


def channel_problems(
    key: str, path: str, args: Mapping[str, Any], config: ProcessorConfig, packages: Sequence[str]
) -> list[Problem]:
    """What is wrong with a class that takes other channels than the data's; nothing if that cannot be told."""
    channels = config.data.channels
    try:
        cls = build.import_class(path, packages)
    except build.ClassPathError:  # said elsewhere
        return []
    problems = []
    count = build.argument(cls, args, "in_channels", len(channels))
    if count != len(channels):
        text = f'is {count}, but data.channels is {channels!r}; write "${{count:${{data.channels}}}}"'
        problems.append(Problem(f"{key}_args.in_channels", text))
    # Without a word of it all channels are coordinates.
    said = build.argument(cls, args, "channels", channels)
    if said != channels and (said is not None or has_confidence(channels)):
        text = f"is {said!r}, but data.channels is {channels!r}; write ${{data.channels}}"
        problems.append(Problem(f"{key}_args.channels", text))
    return problems


def _longest_clip(config: ProcessorConfig, packages: Sequence[str]) -> int | None:
    """Frames that the network has places for; None if it takes any number, or that cannot be told."""
    try:
        longest = build.argument(
            build.import_class(config.model, packages), config.model_args, "max_frame", None
        )
    except build.ClassPathError:  # said elsewhere
        return None
    return longest if isinstance(longest, int) else None


def _wrong_ahead(ahead: int, predicted: int) -> str:
    remedy = (
        f"predicts {predicted} frames; make them equal"
        if predicted
        else "predicts nothing there; leave it out"
    )
    return f"has num_ahead: {ahead}, but the network {remedy}"


def set_precision(precision: str) -> None:
    """Whether CUDA devices may round the inputs of float32 products to TF32, as they do with precision `tf32`."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    # Convolutions have a switch of their own.
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def view_of(view: ViewConfig, config: ProcessorConfig, skeleton: Skeleton) -> View:
    """A view as the config describes it. Raises `feeder.views.ViewError`."""
    data = config.data
    return View(
        skeleton, num_body=data.num_body, stream=config.stream, channels=data.channels, **asdict(view)
    )
