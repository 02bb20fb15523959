"""Re-ranking and its neighbour search: ours and what others use, in turn, each call in a process of its own.

    python benchmarks/bench_rerank.py                                        # 5,000 rows: three minutes
    python benchmarks/bench_rerank.py --full                                 # Market-1501: 3,368 x 15,913
    python benchmarks/bench_rerank.py --sizes 5000 10000 20000 50000 94000 --peer-limit 10000 \\
        --slow-limit 10000 --skip torchreid                                  # growth
    python benchmarks/bench_rerank.py --msmt --scratch FOLDER                # MSMT17 in 4 GiB; 5 GB of disk

Embeddings are those of `market_like`, of 2,048 dimensions. Prints medians; ``--out benchmarks/results`` records them with
hardware, versions and commit. Peers take part where they are installed (``pip install faiss-cpu``, ``pip install --no-deps
torchreid``; `peers_rerank` says what they are). Quality stands beside speed: how far each result is from the first of ours.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from contest import Candidate, Setting, hold, prepared
from large_rerank import bench_msmt
from market_like import MARKET_GALLERY, MARKET_QUERY
from provenance import add_out, environment, write_result

from stcanet_runtime import backends, distance_matrix

SMALL = 5_000
SLOW_BACKENDS = ("jit", "numpy")


def ours(options: argparse.Namespace) -> Iterator[Candidate]:
    """Every backend, all distances and the best of each query; the compiled one with instruction sets and one thread."""
    for label, backend, threads, variables in our_backends(options.isa):
        arguments = {**parameters(options), "backend": backend}
        limit = options.slow_limit if backend in SLOW_BACKENDS else None
        name = f"{label}, dense"
        yield Candidate(name, "peers_rerank:ours_dense", arguments, "dense", threads, variables, limit=limit)
        arguments, name = {**arguments, "top": options.top}, f"{label}, top {options.top}"
        yield Candidate(name, "peers_rerank:ours_top", arguments, "top", threads, variables, limit=limit)


def our_backends(isa: list[str]) -> Iterator[tuple[str, str, int, dict[str, str]]]:
    """Label, backend, threads and environment of what can run here; the best instruction set first, then `isa`."""
    reasons = backends.available()
    if reasons["compiled"] is None:
        from stcanet_runtime.backends import compiled

        best = compiled.resolve_isa()
        for name in dict.fromkeys([best, *isa]):
            yield f"ours: {name}", "compiled", 0, {"STCANET_ISA": name}
        yield f"ours: {best}, 1 thread", "compiled", 1, {"STCANET_ISA": best}
    for name in SLOW_BACKENDS:
        if reasons[name] is None:
            yield f"ours: {name}", name, 0, {}


def published(options: argparse.Namespace) -> Iterator[Candidate]:
    """The NumPy code that everybody has, as it is, with the one copy that it lacks, and from a package."""
    entries = [("NumPy, as published", "published", {"c_order": False})]
    entries += [("NumPy, as published, one copy more", "published", {"c_order": True})]
    if importlib.util.find_spec("torchreid"):
        entries += [("torchreid", "torchreid_rerank", {})]
    for name, function, more in entries:
        arguments, limit = {**parameters(options), **more}, options.peer_limit
        yield Candidate(name, f"peers_rerank:{function}", arguments, "dense", matrices=7, limit=limit)


def searches(options: argparse.Namespace) -> Iterator[Candidate]:
    """All-pairs neighbour search alone."""
    k = options.k1 + 1
    for label, backend, threads, variables in our_backends(options.isa):
        arguments = {"k": k, "backend": backend}
        yield Candidate(f"{label}, search", "peers_rerank:ours_neighbours", arguments, "neighbours", threads, variables)
    if importlib.util.find_spec("faiss"):
        yield Candidate("faiss IndexFlatIP, search", "peers_rerank:faiss_neighbours", {"k": k}, "neighbours")


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    return {"k1": options.k1, "k2": options.k2, "lambda_value": options.lambda_value}


def bench_one(total: int, options: argparse.Namespace) -> dict[str, Any]:
    """All candidates at one size."""
    candidates = {"rerank": (*ours(options), *published(options)), "neighbours": searches(options)}
    with prepared(total, options.depth, options.seed, options.scratch) as setting:
        results = {}
        for kind, contenders in candidates.items():
            print(f"{kind}, N = {total:,}")
            results[kind] = hold(chosen(contenders, options), setting, options.repeats)
            show(results[kind])
        data = describe_data(setting, options.k1)
        sizes = {"query": setting.num_query, "gallery": total - setting.num_query}
    return {"sizes": {**sizes, **settings(options)}, "data": data, "results": results}


def chosen(candidates: Iterable[Candidate], options: argparse.Namespace) -> list[Candidate]:
    """Those that ``--skip`` leaves."""
    return [candidate for candidate in candidates if not any(part in candidate.name for part in options.skip)]


def describe_data(setting: Setting, k1: int) -> dict[str, float]:
    """How hard the inputs are: similarity to neighbours, and retrieval before re-ranking."""
    query, gallery = setting.load()
    near = backends.get_backend().neighbours(np.array(query), np.array(gallery), k1 + 1, "cosine").distances.mean(axis=0)
    similarity = {f"similarity_{place}": float(1 - near[place - 1]) for place in (2, 6, 21) if place <= k1 + 1}
    return {**similarity, **setting.retrieval(distance_matrix(query, gallery))}


def bench_growth(options: argparse.Namespace) -> dict[str, Any]:
    """The best of ours at every size, the others up to their limits."""
    results = {}
    for total in options.sizes:
        candidates = [each for each in chosen((*ours(options), *published(options)), options) if each.threads != 1]
        with prepared(total, options.depth, options.seed, options.scratch) as setting:
            print(f"N = {total:,}: {setting.num_query:,} queries")
            results[str(total)] = hold(candidates, setting, options.repeats)
            show(results[str(total)])
    return {"sizes": settings(options), "results": results}


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What is the same for all sizes."""
    return {**parameters(options), "depth": options.depth, "top": options.top, "repeats": options.repeats, "seed": options.seed}


def show(rows: dict[str, dict[str, Any]]) -> None:
    for name, row in rows.items():
        figures = {key: value for key, value in row.items() if isinstance(value, int | float) and not key.endswith("_bytes")}
        print(f"  {name:44}" + "".join(f"  {key} {value:.3g}" for key, value in figures.items()), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--full", action="store_true", help="the size of Market-1501; half an hour on two cores")
    mode.add_argument("--sizes", type=int, nargs="+", metavar="N", help="growth: queries and gallery rows together")
    mode.add_argument("--msmt", action="store_true", help="the size of MSMT17, in a process limited to --address-space")
    parser.add_argument("--depth", type=int, default=2048)
    parser.add_argument("--k1", type=int, default=20)
    parser.add_argument("--k2", type=int, default=6)
    parser.add_argument("--lambda-value", type=float, default=0.3)
    parser.add_argument("--top", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isa", nargs="*", default=[], help="instruction sets to measure besides the best")
    parser.add_argument("--skip", nargs="*", default=[], help="leave out candidates whose names contain one of these")
    parser.add_argument("--peer-limit", type=int, default=20_000, help="largest N for the published code")
    parser.add_argument("--slow-limit", type=int, default=20_000, help="largest N for the NumPy and Numba backends")
    parser.add_argument("--address-space", type=float, default=4.0, help="GiB for --msmt")
    parser.add_argument("--shrink", type=int, default=1, help="divide the size of --msmt, to try it out")
    parser.add_argument("--scratch", type=Path, help="folder for inputs and results; default: the system's")
    add_out(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    facts = environment("numba", "faiss-cpu", "torchreid")
    if options.msmt:
        name, report = "rerank_msmt", bench_msmt(options.scratch, settings(options), options.address_space, options.shrink)
    elif options.sizes:
        name, report = "rerank_growth", bench_growth(options)
    else:
        name, report = "rerank", bench_one(MARKET_QUERY + MARKET_GALLERY if options.full else SMALL, options)
    write_result(options.out, name, {"benchmark": name, "environment": facts, **report})


if __name__ == "__main__":
    main()
