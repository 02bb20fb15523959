"""Named embeddings of people: enrol, search, decide, forget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import as_ids, check_count, check_not_negative
from stcanet_runtime.backends import get_backend
from stcanet_runtime.embeddings import as_embeddings
from stcanet_runtime.errors import GalleryError, OptionError, ShapeError
from stcanet_runtime.gallery.enrolment import Names, check_name, make_entries
from stcanet_runtime.gallery.entry import EVERYTHING, Decision, Entry, Hit, Space, Where
from stcanet_runtime.gallery.sqlite import SqliteStore
from stcanet_runtime.gallery.store import Ids, Rows, Store
from stcanet_runtime.gallery.templates import Made, Templates, check_templates, make_templates
from stcanet_runtime.retrieval import ranking
from stcanet_runtime.retrieval.rerank import Reranking, rerank
from stcanet_runtime.wording import counted


def _check_calibration(value: Mapping[str, Any]) -> dict[str, Any]:
    checked = {"threshold": check_not_negative(value.get("threshold"), "threshold")}
    if (margin := value.get("same_camera_margin")) is not None:
        checked["same_camera_margin"] = check_not_negative(margin, "same_camera_margin")
    return {**value, **checked}


def _check_model(path: object, space: Space, model: Any) -> None:
    """GalleryError where embeddings are of another model; None does not say of which."""
    if model is not None and model != space.model:
        reason = f"it holds embeddings of model {space.model[:16]}, this one is {str(model)[:16]}"
        raise GalleryError(path, reason, "embeddings of different models cannot be compared; enrol into a gallery of its own")


class _Prepared(NamedTuple):
    """Templates that the last search made, and what they were made of."""

    revision: int
    where: str
    """As text: True is equal to 1, but not the same to a filter, and a mapping may change in place."""
    templates: Templates
    made: Made

    def pick(self, ids: Ids) -> Rows:
        """The templates of these entries."""
        return self.made.rows.take(np.isin(self.made.rows.ids, ids))


def _hits(ranked: Sequence[tuple[NDArray[np.float32], Ids]], entries: Mapping[int, Entry]) -> list[list[Hit]]:
    return [
        [Hit(d, entries[i]) for d, i in zip(distances.tolist(), ids.tolist(), strict=True) if i] for distances, ids in ranked
    ]


class Gallery:
    """A gallery of one model's embeddings. Safe to call from several threads; one process writes at a time, any number read.

    Example:
        >>> gallery = Gallery.create("site.gallery", encoder.dim, encoder.model_sha256)  # doctest: +SKIP
        >>> gallery.enrol(encoder.encode(crops), ["anna", "anna", "ben"], cameras="door")  # doctest: +SKIP
        >>> gallery.decide(encoder.encode([crop]), threshold=0.35)[0].identity  # doctest: +SKIP
        'anna'
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._prepared: _Prepared | None = None

    @classmethod
    def create(
        cls, path: str | Path, dim: int, model: str, metric: str = "cosine", dtype: str = "float32", timeout: float = 10.0
    ) -> Gallery:
        """Make an empty gallery.

        Args:
            path: The file, which must not exist.
            dim: D.
            model: SHA-256 of the model, or another name that no other model has.
            metric: ``"cosine"`` or ``"euclidean"``.
            dtype: ``"float32"`` or ``"float16"``: how embeddings are stored and searched.
            timeout: Seconds to wait while another process writes.

        Raises:
            GalleryError: There is something at `path`.
            OptionError: A value is not one of its choices.
        """
        return cls(SqliteStore.create(path, Space(model, dim, metric, dtype), timeout))

    @classmethod
    def open(cls, path: str | Path, model: str | None = None, read_only: bool = False, timeout: float = 10.0) -> Gallery:
        """Open a gallery.

        Args:
            path: The file.
            model: The model whose embeddings will be enrolled and searched; another than the gallery's is refused.
            read_only: Whether writing shall be impossible.
            timeout: Seconds to wait while another process writes.

        Raises:
            GalleryError: No gallery, damaged, of a newer version, or of another model.
        """
        store = SqliteStore(path, read_only, timeout)
        try:
            _check_model(path, store.space, model)
        except GalleryError:
            store.close()
            raise
        return cls(store)

    @property
    def space(self) -> Space:
        """Model, dimension, metric and storage type."""
        return self.store.space

    def enrol(
        self,
        embeddings: ArrayLike,
        identities: Sequence[str] | str,
        cameras: Names = None,
        times: ArrayLike | None = None,
        tracks: Names = None,
        metadata: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Add embeddings, all or none; when the call returns, they are on the disk.

        Args:
            embeddings: [N, D].
            identities: N names, or one for all.
            cameras: N names, or one for all, or None.
            times: N or one, seconds; by default, now.
            tracks: N names, or one for all, or None.
            metadata: N JSON objects, or one for all.

        Returns:
            N ids.

        Raises:
            ShapeError: Embeddings of another dimension, not finite, too large for float16, or lists of different lengths.
            OptionError: A name, time or value that cannot be kept.
            GalleryError: The file cannot be written.
        """
        x = self._checked(embeddings, "embeddings")
        if self.space.dtype == "float16" and len(x) and float(np.abs(x).max()) > float(np.finfo(np.float16).max):
            raise ShapeError("embeddings must be at most 65504 in magnitude to be stored as float16")
        entries = make_entries(len(x), identities, cameras, times, tracks, metadata)
        return self.store.add(entries, x) if entries else []

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        where: Where = EVERYTHING,
        cameras: Sequence[str | None] | None = None,
        templates: Templates = "all",
        reranking: Reranking | None = None,
        shortlist: int = 100,
    ) -> list[list[Hit]]:
        """The nearest entries of every query; exact, ties by id.

        Args:
            queries: [Q, D].
            k: Places wanted of each.
            where: Which entries are searched.
            cameras: [Q] the camera of each query, to leave out entries of the same camera; with all entries only.
            templates: What stands for an identity: ``"all"``, ``"mean"`` or a number; see `templates.make_templates`. They are
                kept, and those of an identity made anew when its entries change, or another `where` is asked for.
            reranking: Re-rank the shortlist of each query by k-reciprocal neighbours, each query by itself.
            shortlist: Places that are re-ranked.

        Returns:
            Q lists of at most k hits, nearest first.

        Raises:
            ShapeError: Queries of another dimension or not finite; `cameras` of another length.
            OptionError: A value out of its range, or a camera that is no name.
        """
        q = self._checked(queries, "queries")
        places = check_count(k, "k")
        wanted = max(places, check_count(shortlist, "shortlist")) if reranking else places
        if cameras is not None and (isinstance(cameras, str) or len(cameras) != len(q)):
            raise ShapeError(f"cameras must be {counted(len(q), 'name', 'names')}, one of each query")
        for camera in cameras if cameras is not None else ():
            if camera is not None:
                check_name(camera, "cameras")  # a number is no camera's name, and would leave out nothing
        if check_templates(templates) != "all" and cameras is not None:
            raise OptionError("templates", templates, "'all' where cameras are left out: a template may be of several cameras")
        gone: set[int] = set()
        while True:
            distances, ids, pick = self._nearest(q, wanted, where, cameras, templates)
            ranked = list(zip(distances, ids, strict=True))
            if reranking:
                ranked = [
                    self._rerank(query, pick(near), reranking, places) for query, (_, near) in zip(q, ranked, strict=True)
                ]
            entries = self.store.entries(np.unique(ids).tolist())
            # What another process deleted since is no answer, and what is next to it has to be looked for.
            missing = set(ids[ids > 0].tolist()).difference(entries)
            if not missing:
                return _hits(ranked, entries)
            if missing & gone:  # ids are never given again
                raise GalleryError(self.store.path, "it is damaged: an entry that is found is not there", "restore a copy")
            gone |= missing

    def decide(
        self,
        queries: ArrayLike,
        threshold: float | None = None,
        where: Where = EVERYTHING,
        cameras: Sequence[str | None] | None = None,
        templates: Templates = "all",
    ) -> list[Decision]:
        """Who each query is: the identity of the nearest entry within the threshold, or unknown.

        Args:
            queries: [Q, D].
            threshold: Largest distance at which somebody is recognised; by default the calibrated one of the gallery.
            where: Which entries are considered.
            cameras: As in `search`.
            templates: As in `search`; a threshold is valid for the kind of templates that it was calibrated with.

        Raises:
            GalleryError: Neither `threshold` nor a calibrated one.
            OptionError: It is negative or not finite: nobody would ever be recognised, or everybody.
        """
        limit = self.limit(threshold)
        found = self.search(queries, 1, where, cameras, templates)
        return [
            Decision(hits[0].identity if hits and hits[0].distance <= limit else None, limit, hits[0] if hits else None)
            for hits in found
        ]

    def limit(self, threshold: float | None = None) -> float:
        """The threshold that `decide` takes: this one, or else the calibrated one.

        Raises:
            GalleryError: There is neither.
            OptionError: It is negative or not finite.
        """
        limit = self.threshold if threshold is None else check_not_negative(threshold, "threshold")
        if limit is None:
            raise GalleryError(self.store.path, "it has no threshold", "give one, or run `stcanet calibrate`")
        return limit

    @property
    def threshold(self) -> float | None:
        """The calibrated one, or None."""
        calibration = self.calibration
        return None if calibration is None else float(calibration["threshold"])

    @property
    def same_camera_margin(self) -> float:
        """The calibrated one, for `Identifier`; 0 where none is known."""
        return float((self.calibration or {}).get("same_camera_margin") or 0.0)

    @property
    def calibration(self) -> dict[str, Any] | None:
        """How the threshold was found, with ``threshold`` in it, or None. One of another metric or model is refused."""
        found = self.store.setting("calibration")
        if found is None:
            return None
        try:
            return _check_calibration(found)
        except (AttributeError, TypeError, ValueError):
            pass
        raise GalleryError(self.store.path, "its calibration is damaged", "calibrate again")

    @calibration.setter
    def calibration(self, value: Mapping[str, Any] | None) -> None:
        if value is not None:
            value = _check_calibration(value)
            if value.get("metric") is not None:
                self.space.check(self.space.dim, value["metric"])
            _check_model(self.store.path, self.space, value.get("model"))
        self.store.set_setting("calibration", value)

    def forget(self, identity: str) -> int:
        """Delete an identity and prove that it is gone: no file of the gallery holds bytes of its embeddings any more.

        SQLite overwrites what it deletes, and the entries of others are written anew: so names, paths and metadata go. Then the
        files are searched for the embeddings. Copies elsewhere, and what a disk keeps of overwritten blocks, it does not reach.

        Returns:
            Entries deleted; 0 where an earlier call deleted them, and this one their bytes.

        Raises:
            GalleryError: There is no such identity, or its bytes, or those of an earlier deletion, could not be removed since
                another process reads: then do it again.
        """
        # First what is asked for: an earlier deletion that cannot be finished yet must not keep anybody in the gallery.
        self._prepared = None
        count = self.store.purge(Where(identities=(identity,)))
        if not self.store.finish() and not count:
            raise GalleryError(self.store.path, f"it has no identity '{identity}'")
        return count

    def expire(self, before: float) -> int:
        """Delete entries whose time is before `before`, in seconds; how many. Their place in the file is overwritten."""
        if before is None:  # no limit, to a filter: all would go
            raise OptionError("before", before, "a time in seconds")
        self._prepared = None
        count = self.store.remove(Where(before=before))
        self.store.finish()
        return count

    def rename(self, ids: Sequence[int], identity: str) -> None:
        """Give entries another identity: two that are one person, or one that is two. All of them, or none.

        Raises:
            ShapeError: Ids that are no whole numbers.
            OptionError: An identity that is no name.
            GalleryError: There is no entry of an id.
        """
        self.store.rename(as_ids(list(ids), len(ids), "ids").tolist(), check_name(identity, "identity"))

    def rows(self, where: Where = EVERYTHING) -> tuple[Rows, list[Entry]]:
        """Copies of entries and their embeddings, by id."""
        rows = self.store.rows(where)
        entries = self.store.entries(rows.ids.tolist())
        if len(entries) < len(rows.ids):  # between the two another process deleted some
            rows = rows.take(np.isin(rows.ids, list(entries)))
        return rows, [entries[i] for i in rows.ids.tolist()]

    def stats(self) -> dict[str, Any]:
        """Counts, who is in it with how many entries, the span of times, model and files, as JSON values."""
        facts = self.store.facts()
        return {
            **facts,
            "memory_bytes": facts["entries"] * self.space.row_bytes,
            "model": self.space.model,
            "dim": self.space.dim,
            "metric": self.space.metric,
            "dtype": self.space.dtype,
            "threshold": self.threshold,
        }

    def close(self) -> None:
        """Let go of file and memory; what was enrolled is safe without it."""
        self.store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _checked(self, x: ArrayLike, name: str) -> NDArray[np.float32]:
        array = as_embeddings(x, name)
        if array.shape[1] != self.space.dim:
            raise ShapeError(f"{name} must have {self.space.dim} columns, as the gallery has, got {list(array.shape)}")
        return array

    def _nearest(
        self, q: NDArray[np.float32], k: int, where: Where, cameras: Sequence[str | None] | None, templates: Templates
    ) -> tuple[NDArray[np.float32], Ids, Callable[[Ids], Rows]]:
        """Distances and ids [Q, K], and what gives the rows of ids: embeddings, or templates."""
        if templates == "all":
            if self._prepared is not None and self._prepared.revision != self.store.revision:
                self._prepared = None  # of people who may be forgotten
            return *self.store.nearest(q, k, where, cameras), self.store.pick
        prepared = self._templates(where, templates)
        rows = prepared.made.rows
        found = ranking.search_checked(q, rows.embeddings, k, self.space.metric, None, None, get_backend())
        return found.distances, rows.ids[found.indices], prepared.pick

    def _templates(self, where: Where, templates: Templates) -> _Prepared:
        kept, revision, text = self._prepared, self.store.revision, repr(where)
        if kept is not None and (kept.where, kept.templates) != (text, templates):
            kept = None
        if kept is None or kept.revision != revision:
            made = make_templates(self.store.rows(where), templates, self.space.metric, kept and kept.made)
            self._prepared = kept = _Prepared(revision, text, templates, made)
        return kept

    def _rerank(self, query: NDArray[np.float32], rows: Rows, reranking: Reranking, k: int) -> tuple[NDArray[np.float32], Ids]:
        if not len(rows.ids):
            return np.empty(0, np.float32), rows.ids
        settings = (reranking.k1, reranking.k2, reranking.lambda_value)
        found = rerank(query[None], rows.embeddings, *settings, top=k, metric=self.space.metric)
        return found.distances[0], rows.ids[found.indices[0]]
