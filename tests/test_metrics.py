from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from processor.metrics import (
    classification_metrics,
    confusion,
    per_class_table,
    predicted_class,
    top_k_accuracy,
)

SCORES = np.array([[3.0, 2, 1], [1, 2, 3], [2, 3, 1], [3, 1, 2]])
LABEL = np.array([0, 1, 1, 2])


def test_top_k_by_hand():
    assert top_k_accuracy(SCORES, LABEL, 1) == 0.5
    assert top_k_accuracy(SCORES, LABEL, 2) == 1.0


def test_ties_and_nan_earn_nothing():
    assert top_k_accuracy(np.zeros((5, 4)), np.zeros(5, int), 1) == 0
    for k in (1, 4):
        assert top_k_accuracy(np.full((5, 4), np.nan), np.zeros(5, int), k) == 0


def test_a_tie_is_wrong_in_every_figure():
    scores, label = np.array([[1.0, 1], [0, 1]]), np.array([0, 1])
    metrics = classification_metrics(scores, label)
    assert (metrics["top1"], metrics["mean_class"]) == (0.5, 0.5)
    assert confusion(scores, label).tolist() == [[0, 1], [0, 1]]


def predicted_by_hand(row: list[float], own: int) -> int:
    others = [value for number, value in enumerate(row) if number != own]
    if all(row[own] > value for value in others):
        return own
    not_a_number = [number for number, value in enumerate(row) if np.isnan(value) and number != own]
    return min(
        not_a_number or (number for number, value in enumerate(row) if value == max(others) and number != own)
    )


def test_predicted_classes_with_ties_infinities_and_nan():
    values = [-np.inf, 0.0, 1.0, np.inf, np.nan]
    scores = np.array(list(product(values, repeat=3)), np.float32)
    for own in range(3):
        label = np.full(len(scores), own)
        found = predicted_class(torch.from_numpy(scores), torch.from_numpy(label))
        assert found.tolist() == [predicted_by_hand(row, own) for row in scores.tolist()]
        metrics = classification_metrics(scores, label)
        assert metrics["top1"] == metrics["mean_class"] == (found == own).float().mean()


def test_one_class_is_always_right():
    assert classification_metrics(np.zeros((3, 1)), np.zeros(3, int))["mean_class"] == 1


def test_metrics_equal_scikit_learn():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 8, 300)
    scores = rng.standard_normal((300, 8)) + 2 * np.eye(8)[label]
    metrics = classification_metrics(scores, label)
    assert metrics["top1"] == pytest.approx(top_k_accuracy_score(label, scores, k=1))
    assert metrics["top5"] == pytest.approx(top_k_accuracy_score(label, scores, k=5))
    assert metrics["mean_class"] == pytest.approx(balanced_accuracy_score(label, scores.argmax(1)))
    np.testing.assert_array_equal(confusion(scores, label), confusion_matrix(label, scores.argmax(1)))


def test_mean_class_leaves_out_classes_without_clips():
    assert classification_metrics(SCORES[:3], LABEL[:3])["mean_class"] == pytest.approx((1 + 0.5) / 2)


def test_confusion_and_table_by_hand():
    matrix = confusion(SCORES, LABEL)
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 0]]
    table = per_class_table(matrix, ["a", "b", "c"])
    assert table["recall"].tolist() == [1, 0.5, 0]
    assert table["precision"].tolist() == [0.5, 1, 0]
    assert table["most_often_mistaken_for"].tolist() == ["", "c", "a"]
