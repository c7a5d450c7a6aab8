"""Running a network once to record it, as a graph that then serves clips of any number and content."""

import torch
from torch import Tensor


def is_traced() -> bool:
    """Whether `torch.jit.trace` or `torch.export` records what is computed."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def is_empty(bodies: Tensor) -> bool:
    """Whether there is no body in (B, ...), which batch norms refuse; never asked of a graph, which would keep B."""
    return not is_traced() and len(bodies) == 0
