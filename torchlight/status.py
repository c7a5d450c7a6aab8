"""The exit status of a command."""

import os
import signal
import sys
from collections.abc import Callable

from torchlight.config import ConfigError


def status_of(work: Callable[[], int | None]) -> int:
    """Do a command's work and say on standard error what a user can mend.

    Returns:
        What `work` gives, 0 for None; 2 after ConfigError, 1 after OSError or ValueError, 130 after Ctrl-C. Where
        nothing reads the output any longer, it is 1 without a word.
    """
    try:
        return work() or 0
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Nothing reads the output any longer. Without this, Python says so once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
