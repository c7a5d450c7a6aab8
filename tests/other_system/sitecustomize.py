"""Makes Python refuse what Windows and macOS refuse; it is loaded at the start of a process whose path it is on.

No `fcntl`, no `os.fork`, no masks of signals, no signals that only POSIX knows; folders cannot be opened, files that
are open or mapped cannot be replaced or removed, nor folders replaced, and files open to read cannot be synced.
"""

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path

for module in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[module] = None
for name in ("fork", "forkpty", "killpg", "sched_getaffinity", "mkfifo"):
    if hasattr(os, name):
        delattr(os, name)
for name in (
    "pthread_sigmask",
    "SIG_BLOCK",
    "SIG_UNBLOCK",
    "SIG_SETMASK",
    "SIGKILL",
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
):
    if hasattr(signal, name):
        delattr(signal, name)
# As they are on Windows.
shutil._use_fd_functions = False
tempfile.TemporaryFile = tempfile.NamedTemporaryFile
multiprocessing.get_all_start_methods = lambda: ["spawn"]
multiprocessing.set_start_method("spawn")
if sys.flags.warn_default_encoding:
    own = r"(torchlight|net|feeder|processor|data_gen|tools|main|stage1|stage2)\b"
    warnings.filterwarnings("error", category=EncodingWarning, module=own)

_open, _fsync = os.open, os.fsync


def _refuse(what: str, path: object) -> None:
    raise PermissionError(errno.EACCES, what, str(path))


def _in_use(path: object) -> bool:
    """Whether this process has a file open, or mapped."""
    real = os.path.realpath(path)
    held = {os.path.realpath(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()}
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    return real in held or f" {real}\n" in mapped


def open_file(path, flags, *args, **options):
    """`os.open`, but of no folder."""
    if isinstance(path, (str, bytes, os.PathLike)) and os.path.isdir(path):
        _refuse("a folder is opened", path)
    return _open(path, flags, *args, **options)


def sync(descriptor):
    """`os.fsync`, but of nothing that is open to read alone."""
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    flags = Path(f"/proc/self/fdinfo/{number}").read_text(encoding="ascii").split("flags:")[1].split()[0]
    if int(flags, 8) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "a file that is open to read is synced")
    _fsync(descriptor)


def _guarded(function, paths):
    def guarded(*args, **options):
        for path in args[:paths]:
            if os.path.isfile(path) and _in_use(path):
                _refuse("an open file is replaced, renamed or removed", path)
        if paths == 2 and os.path.isdir(args[1]):
            _refuse("a folder is replaced", args[1])
        return function(*args, **options)

    return guarded


os.open, os.fsync = open_file, sync
os.replace, os.rename = _guarded(os.replace, 2), _guarded(os.rename, 2)
os.unlink, os.remove = _guarded(os.unlink, 1), _guarded(os.remove, 1)
