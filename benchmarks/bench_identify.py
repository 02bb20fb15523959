"""Who is who across cameras: how right `Identifier` is, beside clustering that sees all tracks at once.

    python benchmarks/bench_identify.py                                       # the network of `make demo`, on people drawn anew
    python benchmarks/bench_identify.py package/ market1501/ --name identify_market

Half of the test identities calibrate the threshold. The others walk: each is seen once by each of its cameras, an image a
second, with 20 to 90 seconds in between; every 8 seconds somebody enters. A track is told again with each image of it. Figures
are means over draws of these walks: IDF1 (Ristani et al. 2016: the share of images whose identity is right, under the best
one-to-one assignment), and precision and recall of the pairs of tracks that are taken for one person. ``--out
benchmarks/results`` records them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from provenance import add_out, environment, nothing_measured, write_result
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform

from stcanet.data.datasets import load_dataset
from stcanet.data.datasets.base import Sample
from stcanet.data.scoring import score
from stcanet.data.synthetic import SynthConfig, generate
from stcanet_runtime import Calibration, Encoder, Identifier, Track, Travel, calibrate

DEMO = Path(__file__).parents[1] / "build" / "demo" / "package"
WALK, ENTRY = (20.0, 90.0), 8.0
DRAWS = 5
RATES = (1e-2, 3e-3, 1e-3)


@dataclass(frozen=True)
class Walk:
    """One person before one camera."""

    pid: int
    camera: int
    start: float
    images: NDArray[np.float32]
    """[frames, D], unit length; a second apart."""

    def mean(self, frames: int | None = None) -> NDArray[np.float32]:
        return np.asarray(self.images[:frames].mean(axis=0))

    def track(self, name: int, frames: int) -> Track:
        return Track(str(self.camera), str(name), self.start, self.start + (frames - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, nargs="?", default=DEMO)
    parser.add_argument("data", type=Path, nargs="?", help="default: 400 people who are drawn")
    parser.add_argument("--name", default="identify", help="of the result file")
    add_out(parser)
    options = parser.parse_args()
    if not options.package.exists():
        nothing_measured(f"no package {options.package}; `make demo` makes one")
    report: dict[str, Any] = {"benchmark": "identify", "environment": environment("scipy", "onnxruntime")}
    with tempfile.TemporaryDirectory() as scratch:
        data = options.data or Path(scratch) / "people"
        if options.data is None:
            generate(data, SynthConfig(identities=401, test_identities=400, images_per_camera=8, distractors=0, seed=1))
        dataset, encoder = load_dataset(data), Encoder.load(options.package, "cpu")
        samples = [*dataset.query, *dataset.gallery]
        rows = encoder.encode([frame for sample in samples for frame in sample.frames], batch_size=64)
    images = np.split(rows, np.cumsum([len(sample.frames) for sample in samples])[:-1])
    means = np.stack([rows.mean(axis=0) for rows in images])
    alone = score(dataset.query, dataset.gallery, means[: len(dataset.query)], means[len(dataset.query) :])
    persons = [(sample, rows) for sample, rows in zip(samples, images, strict=True) if sample.pid > 0]
    people = sorted({sample.pid for sample, _ in persons})
    known, strangers = set(people[::2]), set(people[1::2])
    labelled = walks([(sample, rows) for sample, rows in persons if sample.pid in known], seed=0)
    walking = [(sample, rows) for sample, rows in persons if sample.pid in strangers]
    draws = [walks(walking, seed) for seed in range(DRAWS)]
    report["data"] = {
        "name": "drawn people" if options.data is None else dataset.name,
        "people": len(strangers),
        "tracks": len(draws[0]),
        "cameras": len({sample.camid for sample in samples}),
        "images": sum(len(walk.images) for walk in draws[0]),
        "draws": DRAWS,
    }
    report["network"] = {"preset": encoder.manifest.preset, "mAP": alone.mAP, "rank1": alone.rank(1)}
    report["results"] = []
    tracks = np.stack([walk.mean() for walk in labelled])
    pids, cameras = (np.array([getattr(walk, name) for walk in labelled]) for name in ("pid", "camera"))
    for rate in RATES:
        found, _ = calibrate(tracks, pids, cameras, rate, kind="pairs")
        print(found.summary(), flush=True)
        for name, method in methods(found).items():
            row = {"method": name, "far": rate, "threshold": found.threshold, "margin": found.same_camera_margin or 0.0}
            report["results"].append(row | mean_figures(method, draws))
            print(report["results"][-1], flush=True)
    write_result(options.out, options.name, report)


def walks(persons: Iterable[tuple[Sample, NDArray[np.float32]]], seed: int) -> list[Walk]:
    """Each person before each of its cameras, in an order and at times drawn from `seed`."""
    seen: dict[int, dict[int, list[NDArray[np.float32]]]] = {}
    for sample, images in persons:
        seen.setdefault(sample.pid, {}).setdefault(sample.camid, []).append(images)
    rng, made = np.random.default_rng(seed), []
    for entry, pid in enumerate(rng.permutation(sorted(seen)).tolist()):
        now = ENTRY * entry
        for camera in rng.permutation(sorted(seen[pid])).tolist():
            made.append(Walk(pid, camera, now, np.concatenate(seen[pid][camera])))
            now += len(made[-1].images) + rng.uniform(*WALK)
    return made


Answer = tuple[Sequence[int], list[float]]
"""Whose each track is, and the seconds of each update."""


def methods(found: Calibration) -> dict[str, Callable[[list[Walk]], Answer]]:
    """What is compared, by its name in the table."""
    threshold, margin = found.threshold, found.same_camera_margin or 0.0
    return {
        "each track somebody new": lambda tracks: (range(len(tracks)), []),
        "`Identifier`, one threshold": lambda tracks: identified(tracks, Identifier(threshold)),
        "… and the margin within a camera": lambda tracks: identified(tracks, Identifier(threshold, same_camera_margin=margin)),
        "… and 20 s between cameras": lambda tracks: identified(
            tracks, Identifier(threshold, Travel(default=WALK[0]), same_camera_margin=margin)
        ),
        "… told of each track once, at its end": lambda tracks: identified(
            tracks, Identifier(threshold, Travel(default=WALK[0]), same_camera_margin=margin), growing=False
        ),
        "average linkage of all tracks": lambda tracks: linked(tracks, threshold, 0.0),
        "average linkage with the margin": lambda tracks: linked(tracks, threshold, margin),
    }


def identified(tracks: list[Walk], identifier: Identifier, growing: bool = True) -> Answer:
    """In the order of time, as cameras would tell of them."""
    told = [
        (walk.start + (frames - 1), name, frames)
        for name, walk in enumerate(tracks)
        for frames in range(1 if growing else len(walk.images), len(walk.images) + 1)
    ]
    seconds = []
    for _, name, frames in sorted(told):
        walk = tracks[name]
        start = time.perf_counter()
        identifier.update(walk.track(name, frames), walk.mean(frames), frames)
        seconds.append(time.perf_counter() - start)
    owners = {int(track.id): identity for identity, owned in identifier.identities.items() for track in owned}
    return [owners[name] for name in range(len(tracks))], seconds


def linked(tracks: list[Walk], threshold: float, margin: float) -> Answer:
    """Offline: everything is known, and nothing is said before the end."""
    x = np.stack([walk.mean() for walk in tracks]).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cameras = np.array([walk.camera for walk in tracks])
    distances = 1 - x @ x.T + margin * (cameras[:, None] == cameras)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(np.maximum(distances, 0), checks=False), "average")
    return fcluster(tree, threshold, "distance").tolist(), []


def mean_figures(method: Callable[[list[Walk]], Answer], draws: Iterable[list[Walk]]) -> dict[str, float]:
    """Means over draws; the median of the time of an update."""
    rows, seconds = [], list[float]()
    for tracks in draws:
        owners, took = method(tracks)
        rows.append(figures(tracks, np.asarray(owners)))
        seconds += took
    means = {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
    return means | ({"update_s": statistics.median(seconds)} if seconds else {})


def figures(tracks: list[Walk], owners: NDArray[np.int64]) -> dict[str, float]:
    """Of one draw."""
    pids = np.array([walk.pid for walk in tracks])
    (people, person), (found, identity) = (np.unique(ids, return_inverse=True) for ids in (pids, owners))
    images = np.zeros((len(people), len(found)))
    np.add.at(images, (person, identity), [len(walk.images) for walk in tracks])
    right = images[linear_sum_assignment(-images)].sum()
    pairs = np.triu_indices(len(tracks), 1)
    same, taken = (pids[:, None] == pids)[pairs], (owners[:, None] == owners)[pairs]
    both = float((same & taken).sum())
    return {
        "idf1": right / images.sum(),
        "pair_precision": both / taken.sum() if taken.any() else 1.0,
        "pair_recall": both / same.sum(),
        "identities": float(len(found)),
    }


if __name__ == "__main__":
    main()
