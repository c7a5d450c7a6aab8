"""Reads raw `.skeleton` files of NTU RGB+D.

The format has one item per line: the number of frames T; per frame the number of bodies; per body a header of 10
values, the number of joints (25), and 25 lines of 12 values. The first value of the header is the body's id. The first
three values of a joint are x, y, z in metres.
"""

import codecs

import numpy as np

from feeder.recordings.recording import Recording, RecordingError

NUM_JOINT = 25
MAX_BODY = 6
HEADER_VALUES = 10
JOINT_VALUES = 12
BODY_LINES = 2 + NUM_JOINT
FLOAT32_MAX = float(np.finfo(np.float32).max)
WIDTH = 16  # characters of a number that are read at once
NEWLINE, RETURN, SPACE, POINT, MINUS, ZERO, TWO, FIVE, NINE = b"\n\r .-0259"
POWERS_OF_TEN = 10 ** np.arange(WIDTH, dtype=np.uint64)


class _IrregularError(Exception):
    """The fast reader cannot read this file; the slow one may, or its error says what is wrong."""


def parse_skeleton(data: bytes) -> Recording:
    """The recording in the content of a file.

    Coordinates are rounded as by `float`, then to float32. Frames without bodies are kept. Other columns are not
    used, but must be numbers; they may be NaN or infinite.

    Raises:
        RecordingError: the file is not of the format (cut short, other counts, not numbers, NaN or infinite
            coordinates, more text after the last frame), or no frame has a body.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return _parse_at_once(data)
    except (_IrregularError, RecordingError):
        return _parse_by_line(data)


def _parse_by_line(data: bytes) -> Recording:
    """`parse_skeleton`, line by line: slow, but accepts any blanks, and errors name the line."""
    lines = data.rstrip().splitlines()
    at = 0

    def values(what: str) -> list[bytes]:
        nonlocal at
        if at == len(lines):
            raise RecordingError(at or None, f"the file ends where {what} should follow")
        at += 1
        return lines[at - 1].split()

    def count(what: str) -> int:
        words = values(what)
        if len(words) != 1 or not words[0].isdigit() or len(words[0]) > 9:
            raise RecordingError(at, f"{_show(lines[at - 1])} is not {what}")
        return int(words[0])

    def numbers(what: str, expected: int, *, used: int) -> list[float]:
        words = values(what)
        if len(words) != expected:
            raise RecordingError(at, f"{len(words)} values, but {what} has {expected}")
        for word in words[used:]:
            check_number(word, at)
        return [read_number(word, at) for word in words[:used]]

    num_body: list[int] = []
    body: list[int] = []
    joints: list[list[float]] = []
    ids: dict[bytes, int] = {}
    num_frame = count("the number of frames")
    for frame in range(num_frame):
        where = f"of frame {frame + 1} of {num_frame}"
        num_body.append(count(f"the number of bodies {where}"))
        if num_body[-1] > MAX_BODY:
            raise RecordingError(at, f"{num_body[-1]} bodies {where}; the sensor follows {MAX_BODY} at most")
        for _ in range(num_body[-1]):
            numbers(f"the header of a body {where}", HEADER_VALUES, used=0)
            body.append(ids.setdefault(lines[at - 1].split()[0], len(ids)))
            num_joint = count(f"the number of joints of a body {where}")
            if num_joint != NUM_JOINT:
                raise RecordingError(at, f"{num_joint} joints in a body {where}; needed are {NUM_JOINT}")
            joints += [numbers(f"a joint {where}", JOINT_VALUES, used=3) for _ in range(NUM_JOINT)]
    if at < len(lines):
        raise RecordingError(at + 1, f"more text after the last of {num_frame} frames")
    if not body:
        raise RecordingError(None, f"none of the {num_frame} frames has a body")
    return Recording(
        np.array(num_body), np.array(body), np.array(joints, np.float32).reshape(-1, NUM_JOINT, 3)
    )


def check_number(word: bytes, line: int) -> float:
    """A number, which may be NaN or infinite. Raises RecordingError for any other word."""
    try:
        number = float(word)
    except ValueError:
        raise RecordingError(line, f"{_show(word)} is not a number") from None
    if b"_" in word:  # valid in Python, but not in the format
        raise RecordingError(line, f"{_show(word)} is not a number")
    return number


def read_number(word: bytes, line: int) -> float:
    """A number that float32 can hold. Raises RecordingError for any other word."""
    number = check_number(word, line)
    if not abs(number) <= FLOAT32_MAX:
        raise RecordingError(line, f"{_show(word)} is not a finite number")
    return number


def _show(text: bytes) -> str:
    """The first 20 bytes of `text` in ASCII, for a message."""
    return repr(text[:20]).removeprefix("b") + ("..." if len(text) > 20 else "")


def _require(regular: bool | np.bool_) -> None:
    if not regular:
        raise _IrregularError


def _parse_at_once(data: bytes) -> Recording:
    """`parse_skeleton` for files with single blanks between values and one kind of line end.

    Shapes: L lines, B bodies.

    Raises _IrregularError or RecordingError: the file has another form.
    """
    _require(data.endswith(b"\n"))
    text = np.frombuffer(data, np.uint8)
    if text.max() > NINE:
        _check_letters(data, np.flatnonzero(text > NINE))
    crlf = int(data[: data.index(b"\n")].endswith(b"\r"))
    gaps = np.flatnonzero(text <= SPACE)
    kinds = text[gaps]
    ends = np.flatnonzero(kinds == NEWLINE)  # (L,) of lines, as indices into gaps
    _require(np.count_nonzero(kinds == SPACE) + len(ends) * (1 + crlf) == len(gaps))
    _require(not crlf or (text[gaps[ends] - 1] == RETURN).all())

    num_value = np.diff(ends, prepend=-1) - crlf
    line_end = gaps[ends] - crlf
    line_start = np.concatenate([[0], gaps[ends[:-1]] + 1])
    header = np.flatnonzero(num_value == HEADER_VALUES)  # (B,) lines
    num_body = _count_bodies(data, line_start, line_end, header)
    joint = (header[:, None] + np.arange(2, BODY_LINES)).reshape(-1)  # (B * 25,) lines
    _require((num_value[joint] == JOINT_VALUES).all())

    around = gaps[ends[joint - 1] + np.arange(4)[:, None]]  # (4, B * 25) bytes before x, y, z, and after z
    values = _read_numbers(data, around[:3].reshape(-1) + 1, around[1:].reshape(-1))
    joints = np.ascontiguousarray(values.reshape(3, -1, NUM_JOINT).transpose(1, 2, 0))

    ids: dict[bytes, int] = {}
    id_bytes = zip(line_start[header].tolist(), gaps[ends[header - 1] + 1].tolist(), strict=True)
    body = [ids.setdefault(data[start:end], len(ids)) for start, end in id_bytes]
    return Recording(num_body, np.array(body), joints)


def _check_letters(data: bytes, positions: np.ndarray) -> None:
    """Raise RecordingError if a line with letters at `positions` holds anything but numbers (1e-05, nan)."""
    checked = -1
    for position in positions.tolist():
        if position > checked:
            start, checked = data.rfind(b"\n", 0, position) + 1, data.index(b"\n", position)
            for word in data[start:checked].split():
                check_number(word, 0)


def _count_bodies(
    data: bytes, line_start: np.ndarray, line_end: np.ndarray, header: np.ndarray
) -> np.ndarray:
    """Number of bodies of each frame (T,). Raises _IrregularError if lines are not in the order of the format.

    line_start, line_end: (L,) bytes at which each line begins and before which it ends.
    header: (B,) numbers of the lines with the bodies' headers.
    """
    text = np.frombuffer(data, np.uint8)
    num_line = len(line_start)
    _require(len(header) > 0 and header[-1] + BODY_LINES <= num_line)
    num_joint = line_start[header + 1]
    _require((line_end[header + 1] - num_joint == 2).all())
    _require((text[num_joint] == TWO).all() and (text[num_joint + 1] == FIVE).all())

    is_frame = np.ones(num_line, bool)
    is_frame[0] = False
    is_frame[header[:, None] + np.arange(BODY_LINES)] = False
    frame = np.flatnonzero(is_frame)  # (T,) lines with a number of bodies
    _require(data[: line_end[0]] == b"%d" % len(frame))
    num_body = text[line_start[frame]].astype(np.int64) - ZERO
    _require((line_end[frame] - line_start[frame] == 1).all() and (num_body <= MAX_BODY).all())
    # Each frame is followed by its number of bodies, and there are no other bodies: so no two overlap.
    _require((np.diff(frame, append=num_line) == 1 + BODY_LINES * num_body).all())
    _require(num_body.sum() == len(header))
    return num_body


def _read_numbers(data: bytes, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Numbers at the bytes [start, end) as float32 (n,); each ends at least WIDTH bytes into `data`.

    Plain decimals of at most WIDTH characters are read all at once. 15 digits and a point give a whole number below
    2^53 and a power of ten up to 10^15. Both are exact in float64, so their quotient is the float64 nearest to the
    text. Other numbers (exponents, more digits) are read by `float`.
    """
    text = np.frombuffer(data, np.uint8)
    windows: np.ndarray = np.ndarray(len(data) - WIDTH + 1, f"V{WIDTH}", data, strides=(1,))
    chars = windows[end - WIDTH].view(np.uint8).reshape(-1, WIDTH).T.copy()  # (WIDTH, n)
    negative = text[start] == MINUS
    length = end - start - negative
    inside = np.arange(WIDTH, 0, -1, dtype=np.uint8)[:, None] <= length.astype(np.uint8)
    digits = chars - np.uint8(ZERO)
    is_digit = (digits < 10) & inside
    is_point = (chars == POINT) & inside
    num_digit = is_digit.sum(0, dtype=np.uint8)
    num_point = is_point.sum(0, dtype=np.uint8)
    plain = (num_digit > 0) & (num_point <= 1) & (num_digit + num_point == length)

    number = digits * is_digit  # neighbours join to numbers of 2, 4, 8, 16 digits, each just fitting its type
    for scale in (np.uint8(10), np.uint16(10**2), np.uint32(10**4), np.uint64(10**8)):
        number = number[0::2].astype(scale.dtype) * scale + number[1::2]
    whole = number[0]
    # The point was read as a digit 0: the digits before it count tenfold.
    places = np.arange(WIDTH - 1, -1, -1, dtype=np.uint8)[:, None]
    power = POWERS_OF_TEN[plain * (is_point * places).sum(0, dtype=np.uint8)]
    before = np.where(num_point == 1, whole // (10 * power), np.uint64(0))
    values = (whole - 9 * power * before).astype(np.float64) / power.astype(np.float64)
    np.negative(values, out=values, where=negative)

    for index in np.flatnonzero(~plain).tolist():
        values[index] = read_number(data[start[index] : end[index]], 0)
    return values.astype(np.float32)
