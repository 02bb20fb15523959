"""Results with their protocols, and the matrix of models and data sets; with models whose embeddings are given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stcanet.data.datasets import ReIDDataset, Sample
from stcanet.data.scoring import score
from stcanet.evaluation import EvaluationSettings, Matrix, Result, embed_dataset, fill_matrix, judge, open_model
from stcanet.evaluation.embedded import save_embeddings_to
from stcanet.evaluation.heatmap import draw_heatmap, heatmap
from stcanet.evaluation.result import markdown_header, protocol_text
from stcanet_runtime import evaluate, rerank_distances
from stcanet_runtime.cli import ranked_lists
from stcanet_runtime.errors import CheckpointError, DataError, OptionError, ShapeError
from stcanet_runtime.inference.crop_embeddings import load
from stcanet_runtime.inference.tracklets import Sampling
from stcanet_runtime.progress import Progress
from stcanet_runtime.retrieval.rerank import Reranking

DIM = 16


@dataclass
class GivenModel:
    """Embeds a person as a direction of its own, and noise that depends on the frame."""

    name: str = "runs/given/best.pt"
    runs_on: str = "nowhere"
    trained_on: str | None = "home"
    sha256: str | None = "5a"
    checkpoint_sha256: str | None = None
    takes_clips: bool = True
    noise: float = 0.5
    calls: list[int] = field(default_factory=list)

    def clip_length(self, sampling: Sampling) -> int:
        return sampling.length(4 if self.takes_clips else None)

    def embed(self, samples: Sequence[Sample], *_: object) -> NDArray[np.float32]:
        self.calls.append(len(samples))
        rows = [self._row(sample) for sample in samples]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)

    def _row(self, sample: Sample) -> NDArray[np.float64]:
        noise = np.random.default_rng([ord(letter) for letter in str(sample.path)]).standard_normal(DIM)
        person = np.random.default_rng(sample.pid).standard_normal(DIM)
        mean: NDArray[np.float64] = person + self.noise * noise
        return mean


def make_dataset(name: str = "home", tracklets: bool = True, append: bool = False, cameras: bool = True) -> ReIDDataset:
    def sample(pid: int, camid: int) -> Sample:
        frames = tuple(Path(f"{name}/{pid}_{camid}_{frame}.png") for frame in range(5 if tracklets else 1))
        return Sample(frames, pid, camid if cameras else -1)

    query = tuple(sample(pid, 0) for pid in range(1, 9))
    gallery = (*(sample(pid, camid) for pid in range(1, 12) for camid in (1, 2)), sample(0, 1))
    if append:
        return ReIDDataset(name, Path(name), (), query, (*gallery, *query), tracklets, protocol={"gallery": "official"})
    return ReIDDataset(name, Path(name), (), query, gallery, tracklets)


def result_of(dataset: ReIDDataset, settings: EvaluationSettings = EvaluationSettings(), **model: object) -> Result:  # noqa: B008
    given = GivenModel(**model)  # type: ignore[arg-type]
    return judge(given, embed_dataset(given, dataset, settings), settings)


def test_rankings_tell_how_far_they_are() -> None:
    told: dict[str, list[tuple[int, int]]] = {}

    @contextmanager
    def bar(title: str) -> Iterator[Progress]:
        calls = told[title] = []
        yield lambda *call: calls.append(call)

    settings, model = EvaluationSettings(reranking=Reranking(5, 2, 0.4)), GivenModel()
    judge(model, embed_dataset(model, make_dataset(), settings), settings, bar)
    assert list(told) == ["ranking", "re-ranking"]
    assert all(calls[-1][0] == calls[-1][1] > 0 for calls in told.values())


def test_every_result_carries_its_protocol() -> None:
    settings = EvaluationSettings(Sampling(flip=True), "euclidean", Reranking(5, 2, 0.4), ap_rule="trapezoid")
    result = result_of(replace(make_dataset(append=True), junk=3), settings)
    assert result.reranked is not None
    assert result.reranked.protocol.num_junk == 3
    facts = json.loads(json.dumps(result.to_dict()))
    expected = {
        "same_camera_rule": "same identity and same camera removed",
        "num_query": 8,
        "num_gallery": 31,
        "num_distractors": 1,
        "num_junk": 3,
        "num_skipped_queries": 0,
        "metric": "euclidean",
        "max_rank": 50,
        "ap_rule": "trapezoid",
        "data": {"gallery": "official"},
        "queries_in_gallery": 8,
        "frames": "all",
        "clip_length": 4,
        "averaged": "features of clips",
        "flip": True,
        "reranking": None,
    }
    assert facts["protocol"] == expected
    parameters = {"k1": 5, "k2": 2, "lambda_value": 0.4}
    metric = "euclidean, re-ranked (k1 5, k2 2, lambda 0.4)"
    assert facts["reranked"]["protocol"] == expected | {"reranking": parameters, "metric": metric}
    assert protocol_text({**facts["protocol"], "num_query": 1}).startswith("1 query, 31 in the gallery")
    assert result.protocol() == (
        "8 queries, 31 in the gallery (8 queries kept there, 1 distractor, 3 junk dropped); gallery: official; "
        "camera rule: same identity and same camera removed; AP trapezoid; euclidean distance; "
        "all frames in clips of 4, mean of features of clips; mirror images averaged"
    )


@pytest.mark.parametrize(
    ("tracklets", "clips", "sampling", "text"),
    [
        (False, False, Sampling(), "single images;"),
        (False, True, Sampling(), "single images, each repeated to a clip of 4;"),
        (True, True, Sampling("quick", 6), "of each tracklet a clip of 6;"),
        (True, False, Sampling("quick"), "of each tracklet a single frame;"),
        (True, True, Sampling(clip_length=2), "all frames in clips of 2, mean of features of clips;"),
        (True, False, Sampling(), "all frames, mean of unit embeddings of frames;"),
    ],
)
def test_the_protocol_says_what_was_embedded(tracklets: bool, clips: bool, sampling: Sampling, text: str) -> None:
    result = result_of(make_dataset(tracklets=tracklets), EvaluationSettings(sampling), takes_clips=clips)
    assert text in result.protocol() + ";"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (EvaluationSettings(), "AP rectangle; cosine distance; all frames of tracklets; no mirror images; not re-ranked"),
        (
            EvaluationSettings(Sampling("quick", 6, flip=True), "euclidean", Reranking(5, 2, 0.4), ap_rule="trapezoid"),
            "AP trapezoid; euclidean distance; one clip of each tracklet in clips of 6; mirror images averaged; re-ranked (k1",
        ),
    ],
)
def test_settings_say_themselves(settings: EvaluationSettings, text: str) -> None:
    assert str(settings).startswith(text)


def test_a_query_that_is_in_the_gallery_is_embedded_once_and_does_not_find_itself() -> None:
    model, dataset = GivenModel(noise=4.0), make_dataset(append=True)
    embedded = embed_dataset(model, dataset, EvaluationSettings())
    assert model.calls == [len(dataset.gallery)]
    np.testing.assert_array_equal(embedded.query, embedded.gallery[-8:])
    assert judge(model, embedded, EvaluationSettings()).plain.rank(1) < 1.0


def test_without_cameras_no_query_may_be_in_the_gallery() -> None:
    model = GivenModel()
    with pytest.raises(DataError, match="8 queries are in the gallery of home too, and would find themselves"):
        embed_dataset(model, make_dataset(append=True, cameras=False), EvaluationSettings())
    assert not model.calls


def test_without_cameras_nothing_is_removed() -> None:
    assert result_of(make_dataset(cameras=False)).plain.protocol.same_camera_rule == "off (no camera ids)"


def test_cosine_and_euclidean_rank_unit_vectors_alike_also_re_ranked() -> None:
    reranking = Reranking(5, 2, 0.3)
    cosine, euclidean = (
        result_of(make_dataset(), EvaluationSettings(metric=metric, reranking=reranking), noise=3.0)
        for metric in ("cosine", "euclidean")
    )
    for first, second in ((cosine.plain, euclidean.plain), (cosine.reranked, euclidean.reranked)):
        assert first is not None
        assert second is not None
        assert first.mAP == pytest.approx(second.mAP, abs=1e-9)
    assert cosine.reranked is not None
    assert cosine.reranked.mAP != cosine.plain.mAP


def test_re_ranking_gets_distances_and_never_negative_similarities() -> None:
    """The video test of the reference has −cos for a distance: squared, it puts the most similar pair furthest."""
    dataset, model = make_dataset(), GivenModel(noise=2.0)
    embedded = embed_dataset(model, dataset, EvaluationSettings())
    q, g = embedded.query, embedded.gallery
    with pytest.raises(ShapeError, match="negative"):
        rerank_distances(-q @ g.T, -q @ q.T, -g @ g.T)
    right = score(dataset.query, dataset.gallery, q, g, Reranking(5, 2))
    true = [np.maximum(1 - a @ b.T, 0) for a, b in ((q, g), (q, q), (g, g))]
    ours = rerank_distances(*[np.sqrt(2 * distances) for distances in true], k1=5, k2=2)
    ids = [np.array([sample.pid for sample in side]) for side in (dataset.query, dataset.gallery)]
    cameras = [np.array([sample.camid for sample in side]) for side in (dataset.query, dataset.gallery)]
    assert right.mAP == pytest.approx(evaluate(ours, *ids, *cameras).mAP, abs=1e-9)


def test_markdown_is_a_table() -> None:
    result = replace(result_of(make_dataset(), EvaluationSettings(reranking=Reranking(5, 2))), data="a|b")
    lines = [*markdown_header(), *result.markdown_rows()]
    assert len(lines) == 4
    cells = [line.replace("\\|", "").count("|") for line in lines]
    assert cells == [10] * 4
    assert lines[2].startswith("| given/best.pt | a\\|b | 8 queries")
    assert f"| {100 * result.plain.mAP:.2f} | {100 * result.plain.rank(1):.2f} |" in lines[2]
    assert "re-ranked (k1 5, k2 2, lambda 0.3)" in lines[3]


def test_embeddings_are_saved_as_infer_does(tmp_path: Path) -> None:
    model, dataset = GivenModel(noise=2.0), make_dataset()
    embedded = embed_dataset(model, dataset, EvaluationSettings())
    query, gallery = (load(path) for path in save_embeddings_to(embedded, tmp_path / "new"))
    np.testing.assert_array_equal(query.embeddings, embedded.query)
    assert query.model == gallery.model == "5a"  # those of another are told apart
    assert gallery.paths == [sample.path for sample in dataset.gallery]
    found = ranked_lists.rank(query, gallery, 3, False, "cosine", None, None)
    assert found.evaluation is not None
    assert found.evaluation.mAP == judge(model, embedded, EvaluationSettings()).plain.mAP


def test_a_data_set_needs_both_sides() -> None:
    for side, counts in (("gallery", "8 query and 0 gallery"), ("query", "0 query and 23 gallery")):
        with pytest.raises(DataError, match=counts):
            embed_dataset(GivenModel(), replace(make_dataset(), **{side: ()}), EvaluationSettings())


def test_where_no_query_has_a_match_nothing_is_embedded() -> None:
    model, dataset = GivenModel(), make_dataset()
    for gallery, cameras in ((dataset.query, True), (dataset.gallery[-7:], False)):
        known = [replace(sample, camid=sample.camid if cameras else -1) for sample in gallery]
        alone = replace(
            dataset, query=tuple(replace(sample, camid=known[0].camid) for sample in dataset.query), gallery=tuple(known)
        )
        with pytest.raises(DataError, match="none of 8 queries has a true match") as caught:
            embed_dataset(model, alone, EvaluationSettings())
        assert ("by another camera" in str(caught.value)) == cameras
    assert not model.calls


@pytest.mark.parametrize("wrong", [{"metric": "manhattan"}, {"ap_rule": "voc"}])
def test_settings_that_there_are_not_are_refused_where_they_are_made(wrong: dict[str, str]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(wrong))} must be "):
        EvaluationSettings(**wrong)  # type: ignore[arg-type]


def test_a_clip_length_that_the_model_does_not_take() -> None:
    model = GivenModel(takes_clips=False)
    with pytest.raises(OptionError, match="single images"):
        embed_dataset(model, make_dataset(), EvaluationSettings(Sampling(clip_length=4)))
    assert model.calls == []


def test_weights_of_other_programs_are_sent_to_convert(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.conv1.weight": torch.zeros(1)}}, tmp_path / "other.pth.tar")
    with pytest.raises(CheckpointError, match="'stcanet convert' makes one"):
        open_model(tmp_path / "other.pth.tar", "cpu")


# --- the matrix


@contextmanager
def no_bar(_: str) -> Iterator[object]:
    yield lambda *_: None


def fill(broken: str = "", seen: list[Matrix] | None = None) -> tuple[Matrix, dict[str, GivenModel]]:
    opened: dict[str, GivenModel] = {}

    def open_model(path: Path) -> GivenModel:
        if path.name == broken:
            raise RuntimeError("out of memory")
        opened[path.name] = GivenModel(str(path), noise=1.0 + 2 * len(opened))
        return opened[path.name]

    def open_dataset(source: str) -> ReIDDataset:
        if source == broken:
            raise DataError("there is nothing")
        return make_dataset(source)

    paths = [Path("a/x.pt"), Path("b/y.pt")], ["home", "abroad", "empty"]
    on_cell = None if seen is None else seen.append
    matrix = fill_matrix(*paths, open_model, open_dataset, EvaluationSettings(), no_bar, on_cell)  # type: ignore[arg-type]
    return matrix, opened


def test_every_model_embeds_every_data_set_once() -> None:
    seen: list[Matrix] = []
    matrix, opened = fill(seen=seen)
    assert (matrix.models, matrix.datasets) == (["a/x.pt", "b/y.pt"], ["home", "abroad", "empty"])
    assert [len(before.cells) for before in seen] == [1, 2, 3, 4, 5, 6]
    assert (seen[0].models, seen[0].datasets) == (matrix.models, matrix.datasets)
    assert all(len(model.calls) == 3 for model in opened.values())
    assert not matrix.failed
    for model, cells in matrix.rows():
        for cell in cells:
            assert cell.result is not None
            assert (cell.model, cell.result.data) == (model, cell.data)
    assert [cell.at_home for cell in matrix.cells] == [True, False, False] * 2
    facts = json.loads(json.dumps(matrix.to_dict()))
    assert facts["cells"][1]["data"] == "abroad"
    assert facts["cells"][1]["protocol"]["num_query"] == 8
    assert facts["cells"][0]["mAP"] != facts["cells"][3]["mAP"]


@pytest.mark.parametrize(
    ("broken", "failed", "reason"),
    [("abroad", [1, 4], "there is nothing"), ("x.pt", [0, 1, 2], "RuntimeError: out of memory")],
)
def test_what_fails_leaves_the_other_cells_alone(broken: str, failed: list[int], reason: str) -> None:
    matrix, _ = fill(broken)
    assert [index for index, cell in enumerate(matrix.cells) if cell.result is None] == failed
    assert {cell.error for cell in matrix.failed} == {reason}
    assert matrix.cells[failed[0]].to_dict()["error"] == reason
    assert matrix.cells[failed[0]].texts() == ["failed"]


def test_a_cell_that_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    embed = GivenModel.embed

    def sometimes(self: GivenModel, samples: Sequence[Sample], *rest: object) -> NDArray[np.float32]:
        if self.name == "a/x.pt" and "abroad" in str(samples[0].path):
            raise MemoryError("too large")
        return embed(self, samples, *rest)

    monkeypatch.setattr(GivenModel, "embed", sometimes)
    matrix, _ = fill()
    assert [cell.error for cell in matrix.failed] == ["MemoryError: too large"]
    assert matrix.failed[0] is matrix.cells[1]


def test_rows_and_columns_have_names_that_differ() -> None:
    matrix = fill_matrix(
        [Path("1/a/x.pt"), Path("2/a/x.pt")],
        ["mars=x", "mars:torchreid=x", "1/home", "2/home"],
        lambda path: GivenModel(str(path)),
        lambda source: make_dataset("mars" if "=" in source else "home"),
        EvaluationSettings(),
        no_bar,  # type: ignore[arg-type]
    )
    assert matrix.models == ["1/a/x.pt", "2/a/x.pt"]
    assert matrix.datasets == ["mars", "mars:torchreid", "1/home", "2/home"]


def test_the_picture_shows_every_cell(tmp_path: Path) -> None:
    matrix, _ = fill("abroad")
    draw_heatmap(matrix, tmp_path / "cross.png", "cosine distance")
    with Image.open(tmp_path / "cross.png") as image:
        colors = image.convert("RGB").getcolors(1 << 20) or []
    assert [path.name for path in tmp_path.iterdir()] == ["cross.png"]
    fills = {color for count, color in colors if count > 6000}  # a cell has 11,400 pixels
    assert (226, 226, 222) in fills  # failed
    assert len(fills) >= 2 + len({round(cell.result.plain.mAP, 1) for cell in matrix.cells if cell.result})
    framed = sum(count for count, color in colors if color == (208, 120, 30))
    assert framed > 2 * 1000
    many = heatmap(Matrix(matrix.models, matrix.datasets * 2, matrix.cells * 2), "x" * 300)
    assert many.width > 6 * 150
