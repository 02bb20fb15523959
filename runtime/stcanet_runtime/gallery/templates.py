"""What stands for an identity in a search: all of its embeddings, their mean, or the few that differ most."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.arrays import check_count
from stcanet_runtime.errors import OptionError
from stcanet_runtime.gallery.store import Embeddings, Ids, Rows
from stcanet_runtime.retrieval.distance import distance_matrix

Templates = str | int
"""``"all"``, ``"mean"``, or how many of the most distinct embeddings."""


def check_templates(templates: Templates) -> Templates:
    """The value, or OptionError."""
    if isinstance(templates, str):
        if templates not in ("all", "mean"):
            raise OptionError("templates", templates, "'all', 'mean' or a number of embeddings per identity")
        return templates
    return check_count(templates, "templates")


class Made(NamedTuple):
    """Templates of all identities."""

    rows: Rows
    """Templates [M, D], each with the id of an entry: itself, or the nearest to the mean; ordered by id."""
    entries: dict[str, Ids]
    """Of which entries each identity's were made. An entry's embedding never changes, so they need not be made again."""


def make_templates(rows: Rows, templates: Templates, metric: str, before: Made | None = None) -> Made:
    """The templates of all identities.

    ``"mean"`` is the mean of an identity's embeddings, for the cosine of their directions. A number n takes the embedding that
    is nearest to that mean, and then up to n - 1 times the one that is farthest from those taken, copies left out (Gonzalez,
    1985: Clustering to minimize the maximum intercluster distance).

    Args:
        rows: The entries.
        templates: ``"mean"`` or n.
        metric: ``"cosine"`` or ``"euclidean"``.
        before: What this made of the same gallery earlier: only identities that have other entries now are computed.
    """
    kept = {} if before is None else {before.rows.identities[at[0]]: at for at in _by_identity(before.rows.identities)}
    parts, entries = [], {}
    for own in _by_identity(rows.identities):
        name, ids = rows.identities[own[0]], rows.ids[own]
        if before is not None and name in kept and np.array_equal(before.entries[name], ids):
            parts.append((before.rows.embeddings[kept[name]], before.rows.ids[kept[name]]))
        else:
            parts.append(_of_one(rows.embeddings[own], ids, templates, metric))
        entries[name] = ids
    if not parts:
        return Made(rows, {})
    ids = np.concatenate([part[1] for part in parts])
    order = np.argsort(ids)
    whose = rows.identities[np.searchsorted(rows.ids, ids[order])]
    return Made(Rows(ids[order], whose, np.concatenate([part[0] for part in parts])[order]), entries)


def _by_identity(identities: NDArray[np.object_]) -> list[NDArray[np.int64]]:
    """Positions of each identity."""
    if not len(identities):
        return []
    _, codes, counts = np.unique(identities.astype(str), return_inverse=True, return_counts=True)
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])


def _of_one(x: Embeddings, ids: Ids, templates: Templates, metric: str) -> tuple[Embeddings, Ids]:
    mean = _mean(x, metric)
    central = int(distance_matrix(mean[None], x, metric)[0].argmin())
    if isinstance(templates, str):
        return mean[None], ids[central : central + 1]
    taken = [central]
    nearest = distance_matrix(x[central][None], x, metric)[0]
    nearest[central] = 0.0  # a row of zeros is far from itself
    while len(taken) < templates and nearest.max() > 0.0:  # copies of what is taken add nothing
        taken.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distance_matrix(x[taken[-1]][None], x, metric)[0])
        nearest[taken[-1]] = 0.0
    chosen = np.sort(taken)
    return x[chosen], ids[chosen]


def _mean(x: Embeddings, metric: str) -> NDArray[np.float32]:
    rows = x.astype(np.float64)
    if metric == "cosine":
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.asarray(rows.mean(axis=0), np.float32)
