"""The clips, views, batches and network of a run, built from its config and task."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from feeder.arrays import open_source
from feeder.feeder import Feeder, Part
from feeder.loader import Loader
from net.encoder import Encoder
from net.method import Supervised, as_method
from net.utils.clip import Batch
from processor.config import ViewConfig
from processor.encoder_weights import check_layout, explained, load_translated
from processor.optim import rate_factors
from processor.schedule import Phase, shortened
from processor.task import Task
from processor.views import view_of
from torchlight import distributed
from torchlight.checkpoint import WeightsError
from torchlight.log import progress
from torchlight.seed import seed_everything

DEBUG_BATCHES = 2


class Experiment:
    """The data, the network and the phases of a run, built from a config.

    task: defines what the run does with them.
    method: trains the network and gives its answers.
    network: `method` as a training step calls it, which may be wrapped for several processes.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.config = task, task.config
        self.device = distributed.device(self.config.device)
        # A CPU without instructions for bf16 takes five times as long with bf16 as with float32.
        self.precision = self.config.precision
        if self.precision == "bf16" and self.device.type == "cpu" and not cpu_has_bf16():
            self.precision = "fp32"
        self.schedule = shortened(task.phases()) if self.config.debug else task.phases()
        self.num_epoch = sum(phase.num_epoch for phase in self.schedule)

    def build(self, phase: str) -> None:
        """Make the network of a phase, "train" or "test"."""
        self.phase = phase
        self.model = self.task.build_model().to(self.device)

    def load_translated(self, path: str) -> None:
        """Load weights, also under the names of other programs."""
        load_translated(self.model, path, ignore=self.config.ignore_weights)

    @property
    def encoder(self) -> Encoder:
        """The network, of a task whose `model_class` is `Encoder`."""
        assert isinstance(self.model, Encoder)
        return self.model

    def finish_network(self) -> None:
        """Build the method around the network."""
        self.method = self.task.build_method(self.model, self.phase).to(self.device)
        self.network: nn.Module = self.method

    def phase_of(self, epoch: int) -> Phase:
        """The phase that an epoch is in; the last phase for an epoch past the end."""
        return [phase for phase in self.schedule if phase.start <= epoch][-1]

    def setup(self, phase: str = "train") -> None:
        """Open the data and build the network.

        Args:
            phase: "train" or "test".

        Raises:
            FileNotFoundError: `weights` does not exist.
            ValueError: a part has fewer clips than there are processes.
        """
        config, task = self.config, self.task
        if config.weights is not None and Path(config.weights).is_dir():
            raise IsADirectoryError(f"weights {config.weights} is a folder; name a file, such as its best.pt")
        if config.weights is not None and not Path(config.weights).is_file():
            raise FileNotFoundError(
                f"weights {config.weights} not found; train them first, or name others with --weights FILE"
            )
        seed_everything(config.seed, deterministic=self.device.type == "cpu")
        set_precision(config.precision)
        self.build(phase)
        data = config.data
        self.source = open_source(data.path, data.layout, data.first_label, data.channels)
        feeders = {part: self.feeder(part) for part in task.parts(self.source, phase)}
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
        # Soft targets of the training clips, (n, num_class); None to train on their labels.
        self.targets: Tensor | None = None
        self.loaders = {part: self.part_loader(feeder) for part, feeder in feeders.items()}
        if config.weights is not None:
            check_layout(config.weights, self.source.skeleton)
            try:
                task.load_weights(self, config.weights)
            except WeightsError as error:
                raise explained(error, config) from error
        self.finish_network()
        for each in self.schedule if phase == "train" else ():
            rate_factors(self.method, each.optim)
        if self.method.varies_batch or as_method(self.model).varies_batch:
            # cuDNN would time its algorithms again in every step.
            torch.backends.cudnn.benchmark = False
        if config.compile:
            self.model.compile()
            # Other methods have a `forward` of their own that does not call the model's.
            if self.method is not self.model and not isinstance(self.method, Supervised):
                self.method.compile()
        if distributed.world_size() > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            # Buffers need no broadcast. Queues of keys take many megabytes, and are equal in all ranks because one
            # seed draws them. Of the batch-norm statistics an evaluation takes the first rank's.
            with warnings.catch_warnings():
                # torch 2.13 renames `broadcast_buffers`; earlier versions do not know the new name.
                warnings.simplefilter("ignore", FutureWarning)
                self.network = DistributedDataParallel(
                    self.method,
                    device_ids=ids,
                    find_unused_parameters=self.method.has_unused_parameters or self._losses_change(),
                    broadcast_buffers=False,
                )
        task.opened(self)

    def _losses_change(self) -> bool:
        """Whether phases have different losses, so that parts of the network may have no gradient in one of them."""
        return len({frozenset(phase.losses) for phase in self.schedule}) > 1

    def part_loader(self, feeder: Feeder) -> Loader:
        """Batches of a part's clips, with the settings for training or for evaluation."""
        config, train = self.config, feeder.part == "train"
        batch_size = config.batch_size if train else config.test_batch_size
        return self.loader(
            feeder,
            self.task.views(feeder.part),
            batch_size=batch_size,
            shuffle=train,
            # A short last batch would give its clips more weight. It stays where it is the only batch.
            drop_last=train
            and max(len(feeder), config.min_epoch_clip) >= batch_size * distributed.world_size(),
            min_clip=config.min_epoch_clip,
            balanced=train and config.data.balanced,
            num_future=self.task.num_future(self, feeder.part),
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
        """Batches of this rank's share of a feeder's clips; see `feeder.loader.Loader`."""
        data = self.config.data
        return Loader(
            feeder,
            [view_of(view, self.config, feeder.skeleton, self.task.packages) for view in views],
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
        """A loader of the same clips in other views, each clip once and in order."""
        made = [view_of(view, self.config, loader.feeder.skeleton, self.task.packages) for view in views]
        return loader.with_views(made, batch_size=self.config.test_batch_size)

    def feeder(self, part: Part, **changes: Any) -> Feeder:
        """The clips of a part that the task uses. `changes` replace keys of the config's `data`."""
        return self.task.feeder(self, part, **changes)

    def open_feeder(self, part: Part, **changes: Any) -> Feeder:
        """All clips of a part. `changes` replace keys of the config's `data`."""
        data = {**asdict(self.config.data), **changes}
        for key in ("path", "first_label", "cache", "num_worker", "balanced"):
            del data[key]
        every_class = self.task.names_actions
        return Feeder(self.source, self.config.benchmark, part=part, every_class=every_class, **data)

    def autocast(self) -> torch.autocast:
        """Context in which the network computes in the run's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def watch(self, loader: Loader) -> Iterator[Batch]:
        """The batches of a part with a progress bar; in debug mode the first `DEBUG_BATCHES` only."""
        return islice(
            progress(loader.iterate(), loader.feeder.part, total=len(loader)),
            DEBUG_BATCHES if self.config.debug else None,
        )


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16; without them bf16 is slower than float32."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def set_precision(precision: str) -> None:
    """Let CUDA devices round the inputs of float32 products to TF32 if the precision is `tf32`, otherwise not."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    # Convolutions have a separate switch.
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
