"""Fitting a whitening to training clips, before features are compared or classified."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from net.encoder import Encoder
from net.whitening import Whitening
from processor.config import Range, ViewConfig
from processor.features import extract_features, refuse_collapse
from torchlight.seed import derive_seed

if TYPE_CHECKING:
    from processor.experiment import Experiment


@dataclass
class WhitenConfig:
    """Keys of tasks that compare or classify features; see `Whitening.by_views`."""

    # random view; whitening reduces the differences between such views of a clip, without labels; null: no whitening
    whiten_view: ViewConfig | None = None
    # number of such views of each clip
    whiten_repeat: int = 8
    # largest number of training clips for the whitening
    whiten_clip: int = 2048


WHITEN_RANGES: tuple[Range, ...] = (
    ("whiten_repeat", lambda value: value >= 2, "2 or more, so that views differ"),
    ("whiten_clip", lambda value: value >= 1, "1 or more"),
)


def draw_clips(run: "Experiment", config: WhitenConfig, count: int) -> np.ndarray:
    """Indices of clips to fit the whitening to, drawn from `count`, sorted: (at most whiten_clip,) int64."""
    rng = np.random.default_rng(derive_seed(run.config.seed, "whitening"))
    return np.sort(rng.permutation(count)[: config.whiten_clip])


def fit_whitening(run: "Experiment", config: WhitenConfig, whitening: Whitening, encoder: Encoder) -> None:
    """Fit `whitening` to views of training clips, labelled or not; see `Whitening.by_views`.

    Raises:
        ValueError: the encoder has collapsed, or views of a clip do not differ.
    """
    assert config.whiten_view is not None
    feeder = run.feeder("train", label_fraction=1.0)
    loader = run.loader(
        feeder.take(draw_clips(run, config, len(feeder))),
        [config.whiten_view] * config.whiten_repeat,
        batch_size=run.config.test_batch_size,
        shuffle=False,
    )
    features = extract_features(encoder, loader, run.watch(loader), run.autocast())
    refuse_collapse(features, run.config.weights)
    whitening.by_views(features)
