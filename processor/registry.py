"""The table of processors: the name in commands and checkpoints, and its task."""

import importlib
from typing import Any

# A task is imported only when it is chosen, so that others do not wait for its imports.
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
