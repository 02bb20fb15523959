"""Re-ranking on a GPU: time, memory, and whether the result is that of the processor.

    python benchmarks/bench_gpu_rerank.py             # Market-1501 and MSMT17: embeddings on the device, the best 100 out
    python benchmarks/bench_gpu_rerank.py --shrink 10 # to try it out; --out FOLDER writes gpu_rerank.json

Embeddings are those of `market_like`, of 2,048 dimensions. Without a GPU it says so and measures nothing. Lists must be equal,
to the bit, to those of the backend that ``auto`` takes; it ends with an error where they are not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
from market_like import MARKET_GALLERY, MARKET_QUERY, MSMT_GALLERY, MSMT_QUERY, market_like, scaled_identities
from numpy.typing import NDArray
from provenance import add_out, environment, nothing_measured, write_result

from stcanet_runtime import backends, rerank
from stcanet_runtime.backends import gpu, gpu_device

SIZES = {"Market-1501": (MARKET_QUERY, MARKET_GALLERY), "MSMT17": (MSMT_QUERY, MSMT_GALLERY)}
TOP, NEIGHBOURS = 100, 21
Embeddings = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--depth", type=int, default=2048)
    parser.add_argument("--shrink", type=int, default=1, help="divide the sizes")
    add_out(parser)
    options = parser.parse_args()
    if (problem := gpu_device.why_not()) is not None:
        nothing_measured(problem)
    import cupy

    device = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    facts = {"gpu": device, "cuda": cupy.cuda.runtime.runtimeGetVersion(), "repeats": options.repeats, "top": TOP}
    report: dict[str, Any] = {"benchmark": "gpu_rerank", "environment": environment("cupy-cuda12x", "cupy-cuda13x"), **facts}
    rows = report["rows"] = []
    for name, sizes in SIZES.items():
        num_query, num_gallery = (size // options.shrink for size in sizes)
        identities = scaled_identities(num_query + num_gallery)
        query, gallery, *_ = market_like(num_query, num_gallery, options.depth, 0, identities=identities)
        rows.append({"name": name, "sizes": [num_query, num_gallery, options.depth], **on_gpu(query, gallery, options.repeats)})
        show(rows[-1])
        write_result(options.out, "gpu_rerank", report)  # the processor takes minutes, and may have none
        rows[-1] |= (beside := on_processor(query, gallery))
        show(beside)
        write_result(options.out, "gpu_rerank", report)
    if not all(row["equal"] for row in rows):
        raise SystemExit("the lists are not those of the processor")


def on_gpu(query: Embeddings, gallery: Embeddings, repeats: int) -> dict[str, Any]:
    """Milliseconds of the search and of the whole, with embeddings on the device; memory beyond them."""
    import cupy

    q, g = cupy.asarray(query), cupy.asarray(gallery)
    pool = cupy.get_default_memory_pool()
    searches, wholes = [], []
    for repeat in range(repeats + 1):
        if repeat == 1:  # the first compiles
            pool.free_all_blocks()
            before = pool.total_bytes()
        searches.append(milliseconds(lambda: gpu.neighbours(q, g, NEIGHBOURS, "cosine", scratch_bytes=1 << 30)))
        wholes.append(milliseconds(lambda: rerank(q, g, top=TOP, backend="gpu")))
    return {
        "search_ms": statistics.median(searches[1:]),
        "rerank_ms": statistics.median(wholes[1:]),
        "peak_mib": (pool.total_bytes() - before) / 2**20,  # the pool keeps what it once had
    }


def on_processor(query: Embeddings, gallery: Embeddings) -> dict[str, Any]:
    """Milliseconds of the backend that ``auto`` takes; whether its lists are those of the GPU."""
    import cupy

    start = time.perf_counter()
    expected = rerank(query, gallery, top=TOP)
    seconds = time.perf_counter() - start
    result = rerank(cupy.asarray(query), cupy.asarray(gallery), top=TOP, backend="gpu")
    return {
        "processor_ms": 1e3 * seconds,
        "processor": backends.explain(),
        "equal": bool((result.indices == expected.indices).all() and (result.distances == expected.distances).all()),
        "differing": int(np.count_nonzero((result.indices != expected.indices).any(axis=1))),
    }


def show(facts: dict[str, Any]) -> None:
    said = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in facts.items())
    print(", ".join(said), flush=True)


def milliseconds(call: Any) -> float:
    """Wall time: results come to memory at the end, which waits for the device."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
