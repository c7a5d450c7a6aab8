"""Skeleton and sizes of NTU RGB+D 60, which most benchmarks use."""

import torch
from torch import Tensor

from net.utils.graph import Graph

LAYOUT = "ntu-rgb+d"
NUM_CLASS = 60
# Training clips of benchmark xsub.
NUM_CLIP = 40_091
# Bodies of five clips: four of five clips show one person.
BODIES = (1, 1, 1, 1, 2)


def adjacency(strategy: str, layout: str = LAYOUT, *, max_hop: int = 1) -> Tensor:
    """(K, V, V) float32."""
    return torch.from_numpy(Graph(layout, strategy, max_hop=max_hop).A).float()
