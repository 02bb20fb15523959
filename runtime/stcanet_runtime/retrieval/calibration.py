"""Thresholds: how near is near enough, for a rate of false accepts that can be borne.

Two questions, two definitions (ISO/IEC 19795-1), over labelled embeddings. A comparison is accepted when its distance is at
most the threshold.

``pairs``, verification: *are these two the same person?* FAR: the share of pairs of different people that are accepted. FRR:
the share of pairs of one person that are not.

``search``, identification: *who in the gallery is this?* Every embedding in turn is a query against all others. FAR: the share
of queries that, when their own identity is taken out, find somebody within the threshold (FPIR; it grows with the gallery, so
calibrate with one as large as yours). FRR: the share of queries whose nearest embedding of their own identity lies beyond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import as_list, check_count
from stcanet_runtime.embeddings import as_embeddings
from stcanet_runtime.errors import DataError, OptionError, quote_choices
from stcanet_runtime.retrieval.distance import check_metric, distance_matrix

KINDS = ("pairs", "search")
_BLOCK = 512  # rows whose distances are held at a time


@dataclass(frozen=True)
class Calibration:
    """A threshold, and how it was found."""

    threshold: float
    """Largest distance that is accepted."""
    target_far: float
    far: float
    """Measured; at most the target."""
    frr: float
    eer: float
    """Where FAR and FRR are the same, about."""
    kind: str
    metric: str
    cross_camera: bool
    """Whether images of one camera were not compared with each other."""
    genuine: int
    """Comparisons of one person: pairs, or queries."""
    impostor: int
    """Comparisons of different people."""
    embeddings: int
    """Used; drawn at random where there were more than `max_embeddings`."""
    identities: int
    model: str | None = None
    same_camera_margin: float | None = None
    """How much smaller the threshold must be among images of one camera, whose people look more alike, to accept the same share
    of pairs of different people; for `Identifier`. None: cameras are not known or were ignored, or each saw one person only."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """One line."""
        which = "across cameras" if self.cross_camera else "cameras ignored"
        margin = "" if self.same_camera_margin is None else f"; within a camera {self.same_camera_margin:.4f} less"
        asked = "searches" if self.kind == "search" else self.kind
        far, frr, eer = (f"{100 * rate:.3g} %" for rate in (self.far, self.frr, self.eer))  # "1 of 1,400" would be all of them
        return (
            f"threshold {self.threshold:.4f} ({self.metric}): FAR {far} of {self.impostor:,} {asked}, FRR {frr} of "
            f"{self.genuine:,} ({which}; {self.identities:,} identities); EER {eer}{margin}"
        )


@dataclass(frozen=True, eq=False)
class Scores:
    """Distances of comparisons, sorted."""

    genuine: NDArray[np.float32]
    impostor: NDArray[np.float32]

    def far(self, thresholds: NDArray[np.float32]) -> NDArray[np.float64]:
        """Share of impostors at most at each threshold."""
        return np.searchsorted(self.impostor, thresholds, "right") / len(self.impostor)

    def frr(self, thresholds: NDArray[np.float32]) -> NDArray[np.float64]:
        """Share of genuine comparisons beyond each threshold."""
        return 1 - np.searchsorted(self.genuine, thresholds, "right") / len(self.genuine)

    def threshold(self, target: float) -> float:
        """The largest float32 at which FAR is at most the target.

        Raises:
            DataError: There are fewer than 1 / target impostors: none of them would be allowed, and the rate not measured. Or
                more of them than are allowed are at distance 0, where a threshold ends.
        """
        allowed = min(int(np.floor(target * len(self.impostor) * (1 + 1e-12))), len(self.impostor) - 1)
        if allowed < 1:
            raise DataError(
                f"a false accept rate of {target:g} needs at least {int(np.ceil(1 / target)):,} comparisons of different "
                f"people, there are {len(self.impostor):,}; give more labelled images, or a larger rate"
            )
        if not self.impostor[allowed] > 0:
            raise DataError(
                f"no threshold has a false accept rate of {target:g}: in {np.count_nonzero(self.impostor <= 0):,} of "
                f"{len(self.impostor):,} comparisons of different people the distance is 0; look for one image under several "
                "names, or for a model that gives the same for every image"
            )
        return float(np.nextafter(self.impostor[allowed], np.float32(-np.inf)))

    def equal_error(self) -> float:
        """The mean of FAR and FRR where they are nearest to each other."""
        far, frr = self.far(self.genuine), self.frr(self.genuine)
        best = int(np.abs(far - frr).argmin())
        return float(far[best] + frr[best]) / 2


def check_far(rate: float) -> None:
    """Raise OptionError where it is no rate that can be asked for."""
    if not 0 < rate < 1:
        raise OptionError("far", rate, "above 0 and below 1")


def calibrate(
    embeddings: ArrayLike,
    identities: ArrayLike,
    cameras: ArrayLike | None = None,
    far: float = 1e-3,
    *,
    kind: str = "search",
    metric: str = "cosine",
    cross_camera: bool = True,
    max_embeddings: int = 6000,
    seed: int = 0,
    model: str | None = None,
) -> tuple[Calibration, Scores]:
    """Find the threshold for a false accept rate.

    Args:
        embeddings: [N, D].
        identities: [N] numbers or names.
        cameras: [N] numbers or names, if known.
        far: The rate that can be borne, above 0 and below 1.
        kind: ``"search"`` (for `Gallery.decide`) or ``"pairs"``.
        metric: ``"cosine"`` or ``"euclidean"``.
        cross_camera: Compare images of different cameras only, where cameras are known.
        max_embeddings: For pairs, draw so many at random where there are more: they grow with the square.
        seed: Of that draw.
        model: Kept in the result.

    Returns:
        The calibration, and the distances behind it.

    Raises:
        ShapeError: Wrong shapes or values.
        OptionError: A value out of its range.
        DataError: Too few comparisons for this rate, or none.
    """
    x = as_embeddings(embeddings, "embeddings")
    people, places = _codes(identities, len(x), "identities"), None
    check_far(far)
    if cameras is not None and cross_camera:
        places = _codes(cameras, len(x), "cameras")
    if kind not in KINDS:
        raise OptionError("kind", kind, quote_choices(KINDS))
    check_metric(metric)
    some = _draw(x, people, places, check_count(max_embeddings, "max_embeddings"), seed)
    if kind == "pairs":
        x, people, places = some
    scores = (_pair_scores if kind == "pairs" else _search_scores)(_blocks(x, people, places, metric))
    for name in ("genuine", "impostor"):
        if not len(getattr(scores, name)):
            raise DataError(f"there are no {name} comparisons; several people are needed, each seen by several cameras")
    threshold = scores.threshold(far)
    at = np.array([threshold], np.float32)
    margin = None
    if places is not None:
        pairs = scores if kind == "pairs" else _pair_scores(_blocks(*some, metric))
        margin = _margin(threshold, pairs.impostor, _pair_scores(_blocks(*some, metric, within=True)).impostor)
    calibration = Calibration(
        threshold=threshold,
        target_far=far,
        far=float(scores.far(at)[0]),
        frr=float(scores.frr(at)[0]),
        eer=scores.equal_error(),
        kind=kind,
        metric=metric,
        cross_camera=places is not None,
        genuine=len(scores.genuine),
        impostor=len(scores.impostor),
        embeddings=len(x),
        identities=len(np.unique(people)),
        model=model,
        same_camera_margin=margin,
    )
    return calibration, scores


def _margin(threshold: float, across: NDArray[np.float32], within: NDArray[np.float32]) -> float | None:
    """Distances of different people are given, sorted."""
    if not len(across) or not len(within):
        return None
    accepted = np.searchsorted(across, np.float32(threshold), "right") / len(across)
    first_wrong = within[min(int(accepted * len(within)), len(within) - 1)]
    return max(0.0, threshold - float(np.nextafter(first_wrong, np.float32(-np.inf))))


def _draw(
    x: NDArray[np.float32], people: NDArray[np.int64], cameras: NDArray[np.int64] | None, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64] | None]:
    if len(x) <= count:
        return x, people, cameras
    chosen = np.sort(np.random.default_rng(seed).permutation(len(x))[:count])
    return x[chosen], people[chosen], None if cameras is None else cameras[chosen]


def _codes(labels: ArrayLike, count: int, name: str) -> NDArray[np.int64]:
    return np.unique(as_list(labels, count, name), return_inverse=True)[1].astype(np.int64)


Block = tuple[int, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]


def _blocks(
    x: NDArray[np.float32], people: NDArray[np.int64], cameras: NDArray[np.int64] | None, metric: str, within: bool = False
) -> Iterator[Block]:
    """Row by row against all: the first row, distances [R, N], which are compared, and which of the same person.

    Compared are images of different cameras, or `within` the same one.
    """
    groups = np.arange(len(x)) if cameras is None else cameras  # of no camera: all but the image itself
    for start in range(0, len(x), _BLOCK):
        own = slice(start, start + _BLOCK)
        yield start, distance_matrix(x[own], x, metric), (groups[own, None] == groups) == within, people[own, None] == people


def _pair_scores(blocks: Iterator[Block]) -> Scores:
    """Every pair once."""
    genuine, impostor = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
    for start, distances, compared, same in blocks:
        once = compared & (np.arange(start, start + len(distances))[:, None] < np.arange(distances.shape[1]))
        genuine.append(distances[once & same])
        impostor.append(distances[once & ~same])
    return Scores(np.sort(np.concatenate(genuine)), np.sort(np.concatenate(impostor)))


def _search_scores(blocks: Iterator[Block]) -> Scores:
    """Every embedding as a query: its nearest of its own identity, and its nearest of all others."""
    genuine, impostor = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
    for _, distances, compared, same in blocks:
        for nearest, meant in ((genuine, same), (impostor, ~same)):
            found = np.where(compared & meant, distances, np.float32(np.inf)).min(axis=1)
            nearest.append(found[np.isfinite(found)])
    return Scores(np.sort(np.concatenate(genuine)), np.sort(np.concatenate(impostor)))
