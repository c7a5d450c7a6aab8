"""One seed for everything: where each draw's own seed comes from, and the global generators."""

import hashlib
import json
import os
import random

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """Seed of one draw, from what names it (run seed, epoch, step, rank, …).

    The same parts give the same seed in every process, Python version and machine; other parts, or the same
    ones in another order or of another type (`1` and `"1"`), give an unrelated one.

    Returns:
        An integer in [0, 2**63), as `torch.Generator.manual_seed` and `numpy.random.default_rng` take it.

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
        deterministic: ask torch and cuDNN for the algorithms that repeat bit for bit, with a warning where an
            operation has none. Otherwise cuDNN may time its algorithms and take the fastest.
    """
    random.seed(derive_seed(seed, "python"))
    np.random.seed(derive_seed(seed, "numpy") % 2**32)  # noqa: NPY002 - libraries draw from the global one
    torch.manual_seed(derive_seed(seed, "torch"))
    if deterministic:
        # cuBLAS reads this when its first handle is made, and torch refuses its kernels without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Filling every new tensor first finds reads of memory never written, and costs 7 % of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
