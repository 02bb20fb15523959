"""Cases and yardsticks of the re-ranking tests: an independent dense implementation, drawn problems, a stored set."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from stcanet_runtime import SearchResult, rerank
from stcanet_runtime.backends import reference
from stcanet_runtime.errors import MemoryLimitError

Embeddings = NDArray[np.float32]
TOLERANCE = 2e-6
SEEDS = st.integers(0, 2**32 - 1)
POWERS = {("cosine", "zhong"): 1, ("cosine", "torchreid"): 2, ("euclidean", "zhong"): 2, ("euclidean", "torchreid"): 4}


def dense(
    distances: Embeddings, num_query: int, k1: int, k2: int, lambda_value: float, power: int, but: str = ""
) -> NDArray[np.float64]:
    """The method once more, from the paper and with Python's sets; `but` names one thing to do in another way."""
    columns = np.asarray(distances).T if but != "rows" else np.asarray(distances)
    total = len(columns)
    farthest = columns.max(axis=1, keepdims=True).astype(np.float64)
    scaled = columns / np.where((farthest == 0) | (but == "no maximum"), 1.0, farthest)
    scaled = scaled ** (2 * power if but == "squared again" else power)
    rank = np.argsort(columns, axis=1, kind="stable")
    if but == "ties from behind":
        rank = total - 1 - np.argsort(columns[:, ::-1], axis=1, kind="stable")
    more = 0 if but == "k1 columns" else 1
    half = {"half of MATLAB": (k1 + 1) // 2 - 1, "half up": (k1 + 1) // 2}.get(but, int(np.around(k1 / 2)))

    def reciprocal(i: int, k: int) -> set[int]:
        return {int(f) for f in rank[i, : k + more] if i in rank[f, : k + more]}

    v = np.zeros((total, total))
    for i in range(total):
        original = reciprocal(i, k1)
        united = set(original)
        for c in sorted(original, key=list(rank[i]).index) if but != "no expansion" else ():
            near = reciprocal(c, half)
            shared, enough = len(near & (united if but == "growing set" else original)), 2 / 3 * len(near)
            if shared > enough or (but == "not strict" and 3 * shared == 2 * len(near)):
                united |= near
        members = sorted(united or {i})
        v[i, members] = np.exp(-scaled[i, members])
        v[i] /= v[i].sum() if but != "weights not normalised" else 1.0
    if k2 > 1 and but != "no average":
        v = np.array([v[rank[i, :k2]].mean(axis=0) for i in range(total)])
    jaccard = np.empty((num_query, total - num_query))
    for q in range(num_query):
        for g in range(num_query, total):
            overlap = np.minimum(v[q], v[g]).sum()
            jaccard[q, g - num_query] = 1 - overlap / (2 - overlap)
    return np.asarray((1 - lambda_value) * jaccard + lambda_value * scaled[:num_query, num_query:])


def noise(seed: int, *shape: int) -> NDArray[np.int64]:
    """Bell-shaped integers from -30 to 30, the same for all time: SplitMix64, not NumPy's generators."""
    with np.errstate(over="ignore"):
        z = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed << 40)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    parts = [(z >> np.uint64(shift)) & np.uint64(15) for shift in (0, 16, 32, 48)]
    return (np.sum(parts, axis=0).astype(np.int64) - 30).reshape(shape)


@cache
def market_like() -> tuple[Embeddings, Embeddings, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Embeddings, identities and cameras of 60 queries and 300 gallery images: 20 people, 6 cameras, some exact copies."""
    pids, camids = np.arange(360) % 20, np.arange(360) // 20 % 6
    joint = 2 * noise(1, 20, 24)[pids] + noise(2, 6, 24)[camids] + 2 * noise(3, 360, 24)
    joint[140:200] = joint[160:220] = joint[80:140]
    x = joint.astype(np.float32)
    return x[:60], x[60:], pids[:60], pids[60:], camids[:60], camids[60:]


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Small problems with clusters, copies and exact ties; sizes from one image on each side."""
    rng = np.random.default_rng(draw(SEEDS))
    rows, cols = draw(st.sampled_from([1, 2, 5, 8])), draw(st.sampled_from([1, 2, 9, 21, 40]))
    depth, kind = (
        draw(st.sampled_from([1, 2, 5, 17])),
        draw(st.sampled_from(["clusters", "close", "integers", "binary", "identical"])),
    )
    total = rows + cols
    joint = {
        "clusters": lambda: rng.normal(size=(6, depth))[rng.integers(0, 6, total)] + 0.3 * rng.normal(size=(total, depth)),
        "close": lambda: 1.0 + 0.01 * rng.normal(size=(total, depth)),
        "integers": lambda: rng.integers(-2, 3, size=(total, depth)),
        "binary": lambda: rng.integers(0, 2, size=(total, depth)),
        "identical": lambda: np.ones((total, depth)),
    }[kind]().astype(np.float32)
    count = draw(st.integers(0, total))
    joint[rng.integers(0, total, count)] = joint[rng.integers(0, total, count)]
    return {
        "query": joint[:rows],
        "gallery": joint[rows:],
        "k1": draw(st.sampled_from([1, 2, 3, 5, 7, 20, 21, max(1, total - 2), total - 1, total])),
        "k2": draw(st.sampled_from([1, 2, 6, 30])),
        "lambda_value": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "metric": draw(st.sampled_from(["cosine", "euclidean"])),
        "variant": draw(st.sampled_from(["zhong", "torchreid"])),
    }


def expected_of(query: Embeddings, gallery: Embeddings, metric: str, variant: str, **parameters: Any) -> NDArray[np.float64]:
    joint = np.concatenate([query, gallery])
    distances = reference.distance_matrix(joint, joint, metric)
    return dense(distances, len(query), **parameters, power=POWERS[metric, variant])


@cache
def stored_distances() -> Embeddings:
    joint = np.concatenate(market_like()[:2])
    return reference.distance_matrix(joint, joint, "cosine")


def best_of(values: Embeddings, places: int) -> SearchResult:
    distances, indices = reference.smallest(values, min(places, values.shape[1]))
    return SearchResult(distances, np.where(np.isinf(distances), -1, indices).astype(np.int64))


def assert_same_result(actual: SearchResult, expected: SearchResult) -> None:
    np.testing.assert_array_equal(actual.distances, expected.distances)
    np.testing.assert_array_equal(actual.indices, expected.indices)
    assert actual.distances.dtype == np.float32
    assert actual.indices.dtype == np.int64


def needed_bytes(*inputs: Any, **options: Any) -> int:
    with pytest.raises(MemoryLimitError) as caught:
        rerank(*inputs, **options, max_memory=1)
    assert caught.value.limit == 1
    assert "top=" in str(caught.value)
    return caught.value.needed
