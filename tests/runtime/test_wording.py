"""One of something and many of it, where numbers are printed."""

from __future__ import annotations

import numpy as np
import pytest

from stcanet_runtime import evaluate
from stcanet_runtime.errors import DataError
from stcanet_runtime.wording import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 queries"), (1, "1 query"), (2, "2 queries"), (1000, "1000 queries"), (np.int64(1), "1 query")]
)
def test_counted(number: int, text: str) -> None:
    assert counted(number, "query", "queries") == text


def test_figures_of_one_query() -> None:
    assert evaluate([[0.1]], [1], [1]).summary().endswith(" (1 query)")
    with pytest.raises(DataError, match="none of 1 query has a true match among 1 gallery image "):
        evaluate([[0.1]], [1], [2])
