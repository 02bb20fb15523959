"""Distance matrix and top-k search: the backends, plain NumPy and, where installed, faiss, in turn in one run.

    python benchmarks/bench_distance.py                                    # small: seconds
    python benchmarks/bench_distance.py --query 3368 --gallery 15913       # Market-1501, in the size of its features

Embeddings are those of `market_like`. Prints medians; ``--out benchmarks/results`` records them with hardware, versions and
commit. Quality stands beside speed: the share of queries whose indices equal the exact result, and the largest difference of a
distance.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from market_like import market_like, scaled_identities
from numpy.typing import NDArray
from provenance import add_out, environment, write_result
from turns import in_turns, wall_and_cpu

from stcanet_runtime import backends

Embeddings = NDArray[np.float32]
Candidate = Callable[[], Any]


def numpy_matrix(query: Embeddings, gallery: Embeddings) -> Embeddings:
    return np.asarray(1 - query @ gallery.T)


def numpy_search(query: Embeddings, gallery: Embeddings, k: int) -> tuple[Embeddings, NDArray[np.int64]]:
    """What people write: whole matrix in float32, argpartition, sort of the k."""
    matrix = numpy_matrix(query, gallery)
    best = np.argpartition(matrix, k - 1, axis=1)[:, :k]
    distances = np.take_along_axis(matrix, best, axis=1)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(best, order, axis=1)


def faiss_search(query: Embeddings, gallery: Embeddings, k: int) -> tuple[Embeddings, NDArray[np.int64]]:
    import faiss

    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    similarity, indices = index.search(query, k)
    return 1 - similarity, indices


def candidates(query: Embeddings, gallery: Embeddings, k: int) -> dict[str, dict[str, Candidate]]:
    matrix: dict[str, Candidate] = {"numpy float32": lambda: numpy_matrix(query, gallery)}
    search: dict[str, Candidate] = {"numpy float32": lambda: numpy_search(query, gallery, k)}
    if importlib.util.find_spec("faiss"):
        search["faiss flat"] = lambda: faiss_search(query, gallery, k)
    for name, problem in backends.available().items():
        if problem is not None or name == "reference":
            continue
        backend = backends.get_backend(name)
        matrix[f"ours: {name}"] = lambda b=backend: b.distance_matrix(query, gallery, "cosine")  # type: ignore[misc]
        search[f"ours: {name}"] = lambda b=backend: b.top_k(query, gallery, k, "cosine")  # type: ignore[misc]
    if backends.available()["compiled"] is None:
        from stcanet_runtime.backends import compiled

        for isa in compiled.instruction_sets():
            search[f"ours: {isa}, 1 thread"] = lambda isa=isa: compiled.top_k(  # type: ignore[misc]
                query, gallery, k, "cosine", isa=isa, threads=1
            )
    return {"distance_matrix": matrix, "top_k": search}


def measure(calls: dict[str, Candidate], repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds, wall and CPU."""
    for call in calls.values():
        call()
    found = in_turns(calls, repeats, wall_and_cpu)
    names = ("wall_s", "cpu_s")
    return {
        name: dict(zip(names, map(statistics.median, zip(*times, strict=True)), strict=True)) for name, times in found.items()
    }


def quality(kind: str, call: Candidate, exact: Any) -> dict[str, float]:
    result = call()
    if kind == "distance_matrix":
        return {"max_difference": float(np.abs(result - exact).max())}
    same = float((result[1] == exact[1]).all(axis=1).mean())
    return {"max_difference": float(np.abs(result[0] - exact[0]).max()), "queries_with_exact_indices": same}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--query", type=int, default=400)
    parser.add_argument("--gallery", type=int, default=2000)
    parser.add_argument("--depth", type=int, default=2048)
    parser.add_argument("--k", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    add_out(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    identities = scaled_identities(options.query + options.gallery)
    query, gallery, *_ = market_like(options.query, options.gallery, options.depth, options.seed, identities)
    sizes = {name: getattr(options, name) for name in ("query", "gallery", "depth", "k", "repeats", "seed")}
    report: dict[str, Any] = {
        "benchmark": "distance",
        "environment": environment("numba", "faiss-cpu"),
        "sizes": sizes,
        "results": {},
    }
    all_calls = candidates(query, gallery, options.k)
    # The NumPy backend, proven equal to the reference by the tests, stands in for it: the reference takes too long here.
    exact = {kind: calls["ours: numpy"]() for kind, calls in all_calls.items()}
    for kind, calls in all_calls.items():
        rows = measure(calls, options.repeats)
        report["results"][kind] = {name: {**row, **quality(kind, calls[name], exact[kind])} for name, row in rows.items()}
        print(kind)
        for name, row in report["results"][kind].items():
            print(f"  {name:24}" + "".join(f"  {key} {value:.3g}" for key, value in row.items()))
    write_result(options.out, "distance", report)


if __name__ == "__main__":
    main()
