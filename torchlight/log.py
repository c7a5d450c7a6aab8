"""What a run says and writes down: console, log.txt, metrics.csv, TensorBoard; and whose work_dir it is."""

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
    """Another process is running in a work_dir."""


@contextmanager
def work_dir_lock(work_dir: str | Path) -> Iterator[None]:
    """Make a work_dir, and keep other processes out for as long as this one lives in it, however it ends.

    Raises:
        NotADirectoryError: a file is in its place.
        WorkDirInUse: another process is there; says which, and since when.
    """
    if Path(work_dir).exists() and not Path(work_dir).is_dir():
        raise NotADirectoryError(f"work_dir {work_dir} is a file; choose a folder with -w")
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    # Beside the lock: Windows lets no other process read a locked file.
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
    """The same items, with a bar where the main process has a terminal."""
    silent = not (distributed.is_main() and sys.stderr.isatty())
    return iter(tqdm(iterable, title, total=total, disable=silent, leave=False, dynamic_ncols=True))


class RunLog:
    """The written record of a run: lines, and one row of metrics an epoch.

    Args:
        work_dir: where log.txt, metrics.csv and TensorBoard's events go; all continue where an earlier log of
            the same run ended.
        tensorboard: write events, too.
        writer: whether this process is the one that writes; otherwise nothing here does anything.

    Raises:
        ValueError: `tensorboard`, and the package is not installed.
    """

    def __init__(self, work_dir: str | Path, *, tensorboard: bool, writer: bool) -> None:
        if tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "tensorboard=true needs that package: pip install tensorboard, or tensorboard=false"
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
        """A line on the console and in log.txt, with the time."""
        if self._writer:
            self._logger.info(text)

    def metrics(self, epoch: int, values: Mapping[str, float]) -> None:
        """A row of metrics.csv, a point of each curve in TensorBoard, and a line.

        Args:
            epoch: counted from 0; people are shown it counted from 1.
            values: by name; a name that earlier rows lack becomes a column.
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
        """Forget the metrics of epochs later than `epoch`, counted from 0, as a run goes on from there."""
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
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and not every run wants it

            # Points of a killed run past this epoch are hidden, as they are dropped from metrics.csv.
            self._events = SummaryWriter(str(self.work_dir), purge_step=self._first_epoch + 1)
        return self._events


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


class _Console(logging.Handler):
    """Standard output, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        with naming("standard output"):
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()


class _LogFile(logging.FileHandler):
    """A file that a line cannot be lost from without an error: logging itself would print a trace and go on."""

    def emit(self, record: logging.LogRecord) -> None:
        with naming(self.baseFilename):
            super().emit(record)

    def close(self) -> None:
        # Every line was flushed. What could not be is tried once more here, and would hide the first error.
        with suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        raise
