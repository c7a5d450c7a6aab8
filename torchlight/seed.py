"""Seeds derived from the seed of a run, for single draws and for the global generators."""

import hashlib
import json
import os
import random

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """The seed of one draw, from the parts that identify it (seed of the run, epoch, step, rank, …).

    The same parts give the same seed in every process, Python version and machine. Other parts, another order, or
    another type (`1` and `"1"`) give an unrelated seed.

    Returns:
        An integer in [0, 2**63), for `torch.Generator.manual_seed` or `numpy.random.default_rng`.

    Raises:
        TypeError: a part is neither an int nor a str.
    """
    for part in parts:
        if not isinstance(part, (int, str)):
            raise TypeError(
                f"a seed is derived from ints and strings, not from {part!r} ({type(part).__name__})"
            )
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed the global generators of Python, NumPy and torch (every device).

    Args:
        seed: the run's seed.
        deterministic: use algorithms of torch and cuDNN that repeat bit for bit, and warn about operations that have
            none. If False, cuDNN may measure its algorithms and choose the fastest.
    """
    random.seed(derive_seed(seed, "python"))
    np.random.seed(derive_seed(seed, "numpy") % 2**32)  # noqa: NPY002 - libraries draw from the global one
    torch.manual_seed(derive_seed(seed, "torch"))
    if deterministic:
        # cuBLAS reads this when its first handle is made. Without it, torch refuses to run cuBLAS kernels.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Filling new tensors would only help to find reads of uninitialised memory. It costs 7 % of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
