"""The processors by name, as commands and checkpoints call them: a task for each."""

import importlib
from typing import Any

# Imported when chosen, so that a task's own needs burden no other.
PROCESSORS = {
    "recognition": "processor.recognition.Recognition",
    "prediction": "processor.prediction.Prediction",
    "pretrain": "processor.pretrain.Pretrain",
    "linear_evaluation": "processor.linear_evaluation.LinearEvaluation",
    "finetune_evaluation": "processor.finetune_evaluation.FinetuneEvaluation",
    "knn_evaluation": "processor.knn_evaluation.KnnEvaluation",
}


def task_class(name: str) -> Any:
    """The task of a processor. Raises KeyError for a name that is not in the table."""
    module, class_name = PROCESSORS[name].rsplit(".", 1)
    return getattr(importlib.import_module(module), class_name)


def task_name(cls: type) -> str | None:
    """The name of a task's class; None if it is not in the table."""
    path = f"{cls.__module__}.{cls.__qualname__}"
    return next((name for name, known in PROCESSORS.items() if known == path), None)
