import numpy as np
import pytest

from feeder.recordings.picture import to_picture
from feeder.recordings.recording import RecordingError


def test_pixels_are_counted_from_the_middle_in_heights_and_y_still_points_down() -> None:
    corner_middle_bottom = np.array([[0, 0, 0.9], [320, 240, 0.5], [640, 480, 1.0]])
    expected = [[-640 / 480 / 2, -0.5, 0.9], [0, 0, 0.5], [640 / 480 / 2, 0.5, 1.0]]
    np.testing.assert_allclose(to_picture(corner_middle_bottom, 640, 480), expected, atol=1e-7)


def test_a_joint_not_seen_is_zeros_throughout() -> None:
    with_confidence = np.array([[[100, 50, 0.0], [100, 50, 0.2]]], np.float16)
    assert to_picture(with_confidence, 200, 100).tolist() == [
        [[0, 0, 0], [0, 0, np.float32(np.float16(0.2))]]
    ]
    without = np.array([[0, 0], [0, 50]])
    assert to_picture(without, 200, 100).tolist() == [[0, 0], [-1, 0]]
    assert to_picture(np.array([[0.25, 1.0, 0.7], [0.3, 0.3, 0]]), 1, 1).tolist() == [
        [-0.25, 0.5, np.float32(0.7)],
        [0, 0, 0],
    ]


def test_what_is_given_stays_as_it_is() -> None:
    given = np.ones((2, 3), np.float32)
    assert to_picture(given, 4, 4).dtype == np.float32 and (given == 1).all()


@pytest.mark.parametrize("size", [(0, 480), (640, 0), (-1, 480), (float("nan"), 480), (640, float("inf"))])
def test_a_picture_without_size_is_refused(size: tuple[float, float]) -> None:
    with pytest.raises(RecordingError):
        to_picture(np.ones((1, 3)), *size)
