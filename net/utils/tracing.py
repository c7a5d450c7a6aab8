"""Tracing: a network runs once and is recorded as a graph, which then runs on any number of clips."""

import torch
from torch import Tensor


def is_traced() -> bool:
    """Whether `torch.jit.trace` or `torch.export` is recording."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def is_empty(bodies: Tensor) -> bool:
    """Whether `bodies` (B, ...) holds none: batch norms fail on that. False in tracing: no graph must depend on B."""
    return not is_traced() and len(bodies) == 0
