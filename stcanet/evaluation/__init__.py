"""Models judged on data sets: what `stcanet evaluate` and `stcanet cross` do between their options and their output.

Importing this imports no torch: a model package is evaluated without it.
"""

from stcanet.evaluation.embedded import Embedded, embed_dataset
from stcanet.evaluation.matrix import Cell, Matrix, fill_matrix
from stcanet.evaluation.models import RetrievalModel, open_model
from stcanet.evaluation.result import Result, evaluate, judge
from stcanet.evaluation.settings import EvaluationSettings

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
