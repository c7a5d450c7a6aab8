"""The parser of raw files against a textbook reader; and every way a file can be wrong."""

import codecs
import pickle
from pathlib import Path

import numpy as np
import pytest
from raw_skeleton import make_frames, textbook_read, to_text

from feeder.recordings import ntu
from feeder.recordings.ntu import parse_skeleton
from feeder.recordings.recording import Recording, RecordingError

REAL = "ntu_raw"
FIRST_JOINT = 4  # line, from 0, of the first joint of a file whose first frame has a body


def check_same(recording: Recording, data: bytes) -> None:
    frames = textbook_read(data)
    bodies = [body for frame in frames for body in frame]
    ids = list(dict.fromkeys(name for name, _ in bodies))
    assert recording.num_frame == len(frames)
    assert recording.num_body.tolist() == [len(frame) for frame in frames]
    assert recording.body.tolist() == [ids.index(name) for name, _ in bodies]
    assert recording.frame.tolist() == [t for t, frame in enumerate(frames) for _ in frame]
    assert recording.slot.tolist() == [slot for frame in frames for slot in range(len(frame))]
    assert recording.joints.dtype == np.float32
    np.testing.assert_array_equal(recording.joints, np.stack([joints for _, joints in bodies]))


@pytest.fixture
def quick_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: bytes) -> Recording:
        raise AssertionError("fell back to reading by line")

    monkeypatch.setattr(ntu, "_parse_by_line", refuse)


@pytest.fixture
def tidy() -> list[bytes]:
    """Lines of a sound file of 3 frames with 1, 0 and 2 bodies."""
    return to_text(make_frames(np.random.default_rng(0), [1, 0, 2])).splitlines()


def join(lines: list[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n"


@pytest.mark.usefixtures("quick_only")
def test_real_files(shared_data) -> None:
    paths = sorted(shared_data(REAL).glob("*.skeleton"))
    assert len(paths) == 12
    for path in paths:
        check_same(parse_skeleton(path.read_bytes()), path.read_bytes())


def test_reading_by_line_is_the_same_on_a_real_file(shared_data) -> None:
    data = (shared_data(REAL) / "S001C001P003R002A005.skeleton").read_bytes()
    check_same(ntu._parse_by_line(data), data)


@pytest.mark.usefixtures("quick_only")
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("form", ["{:.7g}", "{:.17g}", "{:.6e}", "{:.1f}", "{:.0f}", "{:.12f}", "{:+.4f}"])
@pytest.mark.parametrize("num_body", [[1] * 5, [0, 2, 0, 6, 1, 0], [1], [3, 3]])
def test_made_up_files(num_body: list[int], form: str, end: str) -> None:
    data = to_text(make_frames(np.random.default_rng(1), num_body), end=end, form=form)
    check_same(parse_skeleton(data), data)


@pytest.mark.usefixtures("quick_only")
def test_every_length_of_number() -> None:
    generator = np.random.default_rng(2)
    numbers = ["0", "-0", "0.0", "-0.000", ".5", "5.", "-.25", "9" * 15, "0." + "9" * 14, "1" * 16, "1" * 30]
    numbers += ["1e-45", "-3.4028234e38", "1E5", "0" * 258 + "1", "1." + "0" * 300, "3" * 17, "9" * 16]
    for length in range(1, 16):
        digits = "".join(generator.choice(list("0123456789"), length))
        numbers += [digits[:point] + "." + digits[point:] for point in range(length + 1)] + [f"-{digits}"]
    numbers += ["0"] * (-len(numbers) % 75)
    for start in range(0, len(numbers), 75):
        lines = to_text(make_frames(np.random.default_rng(0), [1])).splitlines()
        for joint in range(25):
            words = numbers[start + 3 * joint : start + 3 * joint + 3]
            lines[FIRST_JOINT + joint] = " ".join(words + ["1"] * 9).encode()
        check_same(parse_skeleton(join(lines)), join(lines))


@pytest.mark.parametrize(
    "untidy",
    [
        lambda data: data.replace(b" ", b"  "),
        lambda data: data.replace(b" ", b"\t"),
        lambda data: data.replace(b"\n", b" \n"),
        lambda data: b" " + data.replace(b"\n", b"\n "),
        lambda data: data.rstrip(),
        lambda data: data + b"\n \r\n\n",
        lambda data: data.replace(b"\n", b"\r\n").replace(b"\r\n", b"\n", 3),
        lambda data: data.replace(b"\n", b"\r\n", 3),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: data.replace(b"\n25\n", b"\n025\n"),
    ],
)
def test_odd_blanks_and_line_ends_are_read(tidy: list[bytes], untidy) -> None:
    check_same(parse_skeleton(untidy(join(tidy))), join(tidy))


def put(line: int, text: bytes):
    def change(lines: list[bytes]) -> list[bytes]:
        return [*lines[:line], text, *lines[line + 1 :]]

    return change


def word(line: int, column: int, text: bytes):
    def change(lines: list[bytes]) -> list[bytes]:
        words = lines[line].split()
        return put(line, b" ".join([*words[:column], text, *words[column + 1 :]]))(lines)

    return change


# The sound file: line 1 frames, 2 bodies, 3 header, 4 joint count, 5-29 joints, 30 no bodies, 31 two bodies,
# 32-58 and 59-85 the bodies.
@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (lambda lines: [], None, "ends where the number of frames should follow"),
        (lambda lines: lines[:1], 1, "number of bodies of frame 1 of 3"),
        (lambda lines: lines[:2], 2, "header of a body of frame 1 of 3"),
        (lambda lines: lines[:3], 3, "number of joints"),
        (lambda lines: lines[:20], 20, "a joint of frame 1 of 3 should follow"),
        (lambda lines: lines[:29], 29, "number of bodies of frame 2"),
        (lambda lines: lines[:58], 58, "header of a body of frame 3"),
        (lambda lines: [*lines[:19], b"0.1 0.2"], 20, "2 values, but a joint of frame 1 of 3 has 12"),
        (lambda lines: [*lines, b"1"], 86, "more text after the last of 3 frames"),
        (lambda lines: [*lines, *lines[30:]], 86, "more text"),
        (put(0, b"2"), 31, "more text after the last of 2 frames"),
        (put(0, b"4"), 85, "frame 4 of 4"),
        (put(0, b"999999999"), 85, "frame 4 of 999999999"),
        (put(0, b"9" * 5000), 1, "is not the number of frames"),
        (put(0, b"-3"), 1, "'-3' is not the number of frames"),
        (put(0, b"3.0"), 1, "'3.0' is not the number of frames"),
        (put(0, b"three"), 1, "'three' is not the number of frames"),
        (put(0, b""), 1, "'' is not the number of frames"),
        (put(0, b"0"), 2, "more text after the last of 0 frames"),
        (lambda lines: [b"0"], None, "none of the 0 frames has a body"),
        (lambda lines: [b"2", b"0", b"0"], None, "none of the 2 frames has a body"),
        (put(1, b"2"), 30, "1 values, but the header of a body of frame 1 of 3 has 10"),
        (put(1, b"0"), 3, "is not the number of bodies of frame 2 of 3"),
        (put(1, b"-1"), 2, "'-1' is not the number of bodies"),
        (
            lambda lines: put(1, b"2")(put(30, b"1")(lines)),
            30,
            "1 values, but the header of a body of frame 1",
        ),
        (put(1, b"12"), 2, "12 bodies of frame 1 of 3"),
        (lambda lines: [b"2", *lines[2:]], 2, "is not the number of bodies of frame 1 of 2"),
        (lambda lines: [*lines, *lines[2:29]], 86, "more text after the last of 3 frames"),
        (put(30, b"7"), 31, "7 bodies of frame 3 of 3; the sensor follows 6 at most"),
        (put(30, b":"), 31, "':' is not the number of bodies"),
        (put(30, b"/"), 31, "'/' is not the number of bodies"),
        (put(3, b"24"), 4, "24 joints in a body of frame 1 of 3; needed are 25"),
        (put(3, b"35"), 4, "35 joints"),
        (put(3, b"250"), 4, "250 joints"),
        (put(59, b"20"), 60, "20 joints in a body of frame 3"),
        (put(3, b"x5"), 4, "'x5' is not the number of joints"),
        (lambda lines: lines[:10] + lines[11:], 29, "1 values, but a joint"),
        (lambda lines: lines[:10] + lines[9:], 30, "is not the number of bodies"),
        (put(2, b"1 0 1 1 1 1 0 0.1 -0.2"), 3, "9 values, but the header"),
        (put(2, b"1 0 1 1 1 1 0 0.1 -0.2 2 3"), 3, "11 values, but the header"),
        (put(9, b"0 0 0 0 0 0 0 0 0 0"), 10, "10 values, but a joint"),
        (put(9, b"0 0 0 0 0 0 0 0 0 0 0 0 0"), 10, "13 values, but a joint"),
        (put(9, b""), 10, "0 values, but a joint"),
        (word(9, 0, b"nan"), 10, "'nan' is not a finite number"),
        (word(9, 1, b"-inf"), 10, "'-inf' is not a finite number"),
        (word(9, 2, b"1e39"), 10, "'1e39' is not a finite number"),
        (word(9, 2, b"9" * 39), 10, r"'99999999999999999999'\.\.\. is not a finite number"),
        (word(9, 0, b"abc"), 10, "'abc' is not a number"),
        (word(9, 0, b"1_0"), 10, "'1_0' is not a number"),
        (word(9, 0, b"0x10"), 10, "'0x10' is not a number"),
        (word(9, 0, b"1.2.3"), 10, "'1.2.3' is not a number"),
        (word(9, 0, b"--1"), 10, "'--1' is not a number"),
        (word(9, 0, b"1-1"), 10, "'1-1' is not a number"),
        (word(9, 0, b"-"), 10, "'-' is not a number"),
        (word(9, 0, b"."), 10, "'.' is not a number"),
        (word(9, 0, b"1,5"), 10, "'1,5' is not a number"),
        (word(9, 0, "é".encode()), 10, r"'\\xc3\\xa9' is not a number"),
        (word(9, 0, b"1\x002"), 10, r"'1\\x002' is not a number"),
        (word(9, 11, b"two"), 10, "'two' is not a number"),
        (word(2, 8, b"1_0"), 3, "'1_0' is not a number"),
        (word(84, 2, b"z"), 85, "'z' is not a number"),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_malformed_files(change, line: int | None, reason: str, end: bytes) -> None:
    lines = to_text(make_frames(np.random.default_rng(0), [1, 0, 2])).splitlines()
    with pytest.raises(RecordingError, match=reason) as caught:
        parse_skeleton(end.join(change(lines)) + end)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"line {line}: " if line else "")


@pytest.mark.usefixtures("quick_only")
@pytest.mark.parametrize("odd", [b"NaN", b"-inf", b"1e39"])
def test_columns_that_are_not_used_may_hold_any_number(tidy: list[bytes], odd: bytes) -> None:
    """Some sensors write NaN where a joint is not in the depth picture; its place in space is there all the same."""
    check_same(parse_skeleton(join(word(9, 7, odd)(word(2, 8, odd)(tidy)))), join(tidy))


def test_columns_that_are_not_used_by_line(tidy: list[bytes]) -> None:
    check_same(ntu._parse_by_line(join(word(9, 7, b"nan")(word(2, 8, b"inf")(tidy)))), join(tidy))


def test_a_byte_order_mark_is_passed_over(tidy: list[bytes]) -> None:
    check_same(parse_skeleton(codecs.BOM_UTF8 + join(tidy)), join(tidy))


def test_empty_and_binary_files() -> None:
    for data in (b"", b"\n", b"\0" * 5000, b"\n" * 5000, b" " * 5000, bytes(range(256)) * 20):
        with pytest.raises(RecordingError):
            parse_skeleton(data)


def test_random_damage_raises_nothing_else() -> None:
    """Bytes changed, cut and repeated: an error of the one kind, or what the textbook reader reads."""
    generator = np.random.default_rng(3)
    sound = to_text(make_frames(generator, [1, 0, 2]))
    for _ in range(1500):
        data = bytearray(sound)
        for _ in range(generator.integers(1, 4)):
            start, length = int(generator.integers(len(data))), int(generator.choice([0, 1, 1, 40, 2000]))
            pieces = [b"", b" ", b"\n", b"\r", b"7", b"e", b".", b"-", b"\xff", data[:length]]
            data[start : start + length] = pieces[generator.integers(len(pieces))]
        try:
            recording = parse_skeleton(bytes(data))
        except RecordingError:
            continue
        check_same(recording, bytes(data))


def test_seven_bodies() -> None:
    data = to_text(make_frames(np.random.default_rng(0), [1, 7], ids=tuple("1234567")))
    with pytest.raises(RecordingError, match="7 bodies of frame 2 of 2"):
        parse_skeleton(data)


def test_two_wrongs_do_not_make_a_right() -> None:
    """A doubled carriage return and a missing one, which count as one value more and one less."""
    lines = to_text(make_frames(np.random.default_rng(0), [1]), end="\r\n").splitlines(keepends=True)
    lines[1:3] = [b"10\n", lines[2].replace(b" 2\r", b"\r\r")]
    with pytest.raises(RecordingError, match="10 bodies of frame 1"):
        parse_skeleton(b"".join(lines))


def test_a_return_within_a_line_ends_it() -> None:
    data = to_text(make_frames(np.random.default_rng(0), [1]), end="\r\n").replace(b" 2\r\n", b" 2\r7\n", 1)
    with pytest.raises(RecordingError, match="7 joints in a body"):
        parse_skeleton(data)


def test_the_error_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(RecordingError(7, "odd")))
    assert (error.line, error.reason, str(error)) == (7, "odd", "line 7: odd")


def test_input_is_not_kept(tmp_path: Path) -> None:
    """Arrays of a recording own their memory: a data set's worth of them does not hold the files."""
    recording = parse_skeleton(to_text(make_frames(np.random.default_rng(0), [1, 2])))
    assert recording.joints.flags.owndata and recording.joints.flags.c_contiguous
