"""CMC, mAP and mINP: ours from a matrix and from embeddings, and what others use, in turn, each call in a process of its own.

    python benchmarks/bench_evaluate.py                                  # Market-1501: 3,368 x 15,913; ten minutes
    python benchmarks/bench_evaluate.py --query 400 --gallery 2000 --identities 80 --skip Python
    python benchmarks/bench_evaluate.py --query 11659 --gallery 82161 --identities 3060 --cameras 15 --no-matrix   # MSMT17

Embeddings are those of `market_like`; the matrix is that of their cosine distances. Prints medians;
``--out benchmarks/results`` records them with hardware, versions and commit. Peers take part where they are installed;
`peers_evaluate` says what they are. Quality stands beside speed: how far the figures are from the first of ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_rerank import our_backends, show
from contest import take_turns
from isolated import Call, attempt
from market_like import (
    MARKET_CAMERAS,
    MARKET_GALLERY,
    MARKET_IDENTITIES,
    MARKET_QUERY,
    MarketLike,
    describe,
    save_rows,
)
from numpy.lib.format import open_memmap
from peers_evaluate import build_fastreid
from provenance import add_out, environment, write_result

_MATRIX = ("distances", "q_people", "g_people")
_EMBEDDINGS = ("query", "gallery", "q_people", "g_people")


@dataclass(frozen=True)
class Contender:
    """An implementation, and how to call it."""

    name: str
    function: str
    inputs: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    threads: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    mapped: bool = False


def from_matrix(options: argparse.Namespace, folder: Path) -> Iterator[Contender]:
    """All that take distances [Q, G]; ours first."""
    for label, backend, threads, variables in our_backends(options.isa):
        if backend != "jit":  # the functions of numpy
            yield Contender(label, "peers_evaluate:ours_from_matrix", _MATRIX, {"backend": backend}, threads, variables)
    if importlib.util.find_spec("fastreid") and importlib.util.find_spec("Cython"):
        arguments = {"library": str(build_fastreid(folder))}
        yield Contender("fastreid, Cython", "peers_evaluate:fastreid_cython", _MATRIX, arguments)
    yield Contender("NumPy, precision vectorised", "peers_evaluate:published", _MATRIX, {"vectorised": True})
    yield Contender("Python and NumPy, as published", "peers_evaluate:published", _MATRIX)
    if importlib.util.find_spec("torchreid"):
        yield Contender("torchreid, Python", "peers_evaluate:torchreid_python", _MATRIX)


def from_embeddings(options: argparse.Namespace) -> Iterator[Contender]:
    """Ours without a matrix, and through one where that fits."""
    function = "peers_evaluate:ours_from_embeddings"
    for label, backend, threads, variables in our_backends(options.isa):
        if backend == "jit":
            continue
        yield Contender(f"{label}, no matrix", function, _EMBEDDINGS, {"backend": backend}, threads, variables)
        if backend == "compiled" and not threads:
            arguments, name = {"backend": backend}, f"{label}, no matrix, files mapped"
            yield Contender(name, function, _EMBEDDINGS, arguments, threads, variables, mapped=True)
    if not options.no_matrix:
        yield Contender("ours, matrix first", "peers_evaluate:ours_by_way_of_a_matrix", _EMBEDDINGS)


def prepare(options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Write the inputs; returns their paths by name."""
    total = options.query + options.gallery
    data = describe(total, options.depth, options.seed, options.identities, options.cameras)
    paths = {name: folder / f"{name}.npy" for name in {*_MATRIX, *_EMBEDDINGS}}
    save_rows(paths["query"], data, 0, options.query)
    save_rows(paths["gallery"], data, options.query, total)
    people = np.stack([data.pids, data.camids], axis=1)
    np.save(paths["q_people"], people[: options.query])
    np.save(paths["g_people"], people[options.query :])
    if not options.no_matrix:
        _save_matrix(paths["distances"], data, options.query)
    return {name: str(path) for name, path in paths.items()}


def _save_matrix(path: Path, data: MarketLike, num_query: int) -> None:
    total = len(data.pids)
    matrix = open_memmap(path, "w+", np.float32, (num_query, total - num_query))
    query, done = data.rows(0, num_query), 0
    for block in data.blocks(num_query, total):
        matrix[:, done : done + len(block)] = 1 - query @ block.T
        done += len(block)
    matrix.flush()


def hold(contenders: list[Contender], inputs: dict[str, str], folder: Path, repeats: int) -> dict[str, dict[str, Any]]:
    """Medians of all, by name, with their distance from the first."""
    numbers = {contender.name: number for number, contender in enumerate(contenders)}

    def measure(name: str, keep: bool) -> dict[str, Any]:
        contender, place = contenders[numbers[name]], folder / str(numbers[name])
        place.mkdir(exist_ok=True)
        chosen = {key: inputs[key] for key in contender.inputs}
        call = Call(contender.function, chosen, contender.arguments, contender.threads, contender.environment, contender.mapped)
        return attempt(replace(call, save_to=str(place) if keep else None))

    rows = take_turns(list(numbers), repeats, measure)
    _compare(contenders, folder, rows)
    return rows


def _compare(contenders: list[Contender], folder: Path, rows: dict[str, dict[str, Any]]) -> None:
    """Put the figures beside each, and how far they are from those of the first."""
    expected = None
    for number, contender in enumerate(contenders):
        row = rows[contender.name]
        if "error" in row:
            continue
        figures, cmc = (np.load(folder / str(number) / f"{name}.npy").astype(np.float64) for name in ("figures", "cmc"))
        expected = expected or (figures, cmc)
        row |= dict(zip(("mAP", "mINP"), figures.tolist(), strict=False)) | {"rank1": float(cmc[0])}
        row["mAP_difference"] = abs(float(figures[0] - expected[0][0]))
        row["cmc_difference"] = float(np.abs(cmc - expected[1]).max())


def wanted(contenders: Iterator[Contender], skip: list[str]) -> list[Contender]:
    return [contender for contender in contenders if not any(part in contender.name for part in skip)]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--query", type=int, default=MARKET_QUERY)
    parser.add_argument("--gallery", type=int, default=MARKET_GALLERY)
    parser.add_argument("--identities", type=int, default=MARKET_IDENTITIES)
    parser.add_argument("--cameras", type=int, default=MARKET_CAMERAS)
    parser.add_argument("--depth", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isa", nargs="*", default=[], help="instruction sets to measure besides the best")
    parser.add_argument("--skip", nargs="*", default=[], help="leave out those whose names contain one of these")
    parser.add_argument("--no-matrix", action="store_true", help="only from embeddings: the matrix would be too large")
    parser.add_argument("--scratch", type=Path, help="folder for inputs and results; default: the system's")
    parser.add_argument("--name", default="evaluate", help="of the result file")
    add_out(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    facts = environment("fastreid", "cython", "torchreid")
    results = {}
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="bench_evaluate_") as name:
        folder = Path(name)
        inputs = prepare(options, folder)
        kinds = {"embeddings": wanted(from_embeddings(options), options.skip)}
        if not options.no_matrix:
            kinds = {"matrix": wanted(from_matrix(options, folder), options.skip), **kinds}
        for kind, contenders in kinds.items():
            print(f"from {kind}: {options.query:,} x {options.gallery:,}")
            place = folder / kind
            place.mkdir()
            results[kind] = hold(contenders, inputs, place, options.repeats)
            show(results[kind])
    fields = ("query", "gallery", "identities", "cameras", "depth", "repeats", "seed")
    sizes = {name: getattr(options, name) for name in fields}
    report = {"benchmark": "evaluate", "environment": facts, "sizes": sizes, "results": results}
    write_result(options.out, options.name, report)


if __name__ == "__main__":
    main()
