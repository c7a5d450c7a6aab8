"""Reads JSON."""

import json
from pathlib import Path
from typing import Any

from feeder.recordings.recording import RecordingError

# Largest JSON file; reading takes about ten times as much memory. 12,000 frames of 40 detections are 210 MB.
MAX_BYTES = 1 << 28


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        RecordingError: the file is not JSON, or too large.
        OSError: the file cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise RecordingError(
            None, f"larger than {MAX_BYTES >> 20} MiB; cut it, or write its poses as an array (.npy)"
        )
    return parse_json(path.read_bytes())


def parse_json(data: bytes) -> Any:
    """The content of JSON text.

    Raises:
        RecordingError: the text is not JSON.
    """
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise RecordingError(error.lineno, f"not JSON: {error.msg}") from None
    except (
        ValueError,
        RecursionError,
    ):  # bytes that are not text, a number with too many digits, too deep lists
        raise RecordingError(None, "not JSON") from None
