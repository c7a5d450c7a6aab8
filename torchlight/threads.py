"""How the threads of a command behave beside other work."""

import os


def wait_passively() -> None:
    """Have threads that wait for others sleep, unless the environment says otherwise; call it before torch is loaded.

    By default they spin: beside a process that keeps a core busy, each step then waits for a thread that is not
    running, and training takes several times as long. Only commands call this, for it concerns the whole process.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
