"""What evaluating a part of the data gives."""

from typing import NamedTuple

import numpy as np


class Evaluation(NamedTuple):
    """Figures for the log, and arrays over the clips of a part for files."""

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]
