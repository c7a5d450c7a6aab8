"""Settings for the threads of a command that shares its machine with other work."""

import os


def wait_passively() -> None:
    """Let waiting OpenMP threads sleep, unless the environment sets OMP_WAIT_POLICY. Call it before torch is imported.

    By default, waiting threads spin. If another process keeps a core busy, each step then waits for a thread that is
    not running, and training takes several times as long. Only commands call this, because it affects the whole
    process.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
