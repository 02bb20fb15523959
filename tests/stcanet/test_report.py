"""The page about a run: what it reads, what it draws, and what it says where something is missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stcanet.config import make_config
from stcanet.data.datasets import Sample, load_dataset
from stcanet.data.masks import COLORS, MaskFolder, save_indexed
from stcanet.data.masks.picture import overlay, sheet, tint
from stcanet.data.scoring import score
from stcanet.engine import run_files
from stcanet.engine.checkpoint import Checkpoint, save_checkpoint
from stcanet.engine.overlap import best_overlap, part_iou
from stcanet.engine.part_maps import PartMaps, part_maps, pick_crops, record_part_maps
from stcanet.engine.run_folder import RunFolder
from stcanet.evaluation import EvaluationSettings, embed_dataset, judge, open_model
from stcanet.losses import part_targets
from stcanet.model import STCANet, build_model
from stcanet.report.attention import draw_part_maps
from stcanet.report.chart import HEIGHT, WIDTH, _axes, line_chart, tick_labels, ticks
from stcanet.report.curves import draw_curves
from stcanet.report.mistakes import hardest
from stcanet.report.run import read_run
from stcanet.report.write import _validation, write_report
from stcanet_runtime.errors import CheckpointError, DataError
from stcanet_runtime.files import write_json
from stcanet_runtime.inference.tracklets import Sampling
from stcanet_runtime.retrieval.rerank import Reranking

SMALL = {"preset": "stcanet-tiny", "backbone_weights": "none", "model": {"height": 64, "width": 32}, "val_fraction": 0.25}


@pytest.fixture(scope="module")
def model() -> STCANet:
    torch.manual_seed(0)
    return build_model("stcanet-tiny", 8, height=64, width=32).eval()


@pytest.fixture
def run(people: Path, model: STCANet, tmp_path: Path) -> Path:
    """A run folder as training leaves it, of a network that learnt nothing."""
    config = make_config({"data": str(people), **SMALL, "epochs": 2})
    with RunFolder(tmp_path / "run <b>", config) as folder:
        record_part_maps(model, load_dataset(people).train, folder.root / run_files.PART_MAPS)
        for epoch in (1, 2):
            values = {"loss": 3.0 / epoch, "accuracy": 0.1 * epoch, "lr": 1e-3, "images_per_second": 50.0, "seconds": 90.0}
            folder.record(epoch, values | {"val_mAP": 0.2 + 0.1 * epoch, "val_rank1": 0.5})
            save_checkpoint(Checkpoint.of(model, epoch), folder.root / run_files.BEST)
    return folder.root


class _Page(HTMLParser):
    """Collects texts and the sources of pictures."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.pictures: list[str] = []
        self.tags: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"] or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_page_with_everything_that_opens_offline(run: Path) -> None:
    page = write_report(run, device="cpu")
    assert page == run / "report.html"
    seen = _Page(page)
    text = " ".join(seen.texts)
    for part in (
        "40.0 %",
        "validation mAP",
        "2 of 2",
        "3 min",
        "Hardest mistakes",
        "Part attention",
        "stcanet-tiny",
        "finished",
    ):
        assert part in text
    assert len(seen.pictures) == 4 + 2  # curves, ranked lists, part maps
    assert all(source.startswith("data:image/") for source in seen.pictures)
    assert not {"script", "link", "b>"} & seen.tags
    assert "run <b>" in text  # the name of the folder is text, not HTML
    assert sorted(path.name for path in (run / "curves").iterdir()) == ["accuracy.png", "loss.png", "lr.png", "validation.png"]
    assert not (run / "results.json").exists()


def test_with_data_the_test_set_is_evaluated_and_kept(run: Path, people: Path, model: STCANet) -> None:
    write_report(run, people, "cpu")
    results = json.loads((run / "results.json").read_text())
    assert results["protocol"]["num_query"] == len(load_dataset(people).query)
    text = " ".join(_Page(run / "report.html").texts)
    assert f"{100 * results['mAP']:.1f} %" in text
    assert "mAP, people" in text


def test_figures_say_their_protocol_and_re_ranked_ones_stand_beside(run: Path, people: Path) -> None:
    settings = EvaluationSettings(Sampling(flip=True), reranking=Reranking(3, 2, 0.4))
    model = open_model(run / "best.pt", "cpu")
    result = judge(model, embed_dataset(model, load_dataset(people), settings), settings)
    write_json(run / "results.json", result.to_dict())
    text = " ".join(_Page(write_report(run, device="cpu")).texts)
    assert f"Test protocol: {result.protocol()}; beside it, re-ranked (k1 3, k2 2, lambda 0.4)." in text
    assert "mirror images averaged" in result.protocol()
    assert re.search(rf"{100 * result.reranked.mAP:.1f} %\s+mAP, people, re-ranked", text)
    assert re.search(rf"{100 * result.reranked.rank(1):.1f} %\s+rank-1, people, re-ranked", text)
    kept = result.to_dict()
    for name, value in (("protocol", {}), ("checkpoint_sha256", 3), ("mAP", "x"), ("cmc", 0.5), ("cmc", []), ("data", 3)):
        write_json(run / "results.json", {**kept, name: value})
        with pytest.raises(DataError, match=r"results\.json is no result of"):
            read_run(run)
    for name, value in (("k1", 0), ("mAP", None)):
        write_json(run / "results.json", {**kept, "reranked": {**kept["reranked"], name: value}})
        with pytest.raises(DataError, match=r"results\.json is no result of"):
            read_run(run)


def test_where_a_run_was_resumed_is_shown(run: Path) -> None:
    with RunFolder(run, make_config({"data": "people", **SMALL}), resume_after=2):
        pass
    assert "after epoch 2, " in " ".join(_Page(write_report(run, device="cpu")).texts)


def test_figures_of_another_checkpoint_say_so(run: Path, people: Path, model: STCANet) -> None:
    def shown() -> str:
        return " ".join(_Page(write_report(run, device="cpu")).texts)

    write_report(run, people, "cpu")
    assert "mAP, people (" not in shown()
    (run / "best.pt").rename(run / "last.pt")
    save_checkpoint(Checkpoint.of(model, 3), run / "best.pt")  # the run went on, and found a better one
    assert "mAP, people (last.pt)" in shown()
    (run / "last.pt").unlink()
    assert "rank-1, people (another checkpoint than the present one)" in shown()


def test_without_a_mistake_none_is_shown(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stcanet.report.write.hardest", lambda *_: [])
    seen = _Page(write_report(run, device="cpu"))
    assert "None: every query on" in " ".join(seen.texts)
    assert len(seen.pictures) == 4 + 1  # curves, part maps


def test_masks_are_shown_and_asked_for_ones_must_be_there(run: Path, people: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    parts = np.random.default_rng(0).integers(0, 5, (8, 4), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    for sample in load_dataset(people).train:
        save_indexed(parts, masks / f"{sample.path.stem}.png")
    assert "no part masks" in " ".join(_Page(write_report(run, device="cpu")).texts)
    shown = " ".join(_Page(write_report(run, device="cpu", masks=masks)).texts)
    assert "no part masks" not in shown
    values = (
        r"IoU of maps and masks on these crops: before (\d+) %, after (\d+) %\. Maps of 8×4 and 4×2 pixels .* reach (\d+) %"
    )
    found = re.search(values, shown)
    assert found
    assert found[1] == found[2]  # a network that learnt nothing
    sizes = [(8, 4), (4, 2)]
    truth = torch.from_numpy(parts)[None]
    best = f"{100 * part_iou(best_overlap(sizes, 4, truth.repeat_interleave(2, 1).repeat_interleave(2, 2))).nanmean():.0f}"
    assert found[3] == best != found[2]
    # Before, now, the maps were as good as they can be.
    start = PartMaps.load(run / run_files.PART_MAPS)
    perfect = [np.repeat(target.numpy(), len(start.images), axis=0) for target in part_targets(truth, 4, sizes)]
    PartMaps(start.images, tuple(perfect)).save(run / run_files.PART_MAPS)
    shown = " ".join(_Page(write_report(run, device="cpu", masks=masks)).texts)
    assert f"before {best} %, after {found[2]} %." in shown
    with pytest.raises(DataError, match="no folder"):
        write_report(run, device="cpu", masks=tmp_path / "absent")
    for other, message in (({"blocks": ()}, "without attention"), ({"num_parts": 5}, "num_parts = 5, and masks have 4 parts")):
        save_checkpoint(Checkpoint.of(build_model("stcanet-tiny", **other), 1), run / "best.pt")
        with pytest.raises(DataError, match=message):
            write_report(run, device="cpu", masks=masks)


def test_the_gallery_of_validation_is_not_that_of_the_test_set(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = replace(load_dataset(people), protocol={"gallery": "without the queries", "boxes": "detected"})
    monkeypatch.setattr("stcanet.report.write.load_dataset", lambda _: dataset)
    held_back, test = (_validation(make_config({"data": "people", "val_fraction": share})) for share in (0.25, 0.0))
    assert (held_back.protocol, test.protocol) == ({"boxes": "detected"}, dataset.protocol)


def test_data_that_is_gone_leaves_a_page_that_says_so(run: Path, tmp_path: Path) -> None:
    config = run / "config.toml"
    config.write_text(re.sub(r"data = .*", f'data = "{tmp_path}/gone"', config.read_text()))
    text = " ".join(_Page(write_report(run, device="cpu")).texts)
    assert "Not drawn: " in text
    assert "gone" in text
    with pytest.raises(DataError, match="elsewhere"):
        write_report(run, tmp_path / "elsewhere", "cpu")


def test_a_section_that_fails_leaves_the_others(
    run: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = PartMaps.load(run / run_files.PART_MAPS)
    gone = tuple(tmp_path / "gone" / image.name for image in start.images)  # the training images, not those of the test
    PartMaps(gone, start.blocks).save(run / run_files.PART_MAPS)
    for data in (people, None):
        seen = _Page(write_report(run, data, "cpu"))
        text = " ".join(seen.texts)
        assert text.count("Not drawn: ") == 1
        assert "Part attention Not drawn: cannot read image" in re.sub(r"\s+", " ", text)
        assert len(seen.pictures) == 4 + 1  # curves, ranked lists
    assert (run / "results.json").is_file()
    start.save(run / run_files.PART_MAPS)

    def fail(*_: object) -> None:
        raise DataError("no sheet")

    monkeypatch.setattr("stcanet.report.write.draw_sheet", fail)
    seen = _Page(write_report(run, people, "cpu"))
    assert "Not drawn: no sheet" in " ".join(seen.texts)
    assert len(seen.pictures) == 4 + 1  # curves, part maps


def test_a_run_that_has_only_begun(tmp_path: Path, people: Path) -> None:
    with RunFolder(tmp_path / "run", make_config({"data": str(people), **SMALL})):
        text = " ".join(_Page(write_report(tmp_path / "run")).texts)
    assert "No epoch was finished" in text
    assert "no checkpoint yet" in text
    for asked in ({"data": people}, {"masks": people}):
        with pytest.raises(CheckpointError, match="no checkpoint yet"):
            write_report(tmp_path / "run", **asked)


def test_no_run_and_damaged_runs_are_errors(tmp_path: Path, run: Path) -> None:
    with pytest.raises(DataError, match=r"not a run folder.*config\.toml"):
        read_run(tmp_path)
    (run / "metrics.jsonl").write_text("nonsense\n")
    with pytest.raises(DataError, match="damaged"):
        read_run(run)
    (run / "metrics.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match="damaged"):
        read_run(run)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("config.toml", "", "no training data"),
        ("config.toml", "data = 3", "data must be a text"),
        ("config.toml", 'data = "people"\nseed = -1', "seed must be"),
        ("config.toml", f"data = {'[' * 3000}{']' * 3000}", "nested too deeply"),
        ("results.json", '{"data": "people", "mAP": 0.5}', "no result"),
        ("metrics.jsonl", '{"epoch": 1, "seconds": 1.0}\n', "no images_per_second of epoch 1"),
        ("metrics.jsonl", '{"epoch": 1, "loss": "x"}\n', "line 1"),
        ("metrics.jsonl", '{"epoch": 1}\n{"loss": 1.0}\n', "line 2"),
        ("metrics.jsonl", "[" * 5000 + "\n", "line 1"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str, word: str) -> None:
    for file, text in {"config.toml": 'data = "people"', "metrics.jsonl": "", name: content}.items():
        (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=rf"{name}.*{word}"):
        read_run(tmp_path)


SPEED = '"seconds": 1.0, "images_per_second": 9.0'


def test_half_a_line_is_left_out_and_a_repeated_epoch_counts_once(run: Path) -> None:
    (run / "metrics.jsonl").write_text(
        "".join(f'{{"epoch": {epoch}, {SPEED}, "loss": {loss}}}\n' for epoch, loss in ((1, 9), (2, 8), (2, 7)))
        + '{"epoch": 3, "lo'
    )
    assert [(row["epoch"], row["loss"]) for row in read_run(run).metrics] == [(1, 9), (2, 7)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.13, 0.17, [0.13, 0.14, 0.15, 0.16, 0.17]),
        (3, 3, [3, 4]),
        (0, 0, [0, 0.2]),
        (0, 4321, [0, 1000, 2000, 3000, 4000, 5000]),
        (-2.2, 6, [-4, -2, 0, 2, 4, 6]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1.2e-3, ["0", "0.0005", "0.001", "0.0015"]),
        (1.02e-3, 1.05e-3, ["0.00102", "0.00103", "0.00104", "0.00105"]),
        (0, 3e-7, ["0", "1e-07", "2e-07", "3e-07"]),
        (-1e-3, 1e-3, ["-0.001", "-0.0005", "0", "0.0005", "0.001"]),
        (0, 0.06, ["0.00", "0.02", "0.04", "0.06"]),
        (0, 120_000, ["0", "5e+04", "1e+05", "1.5e+05"]),
    ],
)
def test_ticks_are_told_apart(low: float, high: float, expected: list[str]) -> None:
    assert tick_labels(ticks(low, high)) == expected


def test_a_falling_curve_falls() -> None:
    chart = np.asarray(line_chart("Loss", {"loss": [(1, 10.0), (2, 0.0)]})).astype(int)
    assert chart.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    blue = (chart[:, :, 2] - chart[:, :, 0] > 80) & (np.arange(2 * HEIGHT) > 2 * 55)[:, None]  # below the legend
    rows = [np.flatnonzero(blue[:, column]).mean() for column in (150, 550, 950)]
    assert rows == sorted(rows)
    assert rows[2] - rows[0] > 200


def test_the_axis_goes_over_the_epochs_of_the_run_and_no_others() -> None:
    assert _axes([[(2, 0.5)]], [1, 2])[0] == [1, 2]
    assert _axes([[(1, 0.5)]])[0] == [0, 1]
    assert _axes([[(3, 0.5), (6, 0.5)]], [1, 2, 3, 4, 5, 6])[0][::5] == [1, 6]


@pytest.mark.parametrize(
    "points", [[], [(1, float("nan"))], [(5, 2.0)], [(1, 0.0), (2, 0.0)], [(e, 1e-7 * e) for e in range(99)]]
)
def test_few_equal_or_tiny_values_are_drawn(points: list[tuple[float, float]]) -> None:
    line_chart("Loss", {"loss": points})


def test_curves_follow_what_was_recorded() -> None:
    rows = [{"epoch": 1, "loss": 1.0, "mask_loss": 0.7, "part_iou": 0.1, "lr": 1e-3}, {"epoch": 2, "loss": 0.5, "val_mAP": 0.3}]
    assert list(draw_curves(rows)) == ["loss", "validation", "part_iou", "lr"]
    assert draw_curves([]) == {}


def test_the_worst_query_comes_first_with_its_first_match_at_the_end() -> None:
    gallery = [Sample((Path(f"g{i}.png"),), pid, 1) for i, pid in enumerate([*[9] * 10, 1, 2, -1])]
    gallery += [Sample((Path("own.png"),), 1, 0)]
    query = [Sample((Path("q1.png"),), 1, 0), Sample((Path("q2.png"),), 2, 0), Sample((Path("q3.png"),), 5, 0)]
    query += [Sample((Path("q4.png"),), 2, 0)]
    angles = np.array([*np.linspace(0.01, 0.1, 10), 0.5, 1.0, 0.001, 0.0])
    g = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    q = np.array([[1, 0], [np.cos(1.0), np.sin(1.0)], [0, 1], [np.cos(0.7), np.sin(0.7)]], np.float32)
    rows = hardest(score(query, gallery, q, g), query, gallery, q, g)
    # Query 2 finds its match first, and query 3 has none: they are nobody's mistakes.
    assert [row.query for row in rows] == [Path("q1.png"), Path("q4.png")]
    matches = rows[0].matches
    assert [match.image for match in matches] == [Path(f"g{i}.png") for i in [*range(8), 10]]  # without junk and own camera
    assert [match.correct for match in matches] == [*[False] * 8, True]
    assert matches[-1].label.startswith("#11 ")
    assert [match.correct for match in rows[1].matches[:2]] == [False, True]
    assert len(rows[1].matches) == 8


def test_part_maps_are_kept_once_and_read_back(
    model: STCANet, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = load_dataset(people).train
    path = tmp_path / "part_maps.npz"
    record_part_maps(model, samples, path)
    stored = PartMaps.load(path)
    assert len(stored.images) == 4
    assert len({image.name[:4] for image in stored.images}) == 4  # four people
    fresh = part_maps(model, stored.images)
    assert [block.shape for block in fresh.blocks] == [(4, 4, 8, 4), (4, 4, 4, 2)]
    for one, other in zip(stored.blocks, fresh.blocks, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    content = path.read_bytes()
    record_part_maps(model, samples[:1], path)
    assert path.read_bytes() == content
    (tmp_path / "no.npz").write_bytes(content[:100])
    np.savez_compressed(tmp_path / "large.npz", images=np.array(["a.png"]), block0=np.zeros((1, 4, 2**8, 2**8), np.uint8))
    monkeypatch.setattr("stcanet.engine.part_maps._MOST_BYTES", 2**16)
    np.savez(tmp_path / "other.npz", block0=np.zeros((1, 4, 2, 2)))
    np.savez(tmp_path / "gap.npz", images=np.array(["a.png"]), block1=np.zeros((1, 4, 2, 2)))
    for name, reason in (
        ("no", ""),
        ("none", "No such file"),
        ("large", "at most 65,536 are allowed"),
        ("other", "images"),
        ("gap", "block0"),
    ):
        with pytest.raises(DataError, match=rf"{name}\.npz holds no part maps: .*{reason}"):
            PartMaps.load(tmp_path / f"{name}.npz")


def test_part_maps_are_the_probabilities_of_the_network_in_evaluation(people: Path) -> None:
    torch.manual_seed(1)
    model = build_model("stcanet-tiny", height=64, width=32).train()
    images = pick_crops(load_dataset(people).train, 2)
    maps = part_maps(model, images)
    assert model.training
    assert all(((block >= 0) & (block <= 1)).all() for block in maps.blocks)
    np.testing.assert_array_equal(maps.blocks[0], part_maps(model, images).blocks[0])  # no statistics were updated


def test_numpy_2_0_takes_every_keyword_for_an_array(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(np, "savez_compressed", lambda path, **arrays: seen.update(arrays) or path.touch())
    seen: dict[str, np.ndarray] = {}
    PartMaps((Path("a.png"),), (np.zeros((1, 4, 2, 2), np.float32),)).save(tmp_path / "maps.npz")
    assert sorted(seen) == ["block0", "images"]


def test_fewer_samples_than_crops() -> None:
    assert pick_crops([Sample((Path("a"),), 1, 0)]) == [Path("a")]


def test_the_tint_is_where_the_probability_is() -> None:
    crop = np.full((64, 32, 3), 100, np.uint8)
    probability = np.zeros((8, 4), np.float32)
    probability[:4] = 1
    tinted = tint(crop, probability, (255, 0, 0)).astype(int)
    assert (tinted[:24, :, 0] > 180).all()
    assert (tinted[:24, :, 1] < 50).all()
    np.testing.assert_array_equal(tinted[40:], crop[40:])


def test_the_overlay_leaves_the_background() -> None:
    crop = np.full((4, 2, 3), 100, np.uint8)
    parts = np.array([[0, 0], [1, 1], [2, 2], [4, 4]], np.uint8)
    over = overlay(crop, parts).astype(int)
    np.testing.assert_array_equal(over[0], crop[0])
    for row, part in ((1, 1), (2, 2), (3, 4)):
        np.testing.assert_allclose(over[row, 0], 0.35 * 100 + 0.65 * np.array(COLORS[part]), atol=1)


def test_rows_of_before_and_after(people: Path, tmp_path: Path) -> None:
    images = pick_crops(load_dataset(people).train, 2)
    for image in images:
        save_indexed(np.full((64, 32), 2, np.uint8), tmp_path / f"{image.stem}.png")
    dark, bright = [np.zeros((2, 4, 8, 4), np.float32)], [np.ones((2, 4, 8, 4), np.float32)]
    one = draw_part_maps(images, (2,), {"after": bright})
    both = draw_part_maps(images, (2,), {"before": dark, "after": bright}, MaskFolder(tmp_path))
    assert both.height > 1.8 * one.height
    assert both.width > one.width + 80  # a column of masks, and the words at the left


def test_a_sheet_holds_its_pictures() -> None:
    red = np.zeros((20, 10, 3), np.uint8)
    red[:, :, 0] = 255
    image = sheet([[red, None], [None, red]], ["one", "two\nlines"], ["", ""])
    assert isinstance(image, Image.Image)
    pixels = np.asarray(image)
    assert ((pixels == (255, 0, 0)).all(axis=2).sum()) == 2 * 20 * 10
