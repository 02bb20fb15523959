"""Re-ranking at the size of MSMT17 in a process whose address space is limited, and a check that its two results agree."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import agreement
import numpy as np
from contest import brief
from isolated import Call, attempt
from market_like import MSMT_CAMERAS, MSMT_GALLERY, MSMT_IDENTITIES, MSMT_QUERY, describe, save_rows


def bench_msmt(scratch: Path | None, settings: dict[str, Any], address_space_gib: float, shrink: int = 1) -> dict[str, Any]:
    """Dense to a file, then the best of each query in memory.

    Args:
        scratch: folder for the inputs, which are drawn once and stay there, and for the matrix, which does not.
        settings: k1, k2, lambda_value, depth, top, seed.
        address_space_gib: limit of each process, mapped inputs included.
        shrink: divides rows and identities.
    """
    num_query, num_gallery = MSMT_QUERY // shrink, MSMT_GALLERY // shrink
    folder = Path(tempfile.gettempdir()) if scratch is None else scratch
    folder.mkdir(parents=True, exist_ok=True)
    inputs = draw_inputs(folder, num_query, num_gallery, settings["depth"], settings["seed"], shrink)
    limit = int(address_space_gib * 2**30)
    parameters = {key: settings[key] for key in ("k1", "k2", "lambda_value")}
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench_rerank_") as name:
        matrix, place = Path(name) / "dense.npy", Path(name)
        calls = {
            "dense, to a file": Call("peers_rerank:ours_dense", inputs, {**parameters, "out": str(matrix)}),
            f"top {settings['top']}": Call(
                "peers_rerank:ours_top", inputs, {**parameters, "top": settings["top"]}, save_to=str(place)
            ),
        }
        results = {label: limited(call, limit) for label, call in calls.items()}
        for label, row in results.items():
            print(f"  {label:20} {brief(row)}", flush=True)
            print("".join(f"  {key} {value:.2f}" for key, value in row.items() if key.endswith("_s")))
        agreed = {}
        if not any("error" in row for row in results.values()):
            distances, indices = (np.load(place / f"{key}.npy") for key in ("distances", "indices"))
            agreed = agreement.top(distances, indices, np.load(matrix, mmap_mode="r"))
            print("  lists against matrix:" + "".join(f"  {key} {value:.3g}" for key, value in agreed.items()))
    sizes = {"query": num_query, "gallery": num_gallery, **settings, "address_space_bytes": limit, "repeats": 1}
    return {"sizes": sizes, "results": results, "agreement": agreed}


def limited(call: Call, address_space: int) -> dict[str, Any]:
    """Figures of a call with mapped inputs in a limited address space, or the error."""
    return attempt(replace(call, mapped=True, address_space=address_space))


def draw_inputs(folder: Path, num_query: int, num_gallery: int, depth: int, seed: int, shrink: int) -> dict[str, str]:
    """Files of query and gallery, drawn block by block where they are not there yet."""
    total = num_query + num_gallery
    paths = {side: folder / f"msmt_like-{total}x{depth}-{seed}-{side}.npy" for side in ("query", "gallery")}
    if not all(path.is_file() for path in paths.values()):
        print(f"drawing {total:,} rows into {folder}", flush=True)
        data = describe(total, depth, seed, max(1, MSMT_IDENTITIES // shrink), MSMT_CAMERAS)
        save_rows(paths["query"], data, 0, num_query)
        save_rows(paths["gallery"], data, num_query, total)
    return {side: str(path) for side, path in paths.items()}
