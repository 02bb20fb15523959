"""Search in a gallery of 10,000 and 100,000 embeddings, beside the time that reading them takes, and beside faiss.

    python benchmarks/bench_gallery.py --scratch /var/tmp/galleries --prepare    # makes the galleries
    python benchmarks/bench_gallery.py --scratch /var/tmp/galleries              # measures
    … --sizes 10000 100000 1000000                                               # a million as float16 only (4 GiB)

``bandwidth`` is what the cores read together, measured between the searches over the same rows: no search that looks at every
row can be faster than ``limit``. Prints medians; ``--out benchmarks/results`` records them with hardware and versions.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from isolated import memory
from numpy.typing import NDArray
from provenance import add_out, environment, write_result
from turns import in_turns, seconds

from stcanet_runtime import Gallery

DIM, K, BLOCK = 2048, 10, 2000
SIZES, QUERIES = (10_000, 100_000), (1, 32)
FLOAT32_ENTRIES = 100_000  # more of them only as float16


def dtypes(size: int) -> tuple[str, ...]:
    return ("float32", "float16") if size <= FLOAT32_ENTRIES else ("float16",)


def rows(start: int, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Unit rows; entries of one identity lie near each other."""
    rng = np.random.default_rng([seed, start])
    centres = np.random.default_rng([seed, start // BLOCK, 1]).standard_normal((200, DIM), np.float32)
    x = centres[rng.integers(0, 200, count)] + 0.7 * rng.standard_normal((count, DIM), np.float32)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def gallery_path(scratch: Path, size: int, dtype: str) -> Path:
    return scratch / f"{size}-{dtype}.gallery"


def prepare(scratch: Path, sizes: list[int]) -> None:
    for size in sizes:
        for dtype in dtypes(size):
            path = gallery_path(scratch, size, dtype)
            if path.exists():
                continue
            scratch.mkdir(parents=True, exist_ok=True)
            with Gallery.create(path, DIM, "bench", dtype=dtype) as gallery:
                for start in range(0, size, BLOCK):
                    count = min(BLOCK, size - start)
                    gallery.enrol(rows(start, count), [f"p{(start + i) % 1500}" for i in range(count)], cameras="c1")
            print(path, flush=True)


def reader(x: NDArray[Any], pool: ThreadPoolExecutor, cores: int) -> Callable[[], Any]:
    """Reads an array, all cores together."""
    pieces = np.array_split(x.reshape(-1).view(np.float32), cores)
    return lambda: list(pool.map(lambda piece: float(np.dot(piece, piece)), pieces))


def peer(x: NDArray[Any]) -> Callable[[NDArray[np.float32]], Any] | None:
    """faiss over the same rows, stored alike."""
    if not importlib.util.find_spec("faiss"):
        return None
    import faiss

    half = x.dtype == np.float16
    kind = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexScalarQuantizer(DIM, kind, faiss.METRIC_INNER_PRODUCT) if half else faiss.IndexFlatIP(DIM)
    if half:
        index.train(np.zeros((1, DIM), np.float32))
    for start in range(0, len(x), BLOCK):
        index.add(np.asarray(x[start : start + BLOCK], np.float32))
    return lambda queries: index.search(queries, K)


def measure(path: Path, repeats: int) -> dict[str, Any]:
    """One gallery: opened, searched, beside bandwidth and faiss, taking turns."""
    cores = len(os.sched_getaffinity(0))
    queries = {count: rows(10**6, count) for count in QUERIES}
    before, start = memory("VmRSS"), time.perf_counter()
    with Gallery.open(path, read_only=True) as gallery, ThreadPoolExecutor(cores) as pool:
        gallery.search(queries[1], K)
        opened, held = time.perf_counter() - start, memory("VmRSS") - before
        stored = gallery.rows()[0].embeddings
        other = peer(stored)
        calls: dict[str, Callable[[], Any]] = {"read": reader(stored, pool, cores)}
        for count, q in queries.items():
            calls[f"ours_{count}"] = lambda q=q: gallery.search(q, K)  # type: ignore[misc]
            if other:
                calls[f"faiss_{count}"] = lambda q=q: other(q)  # type: ignore[misc]
        medians = {name: statistics.median(values) for name, values in in_turns(calls, repeats, seconds).items()}
        same = None
        if other:
            ids = np.array([[hit.entry.id for hit in hits] for hits in gallery.search(queries[32], K)])
            same = float((other(queries[32])[1] + 1 == ids).mean())
        entries, size = gallery.stats()["entries"], path.stat().st_size
    limit = medians.pop("read")
    return {
        "entries": entries,
        "dtype": str(stored.dtype),
        "file_bytes": size,
        "open_and_first_search_s": opened,
        "memory_bytes": held,
        "limit_s": limit,
        "bandwidth_bytes_per_s": stored.nbytes / limit,
        "seconds": medians,
        "share_of_faiss_places": same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.scratch, options.sizes)
        return
    results = []
    for size in options.sizes:
        for dtype in dtypes(size):
            results.append(measure(gallery_path(options.scratch, size, dtype), options.repeats))
            print(results[-1], flush=True)
    sizes = {"dim": DIM, "k": K, "repeats": options.repeats}
    report = {"benchmark": "gallery", "environment": environment("faiss-cpu"), "sizes": sizes, "results": results}
    write_result(options.out, "gallery", report)


if __name__ == "__main__":
    main()
