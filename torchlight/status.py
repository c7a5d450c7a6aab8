"""The exit status of a command."""

import os
import signal
import sys
from collections.abc import Callable

from torchlight.config import ConfigError


def status_of(work: Callable[[], int | None]) -> int:
    """The exit status of a command, after doing its work. Prints errors that a user can correct to standard error.

    Returns:
        The result of `work`, or 0 for None; 2 after ConfigError, 1 after OSError or ValueError, 130 after Ctrl-C. After
        BrokenPipeError it is 1, without a message.
    """
    try:
        return work() or 0
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of the output has ended. Without this, Python prints the error again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
