"""A few of many, where all would take too long or too much room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def pick_evenly(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` of the items, 1 or more, evenly over the list: the first, and with a limit of 2 or more the last."""
    if len(items) <= limit:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, limit)]
