"""The figures of one model on one data set, with everything that must be the same for figures to be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet.data.datasets import ReIDDataset, load_dataset
from stcanet.data.scoring import identities, score
from stcanet.evaluation.models import RetrievalModel, open_model
from stcanet_runtime import Evaluation
from stcanet_runtime.errors import DataError
from stcanet_runtime.figures import REPORTED_RANKS, APRule
from stcanet_runtime.rerank import Reranking
from stcanet_runtime.tracklets import ALL_FRAMES, Progress, Sampling
from stcanet_runtime.wording import counted

EMBEDDINGS = ("query.npz", "gallery.npz")
"""What :func:`save_embeddings_to` writes."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How a model is tested."""

    sampling: Sampling = ALL_FRAMES
    """What of a tracklet is embedded, and whether mirror images count."""
    metric: str = "cosine"
    """'cosine' or 'euclidean'."""
    reranking: Reranking | None = None
    """Re-rank as well, with these parameters."""
    batch_size: int = 64
    """Images or frames per forward pass; changes no figure."""
    ap_rule: APRule = "rectangle"
    """'rectangle' or 'trapezoid'."""

    def __str__(self) -> str:
        clips = f" in clips of {self.sampling.clip_length}" if self.sampling.clip_length else ""
        frames = f"all frames of tracklets{clips}" if self.sampling.frames == "all" else f"one clip of each tracklet{clips}"
        reranked = str(self.reranking or "not re-ranked")
        return "; ".join([f"AP {self.ap_rule}", f"{self.metric} distance", frames, _flip_text(self.sampling.flip), reranked])


@dataclass(frozen=True, eq=False)
class Embedded:
    """A data set's query and gallery as one model sees them."""

    dataset: ReIDDataset
    query: NDArray[np.float32]
    """``[Q, D]``"""
    gallery: NDArray[np.float32]
    """``[G, D]``"""
    how: dict[str, Any]
    """What was embedded, as JSON values."""
    model_sha256: str | None
    """Whose embeddings they are; None of a model that is in no file."""


def embed_dataset(
    model: RetrievalModel, dataset: ReIDDataset, settings: EvaluationSettings, progress: Progress | None = None
) -> Embedded:
    """Embed query and gallery.

    Samples that are in both (MARS keeps its queries in the gallery) are embedded once.

    Raises:
        DataError: The data set has no query or no gallery, or queries in the gallery that no camera rule keeps from finding
            themselves.
        OptionError: The model does not take clips of that length.
        ImageError: An image cannot be read.
    """
    if not dataset.query or not dataset.gallery:
        raise DataError(
            f"{dataset.root} has {len(dataset.query)} query and {len(dataset.gallery)} gallery samples; both are needed"
        )
    within = len({*dataset.query} & {*dataset.gallery})
    if within and not dataset.has_cameras:
        raise DataError(
            f"{counted(within, 'query is', 'queries are')} in the gallery of {dataset.name} too, and would find themselves, "
            "since the camera of each is not known; leave them out of the gallery"
        )
    how = {
        "data": dict(dataset.protocol),
        "queries_in_gallery": within,
        **_how(model, dataset, settings.sampling),
    }
    place = {sample: index for index, sample in enumerate(dict.fromkeys((*dataset.query, *dataset.gallery)))}
    rows = model.embed(list(place), settings.sampling, settings.batch_size, progress)
    if len(rows) == len(dataset.query) + len(dataset.gallery):  # no copies, which may not fit into the memory
        return Embedded(dataset, rows[: len(dataset.query)], rows[len(dataset.query) :], how, model.sha256)
    query, gallery = (rows[[place[sample] for sample in side]] for side in (dataset.query, dataset.gallery))
    return Embedded(dataset, query, gallery, how, model.sha256)


def _how(model: RetrievalModel, dataset: ReIDDataset, sampling: Sampling) -> dict[str, Any]:
    length = model.clip_length(sampling)
    return {
        "frames": sampling.frames if dataset.tracklets else "single image",
        "clip_length": length if model.takes_clips else None,
        "averaged": _averaged(model) if dataset.tracklets and sampling.frames == "all" else None,
        "flip": sampling.flip,
    }


@dataclass(frozen=True, eq=False)
class Result:
    """Figures of one model on one data set, plain and re-ranked."""

    model: str
    runs_on: str
    data: str
    how: dict[str, Any]
    """What was embedded."""
    plain: Evaluation
    reranked: Evaluation | None
    reranking: Reranking | None
    checkpoint_sha256: str | None = None
    """Of the checkpoint that was evaluated, or exported to what was: runs go on, and figures stay behind."""

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values, protocols included."""
        origin = {"model": self.model, "checkpoint_sha256": self.checkpoint_sha256, "runs_on": self.runs_on}
        facts = {**origin, "data": self.data, **self._stamped(self.plain, None)}
        if self.reranked and self.reranking:
            facts["reranked"] = {**asdict(self.reranking), **self._stamped(self.reranked, self.reranking)}
        return facts

    def _stamped(self, evaluation: Evaluation, reranking: Reranking | None) -> dict[str, Any]:
        values = evaluation.to_dict()
        values["protocol"] |= {**self.how, "reranking": None if reranking is None else asdict(reranking)}
        return values

    def lines(self) -> list[str]:
        """For people: figures, re-ranked figures, and the protocol of both."""
        reranked = [f"{self.reranking}: {self.reranked.summary()}"] if self.reranked else []
        return [self.plain.summary(), *reranked, f"protocol: {self.protocol()}"]

    def protocol(self) -> str:
        """One line of text that says how the figures were made; re-ranking is said beside its figures."""
        return protocol_text(self._stamped(self.plain, None)["protocol"])

    def markdown_rows(self) -> list[str]:
        """Table rows under :func:`markdown_header`: plain, and re-ranked where that was done."""
        rows = [(self.protocol(), self.plain)]
        if self.reranked:
            rows.append((f"{self.protocol()}; {self.reranking}", self.reranked))
        name = f"{Path(self.model).resolve().parent.name}/{Path(self.model).name}"
        return [_row([name, self.data, protocol, *_percent(evaluation)]) for protocol, evaluation in rows]


def protocol_text(protocol: Mapping[str, Any]) -> str:
    """The ``protocol`` of :meth:`Result.to_dict` as one line of text.

    Raises:
        KeyError: Something is missing, as in results of older versions.
    """
    counts = f"{counted(protocol['num_query'], 'query', 'queries')}, {protocol['num_gallery']} in the gallery"
    aside = [
        (protocol["queries_in_gallery"], "query kept there", "queries kept there"),
        (protocol["num_distractors"], "distractor", "distractors"),
        (protocol["num_junk"], "junk dropped", "junk dropped"),
    ]
    named = ", ".join(counted(*words) for words in aside if words[0])
    return "; ".join(
        [
            counts + (f" ({named})" if named else ""),
            *(f"{name}: {value}" for name, value in protocol["data"].items()),
            f"camera rule: {protocol['same_camera_rule']}",
            f"AP {protocol['ap_rule']}",
            f"{protocol['metric']} distance",
            _frames_text(protocol),
            _flip_text(protocol["flip"]),
        ]
    )


def markdown_header() -> list[str]:
    """The two lines above the rows of a table of results."""
    titles = ["model", "data set", "protocol", "mAP", *(f"rank-{rank}" for rank in REPORTED_RANKS), "mINP"]
    return [_row(titles), "|" + "---|" * len(titles)]


def judge(model: RetrievalModel, embedded: Embedded, settings: EvaluationSettings) -> Result:
    """Rank the gallery for each query and measure; with re-ranking too where the settings say so.

    Raises:
        DataError: No query has a true match.
    """
    dataset, sides = embedded.dataset, (embedded.query, embedded.gallery)
    rules = (settings.metric, settings.ap_rule)
    plain = score(dataset.query, dataset.gallery, *sides, None, *rules)
    reranked = score(dataset.query, dataset.gallery, *sides, settings.reranking, *rules) if settings.reranking else None
    judged = (plain, reranked, settings.reranking)
    return Result(model.name, model.runs_on, dataset.name, embedded.how, *judged, model.checkpoint_sha256)


def evaluate(
    model: str | Path,
    data: str | Path,
    settings: EvaluationSettings = EvaluationSettings(),
    device: str = "auto",
    provider: str = "auto",
    progress: Progress | None = None,
) -> Result:
    """What ``stcanet evaluate`` measures of a checkpoint or a package on a data set.

    Arguments and errors are those of :func:`~stcanet.data.datasets.load_dataset`, :func:`open_model`, :func:`embed_dataset` and
    :func:`judge`, which it calls in turn. Where one model meets several data sets, or one data set several settings, call them
    yourself.
    """
    dataset = load_dataset(data)
    opened = open_model(Path(model), device, provider)
    return judge(opened, embed_dataset(opened, dataset, settings, progress), settings)


def save_embeddings_to(embedded: Embedded, folder: Path) -> list[Path]:
    """Write :data:`EMBEDDINGS` into a folder as `stcanet infer -o` does, for `stcanet rank`; a tracklet by its first frame."""
    from stcanet_runtime.crop_embeddings import Crops, save

    dataset, written = embedded.dataset, []
    sides = ((dataset.query, embedded.query), (dataset.gallery, embedded.gallery))
    for name, (samples, rows) in zip(EMBEDDINGS, sides, strict=True):
        paths, whose = [sample.path for sample in samples], identities(samples, dataset.has_cameras)
        crops = Crops(paths, rows, *whose, skipped=[], model=embedded.model_sha256)
        written.append(folder / name)
        save(crops, written[-1])
    return written


def _averaged(model: RetrievalModel) -> str:
    return "features of clips" if model.takes_clips else "unit embeddings of frames"


def _frames_text(how: Mapping[str, Any]) -> str:
    clip = f"a clip of {how['clip_length']}" if how["clip_length"] else "a single frame"
    if how["frames"] == "single image":
        return "single images" + (f", each repeated to {clip}" if how["clip_length"] else "")
    if how["frames"] == "quick":
        return f"of each tracklet {clip}"
    clips = f" in clips of {how['clip_length']}" if how["clip_length"] else ""
    return f"all frames{clips}, mean of {how['averaged']}"


def _flip_text(flip: bool) -> str:
    return "mirror images averaged" if flip else "no mirror images"


def _percent(evaluation: Evaluation) -> list[str]:
    values = [evaluation.mAP, *(evaluation.rank(rank) for rank in REPORTED_RANKS), evaluation.mINP]
    return [f"{100 * value:.2f}" for value in values]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
