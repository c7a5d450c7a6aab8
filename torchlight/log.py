"""The log of a run: console, log.txt, metrics.csv, TensorBoard; and the lock of a work_dir."""

import csv
import importlib.util
import io
import logging
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from tqdm import tqdm

from torchlight import distributed
from torchlight.files import atomic_write, naming

T = TypeVar("T")


class WorkDirInUse(OSError):
    """Another process is using a work_dir."""


@contextmanager
def work_dir_lock(work_dir: str | Path) -> Iterator[None]:
    """Make a work_dir, and lock it against other processes. The lock ends with the context or with the process.

    Raises:
        NotADirectoryError: work_dir is a file.
        WorkDirInUse: another process holds the lock. The message says which, and since when.
    """
    if Path(work_dir).exists() and not Path(work_dir).is_dir():
        raise NotADirectoryError(f"work_dir {work_dir} is a file; choose a folder with -w")
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    # In a file of its own, because on Windows no other process can read a locked file.
    holder = Path(work_dir) / ".lock.holder"
    try:
        lock = FileLock(Path(work_dir) / ".lock").acquire(timeout=0)
    except Timeout:
        who = holder.read_text(encoding="utf-8").strip() if holder.exists() else ""
        raise WorkDirInUse(
            f"work_dir {work_dir} is in use by {who or 'another process'}; "
            "wait for it, or choose another with -w"
        ) from None
    who = f"process {os.getpid()} on {socket.gethostname()} since {_now()}\n"
    with lock:
        with naming(holder):
            holder.write_text(who, encoding="utf-8")
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def progress(iterable: Iterable[T], title: str, *, total: int | None = None) -> Iterator[T]:
    """The items of `iterable`, with a progress bar if this is the main process and has a terminal."""
    silent = not (distributed.is_main() and sys.stderr.isatty())
    return iter(tqdm(iterable, title, total=total, disable=silent, leave=False, dynamic_ncols=True))


class RunLog:
    """The log of a run: lines of text, and one row of metrics per epoch.

    Args:
        work_dir: the folder of log.txt, metrics.csv and TensorBoard's events. A resumed run appends to its files.
        tensorboard: write events, too.
        writer: whether this process writes. If False, all methods do nothing.

    Raises:
        ValueError: `tensorboard` is true, but the package is not installed.
    """

    def __init__(self, work_dir: str | Path, *, tensorboard: bool, writer: bool) -> None:
        if tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "tensorboard=true needs the package: pip install tensorboard, or set tensorboard=false"
            )
        self.work_dir = Path(work_dir)
        self._tensorboard = tensorboard
        self._events: Any = None
        self._first_epoch = 0
        # Not registered under a name, so that two logs in one process do not share handlers.
        self._logger = logging.Logger("longskel")
        self._writer = writer
        if writer:
            self.work_dir.mkdir(parents=True, exist_ok=True)
            formatter = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
            for handler in (_Console(), _LogFile(self.work_dir / "log.txt", encoding="utf-8")):
                handler.setFormatter(formatter)
                self._logger.addHandler(handler)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def _table(self) -> Path:
        return self.work_dir / "metrics.csv"

    def info(self, text: str) -> None:
        """Write a line, with the time, to the console and log.txt."""
        if self._writer:
            self._logger.info(text)

    def metrics(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write a line, a row of metrics.csv, and a point of each curve in TensorBoard.

        Args:
            epoch: counted from 0. The log counts it from 1.
            values: by name. A new name becomes a new column.
        """
        if not self._writer:
            return
        self.info(
            f"epoch {epoch + 1}: " + ", ".join(f"{name} {_short(value)}" for name, value in values.items())
        )
        row = {"epoch": epoch + 1, **values}
        columns, rows = self._read_table()
        new = [name for name in row if name not in columns]
        if new:
            self._write_table([*columns, *new], [*rows, row])
        else:
            with naming(self._table), self._table.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns).writerow(row)
        if self._tensorboard:
            events = self._open_events()
            for name, value in values.items():
                events.add_scalar(name, value, epoch + 1)
            events.flush()

    def truncate_after(self, epoch: int) -> None:
        """Drop the metrics of epochs after `epoch`, counted from 0, because the run resumes from it."""
        self._first_epoch = epoch + 1
        if self._writer and self._table.exists():
            columns, rows = self._read_table()
            self._write_table(columns, [row for row in rows if int(row["epoch"]) <= epoch + 1])

    def close(self) -> None:
        """Close the files."""
        for handler in list(self._logger.handlers):
            self._logger.removeHandler(handler)
            handler.close()
        if self._events is not None:
            self._events.close()

    def _read_table(self) -> tuple[list[str], list[dict[str, Any]]]:
        """Columns and rows, without a row that a killed process left half written."""
        if not self._table.exists():
            return [], []
        lines = self._table.read_text(encoding="utf-8").splitlines(keepends=True)
        reader = csv.DictReader(line for line in lines if line.endswith("\n"))
        return list(reader.fieldnames or []), list(reader)

    def _write_table(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, columns)
        table.writeheader()
        table.writerows(rows)
        with atomic_write(self._table) as file:
            file.write(text.getvalue().encode())

    def _open_events(self) -> Any:
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and not every run needs it

            # Hide the points that a killed run wrote for later epochs. metrics.csv drops their rows, too.
            self._events = SummaryWriter(str(self.work_dir), purge_step=self._first_epoch + 1)
        return self._events


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


class _Console(logging.Handler):
    """Writes to standard output, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        with naming("standard output"):
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()


class _LogFile(logging.FileHandler):
    """Writes to a file, and raises an error if a line is lost. `logging` itself would only print a traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        with naming(self.baseFilename):
            super().emit(record)

    def close(self) -> None:
        # Every line was flushed already. A failed flush is tried again here, and its error would hide the first one.
        with suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        raise
