"""Answers about windows become answers for frames: against a slow reference and by hand."""

import numpy as np
import pytest

from processor.timeline import frame_labels, frame_probabilities, segments, window_ends


@pytest.mark.parametrize(
    ("num_frame", "window", "stride", "expected"),
    [
        (40, 32, 8, [31, 39]),
        (50, 32, 8, [31, 39, 47, 49]),
        (20, 32, 8, [19]),
        (1, 32, 8, [0]),
        (32, 32, 8, [31]),
        (10, 4, 3, [3, 5, 8, 9]),
        (5, 2, 10, [1, 4]),
    ],
)
def test_window_ends(num_frame: int, window: int, stride: int, expected: list[int]) -> None:
    assert window_ends(num_frame, window, stride) == expected


@pytest.mark.parametrize(
    ("num_frame", "window", "stride"), [(50, 32, 8), (20, 32, 8), (100, 16, 5), (7, 3, 3)]
)
def test_each_frame_has_the_mean_of_the_windows_that_cover_it(
    num_frame: int, window: int, stride: int
) -> None:
    ends = window_ends(num_frame, window, stride)
    probability = np.random.default_rng(0).dirichlet(np.ones(4), len(ends))
    found = frame_probabilities(ends, probability, num_frame=num_frame, window=window)
    for frame in range(num_frame):
        covering = [
            p for end, p in zip(ends, probability, strict=True) if max(0, end + 1 - window) <= frame <= end
        ]
        assert covering
        np.testing.assert_allclose(found[frame], np.mean(covering, 0), atol=1e-9)


def test_labels_and_segments() -> None:
    probability = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.0, 0.0], [0.7, 0.3]])
    label = frame_labels(probability)
    assert label.tolist() == [0, 0, 1, -1, 0]
    assert frame_labels(probability, 0.65).tolist() == [0, 0, -1, -1, 0]
    found = segments(label, probability)
    assert [(s.first, s.last, s.label) for s in found] == [(0, 1, 0), (2, 2, 1), (3, 3, -1), (4, 4, 0)]
    assert found[0].probability == pytest.approx(0.85)


def test_no_window_reaches_across_a_cut() -> None:
    """Each part is a recording of its own."""
    cuts, lengths = [20, 27], (20, 7, 23)
    ends = window_ends(50, 8, 4, cuts)
    probability = np.random.default_rng(0).dirichlet(np.ones(3), len(ends))
    found = frame_probabilities(ends, probability, num_frame=50, window=8, cuts=cuts)
    expected, first, used = [], 0, 0
    for length in lengths:
        of_part = window_ends(length, 8, 4)
        assert ends[used : used + len(of_part)] == [first + end for end in of_part]
        values = probability[used : used + len(of_part)]
        expected.append(frame_probabilities(of_part, values, num_frame=length, window=8))
        first, used = first + length, used + len(of_part)
    assert used == len(ends)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-9)
