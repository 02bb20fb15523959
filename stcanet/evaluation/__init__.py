"""Models judged on data sets: what `stcanet evaluate` and `stcanet cross` do between their options and their output.

Importing this imports no torch: a model package is evaluated without it.
"""

from stcanet.evaluation.matrix import Cell, Matrix, fill_matrix
from stcanet.evaluation.models import RetrievalModel, open_model
from stcanet.evaluation.result import Embedded, EvaluationSettings, Result, embed_dataset, evaluate, judge

__all__ = [
    "Cell",
    "Embedded",
    "EvaluationSettings",
    "Matrix",
    "Result",
    "RetrievalModel",
    "embed_dataset",
    "evaluate",
    "fill_matrix",
    "judge",
    "open_model",
]
