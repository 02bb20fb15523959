"""The figures of one model on one data set, with everything that must be the same for figures to be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from stcanet.data.datasets import ReIDDataset, load_dataset
from stcanet.data.scoring import score
from stcanet.evaluation.embedded import Embedded, embed_dataset
from stcanet.evaluation.models import RetrievalModel, open_model
from stcanet.evaluation.settings import EvaluationSettings, flip_text
from stcanet_runtime import Evaluation
from stcanet_runtime.errors import DataError
from stcanet_runtime.files import read_json
from stcanet_runtime.progress import Progress
from stcanet_runtime.retrieval.figures import REPORTED_RANKS
from stcanet_runtime.retrieval.rerank import Reranking
from stcanet_runtime.wording import counted, fault


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
        return [markdown_row([name, self.data, protocol, *_percent(evaluation)]) for protocol, evaluation in rows]


def read_result(path: str | Path) -> dict[str, Any]:
    """What :meth:`Result.to_dict` gave, from a file that anybody may have changed.

    Raises:
        OSError: It cannot be read.
        DataError: It is no result of ``stcanet evaluate``.
    """
    try:
        result: dict[str, Any] = read_json(path)
        json.dumps(result, allow_nan=False, ensure_ascii=False).encode()  # packages keep it
        texts = [result["model"], result["runs_on"], result["data"], result["checkpoint_sha256"] or ""]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("its names are no texts")
        _check_figures(result)
        if (reranked := result.get("reranked")) is not None:
            reranking_of(reranked)
            _check_figures(reranked)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is no result of 'stcanet evaluate --out': {fault(error)}") from None
    return result


def reranking_of(reranked: Mapping[str, Any]) -> Reranking:
    """The parameters in ``reranked`` of :meth:`Result.to_dict`."""
    return Reranking(*(reranked[field.name] for field in fields(Reranking)))


def _check_figures(found: Mapping[str, Any]) -> None:
    protocol_text(found["protocol"])
    figures = [found["mAP"], found["mINP"], *found["cmc"]]
    if not found["cmc"] or not all(isinstance(figure, float) and 0 <= figure <= 1 for figure in figures):
        raise ValueError("its figures are no numbers from 0 to 1")
    if not isinstance(found["num_valid_queries"], int):
        raise TypeError("its number of queries is none")


def protocol_text(protocol: Mapping[str, Any]) -> str:
    """The ``protocol`` of :meth:`Result.to_dict` as one line of text.

    Raises:
        KeyError: Something is missing.
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
            flip_text(protocol["flip"]),
        ]
    )


def markdown_header() -> list[str]:
    """The two lines above the rows of a table of results."""
    titles = ["model", "data set", "protocol", "mAP", *(f"rank-{rank}" for rank in REPORTED_RANKS), "mINP"]
    return [markdown_row(titles), "|" + "---|" * len(titles)]


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a table of Markdown, whatever is in the cells: a bar would shift columns, a line break would end the table."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def judge(
    model: RetrievalModel,
    embedded: Embedded,
    settings: EvaluationSettings,
    progress: Callable[[str], AbstractContextManager[Progress]] | None = None,
) -> Result:
    """Rank the gallery for each query and measure; with re-ranking too where the settings say so.

    `progress` makes a bar for each of the two, from its title.
    """
    dataset, sides = embedded.dataset, (embedded.query, embedded.gallery)
    rules = (settings.metric, settings.ap_rule)

    def scored(title: str, reranking: Reranking | None) -> Evaluation:
        with progress(title) if progress else nullcontext() as bar:
            return score(dataset.query, dataset.gallery, *sides, reranking, *rules, bar)

    plain = scored("ranking", None)
    reranked = scored("re-ranking", settings.reranking) if settings.reranking else None
    judged = (_with_junk(plain, dataset), reranked and _with_junk(reranked, dataset), settings.reranking)
    return Result(model.name, model.runs_on, dataset.name, embedded.how, *judged, model.checkpoint_sha256)


def _with_junk(evaluation: Evaluation, dataset: ReIDDataset) -> Evaluation:
    # It was never embedded, so whoever scored could not count it.
    return replace(evaluation, protocol=replace(evaluation.protocol, num_junk=dataset.junk))


def evaluate(
    model: str | Path,
    data: str | Path,
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008  (it is frozen)
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


def _frames_text(how: Mapping[str, Any]) -> str:
    clip = f"a clip of {how['clip_length']}" if how["clip_length"] else "a single frame"
    if how["frames"] == "single image":
        return "single images" + (f", each repeated to {clip}" if how["clip_length"] else "")
    if how["frames"] == "quick":
        return f"of each tracklet {clip}"
    clips = f" in clips of {how['clip_length']}" if how["clip_length"] else ""
    return f"all frames{clips}, mean of {how['averaged']}"


def _percent(evaluation: Evaluation) -> list[str]:
    values = [evaluation.mAP, *(evaluation.rank(rank) for rank in REPORTED_RANKS), evaluation.mINP]
    return [f"{100 * value:.2f}" for value in values]
